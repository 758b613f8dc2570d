//! Logs, to stderr.

use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, Verb};
use crate::settings::Settings;

/// Starts logging: nothing but trouble, unless `-v` or `TREECAST_LOG` (a filter such as
/// `treecast=debug`) ask for more.
pub(crate) fn start(settings: &Settings, verb: &Verb) {
    let up = matches!(verb, Verb::Up(_));
    let default = match (settings.verbose.value, up, settings.quiet.value) {
        (0, true, false) => "warn,libp2p=error,yamux=error",
        (0, _, _) => "error,libp2p=off,yamux=off",
        (1, _, _) => "warn,treecast=info,treecast_node=info,treecast_overlay=info,libp2p=error,yamux=error",
        (2, _, _) => "info,treecast=debug,treecast_node=debug,treecast_overlay=debug",
        _ => "debug,treecast=trace,treecast_node=trace,treecast_overlay=trace",
    };
    let asked = std::env::var("TREECAST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter =
        asked.and_then(|filter| EnvFilter::try_new(filter).ok()).unwrap_or_else(|| EnvFilter::new(default));
    // That a log cannot be written, on a full disk say, is no reason to end: telling it on the same
    // stderr would panic.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_writer(std::io::stderr);
    // Ignored: a logger that is there already (in tests) may stay.
    let _ = match settings.log_format.value {
        LogFormat::Text => builder.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
