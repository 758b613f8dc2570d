//! What happens when, in the span.

use std::time::Duration;

use super::options::Experiment;

/// So long after a kill the message is published by whose delay it is judged.
pub(super) const AFTER_KILL: Duration = Duration::from_millis(20);

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// A source publishes; by its place among the sources.
    Publish(usize),
    /// A source publishes the message that the kill is judged by.
    PublishAfterKill(usize),
    Kill,
    Cut,
    Heal,
    /// One member falls silent and a new one starts.
    Replace,
    Join(usize),
}

/// All that happens, in order.
///
/// Sources publish in turn and at an even pace, the first at once. The first message that is due
/// at or after the kill goes out [`AFTER_KILL`] later than the kill, whenever it would have been
/// due; those that were due in between follow it at once.
pub(super) fn calendar(experiment: &Experiment) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    let killed = experiment.kill.map(|it| it.at);
    acts.extend(killed.map(|at| (at, Act::Kill)));
    let mut judged = false;
    for k in 0..experiment.messages() {
        let due = Duration::from_secs_f64(k as f64 / experiment.rate);
        let source = k % experiment.sources;
        let act = match killed.filter(|at| due >= *at) {
            None => (due, Act::Publish(source)),
            Some(at) if !judged => {
                judged = true;
                (at + AFTER_KILL, Act::PublishAfterKill(source))
            }
            Some(at) => (due.max(at + AFTER_KILL), Act::Publish(source)),
        };
        acts.push(act);
    }
    if let Some(cut) = &experiment.partition {
        acts.extend([(cut.from, Act::Cut), (cut.to, Act::Heal)]);
    }
    acts.extend(experiment.join.map(|it| (it.at, Act::Join(it.count))));
    let replaced = experiment.churn * experiment.nodes as f64;
    for k in 0..(replaced * experiment.span.as_secs_f64()).floor() as usize {
        acts.push((Duration::from_secs_f64((k as f64 + 0.5) / replaced), Act::Replace));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publications(experiment: &Experiment) -> Vec<(u128, Act)> {
        let is_publication = |act: &Act| matches!(act, Act::Publish(_) | Act::PublishAfterKill(_));
        let acts = calendar(experiment).into_iter().filter(|(_, act)| is_publication(act));
        acts.map(|(at, act)| (at.as_millis(), act)).collect()
    }

    #[test]
    fn sources_take_turns_at_an_even_pace() {
        let experiment =
            Experiment { sources: 2, rate: 2.0, span: Duration::from_secs(2), ..Experiment::default() };
        let expected = [(0, 0), (500, 1), (1_000, 0), (1_500, 1)].map(|(at, of)| (at, Act::Publish(of)));
        assert_eq!(publications(&experiment), expected);
    }

    #[test]
    fn a_message_goes_out_twenty_milliseconds_after_the_kill() {
        let base = Experiment { rate: 2.0, span: Duration::from_secs(2), ..Experiment::default() };
        let at_a_message = Experiment { kill: "30@1".parse().ok(), ..base.clone() };
        let judged = Act::PublishAfterKill(0);
        let plain = Act::Publish(0);
        assert_eq!(publications(&at_a_message), [(0, plain), (500, plain), (1_020, judged), (1_500, plain)]);
        let between = Experiment { kill: "30@0.7".parse().ok(), ..base.clone() };
        assert_eq!(publications(&between), [(0, plain), (500, plain), (720, judged), (1_500, plain)]);
        let dense = Experiment { kill: "30@1".parse().ok(), rate: 100.0, ..base };
        let after: Vec<_> = publications(&dense).into_iter().filter(|(at, _)| *at >= 1_000).take(4).collect();
        assert_eq!(after, [(1_020, judged), (1_020, plain), (1_020, plain), (1_030, plain)]);
    }

    #[test]
    fn churn_replaces_its_share_each_second() {
        let experiment = Experiment { nodes: 50, churn: 0.1, ..Experiment::default() };
        let replaced: Vec<_> = calendar(&experiment)
            .into_iter()
            .filter(|(_, act)| *act == Act::Replace)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(replaced.len(), 50 * 3, "10 % of 50, for 30 s");
        assert!(replaced.iter().filter(|at| at.as_secs() == 7).count() == 5);
    }
}
