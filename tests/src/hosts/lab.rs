//! Hosts: a network namespace each, on a bridge that lies in a namespace of its own; or on several
//! bridges with a router between them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::process::{Process, Run};
use super::wide::{self, Wide};
use super::{PATIENCE, binary, tell, until};

/// What our namespaces' names begin with; then the process id, and the lab's number in it.
const PREFIX: &str = "treecast";

/// Labs of one test process come one after the other: they would starve each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Some hosts on one LAN, or on several. Dropping it ends what runs there and removes all of it.
#[derive(Debug)]
pub struct Lab {
    hosts: Vec<Host>,
    /// Forwards between the networks, if there are several; never multicast.
    router: Option<Namespace>,
    /// Between the hosts of a wide lab, instead of bridges.
    wide: Option<Wide>,
    /// The namespace with the bridges.
    switch: Namespace,
    folder: PathBuf,
    /// What the names of its namespaces begin with.
    name: String,
    _turn: MutexGuard<'static, ()>,
}

/// One host of a [`Lab`].
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    number: usize,
    network: usize,
    folder: PathBuf,
}

impl Lab {
    /// So many hosts, 10.77.0.1 and on, which hear each other's multicast. `None`, and a line that
    /// says so, where that cannot be done.
    ///
    /// # Panics
    /// Instead of `None`, if `TREECAST_HOSTS` is `require`; and if `ip` fails half-way.
    pub fn new(hosts: usize) -> Option<Self> {
        Self::of(&[hosts])
    }

    /// As [`Lab::new`], but several networks of so many hosts each, with a router between them that
    /// passes on everything but multicast. The second network is 10.78.0.0/16, and so on; hosts are
    /// numbered through all of them.
    ///
    /// # Panics
    /// As [`Lab::new`].
    pub fn routed(networks: &[usize]) -> Option<Self> {
        let lab = Self::of(networks)?;
        Some(lab.with_router(networks.len()))
    }

    /// Hosts in one network that are far from each other: what one sends reaches another after the delay
    /// in the row of the first and the column of the second, by their numbers less one. They cannot be
    /// cut off, blocked or unplugged, but [go dark](Lab::darken).
    ///
    /// # Panics
    /// As [`Lab::new`]; and if the matrix is not square.
    pub fn wide(one_way: Vec<Vec<Duration>>) -> Option<Self> {
        let hosts = one_way.len();
        assert!(one_way.iter().all(|row| row.len() == hosts), "a delay for each pair");
        // At most 15 characters, and no other process has them.
        let tap = |place: usize| format!("tc{}-{place}", std::process::id());
        let made = Self::empty().and_then(|mut lab| {
            answers("tc", "-Version")?;
            lab.wide = Some(Wide::new(one_way, tap)?);
            Ok(lab)
        });
        let mut lab = or_skip(made)?;
        for place in 0..hosts {
            lab.add_far_host(place, &tap(place));
        }
        Some(lab)
    }

    fn of(networks: &[usize]) -> Option<Self> {
        let mut lab = or_skip(Self::empty())?;
        for (network, hosts) in networks.iter().enumerate() {
            lab.add_bridge(&bridge(network));
            for _ in 0..*hosts {
                lab.add_host(network);
            }
        }
        Some(lab)
    }

    /// Without hosts and bridges.
    fn empty() -> Result<Self, String> {
        // Built before the clock of any test runs.
        binary::path();
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        sweep();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}", std::process::id());
        possible()?;
        let switch = Namespace::new(format!("{name}-lan"))?;
        let folder = std::env::temp_dir().join(&name);
        Ok(Self { hosts: Vec::new(), router: None, wide: None, switch, folder, name, _turn: turn })
    }

    fn add_bridge(&self, name: &str) {
        self.switch.ip(&["link", "add", name, "type", "bridge", "mcast_snooping", "0"]);
        self.switch.ip(&["link", "set", name, "up"]);
    }

    fn add_host(&mut self, network: usize) {
        let number = self.hosts.len() + 1;
        self.add_host_by(number, network, |lab, namespace| {
            lab.wire(namespace, "eth0", &port(number), network, &ip_of(network, number));
        });
    }

    /// Whose interface is this device.
    fn add_far_host(&mut self, place: usize, tap: &str) {
        self.add_host_by(place + 1, 0, |_, namespace| {
            ip(&["link", "set", tap, "netns", &namespace.0, "name", "eth0", "address", &wide::mac(place)])
                .expect("a device of our own can be given away");
            namespace.ip(&["addr", "add", &format!("{}/16", ip_of(0, place + 1)), "dev", "eth0"]);
            namespace.ip(&["link", "set", "eth0", "up"]);
        });
    }

    /// `connect` gives the namespace its interface.
    fn add_host_by(&mut self, number: usize, network: usize, connect: impl FnOnce(&Self, &Namespace)) {
        let namespace = Namespace::new(format!("{}-h{number}", self.name)).expect("a namespace more");
        namespace.ip(&["link", "set", "lo", "up"]);
        connect(self, &namespace);
        namespace.ip(&["route", "add", "default", "dev", "eth0"]);
        let folder = self.folder.join(format!("h{number}"));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        self.hosts.push(Host { namespace, number, network, folder });
    }

    /// A cable from a new interface in the namespace to a bridge.
    fn wire(&self, to: &Namespace, interface: &str, port: &str, network: usize, ip: &str) {
        self.switch.ip(&["link", "add", port, "type", "veth", "peer", interface, "netns", &to.0]);
        self.switch.ip(&["link", "set", port, "master", &bridge(network), "up"]);
        to.ip(&["addr", "add", &format!("{ip}/16"), "dev", interface]);
        to.ip(&["link", "set", interface, "up"]);
    }

    fn with_router(mut self, networks: usize) -> Self {
        let router = Namespace::new(format!("{}r", self.switch.0)).expect("a namespace more");
        for network in 0..networks {
            self.wire(
                &router,
                &format!("eth{network}"),
                &format!("uplink{network}"),
                network,
                &gateway(network),
            );
        }
        router.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        self.router = Some(router);
        for host in &self.hosts {
            host.namespace.ip(&["route", "replace", "default", "via", &gateway(host.network)]);
        }
        self
    }

    /// From now on these hosts and the others are out of each other's reach, while each side goes on
    /// among itself: no host sees its cable go.
    pub fn cut(&self, away: &[&Host]) {
        let island = "island";
        self.add_bridge(island);
        for host in away {
            self.switch.ip(&["link", "set", &port(host.number), "master", island]);
        }
    }

    /// All are together again.
    pub fn heal(&self) {
        for host in &self.hosts {
            self.switch.ip(&["link", "set", &port(host.number), "master", &bridge(host.network)]);
        }
        self.switch.ip(&["link", "del", "island"]);
    }

    /// From now on nothing that one of the first sends reaches one of the second; the other way
    /// stays open, and adds to what was blocked before.
    pub fn block(&self, from: &[&Host], to: &[&Host]) {
        let ports = |hosts: &[&Host]| -> String {
            let ports: Vec<_> = hosts.iter().map(|host| format!("\"{}\"", port(host.number))).collect();
            ports.join(", ")
        };
        let (from, to) = (ports(from), ports(to));
        let rules = format!(
            "add table bridge lab\n\
             add chain bridge lab forward {{ type filter hook forward priority 0; }}\n\
             add rule bridge lab forward iifname {{ {from} }} oifname {{ {to} }} drop\n"
        );
        self.nft(&rules);
    }

    /// Nothing is blocked any more.
    pub fn unblock(&self) {
        self.nft("add table bridge lab\ndelete table bridge lab\n");
    }

    fn nft(&self, rules: &str) {
        let script = self.folder.join("rules.nft");
        std::fs::write(&script, rules).expect("the lab's folder can be written");
        self.switch.run(&["nft", "-f", script.to_str().expect("our own path is text")]);
    }

    /// The switch of a wide lab.
    ///
    /// # Panics
    /// If this is none.
    pub fn switch(&self) -> &Wide {
        self.wide.as_ref().expect("hosts that are far from each other")
    }

    /// From now on nothing that this host of a wide lab sends gets anywhere, and nothing reaches it:
    /// unlike a process that is killed, it does not even close its connections.
    ///
    /// # Panics
    /// As [`Lab::switch`].
    pub fn darken(&self, host: &Host) {
        self.switch().darken(host.number - 1);
    }

    /// The host's link takes so many megabits a second each way from now on, in bursts as large as what a kernel
    /// hands over at once: cut into packets, ten full links are more than two cores of a machine can emulate.
    pub fn shape(&self, host: &Host, mbit: u64) {
        let (rate, port) = (format!("{mbit}mbit"), port(host.number));
        for (namespace, device) in [(&host.namespace, "eth0"), (&self.switch, port.as_str())] {
            let tbf = ["tbf", "rate", &rate, "burst", "70000", "latency", "500ms"];
            let replace = ["tc", "qdisc", "replace", "dev", device, "root"];
            namespace.run(&[&replace[..], &tbf[..]].concat());
        }
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Pulls the host's plug, or puts it in again.
    pub fn plug(&self, host: &Host, plugged: bool) {
        self.switch.ip(&["link", "set", &port(host.number), if plugged { "up" } else { "down" }]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.hosts.clear();
        // Ignored: what is left is in the system's folder for what may be lost.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A network's bridge.
fn bridge(network: usize) -> String {
    format!("lan{network}")
}

/// A host's address.
fn ip_of(network: usize, number: usize) -> String {
    format!("10.{}.{}.{}", 77 + network, number / 250, number % 250)
}

/// The router's address in a network.
fn gateway(network: usize) -> String {
    format!("10.{}.255.254", 77 + network)
}

/// The bridge's end of a host's cable.
fn port(host: usize) -> String {
    format!("port{host}")
}

impl Host {
    /// Its number, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Its address: 10.77.0.NUMBER, for the first 249 of the first network.
    pub fn ip(&self) -> String {
        ip_of(self.network, self.number)
    }

    /// The data directory that [`Host::treecast`] names; nobody has made it yet.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A folder of the host's own for whatever a test needs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its uplink takes so many megabits a second from now on.
    pub fn shape(&self, mbit: u64) {
        // What fits into a millisecond goes out at once; less than a frame would never go.
        let burst = (mbit * 1_000 / 8).max(2_000).to_string();
        let rate = format!("{mbit}mbit");
        let tbf = ["tbf", "rate", &rate, "burst", &burst, "latency", "500ms"];
        let replace = ["tc", "qdisc", "replace", "dev", "eth0", "root"];
        self.namespace.run(&[&replace[..], &tbf[..]].concat());
    }

    /// Starts `treecast` here, with `--json` and the host's data directory.
    pub fn treecast(&self, args: &[&str]) -> Process {
        self.watched(args, |_| false)
    }

    /// As [`Host::treecast`], but `take` sees each line of stdout as it comes, and those it takes
    /// are not kept: for runs that say more than fits in memory.
    pub fn watched(&self, args: &[&str], take: impl FnMut(&Value) -> bool + Send + 'static) -> Process {
        let data_dir = self.data_dir();
        let mut all = vec!["--json", "--data-dir", data_dir.to_str().expect("our own path is text")];
        all.extend_from_slice(args);
        Process::start_watched(self.command(&all), self.name(&all), take)
    }

    /// Starts `treecast` here with these arguments only.
    pub fn bare(&self, args: &[&str]) -> Process {
        Process::start(self.command(args), self.name(args))
    }

    fn name(&self, args: &[&str]) -> String {
        format!("h{} {}", self.number, args.join(" "))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        // `ip` becomes what it starts, so signals reach it.
        command.args(["netns", "exec", &self.namespace.0]).arg(binary::path()).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.folder).env("RUST_BACKTRACE", "1");
        command
    }

    /// Starts a shell script here; `$TREECAST` is the binary with `--json` and the data
    /// directory, `$DATA` that directory.
    pub fn shell(&self, script: &str) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.0, "sh", "-c", script]);
        let binary = binary::path().display();
        command.env("DATA", self.data_dir());
        command.env("TREECAST", format!("{binary} --json --data-dir {}", self.data_dir().display()));
        Process::start(command, format!("h{} sh -c {script:?}", self.number))
    }

    /// The id of the node that runs here, once one does.
    pub fn node_id(&self) -> String {
        until(PATIENCE, "a running node", || {
            let run = self.run(&["id"], b"");
            run.of_type("id").first().and_then(|line| line["node"].as_str()).map(str::to_owned)
        })
    }

    /// Runs a command here to its end, with this on stdin.
    pub fn run(&self, args: &[&str], stdin: &[u8]) -> Run {
        self.treecast(args).finish(stdin)
    }
}

/// A network namespace; dropping it ends what runs in it.
#[derive(Debug)]
struct Namespace(String);

impl Namespace {
    fn new(name: String) -> Result<Self, String> {
        ip(&["netns", "add", &name])?;
        Ok(Self(name))
    }

    /// Inside.
    fn ip(&self, args: &[&str]) {
        let all: Vec<&str> = ["-n", &self.0].iter().chain(args).copied().collect();
        ip(&all).expect("`ip` does as it did before");
    }

    /// Any other command inside.
    fn run(&self, command: &[&str]) {
        let all: Vec<&str> = ["netns", "exec", &self.0].iter().chain(command).copied().collect();
        ip(&all).expect("the system lets us");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Ends the processes of a namespace and removes it.
fn remove(namespace: &str) {
    let pids = ip(&["netns", "pids", namespace]).unwrap_or_default();
    for pid in pids.split_whitespace() {
        signal("KILL", pid);
    }
    if let Err(why) = ip(&["netns", "del", namespace]) {
        tell(&format!("{namespace} is left behind: {why}"));
    }
}

/// Removes what test processes left behind that were killed themselves.
fn sweep() {
    let namespaces = ip(&["netns", "list"]).unwrap_or_default();
    for namespace in namespaces.lines().filter_map(|line| line.split_whitespace().next()) {
        let mut parts = namespace.split('-');
        let owner = (parts.next() == Some(PREFIX)).then(|| parts.next()).flatten();
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(namespace);
        }
    }
}

/// Sends a signal, by its name without `SIG`.
pub(super) fn signal(name: &str, pid: &str) {
    // Ignored: a process may have ended by itself.
    let _ =
        Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, pid]).stderr(Stdio::null()).status();
}

fn possible() -> Result<(), String> {
    let me = std::fs::metadata("/proc/self").map_err(|error| error.to_string())?;
    if me.uid() != 0 {
        return Err(format!("this is user {}", me.uid()));
    }
    answers("nft", "--version")
}

/// Whether this command is there.
fn answers(command: &str, ask: &str) -> Result<(), String> {
    let status = Command::new(command).arg(ask).stdout(Stdio::null()).status();
    status.map(|_| ()).map_err(|error| format!("`{command}` does not start: {error}"))
}

/// The lab; or a line that says why there is none.
fn or_skip(made: Result<Lab, String>) -> Option<Lab> {
    made.inspect_err(|why| {
        let required = std::env::var("TREECAST_HOSTS").is_ok_and(|it| it == "require");
        assert!(!required, "hosts are required, but {why}");
        tell(&format!("skipped: needs root, `ip`, `nft` and sometimes `tc` for hosts of its own ({why})"));
    })
    .ok()
}

/// Runs `ip`; its output, or what it complained of.
fn ip(args: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`ip` does not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`ip {}`: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
