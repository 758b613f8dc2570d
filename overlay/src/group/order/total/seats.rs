//! Where a committee should sit: what is delivered in a total order goes from its source to the leader, is committed
//! by a majority, and goes from there to all. So the leader is to be near to everybody, and the rest near to it
//! (the 1-median; places are network coordinates).

use std::time::Duration;

use crate::coordinate::Place;
use crate::id::NodeId;

/// A committee that is so much better is worth an epoch: a share of the way, and at least so much. Guess:
/// coordinates err, and the order pauses while a leader is elected.
const WORTH: f64 = 0.08;
const LEAST: Duration = Duration::from_millis(2);

/// Who could have a seat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    pub(crate) place: Place,
}

/// The way of one message in the mean, if `leader` leads these.
fn way(leader: &Place, others: impl Iterator<Item = Place>, seats: usize, members: &[Place]) -> Duration {
    let mut away: Vec<Duration> = others.map(|it| leader.to(&it)).collect();
    away.sort_unstable();
    let commit = (seats / 2).checked_sub(1).and_then(|at| away.get(at)).copied().unwrap_or_default();
    let all: Duration = members.iter().map(|it| leader.to(it)).sum();
    2 * (all / members.len().max(1) as u32 + commit)
}

/// The best committee of `seats` (odd) of these candidates for members at these places, its leader first. `None` if
/// there are too few.
pub(crate) fn best(candidates: &[Candidate], seats: usize, members: &[Place]) -> Option<Vec<NodeId>> {
    if candidates.len() < seats || seats == 0 {
        return None;
    }
    let cost = |it: &Candidate| {
        let others = candidates.iter().filter(|other| other.node != it.node).map(|other| other.place);
        (way(&it.place, others, seats, members), it.node)
    };
    let leader = candidates.iter().min_by_key(|it| cost(it))?;
    let mut near: Vec<&Candidate> = candidates.iter().filter(|it| it.node != leader.node).collect();
    near.sort_by_key(|it| (leader.place.to(&it.place), it.node));
    let others = near.into_iter().take(seats - 1).map(|it| it.node);
    Some(std::iter::once(leader.node).chain(others).collect())
}

/// Whether this committee is so much better than that one, each with its leader first, that it is worth an epoch.
/// Not if it is not known of all where they are.
pub(crate) fn is_worth(better: &[NodeId], than: &[NodeId], all: &[Candidate], members: &[Place]) -> bool {
    let place = |node: &NodeId| all.iter().find(|it| it.node == *node).map(|it| it.place);
    let way = |roster: &[NodeId]| {
        let places: Option<Vec<Place>> = roster.iter().map(place).collect();
        let (leader, others) = places.as_deref()?.split_first()?;
        Some(way(leader, others.iter().copied(), roster.len(), members))
    };
    let Some((better, now)) = way(better).zip(way(than)) else { return false };
    better + now.mul_f64(WORTH).max(LEAST) <= now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    /// Nodes on a line, so many milliseconds from one end.
    fn line(at: &[i32]) -> Vec<Candidate> {
        let place = |x: &i32| Place { x: x * 2, y: 0, z: 0, height: 0, error: 5 };
        let node = |number: usize| Identity::new(&[number as u8 + 1; 32]).node();
        at.iter().enumerate().map(|(number, x)| Candidate { node: node(number), place: place(x) }).collect()
    }

    fn places(of: &[Candidate]) -> Vec<Place> {
        of.iter().map(|it| it.place).collect()
    }

    fn nodes(of: &[Candidate], at: &[usize]) -> Vec<NodeId> {
        at.iter().map(|it| of[*it].node).collect()
    }

    #[test]
    fn a_leader_sits_in_the_middle_and_the_others_near_it() {
        let all = line(&[0, 50, 100, 51, 48, 300]);
        assert_eq!(best(&all, 3, &places(&all)), Some(nodes(&all, &[1, 3, 4])));
        assert_eq!(best(&all, 1, &places(&all)).map(|it| it.len()), Some(1));
        assert_eq!(best(&all[..2], 3, &places(&all)), None);
        assert_eq!(best(&all, 0, &places(&all)), None);
    }

    #[test]
    fn a_leader_without_neighbours_is_none() {
        // The middle is 100, where nobody else is: to commit there costs more than it saves.
        let all = line(&[0, 0, 0, 100, 199, 200, 200]);
        assert_eq!(best(&all, 3, &places(&all)).map(|it| it.contains(&all[3].node)), Some(false));
    }

    #[test]
    fn only_what_gains_much_is_worth_an_epoch() {
        let all = line(&[0, 1, 2, 50, 51, 52, 100, 101, 102]);
        let members = places(&all);
        let (far, middle, beside) =
            (nodes(&all, &[0, 1, 2]), nodes(&all, &[4, 3, 5]), nodes(&all, &[3, 4, 5]));
        assert!(is_worth(&middle, &far, &all, &members));
        assert!(!is_worth(&middle, &beside, &all, &members));
        assert!(!is_worth(&far, &middle, &all, &members));
        assert!(!is_worth(&middle, &far, &all[3..], &members), "it is not known where those are");
    }
}
