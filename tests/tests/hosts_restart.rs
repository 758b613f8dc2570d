//! Two that stop, are killed and come back: talk goes on, nothing comes twice, order holds
//! across an author's lives.

use std::collections::BTreeSet;
use std::time::Duration;

use treecast_tests::hosts::{Host, Lab, Process, lines_of, tell};

/// How long talk may rest after a return. "At once" is what is measured and told.
const AT_ONCE: Duration = Duration::from_secs(15);

/// One of the two, and all that was said and shown there in all its lives.
struct Side<'a> {
    host: &'a Host,
    chat: Option<Process>,
    /// What it said, in all its lives.
    said: Vec<String>,
    /// What it was shown in earlier lives.
    shown: BTreeSet<String>,
}

impl<'a> Side<'a> {
    fn new(host: &'a Host) -> Self {
        let mut side = Self { host, chat: None, said: Vec::new(), shown: BTreeSet::new() };
        side.come();
        side
    }

    fn come(&mut self) {
        self.chat = Some(self.host.treecast(&["chat", "two"]));
    }

    fn chat(&self) -> &Process {
        self.chat.as_ref().expect("it is here")
    }

    fn say(&mut self, what: &str) -> String {
        let line = format!("{}: h{} {what}", self.said.len(), self.host.number());
        self.chat.as_mut().expect("it is here").say(&line);
        self.said.push(line.clone());
        line
    }

    /// Ends a life; what it was shown must be right.
    fn go(&mut self, kill: bool, other: &[String]) {
        let chat = self.chat.take().expect("it is here");
        self.judge(&chat, other);
        for message in chat.messages() {
            let text = message.text;
            if !self.shown.insert(text.clone()) {
                tell(&format!("h{} was shown {text:?} in an earlier life as well", self.host.number()));
            }
        }
        if kill {
            chat.kill();
        } else {
            let run = chat.stop();
            assert_eq!(run.code, Some(0), "{:?}", run.err);
        }
    }

    /// In this run of the application: nothing twice; of the other what it said, in its order, none
    /// left out from the first one shown on.
    fn judge(&self, chat: &Process, other: &[String]) {
        let who = format!("h{}", self.host.number());
        let by_author = lines_of(&who, &chat.messages());
        for lines in by_author.values() {
            let all = if self.said.contains(&lines[0]) { &self.said[..] } else { other };
            let first = all.iter().position(|line| *line == lines[0]).expect("somebody said it");
            let expected = &all[first..first + lines.len().min(all.len() - first)];
            assert_eq!(lines, expected, "{who} was shown this");
        }
    }
}

/// Both talk, and both hear it.
fn talk(one: &mut Side<'_>, two: &mut Side<'_>, what: &str) -> (Duration, Duration) {
    let start = std::time::Instant::now();
    let (first, second) = (one.say(what), two.say(what));
    let heard = |side: &Side<'_>, line: &str| side.chat().wait_text(line).saturating_duration_since(start);
    let took = (heard(one, &second), heard(two, &first));
    for _ in 0..3 {
        let (first, second) = (one.say(what), two.say(what));
        heard(one, &second);
        heard(two, &first);
    }
    took
}

/// `goer` goes and comes back while `stayer` stays.
fn go_and_come(stayer: &mut Side<'_>, goer: &mut Side<'_>, kill: bool) {
    let how = if kill { "killed" } else { "stopped" };
    goer.go(kill, &stayer.said);
    let mut alone = vec![stayer.say("alone")];
    std::thread::sleep(Duration::from_secs(2));
    alone.push(stayer.say("still alone"));
    goer.come();
    let (to_stayer, to_goer) = talk(stayer, goer, "goes on");
    let number = goer.host.number();
    let missed = goer.chat().messages().iter().filter(|message| alone.contains(&message.text)).count();
    tell(&format!("h{number} was shown {missed} of the 2 lines said while it was away"));
    tell(&format!(
        "h{number} {how} and back: heard after {} ms, hears after {} ms",
        to_stayer.as_millis(),
        to_goer.as_millis()
    ));
    assert!(to_stayer.max(to_goer) < AT_ONCE, "talk rests too long after h{number} was {how}");
}

#[test]
fn two_go_on_after_stops_and_kills() {
    let Some(lab) = Lab::new(2) else { return };
    let [first, second] = lab.hosts() else { unreachable!("two were asked for") };
    let (mut one, mut two) = (Side::new(first), Side::new(second));
    talk(&mut one, &mut two, "begins");
    for round in 0..2 {
        go_and_come(&mut one, &mut two, false);
        go_and_come(&mut one, &mut two, true);
        go_and_come(&mut two, &mut one, false);
        go_and_come(&mut two, &mut one, true);
        tell(&format!("round {round} is over"));
    }
    std::thread::sleep(Duration::from_secs(1));
    let (said_by_one, said_by_two) = (one.said.clone(), two.said.clone());
    one.go(false, &said_by_two);
    two.go(false, &said_by_one);
}

#[test]
fn a_cable_pulled_and_put_back_loses_nothing() {
    let Some(lab) = Lab::new(2) else { return };
    let [first, second] = lab.hosts() else { unreachable!("two were asked for") };
    let (mut one, mut two) = (Side::new(first), Side::new(second));
    talk(&mut one, &mut two, "begins");
    // Short, and so long that each takes the other for failed.
    for cut in [2, 20].map(Duration::from_secs) {
        lab.plug(second, false);
        let lines = (one.say("into the void"), two.say("into the void"));
        std::thread::sleep(cut);
        lab.plug(second, true);
        let back = std::time::Instant::now();
        let heard = [one.chat().wait_text(&lines.1), two.chat().wait_text(&lines.0)];
        let took = heard.map(|at| at.saturating_duration_since(back).as_millis());
        tell(&format!("cut for {cut:?}: what was said meanwhile came after {took:?} ms"));
        talk(&mut one, &mut two, "goes on");
    }
    let (said_by_one, said_by_two) = (one.said.clone(), two.said.clone());
    one.go(false, &said_by_two);
    two.go(false, &said_by_one);
}
