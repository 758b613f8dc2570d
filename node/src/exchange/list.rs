//! Listing: what was announced, who has it, who had it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use treecast_overlay::files::wire::Held;
use treecast_overlay::files::{Ending, FileHash, Geometry, Offer};
use treecast_overlay::{GroupId, NodeId};

use super::api::{FileInfo, FormerHolder, Holder};
use super::find::{self, Known, Shape};
use super::{Exchange, lock};
use crate::driver::files::Fellow;
use crate::error::{GetError, HistoryError};
use crate::handle::Node;
use crate::history::look_up;
use crate::store::KnownOffer;

/// Members of a group that are asked what they have.
const ASKED: usize = 64;

/// What a member said that it has.
type Answer<'a> = (&'a Fellow, HashMap<FileHash, Held>);

impl Node {
    /// The files that were announced in a group, or in all, oldest first; each once a group and name. Members that can
    /// be reached are asked what they have. What its announcer has withdrawn is listed while somebody has it.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn files(&self, group: Option<&str>) -> Result<Vec<FileInfo>, HistoryError> {
        let (mut known, exchange) = (self.known_files(group).await?, &self.exchange);
        let mut groups: HashMap<GroupId, Vec<usize>> = HashMap::new();
        for (at, it) in known.iter().enumerate() {
            groups.entry(it.group).or_default().push(at);
        }
        let here = exchange.pieces_here(&known).await;
        let mut seen = Vec::new();
        let me = Holder { node: self.id, nick: self.nick().await? };
        for (group, places) in groups {
            let fellows = self.ask(move |driver| driver.fellows(group)).await?;
            let online = fellows.iter().filter(|it| it.is_here).take(ASKED);
            let asked = online.map(async |it| {
                let held = exchange.query(group, it.node).await;
                (it, held.into_iter().map(|held| (held.hash, held)).collect())
            });
            let answers: Vec<Answer<'_>> = futures::future::join_all(asked).await;
            for at in places {
                let info = &mut known[at].info;
                let pieces = here.get(&info.offer.hash).filter(|_| info.path.is_some());
                spread(info, pieces.map(|pieces| (&me, *pieces)), &answers);
                info.members = fellows.len() + 1;
                let others = info.holders.iter().filter(|it| it.node != self.id);
                seen.extend(others.map(|it| (info.offer.hash, it.node)));
            }
        }
        exchange.saw_holders(seen);
        let is_listed = |it: &FileInfo| !it.is_withdrawn() || !it.holders.is_empty() || it.held > 0;
        Ok(known.into_iter().map(|it| it.info).filter(is_listed).collect())
    }

    /// What was announced, without asking anybody.
    pub(super) async fn known_files(&self, group: Option<&str>) -> Result<Vec<Known>, HistoryError> {
        let group = group.map(str::to_owned);
        let catalogue = self.ask_for(move |driver, reply| driver.shelf(group.as_deref(), reply)).await?;
        let only = catalogue.only;
        let offers = look_up(&catalogue.library, move |shelf| shelf.offers(only)).await?;
        let mut former: HashMap<(GroupId, FileHash), Vec<FormerHolder>> = HashMap::new();
        for it in &offers {
            let Some(ending) = it.ending else { continue };
            let all = former.entry((it.group, it.offer.hash)).or_default();
            if !all.iter().any(|known| known.node == it.source) {
                all.push(FormerHolder { node: it.source, nick: it.nick.clone(), ending });
            }
        }
        let (mut infos, mut places) = (Vec::new(), HashMap::new());
        for it in offers {
            let Some((label, _)) = catalogue.groups.get(&it.group) else { continue };
            let former = former.get(&(it.group, it.offer.hash)).cloned().unwrap_or_default();
            add(&mut infos, &mut places, it, label, former);
        }
        let mut known: Vec<Known> = infos.into_iter().flatten().collect();
        let pieces = self.exchange.pieces_here(&known).await;
        for Known { info, .. } in &mut known {
            let Offer { hash, size, manifest, .. } = info.offer;
            let held = lock(&self.exchange.held).get(&hash).cloned();
            // What another announced as something else is not here.
            let Some(held) = held.filter(|it| (it.size, it.manifest) == (size, manifest)) else { continue };
            let count = pieces.get(&hash).copied().unwrap_or(0);
            info.held = (u64::from(count) * Geometry::new(size).piece_len()).min(size);
            (info.ending, info.path) = (held.ending, Some(held.path));
        }
        self.count_what_came(&mut known).await;
        Ok(known)
    }

    /// What came of files that nobody has read since the start is counted by their logs.
    async fn count_what_came(&self, known: &mut [Known]) {
        let is_partial = |hash: &FileHash| {
            lock(&self.exchange.held).get(hash).is_some_and(|it| !it.whole)
                && !lock(&self.exchange.loaded).contains_key(hash)
        };
        let here = known.iter().filter(|it| it.info.path.is_some()).map(|it| it.info.offer.hash);
        let unread = here.filter(is_partial).collect::<Vec<_>>();
        if unread.is_empty() {
            return;
        }
        let desk = self.exchange.desk.clone();
        let count =
            move || unread.into_iter().map(|hash| (hash, desk.logged(hash))).collect::<HashMap<_, _>>();
        let Ok(counts) = tokio::task::spawn_blocking(count).await else { return };
        for info in known.iter_mut().map(|it| &mut it.info).filter(|it| it.path.is_some()) {
            if let Some(pieces) = counts.get(&info.offer.hash) {
                let geometry = Geometry::new(info.offer.size);
                let pieces = pieces.range(..geometry.pieces());
                info.held = pieces.map(|piece| geometry.len(*piece) as u64).sum();
            }
        }
    }

    /// What is meant by a name, a hash or the beginning of one.
    pub(super) async fn find_file(&self, what: &str) -> Result<(GroupId, FileInfo), GetError> {
        let known = self.known_files(None).await?;
        let shape = |hash: FileHash| -> Option<Shape> {
            let held = lock(&self.exchange.held);
            held.get(&hash).filter(|it| it.whole).map(|it| (it.size, it.manifest))
        };
        find::find(&known, what, shape)
    }
}

impl Exchange {
    /// Pieces of files that lie here, as far as that is known without reading them.
    async fn pieces_here(self: &Arc<Self>, known: &[Known]) -> HashMap<FileHash, u32> {
        let hashes: HashSet<FileHash> = {
            let held = lock(&self.held);
            known.iter().map(|it| it.info.offer.hash).filter(|hash| held.contains_key(hash)).collect()
        };
        if hashes.is_empty() {
            return HashMap::new();
        }
        let exchange = self.clone();
        let look = move || {
            let pieces = |hash| exchange.pieces_of(hash).map(|pieces| (hash, pieces));
            hashes.into_iter().filter_map(pieces).collect()
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

/// Where an announcement stands in the list: another of the same is no other file.
type Places = HashMap<(GroupId, FileHash, String, Shape), usize>;

/// Takes an announcement into the list, in place of those of the same before it.
fn add(
    infos: &mut Vec<Option<Known>>,
    places: &mut Places,
    it: KnownOffer,
    label: &str,
    former: Vec<FormerHolder>,
) {
    let KnownOffer { group, source, nick, kept_ms, offer, mut first, ending } = it;
    let key = (group, offer.hash, offer.name.clone(), (offer.size, offer.manifest));
    if let Some(before) = places.get(&key).and_then(|at| infos.get_mut(*at))
        && let Some(known) = before
    {
        first = first.min(known.first);
        if ending.is_some() && !known.info.has_ended() {
            known.first = first;
            return;
        }
        *before = None;
    }
    let info = FileInfo {
        offer,
        group: label.to_owned(),
        source,
        nick,
        since_ms: kept_ms,
        held: 0,
        ending: None,
        path: None,
        holders: Vec::new(),
        former,
        members: 0,
    };
    places.insert(key, infos.len());
    infos.push(Some(Known { group, first, info }));
}

/// Who has a file, and who had it, by what they say. This node has so many pieces of it, if any.
fn spread(info: &mut FileInfo, own: Option<(&Holder, u32)>, answers: &[Answer<'_>]) {
    let (hash, all) = (info.offer.hash, Geometry::new(info.offer.size).pieces());
    info.holders = own.filter(|(_, pieces)| *pieces == all).map(|(me, _)| me.clone()).into_iter().collect();
    for (fellow, held) in answers {
        let Some(held) = held.get(&hash) else { continue };
        let (node, nick) = (fellow.node, fellow.nick.clone());
        match held.ending {
            None if held.pieces == all => info.holders.push(Holder { node, nick }),
            None => {}
            Some(ending) => {
                info.former.retain(|it| it.node != node);
                info.former.push(FormerHolder { node, nick, ending });
            }
        }
    }
    // Whoever has it again has not told so yet, or told it in another group.
    info.former.retain(|it| !info.holders.iter().any(|holder| holder.node == it.node));
}

impl FileInfo {
    /// What its announcer has said of it since, if it is not to be had there any more.
    fn word(&self) -> Option<Ending> {
        self.former.iter().find(|it| it.node == self.source).map(|it| it.ending)
    }

    fn has_ended(&self) -> bool {
        self.word().is_some()
    }

    /// Whether its announcer has withdrawn it.
    pub fn is_withdrawn(&self) -> bool {
        self.word() == Some(Ending::Withdrawn)
    }

    /// What a node that had it calls itself, as far as that is known here.
    pub(super) fn nick_of_former(&self, node: NodeId) -> Option<&str> {
        let known = self.former.iter().find(|it| it.node == node).map(|it| it.nick.as_str());
        known.filter(|nick| !nick.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_announcement_of_the_same_is_no_other_file_and_one_of_another_size_is() {
        let group = GroupId::from_bytes([1; 32]);
        let told = |source: u8, size: u64, first: i64, ending: Option<Ending>| KnownOffer {
            group,
            source: NodeId::from_bytes([source; 32]),
            nick: String::new(),
            kept_ms: 0,
            offer: Offer { hash: FileHash::from_bytes([7; 32]), name: "it".to_owned(), size, manifest: None },
            first,
            ending,
        };
        let listed = |all: &[KnownOffer]| {
            let (mut infos, mut places) = (Vec::new(), HashMap::new());
            for it in all {
                add(&mut infos, &mut places, it.clone(), "lobby", Vec::new());
            }
            let each = |it: Known| (it.info.source.as_bytes()[0], it.info.offer.size, it.first);
            infos.into_iter().flatten().map(each).collect::<Vec<_>>()
        };
        assert_eq!(listed(&[told(1, 5, 3, None), told(2, 5, 4, None)]), [(2, 5, 3)]);
        assert_eq!(listed(&[told(1, 5, 3, None), told(2, 6, 4, None)]), [(1, 5, 3), (2, 6, 4)]);
        let again = [told(1, 5, 3, None), told(2, 6, 4, None), told(3, 5, 1, None)];
        assert_eq!(listed(&again), [(2, 6, 4), (3, 5, 1)], "in the order of the newest");
        let ended = [told(1, 5, 3, None), told(2, 5, 1, Some(Ending::Withdrawn))];
        assert_eq!(listed(&ended), [(1, 5, 1)], "whoever has it stands for it");
    }
}
