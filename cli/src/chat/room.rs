//! What a person in a chat types and sees, apart from the terminal itself.

use std::collections::VecDeque;

use treecast_node::control::protocol::{Line, MemberEntry, MessageLine};

use super::marks::who_lacks;
use crate::output::{Names, Screen, Style, columns, event, paint, wrap};

/// What a typed line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Say this.
    Say(String),
    /// Who is here?
    Who,
    /// Who has not said that it has my last line?
    Missing,
    /// What stands before what was shown of the past?
    More,
    /// Be called this.
    Nick(String),
    /// How does this work?
    Help,
    /// Go.
    Quit,
    /// No such command.
    Unknown(String),
}

impl Command {
    /// Reads a typed line: `/word` is a command, `//word` says `/word`.
    pub(super) fn read(line: &str) -> Self {
        let Some(rest) = line.strip_prefix('/') else { return Self::Say(line.to_owned()) };
        if rest.starts_with('/') {
            return Self::Say(rest.to_owned());
        }
        let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match (word, argument.trim()) {
            ("who" | "names", _) => Self::Who,
            ("missing", _) => Self::Missing,
            ("more", _) => Self::More,
            ("nick", name) if !name.is_empty() => Self::Nick(name.to_owned()),
            ("help" | "?", _) => Self::Help,
            ("quit" | "exit" | "q", _) => Self::Quit,
            _ => Self::Unknown(word.to_owned()),
        }
    }
}

/// What `/help` says.
pub(super) const HELP: &str = "/who: who is here · /missing: who lacks your last line · /more: what was said before · /nick NAME: your \
     name · /quit or Ctrl-D: go · //text: say /text";

/// Most own lines that wait to be recognised when they come back.
const MAX_PENDING: usize = 10_000;

/// Turns lines of the node into lines of the terminal.
pub(super) struct Room<'a> {
    screen: &'a Screen,
    names: Names,
    me: String,
    /// Own lines that stand on the terminal already, where they were typed.
    typed: VecDeque<String>,
}

impl<'a> Room<'a> {
    /// An empty room, entered by `me`.
    pub(super) fn new(screen: &'a Screen, me: &str) -> Self {
        Self { screen, names: Names::of(me), me: me.to_owned(), typed: VecDeque::new() }
    }

    /// A line that was typed here and is about to be said.
    pub(super) fn say(&mut self, text: &str) {
        if self.typed.len() < MAX_PENDING {
            self.typed.push_back(text.to_owned());
        }
    }

    /// What to print for a message of the past, whoever said it.
    pub(super) fn past_lines(&mut self, message: &Line) -> Vec<String> {
        self.screen.lines(message, &mut self.names)
    }

    /// Who has not said that it has our last line.
    pub(super) fn who_lacks(&mut self, lacking: &[MemberEntry]) -> String {
        who_lacks(&mut self.names, lacking)
    }

    /// What to print for a line of the node.
    pub(super) fn lines(&mut self, line: &Line) -> Vec<String> {
        match line {
            Line::Message(message) if self.is_echo(message) => Vec::new(),
            Line::Message(_) => self.screen.lines(line, &mut self.names),
            Line::Joined { members, .. } => {
                self.names.learn(members);
                vec![self.dim(&self.who_else(members))]
            }
            line => {
                let me = matches!(line, Line::Member { node, event, .. } if *node == self.me && event != "removed");
                let text = if me { None } else { event(line, &mut self.names) };
                text.map(|text| self.dim(&text)).into_iter().collect()
            }
        }
    }

    /// Whether this is what was typed here, and stands there already.
    pub(super) fn is_echo(&mut self, message: &MessageLine) -> bool {
        message.source == self.me && self.is_typed(message.text.as_deref())
    }

    /// Whether this own message is the next one that was typed here.
    fn is_typed(&mut self, text: Option<&str>) -> bool {
        let is = self.typed.front().map(String::as_str) == text && text.is_some();
        if is {
            self.typed.pop_front();
        }
        is
    }

    /// Who is here, as a sentence.
    pub(super) fn who_else(&self, members: &[MemberEntry]) -> String {
        let mut names = Names::of(&self.me);
        let others = members.iter().filter(|member| member.node != self.me && member.state == "online");
        let others: Vec<String> = others.map(|member| names.call(&member.node, &member.nick)).collect();
        match others.len() {
            0 => "* nobody else is here yet; others come by themselves".to_owned(),
            _ => format!("* here: {}", others.join(", ")),
        }
    }

    /// What nobody said, broken into lines that fit.
    pub(super) fn dim(&self, text: &str) -> String {
        let lines = wrap(text, columns());
        lines.iter().map(|line| paint(self.screen.color, Style::Dim, line)).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes() {
        assert_eq!(Command::read("hi /who"), Command::Say("hi /who".into()));
        assert_eq!(Command::read("//who"), Command::Say("/who".into()));
        assert_eq!(Command::read("/who"), Command::Who);
        assert_eq!(Command::read("/nick  Ada L "), Command::Nick("Ada L".into()));
        assert_eq!((Command::read("/missing"), Command::read("/more")), (Command::Missing, Command::More));
        assert_eq!(Command::read("/nick"), Command::Unknown("nick".into()));
        assert_eq!(Command::read("/q"), Command::Quit);
        assert_eq!(Command::read("/"), Command::Unknown(String::new()));
    }

    #[test]
    fn what_was_typed_here_is_not_printed_again() {
        let screen = Screen::early(false);
        let mut room = Room::new(&screen, "12D3me");
        let said = |text: &str| {
            Line::Message(treecast_node::control::protocol::MessageLine {
                group: "g".into(),
                source: "12D3me".into(),
                nick: "me".into(),
                life: 1,
                seq: 0,
                n: 0,
                index: None,
                tentative: false,
                forked: false,
                time: 0,
                text: Some(text.into()),
                data: None,
                file: None,
                ended: None,
            })
        };
        room.say("hi");
        assert_eq!(room.lines(&said("from another window")), ["me: from another window"]);
        assert_eq!(room.lines(&said("hi")), [] as [String; 0]);
        assert_eq!(room.lines(&said("hi")), ["me: hi"]);
    }
}
