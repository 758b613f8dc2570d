//! `file`, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::input::GroupName;

/// What can be done with files.
#[derive(Debug, Subcommand)]
pub(crate) enum FileVerb {
    /// Tell a group of a file or folder; the node serves it from where it lies.
    #[command(after_help = "\
Examples:
  treecast file announce slides.pdf --group lobby
  treecast file announce photos/ --group family     a folder, with all that is in it
Nobody fetches it unasked. It is served while this node runs. If it changes or goes, it is not served any more, and the \
group is told: announce it again. A folder may have only files and folders in it; links, pipes and devices are refused.")]
    Announce(AnnounceArgs),
    /// List the files that were announced, and who has them.
    #[command(after_help = "\
Examples:
  treecast file ls
  treecast file ls lobby --json
HERE is how much of it lies on this machine, HAVE IT how many of the members that answer have all of it.")]
    Ls(LsArgs),
    /// Fetch a file from everyone who has it, or part of it.
    #[command(after_help = "\
Examples:
  treecast file get slides.pdf
  treecast file get 7f3a09c1d2 -o /tmp/it.pdf     by the first digits of its hash
  treecast file get photos --wait                 also if nobody has it at the moment
All of it is checked against its hash. Ctrl-C and worse keep what has come: the same command goes on. What is here \
already, under another path, is copied.")]
    Get(GetArgs),
    /// Serve a file no longer, and forget it; the group is told if it was announced here. It stays where it lies, but for
    /// what came of one that is not whole.
    #[command(after_help = "Example:\n  treecast file rm 7f3a09c1d2")]
    Rm(RmArgs),
}

/// `file announce`
#[derive(Debug, Args)]
pub(crate) struct AnnounceArgs {
    /// The file or folder.
    pub(crate) path: PathBuf,
    /// The group: a name, a ticket, or - for a ticket on stdin.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: GroupName,
}

/// `file ls`
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only those of this group.
    pub(crate) group: Option<GroupName>,
}

/// `file get`
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Its name, or its hash, or at least six digits of that. Of a name the newest announcement counts; if several
    /// members announced other files under it, the hash is needed.
    #[arg(value_name = "NAME|HASH")]
    pub(crate) file: String,
    /// Where to put it: a path, or a folder. Default: under its own name here.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// If something lies there: go on with what came before (another file is not touched), take another name, replace
    /// it (a folder with all that is in it), or fail.
    #[arg(
        long,
        value_name = "resume|rename|overwrite|fail",
        value_enum,
        default_value = "resume",
        hide_possible_values = true
    )]
    pub(crate) on_conflict: OnConflict,
    /// If nobody has it, wait until somebody does.
    #[arg(long)]
    pub(crate) wait: bool,
}

/// `file rm`
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Its hash, at least six digits of that, or its name.
    pub(crate) hash: String,
}

/// What to do if something lies where a file is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflict {
    /// Go on with what came of it before.
    Resume,
    /// Take another name.
    Rename,
    /// Replace it.
    Overwrite,
    /// Fail.
    Fail,
}

impl OnConflict {
    /// As the node calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Rename => "rename",
            Self::Overwrite => "overwrite",
            Self::Fail => "fail",
        }
    }
}
