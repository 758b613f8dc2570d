//! What a peer calls its groups on a link, and which of ours they are.

use super::Tag;
use crate::id::GroupId;
use crate::wire::frame::Channel;

#[derive(Debug)]
struct Told {
    channel: Channel,
    tag: Tag,
    /// The group of ours that it is.
    group: Option<GroupId>,
}

/// The channels that one peer opened.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Ascending: mostly one.
    told: Vec<Told>,
    /// How many of them are groups of ours: asked of every link again and again.
    known: usize,
}

impl Channels {
    fn at(&self, channel: Channel) -> Result<usize, usize> {
        self.told.binary_search_by_key(&channel, |it| it.channel)
    }

    /// The peer opened one; `Err` when there are too many.
    pub(super) fn open(&mut self, channel: Channel, tag: Tag, cap: usize) -> Result<(), ()> {
        let told = Told { channel, tag, group: None };
        match self.at(channel) {
            Ok(at) => {
                let before = std::mem::replace(&mut self.told[at], told);
                self.known -= usize::from(before.group.is_some());
            }
            Err(_) if self.told.len() >= cap => return Err(()),
            Err(at) => self.told.insert(at, told),
        }
        Ok(())
    }

    /// The peer closed one; names the group it was.
    pub(super) fn close(&mut self, channel: Channel) -> Option<GroupId> {
        let at = self.at(channel).ok()?;
        let group = self.told.remove(at).group;
        self.known -= usize::from(group.is_some());
        group
    }

    /// Finds the group by its tag; how many channels that is.
    pub(super) fn recognise(&mut self, tag: &Tag, group: &GroupId) -> usize {
        let mut times = 0;
        for it in self.told.iter_mut().filter(|it| it.group.is_none() && it.tag == *tag) {
            it.group = Some(*group);
            times += 1;
        }
        self.known += times;
        times
    }

    /// It is no group of ours any more.
    pub(super) fn forget(&mut self, group: &GroupId) {
        for it in self.told.iter_mut().filter(|it| it.group.as_ref() == Some(group)) {
            it.group = None;
            self.known -= 1;
        }
    }

    /// The group is no matter between us and this peer any more, until it opens a channel anew.
    pub(super) fn drop_group(&mut self, group: &GroupId) {
        let before = self.told.len();
        self.told.retain(|it| it.group.as_ref() != Some(group));
        self.known -= before - self.told.len();
    }

    pub(super) fn group(&self, channel: Channel) -> Option<GroupId> {
        self.at(channel).ok().and_then(|at| self.told[at].group)
    }

    pub(super) fn has(&self, group: &GroupId) -> bool {
        self.told.iter().any(|it| it.group.as_ref() == Some(group))
    }

    pub(super) fn any_known(&self) -> bool {
        self.known > 0
    }

    pub(super) fn all_known(&self) -> bool {
        self.known == self.told.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_counted_through_all_changes() {
        let [a, b] = [1, 2].map(|it| GroupId::from_bytes([it; 32]));
        let mut channels = Channels::default();
        assert!(channels.all_known() && !channels.any_known());
        channels.open(2, [2; 16], 2).expect("the first");
        channels.open(1, [1; 16], 2).expect("the second");
        assert_eq!(channels.open(3, [3; 16], 2), Err(()));
        assert_eq!((channels.recognise(&[1; 16], &a), channels.recognise(&[1; 16], &a)), (1, 0));
        assert!(channels.any_known() && !channels.all_known() && channels.has(&a));
        assert_eq!((channels.group(1), channels.group(2), channels.group(3)), (Some(a), None, None));
        assert_eq!(channels.recognise(&[2; 16], &b), 1);
        assert!(channels.all_known());
        channels.open(1, [1; 16], 2).expect("anew");
        channels.forget(&b);
        assert!(!channels.any_known());
        assert_eq!(channels.recognise(&[1; 16], &a), 1);
        assert_eq!((channels.close(1), channels.close(1), channels.close(2)), (Some(a), None, None));
        assert!(channels.all_known() && !channels.any_known());
    }
}
