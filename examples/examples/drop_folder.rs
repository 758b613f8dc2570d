//! A folder that is kept in step across machines: whatever file is put into it, or changed in it, on one of them comes
//! to all.
//!
//! `cargo run --example drop_folder -- DATA_DIR FOLDER GROUP` on each machine; without arguments it shows two of them on
//! this one, in folders for the moment. Files are announced once they have lain still for two seconds; of each name the version that was announced last is fetched, and replaces the one before it. What somebody
//! put or changed *here* is kept in `.replaced` when another's version takes its place. Files that are deleted come
//! again. Folders in the folder, names that not all systems take, and what was announced by another name already are
//! left alone.
//!
//! In a group with a total order (as `treecast group create` makes it) all agree on which version came last. In an open
//! one, two people who change a file in the same second may each end with the other's.

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use treecast_node::{FileHash, FileInfo, GetFile, Multiaddr, Node, OnConflict};
use treecast_overlay::files::clean_name;

/// Between looks at the folder and the group.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file that was written to more lately is not whole yet.
const STILL: Duration = Duration::from_secs(2);

/// Where what was put or changed here is kept once another's version has taken its place.
const REPLACED: &str = ".replaced";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [] => show().await,
        [data_dir, folder, group] => {
            let node = Node::builder().data_dir(data_dir).group(group.as_str()).spawn().await?;
            println!("{} keeps {folder} in step with {group}", node.id());
            let mut keeper = Keeper::new(&node, Path::new(folder), group)?;
            tokio::select! {
                done = keeper.keep_in_step() => done?,
                _ = tokio::signal::ctrl_c() => {}
            }
            node.shutdown().await;
            Ok(())
        }
        _ => Err("usage: drop_folder [DATA_DIR FOLDER GROUP]".into()),
    }
}

/// Two folders on this machine: a file goes from the first to the second, is changed there, and comes back.
async fn show() -> Result<(), Box<dyn Error>> {
    let data = std::env::temp_dir().join(format!("treecast-drop-folder-{}", std::process::id()));
    let anywhere: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse()?;
    let node = |name: &str| {
        let node = Node::builder().data_dir(data.join(name)).nick(name).mdns(false);
        node.listen(anywhere.clone()).group("folder")
    };
    let ada = node("ada").spawn().await?;
    let bob = node("bob").peer(ada.addresses().await?.remove(0)).spawn().await?;
    let [adas, bobs] = ["adas folder", "bobs folder"].map(|it| data.join(it));
    for folder in [&adas, &bobs] {
        std::fs::create_dir_all(folder)?;
    }
    let change_and_wait = async {
        std::fs::write(adas.join("list"), "bread\n")?;
        comes(&bobs.join("list"), "bread\n").await;
        std::fs::write(bobs.join("list"), "bread\nbutter\n")?;
        comes(&adas.join("list"), "bread\nbutter\n").await;
        std::io::Result::Ok(())
    };
    let (mut first, mut second) = (Keeper::new(&ada, &adas, "folder")?, Keeper::new(&bob, &bobs, "folder")?);
    tokio::select! {
        done = first.keep_in_step() => done?,
        done = second.keep_in_step() => done?,
        done = change_and_wait => done?,
        () = tokio::time::sleep(Duration::from_secs(60)) => return Err("the folders are not in step".into()),
    }
    println!("both folders have the list, as it was changed in the second");
    ada.shutdown().await;
    bob.shutdown().await;
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

/// Until a file holds a text.
async fn comes(path: &Path, text: &str) {
    while std::fs::read_to_string(path).ok().as_deref() != Some(text) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is to be done about a name.
enum Step {
    Nothing,
    Announce,
    /// Fetch the newest version; what lies here was put or changed here, and is kept beside.
    Fetch {
        keep: bool,
    },
}

struct Keeper<'a> {
    node: &'a Node,
    folder: PathBuf,
    group: &'a str,
    /// What the files here were when they were looked at last: when written, how long, their hash.
    hashes: HashMap<String, (SystemTime, u64, FileHash)>,
    /// What was announced and has not come back from the group: when, in unix milliseconds.
    announced: HashMap<String, (FileHash, u64)>,
}

impl<'a> Keeper<'a> {
    fn new(node: &'a Node, folder: &Path, group: &'a str) -> std::io::Result<Keeper<'a>> {
        let folder = std::path::absolute(folder)?;
        Ok(Keeper { node, folder, group, hashes: HashMap::new(), announced: HashMap::new() })
    }

    async fn keep_in_step(&mut self) -> Result<(), Box<dyn Error>> {
        loop {
            let here = self.look().await?;
            let mut versions: BTreeMap<String, Vec<FileInfo>> = BTreeMap::new();
            let mut names_of: HashMap<FileHash, String> = HashMap::new();
            for info in self.node.files(Some(self.group)).await? {
                if info.offer.manifest.is_none() {
                    let name = clean_name(&info.offer.name);
                    names_of.insert(info.offer.hash, name.clone());
                    versions.entry(name).or_default().push(info);
                }
            }
            let names: BTreeSet<&String> = here.keys().chain(versions.keys()).collect();
            for name in names {
                let versions = versions.get(name).map_or(&[][..], Vec::as_slice);
                let done = match here.get(name).copied() {
                    // It is being written to.
                    Some(None) => continue,
                    Some(Some(hash)) => self.see_to(name, Some(hash), versions, &names_of).await,
                    None => self.see_to(name, None, versions, &names_of).await,
                };
                if let Err(error) = done {
                    println!("{name}: {error}");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The files that lie here, and what they are once they have lain still.
    async fn look(&mut self) -> std::io::Result<BTreeMap<String, Option<FileHash>>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // What is hidden is on its way, or none of ours. A file may go while it is looked at.
            let Ok(metadata) = entry.metadata() else { continue };
            if !metadata.is_file() || clean_name(&name) != name {
                continue;
            }
            let (written, len) = (metadata.modified()?, metadata.len());
            let known = self.hashes.get(&name).filter(|it| (it.0, it.1) == (written, len)).map(|it| it.2);
            let is_still = written.elapsed().is_ok_and(|it| it >= STILL);
            let hash = match known {
                None if is_still => hash(entry.path()).await.ok(),
                known => known,
            };
            if let Some(hash) = hash {
                self.hashes.insert(name.clone(), (written, len, hash));
            }
            found.insert(name, hash);
        }
        Ok(found)
    }

    async fn see_to(
        &mut self,
        name: &str,
        here: Option<FileHash>,
        versions: &[FileInfo],
        names_of: &HashMap<FileHash, String>,
    ) -> Result<(), Box<dyn Error>> {
        let path = self.folder.join(name);
        let now = match (self.step(name, here, versions, names_of), versions.last()) {
            (Step::Announce, _) => {
                let began = unix_ms();
                let info = self.node.announce(&path, self.group).await?;
                println!("announced {name}");
                self.announced.insert(name.to_owned(), (info.offer.hash, began));
                info.offer.hash
            }
            // Nobody who has it is here.
            (Step::Fetch { .. }, Some(newest))
                if newest.holders.iter().all(|it| it.node == self.node.id()) =>
            {
                return Ok(());
            }
            (Step::Fetch { keep }, Some(newest)) => {
                if keep {
                    self.set_aside(name, newest)?;
                }
                if !self.fetch(name, newest, here.is_some()).await? {
                    return Ok(());
                }
                println!("fetched {name}, {}'s", newest.nick);
                newest.offer.hash
            }
            _ => return Ok(()),
        };
        // What lies here is the node's record of what it announced or fetched: there is one such version of a name.
        for old in versions.iter().filter(|it| it.offer.hash != now && self.is_here(it)) {
            // If it cannot be now, it is with the next version.
            let _ = self.node.drop_file(&old.offer.hash.to_string()).await;
        }
        Ok(())
    }

    /// Whether the node has some of it in this folder.
    fn is_here(&self, info: &FileInfo) -> bool {
        info.path.as_ref().is_some_and(|path| path.parent() == Some(&self.folder))
    }

    /// What is to be done, by what lies here, and the versions that were announced, oldest first.
    fn step(
        &mut self,
        name: &str,
        here: Option<FileHash>,
        versions: &[FileInfo],
        names_of: &HashMap<FileHash, String>,
    ) -> Step {
        let path = self.folder.join(name);
        let (here, newest) = match (here, versions.last()) {
            (None, None) => return Step::Nothing,
            (None, Some(_)) => return Step::Fetch { keep: false },
            (Some(here), newest) => (here, newest),
        };
        if let Some((hash, at)) = self.announced.get(name).copied() {
            let has_come = versions.iter().any(|it| it.offer.hash == hash && it.since_ms >= at);
            if has_come {
                self.announced.remove(name);
            } else if hash == here {
                return Step::Nothing;
            }
        }
        let Some(newest) = newest else {
            // The group may know it by another name.
            return if names_of.contains_key(&here) { Step::Nothing } else { Step::Announce };
        };
        if here == newest.offer.hash {
            return Step::Nothing;
        }
        // The version that this node put here or announced from here, in this run or one before.
        let ours = versions.iter().rfind(|it| it.path.as_ref() == Some(&path));
        match ours {
            Some(ours) if ours.offer.hash == here => Step::Fetch { keep: ours.source == self.node.id() },
            // An older version that came here in some other way, or something that the group knows by another name.
            None if names_of.contains_key(&here) => Step::Fetch { keep: true },
            _ => Step::Announce,
        }
    }

    /// Keeps a copy of what lies here.
    fn set_aside(&self, name: &str, newest: &FileInfo) -> std::io::Result<()> {
        let folder = self.folder.join(REPLACED);
        std::fs::create_dir_all(&folder)?;
        let Some((written, ..)) = self.hashes.get(name) else { return Ok(()) };
        let since = written.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let to = folder.join(format!("{since}-{name}"));
        if !to.exists() {
            std::fs::copy(self.folder.join(name), &to)?;
            println!("{name} is to be {}'s; yours stays in {}", newest.nick, to.display());
        }
        Ok(())
    }

    /// Whether it is here now: a file that somebody changes meanwhile stays.
    async fn fetch(&self, name: &str, newest: &FileInfo, replace: bool) -> Result<bool, Box<dyn Error>> {
        let out = self.folder.join(name);
        let on_conflict = if replace { OnConflict::Overwrite } else { OnConflict::Resume };
        let get = GetFile { what: newest.offer.hash.to_string(), out: out.clone(), on_conflict, wait: false };
        let known = self.hashes.get(name).map(|it| (it.0, it.1));
        tokio::select! {
            biased;
            () = changed(&out, known), if replace => Ok(false),
            got = self.node.get_file(get, |_| ()) => got.map(|_| true).map_err(Into::into),
        }
    }
}

/// Until a file is not as it was: when written, and how long.
async fn changed(path: &Path, known: Option<(SystemTime, u64)>) {
    let now = || path.metadata().and_then(|it| Ok((it.modified()?, it.len()))).ok();
    while now() == known {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A file's hash is the BLAKE3 hash of its bytes.
async fn hash(path: PathBuf) -> std::io::Result<FileHash> {
    let read = move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(FileHash::from_bytes(*hasher.finalize().as_bytes()))
    };
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
