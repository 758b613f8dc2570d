//! What a node answers, laid out for people.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use treecast_node::control::protocol::{
    GroupLine, Line, MemberEntry, Members, MessageLine, Status, TotalEntry,
};

use super::color::{self, Style, paint};
use super::{Screen, clean, counted, layout, tree};

/// Nicks that were seen, so that two nodes of one nick are told apart.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// This node, where that matters.
    pub(crate) me: String,
    /// Nick → the nodes that use it; bounded, since peers choose nicks.
    users: BTreeMap<String, Vec<String>>,
    /// What each node was called when it was last seen here; bounded likewise.
    present: BTreeMap<String, String>,
}

/// Most nicks to remember; beyond, equal nicks are not told apart any more.
const MAX_NICKS: usize = 10_000;

impl Names {
    /// Nothing seen yet, by this node.
    pub(crate) fn of(me: &str) -> Self {
        Self { me: me.to_owned(), ..Self::default() }
    }

    /// Who was in the group when we came.
    pub(crate) fn learn(&mut self, members: &[MemberEntry]) {
        for member in members {
            self.call(&member.node, &member.nick);
            if member.state == "online" {
                self.is_here(&member.node, &member.nick);
            }
        }
    }

    /// Notes that a node is here; what it was called, if it was here under another name.
    fn is_here(&mut self, node: &str, nick: &str) -> Option<String> {
        if self.present.len() >= MAX_NICKS && !self.present.contains_key(node) {
            return None;
        }
        let before = self.present.insert(node.to_owned(), nick.to_owned());
        before.filter(|before| before != nick)
    }

    /// What to call a node: its nick (with the end of its id if another uses the same), or
    /// the end of its id.
    pub(crate) fn call(&mut self, node: &str, nick: &str) -> String {
        let nick = clean::line(nick).trim().to_owned();
        if nick.is_empty() {
            return short(node);
        }
        if self.users.len() >= MAX_NICKS && !self.users.contains_key(&nick) {
            return nick;
        }
        let users = self.users.entry(nick.clone()).or_default();
        if !users.iter().any(|user| user == node) && users.len() < 8 {
            users.push(node.to_owned());
        }
        if users.len() > 1 { format!("{nick}~{}", tail(node, 4)) } else { nick }
    }
}

fn tail(node: &str, count: usize) -> &str {
    let start = node.char_indices().rev().nth(count.saturating_sub(1)).map_or(0, |(at, _)| at);
    &node[start..]
}

/// The end of a node's id: what differs between nodes.
pub(super) fn short(node: &str) -> String {
    format!("…{}", clean::line(tail(node, 6)))
}

/// The lines that show an answer; none for what is the client's own business.
pub(super) fn render(line: &Line, names: &mut Names, screen: &Screen) -> Vec<String> {
    match line {
        Line::Ready { node, nick, addresses, metrics } => {
            ready(node, nick, addresses, metrics.as_deref(), screen)
        }
        Line::Status(status) => status_lines(status, screen),
        Line::Id { node, nick } => vec![format!("{}  {node}", clean::line(nick))],
        Line::Group(group) => group_lines(group, screen),
        Line::Ticket { ticket, .. } => vec![ticket.clone()],
        Line::Message(message) => message_lines(message, names, screen),
        Line::File(file) => super::files::file_line(file),
        Line::Progress(progress) => vec![super::files::progress_text(progress)],
        Line::Receipt { have, of, .. } => vec![has_it(*have, *of)],
        Line::Tree(tree) => tree::lines(tree, &names.me, screen),
        Line::Ping { node, rtt_ms, transport, direct } => {
            let way = if *direct { "direct" } else { "through a relay" };
            vec![format!("{}: {} over {transport}, {way}", short(node), millis(*rtt_ms))]
        }
        other => event(other, names).into_iter().collect(),
    }
}

/// How many others have a message.
pub(crate) fn has_it(have: usize, of: usize) -> String {
    match (have, of) {
        (1, 1) => "The one other member has it.".to_owned(),
        (1, of) => format!("1 of {of} others has it."),
        (have, of) => format!("{have} of {of} others have it."),
    }
}

fn ready(
    node: &str,
    nick: &str,
    addresses: &[String],
    metrics: Option<&str>,
    screen: &Screen,
) -> Vec<String> {
    let bold = |text: &str| paint(screen.color, Style::Bold, text);
    let mut lines = vec![format!("{} is up as {node}", bold(&clean::line(nick)))];
    lines.extend(telling(addresses, screen).iter().map(|address| format!("  listening on {address}")));
    lines.extend(metrics.map(|address| format!("  metrics at   http://{address}/metrics")));
    lines.push(format!("Talk:  {}      Stop:  Ctrl-C or `treecast down`", bold("treecast chat lobby")));
    lines
}

/// The addresses worth showing to people: those that others can use, if there are any.
fn telling<'a>(addresses: &'a [String], screen: &Screen) -> Vec<&'a str> {
    let local = |address: &str| {
        ["/ip4/127.", "/ip6/::1/", "/ip6/fe80:"].iter().any(|prefix| address.starts_with(prefix))
    };
    let all = || addresses.iter().map(String::as_str);
    let useful: Vec<&str> = all().filter(|address| !local(address)).collect();
    if screen.verbose > 0 || useful.is_empty() { all().collect() } else { useful }
}

/// An event of a group as a sentence; `None` for what people need not see.
pub(crate) fn event(line: &Line, names: &mut Names) -> Option<String> {
    Some(match line {
        Line::Member { event, node, nick, .. } => {
            let who = names.call(node, nick);
            let before = match event.as_str() {
                "joined" | "online" | "renamed" => names.is_here(node, nick),
                _ => {
                    names.present.remove(node);
                    None
                }
            };
            match event.as_str() {
                "joined" => format!("* {who} joined"),
                "renamed" if before.is_some() => {
                    format!("* {} is called {who} now", names.call(node, &before.unwrap_or_default()))
                }
                "online" => format!("* {who} is back"),
                "offline" => format!("* {who} went offline"),
                "failed" => format!("* {who} does not answer any more"),
                "left" => format!("* {who} left the group"),
                "removed" if *node == names.me => {
                    "! this node was removed from the group by its founder: nothing is sent or heard there any more"
                        .to_owned()
                }
                "removed" => format!("* {who} was removed from the group"),
                other => format!("* {who}: {}", clean::line(other)),
            }
        }
        Line::Lagged { missed, .. } => {
            let were = if *missed == 1 { "was" } else { "were" };
            format!("! {missed} {were} skipped: this reader was too slow, or away too long")
        }
        Line::Gap { event, source, from, to, .. } => {
            let count = to.saturating_sub(*from);
            let who = short(source);
            match event.as_str() {
                "lost" if count == 1 => format!("! a batch of {who} is lost: nobody has it"),
                "lost" => format!("! {count} batches of {who} are lost: nobody has them"),
                "repaired" if count == 1 => format!("* a missing batch of {who} has come"),
                "repaired" => format!("* {count} missing batches of {who} have come"),
                _ if count == 1 => format!("* a batch of {who} is missing; asking for it"),
                _ => format!("* {count} batches of {who} are missing; asking for them"),
            }
        }
        Line::Order { event, .. } if event == "resumed" => "* messages get their places again".to_owned(),
        Line::Order { reason, .. } => {
            let why = reason.as_deref().map_or_else(Default::default, clean::line);
            format!(
                "! messages do not get their places in the group's order: {why}; they do once that changes"
            )
        }
        Line::Partition { event, .. } if event == "healed" => "* the group is whole again".to_owned(),
        Line::Partition { .. } => "! the group may be cut in two".to_owned(),
        Line::Parent { tree, to, reason, .. } => match to {
            Some(parent) => format!("* parent in {}: {} ({reason})", tree::name(tree), short(parent)),
            None => format!("* no parent in {} ({reason})", tree::name(tree)),
        },
        Line::Notice { what, .. } => format!("! {}", clean::line(what)),
        _ => return None,
    })
}

/// A message: `12:03 Ada: text` on a terminal, `Ada: text` in a pipe; further lines indented.
fn message_lines(message: &MessageLine, names: &mut Names, screen: &Screen) -> Vec<String> {
    let name = names.call(&message.source, &message.nick);
    let who = paint(screen.color, color::of_node(&message.source), &name);
    let time = if screen.terminal {
        format!("{} ", paint(screen.color, Style::Dim, &clock(message.time)))
    } else {
        String::new()
    };
    let indent = layout::width(&name) + 2 + if screen.terminal { 6 } else { 0 };
    let announced = message.file.as_ref().map(super::files::announced);
    let announced = announced.or_else(|| message.ended.as_ref().map(|it| super::files::ended(it, &name)));
    let body = match (announced.as_ref().or(message.text.as_ref()), &message.data) {
        (Some(text), _) => clean::lines(text).into_iter().map(std::borrow::Cow::into_owned).collect(),
        (None, data) => vec![{
            let bytes = data.as_deref().map_or(0, data_len) as u64;
            format!("[{} of data]", counted(bytes, "byte", "bytes"))
        }],
    };
    let mut body: Vec<String> = body;
    if message.forked {
        body.last_mut().into_iter().for_each(|last| last.push_str(" (forked)"));
    }
    let body = if screen.terminal { wrapped(&body, indent) } else { body };
    let mut lines = Vec::with_capacity(body.len());
    for (at, text) in body.iter().enumerate() {
        lines.push(match at {
            0 => format!("{time}{who}: {text}"),
            _ => format!("{}{text}", " ".repeat(indent)),
        });
    }
    lines
}

/// Wraps to the terminal's width, if that leaves a readable column.
fn wrapped(body: &[String], indent: usize) -> Vec<String> {
    let columns = columns().saturating_sub(indent);
    if columns < 20 {
        return body.to_vec();
    }
    body.iter().flat_map(|text| layout::wrap(text, columns)).collect()
}

/// Columns and rows of the terminal on stdout; 80 and 24 if it does not say.
pub(crate) fn terminal_size() -> (usize, usize) {
    let size = ::terminal_size::terminal_size();
    size.map_or((80, 24), |(columns, rows)| (usize::from(columns.0).max(1), usize::from(rows.0).max(1)))
}

/// Columns of the terminal on stdout.
pub(crate) fn columns() -> usize {
    terminal_size().0
}

/// Bytes that a padded base64 text stands for.
fn data_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(text.len() / 4 * 3)
}

/// The author's time of day here.
fn clock(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or("--:--".to_owned(), |time| time.to_zoned(TimeZone::system()).strftime("%H:%M").to_string())
}

pub(super) fn millis(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// How long ago, or for how long: `3 s`, `5 min`, `2 h 5 min`, `3 d 2 h`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn status_lines(status: &Status, screen: &Screen) -> Vec<String> {
    let nick = paint(screen.color, Style::Bold, &clean::line(&status.nick));
    let mut lines = vec![
        format!("{nick}  {}", status.node),
        format!("  up for    {} (process {})", span(status.uptime_s), status.pid),
        format!("  peers     {}", status.peers),
    ];
    let groups = status.groups.iter().map(|name| clean::line(name).into_owned()).collect::<Vec<_>>();
    lines.push(format!(
        "  groups    {}",
        if groups.is_empty() { "none".to_owned() } else { groups.join(", ") }
    ));
    for (at, address) in telling(&status.addresses, screen).iter().enumerate() {
        lines.push(format!("  {}  {address}", if at == 0 { "listening" } else { "         " }));
    }
    lines.push(format!("  data in   {}", status.data_dir));
    lines.extend(status.metrics.iter().map(|address| format!("  metrics   http://{address}/metrics")));
    if !status.mdns {
        lines.push("  mDNS      off: not found on the LAN".to_owned());
    }
    if !status.kad {
        lines.push("  Kademlia  off: not found beyond the LAN, but by address".to_owned());
    }
    if let Some(failure) = &status.store_failure {
        lines.push(format!(
            "  store     {}; what should last is lost when the node ends",
            clean::line(failure)
        ));
    }
    if !status.same_identity.is_empty() {
        let there = telling(&status.same_identity, screen).join(", ");
        lines.push(format!("  identity  another node runs with it, at {there}; stop one of them"));
    }
    let full = status.collections.iter().filter(|(_, c)| c.cap > 0 && c.len.max(c.bytes) * 10 >= c.cap * 9);
    lines.extend(
        full.map(|(name, c)| format!("  {name} is nearly full: {} of {}", c.len.max(c.bytes), c.cap)),
    );
    if screen.verbose > 0 {
        let row = |(name, c): (&String, &_)| collection_row(name, c);
        let rows: Vec<Vec<String>> = status.collections.iter().map(row).collect();
        lines.extend(layout::table(&["  COLLECTION", "ENTRIES", "BYTES", "CAP"], &rows));
    }
    lines
}

fn collection_row(name: &str, c: &treecast_node::control::protocol::Collection) -> Vec<String> {
    vec![format!("  {name}"), c.len.to_string(), c.bytes.to_string(), c.cap.to_string()]
}

fn group_lines(group: &GroupLine, screen: &Screen) -> Vec<String> {
    let Members::List(members) = &group.members else { return vec![group_row(group).join("  ")] };
    let name = paint(screen.color, Style::Bold, &clean::line(&group.name));
    let mut lines = vec![
        format!("{name}  {}", group.id),
        format!("  {}, {}; {}", group.order, group.route, state_sentence(&group.state)),
    ];
    lines.extend(rules(group));
    lines.extend(group.total.as_ref().into_iter().flat_map(|total| order_lines(total, members)));
    let rows: Vec<Vec<String>> = members.iter().map(member_row).collect();
    lines.extend(layout::table(&["  MEMBER", "STATE", "HELD", "NODE"], &rows));
    lines
}

/// How a total order stands: who keeps it going, how far it is, what holds it up.
fn order_lines(order: &TotalEntry, members: &[MemberEntry]) -> Vec<String> {
    let Some((committee, index)) = order.committee.as_ref().zip(order.index) else { return Vec::new() };
    let called = |node: &String| {
        let nick = members.iter().find(|it| it.node == *node).map(|it| clean::line(&it.nick).into_owned());
        nick.filter(|nick| !nick.trim().is_empty()).unwrap_or_else(|| short(node))
    };
    let names: Vec<String> = committee.iter().map(called).collect();
    let leader = order.leader.as_ref().map(|node| format!(", led by {}", called(node))).unwrap_or_default();
    let by = match names.len() {
        0 => "by nobody who is known here yet".to_owned(),
        _ => format!("by {}{leader}", names.join(", ")),
    };
    let mut lines = vec![format!("  {} ordered; {by}", counted(index, "message", "messages"))];
    if let Some(why) = &order.stalled {
        let waiting = counted(order.tentative.unwrap_or(0) as u64, "batch waits", "batches wait");
        lines.push(format!("  stalled: {}; {waiting}", clean::line(why)));
    }
    lines
}

/// Who may join and what is kept, where something is said of it.
fn rules(group: &GroupLine) -> Option<String> {
    let admission = match group.admission.as_str() {
        "ticket" => Some("joined with a ticket".to_owned()),
        "members" => Some("listed nodes only".to_owned()),
        _ => None,
    };
    let founder = group.founder.as_deref().map(|node| format!("founded by {}", short(node)));
    let retain = group.retain.map(|retain| {
        let age = retain.age_s.map(age);
        let bytes = retain.bytes.map(size);
        let count = retain.count.map(|count| counted(count, "message", "messages"));
        format!("keeps {}", age.into_iter().chain(bytes).chain(count).collect::<Vec<_>>().join(", "))
    });
    let all: Vec<String> = admission.into_iter().chain(founder).chain(retain).collect();
    (!all.is_empty()).then(|| format!("  {}", all.join("; ")))
}

/// A span that somebody chose: in the largest unit that says it whole.
fn age(seconds: u64) -> String {
    let units = [(604_800, "weeks"), (86_400, "days"), (3_600, "hours"), (60, "minutes"), (1, "seconds")];
    let whole = units.iter().find(|(unit, _)| seconds >= 2 * unit && seconds.is_multiple_of(*unit));
    whole.map_or_else(|| span(seconds), |(unit, name)| format!("{} {name}", seconds / unit))
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len()).rev().find(|unit| bytes >> (10 * unit) > 0).unwrap_or(0);
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    if value.fract() == 0.0 {
        format!("{value} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A group that was just made, and how others come in.
pub(crate) fn new_group_lines(group: &GroupLine, screen: &Screen) -> Vec<String> {
    let name = paint(screen.color, Style::Bold, &clean::line(&group.name));
    let mut lines = vec![format!("{name}  {}", group.id), format!("  {}, {}", group.order, group.route)];
    lines.extend(rules(group));
    let whom = match group.admission.as_str() {
        "members" => "the listed nodes come in",
        _ => "whoever has it may join",
    };
    lines.push(format!("Its ticket ({whom}: `treecast group join TICKET`, `treecast chat TICKET`):"));
    lines.extend(group.ticket.clone());
    lines
}

fn state_sentence(state: &str) -> &str {
    match state {
        "ready" => "connected",
        "waiting" => "nobody else found yet",
        "left" => "left",
        "removed" => "this node was removed by the founder",
        other => other,
    }
}

fn member_row(member: &MemberEntry) -> Vec<String> {
    let nick = clean::line(&member.nick);
    let name = if nick.trim().is_empty() { short(&member.node) } else { nick.into_owned() };
    let state = if member.neighbour { format!("{}, neighbour", member.state) } else { member.state.clone() };
    let held: u64 = member.frontier.values().fold(0, |sum, next| sum.saturating_add(*next));
    vec![format!("  {name}"), state, counted(held, "batch", "batches"), member.node.clone()]
}

/// A group as a row of [`GROUP_HEAD`].
pub(crate) fn group_row(group: &GroupLine) -> Vec<String> {
    let members = match &group.members {
        Members::Count(count) => *count,
        Members::List(list) => list.len(),
    };
    vec![
        clean::line(&group.name).into_owned(),
        members.to_string(),
        state_sentence(&group.state).to_owned(),
        group.order.clone(),
        group.route.clone(),
    ]
}

/// The head of a table of [`group_row`]s.
pub(crate) const GROUP_HEAD: [&str; 5] = ["GROUP", "MEMBERS", "STATE", "ORDER", "ROUTE"];

/// The head of a table of [`peer_row`]s.
pub(crate) const PEER_HEAD: [&str; 6] = ["NAME", "ROUND TRIP", "OVER", "GROUPS", "NODE", "ADDRESS"];

/// A peer as a row of [`PEER_HEAD`].
pub(crate) fn peer_row(peer: &treecast_node::control::protocol::PeerLine) -> Vec<String> {
    let nick = clean::line(&peer.nick);
    let groups: Vec<_> = peer.groups.iter().map(|name| clean::line(name)).collect();
    vec![
        if nick.trim().is_empty() { short(&peer.node) } else { nick.into_owned() },
        peer.rtt_ms.map_or("-".to_owned(), millis),
        if peer.direct { peer.transport.clone() } else { format!("{}, relayed", peer.transport) },
        if groups.is_empty() { "-".to_owned() } else { groups.join(", ") },
        peer.node.clone(),
        peer.addresses.first().map_or("-".to_owned(), |address| clean::line(address).into_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        Screen::early(false)
    }

    fn message(nick: &str, source: &str, text: &str) -> Line {
        Line::Message(MessageLine {
            group: "lobby".into(),
            source: source.into(),
            nick: nick.into(),
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
    }

    #[test]
    fn messages_cannot_draw_on_the_terminal() {
        let mut names = Names::default();
        let lines = render(
            &message("A\u{1b}[2J\u{202e}da", "12D3x", "hi\u{1b}]0;x\u{7}\nthere"),
            &mut names,
            &screen(),
        );
        assert_eq!(lines, ["A[2Jda: hi]0;x", "        there"]);
    }

    #[test]
    fn equal_nicks_are_told_apart() {
        let mut names = Names::default();
        assert_eq!(names.call("12D3aaaa", "ada"), "ada");
        assert_eq!(names.call("12D3bbbb", "ada"), "ada~bbbb");
        assert_eq!(names.call("12D3aaaa", "ada"), "ada~aaaa");
        assert_eq!(names.call("12D3KooWabcdef", " "), "…abcdef");
    }

    #[test]
    fn sizes_and_times() {
        assert_eq!(
            [data_len(""), data_len("/w=="), data_len("AAA="), data_len("AAAA"), data_len("=")],
            [0, 1, 2, 3, 0]
        );
        assert_eq!([span(5), span(90), span(3700), span(90_000)], ["5 s", "1 min", "1 h 1 min", "1 d 1 h"]);
        assert_eq!(clock(u64::MAX), "--:--");
        assert_eq!(
            [age(604_800), age(1_209_600), age(5_400), age(61), age(1)],
            ["7 days", "2 weeks", "90 minutes", "61 seconds", "1 s"]
        );
        assert_eq!(
            [size(0), size(1 << 30), size(100_000_000), size(u64::MAX)],
            ["0 B", "1 GiB", "95.4 MiB", "16777216 TiB"]
        );
    }
}
