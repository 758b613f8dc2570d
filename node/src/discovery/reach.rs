//! How the last attempt to reach each node went: what a person is told whose ticket leads nowhere.

use std::collections::HashMap;
use std::error::Error;
use std::io;

use libp2p::PeerId;
use libp2p::swarm::DialError;

/// Nodes whose last attempt is remembered. As the core's `max_candidates`, twice.
const MAX_NODES: usize = 2_048;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered.
    Answered,
    /// Its machine answered that nobody listens there.
    Refused,
    /// Nothing came back.
    TimedOut,
    /// Another node answers there, or there is no way at all.
    Failed,
}

/// The last outcome for each node that was tried.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    last: HashMap<PeerId, Outcome>,
}

impl Reach {
    pub(crate) fn on_connected(&mut self, peer: PeerId) {
        self.note(peer, Outcome::Answered);
    }

    pub(crate) fn on_failed(&mut self, peer: PeerId, error: &DialError) {
        if let Some(outcome) = outcome(error) {
            self.note(peer, outcome);
        }
    }

    /// `None` if no attempt has ended yet.
    pub(crate) fn last(&self, peer: &PeerId) -> Option<Outcome> {
        self.last.get(peer).copied()
    }

    fn note(&mut self, peer: PeerId, outcome: Outcome) {
        if self.last.len() >= MAX_NODES && !self.last.contains_key(&peer) {
            // Any of the others: it is tried again, or of no interest by now.
            let other = self.last.keys().next().copied();
            other.map(|other| self.last.remove(&other));
        }
        self.last.insert(peer, outcome);
    }
}

/// What an error says of the node; `None` if it says nothing of it.
fn outcome(error: &DialError) -> Option<Outcome> {
    match error {
        DialError::Transport(errors) => {
            let texts: Vec<_> = errors.iter().map(|(_, error)| all_texts(error)).collect();
            let any = |words: &[&str]| texts.iter().any(|text| words.iter().any(|word| text.contains(word)));
            Some(if any(&["refused"]) {
                Outcome::Refused
            } else if any(&[
                "timed out",
                "timeout",
                "no route to host",
                "host unreachable",
                "host is unreachable",
            ]) {
                Outcome::TimedOut
            } else {
                Outcome::Failed
            })
        }
        DialError::WrongPeerId { .. } => Some(Outcome::Failed),
        _ => None,
    }
}

/// Transports box what failed below them; what all layers have in common is text.
fn all_texts(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (String::new(), Some(error));
    while let Some(error) = next {
        text.push_str(&error.to_string().to_lowercase());
        text.push_str("; ");
        // An io::Error names the source of what it wraps, not what it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::TransportError;

    fn failed(errors: &[&str]) -> DialError {
        let address: libp2p::Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("an address");
        let error =
            |text: &&str| (address.clone(), TransportError::Other(io::Error::other((*text).to_owned())));
        DialError::Transport(errors.iter().map(error).collect())
    }

    #[test]
    fn refusal_is_told_from_silence() {
        let mut reach = Reach::default();
        let peer = PeerId::random();
        assert_eq!(reach.last(&peer), None);
        for (errors, expected) in [
            (&["Connection refused (os error 111)", "Timeout has been reached"][..], Outcome::Refused),
            (&["Handshake with the remote timed out."], Outcome::TimedOut),
            (&["No route to host (os error 113)"], Outcome::TimedOut),
            (&["Network is unreachable (os error 101)"], Outcome::Failed),
        ] {
            reach.on_failed(peer, &failed(errors));
            assert_eq!(reach.last(&peer), Some(expected), "{errors:?}");
        }
        reach.on_failed(peer, &DialError::Aborted);
        assert_eq!(reach.last(&peer), Some(Outcome::Failed), "that says nothing");
        reach.on_connected(peer);
        assert_eq!(reach.last(&peer), Some(Outcome::Answered));
    }

    #[test]
    fn it_is_bounded() {
        let mut reach = Reach::default();
        (0..MAX_NODES + 9).for_each(|_| reach.on_connected(PeerId::random()));
        assert_eq!(reach.last.len(), MAX_NODES);
    }
}
