//! A new cluster's first state, from a backup.
//!
//! Every member begins with the same: the keys and leases of the backup as if they had been there before the first entry of
//! the log, which says who the members are and stands at index 0. What the old cluster knew of members, and of entries
//! of its log, is left behind.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_disk::Disk;
use kvorum_lease::Table;
use kvorum_lease::chunk::Encoder;
use kvorum_mvcc::REVISION_MAX;
use kvorum_types::Position;

use super::backup::BackupFile;
use super::files::{CheckpointInfo, Checkpoints};
use super::format::{CheckpointError, Header};
use super::sink::Sink;
use crate::member::{MemberSeed, Members};
use crate::state::State;

/// Where a restored state stands in its cluster's log.
pub const RESTORED_AT: Position = Position { term: 0, index: 0 };

/// How many bytes of blocks are written at once, and at most one block more.
const STEP_BYTES: usize = 1024 * 1024;

/// What a restored state says beside keys and leases.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The membership in the consensus engine's own encoding.
    pub membership: Bytes,
    /// Every member of it.
    pub members: Vec<MemberSeed>,
    /// By how much the revision is raised, so that no client has seen what comes next under another content.
    pub bump_revision: u64,
    /// Whether history up to the revision counts as compacted, so that watches from the old cluster's end rather than miss
    /// what comes.
    pub mark_compacted: bool,
}

impl BackupFile {
    /// Writes the state a new cluster begins with as the only checkpoint below a member's directory. Durable on return.
    pub fn found(
        &self,
        disk: Arc<dyn Disk>,
        member_dir: &Path,
        founding: Founding,
    ) -> Result<CheckpointInfo, CheckpointError> {
        let leases = leases_of(&self.leases);
        let header = self.founding_header(founding, &leases)?;
        let shared = Checkpoints::find(disk, member_dir)?.into_shared();
        let path = shared.temporary_path_of(RESTORED_AT);
        let mut sink = Sink::new(shared, path, None);
        sink.begin(&header)?;
        let mut encoder = Encoder::new(leases.view());
        while let Some(chunk) = encoder.next_chunk() {
            sink.write_chunks(&[chunk])?;
        }
        let mut blocks = self.blocks()?;
        let mut step = Vec::new();
        while let Some(block) = blocks.next_chunk()? {
            step.push(block);
            if step.iter().map(Bytes::len).sum::<usize>() >= STEP_BYTES {
                sink.write_chunks(&std::mem::take(&mut step))?;
            }
        }
        sink.write_chunks(&step)?;
        sink.end()?;
        sink.keep(&header)
    }

    fn founding_header(
        &self,
        founding: Founding,
        leases: &Table,
    ) -> Result<Header, CheckpointError> {
        let Founding { membership, members: seeds, bump_revision, mark_compacted } = founding;
        let raised = self.header.revision.checked_add_unsigned(bump_revision);
        let revision = raised.filter(|raised| *raised <= REVISION_MAX).ok_or_else(|| {
            let (path, revision) = (self.path().to_owned(), self.header.revision);
            CheckpointError::RevisionTooHigh { path, revision, bump_revision }
        })?;
        let compact_revision = if mark_compacted { revision } else { self.header.compact_revision };
        let mut members = Members::default();
        members.found(seeds);
        // Nothing else of what the old cluster had agreed on is the new one's.
        let mut state = State::default();
        state.applied = Some(RESTORED_AT);
        state.membership = Some((RESTORED_AT, membership));
        state.members = members;
        state.lease_index = (!leases.view().is_empty()).then_some(RESTORED_AT.index);
        Ok(Header::new(RESTORED_AT, revision, compact_revision, state.encode()))
    }
}

/// The same leases, as granted before the log begins: an index of the old cluster's log might come again.
fn leases_of(backup: &Table) -> Table {
    let mut leases = Table::new();
    for (id, lease) in backup.view().iter() {
        leases.grant(id, lease.ttl, RESTORED_AT.index).expect("no lease stands twice in a table");
        leases.checkpoint(id, RESTORED_AT.index, lease.remaining);
    }
    leases
}
