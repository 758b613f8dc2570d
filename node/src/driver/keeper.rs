//! What the node keeps: the copy in memory, its changes on their way to the store, and what waits
//! until they are there.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use tokio::sync::mpsc::UnboundedReceiver;
use treecast_overlay::io::{HistoryBatch, Write};
use treecast_overlay::{BatchId, GroupId, NodeId, Retention, Token};

use super::Driver;
use super::archive::Archive;
use crate::clock::unix_ms;
use crate::store::{
    Agreement, Contact, Done, JobId, Kept, KeptGroup, KeptNode, MAX_MEMBERS, SaveError, Work, Writer,
};

/// While much is delivered, the history is written so often: each commit writes pages again that all share.
/// Who is told that something is there has it written at once. Guess: what a kill may take comes again.
const FILE_EVERY: Duration = Duration::from_millis(50);

/// What is done once it is known whether something was saved.
pub(crate) type Then = Box<dyn FnOnce(&mut Driver, Result<(), SaveError>) + Send>;

/// What waits for a job.
pub(super) enum After {
    /// The core, for its own writes; and what of the history went with them.
    Core(Token, Vec<Write>, Vec<Work>),
    /// Only the history.
    History(Vec<Work>),
    /// The next save tries these again if it failed.
    Peers(Vec<NodeId>),
    Members(GroupId),
    /// Whoever asked.
    Then(Then),
}

/// Owns what the node remembers.
pub(super) struct Keeper {
    kept: Kept,
    /// Gone once the node ends.
    writer: Option<Writer>,
    done: UnboundedReceiver<Vec<Done>>,
    waiting: HashMap<JobId, After>,
    /// What was delivered, on its way to the store.
    pub(super) archive: Archive,
    /// Some of it is being written.
    is_filing: bool,
    /// When some of it was given to the store last.
    filed: Option<Instant>,
    /// Peers and groups' members that the next save writes.
    changed_peers: BTreeSet<NodeId>,
    changed_members: BTreeSet<GroupId>,
    /// Groups whose members are not on disk as they are here.
    unsaved_members: BTreeSet<GroupId>,
    failure: Option<SaveError>,
    /// History that was not written waits, or is tried again by this job.
    lacks: Lacks,
}

/// Where history is that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Nothing,
    Waiting,
    Under(JobId),
}

impl Keeper {
    pub(super) fn new(
        kept: Kept,
        archive: Archive,
        writer: Writer,
        done: UnboundedReceiver<Vec<Done>>,
    ) -> Self {
        Self {
            kept,
            writer: Some(writer),
            done,
            waiting: HashMap::new(),
            archive,
            is_filing: false,
            filed: None,
            changed_peers: BTreeSet::new(),
            changed_members: BTreeSet::new(),
            unsaved_members: BTreeSet::new(),
            failure: None,
            lacks: Lacks::Nothing,
        }
    }

    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Why what should have been saved is not, if that is how it is.
    pub(super) fn failure(&self) -> Option<&SaveError> {
        self.failure.as_ref()
    }

    /// Jobs that the store has not answered.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn submit(&mut self, works: Vec<Work>, after: After) {
        if let Some(writer) = &mut self.writer {
            let takes_history = matches!(&after, After::History(_) | After::Core(..));
            let job = writer.submit(works);
            if takes_history && self.lacks == Lacks::Waiting {
                self.lacks = Lacks::Under(job);
            }
            self.waiting.insert(job, after);
        }
    }

    /// Changes what is remembered of the node itself.
    pub(super) fn change_node(&mut self, change: impl FnOnce(&mut KeptNode), then: Then) {
        change(&mut self.kept.node);
        self.submit(vec![Work::Node(self.kept.node.clone())], After::Then(then));
    }

    /// Writes what is known of files.
    pub(super) fn write_files(&mut self, works: Vec<Work>, then: Then) {
        self.submit(works, After::Then(then));
    }

    /// Keeps a group, or what has changed of it.
    pub(super) fn keep(&mut self, group: KeptGroup, then: Then) {
        match self.kept.group_mut(group.descriptor.id()) {
            Some(known) => known.clone_from(&group),
            None => self.kept.groups.push(group.clone()),
        }
        self.submit(vec![Work::Keep(Box::new(group))], After::Then(then));
    }

    /// A group that was not saved is not kept.
    pub(super) fn drop_group(&mut self, id: GroupId) {
        self.kept.groups.retain(|group| group.descriptor.id() != id);
        self.changed_members.remove(&id);
        self.unsaved_members.remove(&id);
    }

    /// The group is left.
    pub(super) fn forget(&mut self, id: GroupId, then: Then) {
        self.drop_group(id);
        self.archive.forget(id);
        self.submit(vec![Work::Forget(id)], After::Then(then));
    }

    /// Where a node was reached.
    pub(super) fn remember(&mut self, node: NodeId, addresses: Vec<Multiaddr>) {
        if self.kept.remember_peer(Contact { node, addresses }) {
            self.changed_peers.insert(node);
        }
    }

    /// The members of a kept group have changed: the next save writes them.
    pub(super) fn touch_members(&mut self, group: GroupId) {
        if self.kept.group_mut(group).is_some() {
            self.changed_members.insert(group);
        }
    }

    /// As if the members of all groups had changed: addresses change without a word.
    pub(super) fn touch_all(&mut self) {
        self.changed_members.extend(self.kept.groups.iter().map(|group| group.descriptor.id()));
    }

    /// The groups whose members are to be looked at.
    pub(super) fn take_touched(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.changed_members)
    }

    /// Who is in a group and where, most useful first. What was known of others stays as long as
    /// there is room, but for those who left.
    pub(super) fn learn_members(&mut self, group: GroupId, now: Vec<Contact>, left: &[NodeId]) {
        let Some(kept) = self.kept.group_mut(group) else { return };
        let mut members = now;
        for old in &kept.members {
            if !left.contains(&old.node) && !members.iter().any(|it| it.node == old.node) {
                members.push(old.clone());
            }
        }
        members.truncate(MAX_MEMBERS);
        let is_saved = !self.unsaved_members.remove(&group);
        if !is_saved || !same_contacts(&kept.members, &members) {
            kept.members.clone_from(&members);
            self.submit(vec![Work::Members { group, members }], After::Members(group));
        }
    }

    /// The next save tries again.
    pub(super) fn retry_members(&mut self, group: GroupId) {
        self.unsaved_members.insert(group);
        self.touch_members(group);
    }

    /// Writes what the core waits for, after what was delivered before. Where own batches stand in the
    /// history.
    pub(super) fn write(
        &mut self,
        token: Token,
        writes: Vec<Write>,
        nick: &Arc<str>,
    ) -> Vec<(GroupId, BatchId, u64)> {
        let history = self.archive.take();
        let (mut works, mut places, now) = (history.clone(), Vec::new(), unix_ms());
        for write in &writes {
            match write {
                Write::Life { group, life } => works.push(Work::Life { group: *group, life: *life }),
                Write::Batch { group, id, bytes, digest, messages, payload } => {
                    let (bytes, digest, messages, payload) = (bytes.clone(), *digest, *messages, *payload);
                    let batch = HistoryBatch { id: *id, bytes, digest, messages, payload };
                    let kept = self.archive.keep(*group, nick.clone(), now, batch);
                    places.push((*group, *id, kept.at));
                    works.push(Work::Own { group: *group, batch: Box::new(kept) });
                }
                Write::Earlier(keep) => works.push(Work::Earlier { keep: keep.clone(), now_ms: now }),
                Write::Removal { group, node, record } => {
                    works.push(Work::Removal { group: *group, node: *node, record: record.clone() });
                }
                write => works.extend(agreement(write).map(|it| Work::Agreement(Box::new(it)))),
            }
        }
        self.submit(works, After::Core(token, writes, history));
        places
    }

    /// What the core may send by now.
    pub(super) fn on_core_written(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Batch { group, id, digest, .. } => self.archive.on_own(*group, *id, *digest),
                Write::Earlier(keep) => self.archive.on_earlier(keep),
                Write::Removal { group, node, record } => self.archive.on_removal(*group, *node, record),
                write => agreement(write).iter().for_each(|it| self.archive.on_agreement(it)),
            }
        }
    }

    /// How much of a group is to be kept at least.
    pub(super) fn retain(&mut self, group: GroupId, retention: Retention) {
        self.submit(vec![Work::Retain { group, retention }], After::Peers(Vec::new()));
    }

    /// Writes what was delivered: all that has gathered while the last was being written. After a
    /// failure only now and then.
    pub(super) fn file(&mut self, anew: bool) {
        if self.is_filing || self.archive.is_empty() || (self.failure.is_some() && !anew) {
            return;
        }
        let now = Instant::now();
        if !anew && self.filing_due().is_some_and(|due| due > now) {
            return;
        }
        (self.is_filing, self.filed) = (true, Some(now));
        let works = self.archive.take();
        self.submit(works.clone(), After::History(works));
    }

    /// When what waits is to be given to the store, if it could be.
    fn filing_due(&self) -> Option<Instant> {
        let may_file = !self.is_filing && !self.archive.is_empty() && self.failure.is_none();
        self.filed.filter(|_| may_file).map(|at| at + FILE_EVERY)
    }

    /// It was written, or was not.
    pub(super) fn on_filed(&mut self, works: Vec<Work>, is_saved: bool) {
        self.is_filing = false;
        if !is_saved {
            self.put_back(works);
        }
    }

    /// It was not written: it is tried again.
    pub(super) fn put_back(&mut self, works: Vec<Work>) {
        if !works.is_empty() {
            self.archive.put_back(works);
            self.lacks = Lacks::Waiting;
        }
    }

    /// Does something once all that was delivered by now is written, or is not.
    pub(super) fn flush(&mut self, then: Then) {
        let works = self.archive.take();
        self.submit(works.clone(), After::History(works));
        self.submit(Vec::new(), After::Then(then));
    }

    /// Saves what may as well be lost.
    pub(super) fn save(&mut self) {
        let seen_ms = unix_ms();
        let nodes: Vec<NodeId> = std::mem::take(&mut self.changed_peers).into_iter().collect();
        let peers = self.kept.peers.iter().filter(|peer| nodes.contains(&peer.node));
        // The latest is written last: it is the latest in the store as well.
        let works: Vec<Work> =
            peers.rev().map(|peer| Work::Peer { contact: peer.clone(), seen_ms }).collect();
        if !works.is_empty() {
            self.submit(works, After::Peers(nodes));
        }
    }

    /// Waits for the store's next answers (forever, if none will come); or, without any, until history is to
    /// be [filed](Self::file). May be dropped.
    pub(super) async fn saved(&mut self) -> Vec<Done> {
        let due = self.filing_due();
        let due_in = due.map_or(FILE_EVERY, |due| due.saturating_duration_since(Instant::now()));
        tokio::select! {
            done = self.done.recv() => match done {
                Some(done) => done,
                None if !self.waiting.is_empty() => self.fail_all(),
                None => pending().await,
            },
            () = tokio::time::sleep(due_in), if due.is_some() => Vec::new(),
        }
    }

    fn fail_all(&self) -> Vec<Done> {
        self.waiting.keys().map(|job| Done { job: *job, result: Err(SaveError::gone()) }).collect()
    }

    /// What waits for this job.
    pub(super) fn take(&mut self, done: &Done) -> Option<After> {
        if self.lacks == Lacks::Under(done.job) {
            self.lacks = Lacks::Nothing;
        }
        if let (Err(_), Some(writer)) = (&done.result, &mut self.writer) {
            writer.on_failed();
        }
        match (&done.result, &self.failure) {
            // Something small may fit where what is lacking did not.
            (Ok(()), Some(_)) if self.lacks != Lacks::Nothing => {}
            (Ok(()), Some(_)) => {
                tracing::info!("the store can be written again");
                self.failure = None;
            }
            (Err(error), None) => {
                tracing::error!(%error, "what should be remembered is not saved");
                self.failure = Some(error.clone());
            }
            (Err(error), Some(_)) => tracing::debug!(%error, "not saved"),
            (Ok(()), None) => {}
        }
        let after = self.waiting.remove(&done.job);
        if let Some(After::Core(_, _, works) | After::History(works)) = &after {
            self.archive.on_answered(works);
        }
        after
    }

    pub(super) fn retry_peers(&mut self, nodes: Vec<NodeId>) {
        self.changed_peers.extend(nodes);
    }

    /// Writes what is left, and waits until all is answered and the store is closed.
    pub(super) async fn finish(&mut self) -> Vec<Done> {
        self.save();
        let works = self.archive.take();
        self.submit(works.clone(), After::History(works));
        self.writer = None;
        let mut all = Vec::new();
        while let Some(done) = self.done.recv().await {
            all.extend(done);
        }
        all
    }
}

fn agreement(write: &Write) -> Option<Agreement> {
    let Write::Agreement { group, epoch, vows, from, entries, compacted } = write else { return None };
    let (vows, entries) = (vows.clone(), entries.clone());
    Some(Agreement { group: *group, epoch: *epoch, vows, from: *from, entries, compacted: *compacted })
}

/// Their order changes with every round trip: that alone is not worth a write.
fn same_contacts(one: &[Contact], two: &[Contact]) -> bool {
    one.len() == two.len() && one.iter().all(|contact| two.contains(contact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;
    use crate::store::Store;
    use std::path::Path;
    use treecast_overlay::{Digest, PastLife};

    const ME: NodeId = NodeId::from_bytes([2; 32]);

    fn keeper(dir: &Path) -> Keeper {
        serving(Store::open(dir, 1).expect("a good store"))
    }

    fn serving((store, kept): (Store, Kept)) -> Keeper {
        let (pasts, next_at) = store.history(&ME).expect("it can be read");
        let archive = Archive::new(ME, pasts, &kept.ends(), next_at);
        let (writer, done) = store.serve(ME).expect("a thread");
        Keeper::new(kept, archive, writer, done)
    }

    fn group() -> GroupId {
        GroupId::from_bytes([1; 32])
    }

    fn life(life: u64) -> Vec<Write> {
        vec![Write::Life { group: group(), life }]
    }

    fn batch(life: u64, seq: u64) -> Vec<Write> {
        let id = BatchId { source: ME, life, seq };
        let (bytes, digest) = (bytes::Bytes::from_static(b"a batch"), Digest::from_bytes([seq as u8; 20]));
        vec![Write::Batch { group: group(), id, bytes, digest, messages: 1, payload: 7 }]
    }

    fn write(keeper: &mut Keeper, token: u64, writes: Vec<Write>) {
        keeper.write(Token(token), writes, &"ada".into());
    }

    /// Tokens that are answered, and how.
    async fn answers(keeper: &mut Keeper, count: usize) -> Vec<(Token, bool)> {
        let mut answers = Vec::new();
        while answers.len() < count {
            for done in keeper.saved().await {
                if let Some(After::Core(token, writes, history)) = keeper.take(&done) {
                    answers.push((token, done.result.is_ok()));
                    if done.result.is_ok() {
                        keeper.on_core_written(&writes);
                    } else {
                        keeper.put_back(history);
                    }
                }
            }
        }
        answers
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_on_disk_and_the_end_of_its_life() {
        let scratch = Scratch::new();
        let mut keeper = keeper(scratch.path());
        write(&mut keeper, 1, [life(9), batch(9, 0)].concat());
        write(&mut keeper, 2, batch(9, 1));
        assert_eq!(answers(&mut keeper, 2).await, [(Token(1), true), (Token(2), true)]);
        // As it is on disk now, whatever happens to this process.
        let (store, kept) = Store::open(scratch.path(), 2).expect("opens beside");
        let end = PastLife { group: group(), life: 9, end: 2, digest: Digest::from_bytes([1; 20]) };
        assert_eq!((kept.last_life(), kept.ends()), (9, vec![end]));
        let (pasts, next_at) = store.history(&ME).expect("read");
        let lives = &pasts[0].sources[0].lives;
        assert_eq!((lives[0].next, lives[0].owed, next_at), (2, Some(0), 3), "nobody has it yet");
        assert_eq!(keeper.archive.past(group()).expect("there").sources[0].lives, *lives);
        write(&mut keeper, 3, life(10));
        answers(&mut keeper, 1).await;
        assert!(Store::open(scratch.path(), 3).expect("opens").1.ends().is_empty(), "a life without a batch");
    }

    #[tokio::test]
    async fn a_failed_write_is_told_and_its_batch_is_no_end() {
        let scratch = Scratch::new();
        let opened = Store::open(scratch.path(), 1).expect("a good store");
        opened.0.refuse_writes();
        let mut keeper = serving(opened);
        let heard = treecast_overlay::io::Record {
            group: group(),
            entered: true,
            batches: Vec::new(),
            sources: Vec::new(),
            causes: None,
            order: None,
        };
        keeper.archive.record(heard, 1, |_| "".into());
        write(&mut keeper, 1, [life(9), batch(9, 0)].concat());
        assert_eq!(answers(&mut keeper, 1).await, [(Token(1), false)]);
        assert!(keeper.failure().is_some_and(|error| error.to_string().contains("read-only")));
        let past = keeper.archive.past(group()).expect("there");
        assert!(past.end.is_none() && past.sources.is_empty());
        assert!(!keeper.archive.is_empty(), "what was delivered before waits to be tried again");
        // Something smaller fits: that does not bring back what is lacking.
        keeper.submit(Vec::new(), After::Peers(Vec::new()));
        for done in keeper.saved().await {
            keeper.take(&Done { job: done.job, result: Ok(()) });
        }
        assert!(keeper.failure().is_some());
        keeper.file(true);
        for done in keeper.saved().await {
            keeper.take(&Done { job: done.job, result: Ok(()) });
        }
        assert!(keeper.failure().is_none(), "what was lacking is there");
    }

    /// What a member of a committee promises rests on what was delivered before.
    #[tokio::test]
    async fn no_promise_is_kept_without_what_it_rests_on() {
        let scratch = Scratch::new();
        let (store, _) = Store::open(scratch.path(), 1).expect("a good store");
        let (mut writer, mut done) = store.serve(ME).expect("a thread");
        let promise = |epoch| {
            let agreement = Agreement {
                group: group(),
                epoch,
                vows: bytes::Bytes::from_static(b"vow"),
                from: 0,
                entries: Vec::new(),
                compacted: 0,
            };
            vec![Work::Agreement(Box::new(agreement))]
        };
        // Nobody can be called by two names.
        let id = treecast_overlay::Descriptor::open("lobby").expect("a good name");
        let other = treecast_overlay::Descriptor::open("garden").expect("a good name");
        let keep = |descriptor: &treecast_overlay::Descriptor| {
            let (label, descriptor) = ("lobby".into(), descriptor.clone());
            vec![Work::Keep(Box::new(KeptGroup { label, descriptor, joined_ms: 1, members: Vec::new() }))]
        };
        let jobs = [keep(&id), keep(&other), promise(1), promise(2)];
        let jobs: Vec<JobId> = jobs.into_iter().map(|works| writer.submit(works)).collect();
        let mut results = Vec::new();
        while results.len() < jobs.len() {
            results.extend(done.recv().await.expect("answers"));
        }
        assert_eq!(
            results.iter().map(|it| it.result.is_ok()).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        (0..3).for_each(|_| writer.on_failed());
        writer.submit(promise(3));
        assert!(done.recv().await.expect("answers")[0].result.is_ok(), "it brings along what was lacking");
    }

    #[tokio::test]
    async fn members_that_could_not_be_saved_are_written_again() {
        let scratch = Scratch::new();
        let mut keeper = keeper(scratch.path());
        let descriptor = treecast_overlay::Descriptor::open("lobby").expect("a good name");
        let id = descriptor.id();
        let lobby = KeptGroup { label: "lobby".into(), descriptor, joined_ms: 1, members: Vec::new() };
        keeper.keep(lobby, Box::new(|_, _| {}));
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("an address");
        let there = vec![Contact { node: NodeId::from_bytes([1; 32]), addresses: vec![address] }];
        keeper.learn_members(id, there.clone(), &[]);
        assert_eq!(keeper.waiting.len(), 2);
        keeper.retry_members(id);
        assert_eq!(keeper.take_touched(), BTreeSet::from([id]));
        keeper.learn_members(id, there.clone(), &[]);
        assert_eq!(keeper.waiting.len(), 3, "though nothing is new");
        keeper.learn_members(id, there, &[]);
        assert_eq!(keeper.waiting.len(), 3);
    }

    #[tokio::test]
    async fn who_is_remembered_is_saved_once_and_latest_first() {
        let scratch = Scratch::new();
        let mut first = keeper(scratch.path());
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("an address");
        for node in [3, 1, 2] {
            first.remember(NodeId::from_bytes([node; 32]), vec![address.clone()]);
        }
        first.save();
        first.save();
        assert_eq!(first.waiting.len(), 1);
        first.finish().await;
        let kept = keeper(scratch.path()).kept().clone();
        let nodes: Vec<u8> = kept.peers.iter().map(|it| it.node.as_bytes()[0]).collect();
        assert_eq!(nodes, [2, 1, 3]);
    }

    #[tokio::test]
    async fn members_that_left_are_forgotten_and_others_stay() {
        let scratch = Scratch::new();
        let mut keeper = keeper(scratch.path());
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().expect("an address");
        let contact =
            |node: u8| Contact { node: NodeId::from_bytes([node; 32]), addresses: vec![address.clone()] };
        let descriptor = treecast_overlay::Descriptor::open("lobby").expect("a good name");
        let (id, members) = (descriptor.id(), vec![contact(1), contact(2)]);
        let lobby = KeptGroup { label: "lobby".into(), descriptor, joined_ms: 1, members };
        keeper.keep(lobby, Box::new(|_, _| {}));
        keeper.learn_members(id, vec![contact(3)], &[NodeId::from_bytes([2; 32])]);
        assert_eq!(keeper.kept().groups[0].members, [contact(3), contact(1)]);
        keeper.learn_members(id, vec![contact(1), contact(3)], &[]);
        assert_eq!(keeper.waiting.len(), 2, "nothing new");
        keeper.finish().await;
        let (_, kept) = Store::open(scratch.path(), 2).expect("opens");
        assert_eq!(kept.groups[0].members.len(), 2);
    }
}
