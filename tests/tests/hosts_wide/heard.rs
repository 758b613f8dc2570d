//! When which line came where, and what follows from it: the same for hosts and for the simulator.

use std::ops::Range;

use super::network::Network;

/// Lines before a kill that say what was usual (as in the simulator's own measure).
const USUAL: usize = 5;

/// Who gets a line by no more than this later than usual is not affected, milliseconds.
const UNAFFECTED_MS: f64 = 1.0;

/// Delays from the publishing, milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// By place and line.
    pub(crate) delays: Vec<Vec<Option<f64>>>,
}

/// How much later than usual an affected place heard what was published after a kill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extra {
    pub(crate) place: usize,
    /// Of the first line after it.
    pub(crate) next_ms: f64,
    /// Of the line that came latest, of those before and after.
    pub(crate) worst_ms: f64,
}

impl Heard {
    pub(crate) fn new(places: usize, lines: usize) -> Self {
        Self { delays: vec![vec![None; lines]; places] }
    }

    /// A place's mean delay of these lines.
    pub(crate) fn mean_ms(&self, place: usize, lines: Range<usize>) -> Option<f64> {
        let delays: Vec<f64> = self.delays[place][lines].iter().copied().flatten().collect();
        (!delays.is_empty()).then(|| delays.iter().sum::<f64>() / delays.len() as f64)
    }

    /// The mean delay of these lines at all places but the source, over the mean way there.
    pub(crate) fn stretch(&self, network: &Network, source: usize, lines: Range<usize>) -> f64 {
        let (mut through, mut direct) = (0.0, 0.0);
        for place in (0..self.delays.len()).filter(|place| *place != source) {
            if let Some(mean) = self.mean_ms(place, lines.clone()) {
                through += mean;
                direct += network.way_ms(source, place);
            }
        }
        through / direct
    }

    /// Whom a kill before line `next` affected, and how much.
    pub(crate) fn extras(&self, next: usize, lines: Range<usize>) -> Vec<Extra> {
        let extra = |place: usize| {
            let late = |line: usize| Some(self.delays[place][line]? - self.usual_ms(place, next)?);
            let worst = lines.clone().filter_map(late).fold(0.0, f64::max);
            Some(Extra { place, next_ms: late(next)?, worst_ms: worst })
        };
        let places = 0..self.delays.len();
        places.filter_map(extra).filter(|extra| extra.worst_ms > UNAFFECTED_MS).collect()
    }

    /// What a place was used to: lines that had come to everybody before the kill.
    fn usual_ms(&self, place: usize, next: usize) -> Option<f64> {
        // Half a second of lines, which is more than the longest way.
        let settled = next.saturating_sub(25);
        self.mean_ms(place, settled.saturating_sub(USUAL)..settled)
    }
}
