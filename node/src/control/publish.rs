//! `pub`: messages in, receipts out, both at once.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::time::Instant;

use super::connection::{Incoming, Outgoing};
use super::follow::{Following, PlacedTell};
use super::protocol::{Feed, Line, Wait};
use crate::error::{PublishError, Stopped};
use crate::failure::{Failure, exit};
use crate::group::GroupRef;
use crate::handle::{Node, Published, Receipt, ReceiptGoal, Sender};

/// Messages whose receipts are waited for at once; more are read when some have come.
const IN_FLIGHT: usize = 32_768;

/// What has become of one message.
enum Outcome {
    Receipt(Published, Receipt),
    /// Not in time; how far it has come.
    Late(Receipt),
    Refused(u64, Failure),
    Stopped,
}

/// How it went, all in all.
#[derive(Default)]
struct Tally {
    done: u64,
    late: u64,
    /// Of those that are late, how far the one has come that came least far.
    least: Option<Receipt>,
    refused: u64,
    refused_exit: u8,
}

/// What `pub` is to tell.
pub(super) struct Asked {
    pub(super) wait: Wait,
    pub(super) timeout_ms: Option<u64>,
    pub(super) follow: bool,
}

pub(super) async fn run(
    node: &Node,
    incoming: &mut Incoming,
    outgoing: &mut Outgoing,
    group: String,
    Asked { wait, timeout_ms, follow }: Asked,
) -> io::Result<()> {
    let goal = match wait {
        Wait::Sent => ReceiptGoal::Sent,
        Wait::Members(count) => ReceiptGoal::Members(count),
        Wait::All => ReceiptGoal::All,
        Wait::Stored => ReceiptGoal::Stored,
    };
    // What is not read does not pile up: the events' half is dropped at once.
    let (sender, label) = match enter(node, &group).await {
        Ok(entered) => entered,
        Err(failure) => return outgoing.end(Err(failure)).await,
    };
    let patience = timeout_ms.map(Duration::from_millis);
    let (placed, mut following) = Following::new(sender.clone());
    let placed = follow.then_some(placed);
    let source = node.id().to_string();
    let mut pipeline = Pipeline { sender, label, goal, patience, source, lines: 0, placed };
    let result = pipeline.run(incoming, outgoing, &mut following).await?;
    outgoing.end(result).await
}

async fn enter(node: &Node, group: &str) -> Result<(Sender, String), Failure> {
    let (sender, _) = node.enter(GroupRef::from(group), true).await?;
    let info = node.group_view(&sender.group().to_string()).await?;
    Ok((sender, info.label))
}

struct Pipeline {
    sender: Sender,
    label: String,
    goal: ReceiptGoal,
    patience: Option<Duration>,
    source: String,
    lines: u64,
    /// Where it is told that a message has its place.
    placed: Option<PlacedTell>,
}

impl Pipeline {
    async fn run(
        &mut self,
        incoming: &mut Incoming,
        outgoing: &mut Outgoing,
        following: &mut Following,
    ) -> io::Result<Result<u8, Failure>> {
        let mut tally = Tally::default();
        let mut in_flight = FuturesOrdered::new();
        let mut feeding = true;
        while feeding || !in_flight.is_empty() {
            tokio::select! {
                fed = incoming.next::<Feed>(), if feeding && in_flight.len() < IN_FLIGHT => match fed? {
                    // A client that goes away without an end still wants its messages sent.
                    None | Some(Ok(Feed::End(_))) => feeding = false,
                    Some(fed) => {
                        self.lines += 1;
                        in_flight.push_back(self.message(fed).await);
                    }
                },
                line = following.next() => outgoing.send(&line).await?,
                Some(outcome) = in_flight.next() => {
                    if matches!(outcome, Outcome::Stopped) {
                        return Ok(Err(Stopped.into()));
                    }
                    outgoing.gather(&self.line(outcome, &mut tally)).await?;
                    // Receipts come in droves; the last of each is written out.
                    while let Some(Some(outcome)) = futures::FutureExt::now_or_never(in_flight.next()) {
                        if matches!(outcome, Outcome::Stopped) {
                            return Ok(Err(Stopped.into()));
                        }
                        outgoing.gather(&self.line(outcome, &mut tally)).await?;
                    }
                    outgoing.flush().await?;
                }
            }
        }
        Ok(tally.result(self.goal, self.patience))
    }

    /// Hands one message over, waiting for room; the result goes on to wait for its receipt.
    async fn message(&self, fed: Result<Feed, Failure>) -> impl Future<Output = Outcome> + use<> {
        let (line, goal, sender) = (self.lines, self.goal, self.sender.clone());
        let submitted = match fed.and_then(payload) {
            Ok(payload) => sender.submit(payload).await.map_err(Refusal::from),
            Err(failure) => Err(Refusal::Failure(failure)),
        };
        let deadline = self.patience.map(|patience| Instant::now() + patience);
        let tell = self.placed.clone();
        async move {
            let placed = match submitted {
                Ok(placement) => placement.await.map_err(Refusal::from),
                Err(refusal) => Err(refusal),
            };
            let published = match placed {
                Ok(published) => published,
                Err(Refusal::Stopped) => return Outcome::Stopped,
                Err(Refusal::Failure(failure)) => {
                    return Outcome::Refused(line, sender.told_why(failure).await);
                }
            };
            if let Some(tell) = tell {
                // Its receiver lives as long as the request.
                let _ = tell.send((line, published.batch));
            }
            let receipt = sender.receipt(published.batch, goal);
            let receipt = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, receipt).await,
                None => Ok(receipt.await),
            };
            match receipt {
                Ok(Ok(receipt)) => Outcome::Receipt(published, receipt),
                Ok(Err(Stopped)) => Outcome::Stopped,
                Err(_) => {
                    sender.receipt_so_far(published.batch).await.map_or(Outcome::Stopped, Outcome::Late)
                }
            }
        }
    }

    fn line(&self, outcome: Outcome, tally: &mut Tally) -> Line {
        match outcome {
            Outcome::Receipt(published, receipt) => {
                tally.done += 1;
                Line::Receipt {
                    group: self.label.clone(),
                    source: self.source.clone(),
                    life: published.batch.life,
                    seq: published.batch.seq,
                    n: published.n,
                    have: receipt.have,
                    of: receipt.of,
                }
            }
            Outcome::Refused(line, failure) => {
                tally.refused += 1;
                tally.refused_exit = failure.exit;
                Line::Refused { line, failure }
            }
            Outcome::Late(so_far) => {
                tally.late += 1;
                tally.least = tally.least.filter(|least| least.have <= so_far.have).or(Some(so_far));
                Line::Late { count: tally.late }
            }
            Outcome::Stopped => {
                tally.late += 1;
                Line::Late { count: tally.late }
            }
        }
    }
}

enum Refusal {
    Stopped,
    Failure(Failure),
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Stopped(_) => Self::Stopped,
            other => Self::Failure(other.into()),
        }
    }
}

fn payload(feed: Feed) -> Result<Bytes, Failure> {
    match feed {
        Feed::Text(text) => Ok(text.into()),
        Feed::Data(data) => BASE64.decode(data.as_bytes()).map(Bytes::from).map_err(|error| {
            Failure::new(
                "bad-data",
                exit::USAGE,
                "A message was not published.",
                format!("Its data is not base64: {error}."),
                "Send it with padding, in the standard alphabet.",
            )
        }),
        Feed::End(_) => Ok(Bytes::new()),
    }
}

/// How far the message that came least far has come.
fn waited_for(goal: ReceiptGoal, least: Option<Receipt>, it: &str) -> String {
    let Receipt { have, of } = least.unwrap_or(Receipt { have: 0, of: 0 });
    let who = match (have, of) {
        (_, 0) => return "nobody else was online".to_owned(),
        (1, 1) => "only the one other member said that it has".to_owned(),
        (0, 1) => "the one other member did not say that it has".to_owned(),
        (0, of) => format!("none of {of} others said that they have"),
        (have, of) => format!("{have} of {of} others said that they have"),
    };
    match goal {
        ReceiptGoal::Stored => format!("this node's disk did not take {it}"),
        ReceiptGoal::Sent => format!("no neighbour took {it}"),
        ReceiptGoal::Members(count) => format!("{who} {it}; {count} were waited for"),
        ReceiptGoal::All => format!("{who} {it}"),
    }
}

impl Tally {
    fn result(&self, goal: ReceiptGoal, patience: Option<Duration>) -> Result<u8, Failure> {
        let total = self.done + self.late + self.refused;
        if self.late > 0 {
            let seconds = patience.unwrap_or_default().as_secs_f64();
            let (what, it, stays) = match total {
                1 => ("The message had no receipt in time.".to_owned(), "it", "It stays"),
                _ => (
                    format!("{} of {total} messages had no receipt in time.", self.late),
                    "the last",
                    "They stay",
                ),
            };
            let waited_for = waited_for(goal, self.least, it);
            return Err(Failure::new(
                "timeout",
                exit::TIMEOUT,
                what,
                format!("Within {seconds} s, {waited_for}. {stays} queued while the node runs."),
                "See who is there with `treecast peers`, or give more time with `--timeout`.",
            ));
        }
        match (self.refused, self.done) {
            (0, _) => Ok(0),
            (_, 0) => Ok(self.refused_exit),
            _ => Ok(exit::PARTLY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_in_vain_is_told_how_many_have_it() {
        let told = |goal, have, of| waited_for(goal, Some(Receipt { have, of }), "it");
        let three = ReceiptGoal::Members(3);
        assert_eq!(told(three, 1, 2), "1 of 2 others said that they have it; 3 were waited for");
        assert_eq!(told(three, 1, 1), "only the one other member said that it has it; 3 were waited for");
        assert_eq!(told(ReceiptGoal::All, 0, 1), "the one other member did not say that it has it");
        assert_eq!(told(ReceiptGoal::All, 0, 0), "nobody else was online");
        assert_eq!(told(ReceiptGoal::Sent, 0, 4), "no neighbour took it");
        let tally = Tally { late: 1, done: 1, ..Tally::default() };
        let failure = tally.result(three, Some(Duration::from_secs(2))).expect_err("late");
        assert!(
            failure.what.starts_with("1 of 2 messages") && failure.why.contains("stay queued"),
            "{failure}"
        );
    }
}
