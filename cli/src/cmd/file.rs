//! `file announce|ls|get|rm`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use treecast_node::control::protocol::{FileLine, GetRequest, Line, ProgressLine, Request};

use crate::args::{AnnounceArgs, FileVerb, GetArgs};
use crate::failure::{Stop, interrupted, usage};
use crate::host;
use crate::output::{
    Screen, clean_line, ended_texts, file_line, progress_text, short_hash, size_text, table,
};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stdio::stdout_closed;

/// Where there is no terminal, a line about how it goes comes so often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How the path ends of what is on its way.
const PARTIAL: &str = ".treecast-part";

pub(super) async fn run(
    verb: FileVerb,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    let running = async {
        match verb {
            FileVerb::Announce(args) => announce(&args, settings, screen).await,
            FileVerb::Ls(args) => list(args.group.map(|it| it.as_str().to_owned()), settings, screen).await,
            FileVerb::Get(args) => get(&args, settings, screen).await,
            FileVerb::Rm(args) => remove(args.hash, settings, screen).await,
        }
    };
    tokio::select! {
        done = running => done,
        () = signals.asked() => {
            let fix = "Type it again: a fetch goes on with what has come.";
            Err(interrupted("The command was interrupted.", fix).into())
        }
        () = stdout_closed() => Err(Stop::PipeClosed),
    }
}

/// The node may stand elsewhere: it is told paths from the root.
fn from_root(path: &Path) -> Result<String, Stop> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = path.display().to_string();
    let fix = "Give it another name, or go into its folder and name that as `.`.";
    path.into_os_string().into_string().map_err(|_| {
        usage(format!("{shown} cannot be named to the node."), "Its path is no text.", fix).into()
    })
}

async fn announce(args: &AnnounceArgs, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let (path, group) = (from_root(&args.path)?, args.group.as_str().to_owned());
    host::ask(settings, &Request::FileAnnounce { path, group }, |_, line| match &line {
        Line::File(file) if !screen.json => {
            let (name, group) = (clean_line(&file.name), clean_line(&file.group));
            screen.say(&format!("Announced {name} ({}) in {group}.", size_text(file.size)))?;
            screen.say(&format!("Others fetch it:  treecast file get {}", short_hash(&file.hash)))?;
            screen.note(
                "It is served from where it lies while this node runs: if it changes, announce it again.",
            );
            Ok(())
        }
        line => screen.show(line),
    })
    .await
}

async fn list(group: Option<String>, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let (mut rows, mut words) = (Vec::new(), Vec::new());
    let request = Request::FileLs { group };
    let exit = host::ask(settings, &request, |_, line| match &line {
        Line::File(file) if !screen.json => {
            rows.push(row(file));
            words.extend(ended_texts(file));
            Ok(())
        }
        line => screen.show(line),
    });
    let exit = exit.await?;
    if screen.json {
        return Ok(exit);
    }
    if rows.is_empty() {
        screen.note("Nothing was announced. `treecast file announce PATH --group GROUP` does.");
    } else {
        let head = ["NAME", "SIZE", "GROUP", "BY", "HERE", "HAVE IT", "HASH"];
        table(&head, &rows).iter().try_for_each(|line| screen.say(line))?;
        words.iter().try_for_each(|line| screen.say(line))?;
    }
    Ok(exit)
}

fn row(file: &FileLine) -> Vec<String> {
    let folder = if file.folder { "/" } else { "" };
    let (here, have) = file.spread.as_ref().map_or_else(Default::default, |it| {
        let here = match it.held {
            _ if it.changed => it.ending.clone().unwrap_or_else(|| "changed".to_owned()),
            // An empty file has no bytes to be here.
            0 if file.size > 0 || file.path.is_none() => "-".to_owned(),
            all if all >= file.size => "all".to_owned(),
            part => format!("{} %", part * 100 / file.size.max(1)),
        };
        let who: Vec<&str> =
            it.holders.iter().filter_map(|id| file.nicks.get(id)).map(String::as_str).collect();
        let who = if who.is_empty() { String::new() } else { format!(": {}", clean_line(&who.join(", "))) };
        (here, format!("{} of {}{who}", it.have, it.of))
    });
    vec![
        format!("{}{folder}", clean_line(&file.name)),
        size_text(file.size),
        clean_line(&file.group).into_owned(),
        clean_line(&file.nick).into_owned(),
        here,
        have,
        short_hash(&file.hash).to_owned(),
    ]
}

async fn remove(what: String, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    host::ask(settings, &Request::FileRm { what }, |_, line| match &line {
        Line::File(file) if !screen.json => {
            let (name, told) = (clean_line(&file.name), file.withdrawn_in.join(", "));
            let stays = match &file.path {
                Some(path) if path.ends_with(PARTIAL) => " What had come of it is gone.".to_owned(),
                Some(path) => format!(" What lies at {} stays.", clean_line(path)),
                None => String::new(),
            };
            screen.say(&format!("{name} is not served from here any more.{stays}"))?;
            if !told.is_empty() {
                screen.say(&format!("{} was told that it is withdrawn.", clean_line(&told)))?;
            }
            Ok(())
        }
        line => screen.show(line),
    })
    .await
}

async fn get(args: &GetArgs, settings: &Settings, screen: &Screen) -> Result<u8, Stop> {
    let out = args.output.clone().unwrap_or_else(|| PathBuf::from("."));
    let get = GetRequest {
        what: args.file.clone(),
        out: from_root(&out)?,
        on_conflict: Some(args.on_conflict.name().to_owned()),
        wait: args.wait,
    };
    let request = Request::FileGet(get);
    let mut shown = Shown::new(screen);
    let exit = host::ask(settings, &request, |_, line| match &line {
        _ if screen.json => screen.show(&line),
        Line::Progress(progress) => {
            shown.show(progress);
            Ok(())
        }
        Line::File(file) => {
            shown.end();
            file_line(file).iter().try_for_each(|text| screen.say(text))
        }
        line => screen.show(line),
    });
    let exit = exit.await;
    shown.end();
    exit
}

/// How a fetch goes, for people: one line that changes, or one now and then.
struct Shown<'a> {
    screen: &'a Screen,
    terminal: bool,
    /// A line stands on the terminal.
    open: bool,
    next: Instant,
}

impl<'a> Shown<'a> {
    fn new(screen: &'a Screen) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { screen, terminal, open: false, next: Instant::now() + TELL_EVERY }
    }

    fn show(&mut self, progress: &ProgressLine) {
        let text = progress_text(progress);
        if self.screen.quiet {
            return;
        }
        if self.terminal {
            let columns = crate::output::columns().saturating_sub(1);
            let text: String = text.chars().take(columns).collect();
            let mut stderr = std::io::stderr().lock();
            // A terminal that is gone is no reason to stop.
            let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
            self.open = true;
        } else if Instant::now() >= self.next {
            self.screen.note(&text);
            self.next += TELL_EVERY;
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = writeln!(std::io::stderr());
        }
    }
}
