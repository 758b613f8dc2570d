//! Chat on a terminal: what is said scrolls above the line being typed.

use tokio::sync::mpsc;
use tokio::time::Instant;
use treecast_node::Failure;
use treecast_node::control::protocol::{Line, Members, MessageLine, Place, Request, Start, Wait};
use treecast_node::control::{Client, ClientError, ClientReader};

use super::editor::{Editor, Entry, Prompt};
use super::marks::{Mark, Marks, UNSETTLED};
use super::past::{self, Arrivals, key, messages, place};
use super::room::{Command, HELP, Room};
use super::rows::Spot;
use super::unsettled::{Firm, Unsettled};
use super::{LAST_LINES, Told, not_sent, piped};
use crate::alone;
use crate::failure::Stop;
use crate::feed;
use crate::host::Host;
use crate::input::GroupName;
use crate::output::{Screen, Style, clean_line, paint, style_of, terminal_size};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::stdio::{MAX_LINE, Typed};

/// Beside a line that never gets a place in the group's order.
const LOST: &str = "✗";

/// Typed lines that may wait for the node.
const QUEUE: usize = 256;

/// Talks until the person goes, or a signal.
pub(crate) async fn talk(
    group: &GroupName,
    host: &Host<'_>,
    settings: &Settings,
    screen: &Screen,
    signals: &Signals,
) -> Result<u8, Stop> {
    let (me, nick) = whoami(host).await?;
    let history = settings.data_dir.value.join("chat_history");
    let (name, verbose) = (group.as_str().to_owned(), screen.verbose > 0);
    let request = Request::Sub { group: name, verbose, since: Start::Now, tentative: true };
    let listening = host.ask(&request).await?;
    let Ok(editor) = Editor::start(history, prompt(&me, &nick, screen)) else {
        // No terminal that can be drawn on (TERM=dumb).
        drop(listening);
        return piped::talk(group, host, settings, screen, signals).await;
    };
    let room = Room::new(screen, &me);
    let title = format!("{} · you are {}", clean_line(&group.to_string()), clean_line(&nick));
    editor.print(paint(screen.color, Style::Bold, &title));
    editor.print(room.dim(HELP));
    let (receipts, to) = feed::open(host, group.as_str(), Wait::Sent, None, true).await?;
    let (say, said) = mpsc::channel(QUEUE);
    let feeding = tokio::spawn(feed::all(said, to, screen.clone()));
    let (marks, arrivals, told) = (Marks::default(), Arrivals::default(), Told::default());
    let unsettled = Unsettled::default();
    let say = Some(say);
    let mut chat = Chat {
        group,
        host,
        screen,
        editor,
        room,
        me,
        say,
        told,
        sent: 0,
        marks,
        arrivals,
        unsettled,
        oldest: None,
    };
    chat.look_back().await?;
    let mut sources = Sources { listening, receipts };
    let done = {
        let (alone_send, mut alone_told) = mpsc::channel(1);
        let watch = alone::watch(settings, group, host, move |alone| {
            let _ = alone_send.try_send(alone);
        });
        tokio::select! {
            done = chat.run(&mut sources, &mut alone_told) => Some(done),
            () = signals.asked() => None,
            never = watch => match never {},
        }
    };
    let result = match done {
        Some(Ok(())) => chat.leave(&mut sources, signals).await,
        Some(Err(stop)) => {
            chat.editor.abandon();
            Err(stop)
        }
        None => {
            chat.editor.abandon();
            Ok(0)
        }
    };
    feeding.abort();
    result
}

/// This node's id and nick.
async fn whoami(host: &Host<'_>) -> Result<(String, String), Stop> {
    match host.ask(&Request::Id).await?.next().await? {
        Line::Id { node, nick } => Ok((node, nick)),
        Line::Error(failure) => Err(failure.into()),
        _ => Err(ClientError::Malformed("no id".to_owned()).into()),
    }
}

/// `Ada: `, below the names of those who speak (their lines begin with the time).
fn prompt(me: &str, nick: &str, screen: &Screen) -> Prompt {
    let nick = clean_line(nick);
    let painted = paint(screen.color, style_of(me), &nick);
    (format!("      {nick}: "), format!("      {painted}: "))
}

/// Messages that fit on the screen.
fn page() -> usize {
    past::page(terminal_size().1)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

struct Sources {
    listening: Client,
    receipts: ClientReader,
}

struct Chat<'a> {
    group: &'a GroupName,
    host: &'a Host<'a>,
    screen: &'a Screen,
    editor: Editor,
    room: Room<'a>,
    me: String,
    /// Until the person goes.
    say: Option<mpsc::Sender<Typed>>,
    told: Told,
    sent: u64,
    marks: Marks,
    arrivals: Arrivals,
    /// What stands there without a place in the group's order.
    unsettled: Unsettled,
    /// The oldest message of the past that was shown.
    oldest: Option<Place>,
}

impl Chat<'_> {
    /// Until the person wants to go.
    async fn run(&mut self, from: &mut Sources, alone: &mut mpsc::Receiver<Failure>) -> Result<(), Stop> {
        loop {
            let due = self.arrivals.due(page());
            tokio::select! {
                entry = self.editor.entries.recv() => match entry {
                    Some(Entry::Line(line, spot)) => {
                        if self.obey(Command::read(&line), spot).await? {
                            return Ok(());
                        }
                        self.editor.go_on();
                    }
                    Some(Entry::Quit) | None => return Ok(()),
                },
                line = from.listening.next() => self.hear(line?)?,
                line = from.receipts.next() => self.account(line?)?,
                () = sleep_until(due) => self.show_arrivals(),
                Some(failure) = alone.recv() => self.complain(&failure),
            }
        }
    }

    /// Whether the person wants to go.
    async fn obey(&mut self, command: Command, spot: Spot) -> Result<bool, Stop> {
        match command {
            Command::Say(text) => self.say(text, spot).await,
            Command::Who => self.who().await?,
            Command::Missing => self.missing().await?,
            Command::More => self.more().await?,
            Command::Nick(name) => self.rename(name).await?,
            Command::Help => self.editor.print(self.room.dim(HELP)),
            Command::Quit => return Ok(true),
            Command::Unknown(word) => {
                let text =
                    format!("! /{} is no command here; /help shows them, //{0} says it", clean_line(&word));
                self.editor.print(self.room.dim(&text));
            }
        }
        Ok(false)
    }

    async fn say(&mut self, text: String, spot: Spot) {
        if text.len() > MAX_LINE {
            return self.complain(&feed::too_long("Your line"));
        }
        self.room.say(&text);
        self.sent += 1;
        self.marks.on_said(Some(spot));
        if let Some(say) = &self.say {
            // Ignored: a node that went away shows on the other connections.
            let _ = say.send(Typed::Line(text.into_bytes())).await;
        }
    }

    async fn who(&mut self) -> Result<(), Stop> {
        let request = Request::GroupShow { group: self.group.as_str().to_owned() };
        if let Line::Group(group) = self.host.ask(&request).await?.next().await?
            && let Members::List(members) = &group.members
        {
            let text = self.room.who_else(members);
            self.editor.print(self.room.dim(&text));
        }
        Ok(())
    }

    async fn missing(&mut self) -> Result<(), Stop> {
        let Some((life, seq)) = self.marks.last_place() else {
            self.editor.print(self.room.dim("* you have said nothing yet"));
            return Ok(());
        };
        let request = Request::Lacking { group: self.group.as_str().to_owned(), life, seq };
        match self.host.ask(&request).await?.next().await? {
            Line::Lacking { members } => {
                let text = self.room.who_lacks(&members);
                self.editor.print(self.room.dim(&text));
            }
            Line::Error(failure) => self.complain(&failure),
            _ => {}
        }
        Ok(())
    }

    /// The last screenful of what was said before.
    async fn look_back(&mut self) -> Result<(), Stop> {
        let shown = self.past(None).await?;
        self.arrivals.knows(&shown);
        if let Some(oldest) = shown.first() {
            self.oldest = Some(place(oldest));
            self.editor.print(self.room.dim("* what was said last; /more shows what was said before"));
        }
        self.show(shown);
        Ok(())
    }

    /// A screenful of what stands before the oldest that was shown.
    async fn more(&mut self) -> Result<(), Stop> {
        let shown = self.past(self.oldest.clone()).await?;
        if shown.is_empty() {
            self.editor.print(self.room.dim("* nothing is kept from before that"));
            return Ok(());
        }
        self.editor.print(self.room.dim("* before that:"));
        self.oldest = shown.first().map(place);
        self.show(shown);
        self.editor.print(self.room.dim("* /more shows what was said before that"));
        Ok(())
    }

    async fn past(&self, before: Option<Place>) -> Result<Vec<MessageLine>, Stop> {
        let (group, limit) = (self.group.as_str().to_owned(), Some(page() as u64));
        let mut asked = self.host.ask(&Request::History { group, limit, since: None, before }).await?;
        let mut lines = Vec::new();
        loop {
            match asked.next().await? {
                Line::Done { .. } => break,
                Line::Error(failure) => {
                    self.complain(&failure);
                    break;
                }
                line => lines.push(line),
            }
        }
        let mut shown = messages(lines);
        // A batch comes whole.
        shown.drain(..shown.len().saturating_sub(page()));
        Ok(shown)
    }

    fn show(&mut self, messages: Vec<MessageLine>) {
        for message in messages {
            let lines = self.room.past_lines(&Line::Message(message));
            lines.into_iter().for_each(|text| self.editor.print(text));
        }
    }

    /// What has come; of much the newest.
    fn show_arrivals(&mut self) {
        let (hidden, shown) = self.arrivals.take(page());
        if hidden > 0 {
            self.oldest = shown.first().map(place);
            let text = format!("* {hidden} messages came before these; /more shows them, the latest first");
            self.editor.print(self.room.dim(&text));
        }
        for message in shown {
            let line = Line::Message(message.clone());
            let mut lines = self.room.lines(&line);
            let last = lines.pop_if(|_| message.tentative);
            lines.into_iter().for_each(|text| self.editor.print(text));
            if let Some(last) = last {
                self.unsettled.on_printed(&message);
                let mark = paint(self.screen.color, Style::Dim, UNSETTLED);
                self.editor.open(key(&message), last, (mark, 1));
            }
        }
    }

    /// A message, which in a total order may come twice: before it has its place, and when it has.
    fn take(&mut self, message: MessageLine) {
        if message.source == self.me {
            let marks = self.marks.on_own(&message);
            self.draw(marks);
        }
        if message.tentative {
            if self.room.is_echo(&message) {
                self.unsettled.on_typed(&message);
            } else {
                self.arrivals.add(Instant::now(), message);
            }
            return;
        }
        if self.arrivals.settle(&message) {
            return;
        }
        match self.unsettled.settle(&message) {
            Firm::Typed => {}
            Firm::Printed => self.editor.close(key(&message), (" ".to_owned(), 1)),
            Firm::New if self.room.is_echo(&message) => {}
            Firm::New => self.arrivals.add(Instant::now(), message),
        }
    }

    fn draw(&self, marks: Vec<Mark>) {
        for mark in marks {
            let painted = paint(self.screen.color, mark.style, &mark.text);
            self.editor.mark(mark.spot, painted, mark.width);
        }
    }

    async fn rename(&mut self, name: String) -> Result<(), Stop> {
        match self.host.ask(&Request::Nick { name }).await?.next().await? {
            Line::Id { nick, .. } => {
                self.editor.set_prompt(prompt(&self.me, &nick, self.screen));
                self.editor.print(self.room.dim(&format!("* you are {} now", clean_line(&nick))));
            }
            Line::Error(failure) => self.complain(&failure),
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self, line: Line) -> Result<(), Stop> {
        match line {
            Line::Error(failure) => return Err(failure.into()),
            Line::Done { .. } => return Err(ClientError::Gone.into()),
            Line::Message(message) => self.take(message),
            line => {
                for lost in self.unsettled.lost(&line) {
                    let mark = paint(self.screen.color, Style::Red, LOST);
                    self.editor.close(lost, (mark, 1));
                }
                self.room.lines(&line).into_iter().for_each(|text| self.editor.print(text));
            }
        }
        Ok(())
    }

    fn account(&mut self, line: Line) -> Result<(), Stop> {
        let marks = self.marks.take(&line);
        self.draw(marks);
        let (editor, screen) = (&self.editor, self.screen);
        let complain = |failure: &Failure| editor.print(screen.three_parts(failure, Style::Red));
        if self.told.take(line, complain)? {
            return Err(ClientError::Gone.into());
        }
        Ok(())
    }

    fn complain(&self, failure: &Failure) {
        self.editor.print(self.screen.three_parts(failure, Style::Bold));
    }

    /// Sends what is still waiting, bounded; a signal ends that.
    async fn leave(mut self, from: &mut Sources, signals: &Signals) -> Result<u8, Stop> {
        self.say = None;
        self.editor.finish();
        let waiting = self.sent.saturating_sub(self.told.receipts);
        if waiting > 0 {
            self.screen.note("Sending your last lines… (Ctrl-C to end without)");
        }
        let mut told = self.told;
        let screen = self.screen;
        let all = async {
            while !told.take(from.receipts.next().await?, |failure| screen.failure(failure))? {}
            Ok::<_, Stop>(())
        };
        tokio::select! {
            sent = tokio::time::timeout(LAST_LINES, all) => match sent {
                Ok(done) => done.map(|()| 0),
                Err(_) => Err(not_sent(waiting).into()),
            },
            () = signals.asked() => Ok(0),
        }
    }
}
