//! A ready treecast node: a swarm with all its transports, discovery on the LAN, an identity
//! that lasts, a control socket for `treecast` commands.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use treecast_node::{Event, Node};
//!
//! let node = Node::builder().data_dir("/var/lib/bot").spawn().await?;
//! let (sender, mut events) = node.join("lobby").await?;
//! sender.publish("hello").await?;
//! while let Some(event) = events.next().await {
//!     if let Event::Message(message) = event {
//!         println!("{}: {}", message.nick, String::from_utf8_lossy(&message.payload));
//!     }
//! }
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod clock;
mod config;
pub mod control;
mod discovery;
mod driver;
mod error;
mod event;
mod exchange;
mod failure;
mod files;
mod group;
mod handle;
mod history;
mod identity;
mod listen;
mod lock;
mod metrics;
mod receiver;
mod remembered;
mod start;
mod store;
mod swarm;
pub mod transport;
mod view;

pub use config::NodeBuilder;
pub use discovery::ear::{Multicast, probe as probe_multicast};
pub use error::{
    AnnounceError, DropFileError, GetError, GroupError, HistoryError, JoinError, NickError, NoIndex,
    PingError, PublishError, RecoverError, RemoveError, SetNickError, StartError, Stopped, UnknownGroup,
    check_nick,
};
pub use event::{Event, MemberChange, Message, PartitionChange, Range};
pub use exchange::{Dropped, FileInfo, FormerHolder, GetFile, Got, Holder, OnConflict, Progress};
pub use failure::{Failure, exit};
pub use group::{GroupRef, NewGroup};
pub use handle::{Node, Placement, Published, Receipt, ReceiptGoal, Sender};
pub use history::{Finds, Listen, Pages, Since};
pub use identity::identity;
pub use libp2p::Multiaddr;
pub use lock::{holder, wait_released};
pub use receiver::Receiver;
pub use remembered::{Remembered, RememberedNode, remembered};
pub use treecast_overlay::files::{Ending, FileHash, Offer, Retraction};
pub use treecast_overlay::wire::ticket::{Ticket, TicketError};
pub use treecast_overlay::{BatchId, Config, Descriptor, GroupId, NodeId, Order, Retention, Route};
pub use view::{ContactsView, GroupInfo, NodeStatus, PeerView, PingReport};
