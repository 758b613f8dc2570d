//! A host whose address changes while its node runs: a lease that ends, another Wi-Fi.

use std::time::Instant;

use treecast_tests::hosts::{Host, Lab, PATIENCE, Process, tell, until};

/// One word each way.
fn talk(one: &mut Process, two: &mut Process, what: &str) {
    let (first, second) = (format!("one: {what}"), format!("two: {what}"));
    one.say(&first);
    two.say(&second);
    one.wait_text(&second);
    two.wait_text(&first);
}

/// Takes the host's address away and gives it another: in this order, since one that is added
/// beside another of the same network goes with it.
fn readdress(host: &Host, from: &str, to: &str) {
    let script = format!(
        "ip addr del {from}/16 dev eth0 && ip addr add {to}/16 dev eth0 && ip route replace default dev eth0"
    );
    let run = host.shell(&script).finish(b"");
    assert_eq!(run.code, Some(0), "{run:?}");
}

fn listens_at(host: &Host, ip: &str) -> bool {
    let run = host.run(&["status"], b"");
    let status = run.of_type("status")[0].clone();
    let addresses = status["addresses"].as_array().cloned().unwrap_or_default();
    addresses.iter().any(|address| address.as_str().is_some_and(|text| text.contains(ip)))
}

#[test]
fn a_node_whose_address_changes_is_found_where_it_is() {
    let Some(lab) = Lab::new(3) else { return };
    let [one, two, three] = lab.hosts() else { unreachable!("three were asked for") };
    let mut chat_one = one.treecast(&["chat", "lobby"]);
    let mut chat_two = two.treecast(&["chat", "lobby"]);
    talk(&mut chat_one, &mut chat_two, "before");

    readdress(two, "10.77.0.2", "10.77.1.2");
    let moved = Instant::now();
    talk(&mut chat_one, &mut chat_two, "after");
    tell(&format!("talk went on {} ms after the move", moved.elapsed().as_millis()));
    until(PATIENCE, "the new address", || listens_at(two, "10.77.1.2").then_some(()));
    until(PATIENCE, "the end of the old one", || (!listens_at(two, "10.77.0.2/")).then_some(()));

    // Only the one that moved is left to be found, by what its mDNS says now.
    assert_eq!(chat_one.stop().code, Some(0));
    let mut chat_three = three.treecast(&["chat", "lobby"]);
    let came = Instant::now();
    talk(&mut chat_three, &mut chat_two, "to a newcomer");
    tell(&format!("a newcomer found it after {} ms", came.elapsed().as_millis()));
}
