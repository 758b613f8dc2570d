//! What is to be tried.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::measures::Measures;
use super::runner::Runner;
use crate::config::Config;
use crate::descriptor::{Order, Route};
use crate::sim::lie::Lie;
use crate::sim::network::NetworkModel;

/// Messages in one experiment, at most: each keeps a delay for each node.
const MAX_MESSAGES: f64 = 10_000_000.0;
/// Nodes, at most.
const MAX_NODES: usize = 1_000_000;

/// What is to be tried. The default is a hundred nodes around the world and one source that
/// says ten times a second 1 KiB, for 30 s.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Of everything that is drawn.
    pub seed: u64,
    /// Members that start at once; at least 2.
    pub nodes: usize,
    /// The network under them, with its losses.
    pub network: NetworkModel,
    /// How they run.
    pub config: Config,
    /// The group's order.
    pub order: Order,
    /// In a total order: so many decide, 1, 3 or 5. The first nodes, wherever they are; the first of them founds the
    /// group.
    pub committee: usize,
    /// The group's route.
    pub route: Route,
    /// Members that publish, drawn at random; in turn.
    pub sources: usize,
    /// Messages a second, of all sources together.
    pub rate: f64,
    /// Bytes of a message.
    pub size: usize,
    /// For how long messages are published.
    pub span: Duration,
    /// Members that fall silent all at once.
    pub kill: Option<Kill>,
    /// A cut through the group.
    pub partition: Option<Partition>,
    /// The share of the members that is replaced each second: they fall silent, and others
    /// start from nothing. Sources and a tenth of the members, drawn at random, are spared.
    pub churn: f64,
    /// Members that join later, all at once.
    pub join: Option<Joiners>,
    /// Members that misbehave from the beginning; sources do not.
    pub liars: Option<Liars>,
}

/// Members that misbehave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Liars {
    /// Which share of all, 0 to 1.
    pub share: f64,
    /// How.
    pub lie: Lie,
}

impl Default for Experiment {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 100,
            network: NetworkModel::regions(),
            config: Config::default(),
            order: Order::Causal,
            committee: 1,
            route: Route::TreeAuto,
            sources: 1,
            rate: 10.0,
            size: 1_024,
            span: Duration::from_secs(30),
            kill: None,
            partition: None,
            churn: 0.0,
            join: None,
            liars: None,
        }
    }
}

impl Experiment {
    /// Carries it out.
    ///
    /// # Errors
    /// When an option is out of range, or asks for what is not built.
    pub fn run(&self) -> Result<Measures, ExperimentError> {
        self.check()?;
        Ok(Runner::new(self).run())
    }

    /// Messages that will be published.
    pub(super) fn messages(&self) -> usize {
        (self.rate * self.span.as_secs_f64()).round() as usize
    }

    /// Whether every option is in its range.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check(&self) -> Result<(), ExperimentError> {
        self.check_built()?;
        self.check_committee()?;
        self.check_load()?;
        self.check_events()?;
        self.config.check().map_err(|error| refuse("config", error.to_string()))
    }

    /// Refuses what would be something else under a false name.
    fn check_built(&self) -> Result<(), ExperimentError> {
        match self.route {
            Route::TreeShared | Route::TreeAuto | Route::TreeSource | Route::Unicast => Ok(()),
            _ => Err(refuse("route", "This version has trees and unicast, but no gossip route.")),
        }
    }

    fn check_committee(&self) -> Result<(), ExperimentError> {
        demand([1, 3, 5].contains(&self.committee), "committee", "It has 1, 3 or 5 members.")?;
        demand(self.committee <= self.nodes, "committee", "It has no more members than the group.")?;
        let decides = self.order == Order::Total || self.committee == 1;
        demand(decides, "committee", "It decides a total order, and this group has another.")
    }

    fn check_load(&self) -> Result<(), ExperimentError> {
        demand((2..=MAX_NODES).contains(&self.nodes), "nodes", "A group has 2 to 1,000,000 members.")?;
        demand(
            (1..=self.nodes).contains(&self.sources),
            "sources",
            "At least one member publishes, and at most all.",
        )?;
        demand(self.rate.is_finite() && self.rate > 0.0, "rate", "It is above 0 messages a second.")?;
        let most = self.config.max_message;
        demand((1..=most).contains(&self.size), "size", "A message has 1 to 1048576 bytes.")?;
        demand(!self.span.is_zero(), "seconds", "Some time must pass.")?;
        let messages = self.rate * self.span.as_secs_f64();
        demand(messages <= MAX_MESSAGES, "rate", "That would be more than ten million messages.")?;
        demand(self.messages() > 0, "rate", "Not one message would be published in that time.")?;
        demand((0.0..0.95).contains(&self.network.loss), "loss", "It is a fraction from 0 to 0.95.")
    }

    fn check_events(&self) -> Result<(), ExperimentError> {
        if let Some(liars) = &self.liars {
            demand((0.0..1.0).contains(&liars.share), "liars", "It is a share from 0 to less than 1.")?;
        }
        let within = |at: Duration| at < self.span;
        if let Some(Kill { who, at }) = self.kill {
            demand(within(at), "kill", "It must happen before the messages end.")?;
            if let Killed::Share(share) = who {
                demand(share > 0.0 && share < 1.0, "kill", "It is more than 0 % and less than 100 %.")?;
            }
            demand(self.nodes > self.sources, "kill", "Sources are spared, and all members are sources.")?;
        }
        if let Some(cut) = &self.partition {
            let positive = cut.shares.0 > 0.0 && cut.shares.1 > 0.0;
            demand(positive, "partition", "Both sides have a share above 0.")?;
            demand(cut.from < cut.to, "partition", "It must heal after it happened.")?;
            demand(cut.to <= self.span, "partition", "It must heal before the messages end.")?;
        }
        demand((0.0..=0.5).contains(&self.churn), "churn", "From 0 to 50 % can be replaced each second.")?;
        if let Some(Joiners { count, at }) = self.join {
            demand(within(at), "join", "They must join before the messages end.")?;
            demand(count > 0 && count <= MAX_NODES, "join", "At least one joins, and at most 1,000,000.")?;
        }
        Ok(())
    }
}

fn demand(holds: bool, option: &'static str, why: &str) -> Result<(), ExperimentError> {
    if holds { Ok(()) } else { Err(refuse(option, why)) }
}

fn refuse(option: &'static str, why: impl Into<String>) -> ExperimentError {
    ExperimentError { option, why: why.into() }
}

/// An option of an [`Experiment`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{option}` cannot be used: {why}")]
pub struct ExperimentError {
    /// Which.
    pub option: &'static str,
    /// Why, as a sentence.
    pub why: String,
}

/// Members that fall silent, all at once and without a word, as when their hosts lose power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kill {
    /// Who.
    pub who: Killed,
    /// When.
    pub at: Duration,
}

/// Who falls silent; never a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Killed {
    /// This share of the members, at random, in (0, 1).
    Share(f64),
    /// The one that passed on most copies of the last messages.
    Relay,
}

/// Nothing passes between two parts of the group for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partition {
    /// How the members are dealt to the two sides, at random.
    pub shares: (f64, f64),
    /// From when.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
}

/// Members that join later, all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joiners {
    /// How many.
    pub count: usize,
    /// When.
    pub at: Duration,
}

/// The text of an option cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct UnreadableOption(&'static str);

/// `30@20`, `relay@20`.
impl FromStr for Kill {
    type Err = UnreadableOption;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || UnreadableOption("PCT@SECOND or relay@SECOND, 30@20 say");
        let (who, at) = text.split_once('@').ok_or_else(wrong)?;
        let who = match who {
            "relay" => Killed::Relay,
            share => Killed::Share(number(share).ok_or_else(wrong)? / 100.0),
        };
        Ok(Self { who, at: seconds(at).ok_or_else(wrong)? })
    }
}

/// `30:70@10-20`.
impl FromStr for Partition {
    type Err = UnreadableOption;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (shares, when) = text.split_once('@')?;
            let (a, b) = shares.split_once(':')?;
            let (from, to) = when.split_once('-')?;
            Some(Self { shares: (number(a)?, number(b)?), from: seconds(from)?, to: seconds(to)? })
        };
        read().ok_or(UnreadableOption("A:B@FROM-TO, 50:50@10-20 say"))
    }
}

/// `100@10`.
impl FromStr for Joiners {
    type Err = UnreadableOption;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (count, at) = text.split_once('@')?;
            Some(Self { count: count.parse().ok()?, at: seconds(at)? })
        };
        read().ok_or(UnreadableOption("N@SECOND, 100@10 say"))
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(number(text)?).ok()
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{} %", share * 100.0),
            Self::Relay => f.write_str("the largest relay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn options_read_as_they_are_typed() {
        assert_eq!("30@20".parse(), Ok(Kill { who: Killed::Share(0.3), at: s(20) }));
        assert_eq!("relay@0".parse(), Ok(Kill { who: Killed::Relay, at: s(0) }));
        assert_eq!("1:3@5-10".parse(), Ok(Partition { shares: (1.0, 3.0), from: s(5), to: s(10) }));
        assert_eq!("7@2.5".parse(), Ok(Joiners { count: 7, at: Duration::from_millis(2_500) }));
        for wrong in ["", "30", "x@1", "-3@1", "30@", "30@-1", "NaN@1", "30@inf"] {
            assert!(wrong.parse::<Kill>().is_err(), "{wrong}");
        }
        for wrong in ["50@1-2", "50:50@1", "a:b@1-2", "50:50"] {
            assert!(wrong.parse::<Partition>().is_err(), "{wrong}");
        }
        assert!("1.5@1".parse::<Joiners>().is_err());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let base = Experiment::default;
        let wrong = [
            ("nodes", Experiment { nodes: 1, ..base() }),
            ("sources", Experiment { sources: 101, ..base() }),
            ("rate", Experiment { rate: 0.0, ..base() }),
            ("rate", Experiment { rate: f64::NAN, ..base() }),
            ("rate", Experiment { rate: 0.001, ..base() }),
            ("size", Experiment { size: 0, ..base() }),
            ("size", Experiment { size: (1 << 20) + 1, ..base() }),
            ("seconds", Experiment { span: s(0), ..base() }),
            ("loss", Experiment { network: NetworkModel { loss: 1.0, ..NetworkModel::lan() }, ..base() }),
            ("kill", Experiment { kill: "30@30".parse().ok(), ..base() }),
            ("kill", Experiment { kill: "100@3".parse().ok(), ..base() }),
            ("partition", Experiment { partition: "1:1@5-40".parse().ok(), ..base() }),
            ("partition", Experiment { partition: "1:1@5-5".parse().ok(), ..base() }),
            ("churn", Experiment { churn: 0.6, ..base() }),
            ("join", Experiment { join: "0@1".parse().ok(), ..base() }),
            ("route", Experiment { route: Route::GossipPush, ..base() }),
            ("committee", Experiment { committee: 3, ..base() }),
            ("committee", Experiment { committee: 2, order: Order::Total, ..base() }),
            ("committee", Experiment { committee: 5, order: Order::Total, nodes: 4, ..base() }),
        ];
        for (option, experiment) in wrong {
            assert_eq!(experiment.check().map_err(|it| it.option), Err(option), "{experiment:?}");
        }
        assert_eq!(base().check(), Ok(()));
    }
}
