//! What is in effect, and why: a flag wins over the environment, that over the TOML file,
//! that over the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use directories::ProjectDirs;
use serde_json::{Value, json};
use treecast_node::{Failure, exit};

use crate::args::{GlobalArgs, LogFormat, NodeArgs};
use crate::failure::usage;
use crate::input::{GroupName, duration, socket_address};
use crate::output::ColorChoice;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was typed.
    Flag,
    /// This environment variable.
    Env(String),
    /// This file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// For scripts: `flag`, `env`, `file`, `default`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Env(_) => "env",
            Self::File(_) => "file",
            Self::Default => "default",
        }
    }

    /// The variable or file.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Env(name) => Some(name.clone()),
            Self::File(path) => Some(path.display().to_string()),
            Self::Flag | Self::Default => None,
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it came from.
    pub(crate) from: Origin,
}

/// A value that can stand in the environment and in a TOML file.
trait Readable: Sized {
    /// From an environment variable.
    fn from_text(text: &str) -> Result<Self, String>;
    /// From a TOML value.
    fn from_toml(value: &toml::Value) -> Result<Self, String>;
}

impl Readable for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        }
    }

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "expected true or false".to_owned())
    }
}

impl Readable for u8 {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected a number from 0 to 3".to_owned())
    }

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|number| u8::try_from(number).ok());
        number.ok_or_else(|| "expected a number from 0 to 3".to_owned())
    }
}

impl Readable for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        value.as_str().map(Self::from).ok_or_else(|| "expected a path in quotes".to_owned())
    }
}

impl Readable for Option<SocketAddr> {
    fn from_text(text: &str) -> Result<Self, String> {
        socket_address(text).map(Some)
    }

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        Self::from_text(value.as_str().unwrap_or_default())
    }
}

impl Readable for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        duration(text)
    }

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        Self::from_text(value.as_str().unwrap_or_default())
    }
}

impl Readable for Vec<String> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }

    fn from_toml(value: &toml::Value) -> Result<Self, String> {
        let wrong = || "expected a text or a list of texts".to_owned();
        match value {
            toml::Value::String(one) => Ok(vec![one.clone()]),
            toml::Value::Array(many) => {
                many.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            _ => Err(wrong()),
        }
    }
}

macro_rules! readable_choice {
    ($type:ty) => {
        impl Readable for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                <$type as clap::ValueEnum>::from_str(text, true).map_err(|_| {
                    let all = <$type as clap::ValueEnum>::value_variants();
                    let names = all.iter().filter_map(clap::ValueEnum::to_possible_value);
                    let names: Vec<String> = names.map(|it| it.get_name().to_owned()).collect();
                    format!("expected one of {}", names.join(", "))
                })
            }

            fn from_toml(value: &toml::Value) -> Result<Self, String> {
                Self::from_text(value.as_str().unwrap_or(""))
            }
        }
    };
}

readable_choice!(ColorChoice);
readable_choice!(LogFormat);

/// A node that has been up for so long is likely to stay. Guess.
const SERVE_AFTER: Duration = Duration::from_secs(60);

/// The keys a TOML file may have; `_` may stand for `-`.
const KEYS: [&str; 13] = [
    "data-dir",
    "json",
    "quiet",
    "verbose",
    "color",
    "listen",
    "peer",
    "no-mdns",
    "no-kad",
    "metrics",
    "group",
    "serve-after",
    "log-format",
];

/// The environment and the file, below the flags.
struct Layers<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    file: Option<(PathBuf, toml::Table)>,
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("TREECAST_{}", key.to_ascii_uppercase().replace('-', "_"))
}

impl Layers<'_> {
    fn pick<T: Readable>(&self, key: &str, flag: Option<T>, default: T) -> Result<Setting<T>, Failure> {
        if let Some(value) = flag {
            return Ok(Setting { value, from: Origin::Flag });
        }
        let name = variable(key);
        if let Some(text) = (self.env)(&name).filter(|text| !text.is_empty()) {
            let value = T::from_text(&text).map_err(|why| {
                let what = format!("{name} is set to `{text}`, which cannot be used.");
                usage(what, format!("{}.", capital(&why)), format!("Change it, or `unset {name}`."))
            })?;
            return Ok(Setting { value, from: Origin::Env(name) });
        }
        if let Some((path, table)) = &self.file
            && let Some(found) = table.get(key)
        {
            let value = T::from_toml(found).map_err(|why| {
                let what = format!("`{key}` in {} cannot be used.", path.display());
                usage(what, format!("{}; it is `{found}`.", capital(&why)), "Mend that line of the file.")
            })?;
            return Ok(Setting { value, from: Origin::File(path.clone()) });
        }
        Ok(Setting { value: default, from: Origin::Default })
    }
}

/// With a capital letter first, as sentences begin.
pub(crate) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// All that is in effect.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The node's directory.
    pub(crate) data_dir: Setting<PathBuf>,
    /// The TOML file that was read, if any.
    pub(crate) config: Setting<Option<PathBuf>>,
    /// JSON lines instead of text.
    pub(crate) json: Setting<bool>,
    /// Results and errors only.
    pub(crate) quiet: Setting<bool>,
    /// How much more to say.
    pub(crate) verbose: Setting<u8>,
    /// When to colour.
    pub(crate) color: Setting<ColorChoice>,
    /// Where to listen; empty for the default.
    pub(crate) listen: Setting<Vec<String>>,
    /// Whom to connect to.
    pub(crate) peer: Setting<Vec<String>>,
    /// Not to look around on the LAN.
    pub(crate) no_mdns: Setting<bool>,
    /// Not to take part in Kademlia.
    pub(crate) no_kad: Setting<bool>,
    /// Where to serve metrics.
    pub(crate) metrics: Setting<Option<SocketAddr>>,
    /// Groups that `up` is in.
    pub(crate) group: Setting<Vec<String>>,
    /// After how long `up` serves in committees.
    pub(crate) serve_after: Setting<Duration>,
    /// How logs are written.
    pub(crate) log_format: Setting<LogFormat>,
}

/// The flags a command may have beside the global ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalFlags {
    /// Node options.
    pub(crate) node: NodeArgs,
    /// `--group` of `up`.
    pub(crate) group: Vec<GroupName>,
    /// `--serve-after` of `up`.
    pub(crate) serve_after: Option<Duration>,
    /// `--log-format` of `up`.
    pub(crate) log_format: Option<LogFormat>,
}

impl Settings {
    /// Works out what is in effect, from the process's environment.
    pub(crate) fn resolve(global: &GlobalArgs, local: &LocalFlags) -> Result<Self, Failure> {
        let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::resolve_in(global, local, &env)
    }

    fn resolve_in(
        global: &GlobalArgs,
        local: &LocalFlags,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let (config, file) = read_file(global, env)?;
        let layers = Layers { env, file };
        let groups = local.group.iter().map(|group| group.as_str().to_owned()).collect();
        let settings = Self {
            data_dir: data_dir(&layers, global)?,
            config,
            json: layers.pick("json", typed(global.json), false)?,
            quiet: layers.pick("quiet", typed(global.quiet), false)?,
            verbose: layers.pick("verbose", Some(global.verbose).filter(|count| *count > 0), 0)?,
            color: layers.pick("color", global.color, ColorChoice::Auto)?,
            listen: layers.pick("listen", given(local.node.listen.clone()), Vec::new())?,
            peer: layers.pick("peer", given(local.node.peer.clone()), Vec::new())?,
            no_mdns: layers.pick("no-mdns", typed(local.node.no_mdns), false)?,
            no_kad: layers.pick("no-kad", typed(local.node.no_kad), false)?,
            metrics: layers.pick("metrics", local.node.metrics.map(Some), None)?,
            group: layers.pick("group", given(groups), Vec::new())?,
            serve_after: layers.pick("serve-after", local.serve_after, SERVE_AFTER)?,
            log_format: layers.pick("log-format", local.log_format, LogFormat::Text)?,
        };
        Ok(settings)
    }

    /// Each setting: its key, its value, where it came from.
    pub(crate) fn rows(&self) -> Vec<(&'static str, Value, &Origin)> {
        vec![
            ("data-dir", json!(self.data_dir.value), &self.data_dir.from),
            ("config", json!(self.config.value), &self.config.from),
            ("json", json!(self.json.value), &self.json.from),
            ("quiet", json!(self.quiet.value), &self.quiet.from),
            ("verbose", json!(self.verbose.value), &self.verbose.from),
            ("color", json!(self.color.value.name()), &self.color.from),
            ("listen", json!(self.listen.value), &self.listen.from),
            ("peer", json!(self.peer.value), &self.peer.from),
            ("no-mdns", json!(self.no_mdns.value), &self.no_mdns.from),
            ("no-kad", json!(self.no_kad.value), &self.no_kad.from),
            ("metrics", json!(self.metrics.value.map(|it| it.to_string())), &self.metrics.from),
            ("group", json!(self.group.value), &self.group.from),
            (
                "serve-after",
                json!(format!("{}s", self.serve_after.value.as_secs_f64())),
                &self.serve_after.from,
            ),
            ("log-format", json!(self.log_format.value.name()), &self.log_format.from),
        ]
    }
}

fn typed(flag: bool) -> Option<bool> {
    flag.then_some(true)
}

fn given(list: Vec<String>) -> Option<Vec<String>> {
    Some(list).filter(|list| !list.is_empty())
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "treecast")
}

fn data_dir(layers: &Layers<'_>, global: &GlobalArgs) -> Result<Setting<PathBuf>, Failure> {
    let default = project().map(|dirs| dirs.data_dir().to_owned()).unwrap_or_default();
    let mut setting = layers.pick("data-dir", global.data_dir.clone(), default)?;
    if setting.value.as_os_str().is_empty() {
        return Err(usage(
            "There is no data directory.",
            "No home directory is known to put it in.",
            "Name one: --data-dir DIR, or TREECAST_DATA_DIR.",
        ));
    }
    setting.value = std::path::absolute(&setting.value).unwrap_or(setting.value);
    Ok(setting)
}

/// The TOML file: the one that was named must be there; the platform's own may be missing.
#[expect(clippy::type_complexity, reason = "a pair used once")]
fn read_file(
    global: &GlobalArgs,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Setting<Option<PathBuf>>, Option<(PathBuf, toml::Table)>), Failure> {
    let name = variable("config");
    let named = match (&global.config, env(&name).filter(|text| !text.is_empty())) {
        (Some(path), _) => Some((path.clone(), Origin::Flag)),
        (None, Some(path)) => Some((path.into(), Origin::Env(name))),
        (None, None) => None,
    };
    if let Some((path, from)) = named {
        let table = parse_file(&path, &read(&path).map_err(|error| unreadable(&path, &error))?)?;
        return Ok((Setting { value: Some(path.clone()), from }, Some((path, table))));
    }
    let default = project().map(|dirs| dirs.config_dir().join("config.toml"));
    let found = default.and_then(|path| read(&path).ok().map(|text| (path, text)));
    let Some((path, text)) = found else {
        return Ok((Setting { value: None, from: Origin::Default }, None));
    };
    let table = parse_file(&path, &text)?;
    Ok((Setting { value: Some(path.clone()), from: Origin::Default }, Some((path, table))))
}

/// Whether the environment or the file asks for JSON, as far as they can be read: for errors of a
/// command line that cannot. `config` is the file that was typed.
pub(crate) fn json_untyped(config: Option<PathBuf>) -> bool {
    let env = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    if let Some(value) = env(&variable("json")) {
        return bool::from_text(&value).unwrap_or(false);
    }
    let default = || project().map(|dirs| dirs.config_dir().join("config.toml"));
    let path = config.or_else(|| env(&variable("config")).map(PathBuf::from)).or_else(default);
    let table = path.and_then(|path| read(&path).ok()).and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| table.get("json").and_then(toml::Value::as_bool) == Some(true))
}

fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let code =
        if error.kind() == std::io::ErrorKind::NotFound { "config-missing" } else { "config-unreadable" };
    let what = format!("The settings file {} cannot be read.", path.display());
    Failure::new(
        code,
        exit::USAGE,
        what,
        format!("{}.", capital(&error.to_string())),
        "Name another with --config.",
    )
}

/// Reads the file's text; keys with `_` become those with `-`, unknown ones are refused.
fn parse_file(path: &Path, text: &str) -> Result<toml::Table, Failure> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        let what = format!("The settings file {} is not TOML.", path.display());
        usage(
            what,
            format!("Line {line}: {}.", error.message()),
            "Mend that line, or name another with --config.",
        )
    })?;
    let table: toml::Table = table.into_iter().map(|(key, value)| (key.replace('_', "-"), value)).collect();
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(usage(
            format!(
                "The settings file {} has a key that treecast does not know: `{unknown}`.",
                path.display()
            ),
            format!("Known are {}.", KEYS.join(", ")),
            "Correct or remove it.",
        ));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (PathBuf, toml::Table) {
        let path = PathBuf::from("/etc/x.toml");
        let table = parse_file(&path, text).expect("good TOML");
        (path, table)
    }

    #[test]
    fn flag_over_env_over_file_over_default() {
        let env = |name: &str| (name == "TREECAST_PEER").then(|| "/a, /b".to_owned());
        let mut layers =
            Layers { env: &env, file: Some(file("peer = [\"/c\"]\nno_mdns = true\nquiet = false")) };
        let peers =
            |layers: &Layers<'_>, flag| layers.pick::<Vec<String>>("peer", flag, vec![]).expect("good");
        assert_eq!(peers(&layers, Some(vec!["/z".into()])).from, Origin::Flag);
        let from_env = peers(&layers, None);
        assert_eq!(from_env.value, ["/a", "/b"]);
        assert_eq!(from_env.from, Origin::Env("TREECAST_PEER".into()));
        layers.env = &|_| None;
        assert_eq!(peers(&layers, None).value, ["/c"]);
        assert_eq!(layers.pick("no-mdns", None, false).expect("good").from.kind(), "file");
        layers.file = None;
        assert_eq!(peers(&layers, None).from, Origin::Default);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let env = |name: &str| (name == "TREECAST_COLOR").then(|| "pink".to_owned());
        let layers = Layers { env: &env, file: Some(file("verbose = \"much\"")) };
        let failure = layers.pick("color", None, ColorChoice::Auto).expect_err("no such colour");
        assert!(failure.what.contains("TREECAST_COLOR") && failure.why.contains("always"), "{failure}");
        assert_eq!(failure.exit, exit::USAGE);
        assert!(layers.pick("verbose", None, 0_u8).expect_err("no number").what.contains("/etc/x.toml"));
    }

    #[test]
    fn a_broken_file_says_where() {
        let failure = parse_file(Path::new("c"), "json = true\nquiet = = 1").expect_err("no TOML");
        assert!(failure.why.starts_with("Line 2"), "{failure}");
        let failure = parse_file(Path::new("c"), "colour = 1").expect_err("unknown");
        assert!(failure.what.contains("`colour`"), "{failure}");
    }
}
