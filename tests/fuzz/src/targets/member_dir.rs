//! A member's directory: `CURRENT`, checkpoints under their names, what is left of transfers.
//!
//! Input: whether checksums are set right; how far the log is purged and how far it is durable; whether it is purged at all;
//! `CURRENT`, which is missing if it is empty; up to three times the index in a checkpoint's name and the file.
//!
//! - The member starts, or does not and says why; it then says the same when it is started again, or something that went
//!   wrong was set aside and it starts.
//! - A member that has started can be started again.

use kvorum_disk::{Disk, FaultyDisk};
use kvorum_machine::{KeptStores, LogExtent};

use crate::input::{Input, Writer, raw_and_sealed};
use crate::rig::{self, Rig};
use crate::samples::sample;
use crate::{examine, seal};

const CHECKPOINTS_MAX: usize = 3;

/// The target.
pub fn member_dir(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_sealed = input.flag();
    let (purged, durable, is_purged) = (input.u64(), input.u64(), input.flag());
    let disk = FaultyDisk::new();
    let checkpoints = rig::member_dir().join("checkpoint");
    disk.create_dir_all(&checkpoints).expect("the disk works");
    let mut current = input.section().to_vec();
    if is_sealed {
        seal::current(&mut current);
    }
    if !current.is_empty() {
        disk.set_contents(&rig::member_dir().join("CURRENT"), &current).expect("the disk works");
    }
    for _ in 0..CHECKPOINTS_MAX {
        if input.is_at_end() {
            break;
        }
        let index = input.u64();
        let mut file = input.section().to_vec();
        if is_sealed {
            seal::checkpoint(&mut file);
        }
        let path = checkpoints.join(format!("{index:020}.ckpt"));
        disk.set_contents(&path, &file).expect("the disk works");
    }
    let log = LogExtent { purged: is_purged.then_some(purged), durable: Some(durable) };
    let kept = KeptStores::default();
    let first = Rig::open(disk.clone(), kept.clone(), log);
    let Ok(mut rig) = first else {
        drop(Rig::open(disk, kept, log));
        return;
    };
    let applied = rig.machine.applied();
    if rig.machine.leases_behind().is_none() {
        examine::machine(&mut rig);
    }
    drop(rig);
    let again = Rig::open(disk, KeptStores::default(), log);
    let again = again.unwrap_or_else(|error| panic!("it started, and then: {error}"));
    assert!(again.machine.applied() >= applied, "started again at an earlier state");
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let sample = sample();
    let of = |purged: u64, is_purged: u8, current: &[u8], files: &[(u64, &[u8])]| {
        let begin = Writer::new().u64(purged).u64(sample.index + 10).byte(is_purged);
        files
            .iter()
            .fold(begin.section(current), |writer, (index, file)| writer.u64(*index).section(file))
    };
    let pinned = include_bytes!("../../../../crates/machine/tests/checkpoint_v2.ckpt");
    let pinned_index = u64::from_le_bytes(*pinned[24..].first_chunk().expect("it has a header"));
    let own = (sample.index, sample.checkpoint.as_slice());
    let all = [
        of(0, 0, &sample.current, &[]),
        of(sample.index, 1, &sample.current, &[own]),
        of(0, 0, &[], &[own, (pinned_index, pinned)]),
        of(0, 0, &[], &[(3, b"cut"), own]),
    ];
    all.iter().flat_map(raw_and_sealed).collect()
}
