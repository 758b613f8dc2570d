//! A member whose neighbours all fall silent at once finds others before it could know that they are gone.

use std::time::Duration;

use bytes::Bytes;
use treecast_overlay::sim::{Contacts, Crash, NetworkModel, NodeIx, What, World};
use treecast_overlay::{Descriptor, Event};
use treecast_tests::seeds::seeds;

const NODES: usize = 60;
const GAP: Duration = Duration::from_millis(100);
/// Messages before the neighbours fall silent: their rhythm is known then.
const BEFORE: u32 = 50;

/// A link that does not answer is closed after five seconds; nobody waits for that.
#[test]
fn who_loses_all_neighbours_at_once_hears_others_soon() {
    for seed in seeds(6) {
        let descriptor = Descriptor::open("deserted").expect("a good name");
        let group = descriptor.id();
        let mut world = World::new(seed, NetworkModel::regions());
        world.contacts = Contacts::Random(3);
        for _ in 0..NODES {
            let node = world.add_node(std::slice::from_ref(&descriptor));
            world.start(node, true);
        }
        world.run_until(world.now() + Duration::from_secs(30));
        let talker = NodeIx(NODES - 1);
        let mut said = 0_u32;
        let mut talk = |world: &mut World, times: u32| {
            for _ in 0..times {
                let text = Bytes::copy_from_slice(&said.to_be_bytes());
                assert!(world.publish(talker, group, text).is_some());
                world.run_until(world.now() + GAP);
                said += 1;
            }
        };
        talk(&mut world, BEFORE);
        let linked = |world: &World, node: NodeIx| -> Vec<NodeIx> {
            world.links(node).iter().map(|it| it.1).collect()
        };
        // Who has fewest neighbours, the talker not among them.
        let far = world.running().into_iter().filter(|it| !linked(&world, *it).contains(&talker));
        let far = far.filter(|it| *it != talker).min_by_key(|it| linked(&world, *it).len());
        let victim = far.expect("the talker has not links to all");
        let lost = linked(&world, victim);
        for node in &lost {
            world.crash(*node, Crash::Host);
        }
        world.take_records();
        let from = world.now();
        talk(&mut world, 60);
        let records = world.take_records();
        let is_new = |text: &Bytes| text[..] >= BEFORE.to_be_bytes()[..];
        let mut heard = records.iter().filter(|it| {
            let delivered = |what: &What| {
                matches!(what, What::Event(Event::Deliver { delivery, .. })
                if delivery.payloads.iter().any(is_new))
            };
            it.node == victim && delivered(&it.what)
        });
        let after = heard.next().expect("it hears something").time.since(from);
        eprintln!("seed {seed}: {} neighbours gone, heard again after {after:?}", lost.len());
        assert!(after <= Duration::from_millis(2_500), "seed {seed}: {after:?}");
    }
}
