//! Chat without a terminal: each line of stdin is said, each message is a line of stdout.
//!
//! When stdin ends, the lines that are still waiting are sent (bounded), then the chat ends.

use tokio::task::JoinHandle;
use treecast_node::control::protocol::{Line, Request, Start, Wait};
use treecast_node::control::{Client, ClientError, ClientReader};

use super::{LAST_LINES, Told, not_sent};
use crate::alone;
use crate::failure::Stop;
use crate::feed::{self, Fed};
use crate::follow::{Follower, Place, place};
use crate::host::Host;
use crate::input::GroupName;
use crate::output::Screen;
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stdio::{self, stdout_closed};

/// How long own messages may take to come back and be shown, once they are sent.
const ECHO: std::time::Duration = std::time::Duration::from_secs(1);

/// Talks until stdin ends, or a signal.
pub(crate) async fn talk(
    group: &GroupName,
    host: &Host<'_>,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    // In a pipe nothing can be taken back: only what is settled is printed.
    let (group_name, verbose) = (group.as_str().to_owned(), screen.verbose > 0);
    let request = Request::Sub { group: group_name, verbose, since: Start::Now, tentative: false };
    // Listening comes first: so own messages are seen as everybody else's are.
    let mut listening = host.ask(&request).await?;
    let mut pipe =
        Pipe { screen, follower: Follower::new(screen), me: listening.node().to_owned(), last_seen: None };
    let first = listening.next().await?;
    pipe.show(&first)?;
    let (receipts, to) = feed::open(host, group.as_str(), Wait::Sent, None, false).await?;
    let feeding = tokio::spawn(feed::all(stdio::lines(), to, screen.clone()));
    tokio::select! {
        done = pipe.run(listening, receipts, feeding) => done,
        () = signals.asked() => Ok(0),
        () = stdout_closed() => Err(Stop::PipeClosed),
        never = alone::watch(settings, group, host, |alone| screen.warn(&alone)) => match never {},
    }
}

struct Pipe<'a> {
    screen: &'a Screen,
    follower: Follower<'a>,
    me: String,
    /// The own message that was shown last.
    last_seen: Option<Place>,
}

impl Pipe<'_> {
    async fn run(
        &mut self,
        mut listening: Client,
        mut receipts: ClientReader,
        mut feeding: JoinHandle<Fed>,
    ) -> Result<u8, Stop> {
        let (mut told, screen) = (Told::default(), self.screen);
        let fed = loop {
            tokio::select! {
                line = listening.next() => self.show(&line?)?,
                line = receipts.next() => {
                    if told.take(line?, |failure| screen.failure(failure))? {
                        break feeding.await.unwrap_or_default();
                    }
                }
                fed = &mut feeding => break fed.unwrap_or_default(),
            }
        };
        let sent = tokio::time::timeout(LAST_LINES, async {
            while !told.done {
                tokio::select! {
                    line = listening.next() => self.show(&line?)?,
                    line = receipts.next() => {
                        told.take(line?, |failure| screen.failure(failure))?;
                    }
                }
            }
            Ok::<_, Stop>(())
        });
        match sent.await {
            Ok(result) => result?,
            Err(_) => return Err(not_sent(fed.sent.saturating_sub(told.receipts)).into()),
        }
        // Ignored: an own message that does not show in time is with the others all the same.
        let _ = tokio::time::timeout(ECHO, self.until_shown(&mut listening, told.last)).await;
        Ok(if fed.exit != 0 { fed.exit } else { told.exit })
    }

    /// Until the last message that we sent was shown.
    async fn until_shown(&mut self, listening: &mut Client, last: Option<Place>) -> Result<(), Stop> {
        while last.is_some() && self.last_seen < last {
            let line = listening.next().await?;
            self.show(&line)?;
        }
        Ok(())
    }

    fn show(&mut self, line: &Line) -> Result<(), Stop> {
        if self.follower.take(line)?.is_some() {
            return Err(ClientError::Gone.into());
        }
        match line {
            Line::Message(message) if message.source == self.me => {
                self.last_seen = self.last_seen.max(Some(place(message)));
            }
            _ => {}
        }
        Ok(())
    }
}
