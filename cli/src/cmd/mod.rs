//! The verbs, one a file.

mod bench;
mod chat;
mod completions;
mod config;
mod doctor;
mod down;
mod file;
mod group;
mod history;
mod id;
mod man;
mod peers;
mod ping;
mod publish;
mod sim;
mod status;
mod sub;
mod tree;
mod up;

use crate::args::{Typed, Verb};
use crate::failure::{Stop, interrupted};
use crate::output::Screen;
use crate::settings::{LocalFlags, Settings};
use crate::signals::Signals;

/// The settings that matter beside a verb's own arguments.
pub(crate) fn local_flags(verb: &Verb) -> LocalFlags {
    match verb {
        Verb::Up(up) => LocalFlags {
            node: up.node.clone(),
            group: up.group.clone(),
            serve_after: up.serve_after,
            log_format: up.log_format,
        },
        Verb::Config(config) => LocalFlags {
            node: config.node.clone(),
            group: config.group.clone(),
            serve_after: config.serve_after,
            log_format: config.log_format,
        },
        Verb::Chat(chat) => LocalFlags { node: chat.node.clone(), ..LocalFlags::default() },
        Verb::Pub(publish) => LocalFlags { node: publish.node.clone(), ..LocalFlags::default() },
        Verb::Sub(sub) => LocalFlags { node: sub.node.clone(), ..LocalFlags::default() },
        _ => LocalFlags::default(),
    }
}

/// Carries the command out; its exit code.
pub(crate) async fn run(typed: Typed, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let signals = Signals::install()?;
    match typed.verb {
        Verb::Up(_) => up::run(settings, screen, &signals).await,
        Verb::Chat(args) => chat::run(args, settings, screen, &signals).await,
        Verb::Pub(args) => publish::run(args, settings, screen, &signals).await,
        Verb::Sub(args) => sub::run(args, settings, screen, &signals).await,
        Verb::Tree(args) => tree::run(args, settings, screen, &signals).await,
        Verb::History(args) => history::run(&args, settings, screen, &signals).await,
        Verb::Search(args) => history::search(&args, settings, screen, &signals).await,
        Verb::File(verb) => file::run(verb, settings, screen, &signals).await,
        brief => {
            tokio::select! {
                done = run_brief(brief, settings, screen) => done,
                () = signals.asked() => Err(interrupted("The command was interrupted.", "Type it again, and let it end.").into()),
            }
        }
    }
}

/// The verbs that have no way of their own to be stopped.
async fn run_brief(verb: Verb, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    match verb {
        Verb::Down => down::run(settings, screen).await,
        Verb::Status => status::run(settings, screen).await,
        Verb::Id => id::show(settings, screen).await,
        Verb::Nick(args) => id::rename(args, settings, screen).await,
        Verb::Peers(args) => peers::run(args, settings, screen).await,
        Verb::Ping(args) => ping::run(args, settings, screen).await,
        Verb::Group(verb) => group::run(verb, settings, screen).await,
        Verb::Invite(arg) => group::invite(&arg, settings, screen).await,
        Verb::Config(_) => config::run(settings, screen),
        Verb::Doctor => doctor::run(settings, screen).await,
        Verb::Completions(args) => completions::run(&args, screen),
        Verb::Man => man::run(screen),
        Verb::Bench(args) => bench::run(args, screen).await,
        Verb::Sim(args) => sim::run(*args, screen).await,
        Verb::Up(_)
        | Verb::Chat(_)
        | Verb::Pub(_)
        | Verb::Sub(_)
        | Verb::Tree(_)
        | Verb::History(_)
        | Verb::Search(_)
        | Verb::File(_) => Err(Stop::Failed(crate::failure::bug("A command went the wrong way."))),
    }
}
