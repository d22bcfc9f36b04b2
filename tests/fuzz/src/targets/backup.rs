//! A backup's file, as an operator hands it to `kvorum snapshot status` and `restore`.
//!
//! Input: whether checksums are set right; whether the digest is looked at; by how much the revision is raised; whether
//! history counts as compacted; the file.
//!
//! - It is refused, or what is in it becomes the first state of a cluster, and goes on.
//! - What is taken with its digest is taken without looking at it, and is the same.

use std::path::Path;
use std::sync::Arc;

use kvorum_disk::{Disk, FaultyDisk};
use kvorum_machine::{
    BackupCheck, BackupFile, Founding, KeptStores, LogExtent, MemberSeed, RESTORED_AT,
};
use kvorum_types::MemberId;

use crate::input::{Input, Writer, raw_and_sealed};
use crate::rig::{Rig, member_dir};
use crate::samples::{membership, sample};
use crate::{examine, seal};

/// The target.
pub fn backup(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (is_sealed, skips_digest) = (input.flag(), input.flag());
    let (bump_revision, mark_compacted) = (input.u64(), input.flag());
    let mut file = input.rest().to_vec();
    if is_sealed {
        seal::backup(&mut file);
    }
    let disk = FaultyDisk::new();
    let path = Path::new("/saved/backup.db");
    disk.create_dir_all(Path::new("/saved")).expect("the disk works");
    disk.set_contents(path, &file).expect("the disk works");
    let unchecked = BackupFile::verify(&disk, path, BackupCheck::NoDigest);
    let checked = BackupFile::verify(&disk, path, BackupCheck::Digest);
    if let Ok(checked) = &checked {
        let unchecked = unchecked.as_ref().map(BackupFile::summary);
        assert_eq!(Some(checked.summary()), unchecked.ok(), "looking at less finds more");
    }
    let verified = if skips_digest { unchecked } else { checked };
    let Ok(verified) = verified else { return };
    let members = vec![MemberSeed {
        id: MemberId(1),
        name: "m1".to_owned(),
        peer_urls: vec!["http://m1:2380".to_owned()],
        is_learner: false,
    }];
    let founding = Founding { membership: membership(), members, bump_revision, mark_compacted };
    let founded = verified.found(Arc::new(disk.clone()), &member_dir(), founding);
    if founded.is_err() {
        return;
    }
    let index = Some(RESTORED_AT.index);
    let log = LogExtent { purged: index, durable: index };
    if let Ok(mut rig) = Rig::open(disk, KeptStores::default(), log) {
        examine::machine(&mut rig);
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let of = |skips_digest: u8, bump_revision: u64, mark_compacted: u8, file: &[u8]| {
        Writer::new().byte(skips_digest).u64(bump_revision).byte(mark_compacted).raw(file)
    };
    let sample = sample();
    let all = [
        of(0, 0, 0, &sample.backup),
        of(0, 1_000_000, 1, &sample.backup),
        of(1, 0, 0, &sample.checkpoint),
        of(1, u64::MAX, 0, &sample.backup),
    ];
    all.iter().flat_map(raw_and_sealed).collect()
}
