//! An entry of the log, as a leader sent it or as the log gave it back.
//!
//! Input: the entry's bytes.
//!
//! - What decodes is written as bytes that decode to the same; two entries joined are the batches of both.
//! - Two machines that apply it come to the same: outcomes, state, or the reason to stop.

use bytes::Bytes;
use kvorum_machine::Payload;
use kvorum_proto::entry::{CommandKind, Entry};
use prost::Message;

use crate::examine;
use crate::rig::{self, Rig};
use crate::samples::requests;

/// The target.
pub fn entry(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(entry) = Entry::decode(bytes.clone()) {
        let again = Entry::decode(entry.encode_to_vec().as_slice()).expect("it was just encoded");
        assert_eq!(again, entry);
        let joined = Entry::decode([bytes.as_ref(), bytes.as_ref()].concat().as_slice());
        let batches = [entry.batches.clone(), entry.batches].concat();
        assert_eq!(joined.expect("entries can be joined").batches, batches);
    }
    let (first, second) = (applied(&bytes), applied(&bytes));
    assert_eq!(first, second, "two members that differ");
}

/// All that can be told of a machine once it has applied an entry.
fn applied(bytes: &Bytes) -> String {
    let mut rig = Rig::new();
    for (kind, request) in requests().into_iter().take(4) {
        rig.apply(rig::commands(&[(kind, request)])).expect("a sample applies");
    }
    let outcomes = rig.apply(Payload::Commands(bytes.clone()));
    let reader = rig.machine.reader();
    let hash = examine::view(&reader.store().view());
    let leases: Vec<_> = reader.leases().iter().collect();
    let told = format!(
        "{outcomes:?} {hash:08x} {leases:?} {:?} {:?} {:?} {:?}",
        reader.members(),
        reader.removed(),
        reader.alarms(),
        rig.machine.applied(),
    );
    match outcomes {
        Ok(_) if reader.alarms().is_empty() => examine::machine(&mut rig),
        Ok(_) => {}
        Err(_) => {
            let next = rig.apply(Payload::Blank);
            assert!(next.is_err(), "a machine that stopped goes on");
        }
    }
    told
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let requests = requests();
    let one = requests.iter().map(|request| rig::entry(std::slice::from_ref(request)).to_vec());
    let mut seeds: Vec<Vec<u8>> = one.collect();
    seeds.push(rig::entry(&requests).to_vec());
    seeds.push(rig::entry(&[(CommandKind::Compaction, vec![8, 2])]).to_vec());
    for kind in [CommandKind::LeaseExpire, CommandKind::MemberAdd, CommandKind::Alarm] {
        seeds.push(rig::entry(&[(kind, vec![8, 1, 16, 10, 24, 1])]).to_vec());
    }
    seeds.push(include_bytes!("../../../../crates/proto/tests/entry_v1.bin").to_vec());
    seeds
}
