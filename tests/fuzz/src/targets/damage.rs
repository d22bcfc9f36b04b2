//! Files that were written, and then damaged: changed bytes, zeroes, cuts, bytes from elsewhere.
//!
//! Input: which file; then edits of seven bytes each. Unlike the other targets this one knows what was written.
//!
//! - A log with damage is refused, or what it yields was written: entries, votes, in their order.
//! - Any other file with damage is refused; one that has come out as it was is not.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::Bytes;
use kvorum_disk::{Disk, FaultyDisk};
use kvorum_machine::{BackupCheck, BackupFile};
use kvorum_mvcc::check_block;
use kvorum_wal::{LogEntry, Vote, inspect};

use super::wal;
use crate::input::{Input, Writer};
use crate::rig::Rig;
use crate::samples::{Sample, sample};

const EDITS_MAX: usize = 16;
const KINDS: u8 = 5;

/// The target.
pub fn damage(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte() % KINDS;
    let Sample { checkpoint, backup, blocks, .. } = sample();
    match kind {
        0 => damage_log(&mut input),
        1 => damage_file(&mut input, checkpoint, checkpoint_is_whole),
        2 => damage_file(&mut input, backup, backup_is_whole),
        3 => damage_file(&mut input, &blocks[0], |bytes| {
            check_block(Bytes::copy_from_slice(bytes)).is_ok()
        }),
        _ => {
            let identity = written().disk.contents(&wal::identity_path()).expect("it is there");
            damage_file(&mut input, &identity, identity_is_whole);
        }
    }
}

fn damage_file(input: &mut Input<'_>, original: &[u8], is_whole: impl Fn(&[u8]) -> bool) {
    let mut bytes = original.to_vec();
    edit(input, &mut bytes);
    assert_eq!(is_whole(&bytes), bytes == original, "taken, though it was damaged");
}

fn checkpoint_is_whole(bytes: &[u8]) -> bool {
    let rig = Rig::new();
    let mut receiver = rig.checkpoints.receive().expect("the disk works");
    receiver.write(bytes).expect("the disk works");
    receiver.finish().is_ok()
}

fn backup_is_whole(bytes: &[u8]) -> bool {
    let (disk, path) = (FaultyDisk::new(), Path::new("/saved/backup.db"));
    disk.create_dir_all(Path::new("/saved")).expect("the disk works");
    disk.set_contents(path, bytes).expect("the disk works");
    BackupFile::verify(&disk, path, BackupCheck::Digest).is_ok()
}

fn identity_is_whole(bytes: &[u8]) -> bool {
    let disk = FaultyDisk::new();
    disk.create_dir_all(Path::new(wal::DIR)).expect("the disk works");
    disk.set_contents(&wal::identity_path(), bytes).expect("the disk works");
    kvorum_wal::identity(&disk, Path::new(wal::DIR)).is_ok()
}

/// A log, and what was ever written to it.
struct Written {
    disk: FaultyDisk,
    files: Vec<PathBuf>,
    entries: Vec<LogEntry>,
    votes: Vec<Vote>,
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let disk = wal::sample();
        let (mut entries, mut votes) = (Vec::new(), Vec::new());
        inspect::dump(&disk, Path::new(wal::DIR), &mut |shown| match shown.record {
            inspect::Record::Entry { position, kind, payload } => {
                let payload = Bytes::copy_from_slice(payload);
                entries.push(LogEntry { position, kind, payload });
            }
            inspect::Record::Vote(vote) => votes.push(vote),
            _ => {}
        })
        .expect("the sample is sound");
        let names = disk.list(Path::new(wal::DIR)).expect("the disk works");
        let files = names.iter().map(|name| Path::new(wal::DIR).join(name)).collect();
        Written { disk, files, entries, votes }
    })
}

fn damage_log(input: &mut Input<'_>) {
    let Written { disk, files, entries, votes } = written();
    let disk = disk.fork();
    let path = &files[usize::from(input.byte()) % files.len()];
    let mut bytes = disk.contents(path).expect("it is there");
    edit(input, &mut bytes);
    disk.set_contents(path, &bytes).expect("the disk works");
    let Ok(wal) = wal::open(&disk) else { return };
    for entry in wal::entries(&wal) {
        assert!(entries.contains(&entry), "{entry:?} was never written");
    }
    let vote = wal.recovered.vote;
    assert!(vote.is_none_or(|vote| votes.contains(&vote)), "{vote:?} was never saved");
}

/// Changes bytes as the input says, which never makes them longer.
fn edit(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..EDITS_MAX {
        if input.is_at_end() || bytes.is_empty() {
            return;
        }
        let (how, at, from, count) =
            (input.byte(), input.u16(), input.u16(), usize::from(input.u16()));
        let (at, from) = (usize::from(at) % bytes.len(), usize::from(from) % bytes.len());
        let end = (at + count % 64 + 1).min(bytes.len());
        match how % 6 {
            0 => bytes[at] ^= 1 << (from % 8),
            1 => bytes[at] = from as u8,
            2 => bytes[at..end].fill(0),
            3 => bytes.truncate(at),
            4 => bytes[at..end].reverse(),
            _ => {
                let end = (from + end - at).min(bytes.len());
                let moved = bytes[from..end].to_vec();
                let free = (at + moved.len()).min(bytes.len());
                bytes[at..free].copy_from_slice(&moved[..free - at]);
            }
        }
    }
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for kind in 0..KINDS {
        for file in 0..3 {
            let edits = [0_u8, 100, 0, 3, 0, 0, 0, 5, 200, 1, 64, 0, 60, 0];
            let bare = Writer::new().byte(kind).raw(if kind == 0 { &[1] } else { &[] });
            seeds.push(bare.clone().finish());
            seeds.push(Writer::new().byte(kind).byte(file).raw(&edits).finish());
        }
    }
    seeds
}
