//! Sequences of operations on a few engines, decoded from bytes.

use std::time::Duration;

use treecast_overlay::sim::{Contacts, Crash, NetworkModel, NodeIx, Scenario, Step};
use treecast_overlay::{
    Address, BatchId, Config, Descriptor, GroupId, Input, Lane, LinkId, NodeId, Order, PublishId, Token,
};

use super::Decisions;
use crate::chaos::{Act, Plan, run};

/// Operations in one sequence, at most.
const MAX_ACTS: usize = 200;

/// Two to five engines and what befalls them: starts, stops, cuts, messages, and inputs that
/// no driver of ours would give.
///
/// # Panics
/// When an engine panics or spins, or anything that must hold after quiescence does not.
pub fn operations(data: &[u8]) {
    let outcome = run(&plan(&mut Decisions::new(data)));
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
}

fn plan(decisions: &mut Decisions) -> Plan {
    let nodes = 2 + decisions.below(4);
    let mut group = Descriptor::open("operations").expect("a good name");
    group.order = [Order::Unordered, Order::Fifo, Order::Causal, Order::Causal][decisions.below(4)];
    let mut at = Duration::ZERO;
    let mut acts: Vec<_> = (0..nodes).map(|node| (at, start(NodeIx(node)))).collect();
    while !decisions.is_empty() && acts.len() < MAX_ACTS {
        // Often at once, sometimes after up to a second.
        let wait = decisions.byte();
        at += Duration::from_millis(if wait < 128 { 0 } else { u64::from(wait - 128) * 8 });
        let node = NodeIx(decisions.below(nodes));
        acts.push((at, act(node, nodes, &group, decisions)));
    }
    acts.push((at, Act::Step(Step::Heal)));
    for node in (0..nodes).map(NodeIx) {
        acts.push((at, Act::Step(Step::Disk { node, failing: false })));
        acts.push((at, start(node)));
    }
    let settled = at + Duration::from_secs(35);
    let last_words = (0..nodes).map(|node| (settled, Act::Publish { node: NodeIx(node), count: 1, len: 20 }));
    acts.extend(last_words);
    let config = Config::default();
    // The last words may wait for a hole that the first of them shows.
    let end = settled + config.lost_after + Duration::from_secs(15);
    let network = NetworkModel::uniform(Duration::from_millis(1), Duration::from_millis(30));
    let (contacts, steps) = (Contacts::All, Vec::new());
    let scenario = Scenario { seed: 7, nodes, group, network, config, contacts, steps };
    Plan { scenario, acts, answers: 0.05, calm: at, end }
}

fn start(node: NodeIx) -> Act {
    Act::Step(Step::Start { node, with_disk: true })
}

fn act(node: NodeIx, nodes: usize, group: &Descriptor, decisions: &mut Decisions) -> Act {
    let crash = |how| Act::Step(Step::Crash { node, how });
    match decisions.byte() {
        0..80 => {
            let (count, len) = (1 + decisions.below(20), 16 + decisions.below(2_000));
            Act::Publish { node, count, len }
        }
        80..95 => crash(Crash::Process),
        95..110 => crash(Crash::Host),
        110..140 => Act::Step(Step::Start { node, with_disk: decisions.byte() < 200 }),
        140..150 => Act::Step(Step::Shutdown(node)),
        150..170 => cut(nodes, decisions),
        170..185 => Act::Step(Step::Heal),
        185..195 => Act::Step(Step::DropLinks(node)),
        195..200 => Act::Step(Step::Uplink { node, bytes_per_s: 5_000 + u64::from(decisions.word()) * 20 }),
        200..206 => Act::Step(Step::Disk { node, failing: decisions.byte() < 128 }),
        _ => Act::Feed(node, odd_input(group.id(), group, decisions)),
    }
}

fn cut(nodes: usize, decisions: &mut Decisions) -> Act {
    let side = decisions.byte();
    let (a, b) = (0..nodes).map(NodeIx).partition(|node| side >> node.0 & 1 == 1);
    Act::Step(Step::Cut { a, b, one_way: decisions.byte() < 64 })
}

/// What no driver of ours says, and what must do no harm.
fn odd_input(group: GroupId, descriptor: &Descriptor, decisions: &mut Decisions) -> Input {
    let node = NodeId::from_bytes([decisions.byte(); 32]);
    let link = LinkId(1_000 + u64::from(decisions.byte()));
    let lane = if decisions.byte() < 128 { Lane::Live } else { Lane::Bulk };
    let elsewhere = GroupId::from_bytes([9; 32]);
    let life = u64::from(decisions.word()) << 48;
    match decisions.byte() % 20 {
        0 => Input::LinkUp { link, node },
        1 => Input::LinkDown { link },
        2 => Input::Frame { link, lane, frame: decisions.bytes(60).into() },
        3 => Input::Drained { link: LinkId(link.0 % 8), lane, bytes: usize::MAX },
        4 => Input::Drained { link, lane, bytes: 5 },
        5 => Input::Discovered { node, addresses: Vec::new() },
        6 => Input::Discovered { node, addresses: addresses(decisions) },
        7 => Input::DialFailed { node },
        8 => Input::OwnAddresses(addresses(decisions)),
        9 => Input::Nick(String::from_utf8_lossy(&decisions.bytes(400)).into_owned()),
        10 => Input::Join(Box::new(descriptor.clone())),
        11 => Input::Leave(elsewhere),
        12 => Input::Persisted(Token(life)),
        13 => Input::PersistFailed(Token(life)),
        14 => Input::Tick,
        15 => Input::RequestReceipt { group, batch: BatchId { source: node, life, seq: u64::MAX } },
        16 => Input::RequestReceipt { group: elsewhere, batch: BatchId { source: node, life, seq: 0 } },
        17 => Input::Keep { node, keep: decisions.byte() < 200 },
        18 => Input::Ping { node },
        _ => Input::Publish { group: elsewhere, id: PublishId(u64::MAX), payload: vec![0; 10].into() },
    }
}

fn addresses(decisions: &mut Decisions) -> Vec<Address> {
    (0..decisions.below(40)).filter_map(|_| Address::new(decisions.bytes(300))).collect()
}
