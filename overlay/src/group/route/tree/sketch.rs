//! Where the members of a subtree are, roughly: clusters, merged on their way to the root.

use std::time::Duration;

use crate::coordinate::{Coordinate, middle};
use crate::wire::frame::Cluster;

/// Clusters that a subtree is told as, at most: four times as many as a group of a thousand has cores, and less
/// than two kilobytes. By simulation: with 24 ways were 2 % longer, with 64 they were not shorter.
const MAX_CLUSTERS: usize = 48;
/// Of these, sources, at most.
const MAX_SOURCES: usize = 16;

/// Few clusters for all of these.
pub(super) fn merge(all: impl Iterator<Item = Cluster>) -> Vec<Cluster> {
    let mut few = Vec::new();
    let mut sources = 0;
    for mut cluster in all {
        sources += usize::from(cluster.source);
        cluster.source &= sources <= MAX_SOURCES;
        few.push(cluster);
        if few.len() > MAX_CLUSTERS {
            merge_nearest(&mut few);
        }
    }
    few
}

/// What a child told, as far as it can be: so many members in all, in so many clusters.
pub(super) fn believe(told: &[Cluster], members: u32) -> Vec<Cluster> {
    let some = told.iter().take(MAX_CLUSTERS).cloned();
    merge(some.map(|it| Cluster { members: it.members.clamp(1, members), ..it }))
}

/// Makes one of the two that are the least loss: near each other, and one of them small.
fn merge_nearest(clusters: &mut Vec<Cluster>) {
    let all = clusters.iter().enumerate().filter(|(_, it)| !it.source);
    let all: Vec<_> = all.map(|(at, it)| (at, Coordinate::told(&it.centre), it.members)).collect();
    let mut least: Option<(f64, usize, usize)> = None;
    for (nth, (at, a, members)) in all.iter().enumerate() {
        for (before, b, others) in &all[..nth] {
            let (loss, before, at) = (a.flat(b) * f64::from(*members.min(others)), *before, *at);
            if least.is_none_or(|it| loss < it.0) {
                least = Some((loss, before, at));
            }
        }
    }
    if let Some((_, into, from)) = least {
        let other = clusters.swap_remove(from);
        clusters[into] = merged(&clusters[into], &other);
    }
}

fn merged(a: &Cluster, b: &Cluster) -> Cluster {
    let centre = middle([(a.centre, a.members), (b.centre, b.members)].into_iter());
    // Who does not know where it is would be a core by mistake.
    let rank = |it: &Cluster| (!it.place.is_located(), it.place.to(&centre), it.best);
    let best = if rank(a) <= rank(b) { a } else { b };
    let members = a.members.saturating_add(b.members);
    Cluster { centre, members, best: best.best, place: best.place, source: false }
}

/// From `from` to all members, together.
pub(super) fn way(clusters: &[Cluster], from: &crate::coordinate::Place) -> Duration {
    clusters.iter().map(|it| from.to(&it.centre) * it.members).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::Place;

    fn at(x: i32, best: u64) -> Cluster {
        let place = Place { x, y: 0, z: 0, height: 1, error: 10 };
        Cluster { centre: place, members: 1, best, place, source: false }
    }

    #[test]
    fn far_clusters_stay_apart_and_nobody_is_lost() {
        // Two towns of sixty, and a hut between them that publishes.
        let towns = (0..120).map(|it| at(if it % 2 == 0 { it / 10 } else { 400 + it / 10 }, it as u64));
        let hut = Cluster { source: true, ..at(200, 999) };
        let few = merge(towns.chain([hut]));
        assert!(few.len() <= MAX_CLUSTERS);
        assert_eq!(few.iter().map(|it| it.members).sum::<u32>(), 121);
        assert!(few.iter().all(|it| it.source || !(30..390).contains(&it.centre.x)), "{few:?}");
        assert!(few.iter().any(|it| it.source && it.best == 999 && it.members == 1));
    }

    #[test]
    fn who_knows_where_it_is_speaks_for_a_cluster() {
        let mut lost = at(10, 1);
        lost.place.error = 90;
        assert_eq!(merged(&lost, &at(14, 2)).best, 2);
    }

    #[test]
    fn no_child_tells_of_more_than_can_be() {
        let told: Vec<_> = (0..5_000).map(|it| Cluster { members: u32::MAX, ..at(it, it as u64) }).collect();
        let few = believe(&told, 7);
        assert!(few.len() <= MAX_CLUSTERS && few.iter().all(|it| (1..=7).contains(&it.members)));
    }

    #[test]
    fn not_everybody_can_be_a_source() {
        let all = (0..300).map(|it| Cluster { source: true, ..at(it, it as u64) });
        let few = merge(all);
        assert!(few.len() <= MAX_CLUSTERS && few.iter().filter(|it| it.source).count() <= MAX_SOURCES);
        assert_eq!(few.iter().map(|it| it.members).sum::<u32>(), 300);
    }
}
