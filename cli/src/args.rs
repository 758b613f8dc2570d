//! What was typed, as typed. What is meant is worked out in [`settings`](crate::settings).

mod files;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use treecast_node::control::protocol::Wait;

use crate::input::{
    Bound, Committee, GroupName, NewName, Since, committee, duration, order, route, socket_address, wait,
};
use crate::output::ColorChoice;
use crate::sim::SimFlags;

/// Talk on your own network: no server, nothing to set up.
#[derive(Debug, Parser)]
#[command(name = "treecast", version, max_term_width = 100)]
#[command(after_help = "\
Examples:
  treecast chat lobby             talk with everybody on this LAN who types the same
  treecast up &                   keep a node running; other commands use it
  treecast pub lobby 'it works'   say one thing
  treecast COMMAND --help         more about a command")]
pub(crate) struct Typed {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct GlobalArgs {
    /// Where the node's identity and state are: one directory, one node.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Read settings from this TOML file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object a line, errors too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say less: results and errors only.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more; -vv and -vvv for the curious.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours.
    #[arg(long, global = true, value_name = "auto|always|never", value_enum, hide_possible_values = true)]
    pub(crate) color: Option<ColorChoice>,
}

/// How a node starts; for a command that starts one.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Node (when this command starts one)")]
pub(crate) struct NodeArgs {
    /// Listen here, /ip4/0.0.0.0/tcp/4001 say; again for more. Default: TCP and QUIC, all
    /// addresses, a free port that is remembered.
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<String>,
    /// Connect to this node, /ip4/192.0.2.7/tcp/4001 say; again for more.
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) peer: Vec<String>,
    /// Do not look for nodes on the LAN, nor be found there.
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Take no part in Kademlia: members of created groups beyond the LAN neither find this node
    /// nor are found by it, other than by addresses.
    #[arg(long)]
    pub(crate) no_kad: bool,
    /// Serve metrics for Prometheus here, at /metrics: 127.0.0.1:9464 say. Whoever can connect
    /// reads them.
    #[arg(long, value_name = "ADDR", value_parser = socket_address)]
    pub(crate) metrics: Option<SocketAddr>,
}

impl Verb {
    /// The groups that were typed.
    pub(crate) fn groups_mut(&mut self) -> Vec<&mut GroupName> {
        match self {
            Self::Up(args) => args.group.iter_mut().collect(),
            Self::Chat(args) => vec![&mut args.group],
            Self::Pub(args) => vec![&mut args.group],
            Self::Sub(args) => vec![&mut args.group],
            Self::History(args) => vec![&mut args.group],
            Self::Search(args) => args.group.iter_mut().collect(),
            Self::Peers(args) => args.group.iter_mut().collect(),
            Self::Tree(args) => vec![&mut args.group],
            Self::Group(GroupVerb::Remove(args)) => vec![&mut args.group],
            Self::File(FileVerb::Announce(args)) => vec![&mut args.group],
            Self::File(FileVerb::Ls(args)) => args.group.iter_mut().collect(),
            Self::Invite(args)
            | Self::Group(
                GroupVerb::Join(args)
                | GroupVerb::Show(args)
                | GroupVerb::Leave(args)
                | GroupVerb::Recover(args),
            ) => vec![&mut args.group],
            _ => Vec::new(),
        }
    }
}

impl LogFormat {
    /// Its name, as typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl NodeArgs {
    /// The first node option that was typed.
    pub(crate) fn first_typed(&self) -> Option<&'static str> {
        if !self.listen.is_empty() {
            Some("--listen")
        } else if !self.peer.is_empty() {
            Some("--peer")
        } else if self.no_mdns {
            Some("--no-mdns")
        } else {
            let metrics = self.metrics.map(|_| "--metrics");
            self.no_kad.then_some("--no-kad").or(metrics)
        }
    }
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a node in the foreground until it is stopped.
    #[command(after_help = "\
Examples:
  treecast up
  treecast up --group lobby --listen /ip4/0.0.0.0/tcp/4001
  treecast up --metrics 127.0.0.1:9464     for Prometheus
Stop it with Ctrl-C or `treecast down`.")]
    Up(UpArgs),
    /// Stop the running node, and wait until it has ended.
    #[command(after_help = "Example:\n  treecast down")]
    Down,
    /// Show how the running node is.
    #[command(after_help = "Example:\n  treecast status --json")]
    Status,
    /// Show who this node is.
    #[command(after_help = "Example:\n  treecast id")]
    Id,
    /// Choose what others see as your name.
    #[command(after_help = "Example:\n  treecast nick Ada")]
    Nick(NickArgs),
    /// Talk in a group; lines from stdin when it is not a terminal.
    #[command(after_help = "\
Examples:
  treecast chat lobby                  on each machine of the LAN
  uptime | treecast chat lobby         say it and end
In a chat: /who, /nick NAME, /quit; //text says /text.")]
    Chat(ChatArgs),
    /// Publish one message, or one a line from stdin.
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  treecast pub lobby 'build is green'
  tail -f log | treecast pub lobby     one message a line
  treecast pub lobby hi --wait all     until everybody online has it

Lines may be any bytes. One longer than 1 MiB is skipped and named on stderr; the exit code is then 2. If a wait is not \
met in time, it is 4."
    )]
    Pub(PubArgs),
    /// Print a group's messages as they come.
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  treecast sub lobby
  treecast sub lobby --json | jq -r .text
  treecast sub lobby --count 1 --timeout 30s
  treecast sub lobby --since start          all that is kept, then what comes
  treecast sub garden --since 120           from that index on, in a group with a total order"
    )]
    Sub(SubArgs),
    /// Print what is kept of a group's messages, oldest first.
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  treecast history lobby --limit 20
  treecast history lobby --since 2h --json | jq -r .text
What is kept is up to the group (`group create --retain`). --since goes by when messages came to this node."
    )]
    History(HistoryArgs),
    /// Find messages by their words, in all groups or in one.
    #[command(after_help = "\
Examples:
  treecast search green build
  treecast search 抹茶 --group lobby
All words must be in the message, also as parts of longer ones; case and accents do not matter.")]
    Search(SearchArgs),
    /// List the nodes that are connected, or a group's.
    #[command(after_help = "Examples:\n  treecast peers\n  treecast peers lobby")]
    Peers(PeersArgs),
    /// Show this node's place in a group's tree.
    #[command(after_help = "Examples:\n  treecast tree lobby\n  treecast tree lobby --watch")]
    Tree(TreeArgs),
    /// Measure the way to a node.
    #[command(
        allow_negative_numbers = true,
        after_help = "Example:\n  treecast ping 12D3KooW… --count 3     (ids: `treecast peers`)"
    )]
    Ping(PingArgs),
    /// Make groups, join and leave them; the groups this node is in.
    #[command(
        subcommand,
        after_help = "\
Examples:
  treecast group create garden       whoever gets its ticket may join
  treecast group join treecast1…     with a ticket
  treecast group ls"
    )]
    Group(GroupVerb),
    /// Announce files to a group, and fetch them from everyone who has them.
    #[command(
        subcommand,
        after_help = "\
Examples:
  treecast file announce slides.pdf --group lobby
  treecast file ls
  treecast file get slides.pdf"
    )]
    File(FileVerb),
    /// Print a ticket: how others can join a group, with where members are now.
    #[command(after_help = "\
Examples:
  treecast invite garden
  treecast invite garden | ssh there treecast group join -
Whoever has the ticket may join; those who have an older one may, too.")]
    Invite(GroupArg),
    /// Show which settings are in effect, and where each comes from.
    #[command(after_help = "\
Example:
  TREECAST_NO_MDNS=1 treecast config
A flag wins over TREECAST_… in the environment, that over the TOML file, that over the default.")]
    Config(ConfigArgs),
    /// Look at what may stand in the way: disk, clock, network, who can be reached.
    #[command(after_help = "\
Examples:
  treecast doctor
  treecast doctor --json | jq 'select(.ok == false)'
Works with a running node and without. Exit code 0 if all is well, 8 if something is not; the last two lines say \
what, and what to type next.")]
    Doctor,
    /// Print what makes a shell complete treecast's commands.
    #[command(
        after_help = "Example:\n  treecast completions bash > ~/.local/share/bash-completion/completions/treecast"
    )]
    Completions(CompletionsArgs),
    /// Measure real nodes in this process, over real transports.
    #[command(
        allow_negative_numbers = true,
        after_help = "Example:\n  treecast bench --nodes 10 --size 1024 --seconds 5"
    )]
    Bench(BenchArgs),
    /// Simulate a group on virtual time: what it would cost, how long it would take.
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  treecast sim
  treecast sim --nodes 1000 --noise 0 --seeds 5
  treecast sim --kill 30@10 --loss 0.02 --json
  treecast sim --scenario bad-day.toml          a file: nodes = 1000, kill = \"30@20\", …

The real protocol runs, on a model of the network. Nodes start all at once; T and all @SECONDs count from when the group has \
settled and was silent for 10 s. The same seed gives the same run, everywhere."
    )]
    Sim(Box<SimArgs>),
    /// Print the manual page.
    #[command(after_help = "Example:\n  treecast man | man -l -")]
    Man,
}

/// `bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Nodes; one of them publishes, the others count.
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) nodes: usize,
    /// What they talk over: tcp, quic or memory.
    #[arg(long, default_value = "tcp")]
    pub(crate) transport: crate::bench::Transport,
    /// Bytes of a message, 16 to 1048576.
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    pub(crate) size: usize,
    /// For how long messages are published.
    #[arg(long, default_value = "5", value_name = "S", value_parser = crate::input::seconds)]
    pub(crate) seconds: f64,
    /// The group's order: unordered, fifo, causal or total.
    #[arg(long, default_value = "causal")]
    pub(crate) order: treecast_overlay::Order,
    /// Nodes that agree on a total order: 1, 3 or 5.
    #[arg(long, value_name = "K")]
    pub(crate) committee: Option<usize>,
    /// Whole nodes that keep all of it on disk, each in a temporary directory of its own.
    #[arg(long)]
    pub(crate) storage: bool,
}

/// `sim`
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// What is tried.
    #[command(flatten)]
    pub(crate) flags: SimFlags,
    /// Read the options from this TOML file, under the same names; what is typed wins.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
}

/// `up`
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// How the node starts.
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Be in this group while running; again for more.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Vec<GroupName>,
    /// In groups with a total order, help to order messages once up for so long. Default: 60s.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) serve_after: Option<Duration>,
    /// How logs are written to stderr.
    #[arg(long, value_name = "text|json", value_enum, hide_possible_values = true)]
    pub(crate) log_format: Option<LogFormat>,
}

/// `nick`
#[derive(Debug, Args)]
pub(crate) struct NickArgs {
    /// The name, at most 64 characters.
    pub(crate) name: String,
}

/// `chat`
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// The group: a name, a ticket, or - for a ticket on stdin.
    pub(crate) group: GroupName,
    /// How the node starts.
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// `pub`
#[derive(Debug, Args)]
pub(crate) struct PubArgs {
    /// The group: a name, a ticket, or - for a ticket on stdin.
    pub(crate) group: GroupName,
    /// What to say; without it, lines from stdin.
    pub(crate) text: Option<String>,
    /// Wait for each message until: `sent` (a neighbour has it), `stored` (it is on this node's disk
    /// and will go out, whatever happens), a number (so many others have it), or `all` (all that are
    /// online).
    #[arg(long, value_name = "sent|stored|N|all", default_value = "sent", value_parser = wait)]
    pub(crate) wait: Wait,
    /// How long to wait for each message.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// How the node starts.
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// `sub`
#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    /// The group: a name, a ticket, or - for a ticket on stdin.
    pub(crate) group: GroupName,
    /// End after so many messages.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after this time, 10s or 500ms say; with --count, exit code 4 if fewer came.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Where to begin: `now`, `start` (with all that is kept), with what came in so long a time, 10m
    /// or 2h say, or in a total order at an index, 120 say.
    #[arg(long, value_name = "now|start|DURATION|INDEX", default_value = "now")]
    pub(crate) since: Since,
    /// In a total order, show messages before it is settled, too: each comes again when it is.
    #[arg(long)]
    pub(crate) tentative: bool,
    /// How the node starts.
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// `history`
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The group: a name, a ticket, or - for a ticket on stdin.
    pub(crate) group: GroupName,
    /// Only the last so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Where to begin: `start`, with what came in so long a time, 10m or 2h say, or in a total order at an
    /// index, 120 say.
    #[arg(long, value_name = "start|DURATION|INDEX", default_value = "start")]
    pub(crate) since: Since,
}

/// `search`
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// What to look for: words, or parts of words.
    #[arg(required = true)]
    pub(crate) query: Vec<String>,
    /// Only in this group.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<GroupName>,
}

/// `peers`
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    /// Only those in this group.
    pub(crate) group: Option<GroupName>,
}

/// `tree`
#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    /// The group: a name, a ticket, or - for a ticket on stdin.
    pub(crate) group: GroupName,
    /// Show it again when it changes, until stopped.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `ping`
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// The node's id.
    pub(crate) node: String,
    /// How often.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
}

/// What can be done with groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupVerb {
    /// Make a group and be in it; others join with its ticket.
    #[command(
        allow_negative_numbers = true,
        after_help = "\
Examples:
  treecast group create garden
  treecast group create builds --order fifo --retain 7d --retain 1GiB
  treecast group create board --members 12D3KooW…,12D3KooW…     these nodes only, and this one
All members see the same sequence, unless another --order is chosen. Members that run with `treecast up` keep it going \
while others are away; this node must be up until some do.
If the name is taken on this node, the new group is called NAME~ab12 here."
    )]
    Create(CreateArgs),
    /// Join a group and stay in it, across restarts.
    #[command(after_help = "\
Examples:
  treecast group join treecast1…     with a ticket
  treecast group join - <ticket      that stands in a file
  treecast group join lobby          the open group of this name
It is joined once that is saved, whether members answer yet or not.")]
    Join(GroupArg),
    /// List the groups this node is in.
    #[command(after_help = "Example:\n  treecast group ls --json")]
    Ls,
    /// Show a group and its members.
    #[command(after_help = "Example:\n  treecast group show lobby")]
    Show(GroupArg),
    /// Leave a group for good: others see you as gone, not as offline.
    #[command(after_help = "Example:\n  treecast group leave lobby")]
    Leave(GroupArg),
    /// Remove a member for good, as the group's founder: nobody takes anything from it any more.
    #[command(after_help = "Example:\n  treecast group remove team bob\n\n\
Members hear of it as they are reached; what the removed one had said before stays.")]
    Remove(RemoveArgs),
    /// Go on with a group whose committee has lost its majority for good, as its founder, in one that follows it.
    #[command(after_help = "\
Example:
  treecast group recover team
Only where more than half of the committee will never come back. The group that follows has the same name, order and \
members' list, and counts on from the last message that had its place here; others join it with its ticket, which is \
said in the old group. The order of the old group, if its committee comes back after all, is not taken over.")]
    Recover(GroupArg),
}

/// `group remove`
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The group: a name, a ticket, or - for a ticket on stdin.
    pub(crate) group: GroupName,
    /// Whom: a member's nick, or its id (`treecast group show` lists both).
    pub(crate) node: String,
}

/// `group create`
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The group's name: 1 to 64 characters of any script.
    pub(crate) name: NewName,
    /// In which order messages are delivered: as they come, each author's in order, answers after
    /// their questions too, or to all members in the same.
    #[arg(long, value_name = "unordered|fifo|causal|total", default_value = "total", value_parser = order)]
    pub(crate) order: treecast_node::Order,
    /// How messages travel.
    #[arg(long, value_name = "tree:shared|tree:source|tree:auto|unicast", default_value = "tree:auto", value_parser = route)]
    pub(crate) route: treecast_node::Route,
    /// What members keep at least: an age (7d), a size (1GiB) or a count (10000); again for another
    /// kind, then what exceeds any of them may go.
    #[arg(long, value_name = "AGE|SIZE|COUNT")]
    pub(crate) retain: Vec<Bound>,
    /// Who may help to order messages, in a total order: any member that runs with `treecast up`, or
    /// only those named by --members and this node.
    #[arg(long, value_name = "any|named", default_value = "any", value_parser = committee)]
    pub(crate) committee: Committee,
    /// A static group: these nodes only (and this one), by id, or by nick if known here.
    #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
    pub(crate) members: Vec<String>,
}

pub(crate) use self::files::{AnnounceArgs, FileVerb, GetArgs};

/// A group that is meant.
#[derive(Debug, Args)]
pub(crate) struct GroupArg {
    /// The group: a name, a ticket, or - for a ticket on stdin.
    pub(crate) group: GroupName,
}

/// `config`
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// How a node would start.
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Groups a node would be in.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Vec<GroupName>,
    /// After how long a node would help to order messages.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) serve_after: Option<Duration>,
    /// How logs would be written.
    #[arg(long, value_name = "text|json", value_enum, hide_possible_values = true)]
    pub(crate) log_format: Option<LogFormat>,
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
