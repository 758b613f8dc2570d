//! `doctor` on real hosts: with a node and without, on a sound network and on a broken one.

use serde_json::Value;
use treecast_tests::hosts::{Host, Lab, Run};

fn doctor(host: &Host) -> Run {
    host.run(&["doctor"], b"")
}

fn check<'a>(run: &'a Run, name: &str) -> &'a Value {
    let found = run.of_type("check").into_iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no check `{name}`: {run:?}"))
}

/// The last line, and the exit code that goes with it.
fn verdict(run: &Run) -> &Value {
    let last = run.out.last().expect("it says something");
    assert_eq!(last["type"], "doctor");
    let ok = last["ok"].as_bool().expect("yes or no");
    assert_eq!(run.code, Some(if ok { 0 } else { 8 }), "{run:?}");
    let wrong = run.of_type("check").iter().filter(|check| check["ok"] == false).count();
    assert_eq!(ok, wrong == 0, "{run:?}");
    for key in ["sentence", "command"] {
        assert!(last[key].as_str().is_some_and(|text| !text.is_empty()), "{last}");
    }
    last
}

#[test]
fn it_says_what_is_well_and_what_is_not() {
    let Some(lab) = Lab::new(2) else { return };
    let [one, two] = lab.hosts() else { unreachable!("two were asked for") };
    let run = doctor(one);
    assert_eq!(verdict(&run)["command"], "treecast up", "{run:?}");
    assert!(!one.data_dir().exists(), "looking makes nothing");
    assert!(
        check(&run, "multicast")["what"].as_str().is_some_and(|text| text.contains("10.77.0.1")),
        "{run:?}"
    );

    let ups: Vec<_> = lab.hosts().iter().map(|host| host.treecast(&["up", "--group", "lobby"])).collect();
    ups.iter().for_each(|up| drop(up.wait("that it is ready", |line| line["type"] == "ready")));
    let heard = two.treecast(&["sub", "lobby"]);
    assert_eq!(one.run(&["pub", "lobby", "x", "--wait", "1"], b"").code, Some(0));
    let run = doctor(one);
    assert_eq!(verdict(&run)["sentence"], "All is well.", "{run:?}");
    assert!(check(&run, "ports")["what"].as_str().is_some_and(|text| text.contains("answers")), "{run:?}");
    drop(heard);

    // The other one is gone, and so is the network.
    ups.into_iter().for_each(|up| assert_eq!(up.stop().code, Some(0)));
    let run = doctor(one);
    assert!(check(&run, "members")["why"].as_str().is_some_and(|text| text.contains("refused")), "{run:?}");
    assert_eq!(verdict(&run)["ok"], false);
    let gone = one.shell("ip addr flush dev eth0; ip route flush table main; $TREECAST doctor").finish(b"");
    assert_eq!(check(&gone, "addresses")["ok"], false, "{gone:?}");
    assert_eq!(verdict(&gone)["sentence"], check(&gone, "addresses")["what"]);
}

#[test]
fn a_deaf_host_and_a_damaged_store_are_found() {
    let Some(lab) = Lab::new(1) else { return };
    let [host] = lab.hosts() else { unreachable!("one was asked for") };
    // From now on nobody here may listen to multicast; as deaf as behind a firewall.
    let run = host.shell("echo 0 > /proc/sys/net/ipv4/igmp_max_memberships; $TREECAST doctor").finish(b"");
    assert_eq!(check(&run, "multicast")["ok"], false, "{run:?}");
    assert!(check(&run, "multicast")["fix"].as_str().is_some_and(|text| text.contains("5353")), "{run:?}");
    assert_eq!(verdict(&run)["sentence"], check(&run, "multicast")["what"]);

    let sub = host.treecast(&["sub", "lobby"]);
    let (_, warning) = sub.wait_complaint("nobody being there", |line| line["code"] == "nobody-found");
    let says = |key: &str, part: &str| warning[key].as_str().is_some_and(|text| text.contains(part));
    assert!(says("why", "does not come back on 10.77.0.1") && says("fix", "firewall"), "{warning}");
    assert_eq!(sub.stop().code, Some(0));

    std::fs::write(host.data_dir().join("treecast.db"), "this is no database, however long it may be")
        .expect("written");
    let run = doctor(host);
    assert_eq!(check(&run, "store")["ok"], false, "{run:?}");
    assert!(check(&run, "store")["fix"].as_str().is_some_and(|text| !text.is_empty()), "{run:?}");
    verdict(&run);
}
