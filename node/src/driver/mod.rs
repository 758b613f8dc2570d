//! The one task that owns the swarm. It sequences and forwards: what a group's handles want
//! is in `groups`, who is connected in `peers`, what is remembered in `keeper`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, Swarm, identify, mdns, ping};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use treecast_overlay::NodeId;
use treecast_overlay::behaviour::{self, Behaviour};
use treecast_overlay::io::Past;

use self::archive::Archive;
use self::doubled::Doubled;
use self::groups::Groups;
use self::guests::Guests;
use self::kad::Finding;
use self::keeper::{After, Keeper};
use self::past::Found;
use self::peers::Peers;
use self::pings::Pings;
use self::tally::Tally;
use crate::discovery;
use crate::discovery::addresses::{interface_v4, useful};
use crate::discovery::ear::Ear;
use crate::discovery::mdns::Patience;
use crate::discovery::reach::Reach;
use crate::discovery::redial::{Due, Redial};
use crate::event::Event;
use crate::handle::{Command, Stage};
use crate::store::{Done, Kept, Library, Writer};
use crate::swarm::{Behaviours, BehavioursEvent};

mod archive;
mod contacts;
mod doubled;
pub(crate) mod enter;
pub(crate) mod files;
mod goodbye;
mod groups;
mod guests;
mod holes;
mod kad;
mod keeper;
mod metrics;
mod order;
mod partition;
mod past;
mod peers;
mod pings;
mod placing;
mod receipts;
mod recover;
mod remove;
pub(crate) mod tally;
mod views;

/// Between looks at the clock: redials, saves.
const BEAT: Duration = Duration::from_millis(250);

/// Whoever started a node to listen does so within this time.
const LISTENS_WITHIN: Duration = Duration::from_secs(1);

/// Listeners that have said nothing for so long have told all their addresses.
const QUIET: Duration = Duration::from_millis(20);

/// Between saves of what may as well be lost (addresses of others), in beats.
const SAVE_EVERY: u64 = 8;

/// While nobody is connected, the core hears again of nodes that are known, in beats.
const REMIND_EVERY: u64 = 12;

/// While somebody is, but some groups have nobody, in beats.
const SEEK_EVERY: u64 = 60;

/// Between looks at where members of groups are, in beats.
const LOOK_EVERY: u64 = 120;

/// Addresses that come later than this after the start come with a change of the network.
const STARTING: Duration = Duration::from_secs(5);

/// An interface that has just come is not ready for multicast yet; libp2p's mDNS does not try again.
const MOVED: Duration = Duration::from_secs(2);

/// Commands taken in a row before the swarm has its turn.
const COMMANDS_IN_A_ROW: usize = 256;

/// Nodes found by mDNS that are remembered while they answer. As the core's `max_candidates`.
const MAX_FOUND: usize = 1_024;

/// What the driver needs to know of the node's configuration.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) event_bytes: usize,
    pub(crate) publish_bytes: usize,
    pub(crate) max_message: usize,
    pub(crate) max_groups: usize,
    pub(crate) max_links: usize,
}

/// Owns the swarm.
pub(crate) struct Driver {
    swarm: Swarm<Behaviours>,
    me: NodeId,
    nick: String,
    started: Instant,
    limits: Limits,
    commands: mpsc::UnboundedReceiver<Command>,
    groups: Groups,
    peers: Peers,
    pings: Pings,
    keeper: Keeper,
    shelves: Shelves,
    /// Answers from the history.
    found_past: (mpsc::UnboundedSender<Found>, mpsc::UnboundedReceiver<Found>),
    redial: Redial,
    reach: Reach,
    guests: Guests,
    finding: Finding,
    patience: Patience,
    /// Without mDNS there is nothing to hear.
    ear: Option<Ear>,
    doubled: Doubled,
    /// Interfaces came or went: when mDNS is made anew for that.
    renew_at: Option<Instant>,
    /// Nodes that answer on the LAN, and where.
    found: HashMap<PeerId, Vec<Multiaddr>>,
    listens: Vec<(ListenerId, Multiaddr)>,
    beats: u64,
    /// How many remembered nodes the core was told of, again and again from the first.
    reminded: usize,
    /// All goodbyes are said.
    goodbye_said: bool,
    tally: Tally,
    stage: watch::Sender<Stage>,
    removed: watch::Sender<Vec<String>>,
    /// Until when nothing is heard from the network, unless somebody listens before.
    deaf_until: Option<Instant>,
}

/// The history, for reading: others are not kept waiting by people's questions.
pub(crate) struct Shelves {
    pub(crate) serving: Library,
    pub(crate) reading: Library,
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) swarm: Swarm<Behaviours>,
    pub(crate) me: NodeId,
    pub(crate) nick: String,
    pub(crate) limits: Limits,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) kept: Kept,
    pub(crate) pasts: Vec<Past>,
    /// The first free place in the history.
    pub(crate) next_at: u64,
    pub(crate) shelves: Shelves,
    pub(crate) writer: Writer,
    pub(crate) done: mpsc::UnboundedReceiver<Vec<Done>>,
    pub(crate) explicit_peers: Vec<Multiaddr>,
    /// For jitter.
    pub(crate) seed: u64,
    /// Where it tells that it begins to stop.
    pub(crate) stage: watch::Sender<Stage>,
    /// Where it tells from which groups it was removed.
    pub(crate) removed: watch::Sender<Vec<String>>,
    /// Nothing is heard from the network before somebody listens.
    pub(crate) listener_first: bool,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let archive = Archive::new(parts.me, parts.pasts, &parts.kept.ends(), parts.next_at);
        let mut driver = Self {
            swarm: parts.swarm,
            me: parts.me,
            nick: String::new(),
            started: now,
            limits: parts.limits,
            commands: parts.commands,
            groups: Groups::default(),
            peers: Peers::default(),
            pings: Pings::default(),
            keeper: Keeper::new(parts.kept, archive, parts.writer, parts.done),
            shelves: parts.shelves,
            found_past: mpsc::unbounded_channel(),
            reach: Reach::default(),
            redial: Redial::new(parts.explicit_peers, now, parts.seed),
            guests: Guests::default(),
            finding: Finding::new(parts.seed),
            patience: Patience::new(now),
            ear: None,
            doubled: Doubled::default(),
            renew_at: None,
            found: HashMap::new(),
            listens: Vec::new(),
            beats: 0,
            reminded: 0,
            goodbye_said: false,
            tally: Tally::default(),
            stage: parts.stage,
            removed: parts.removed,
            deaf_until: parts.listener_first.then(|| now + LISTENS_WITHIN),
        };
        if driver.swarm.behaviour().mdns.is_enabled() {
            let me = Some(*driver.swarm.local_peer_id());
            driver.ear = Ear::open(me).inspect_err(|error| tracing::debug!(%error, "no own ear")).ok();
        }
        driver.take_nick(parts.nick);
        driver
    }

    /// Serves until it is told to stop or nobody holds the node any longer; then says goodbye.
    pub(crate) async fn run(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.deaf_until = self.deaf_until.map(|_| Instant::now() + LISTENS_WITHIN);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some(), if self.deaf_until.is_none() => self.on_swarm_event(event),
                () = tokio::time::sleep_until(self.deaf_until.unwrap_or(self.started)), if self.deaf_until.is_some() => {
                    self.deaf_until = None;
                }
                command = self.commands.recv() => {
                    if self.on_commands(command).is_break() {
                        break;
                    }
                }
                saved = self.keeper.saved() => self.on_saved(saved),
                Some(found) = self.found_past.1.recv() => self.on_found_past(found),
                _ = beat.tick() => self.on_beat(),
            }
            self.pump();
            self.tally.turns += 1;
        }
        self.stage.send_replace(Stage::Stopping);
        self.say_goodbye().await;
    }

    /// Waits until the listeners have addresses; not longer than it takes on a machine whose
    /// network is down.
    pub(crate) async fn await_addresses(&mut self, listeners: &[ListenerId], patience: Duration) {
        let deadline = Instant::now() + patience;
        while !listeners.iter().all(|listener| self.listens.iter().any(|(id, _)| id == listener)) {
            match tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await {
                Ok(event) => self.on_swarm_event(event),
                Err(_) => return,
            }
        }
        // One interface is told after the other.
        while let Ok(event) = tokio::time::timeout(QUIET, self.swarm.select_next_some()).await {
            self.on_swarm_event(event);
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    fn overlay(&mut self) -> &mut Behaviour {
        &mut self.swarm.behaviour_mut().overlay
    }

    fn on_commands(&mut self, first: Option<Command>) -> std::ops::ControlFlow<()> {
        let mut next = first;
        for taken in 1.. {
            match next {
                None | Some(Command::Shutdown) => return std::ops::ControlFlow::Break(()),
                Some(command) => self.on_command(command),
            }
            if taken == COMMANDS_IN_A_ROW {
                break;
            }
            match self.commands.try_recv() {
                Ok(command) => next = Some(command),
                // That nobody is left shows at the next `recv`.
                Err(_) => break,
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Ask(question) => question(self),
            Command::Publish { group, payload, room, placed } => {
                self.groups.enqueue(group, payload, room, placed)
            }
            Command::Release(group, stay) => self.release(group, stay),
            Command::Shutdown => {}
        }
    }

    /// Gives the core what waits, as far as it has room, and the store what was delivered.
    fn pump(&mut self) {
        self.keeper.file(false);
        let overlay = std::cell::RefCell::new(&mut self.swarm.behaviour_mut().overlay);
        self.groups.pump(
            |group| overlay.borrow().publish_room(group),
            |group, id, payload| overlay.borrow_mut().publish(group, id, payload),
        );
    }

    fn on_saved(&mut self, all: Vec<Done>) {
        self.tally.on_saved(&all);
        let was_well = self.keeper.failure().is_none();
        for done in all {
            match self.keeper.take(&done) {
                Some(After::Core(token, writes, _)) if done.result.is_ok() => {
                    self.keeper.on_core_written(&writes);
                    self.overlay().persisted(token);
                }
                Some(After::Core(token, writes, history)) => {
                    self.keeper.put_back(history);
                    self.on_not_persisted(token, &writes);
                }
                Some(After::History(works)) => self.keeper.on_filed(works, done.result.is_ok()),
                Some(After::Peers(nodes)) if done.result.is_err() => self.keeper.retry_peers(nodes),
                Some(After::Members(group)) if done.result.is_err() => self.keeper.retry_members(group),
                Some(After::Then(then)) => then(self, done.result),
                Some(After::Peers(_) | After::Members(_)) | None => {}
            }
        }
        if let Some(error) = self.keeper.failure().filter(|_| was_well) {
            let why = error.to_string();
            self.groups.slots.values_mut().for_each(|slot| slot.tell(Event::NotSaved { why: why.clone() }));
        }
        self.keeper.file(false);
    }

    fn on_beat(&mut self) {
        let now = Instant::now();
        self.beats += 1;
        if self.beats.is_multiple_of(SAVE_EVERY) {
            if self.beats.is_multiple_of(LOOK_EVERY) {
                self.keeper.touch_all();
            }
            self.listen_for_twin();
            self.remember_members();
            self.keeper.save();
            self.keeper.file(true);
        }
        // A connection may stand long after its other end is gone; a link does not.
        let linked: HashSet<NodeId> = self.swarm.behaviour().overlay.links().map(|(node, _)| node).collect();
        let alone = linked.is_empty();
        if self.beats.is_multiple_of(if alone { REMIND_EVERY } else { SEEK_EVERY }) {
            self.remind(alone);
        }
        let is_linked = |peer: &PeerId| peers::node_of(peer).is_some_and(|node| linked.contains(&node));
        for due in self.redial.due(now, is_linked) {
            self.dial_due(due, now);
        }
        self.beat_kad(now);
        let moved = self.renew_at.take_if(|at| *at <= now).is_some();
        if self.swarm.behaviour().mdns.is_enabled() && (self.patience.is_over(now, alone) || moved) {
            self.renew_mdns();
        }
    }

    fn dial_due(&mut self, due: Due, now: Instant) {
        let opts = match due.peer {
            // There is no link: what stands or is under way may be dead.
            Some(peer) => {
                DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![due.address]).build()
            }
            None => DialOpts::unknown_peer_id().address(due.address).build(),
        };
        let connection = opts.connection_id();
        // The swarm may report the failure of a dial while it is asked for.
        self.redial.started(due.target, connection, now);
        if let Err(error) = self.swarm.dial(opts) {
            tracing::debug!(%error, "a dial did not start");
            self.redial.on_failed(connection, now);
        }
    }

    fn renew_mdns(&mut self) {
        let me = *self.swarm.local_peer_id();
        match discovery::mdns::fresh(me, &self.listens) {
            Ok(fresh) => self.swarm.behaviour_mut().mdns = Some(fresh).into(),
            Err(error) => tracing::warn!(%error, "mDNS could not be made anew"),
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehavioursEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                tracing::debug!(peer = %peer_id, address = %endpoint.get_remote_address(), "connected");
                self.tally.on_connected(&endpoint);
                self.peers.on_connected(peer_id, connection_id, &endpoint);
                self.redial.on_connected(connection_id, peer_id);
                self.reach.on_connected(peer_id);
                self.keep_link(peer_id, endpoint.is_listener());
                self.on_found_again(&peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, endpoint, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.tally.on_disconnected(&endpoint);
                self.peers.on_closed(&peer_id, connection_id);
                if !self.peers.is_connected(&peer_id) {
                    self.guests.go(&peer_id);
                    self.overlay().keep(peer_id, false);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, connection_id, error } => {
                tracing::debug!(peer = ?peer_id, %error, "no connection");
                self.tally.on_no_connection("out");
                self.redial.on_failed(connection_id, Instant::now());
                if let Some(peer) = peer_id {
                    self.reach.on_failed(peer, &error);
                    if !self.is_linked(&peer) {
                        self.on_dialled_in_vain(&peer);
                    }
                }
            }
            SwarmEvent::IncomingConnectionError { .. } => self.tally.on_no_connection("in"),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::debug!(%address, "listening");
                self.listens.push((listener_id, address));
                self.on_addresses_changed();
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                self.listens.retain(|listen| *listen != (listener_id, address.clone()));
                self.on_addresses_changed();
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "no longer listening");
                self.listens.retain(|(_, address)| !addresses.contains(address));
                self.on_addresses_changed();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener failed"),
            _ => {}
        }
    }

    fn is_linked(&self, peer: &PeerId) -> bool {
        let node = peers::node_of(peer);
        self.swarm.behaviour().overlay.links().any(|(other, _)| Some(other) == node)
    }

    /// Those that were named by hand, and those that came by themselves, keep their links although
    /// no group is shared.
    fn keep_link(&mut self, peer: PeerId, came: bool) {
        if came && let Some(oldest) = self.guests.come(peer) {
            let named = self.redial.names(&oldest);
            self.overlay().keep(oldest, named);
        }
        if came || self.redial.names(&peer) {
            self.overlay().keep(peer, true);
        }
    }

    fn on_addresses_changed(&mut self) {
        let interfaces = self.listens.iter().filter_map(|(_, address)| interface_v4(address)).collect();
        if let Some(ear) = &self.ear {
            ear.listen_on(&interfaces);
            ear.set_own(self.listens.iter().map(|(_, address)| address.clone()));
        }
        // What comes at the start is what mDNS has begun with.
        if self.started.elapsed() > STARTING {
            self.renew_at = Some(Instant::now() + MOVED);
        }
        let own = useful(self.listens.iter().map(|(_, address)| address.clone()));
        self.overlay().set_own_addresses(own.clone());
        let before: Vec<_> = self.swarm.external_addresses().cloned().collect();
        // Kademlia's records carry addresses that count as confirmed from outside, and nothing else.
        for address in before.iter().filter(|address| !own.contains(address)) {
            self.swarm.remove_external_address(address);
        }
        for address in own.into_iter().filter(|address| !before.contains(address)) {
            self.swarm.add_external_address(address);
        }
        self.on_moved();
    }

    fn on_behaviour_event(&mut self, event: BehavioursEvent) {
        match event {
            BehavioursEvent::Overlay(behaviour::Event::Overlay(event)) => self.on_overlay_event(event),
            BehavioursEvent::Overlay(behaviour::Event::Persist { token, writes }) => {
                self.on_persist(token, writes);
            }
            BehavioursEvent::Overlay(behaviour::Event::Record(record)) => self.on_record(*record),
            BehavioursEvent::Overlay(behaviour::Event::Fetch { token, fetch }) => self.on_fetch(token, fetch),
            BehavioursEvent::Overlay(behaviour::Event::FetchEarlier { token, fetch }) => {
                self.on_fetch_earlier(token, fetch);
            }
            BehavioursEvent::Overlay(behaviour::Event::LinkOpened { node, .. }) => {
                tracing::debug!(%node, "link opened");
                self.tally.links_opened += 1;
            }
            BehavioursEvent::Overlay(behaviour::Event::LinkClosed { node, reason, .. }) => {
                tracing::debug!(%node, %reason, "link closed");
                self.tally.on_link_closed(reason);
                self.pings.on_link_closed(node);
                if reason.is_silence() {
                    let now = Instant::now();
                    self.groups.slots.values_mut().for_each(|slot| slot.on_silence(now, node));
                }
            }
            BehavioursEvent::Mdns(mdns::Event::Discovered(list)) => self.on_found(list),
            BehavioursEvent::Mdns(mdns::Event::Expired(list)) => self.on_expired(&list),
            BehavioursEvent::Kad(event) => self.on_kad_event(event),
            BehavioursEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.peers.on_identified(&peer_id, info.listen_addrs);
                self.on_identified(&peer_id, &info.protocols);
                self.remember(&peer_id);
            }
            BehavioursEvent::Ping(ping::Event { peer, result: Ok(rtt), .. }) => self.peers.on_rtt(&peer, rtt),
            _ => {}
        }
    }

    fn on_overlay_event(&mut self, event: treecast_overlay::Event) {
        if event == treecast_overlay::Event::ShutdownComplete {
            self.goodbye_said = true;
            return;
        }
        if let treecast_overlay::Event::RoundTrip { node, rtt } = event {
            return self.on_round_trip(node, rtt);
        }
        tracing::trace!(?event, "from the core");
        self.note_membership(&event);
        self.groups.tally(&event);
        self.note_history(&event);
        let ordered = match &event {
            treecast_overlay::Event::Ordered { group, .. } => Some(*group),
            _ => None,
        };
        if let Some(again) = self.groups.on_event(event) {
            self.join_core(again);
        }
        if let Some(group) = ordered {
            self.tell_placed(group);
        }
    }

    /// Who is in a group has changed: where they are is worth saving.
    fn note_membership(&mut self, event: &treecast_overlay::Event) {
        use treecast_overlay::Event as Core;
        if let Core::MemberJoined { .. }
        | Core::MemberOnline { .. }
        | Core::MemberOffline { .. }
        | Core::MemberLeft { .. }
        | Core::MemberRemoved { .. } = event
            && let Some(group) = groups::group_of(event)
        {
            self.keeper.touch_members(group);
            if matches!(event, Core::MemberRemoved { node, .. } if *node == self.me) {
                self.on_own_removal(group);
            }
            let came = matches!(event, Core::MemberJoined { .. } | Core::MemberOnline { .. });
            let asked = self.groups.slots.get(&group).filter(|_| came).and_then(groups::Slot::last_asked);
            if let Some(batch) = asked {
                self.overlay().request_receipt(group, batch);
            }
        }
    }

    fn on_found(&mut self, list: Vec<(PeerId, Multiaddr)>) {
        let mut fresh: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, address) in list {
            fresh.entry(peer).or_default().push(address);
        }
        for (peer, addresses) in fresh {
            if !self.found.contains_key(&peer) && self.found.len() >= MAX_FOUND {
                continue;
            }
            let known = self.found.entry(peer).or_default();
            let all = useful(known.drain(..).chain(addresses));
            known.clone_from(&all);
            tracing::debug!(%peer, addresses = ?all, "found on the LAN");
            self.overlay().discovered(peer, all);
        }
    }

    fn on_expired(&mut self, list: &[(PeerId, Multiaddr)]) {
        for (peer, address) in list {
            let address = discovery::addresses::without_peer(address.clone());
            if let Some(known) = self.found.get_mut(peer) {
                known.retain(|other| *other != address);
                if known.is_empty() {
                    self.found.remove(peer);
                }
            }
        }
    }
}
