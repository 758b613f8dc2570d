//! Uniform total order: "if any process, correct or faulty, delivers m before m', every process delivers m' only
//! after it has delivered m" (Défago, Schiper, Urbán 2004, §2.2: uniform total order). Here stronger: every message
//! has one place, every place one message, whoever is told of it, whether it lives on or not, and on every disk.

use std::collections::BTreeMap;

use super::{Violation, violation};
use crate::oracle::{Delivered, Fact, History, Key};

/// # Errors
/// The first place that has two messages, or message that has two places.
pub fn check(history: &History) -> Result<(), Violation> {
    let (mut places, mut messages) = (BTreeMap::new(), BTreeMap::new());
    for entry in &history.entries {
        if let Fact::Ordered(index, it) = entry.fact {
            place(&mut places, &mut messages, index, it).map_err(|wrong| format!("{wrong}: {entry:?}"))?;
        }
    }
    let kept = history.order.resumed.values().chain(history.order.disks.values());
    for (index, it) in kept.flat_map(|it| &it.places) {
        place(&mut places, &mut messages, *index, *it).map_err(|wrong| format!("on a disk: {wrong}"))?;
    }
    Ok(())
}

fn place(
    places: &mut BTreeMap<u64, Delivered>,
    messages: &mut BTreeMap<Key, u64>,
    index: u64,
    it: Delivered,
) -> Result<(), Violation> {
    let Some(key) = it.key else { violation!("an altered message at {index}: {it:?}") };
    let first = *places.entry(index).or_insert(it);
    if first != it {
        violation!("{it:?} is at {index}, where {first:?} is elsewhere");
    }
    let other = *messages.entry(key).or_insert(index);
    if other != index {
        violation!("{key:?} is at {index} and at {other}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bad_history::{Tale, delivered};
    use super::*;

    #[test]
    fn each_breach_is_seen() {
        let tale = || Tale::default().orders(0, 0, delivered(0, 0)).orders(0, 1, delivered(1, 0));
        let same = tale().orders(1, 0, delivered(0, 0)).orders(1, 1, delivered(1, 0));
        assert_eq!(check(&same.told()), Ok(()));
        let swapped = tale().orders(1, 0, delivered(1, 0)).orders(1, 1, delivered(0, 0));
        assert!(check(&swapped.told()).is_err());
        assert!(check(&tale().orders(1, 2, delivered(0, 0)).told()).is_err(), "twice");
        let other_batch = Delivered { life: 9, ..delivered(0, 0) };
        assert!(check(&tale().orders(1, 0, other_batch).told()).is_err());
        assert!(check(&tale().has_order(1, 0, vec![delivered(1, 0)]).told()).is_err(), "on a disk");
        let dead = tale().dies(0).orders(1, 0, delivered(1, 0));
        assert!(check(&dead.told()).is_err(), "whoever was told is dead");
    }
}
