//! The node's Ed25519 key, in a file of its own.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use libp2p::identity::Keypair;
use treecast_overlay::NodeId;

use crate::error::StartError;
use crate::failure::Failure;
use crate::files;
use crate::remembered::remembered;

/// Its name in the data directory.
const FILE: &str = "identity.key";

/// What a key is called that was put aside so that the node starts with a new one.
const ASIDE: &str = "identity.key.bad";

/// What stands before the base64 of the key's libp2p protobuf, which has the public half
/// as well, so that damage shows.
const PREFIX: &str = "treecast-key-1 ";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("{}: {why}", .path.display())]
    Bad { path: PathBuf, why: String },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is gone", .path.display())]
    Gone { path: PathBuf },
}

/// Reads the data directory's key; makes one if there is none. Beside a store that was used only if the key
/// was put aside: with another one the node would be a stranger to its groups, and say nothing of it.
pub(crate) fn load_or_create(data_dir: &Path, is_used: bool) -> Result<Keypair, KeyError> {
    let path = data_dir.join(FILE);
    match read(&path) {
        Err(KeyError::Io { path, source }) if source.kind() == io::ErrorKind::NotFound && is_used => {
            match data_dir.join(ASIDE).try_exists() {
                Ok(true) => load_or_create(data_dir, false),
                _ => Err(KeyError::Gone { path }),
            }
        }
        Err(KeyError::Io { path, source }) if source.kind() == io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            files::replace(data_dir, FILE, encode(&key).as_bytes())
                .map_err(|source| KeyError::Io { path, source })?;
            Ok(key)
        }
        Err(error @ KeyError::Io { .. }) => Err(error),
        found => {
            close_to_others(&path).map_err(|source| KeyError::Io { path, source })?;
            found
        }
    }
}

/// Looks at the data directory's key and changes nothing: the node it names, or `None` if there is
/// no key yet.
///
/// # Errors
/// When it cannot be used, in the words that a start would fail with.
pub fn identity(data_dir: &Path) -> Result<Option<NodeId>, Failure> {
    let path = data_dir.join(FILE);
    if matches!(path.try_exists(), Ok(false)) {
        let is_used = remembered(data_dir).is_ok_and(|all| all.is_some_and(|all| !all.groups.is_empty()));
        let is_gone = is_used && !matches!(data_dir.join(ASIDE).try_exists(), Ok(true));
        return if is_gone { Err(StartError::from(KeyError::Gone { path }).into()) } else { Ok(None) };
    }
    let key = read(&path).map_err(StartError::from)?;
    Ok(NodeId::from_peer_id_bytes(&key.public().to_peer_id().to_bytes()))
}

fn read(path: &Path) -> Result<Keypair, KeyError> {
    let bad = |why: String| KeyError::Bad { path: path.to_owned(), why };
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Err(bad("it is empty".to_owned())),
        Ok(text) => decode(text.trim_end()).map_err(bad),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(bad("it is not text".to_owned())),
        Err(source) => Err(KeyError::Io { path: path.to_owned(), source }),
    }
}

fn close_to_others(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn encode(key: &Keypair) -> String {
    let bytes = key.to_protobuf_encoding().expect("an Ed25519 key can be encoded");
    format!("{PREFIX}{}\n", BASE64.encode(&bytes))
}

fn decode(text: &str) -> Result<Keypair, String> {
    let encoded = text.strip_prefix(PREFIX).ok_or_else(|| format!("it does not begin with `{PREFIX}`"))?;
    let bytes = BASE64.decode(encoded.as_bytes()).map_err(|error| format!("it is damaged ({error})"))?;
    let key = Keypair::from_protobuf_encoding(&bytes).map_err(|_| "it is damaged".to_owned())?;
    key.try_into_ed25519().map(Keypair::from).map_err(|_| "it is no Ed25519 key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Scratch;

    #[test]
    fn the_key_is_made_once_and_private() {
        let scratch = Scratch::new();
        assert_eq!(identity(scratch.path()), Ok(None));
        let first = load_or_create(scratch.path(), false).expect("made");
        let looked = identity(scratch.path()).expect("good").expect("there");
        assert_eq!(looked.to_string(), first.public().to_peer_id().to_string());
        let path = scratch.path().join(FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("opened");
        let second = load_or_create(scratch.path(), true).expect("read");
        assert_eq!(first.public(), second.public());
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_is_gone_is_not_made_anew_in_silence() {
        let scratch = Scratch::new();
        let first = load_or_create(scratch.path(), false).expect("made");
        let (file, aside) = (scratch.path().join(FILE), scratch.path().join(ASIDE));
        std::fs::rename(&file, scratch.path().join("elsewhere")).expect("moved");
        match load_or_create(scratch.path(), true) {
            Err(KeyError::Gone { path }) => assert_eq!(path, file),
            other => panic!("{:?}", other.map(|key| key.public())),
        }
        assert!(!file.exists());
        std::fs::rename(scratch.path().join("elsewhere"), &aside).expect("put aside");
        let second = load_or_create(scratch.path(), true).expect("a new one");
        assert!(first.public() != second.public() && aside.exists());
    }

    #[test]
    fn a_damaged_key_is_named_and_left_alone() {
        let scratch = Scratch::new();
        load_or_create(scratch.path(), false).expect("made");
        let path = scratch.path().join(FILE);
        let good = std::fs::read_to_string(&path).expect("there");
        let flipped = good.replacen(&good[30..31], if &good[30..31] == "A" { "B" } else { "A" }, 1);
        for bad in ["", "hello", "treecast-key-1 !!!", "treecast-key-1 AAAA", &good[..40], &flipped] {
            std::fs::write(&path, bad).expect("damaged");
            match load_or_create(scratch.path(), true) {
                Err(KeyError::Bad { path: named, .. }) => assert_eq!(named, path),
                other => panic!("{bad:?} gave {:?}", other.map(|key| key.public())),
            }
            let failure = identity(scratch.path()).expect_err("looking finds it, too");
            assert_eq!(failure.code, "bad-key", "{bad:?}");
            assert_eq!(std::fs::read_to_string(&path).expect("still there"), bad);
        }
        std::fs::write(&path, [0xff, 0xfe]).expect("damaged");
        assert!(matches!(load_or_create(scratch.path(), true), Err(KeyError::Bad { .. })));
    }
}
