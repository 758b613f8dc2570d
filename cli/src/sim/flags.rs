//! The options of a simulation, as typed or as a file says.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use treecast_node::Failure;
use treecast_overlay::sim::{Experiment, ExperimentError, Joiners, Kill, Latency, NetworkModel, Partition};
use treecast_overlay::{Order, Route};

use crate::failure::usage;

/// What is typed, or stands in a scenario under the same names.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct SimFlags {
    /// Members that start at once, from nothing. Default: 100.
    #[arg(long, value_name = "N")]
    pub(crate) nodes: Option<usize>,
    /// What is between them: regions (around the world), lan, or uniform:A-B (each pair A to B ms
    /// apart). Default: regions.
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<Network>,
    /// Lengthen each pair's way between regions by up to this share, at random; 0 makes the
    /// network a metric space. Default: 0.25.
    #[arg(long, value_name = "X")]
    pub(crate) noise: Option<f64>,
    /// The group's order: unordered, fifo, causal or total. Default: causal.
    #[arg(long, value_name = "ORDER")]
    pub(crate) order: Option<Order>,
    /// How messages travel: tree:shared, tree:source, tree:auto or unicast. Default: tree:auto.
    #[arg(long, value_name = "ROUTE")]
    pub(crate) route: Option<Route>,
    /// Cores, each the root of a shared tree. Default: by the size of the group.
    #[arg(long, value_name = "C")]
    pub(crate) cores: Option<usize>,
    /// Children of one member in one tree, at most. Default: 12.
    #[arg(long, value_name = "B")]
    pub(crate) fanout: Option<usize>,
    /// Members that agree on a total order: 1, 3 or 5. Default: 1.
    #[arg(long, value_name = "K")]
    pub(crate) committee: Option<usize>,
    /// Members that publish, in turn. Default: 1.
    #[arg(long, value_name = "S")]
    pub(crate) sources: Option<usize>,
    /// Messages a second, of all sources together. Default: 10.
    #[arg(long, value_name = "R")]
    pub(crate) rate: Option<f64>,
    /// Bytes of a message. Default: 1024.
    #[arg(long, value_name = "BYTES")]
    pub(crate) size: Option<usize>,
    /// For how long messages are published. Default: 30.
    #[arg(long, value_name = "T")]
    pub(crate) seconds: Option<f64>,
    /// Lose this fraction of all transmissions, 0.05 say: each comes again, late.
    #[arg(long, value_name = "P")]
    pub(crate) loss: Option<f64>,
    /// What is lost of batches and frontiers does not come again.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub(crate) datagram: Option<bool>,
    /// Have this fraction of batches and frontiers come twice, 0.05 say.
    #[arg(long, value_name = "P")]
    pub(crate) duplicate: Option<f64>,
    /// Members that fall silent at once: 30@20 is 30 % of them after 20 s; relay@20 is the one that
    /// passes on most. Sources are spared.
    #[arg(long, value_name = "PCT@SECOND|relay@SECOND")]
    pub(crate) kill: Option<Kill>,
    /// Cut the group in two for a while: 30:70@10-20.
    #[arg(long, value_name = "A:B@FROM-TO")]
    pub(crate) partition: Option<Partition>,
    /// Replace this percentage of the members each second, by crashes and newcomers.
    #[arg(long, value_name = "PCT")]
    pub(crate) churn: Option<f64>,
    /// Members that join later, all at once: 100@10.
    #[arg(long, value_name = "N@SECOND")]
    pub(crate) join: Option<Joiners>,
    /// What everything that is drawn follows from. Default: 1.
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Run so many seeds, one after the other, a line each. Default: 1.
    #[arg(long, value_name = "K")]
    pub(crate) seeds: Option<u64>,
}

impl SimFlags {
    /// What is typed, and for the rest what the other says.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.or(other.nodes),
            network: self.network.or(other.network),
            noise: self.noise.or(other.noise),
            order: self.order.or(other.order),
            route: self.route.or(other.route),
            cores: self.cores.or(other.cores),
            fanout: self.fanout.or(other.fanout),
            committee: self.committee.or(other.committee),
            sources: self.sources.or(other.sources),
            rate: self.rate.or(other.rate),
            size: self.size.or(other.size),
            seconds: self.seconds.or(other.seconds),
            loss: self.loss.or(other.loss),
            datagram: self.datagram.or(other.datagram),
            duplicate: self.duplicate.or(other.duplicate),
            kill: self.kill.or(other.kill),
            partition: self.partition.or(other.partition),
            churn: self.churn.or(other.churn),
            join: self.join.or(other.join),
            seed: self.seed.or(other.seed),
            seeds: self.seeds.or(other.seeds),
        }
    }

    /// The first run, and how many there are.
    pub(crate) fn meant(self) -> Result<(Experiment, u64), Failure> {
        self.refuse_unbuilt()?;
        let base = Experiment::default();
        let mut experiment = Experiment {
            seed: self.seed.unwrap_or(base.seed),
            nodes: self.nodes.unwrap_or(base.nodes),
            network: self.network_model()?,
            order: self.order.unwrap_or(base.order),
            committee: self.committee.unwrap_or(base.committee),
            route: self.route.unwrap_or(base.route),
            sources: self.sources.unwrap_or(base.sources),
            rate: self.rate.unwrap_or(base.rate),
            size: self.size.unwrap_or(base.size),
            span: self.seconds.map_or(Ok(base.span), span)?,
            kill: self.kill,
            partition: self.partition,
            churn: self.churn.unwrap_or(0.0) / 100.0,
            join: self.join,
            liars: base.liars,
            config: base.config,
        };
        if let Some(fanout) = self.fanout {
            experiment.config.max_children = fanout;
        }
        if let Some(cores) = self.cores {
            experiment.config.cores = Some(cores);
            experiment.config.max_cores = experiment.config.max_cores.max(cores);
        }
        experiment.check().map_err(refused)?;
        let seeds = self.seeds.unwrap_or(1);
        if seeds == 0 || experiment.seed.checked_add(seeds - 1).is_none() {
            return Err(bad("seeds", "At least one seed is run, and none is larger than 2^64 − 1."));
        }
        Ok((experiment, seeds))
    }

    fn refuse_unbuilt(&self) -> Result<(), Failure> {
        if self.cores == Some(0) {
            return Err(bad("cores", "A group has a core at the least."));
        }
        if self.fanout == Some(0) {
            return Err(bad("fanout", "A tree without children is no tree."));
        }
        Ok(())
    }

    fn network_model(&self) -> Result<NetworkModel, Failure> {
        let mut model = match self.network.unwrap_or(Network::Regions) {
            Network::Regions => NetworkModel::regions(),
            Network::Lan => NetworkModel::lan(),
            Network::Uniform(from, to) => NetworkModel::uniform(from, to),
        };
        if let Some(x) = self.noise {
            if !(0.0..=10.0).contains(&x) {
                return Err(bad("noise", "It is a share from 0 to 10."));
            }
            if let Latency::Regions { noise } = &mut model.latency {
                *noise = x;
            }
        }
        model.loss = self.loss.unwrap_or(0.0);
        model.duplicate = self.duplicate.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&model.duplicate) {
            return Err(bad("duplicate", "It is a fraction from 0 to 1."));
        }
        if self.datagram == Some(true) {
            model = model.datagrams();
        }
        Ok(model)
    }
}

fn span(seconds: f64) -> Result<Duration, Failure> {
    let most = 86_400.0;
    let span = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= most);
    span.ok_or_else(|| bad("seconds", "Above 0 and at most 86400 can be simulated."))
}

fn refused(error: ExperimentError) -> Failure {
    bad(error.option, &error.why)
}

fn bad(option: &str, why: &str) -> Failure {
    usage(
        format!("--{option} cannot be used like this."),
        why,
        "Choose another value; `treecast sim --help` shows what there is.",
    )
}

/// What is between the members.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Network {
    /// Nine regions.
    Regions,
    /// One switch.
    Lan,
    /// The same spread for each pair.
    Uniform(Duration, Duration),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uniform = |range: &str| {
            let (from, to) = range.split_once('-')?;
            let ms = |text: &str| Duration::try_from_secs_f64(text.parse::<f64>().ok()? / 1_000.0).ok();
            let (from, to) = (ms(from)?, ms(to)?);
            (from <= to && to <= Duration::from_secs(60)).then_some(Self::Uniform(from, to))
        };
        match text {
            "regions" => Ok(Self::Regions),
            "lan" => Ok(Self::Lan),
            other => other
                .strip_prefix("uniform:")
                .and_then(uniform)
                .ok_or_else(|| "expected regions, lan or uniform:A-B in ms, uniform:10-50 say".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let ms = Duration::from_millis;
        assert_eq!("regions".parse(), Ok(Network::Regions));
        assert_eq!("uniform:10-50".parse(), Ok(Network::Uniform(ms(10), ms(50))));
        assert_eq!(
            "uniform:0.5-0.5".parse(),
            Ok(Network::Uniform(Duration::from_micros(500), Duration::from_micros(500)))
        );
        for wrong in ["", "wan", "uniform", "uniform:5", "uniform:9-3", "uniform:a-b", "uniform:0-1e9"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_typed_means_the_documented_defaults() {
        let (experiment, seeds) = SimFlags::default().meant().expect("good");
        assert_eq!((experiment.nodes, experiment.sources, experiment.size, seeds), (100, 1, 1_024, 1));
        assert_eq!((experiment.order, experiment.route), (Order::Causal, Route::TreeAuto));
        assert_eq!(experiment.span, Duration::from_secs(30));
        assert_eq!(experiment.network.latency, Latency::Regions { noise: 0.25 });
    }

    #[test]
    fn what_is_not_built_is_refused_with_its_flag() {
        let flags = SimFlags::default;
        for (flags, flag) in [
            (SimFlags { committee: Some(3), ..flags() }, "--committee"),
            (SimFlags { cores: Some(0), ..flags() }, "--cores"),
            (SimFlags { route: Some(Route::GossipPush), ..flags() }, "--route"),
            (SimFlags { churn: Some(90.0), ..flags() }, "--churn"),
            (SimFlags { noise: Some(-1.0), ..flags() }, "--noise"),
            (SimFlags { duplicate: Some(1.5), ..flags() }, "--duplicate"),
            (SimFlags { seconds: Some(f64::NAN), ..flags() }, "--seconds"),
            (SimFlags { seeds: Some(0), ..flags() }, "--seeds"),
            (SimFlags { fanout: Some(0), ..flags() }, "--fanout"),
        ] {
            let failure = flags.meant().expect_err(flag);
            assert!(failure.what.starts_with(flag) && failure.exit == 2, "{failure:?}");
        }
    }
}
