//! Objects about files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Line;
use super::objects::MessageLine;

/// A file that was announced. What is absent was not asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileLine {
    /// Its BLAKE3 hash, 64 hexadecimal digits; of a folder, that over its manifest and files.
    pub hash: String,
    /// What its announcer calls it.
    pub name: String,
    /// Bytes; a folder's manifest among them.
    pub size: u64,
    /// The group's name here.
    pub group: String,
    /// Who announced it.
    pub source: String,
    /// What that calls itself.
    #[serde(default)]
    pub nick: String,
    /// It is a folder.
    #[serde(default)]
    pub folder: bool,
    /// In `sub` and `history`: the message that announced it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<FilePlace>,
    /// In `file ls`: who has it.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub spread: Option<FileSpread>,
    /// Where it lies here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// In `file rm`: the groups that were told, where this node had announced it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn_in: Vec<String>,
    /// In `file get`: nodes that served other bytes than those announced. Nothing of that was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub liars: Vec<String>,
    /// What the nodes in it call themselves, as far as they have nicks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nicks: BTreeMap<String, String>,
}

/// Where an announcement stands among the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlace {
    /// In which life of its source.
    pub life: u64,
    /// In which batch.
    pub seq: u64,
    /// Which message of that.
    pub n: u32,
    /// Its place in the total order; none elsewhere.
    pub index: Option<u64>,
    /// Shown before its order is settled.
    pub tentative: bool,
    /// The author's clock, unix milliseconds.
    pub time: u64,
}

/// Who has a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpread {
    /// Members that have all of it and can be asked, this node among them.
    pub have: usize,
    /// Members.
    pub of: usize,
    /// Which have it.
    pub holders: Vec<String>,
    /// Bytes of it that lie here.
    pub held: u64,
    /// What lay here is not what was announced any more: it is not served.
    pub changed: bool,
    /// What has become of it here then: `changed` or `removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<String>,
    /// Other members that had it and have it no longer, by their own word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerLine>,
    /// Its announcer has withdrawn it; others may have it still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// Who had a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerLine {
    /// Who.
    pub node: String,
    /// What has become of it there: `changed`, `removed` or `withdrawn`.
    pub event: String,
}

/// How `file get` goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressLine {
    /// Of which file.
    pub hash: String,
    /// Bytes that are here, checked and written.
    pub done: u64,
    /// Of so many.
    pub size: u64,
    /// Bytes a second, lately.
    pub rate: u64,
    /// Seconds that it takes if that stays so; null if nothing comes.
    pub eta_s: Option<u64>,
    /// Who sent some lately.
    pub sources: Vec<String>,
    /// What they call themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nicks: BTreeMap<String, String>,
    /// Who served other bytes than those announced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub liars: Vec<String>,
}

/// What a message announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// See [`FileLine::hash`].
    pub hash: String,
    /// See [`FileLine::name`].
    pub name: String,
    /// See [`FileLine::size`].
    pub size: u64,
    /// See [`FileLine::folder`].
    pub folder: bool,
}

/// What a message says of a file that its source announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// See [`FileLine::hash`].
    pub hash: String,
    /// See [`FileLine::name`].
    pub name: String,
    /// See [`FormerLine::event`].
    pub event: String,
}

/// A file is not to be had any more from who announced it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEndedLine {
    /// Which, and what has become of it.
    #[serde(flatten)]
    pub ended: Ended,
    /// The group's name here.
    pub group: String,
    /// Who announced it, and says so.
    pub source: String,
    /// What that calls itself.
    #[serde(default)]
    pub nick: String,
    /// The message that says so.
    #[serde(flatten)]
    pub place: FilePlace,
}

impl MessageLine {
    fn place(&self) -> FilePlace {
        let Self { life, seq, n, index, tentative, time, .. } = *self;
        FilePlace { life, seq, n, index, tentative, time }
    }

    /// What it says of a file, if it does: the line that programs get instead.
    pub fn of_file(&self) -> Option<Line> {
        if let Some(ended) = self.ended.clone() {
            let (group, source, nick) = (self.group.clone(), self.source.clone(), self.nick.clone());
            let line = FileEndedLine { ended, group, source, nick, place: self.place() };
            return Some(Line::FileEnded(Box::new(line)));
        }
        self.as_file().map(|file| Line::File(Box::new(file)))
    }

    /// The file that it announces, if it does.
    pub fn as_file(&self) -> Option<FileLine> {
        let Announced { hash, name, size, folder } = self.file.clone()?;
        Some(FileLine {
            hash,
            name,
            size,
            group: self.group.clone(),
            source: self.source.clone(),
            nick: self.nick.clone(),
            folder,
            place: Some(self.place()),
            spread: None,
            path: None,
            withdrawn_in: Vec::new(),
            liars: Vec::new(),
            nicks: BTreeMap::new(),
        })
    }
}
