//! Twenty hosts, of which twelve are killed one after the other while four talk; some come back.
//! Who lives throughout is shown every line, once, each author's in order.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use treecast_tests::hosts::{Lab, PATIENCE, Process, lines_of, tell, until};

const HOSTS: usize = 20;
const AUTHORS: usize = 4;

/// Who lives throughout: the authors and some more; all others are killed.
const SURVIVORS: usize = 8;

/// Lines a second of each author.
const RATE: u32 = 50;

const BETWEEN_KILLS: Duration = Duration::from_secs(2);

/// Every so many kills, the one that was killed comes back after so many others were.
const COMES_BACK: usize = 3;

/// How long the authors talk, seconds; `TREECAST_CHURN_S` overrides (a minute is promised).
fn talk_for() -> Duration {
    let seconds = std::env::var("TREECAST_CHURN_S").ok().and_then(|it| it.parse().ok());
    Duration::from_secs(seconds.unwrap_or(40))
}

#[test]
fn who_lives_throughout_is_shown_every_line() {
    let Some(lab) = Lab::new(HOSTS) else { return };
    let come = |host: usize| lab.hosts()[host].treecast(&["chat", "lobby"]);
    let mut nodes: Vec<Option<Process>> = (0..HOSTS).map(|host| Some(come(host))).collect();
    for host in lab.hosts() {
        until(PATIENCE, "that all know all", || {
            let run = host.run(&["group", "show", "lobby"], b"");
            let members = run.of_type("group").first()?["members"].as_array()?.len();
            (members == HOSTS).then_some(())
        });
    }

    let authors: Vec<_> =
        nodes[..AUTHORS].iter_mut().map(|node| node.as_mut().expect("it runs").take_stdin()).collect();
    let (said, _stdins): (Vec<Vec<String>>, Vec<ChildStdin>) = std::thread::scope(|scope| {
        let talks: Vec<_> = authors
            .into_iter()
            .enumerate()
            .map(|(author, stdin)| scope.spawn(move || talk(author, stdin)))
            .collect();
        let mut gone = Vec::new();
        for victim in SURVIVORS..HOSTS {
            std::thread::sleep(BETWEEN_KILLS);
            nodes[victim].take().expect("it runs").kill();
            gone.push(victim);
            if gone.len() % COMES_BACK == 0 {
                let back = gone[gone.len() - COMES_BACK];
                nodes[back] = Some(come(back));
                tell(&format!("h{} is back", back + 1));
            }
        }
        talks.into_iter().map(|talk| talk.join().expect("no panic")).collect()
    });

    for (number, node) in nodes.iter().enumerate().take(SURVIVORS) {
        let node = node.as_ref().expect("it lives");
        let all: usize = said.iter().map(Vec::len).sum();
        let began = Instant::now();
        until(PATIENCE, "every line", || (node.messages().len() >= all).then_some(()));
        tell(&format!("h{}: all {all} lines there after {:?} more", number + 1, began.elapsed()));
        // What comes twice comes late.
        std::thread::sleep(Duration::from_millis(200));
        let mut shown: Vec<Vec<String>> =
            lines_of(&format!("h{}", number + 1), &node.messages()).into_values().collect();
        shown.sort();
        assert!(shown == said, "h{}: {:?}", number + 1, differences(&shown, &said));
        let lost = node.said().into_iter().map(|(_, line)| line).find(|line| line["type"] == "gap");
        assert_eq!(lost, None, "h{}", number + 1);
    }
}

/// One line after the other, at an even pace; all that was said, and the chat's stdin, whose end
/// would be the end of the chat.
fn talk(author: usize, mut stdin: ChildStdin) -> (Vec<String>, ChildStdin) {
    let began = Instant::now();
    let mut said = Vec::new();
    while began.elapsed() < talk_for() {
        let line = format!("{author}: {:>6}", said.len());
        writeln!(stdin, "{line}").expect("it listens");
        said.push(line);
        std::thread::sleep((began + said.len() as u32 * Duration::from_secs(1) / RATE) - Instant::now());
    }
    (said, stdin)
}

fn differences(shown: &[Vec<String>], said: &[Vec<String>]) -> BTreeMap<usize, (usize, usize)> {
    let each = shown.iter().zip(said).enumerate();
    each.map(|(author, (shown, said))| (author, (shown.len(), said.len()))).collect()
}
