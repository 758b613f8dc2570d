//! Every cap and every duration, with where its default comes from.

use std::time::Duration;

/// What an engine may use and how long it waits. Build one from a preset and change what
/// you must; [`Config::check`] says what is out of range.
///
/// Nothing here must match across nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Largest message, bytes. 1 MiB (DESIGN.md §1).
    pub max_message: usize,
    /// A busy batch closes at this many payload bytes. 64 KiB (DESIGN.md §1).
    pub batch_bytes: usize,
    /// A busy batch closes at this age. 5 ms (DESIGN.md §1).
    pub batch_age: Duration,
    /// Payload bytes that may wait for publication in one group. 64 MiB: a burst of 20,000
    /// messages of 1 KiB fits three times.
    pub publish_queue_bytes: usize,
    /// Groups one node may be in. Guess.
    pub max_groups: usize,
    /// Links one node accepts. Guess; a full one closes the newest.
    pub max_links: usize,
    /// Sources one group may have. Beyond, new ones are refused (`Overloaded`).
    pub max_sources: usize,
    /// Up to so many sources, whoever holds something else than a neighbour tells it all frontiers; of more
    /// they compare hashes first. 1,000 (DESIGN.md §4).
    pub exact_sources: usize,
    /// Bytes that one neighbour's comparisons may cost between two rounds of anti-entropy; what is
    /// left is found in the next. Guess: the frontiers of 20,000 sources.
    pub compare_bytes: usize,
    /// Lives of one source that are tracked at once; older ones are closed.
    pub max_lives: usize,
    /// Separate ranges held above the first missing batch of one source.
    pub max_ranges: usize,
    /// How far past the first missing batch one is accepted.
    pub max_lookahead: u64,
    /// Payload bytes of recent batches kept per group for repair. 64 MiB.
    pub store_bytes: usize,
    /// Age at which a recent batch may go, if there is pressure or not. 5 minutes: longer
    /// than the cuts and restarts that this store must bridge.
    pub store_age: Duration,
    /// Payload bytes held back for order per group (causes or predecessors missing).
    pub pending_bytes: usize,
    /// Members that may be removed from one group. Guess; each record has about 170 bytes, and all of
    /// them go in one frame.
    pub max_removals: usize,
    /// Bytes of proofs that a source signed two histories, kept for whoever comes later. 16 MiB: of
    /// eight sources at least, as a batch may have 1 MiB.
    pub fork_proof_bytes: usize,
    /// Bytes that wait in the driver for one link before batches are no longer pushed to it. While
    /// a quarter of that waits on most tree links, the node asks for a pause, or makes none itself.
    pub link_high_water: usize,
    /// Below this many bytes waiting a link is written to again.
    pub link_low_water: usize,
    /// A link whose queue does not move for so long is stalled: nobody waits for it.
    pub stall_after: Duration,
    /// Neighbours beside those in the tree, wanted: whoever came, near or not. HyParView uses
    /// log10(n) + 1 = 4 or 5.
    pub active_view: usize,
    /// Such neighbours, at most. Those in the tree come on top, and up to
    /// [`near_view`](Self::near_view) others that may be.
    pub active_view_max: usize,
    /// Neighbours that were sought for being near and are not in the tree, at most. Guess.
    pub near_view: usize,
    /// Candidates for a parent that are no neighbours, known by hearsay. Guess.
    pub near_candidates: usize,
    /// Passive view, entries. HyParView's k = 6: 30 for 10,000 nodes.
    pub passive_view: usize,
    /// Hops of a join's random walk. HyParView's ARWL = 6.
    pub walk_length: u8,
    /// Between looks at others than the neighbours: a third are Cyclon shuffles, a third build a
    /// bridge. Guess; jittered by 20 %.
    pub shuffle_every: Duration,
    /// Entries offered in a shuffle. HyParView has 8: k_a = 3 active + k_p = 4 passive, and itself; ours
    /// are signed and most of what an idle member sends beside pings.
    pub shuffle_size: usize,
    /// Up to how many members everybody knows everybody (DESIGN.md §4); of more, all know the same
    /// ones, and each itself.
    pub roster: usize,
    /// Between pings on a quiet link. SWIM's protocol period; Lifeguard uses 1 s. Three fit into
    /// [`ping_timeout`](Self::ping_timeout).
    pub ping_every: Duration,
    /// Unanswered for so long, a link is silent and is closed.
    pub ping_timeout: Duration,
    /// Members asked to probe a silent one. SWIM's k; Lifeguard uses 3.
    pub indirect_probes: usize,
    /// How long a direct or indirect probe may take.
    pub probe_timeout: Duration,
    /// Two signed suspicions must come this close together.
    pub suspicion_ttl: Duration,
    /// Children in one tree, at most. Guess until capacities are known.
    pub max_children: usize,
    /// Cores of a group, its root among them; by its size if not given.
    pub cores: Option<usize>,
    /// Cores by the size of the group, at most, and as many again for busy sources. Guess: a core
    /// feeds all others.
    pub max_cores: usize,
    /// Members for each core of a large group. Guess: simulated groups gain little from more cores.
    pub members_a_core: usize,
    /// Backup parents kept, ranked.
    pub backups: usize,
    /// Between a root's adverts; also how stale the others' may get.
    pub advert_every: Duration,
    /// A root not heard of for so long is gone. Longer than a dead link stays open: whose link to the root
    /// ends follows it at once, and who is merely led in a circle has the time to find that out.
    pub root_timeout: Duration,
    /// How much nearer a new parent must be: at least this…
    pub parent_gain: Duration,
    /// …and at least this share of the path latency (DESIGN.md §4: 0.5 ms, 2 %).
    pub parent_gain_share: f64,
    /// Between frontier frames to a link while there is news. 5–20 ms (DESIGN.md §4).
    pub frontier_every: Duration,
    /// Least and largest learned lag: how much later than a lazy link's word the tree's
    /// batch may come before it is pulled.
    pub lag_min: Duration,
    /// See [`Config::lag_min`].
    pub lag_max: Duration,
    /// A pull unanswered for so long goes to the next neighbour; doubled each time.
    pub pull_timeout: Duration,
    /// Batches one pull names at most.
    pub pull_batches: u64,
    /// Between anti-entropy rounds with a random neighbour.
    pub anti_entropy_every: Duration,
    /// A hole that nobody we can ask holds is given up after so long.
    pub lost_after: Duration,
    /// How long a node that enters a group holds its first batch for a welcome, which may tell
    /// where its last life ended. Guess: longer than discovery on a LAN takes.
    pub fresh_wait: Duration,
    /// How long goodbye and leave wait for neighbours to hold our batches.
    pub goodbye_wait: Duration,
    /// Between dials to the same node.
    pub redial_every: Duration,
    /// Nodes found but not in touch that are remembered.
    pub max_candidates: usize,
    /// The driver keeps what is delivered ([`Output::Record`](crate::Output)), and is asked for it
    /// ([`Output::Fetch`](crate::Output)). Without, only recent batches can be served.
    pub history: bool,
    /// Pulls that are answered from the history at the same time, in one group. Four times as many wait for
    /// their turn; more are not answered, and asked again. Guess.
    pub max_fetches: usize,
    /// In groups with a total order this node may be in the committee, once it has been a member of the group
    /// for so long; `None` if it is not to be: it does not run as a service, or has no disk.
    pub serve_after: Option<Duration>,
    /// Members of a committee, at most: 1, 3 or 5; of an even number one less counts. More gain little
    /// (DESIGN.md §5: 1 → 3 → 5).
    pub max_committee: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self::wan()
    }
}

impl Config {
    /// For ordinary networks of any size: the default.
    pub fn wan() -> Self {
        Self {
            max_message: 1 << 20,
            batch_bytes: 64 << 10,
            batch_age: Duration::from_millis(5),
            publish_queue_bytes: 64 << 20,
            max_groups: 1_024,
            max_links: 512,
            max_sources: 100_000,
            exact_sources: 1_000,
            compare_bytes: 2 << 20,
            max_lives: 4,
            max_ranges: 256,
            max_lookahead: 1 << 20,
            store_bytes: 64 << 20,
            store_age: Duration::from_secs(300),
            pending_bytes: 64 << 20,
            max_removals: 1_024,
            fork_proof_bytes: 16 << 20,
            link_high_water: 1 << 20,
            link_low_water: 128 << 10,
            stall_after: Duration::from_millis(500),
            active_view: 4,
            active_view_max: 6,
            near_view: 3,
            near_candidates: 32,
            passive_view: 30,
            walk_length: 6,
            shuffle_every: Duration::from_secs(10),
            shuffle_size: 5,
            roster: 200,
            ping_every: Duration::from_millis(1_500),
            ping_timeout: Duration::from_secs(5),
            indirect_probes: 3,
            probe_timeout: Duration::from_millis(1_500),
            suspicion_ttl: Duration::from_secs(20),
            max_children: 12,
            cores: None,
            max_cores: 24,
            members_a_core: 16,
            backups: 3,
            advert_every: Duration::from_secs(1),
            root_timeout: Duration::from_secs(6),
            parent_gain: Duration::from_micros(500),
            parent_gain_share: 0.02,
            frontier_every: Duration::from_millis(10),
            lag_min: Duration::from_millis(20),
            lag_max: Duration::from_millis(500),
            pull_timeout: Duration::from_millis(200),
            pull_batches: 64,
            anti_entropy_every: Duration::from_secs(3),
            lost_after: Duration::from_secs(30),
            fresh_wait: Duration::from_secs(1),
            goodbye_wait: Duration::from_secs(2),
            redial_every: Duration::from_secs(5),
            max_candidates: 1_024,
            history: false,
            max_fetches: 64,
            serve_after: None,
            max_committee: 5,
        }
    }

    /// For one LAN: faster pings and pulls, as round trips stay under a few milliseconds.
    pub fn lan() -> Self {
        Self {
            ping_every: Duration::from_secs(1),
            ping_timeout: Duration::from_secs(3),
            probe_timeout: Duration::from_millis(500),
            lag_min: Duration::from_millis(5),
            pull_timeout: Duration::from_millis(50),
            ..Self::wan()
        }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// Names the first value that is not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("max_message", self.max_message),
            ("batch_bytes", self.batch_bytes),
            ("publish_queue_bytes", self.publish_queue_bytes),
            ("max_groups", self.max_groups),
            ("max_links", self.max_links),
            ("max_sources", self.max_sources),
            ("max_lives", self.max_lives),
            ("max_ranges", self.max_ranges),
            ("store_bytes", self.store_bytes),
            ("pending_bytes", self.pending_bytes),
            ("active_view", self.active_view),
            ("passive_view", self.passive_view),
            ("max_children", self.max_children),
            ("cores", self.cores.unwrap_or(1)),
            ("max_cores", self.max_cores),
            ("members_a_core", self.members_a_core),
            ("max_candidates", self.max_candidates),
            ("max_committee", self.max_committee),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError { name, range: "at least 1" });
        }
        if self.max_message > crate::wire::MAX_MESSAGE {
            return Err(ConfigError { name: "max_message", range: "at most 1 MiB" });
        }
        if self.max_committee > 5 {
            // What consensus keeps of each member is meant for few; DESIGN.md §5 has 1, 3, 5.
            return Err(ConfigError { name: "max_committee", range: "at most 5" });
        }
        if self.active_view > self.active_view_max {
            return Err(ConfigError { name: "active_view", range: "at most active_view_max" });
        }
        if self.link_low_water >= self.link_high_water {
            return Err(ConfigError { name: "link_low_water", range: "below link_high_water" });
        }
        if !(0.0..1.0).contains(&self.parent_gain_share) {
            return Err(ConfigError { name: "parent_gain_share", range: "0 to 1" });
        }
        Ok(())
    }
}

/// A value of [`Config`] is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is out of range: {range}")]
pub struct ConfigError {
    /// Which.
    pub name: &'static str,
    /// What it may be.
    pub range: &'static str,
}
