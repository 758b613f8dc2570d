//! Why links end.

use std::fmt;
use std::io;

use super::framing::ReadError;
use crate::io::CloseReason;

/// Why a link is over, or did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkClosed {
    /// The connection is gone.
    Connection,
    /// The peer does not speak the protocol.
    Unsupported,
    /// The peer did not open its lanes in time.
    TimedOut,
    /// A stream failed.
    Stream(io::ErrorKind),
    /// The peer closed its live lane.
    ByPeer,
    /// The caller or another behaviour closed it.
    ByUs,
    /// The peer broke the framing; what it sent changed nothing else.
    Protocol(&'static str),
    /// The peer does not read: its queue reached the cap.
    QueueFull,
    /// The core had no use for it, or the peer misbehaved.
    Core(CloseReason),
}

impl LinkClosed {
    /// The peer did not answer any more, or nothing reached it: no process ended, as far as it shows.
    pub fn is_silence(self) -> bool {
        matches!(self, Self::Core(CloseReason::Silent) | Self::Stream(io::ErrorKind::TimedOut))
    }
}

impl fmt::Display for LinkClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection => f.write_str("the connection closed"),
            Self::Unsupported => f.write_str("the peer does not speak treecast"),
            Self::TimedOut => f.write_str("the peer did not open its lanes in time"),
            Self::Stream(kind) => write!(f, "a stream failed: {kind}"),
            Self::ByPeer => f.write_str("closed by the peer"),
            Self::ByUs => f.write_str("closed by us"),
            Self::Protocol(what) => write!(f, "protocol violation: {what}"),
            Self::QueueFull => f.write_str("the peer does not read"),
            Self::Core(reason) => reason.fmt(f),
        }
    }
}

impl From<ReadError> for LinkClosed {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TooLong => Self::Protocol("a frame over the size cap"),
            ReadError::BadLength => Self::Protocol("a malformed length"),
            ReadError::Truncated => Self::Protocol("a truncated frame"),
            ReadError::Ended => Self::ByPeer,
            ReadError::Io(error) => Self::Stream(error.kind()),
        }
    }
}
