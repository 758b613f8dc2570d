//! Where the binary under test is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// `TREECAST_BIN`, or the workspace's own, built if it is missing or older than its sources.
pub(super) fn path() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| std::env::var_os("TREECAST_BIN").map_or_else(own, PathBuf::from))
}

fn own() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let binary = profile.join("treecast");
    if is_stale(&binary) {
        build(profile);
    }
    binary
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

fn is_stale(binary: &Path) -> bool {
    let Ok(built) = binary.metadata().and_then(|metadata| metadata.modified()) else { return true };
    ["overlay/src", "node/src", "cli/src"].iter().any(|sources| newest(&workspace().join(sources)) > built)
}

fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in folder.read_dir().expect("sources can be listed").flatten() {
        let metadata = entry.metadata().expect("sources can be looked at");
        let time = if metadata.is_dir() {
            newest.max(self::newest(&entry.path()))
        } else {
            metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
        };
        newest = newest.max(time);
    }
    newest
}

fn build(profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "treecast", "--target-dir"]);
    command.arg(profile.parent().expect("a profile lies in the target directory"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.current_dir(workspace()).status().expect("cargo runs");
    assert!(status.success(), "`cargo build -p treecast` failed");
}
