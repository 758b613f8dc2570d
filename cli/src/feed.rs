//! Publishing over the control socket: lines go in as fast as the node takes them, receipts
//! come back in order.

use data_encoding::BASE64;
use tokio::sync::mpsc;
use treecast_node::control::protocol::{Feed, Request, Wait};
use treecast_node::control::{ClientReader, ClientWriter};
use treecast_node::{Failure, exit};

use crate::failure::Stop;
use crate::host::Host;
use crate::output::Screen;
use crate::stdio::{MAX_LINE, Typed};

/// A message as the node takes it: text if it is UTF-8, else base64.
pub(crate) fn message(bytes: Vec<u8>) -> Feed {
    match String::from_utf8(bytes) {
        Ok(text) => Feed::Text(text),
        Err(error) => Feed::Data(BASE64.encode(error.as_bytes())),
    }
}

/// What became of the input, beside what the node says of each message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fed {
    /// Messages handed to the node.
    pub(crate) sent: u64,
    /// The worst that lines of the input were: an exit code, 0 if all were fine.
    pub(crate) exit: u8,
}

/// Opens a `pub` request; the halves of its connection.
pub(crate) async fn open(
    host: &Host<'_>,
    group: &str,
    wait: Wait,
    timeout: Option<std::time::Duration>,
    follow: bool,
) -> Result<(ClientReader, ClientWriter), Stop> {
    let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let request = Request::Pub { group: group.to_owned(), wait, timeout_ms, follow };
    Ok(host.ask(&request).await?.split())
}

/// Hands all lines to the node and says that there are no more. A node that goes away shows
/// on the other half.
pub(crate) async fn all(mut lines: mpsc::Receiver<Typed>, mut to: ClientWriter, screen: Screen) -> Fed {
    let mut fed = Fed::default();
    while let Some(typed) = lines.recv().await {
        let failure = match typed {
            Typed::Line(line) => {
                if to.feed(&message(line)).await.is_err() {
                    return fed;
                }
                fed.sent += 1;
                continue;
            }
            Typed::TooLong(number) => too_long(&format!("Line {number}")),
            Typed::Broken(why) => {
                let fix = "Lines read so far were published.";
                Failure::new("stdin", exit::USAGE, "Stdin cannot be read any more.", format!("{why}."), fix)
            }
        };
        screen.failure(&failure);
        fed.exit = exit::USAGE;
    }
    // Ignored: if the node is gone, the receipts' half says so.
    let _ = to.feed(&Feed::End(true)).await;
    fed
}

/// A message that no group takes.
pub(crate) fn too_long(what: &str) -> Failure {
    Failure::new(
        "too-long",
        exit::USAGE,
        format!("{what} was not published."),
        format!("It is longer than {MAX_LINE} bytes, the most that a message may have."),
        "Break it into several messages.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_be_said() {
        assert_eq!(message(b"hi".to_vec()), Feed::Text("hi".into()));
        assert_eq!(message(vec![0xff]), Feed::Data("/w==".into()));
        assert_eq!(message(Vec::new()), Feed::Text(String::new()));
    }
}
