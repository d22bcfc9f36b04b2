//! What must hold of any store and any machine that was let in, wherever its bytes came from.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::{KeptStores, LogExtent};
use kvorum_mvcc::{Export, MemBackend, Opened, RangeOptions, Read, Restore, View, create, open};
use kvorum_types::{KeyRange, Revision};

use crate::rig::{Rig, options};

/// How many bytes of changes are asked for at once.
const CHANGES_BYTES: usize = 1 << 20;
/// The index of the write that checks a store.
const CHECK_INDEX: u64 = 1 << 40;

/// Reads all that can be read: nothing that was let in may turn out damaged later. Returns the hash of history.
pub fn view(view: &View) -> u32 {
    let (revision, compact_revision) = (view.revision(), view.compact_revision());
    assert!(revision >= 1 && compact_revision <= revision, "{compact_revision} of {revision}");
    for at in [0, revision, compact_revision] {
        let read = view.range(&KeyRange::all(), at, &RangeOptions::default());
        let read = read.unwrap_or_else(|error| panic!("a range at {at} of {revision}: {error}"));
        assert_eq!(read.count, read.records.len() as u64, "keys at {at}");
        for record in &read.records {
            assert!(record.mod_revision() <= revision, "{record:?} beyond {revision}");
            view.get(record.key(), at).expect("a key that a range found is there");
        }
    }
    let from = Revision::new(compact_revision.max(1), 0);
    let changes = view.changes(from, CHANGES_BYTES).expect("history can be read");
    let ascend = changes.changes.windows(2).all(|pair| pair[0].revision < pair[1].revision);
    assert!(ascend, "revisions do not ascend");
    view.hash(0).expect("history can be hashed").hash
}

/// Checks a store that was opened: it is what its own export makes of it, can be written to, and opens again.
pub fn store(opened: Opened, backend: Arc<MemBackend>) {
    let reader = opened.store.reader();
    let before = view(&reader.view());
    let again = restored(&mut reader.view().export(), &reader.view());
    assert_eq!(view(&again.store.reader().view()), before, "an export of the store");
    let Opened { mut store, mut maintainer, .. } = opened;
    let revision = store.revision();
    let mut txn = store.begin();
    txn.put(b"key of the check", b"value", 0);
    txn.commit();
    store.publish(CHECK_INDEX, Bytes::from_static(b"check"));
    assert_eq!(store.revision(), revision + 1);
    maintainer.flush_all(Some(CHECK_INDEX)).expect("what was let in can be written behind");
    let after = view(&store.reader().view());
    drop((store, maintainer));
    let opened = open(backend, options()).expect("what was written behind opens again");
    assert_eq!(view(&opened.store.reader().view()), after, "the store, opened again");
}

/// A store made of an export.
fn restored(export: &mut Export, of: &View) -> Opened {
    let backend = Arc::new(MemBackend::new());
    let mut restore = Restore::new(backend, options()).expect("memory does not fail");
    while let Some(block) = export.next_block().expect("what was let in can be exported") {
        restore.push(block).expect("what was exported can be taken in");
    }
    let (revision, compact_revision) = (of.revision(), of.compact_revision());
    let finished = restore.finish(revision, compact_revision, 0, Bytes::new());
    finished.expect("what was exported is a store")
}

/// A store that nothing was ever written to.
pub fn new_store() -> (Opened, Arc<MemBackend>) {
    let backend = Arc::new(MemBackend::new());
    (create(backend.clone(), options()).expect("memory does not fail"), backend)
}

/// Checks a machine whose state came from outside: it goes on, and its own checkpoint is the state it has.
pub fn machine(rig: &mut Rig) {
    view(&rig.machine.reader().store().view());
    if rig.machine.leases_behind().is_some() {
        return;
    }
    rig.put("key of the check", "value", 0);
    let hash = view(&rig.machine.reader().store().view());
    let leases = rig.machine.reader().leases().len();
    let info = rig.checkpoint();
    rig.checkpoints.verify(&info).expect("its own checkpoint is sound");
    let applied = rig.machine.applied().expect("a put was applied").index;
    let log = LogExtent { purged: Some(applied), durable: Some(applied) };
    let again = Rig::open(rig.disk.clone(), KeptStores::default(), log);
    let again = again.unwrap_or_else(|error| panic!("its own checkpoint: {error}"));
    assert_eq!(view(&again.machine.reader().store().view()), hash);
    assert_eq!(again.machine.reader().leases().len(), leases);
    assert_eq!(again.machine.applied(), rig.machine.applied());
}
