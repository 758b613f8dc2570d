//! Fetching on virtual time: nodes with links of some rate, over which bytes flow as water does.

use std::collections::{BTreeMap, VecDeque};

use super::fetch::Fetch;
use super::pieces::{Geometry, Pieces};
use crate::rng::Rng;
use crate::time::Time;

/// A step, seconds; and how late a node hears what another says.
const STEP: f64 = 0.004;

/// 100 Mbit/s.
const RATE: f64 = 12.5e6;

struct Node {
    fetch: Fetch,
    up: f64,
    down: f64,
    alive: bool,
    done_at: Option<f64>,
    /// Sends nothing of what it is asked for.
    silent: bool,
}

/// Pieces on their way between two nodes, and what is left of the first.
#[derive(Default)]
struct Flow {
    asked: VecDeque<u32>,
    left: f64,
}

struct World {
    geometry: Geometry,
    nodes: Vec<Node>,
    flows: BTreeMap<(usize, usize), Flow>,
    now: f64,
    sent: Vec<f64>,
}

fn number(node: usize) -> u64 {
    (node as u64 + 1).wrapping_mul(0x51_7cc1_b727_220a)
}

impl World {
    /// The first has all; the others nothing.
    fn new(size: u64, nodes: usize) -> Self {
        let geometry = Geometry::new(size);
        let pieces = geometry.pieces();
        let node = |at: usize| {
            let have = if at == 0 { Pieces::all(pieces) } else { Pieces::none(pieces) };
            let fetch = Fetch::new(geometry, number(at), have);
            Node { fetch, up: RATE, down: RATE, alive: true, done_at: None, silent: false }
        };
        let nodes: Vec<Node> = (0..nodes).map(node).collect();
        let sent = vec![0.0; nodes.len()];
        let mut world = Self { geometry, nodes, flows: BTreeMap::new(), now: 0.0, sent };
        (0..world.nodes.len()).for_each(|node| world.meet(node));
        world
    }

    fn time(&self) -> Time {
        Time::from_micros((self.now * 1e6) as u64)
    }

    /// A node and all others learn what they have.
    fn meet(&mut self, node: usize) {
        let now = self.time();
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let has = self.nodes[other].fetch.have().clone();
            self.nodes[node].fetch.on_peer(now, number(other), has);
            let has = self.nodes[node].fetch.have().clone();
            self.nodes[other].fetch.on_peer(now, number(node), has);
        }
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        self.flows.retain(|(from, to), _| *from != node && *to != node);
        let of = number(node);
        self.nodes.iter_mut().for_each(|other| other.fetch.on_gone(of));
    }

    /// It comes back with what it had.
    fn revive(&mut self, node: usize) {
        let have = self.nodes[node].fetch.have().clone();
        self.nodes[node].fetch = Fetch::new(self.geometry, number(node), have);
        self.nodes[node].alive = true;
        let dead: Vec<u64> = (0..self.nodes.len()).filter(|it| !self.nodes[*it].alive).map(number).collect();
        self.meet(node);
        dead.iter().for_each(|gone| self.nodes.iter_mut().for_each(|it| it.fetch.on_gone(*gone)));
    }

    fn at(&self, wanted: u64) -> usize {
        (0..self.nodes.len()).find(|it| number(*it) == wanted).expect("a node")
    }

    fn ask(&mut self) {
        let now = self.time();
        for node in (1..self.nodes.len()).filter(|it| self.nodes[*it].alive).collect::<Vec<_>>() {
            for late in self.nodes[node].fetch.late(now) {
                let from = self.at(late.peer);
                self.cancel(from, node, late.piece);
            }
            for ask in self.nodes[node].fetch.ask(now) {
                let from = self.at(ask.peer);
                let flow = self.flows.entry((from, node)).or_default();
                if flow.asked.is_empty() {
                    flow.left = self.geometry.len(ask.piece) as f64;
                }
                flow.asked.push_back(ask.piece);
            }
        }
    }

    fn cancel(&mut self, from: usize, to: usize, piece: u32) {
        let Some(flow) = self.flows.get_mut(&(from, to)) else { return };
        // What is half sent comes.
        let first = flow.asked.front().copied();
        flow.asked.retain(|it| *it != piece || first == Some(piece));
    }

    /// The rates of all flows: shared fairly where it is narrow (max-min).
    fn rates(&self) -> BTreeMap<(usize, usize), f64> {
        let active: Vec<(usize, usize)> =
            self.flows.iter().filter(|(_, it)| !it.asked.is_empty()).map(|(key, _)| *key).collect();
        let mut open: Vec<(usize, usize)> =
            active.into_iter().filter(|(from, _)| !self.nodes[*from].silent).collect();
        let mut up: Vec<f64> = self.nodes.iter().map(|it| it.up).collect();
        let mut down: Vec<f64> = self.nodes.iter().map(|it| it.down).collect();
        let mut rates = BTreeMap::new();
        while !open.is_empty() {
            let count = |at: usize, out: bool| {
                open.iter().filter(|(from, to)| if out { *from == at } else { *to == at }).count() as f64
            };
            let narrow = |at: usize| {
                [(up[at], count(at, true), true), (down[at], count(at, false), false)]
                    .into_iter()
                    .filter(|(_, flows, _)| *flows > 0.0)
                    .map(move |(rate, flows, out)| (rate / flows, at, out))
            };
            let (share, at, out) = (0..self.nodes.len())
                .flat_map(narrow)
                .min_by(|one, other| one.0.total_cmp(&other.0))
                .expect("somebody sends");
            let (settled, rest): (Vec<_>, Vec<_>) =
                open.iter().partition(|(from, to)| if out { *from == at } else { *to == at });
            for (from, to) in settled {
                rates.insert((from, to), share);
                up[from] -= share;
                down[to] -= share;
            }
            open = rest;
        }
        rates
    }

    fn step(&mut self) {
        self.ask();
        self.now += STEP;
        let now = self.time();
        let mut came = Vec::new();
        for ((from, to), rate) in self.rates() {
            let flow = self.flows.get_mut(&(from, to)).expect("it flows");
            let mut bytes = rate * STEP;
            self.sent[from] += bytes;
            self.nodes[to].fetch.on_bytes(now, number(from), bytes as usize);
            while bytes >= flow.left {
                bytes -= flow.left;
                let Some(piece) = flow.asked.pop_front() else { break };
                came.push((from, to, piece));
                let Some(next) = flow.asked.front() else { break };
                flow.left = self.geometry.len(*next) as f64;
            }
            flow.left -= bytes.min(flow.left);
        }
        for (from, to, piece) in came {
            let taken = self.nodes[to].fetch.on_piece(piece);
            for late in taken.cancel.iter().filter(|late| late.peer != number(from)) {
                let other = self.at(late.peer);
                self.cancel(other, to, late.piece);
            }
            if taken.fresh {
                let of = number(to);
                self.nodes.iter_mut().for_each(|node| node.fetch.on_more(of, &[piece]));
            }
            if self.nodes[to].fetch.is_done() {
                self.nodes[to].done_at.get_or_insert(self.now);
            }
        }
    }

    fn run(&mut self, until: impl Fn(&Self) -> bool) {
        while !until(self) {
            self.step();
            assert!(self.now < 2_000.0, "it never ends");
        }
    }

    fn is_over(&self) -> bool {
        self.nodes.iter().filter(|it| it.alive).all(|it| it.fetch.is_done())
    }

    fn last(&self) -> f64 {
        self.nodes.iter().filter_map(|it| it.done_at).fold(0.0, f64::max)
    }
}

const SIZE: u64 = 128 << 20;

fn bound(size: u64) -> f64 {
    size as f64 / RATE
}

#[test]
fn all_have_it_in_little_more_than_the_time_of_one_copy() {
    for (nodes, most) in [(2, 1.02), (3, 1.06), (10, 1.08), (24, 1.15)] {
        let mut world = World::new(SIZE, nodes);
        world.run(World::is_over);
        let ratio = world.last() / bound(SIZE);
        let copies = world.sent[0] / SIZE as f64;
        assert!(ratio <= most, "{nodes} nodes: {ratio} times the bound, the source sent {copies} copies");
    }
}

#[test]
fn three_of_nine_that_are_killed_and_come_back_cost_little() {
    let mut world = World::new(SIZE, 10);
    world.run(|it| it.now > bound(SIZE) / 2.0);
    [2, 5, 7].into_iter().for_each(|node| world.kill(node));
    world.run(|it| it.now > bound(SIZE) / 2.0 + 1.0);
    [2, 5, 7].into_iter().for_each(|node| world.revive(node));
    world.run(World::is_over);
    let ratio = world.last() / bound(SIZE);
    assert!(ratio <= 1.3, "{ratio} times the bound");
}

#[test]
fn the_rest_is_found_among_those_who_have_part_once_the_source_goes() {
    let mut world = World::new(SIZE, 6);
    let pieces = world.geometry.pieces();
    let elsewhere = |it: &World, piece| it.nodes[1..].iter().any(|node| node.fetch.have().contains(piece));
    world.run(|it| (0..pieces).all(|piece| elsewhere(it, piece)));
    assert!(!world.is_over(), "a copy is there before all have one");
    world.kill(0);
    world.run(World::is_over);
    let ratio = world.last() / bound(SIZE);
    assert!(ratio <= 1.2, "{ratio} times the bound");
}

#[test]
fn who_sends_nothing_is_asked_no_more_and_slow_ones_hold_nobody_up() {
    let mut world = World::new(SIZE, 5);
    world.nodes[1].silent = true;
    world.nodes[2].up = RATE / 100.0;
    world.run(World::is_over);
    let ratio = world.last() / bound(SIZE);
    // Two of four pass nothing on: what they were to bring the source has to send again.
    assert!(ratio <= 2.0, "{ratio} times the bound");
}

#[test]
fn whatever_comes_in_whatever_order_the_books_agree() {
    let mut rng = Rng::new(7);
    for _ in 0..200 {
        let geometry = Geometry::new((128 << 10) * (1 + rng.below(90) as u64));
        let mut fetch = Fetch::new(geometry, 1, Pieces::none(geometry.pieces()));
        let (mut open, mut now) = (Vec::new(), 0);
        for _ in 0..300 {
            now += rng.below(300_000) as u64;
            let (time, peer) = (Time::from_micros(now), 2 + rng.below(4) as u64);
            let piece = rng.below(geometry.pieces() as usize + 2) as u32;
            match rng.below(7) {
                0 => {
                    let mut has = Pieces::none(geometry.pieces());
                    (0..geometry.pieces()).filter(|_| rng.below(2) == 0).for_each(|it| {
                        has.insert(it);
                    });
                    fetch.on_peer(time, peer, has);
                    open.retain(|(of, _)| *of != peer);
                }
                1 => {
                    fetch.on_gone(peer);
                    open.retain(|(of, _)| *of != peer);
                }
                2 => fetch.on_more(peer, &[piece]),
                3 => fetch.on_bytes(time, peer, rng.below(1 << 20)),
                4 => {
                    let late = fetch.late(time);
                    open.retain(|it| !late.iter().any(|late| (late.peer, late.piece) == *it));
                }
                5 if piece < geometry.pieces() => {
                    fetch.on_piece(piece);
                    open.retain(|(_, it)| *it != piece);
                }
                _ => {
                    for ask in fetch.ask(time) {
                        assert!(!fetch.have().contains(ask.piece), "what is here is not asked for");
                        assert!(!open.contains(&(ask.peer, ask.piece)), "nor anybody twice");
                        open.push((ask.peer, ask.piece));
                        let asked = open.iter().filter(|(_, it)| *it == ask.piece).count();
                        assert!(asked <= 2, "nor more than two");
                    }
                }
            }
        }
    }
}

#[test]
fn who_only_says_that_it_has_it_all_is_known_by_its_silence() {
    let geometry = Geometry::new(1 << 20);
    let mut fetch = Fetch::new(geometry, 1, Pieces::none(geometry.pieces()));
    let second = |at: u64| Time::from_micros(at * 1_000_000);
    fetch.on_peer(second(0), 2, Pieces::all(geometry.pieces()));
    let mut silent_at = None;
    for at in 0..60 {
        fetch.ask(second(at));
        fetch.late(second(at));
        if silent_at.is_none() && fetch.silent() == [2] {
            silent_at = Some(at);
        }
    }
    assert!(silent_at.is_some_and(|at| (8..30).contains(&at)), "{silent_at:?}");
    fetch.on_bytes(second(60), 2, 1);
    assert!(fetch.silent().is_empty(), "it has answered");
}

#[test]
fn a_piece_that_comes_in_drops_is_asked_of_another() {
    let geometry = Geometry::new(1);
    let mut fetch = Fetch::new(geometry, 1, Pieces::none(1));
    let second = |at: u64| Time::from_micros(at * 1_000_000);
    fetch.on_peer(second(0), 2, Pieces::all(1));
    assert_eq!(fetch.ask(second(0)).len(), 1);
    fetch.on_peer(second(1), 3, Pieces::none(1));
    for at in 1..300 {
        // Alone it is waited for.
        fetch.on_bytes(second(at), 2, 1);
        assert!(fetch.late(second(at)).is_empty());
    }
    fetch.on_more(3, &[0]);
    assert_eq!(fetch.late(second(300)).len(), 1);
    assert!(fetch.ask(second(300)).iter().any(|ask| ask.peer == 3));
}
