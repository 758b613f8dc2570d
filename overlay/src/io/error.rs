//! Why the core refuses what its application asks for.

/// Why a publication was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The group is not joined.
    #[error("this node is not in that group")]
    UnknownGroup,
    /// The message is larger than the cap.
    #[error("a message may have at most {max} bytes; this one has {len}")]
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// The cap, [`Config::max_message`](crate::Config).
        max: usize,
    },
    /// The publish queue is full: wait until [`Engine::publish_room`](crate::Engine::publish_room)
    /// says there is room.
    #[error("the publish queue is full")]
    Full,
    /// We are leaving or shutting down.
    #[error("this node is leaving the group")]
    Leaving,
    /// The founder has removed this node from the group.
    #[error("the founder has removed this node from the group")]
    Removed,
    /// The batch could not be made durable.
    #[error("the message could not be written to disk")]
    NotDurable,
}

/// Why a member was not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The group is not joined, or being left.
    #[error("this node is not in that group")]
    UnknownGroup,
    /// The group has no founder.
    #[error("the group has no founder, and nobody else can remove members")]
    NoFounder,
    /// Another node is its founder.
    #[error("only the founder of the group can remove members")]
    NotFounder,
    /// The founder cannot remove itself.
    #[error("the founder cannot be removed")]
    Founder,
    /// As many were removed as may be, [`Config::max_removals`](crate::Config).
    #[error("as many members were removed as may be ({0})")]
    Full(usize),
    /// The record could not be made durable.
    #[error("the removal could not be written to disk")]
    NotDurable,
}
