//! Whom to ask for which piece.
//!
//! What only those have who have all (*fresh* pieces) is worth most: each such piece is asked for first by one of
//! those who fetch, all of whom agree which (the highest hash of both, as in rendezvous hashing), so that a source
//! sends each byte about once, and others go on from there: a tree of two levels for each piece, as SplitStream's
//! stripes, but without trees to mend. Of those who have part, the rarest are asked for first (Legout, Urvoy-Keller,
//! Michiardi 2006). Near the end, what is under way slowly is asked for a second time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::pieces::{Geometry, Pieces};
use crate::time::Time;

/// A peer is asked for so much in advance as it sends in this time: a queue at its side that never runs dry.
const AHEAD: Duration = Duration::from_millis(400);

/// At least so many pieces: one comes while the next is asked for.
const LEAST_AHEAD: usize = 2;

/// At most so many bytes of one peer.
const MOST_AHEAD: f64 = 8_388_608.0;

/// Bytes asked for and not here, of all peers: they are what stands in memory.
const MOST_ASKED: u64 = 24 << 20;

/// A peer that sends nothing for so long is not waited for…
const PATIENCE: Duration = Duration::from_secs(4);

/// …and not asked again for so long.
const PAUSE: Duration = Duration::from_secs(8);

/// Who was not waited for so many times, and sent nothing since, does not answer.
const SILENT: u32 = 2;

/// A piece that others have is not left to a peer that has it under way for so long, however little by little.
const LONGEST: Duration = Duration::from_secs(120);

/// Rates are averaged over some of these.
const RATE_SPAN: Duration = Duration::from_millis(250);

/// Ask this peer for this piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub peer: u64,
    /// For which.
    pub piece: u32,
}

/// This peer need not send this piece any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Who.
    pub peer: u64,
    /// What.
    pub piece: u32,
}

/// What a piece that came has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// It was not here before.
    pub fresh: bool,
    /// Others who were asked for it, too.
    pub cancel: Vec<Late>,
}

#[derive(Debug, Clone)]
struct Peer {
    has: Pieces,
    asked: VecDeque<(u32, Time)>,
    /// Bytes a second; 0 until something came.
    rate: f64,
    span_began: Time,
    span_bytes: u64,
    heard: Time,
    paused_until: Time,
    /// How often it was not waited for since it last sent something.
    strikes: u32,
}

/// One file on its way to this node. Peers are numbers that the caller chooses, the same at all nodes.
#[derive(Debug, Clone)]
pub struct Fetch {
    geometry: Geometry,
    me: u64,
    have: Pieces,
    peers: BTreeMap<u64, Peer>,
    /// By how many peers each piece is held.
    holders: Vec<u16>,
    /// Whom each piece was asked of.
    under_way: Pieces,
    asked_bytes: u64,
    /// Pieces that this node is to fetch first while only those have them who have all.
    mine: Pieces,
    /// Who fetches as well, as `mine` was shared out.
    sharers: Vec<u64>,
    /// Only pieces below are asked for: of a folder, those with its manifest, before all others.
    below: u32,
}

impl Fetch {
    /// Goes on with what is here. `me` is this node's number.
    pub fn new(geometry: Geometry, me: u64, have: Pieces) -> Self {
        let pieces = geometry.pieces();
        Self {
            geometry,
            me,
            have,
            peers: BTreeMap::new(),
            holders: vec![0; pieces as usize],
            under_way: Pieces::none(pieces),
            asked_bytes: 0,
            mine: Pieces::all(pieces),
            sharers: Vec::new(),
            below: pieces,
        }
    }

    /// Asks only for the first `pieces`, until it is told otherwise.
    pub fn only_first(&mut self, pieces: u32) {
        self.below = pieces;
    }

    /// What is here.
    pub fn have(&self) -> &Pieces {
        &self.have
    }

    /// Whether all is here.
    pub fn is_done(&self) -> bool {
        self.have.is_full()
    }

    /// Whether anybody has something that is not here.
    pub fn is_fed(&self) -> bool {
        let none = Pieces::none(self.have.len());
        self.peers.values().any(|peer| peer.has.without(&self.have, &none).next().is_some())
    }

    /// Bytes a second that come from a peer.
    pub fn rate(&self, peer: u64) -> f64 {
        self.peers.get(&peer).map_or(0.0, |peer| peer.rate)
    }

    /// Peers that have pieces which are not here, or were asked for some.
    pub fn peers(&self) -> impl Iterator<Item = u64> + '_ {
        self.peers.keys().copied()
    }

    /// A peer serves these pieces.
    pub fn on_peer(&mut self, now: Time, peer: u64, has: Pieces) {
        self.on_gone(peer);
        if has.len() != self.have.len() {
            return;
        }
        has.iter().for_each(|piece| self.holders[piece as usize] += 1);
        let fresh = Peer {
            has,
            asked: VecDeque::new(),
            rate: 0.0,
            span_began: now,
            span_bytes: 0,
            heard: now,
            paused_until: Time::ZERO,
            strikes: 0,
        };
        self.peers.insert(peer, fresh);
        self.share();
    }

    /// It serves these as well.
    pub fn on_more(&mut self, peer: u64, pieces: &[u32]) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        for piece in pieces {
            if known.has.insert(*piece) {
                self.holders[*piece as usize] += 1;
            }
        }
        if known.has.is_full() {
            self.share();
        }
    }

    /// It serves no more.
    pub fn on_gone(&mut self, peer: u64) {
        self.release(peer);
        if let Some(gone) = self.peers.remove(&peer) {
            gone.has.iter().for_each(|piece| self.holders[piece as usize] -= 1);
            self.share();
        }
    }

    /// What a peer was asked for is free for others; what that was.
    fn release(&mut self, peer: u64) -> Vec<u32> {
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        let asked: Vec<u32> = known.asked.drain(..).map(|(piece, _)| piece).collect();
        asked.iter().for_each(|piece| self.unask(*piece));
        asked
    }

    /// One of those who were asked for a piece is not any more.
    fn unask(&mut self, piece: u32) {
        self.asked_bytes = self.asked_bytes.saturating_sub(self.geometry.len(piece) as u64);
        if !self.peers.values().any(|peer| peer.asked.iter().any(|(it, _)| *it == piece)) {
            self.under_way.remove(piece);
        }
    }

    /// Bytes of a piece came.
    pub fn on_bytes(&mut self, now: Time, peer: u64, bytes: usize) {
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        peer.heard = now;
        (peer.paused_until, peer.strikes) = (Time::ZERO, 0);
        peer.span_bytes += bytes as u64;
        let span = now.since(peer.span_began);
        if span >= RATE_SPAN {
            let rate = peer.span_bytes as f64 / span.as_secs_f64();
            peer.rate = if peer.rate == 0.0 { rate } else { 0.5 * peer.rate + 0.5 * rate };
            (peer.span_began, peer.span_bytes) = (now, 0);
        }
    }

    /// A whole piece came, and is the file's.
    pub fn on_piece(&mut self, piece: u32) -> Taken {
        let fresh = self.have.insert(piece);
        let mut cancel = Vec::new();
        for (number, peer) in &mut self.peers {
            let before = peer.asked.len();
            peer.asked.retain(|(it, _)| *it != piece);
            if peer.asked.len() < before {
                cancel.push(Late { peer: *number, piece });
            }
        }
        cancel.iter().for_each(|_| self.unask(piece));
        Taken { fresh, cancel }
    }

    /// What has to be asked now, after all that came. Times of answers count from now.
    pub fn ask(&mut self, now: Time) -> Vec<Ask> {
        let mut asks = Vec::new();
        let peers: Vec<u64> = self.peers.keys().copied().collect();
        // In turns, so that none takes the whole budget.
        loop {
            let before = asks.len();
            for number in &peers {
                asks.extend(self.ask_peer(now, *number));
            }
            if asks.len() == before {
                return asks;
            }
        }
    }

    fn ask_peer(&mut self, now: Time, number: u64) -> Option<Ask> {
        let peer = self.peers.get(&number)?;
        let ahead = (peer.rate * AHEAD.as_secs_f64()).min(MOST_AHEAD) / self.geometry.piece_len() as f64;
        let is_full = peer.asked.len() >= LEAST_AHEAD.max(ahead as usize);
        let no_room = self.asked_bytes > 0
            && self.asked_bytes + self.geometry.piece_len() > MOST_ASKED
            && !peer.asked.is_empty();
        if peer.paused_until > now || is_full || no_room {
            return None;
        }
        let piece = self.choose(peer).or_else(|| self.choose_again(now, number, peer))?;
        self.asked_bytes += self.geometry.len(piece) as u64;
        self.under_way.insert(piece);
        let peer = self.peers.get_mut(&number)?;
        if peer.asked.is_empty() {
            // Its rate does not suffer from having had nothing to do.
            (peer.heard, peer.span_began, peer.span_bytes) = (now, now, 0);
        }
        peer.asked.push_back((piece, now));
        Some(Ask { peer: number, piece })
    }

    /// The best piece that this peer has and nobody was asked for.
    fn choose(&self, peer: &Peer) -> Option<u32> {
        let seeds = self.seeds();
        let rank = |piece: &u32| {
            let holders = self.holders[*piece as usize];
            let is_fresh = holders <= seeds;
            let class = match (peer.has.is_full(), is_fresh, self.mine.contains(*piece)) {
                (true, true, true) => 1,
                (true, true, false) => 2,
                (true, false, _) => 3,
                (false, ..) => 1,
            };
            // Others' shares from their last quarters, where they are not asked for yet; each takes another.
            let own = mix(u64::from(*piece), self.me);
            let spread = if class == 2 { !self.share_of(*piece) & (3 << 62) | own >> 2 } else { own };
            (class, holders, spread)
        };
        let wanted = peer.has.without(&self.have, &self.under_way).take_while(|piece| *piece < self.below);
        wanted.min_by_key(rank)
    }

    /// Nothing is left to be asked for: what another is slow with, if this one is much faster.
    fn choose_again(&self, now: Time, number: u64, peer: &Peer) -> Option<u32> {
        if !peer.asked.is_empty() {
            return None;
        }
        let piece_len = self.geometry.piece_len() as f64;
        let mine = piece_len / peer.rate.max(1.0);
        let mut slowest: Option<(f64, u32)> = None;
        for (other, it) in &self.peers {
            for (place, (piece, since)) in it.asked.iter().enumerate() {
                let waited = now.since(*since).as_secs_f64();
                let theirs = ((place + 1) as f64 * piece_len / it.rate.max(1.0)).min(60.0);
                let is_once = !self.peers.iter().any(|(third, peer)| {
                    third != other && peer.asked.iter().any(|(asked, _)| asked == piece)
                });
                let worth = *other != number
                    && is_once
                    && peer.has.contains(*piece)
                    && (theirs > 2.0 * mine || waited > 2.0 * theirs)
                    && waited > 0.1;
                if worth && slowest.is_none_or(|(time, _)| theirs > time) {
                    slowest = Some((theirs, *piece));
                }
            }
        }
        slowest.map(|(_, piece)| piece)
    }

    /// Where a piece stands in the order of the one whose share it is.
    fn share_of(&self, piece: u32) -> u64 {
        let of = |who: &u64| mix(u64::from(piece), *who);
        self.sharers.iter().chain([&self.me]).map(of).max().unwrap_or(0)
    }

    fn seeds(&self) -> u16 {
        u16::try_from(self.peers.values().filter(|peer| peer.has.is_full()).count()).unwrap_or(u16::MAX)
    }

    /// Who fetches has changed: which fresh pieces are this node's is worked out anew.
    fn share(&mut self) {
        let fetching = self.peers.iter().filter(|(_, peer)| !peer.has.is_full());
        let sharers: Vec<u64> = fetching.map(|(number, _)| *number).collect();
        if sharers == self.sharers {
            return;
        }
        self.sharers = sharers;
        self.mine = Pieces::none(self.have.len());
        for piece in 0..self.have.len() {
            let at = u64::from(piece);
            let own = mix(at, self.me);
            if self.sharers.iter().all(|other| mix(at, *other) < own) {
                self.mine.insert(piece);
            }
        }
    }

    /// Peers that have been asked again and again, and do not answer.
    pub fn silent(&self) -> Vec<u64> {
        let silent = self.peers.iter().filter(|(_, peer)| peer.strikes >= SILENT);
        silent.map(|(number, _)| *number).collect()
    }

    /// Those who have sent nothing for too long: what they were asked for is free for others, and they need not
    /// send it any more.
    pub fn late(&mut self, now: Time) -> Vec<Late> {
        let is_late = |peer: &Peer| {
            let oldest = peer.asked.front().copied();
            oldest.is_some_and(|(piece, since)| {
                let is_silent = now.since(since.max(peer.heard)) >= PATIENCE;
                is_silent || (now.since(since) >= LONGEST && self.holders[piece as usize] > 1)
            })
        };
        let late: Vec<u64> =
            self.peers.iter().filter(|(_, peer)| is_late(peer)).map(|(number, _)| *number).collect();
        let mut all = Vec::new();
        for number in late {
            all.extend(self.release(number).into_iter().map(|piece| Late { peer: number, piece }));
            if let Some(peer) = self.peers.get_mut(&number) {
                peer.paused_until = now + PAUSE;
                peer.rate = 0.0;
                peer.strikes += 1;
            }
        }
        all
    }
}

/// A number that nobody can foresee from either alone (SplitMix64's finish).
fn mix(one: u64, other: u64) -> u64 {
    let mut mixed = one.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ other;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
