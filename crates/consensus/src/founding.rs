//! Founding a cluster on a backup, offline.
//!
//! Each member is made by itself, and comes to the same: a log that has been purged of entry 0, which says who the members
//! are, and the state at that entry. So a member that starts finds what it would find had the cluster begun, and
//! been written to, and purged its log since.

use std::io;
use std::path::Path;
use std::sync::Arc;

use kvorum_disk::Disk;
use kvorum_machine::{BackupFile, CheckpointError, RESTORED_AT};
use kvorum_types::{ClusterId, MemberId};
use kvorum_wal::Wal;

use crate::membership;
use crate::settings::InitialMember;
use crate::types::{Membership, Node};

/// What is decided about a cluster that is founded on a backup.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The member whose files are written.
    pub member: MemberId,
    /// All members, this one among them.
    pub members: Vec<InitialMember>,
    /// By how much the revision is raised.
    pub bump_revision: u64,
    /// Whether history up to the revision counts as compacted.
    pub mark_compacted: bool,
}

/// Why there is no member.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The member is not among the members.
    #[error("the member is not among the members of its cluster")]
    NotAMember,
    /// The log could not be made.
    #[error(transparent)]
    Log(#[from] kvorum_wal::OpenError),
    /// The log could not be written.
    #[error("the write-ahead log: {0}")]
    Write(#[from] io::Error),
    /// The state could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Makes the files of one member, in directories where there is nothing yet. Durable on return.
///
/// - The state comes last: a member whose making was cut short does not start on the half of it.
pub fn found(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    wal_dir: &Path,
    wal: kvorum_wal::Options,
    backup: &BackupFile,
    founding: Founding,
) -> Result<(), FoundError> {
    let Founding { cluster, member, members, bump_revision, mark_compacted } = founding;
    let voters = members.iter().map(|member| member.id.0).collect();
    if !members.iter().any(|other| other.id == member) {
        return Err(FoundError::NotAMember);
    }
    let nodes = members
        .into_iter()
        .map(|member| (member.id.0, Node { peer_urls: member.peer_urls, name: member.name }));
    let nodes: std::collections::BTreeMap<u64, Node> = nodes.collect();
    let membership = Membership::new(vec![voters], nodes).map_err(|_| FoundError::NotAMember)?;

    let Wal { log, mut writer, .. } =
        kvorum_wal::open(disk.clone(), wal_dir, cluster, member, wal)?;
    log.purge(RESTORED_AT);
    while !writer.step()?.idle {}
    let founding = kvorum_machine::Founding {
        membership: membership::encode(&membership),
        members: membership::seeds(&membership),
        bump_revision,
        mark_compacted,
    };
    backup.found(disk, data_dir, founding)?;
    Ok(())
}
