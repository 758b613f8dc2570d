//! The control socket's file.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::socket_path;

/// Longest path that every system takes for a socket (macOS: 103, Linux: 107).
const MAX_PATH: usize = 103;

/// Opens the socket, mode 0600. (The directory lets only its owner in, so there is no moment
/// at which others could connect.)
pub(super) fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let short = Short::of(data_dir)?;
    let listener = UnixListener::bind(&short.path)?;
    std::fs::set_permissions(socket_path(data_dir), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the node of a data directory.
pub(super) async fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let short = Short::of(data_dir)?;
    UnixStream::connect(&short.path).await
}

/// A path to the socket that is short enough: through an open directory, if need be.
struct Short {
    path: PathBuf,
    _dir: Option<std::fs::File>,
}

impl Short {
    fn of(data_dir: &Path) -> io::Result<Self> {
        let path = socket_path(data_dir);
        if path.as_os_str().len() <= MAX_PATH || !cfg!(target_os = "linux") {
            return Ok(Self { path, _dir: None });
        }
        use std::os::fd::AsRawFd;
        let dir = std::fs::File::open(data_dir)?;
        let path = socket_path(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())));
        Ok(Self { path, _dir: Some(dir) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[tokio::test]
    async fn the_socket_is_private_and_a_long_path_is_no_obstacle() {
        let scratch = Scratch::new();
        let deep = scratch.path().join("d".repeat(120));
        for dir in [scratch.path(), deep.as_path()] {
            crate::files::private_dir(dir).expect("made");
            let _listener = bind(dir).expect("bound");
            let mode = std::fs::metadata(socket_path(dir)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            connect(dir).await.expect("connected");
        }
    }
}
