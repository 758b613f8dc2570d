//! `pub`: one message, or one a line from stdin.

use tokio::sync::mpsc;
use treecast_node::control::ClientReader;
use treecast_node::control::protocol::{Line, Wait};

use crate::alone;
use crate::args::PubArgs;
use crate::failure::{Stop, interrupted};
use crate::feed::{self, Fed};
use crate::host::Host;
use crate::output::{Screen, counted, has_it};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stdio::{self, MAX_LINE, Typed, stdout_closed};

pub(super) async fn run(
    args: PubArgs,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    if args.text.as_ref().is_some_and(|text| text.len() > MAX_LINE) {
        return Err(feed::too_long("The message").into());
    }
    let host = tokio::select! {
        host = Host::attach_or_start(settings, &args.node, signals) => host?,
        () = signals.asked() => return Err(interrupted("Nothing was published.", "Type it again.").into()),
    };
    let single = args.text.is_some();
    let mut tally = Tally { screen, single, wait: args.wait, receipts: 0, exit: 0 };
    let done = tokio::select! {
        done = publish(&args, &host, &mut tally) => done,
        () = signals.asked() => Err(interrupted(tally.so_far(), "What has a receipt is done; publish the rest again.").into()),
        () = stdout_closed() => Err(Stop::PipeClosed),
        never = alone::watch(settings, &args.group, &host, |alone| screen.warn(&alone)) => match never {},
    };
    let done = if host.is_own() { done.map_err(gone_with_us) } else { done };
    host.close().await;
    done
}

async fn publish(args: &PubArgs, host: &Host<'_>, tally: &mut Tally<'_>) -> Result<u8, Stop> {
    let (receipts, to) = feed::open(host, args.group.as_str(), args.wait, Some(args.timeout), false).await?;
    let lines = match &args.text {
        Some(text) => once(text.clone().into_bytes()),
        None => stdio::lines(),
    };
    let feeding = tokio::spawn(feed::all(lines, to, tally.screen.clone()));
    let done = tally.count(receipts).await;
    // The node answers its last line only after ours, unless it failed.
    let fed = if done.is_ok() { feeding.await.unwrap_or_default() } else { Fed::default() };
    let exit = done?;
    if !tally.single {
        let screen = tally.screen;
        screen.note(&told(tally.receipts, fed.sent, args.wait));
    }
    Ok(if fed.exit != 0 {
        fed.exit
    } else if tally.exit != 0 {
        tally.exit
    } else {
        exit
    })
}

/// A node that lives as long as this command hands on what it kept at its next start.
fn gone_with_us(stop: Stop) -> Stop {
    match stop {
        Stop::Failed(mut failure) if failure.code == "timeout" => {
            let queued = failure.why.find(" They stay queued").or(failure.why.find(" It stays queued"));
            failure.why.truncate(queued.unwrap_or(failure.why.len()));
            failure
                .why
                .push_str(" The node of this command ends with it: what was not taken waits on disk for its next start.");
            failure.fix =
                "Keep a node running with `treecast up`: it hands messages on as soon as somebody takes them. \
                           Or give more time with `--timeout`."
                    .to_owned();
            Stop::Failed(failure)
        }
        other => other,
    }
}

/// A queue with one message.
fn once(message: Vec<u8>) -> mpsc::Receiver<Typed> {
    let (send, receive) = mpsc::channel(1);
    // The queue is new: there is room.
    let _ = send.try_send(Typed::Line(message));
    receive
}

/// What the receipts say, in words.
fn told(receipts: u64, of: u64, wait: Wait) -> String {
    let (are, their) = if receipts == 1 { ("is", "its") } else { ("are", "their") };
    let goal = match wait {
        Wait::All => "with everybody who is online".to_owned(),
        Wait::Stored => "on disk, and will go out".to_owned(),
        Wait::Members(1) => "with at least one other".to_owned(),
        Wait::Members(count) => format!("with at least {count} others"),
        _ => format!("on {their} way"),
    };
    format!("{receipts} of {} {are} {goal}.", counted(of, "message", "messages"))
}

struct Tally<'a> {
    screen: &'a Screen,
    single: bool,
    wait: Wait,
    receipts: u64,
    /// The worst refusal so far.
    exit: u8,
}

impl Tally<'_> {
    /// What is done when a signal comes.
    fn so_far(&self) -> String {
        format!("Interrupted after {}.", counted(self.receipts, "receipt", "receipts"))
    }

    /// Until the node says that all is done.
    async fn count(&mut self, mut from: ClientReader) -> Result<u8, Stop> {
        loop {
            match from.next().await? {
                Line::Done { exit } => return Ok(exit),
                Line::Error(failure) => return Err(failure.into()),
                Line::Refused { line, mut failure } => {
                    if !self.single {
                        failure.what = failure.what.replacen("A message", &format!("Message {line}"), 1);
                    }
                    self.screen.failure(&failure);
                    self.exit = if self.exit == 0 { failure.exit } else { self.exit.min(failure.exit) };
                }
                line @ Line::Receipt { .. } => self.take(&line)?,
                _ => {}
            }
        }
    }

    fn take(&mut self, line: &Line) -> Result<(), Stop> {
        self.receipts += 1;
        match line {
            _ if self.screen.json => self.screen.show(line),
            Line::Receipt { have, of, .. } if self.single => {
                self.screen.note(&match self.wait {
                    Wait::Sent => "Sent.".to_owned(),
                    Wait::Stored => "Stored.".to_owned(),
                    _ => has_it(*have, *of),
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
