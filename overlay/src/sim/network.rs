//! How long things take and what gets lost: the network under the overlay.
//!
//! The default, "regions", has the latencies, shares and access classes of nine cloud
//! regions (approximate halves of public inter-region round trips).

use std::sync::Arc;
use std::time::Duration;

use crate::rng::Rng;

/// Share of the nodes in each region, in percent: us-east, us-west, us-central, eu-west,
/// eu-central, eu-north, south-america, asia-north-east, asia-south-east.
const REGION_SHARE: [u64; 9] = [18, 12, 7, 15, 15, 5, 7, 11, 10];

/// One-way latency between regions, milliseconds.
const REGION_MS: [[u32; 9]; 9] = [
    [1, 32, 16, 38, 45, 50, 58, 75, 108],
    [32, 1, 18, 66, 73, 76, 88, 52, 84],
    [16, 18, 1, 50, 55, 60, 68, 65, 98],
    [38, 66, 50, 1, 11, 16, 92, 105, 88],
    [45, 73, 55, 11, 1, 11, 102, 112, 80],
    [50, 76, 60, 16, 11, 1, 108, 120, 90],
    [58, 88, 68, 92, 102, 108, 1, 128, 160],
    [75, 52, 65, 105, 112, 120, 128, 1, 35],
    [108, 84, 98, 88, 80, 90, 160, 35, 1],
];

/// σ of a node's offset in its region, each axis, milliseconds.
const OFFSET_MS: f64 = 3.0;

const MBIT: u64 = 1_000_000 / 8;

/// Where the time between two nodes comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Latency {
    /// Nine regions with access classes. `noise` x multiplies the core part of each pair by
    /// 1 + U\[0, x\]; 0 makes the network a metric space.
    Regions {
        /// x.
        noise: f64,
    },
    /// Each pair's one-way latency is uniform between two bounds.
    Uniform {
        /// Least.
        from: Duration,
        /// Most.
        to: Duration,
    },
    /// One switch: 0.1–0.25 ms.
    Lan,
    /// As it was measured, or is made up: one-way latencies by the numbers of two nodes, a row each,
    /// of which the half below the diagonal is read. Nodes beyond the last row take the rows anew.
    Matrix(Arc<Vec<Vec<Duration>>>),
}

/// The network of a [`World`](super::World).
#[derive(Debug, Clone)]
pub struct NetworkModel {
    /// One-way latencies.
    pub latency: Latency,
    /// Chance that a transmission is lost, in `[0, 1)`. Links are reliable, so it comes again
    /// after max(50 ms, 1.5 round trips) and holds up what is behind it on its lane.
    pub loss: f64,
    /// Each frame takes up to this much longer.
    pub jitter: Duration,
    /// Frames for which this says yes are gone when they are lost, instead of late.
    pub datagram: Option<fn(&[u8]) -> bool>,
    /// Chance that such a frame, or where none is a datagram a batch or frontier, comes twice.
    pub duplicate: f64,
    /// Time in each node a hop costs.
    pub processing: Duration,
    /// Bytes a frame has on the wire besides its own.
    pub overhead: usize,
    /// A dial that nobody answers fails after so long.
    pub dial_timeout: Duration,
    /// A connection whose other end is silent or cut off goes down after so long.
    pub link_timeout: Duration,
    /// A write is durable after so long; at zero, at once.
    pub disk_delay: Duration,
    /// What was delivered begins to be written so much later; a crash before that takes it.
    pub disk_behind: Duration,
}

impl NetworkModel {
    /// The nine regions, noise 0.25.
    pub fn regions() -> Self {
        Self::with(Latency::Regions { noise: 0.25 })
    }

    /// Uniform latencies.
    pub fn uniform(from: Duration, to: Duration) -> Self {
        Self::with(Latency::Uniform { from, to })
    }

    /// One LAN.
    pub fn lan() -> Self {
        Self::with(Latency::Lan)
    }

    /// Batches and frontiers that are lost do not come again (as in most papers' models); all
    /// other frames stay reliable.
    #[must_use]
    pub fn datagrams(self) -> Self {
        Self { datagram: Some(crate::wire::frame::is_repairable), ..self }
    }

    /// One-way latencies by the numbers of two nodes, lower first.
    pub fn matrix(nodes: usize, one_way: impl Fn(usize, usize) -> Duration) -> Self {
        let row = |high| (0..nodes).map(|low| one_way(low.min(high), low.max(high))).collect();
        Self::with(Latency::Matrix(Arc::new((0..nodes).map(row).collect())))
    }

    fn with(latency: Latency) -> Self {
        Self {
            latency,
            loss: 0.0,
            jitter: Duration::ZERO,
            datagram: None,
            duplicate: 0.0,
            processing: Duration::from_micros(200),
            // Length prefix, AEAD tag, Yamux header and a share of TCP/IP's.
            overhead: 60,
            dial_timeout: Duration::from_secs(5),
            link_timeout: Duration::from_secs(20),
            disk_delay: Duration::ZERO,
            disk_behind: Duration::ZERO,
        }
    }

    /// Where a new node is.
    pub(super) fn place(&self, number: usize, rng: &mut Rng) -> Site {
        match &self.latency {
            Latency::Regions { .. } => Site::in_a_region(rng),
            Latency::Uniform { .. } | Latency::Lan => Site::at(0),
            Latency::Matrix(rows) => Site::at(number % rows.len().max(1)),
        }
    }

    /// One way from one node to another, the same in both directions, without queueing and
    /// processing. `pair` is a number fixed for the pair, any 64 bits.
    pub(super) fn one_way(&self, a: &Site, b: &Site, pair: u64) -> Duration {
        let share = Rng::new(pair).unit();
        match &self.latency {
            Latency::Regions { noise } => {
                let core = f64::from(REGION_MS[a.region][b.region]) + (a.x - b.x).hypot(a.y - b.y);
                Duration::from_secs_f64((core * (1.0 + noise * share) + a.access_ms + b.access_ms) / 1_000.0)
            }
            Latency::Uniform { from, to } => *from + to.saturating_sub(*from).mul_f64(share),
            Latency::Lan => Duration::from_micros(100) + Duration::from_micros(150).mul_f64(share),
            Latency::Matrix(rows) => {
                let row = rows.get(a.row.max(b.row));
                row.and_then(|row| row.get(a.row.min(b.row))).copied().unwrap_or_default()
            }
        }
    }

    /// How long a lost transmission takes to come again.
    pub(super) fn retransmission(one_way: Duration) -> Duration {
        (one_way * 3).max(Duration::from_millis(50))
    }
}

/// Where one node is in the network.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) region: usize,
    /// Of a given matrix.
    row: usize,
    x: f64,
    y: f64,
    access_ms: f64,
    pub(super) bytes_per_s: u64,
    /// The chance that a transmission is lost there, either way.
    pub(super) loss: f64,
}

impl Site {
    /// Somewhere without an access of its own.
    fn at(row: usize) -> Self {
        Self { region: 0, row, x: 0.0, y: 0.0, access_ms: 0.0, bytes_per_s: 1_000 * MBIT, loss: 0.0 }
    }

    fn in_a_region(rng: &mut Rng) -> Self {
        let mut draw = rng.below(100) as u64;
        let region = REGION_SHARE.iter().position(|share| {
            let here = draw < *share;
            draw = draw.saturating_sub(*share);
            here
        });
        let (x, y) = gaussian(rng);
        // 35 % data centre, 45 % fibre, 20 % slow.
        let (least, most, mbit) = match rng.below(100) {
            0..35 => (0.2, 0.6, 1_000),
            35..80 => (1.5, 5.0, 100),
            _ => (6.0, 24.0, 20),
        };
        Self {
            region: region.expect("the shares sum to 100"),
            row: 0,
            x: x * OFFSET_MS,
            y: y * OFFSET_MS,
            access_ms: least + (most - least) * rng.unit(),
            bytes_per_s: mbit * MBIT,
            loss: 0.0,
        }
    }
}

/// Two independent standard normal numbers (Box and Muller 1958).
fn gaussian(rng: &mut Rng) -> (f64, f64) {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    let angle = std::f64::consts::TAU * rng.unit();
    (radius * angle.cos(), radius * angle.sin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_symmetric_and_the_shares_are_whole() {
        for (i, row) in REGION_MS.iter().enumerate() {
            for (j, latency) in row.iter().enumerate() {
                assert_eq!(*latency, REGION_MS[j][i], "{i} {j}");
            }
        }
        assert_eq!(REGION_SHARE.iter().sum::<u64>(), 100);
    }

    #[test]
    fn noise_only_adds_and_is_fixed_for_a_pair() {
        let metric = NetworkModel { latency: Latency::Regions { noise: 0.0 }, ..NetworkModel::regions() };
        let noisy = NetworkModel::regions();
        let mut rng = Rng::new(1);
        for pair in 0..200 {
            let (a, b) = (metric.place(0, &mut rng), metric.place(0, &mut rng));
            let (base, with) = (metric.one_way(&a, &b, pair), noisy.one_way(&a, &b, pair));
            assert!(with >= base && with <= base.mul_f64(1.25), "{base:?} {with:?}");
            assert_eq!(with, noisy.one_way(&b, &a, pair));
        }
    }

    #[test]
    fn every_region_gets_its_share() {
        let mut rng = Rng::new(3);
        let mut seen = [0u64; 9];
        for _ in 0..20_000 {
            seen[Site::in_a_region(&mut rng).region] += 1;
        }
        for (seen, share) in seen.iter().zip(REGION_SHARE) {
            assert!(seen.abs_diff(share * 200) < 200, "{seen} of {share} %");
        }
    }

    #[test]
    fn uniform_stays_between_its_bounds() {
        let (from, to) = (Duration::from_millis(10), Duration::from_millis(50));
        let model = NetworkModel::uniform(from, to);
        let site = model.place(0, &mut Rng::new(0));
        for pair in 0..100 {
            let one_way = model.one_way(&site, &site, pair);
            assert!(one_way >= from && one_way <= to);
        }
    }
}
