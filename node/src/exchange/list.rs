//! Listing: what was announced, who has it, who had it.

use std::collections::HashMap;

use treecast_overlay::files::wire::Held;
use treecast_overlay::files::{Ending, FileHash, Geometry};
use treecast_overlay::{GroupId, NodeId};

use super::api::{FileInfo, FormerHolder, Holder};
use super::{find, lock};
use crate::driver::files::Fellow;
use crate::error::{GetError, HistoryError};
use crate::handle::Node;
use crate::history::look_up;
use crate::store::KnownOffer;

/// Members of a group that are asked what they have.
const ASKED: usize = 64;

/// What a member said that it has.
type Answer<'a> = (&'a Fellow, Vec<Held>);

impl Node {
    /// The files that were announced in a group, or in all, oldest first; each once a group and name. Members that can
    /// be reached are asked what they have. What its announcer has withdrawn is listed while somebody has it.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn files(&self, group: Option<&str>) -> Result<Vec<FileInfo>, HistoryError> {
        let (mut infos, exchange) = (self.known_files(group).await?, &self.exchange);
        let mut groups: HashMap<GroupId, Vec<usize>> = HashMap::new();
        for (at, (id, _)) in infos.iter().enumerate() {
            groups.entry(*id).or_default().push(at);
        }
        let mut seen = Vec::new();
        let me = Holder { node: self.id, nick: self.nick().await? };
        for (group, places) in groups {
            let fellows = self.ask(move |driver| driver.fellows(group)).await?;
            let here = fellows.iter().filter(|it| it.is_here).take(ASKED);
            let asked = here.map(async |it| (it, exchange.query(group, it.node).await));
            let answers: Vec<Answer<'_>> = futures::future::join_all(asked).await;
            for at in places {
                let info = &mut infos[at].1;
                self.spread(info, &me, &answers);
                info.members = fellows.len() + 1;
                let others = info.holders.iter().filter(|it| it.node != self.id);
                seen.extend(others.map(|it| (info.offer.hash, it.node)));
            }
        }
        exchange.saw_holders(seen);
        let is_listed = |it: &FileInfo| !it.is_withdrawn() || !it.holders.is_empty() || it.held > 0;
        Ok(infos.into_iter().map(|(_, info)| info).filter(is_listed).collect())
    }

    /// Who has a file, and who had it, by what they say.
    fn spread(&self, info: &mut FileInfo, me: &Holder, answers: &[Answer<'_>]) {
        let (hash, all) = (info.offer.hash, Geometry::new(info.offer.size).pieces());
        let own = (self.exchange.pieces_of(hash) == Some(all)).then(|| me.clone());
        info.holders = own.into_iter().collect();
        for (fellow, held) in answers {
            let Some(held) = held.iter().find(|it| it.hash == hash) else { continue };
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

    /// What was announced, without asking anybody.
    pub(super) async fn known_files(
        &self,
        group: Option<&str>,
    ) -> Result<Vec<(GroupId, FileInfo)>, HistoryError> {
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
        let mut infos: Vec<(GroupId, FileInfo)> = Vec::new();
        for KnownOffer { group, source, nick, kept_ms, offer, ending } in offers {
            let Some((label, _)) = catalogue.groups.get(&group) else { continue };
            // Another announcement of the same is no other file.
            let is_same = |(id, it): &(GroupId, FileInfo)| {
                *id == group && it.offer.hash == offer.hash && it.offer.name == offer.name
            };
            match infos.iter().position(is_same) {
                Some(at) if ending.is_some() && !infos[at].1.has_ended() => continue,
                Some(at) => drop(infos.remove(at)),
                None => {}
            }
            let hash = offer.hash;
            let pieces = self.exchange.pieces_of(hash).unwrap_or(0);
            let held = lock(&self.exchange.held).get(&hash).cloned();
            let bytes = (u64::from(pieces) * Geometry::new(offer.size).piece_len()).min(offer.size);
            let info = FileInfo {
                offer,
                group: label.clone(),
                source,
                nick,
                since_ms: kept_ms,
                held: bytes,
                ending: held.as_ref().and_then(|it| it.ending),
                path: held.map(|it| it.path),
                holders: Vec::new(),
                former: former.get(&(group, hash)).cloned().unwrap_or_default(),
                members: 0,
            };
            infos.push((group, info));
        }
        self.count_what_came(&mut infos).await;
        Ok(infos)
    }

    /// What came of files that nobody has read since the start is counted by their logs.
    async fn count_what_came(&self, infos: &mut [(GroupId, FileInfo)]) {
        let is_partial = |hash: &FileHash| {
            lock(&self.exchange.held).get(hash).is_some_and(|it| !it.whole)
                && !lock(&self.exchange.loaded).contains_key(hash)
        };
        let unread = infos.iter().map(|(_, it)| it.offer.hash).filter(is_partial).collect::<Vec<_>>();
        if unread.is_empty() {
            return;
        }
        let desk = self.exchange.desk.clone();
        let count =
            move || unread.into_iter().map(|hash| (hash, desk.logged(hash))).collect::<HashMap<_, _>>();
        let Ok(counts) = tokio::task::spawn_blocking(count).await else { return };
        for (_, info) in infos {
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
        find::find(&known, what).cloned()
    }
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
