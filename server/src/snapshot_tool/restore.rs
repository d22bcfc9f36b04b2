//! `kvorum snapshot restore`: one member of a new cluster, from a backup.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvorum_consensus::{Founding, InitialMember, found};
use kvorum_disk::{Disk, RealDisk};
use kvorum_machine::{BackupCheck, BackupFile, BackupSummary};

use super::progress::Progress;
use crate::config::{Config, RestoreSettings, identity};

/// The largest revision that a new cluster may begin with.
const REVISION_MAX: i64 = i64::MAX / 2;

/// Makes the directories of a member. Everything is durable on return; where it fails, what was begun is left for the
/// operator to remove, as by etcdutl.
pub(super) fn run(settings: &RestoreSettings) -> Result<(), String> {
    settings.member.check_bootstrap().map_err(|error| error.to_string())?;
    let (data_dir, wal_dir) = dirs(settings)?;
    let check = if settings.skip_hash_check { BackupCheck::NoDigest } else { BackupCheck::Digest };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    // Its digest is computed, it is checked block by block, and then copied.
    let progress = Progress::new(&settings.path, if settings.skip_hash_check { 2 } else { 3 });
    progress.say(&format!("verifying {}", settings.path.display()));
    let backup = BackupFile::verify(&progress, &settings.path, check).map_err(|e| e.to_string())?;
    let revision = raised(backup.summary().revision, settings.bump_revision)?;
    let founding = founding(settings, &backup.summary());
    let (cluster, member) = (founding.cluster, founding.member);
    let names: Vec<String> = founding
        .members
        .iter()
        .map(|member| format!("{}={} ({})", member.name, member.peer_urls.join(","), member.id))
        .collect();
    progress.say(&format!("restoring into {}", data_dir.display()));
    found(disk, &data_dir.join("member"), &wal_dir, Default::default(), &backup, founding)
        .map_err(|error| error.to_string())?;
    drop(progress);
    let summary = backup.summary();
    eprintln!("restored {}", settings.path.display());
    eprintln!("  member     {} {member}", settings.member.name);
    eprintln!("  cluster    {cluster} of {}", names.join(", "));
    eprintln!("  revision   {revision}");
    eprintln!("  changes    {}, leases {}", summary.change_count, summary.lease_count);
    Ok(())
}

/// The revision after a bump: one that leaves the new cluster as many again.
fn raised(revision: i64, bump: u64) -> Result<i64, String> {
    revision.checked_add_unsigned(bump).filter(|raised| *raised <= REVISION_MAX).ok_or_else(|| {
        format!("--bump-revision {bump} raises revision {revision} beyond {REVISION_MAX}")
    })
}

/// Where the member will be. There must be nothing yet.
fn dirs(settings: &RestoreSettings) -> Result<(PathBuf, PathBuf), String> {
    let data_dir = settings.member.data_dir.clone();
    let is_free = |dir: &Path| match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !is_free(&data_dir) {
        return Err(format!(
            "data-dir {:?} not empty or could not be read",
            data_dir.display().to_string()
        ));
    }
    let Some(wal_dir) = settings.member.wal_dir.clone() else {
        let wal_dir = data_dir.join("member").join("wal");
        return Ok((data_dir, wal_dir));
    };
    if wal_dir.exists() {
        return Err(format!("wal-dir {:?} exists", wal_dir.display().to_string()));
    }
    Ok((data_dir, wal_dir))
}

/// Members that are restored from different backups, or differently, are not of one cluster.
fn founding(settings: &RestoreSettings, backup: &BackupSummary) -> Founding {
    let Config { initial_cluster, initial_cluster_token: token, .. } = &*settings.member;
    let ids = initial_cluster.member_ids(token);
    let id_of = |name: &str| ids.get(name).copied().unwrap_or_default();
    let members = initial_cluster.members().map(|(name, urls)| InitialMember {
        id: id_of(name),
        name: name.to_owned(),
        peer_urls: urls.iter().map(|url| url.as_str().to_owned()).collect(),
    });
    Founding {
        cluster: identity::restored_cluster_id(
            initial_cluster.cluster_id(token),
            &marks(settings, backup),
        ),
        member: id_of(&settings.member.name),
        members: members.collect(),
        bump_revision: settings.bump_revision,
        mark_compacted: settings.mark_compacted,
    }
}

/// What tells a restored state from others.
fn marks(settings: &RestoreSettings, backup: &BackupSummary) -> [u64; 7] {
    let BackupSummary { hash, revision, compact_revision, change_count, lease_count, .. } = *backup;
    [
        hash.into(),
        revision.cast_unsigned(),
        compact_revision.cast_unsigned(),
        change_count,
        lease_count,
        settings.bump_revision,
        settings.mark_compacted.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bump_leaves_revisions_for_what_comes() {
        assert_eq!(raised(7, 0), Ok(7));
        assert_eq!(raised(7, 1_000_000_000), Ok(1_000_000_007));
        let refused = raised(7, u64::MAX).unwrap_err();
        assert!(
            refused.starts_with("--bump-revision 18446744073709551615 raises revision 7 beyond")
        );
        assert!(raised(7, i64::MAX.unsigned_abs() - 7).is_err());
    }
}
