//! What was asked of the disk.

use std::fmt;
use std::path::PathBuf;

/// How many operations a list holds; later ones are counted but not listed.
const OPS_LISTED_MAX: usize = 1 << 20;

/// What an operation does.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OpKind {
    /// Opening a file that is there.
    Open,
    /// Making or emptying a file.
    Create,
    /// Reading bytes of a file.
    Read,
    /// Writing bytes of a file.
    Write,
    /// Giving a file blocks.
    Allocate,
    /// Setting a file's length.
    Truncate,
    /// Making a file's bytes durable.
    Sync,
    /// Making a directory's names durable.
    SyncDir,
    /// Making directories.
    CreateDir,
    /// Giving a file another name.
    Rename,
    /// Removing a file or a directory.
    Remove,
    /// Listing names, asking for one, or for the room that is left.
    Look,
    /// Taking a lock.
    Lock,
}

impl OpKind {
    /// Whether the operation can change what a later start finds.
    pub fn changes(self) -> bool {
        !matches!(self, OpKind::Open | OpKind::Read | OpKind::Look | OpKind::Lock)
    }

    fn name(self) -> &'static str {
        match self {
            OpKind::Open => "open",
            OpKind::Create => "create",
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::Allocate => "allocate",
            OpKind::Truncate => "truncate",
            OpKind::Sync => "sync",
            OpKind::SyncDir => "sync-dir",
            OpKind::CreateDir => "create-dir",
            OpKind::Rename => "rename",
            OpKind::Remove => "remove",
            OpKind::Look => "look",
            OpKind::Lock => "lock",
        }
    }
}

/// One operation, as a script shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// The file or directory; for a rename the new name.
    pub path: PathBuf,
    /// Where in the file a read or write begins.
    pub offset: u64,
    /// How many bytes are read or written, or the length that is set.
    pub bytes: u64,
    /// Whether it was made to fail.
    pub failed: bool,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.path.display())?;
        match self.kind {
            OpKind::Read | OpKind::Write => write!(f, " {}+{}", self.offset, self.bytes)?,
            OpKind::Allocate | OpKind::Truncate => write!(f, " {}", self.bytes)?,
            _ => {}
        }
        f.write_str(if self.failed { " FAILED" } else { "" })
    }
}

/// How many operations were asked for, those that failed included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpCounts {
    /// All of them.
    pub all: u64,
    /// Those that can change what a later start finds ([`OpKind::changes`]).
    pub changes: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes in those writes.
    pub written_bytes: u64,
    /// Syncs of a file's bytes.
    pub syncs: u64,
}

/// Counts operations, and lists them while that is wanted.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    counts: OpCounts,
    listed: Option<Vec<Op>>,
}

impl Trace {
    pub fn counts(&self) -> OpCounts {
        self.counts
    }

    /// Begins a new list.
    pub fn list(&mut self) {
        self.listed = Some(Vec::new());
    }

    /// The operations since the list was begun or last taken.
    pub fn take(&mut self) -> Vec<Op> {
        self.listed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn add(&mut self, op: &Op) {
        self.counts.all += 1;
        self.counts.changes += u64::from(op.kind.changes());
        match op.kind {
            OpKind::Write => {
                self.counts.writes += 1;
                self.counts.written_bytes += op.bytes;
            }
            OpKind::Sync => self.counts.syncs += 1,
            _ => {}
        }
        if let Some(listed) = self.listed.as_mut().filter(|ops| ops.len() < OPS_LISTED_MAX) {
            listed.push(op.clone());
        }
    }
}
