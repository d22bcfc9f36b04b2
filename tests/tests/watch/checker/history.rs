//! What really happened: every revision with its changes, as a model of the store makes them from the writes.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::WatchCreateRequest;
use kvorum_proto::api::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_proto::api::mvccpb::event::EventType;

/// One write of a transaction. A transaction without a change makes no revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// Sets a key.
    Put { key: Bytes, value: Bytes },
    /// Deletes a key, or a range of keys if `end` is not empty.
    Delete { key: Bytes, end: Bytes },
}

/// What a revision did to one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub kind: EventType,
    /// The key as it is after a put; of a deleted one only the key and the revision.
    pub kv: KeyValue,
    /// The key as it was before.
    pub previous: Option<KeyValue>,
}

/// A compaction that was asked for; it may have happened at any time since.
#[derive(Clone, Copy, Debug)]
struct Compaction {
    revision: i64,
    begun: u64,
}

/// The true history, from an empty store at revision 1 on.
#[derive(Clone, Debug, Default)]
pub struct History {
    revisions: BTreeMap<i64, Vec<Change>>,
    state: BTreeMap<Bytes, KeyValue>,
    compactions: Vec<Compaction>,
}

impl History {
    /// Adds a transaction. The changes it makes, in its order; none makes no revision.
    pub fn apply(&mut self, writes: &[Write]) -> &[Change] {
        let revision = self.revision() + 1;
        let mut changes = Vec::new();
        for write in writes {
            match write {
                Write::Put { key, value } => changes.push(self.put(revision, key, value)),
                Write::Delete { key, end } => self.delete(revision, key, end, &mut changes),
            }
        }
        if changes.is_empty() {
            return &[];
        }
        self.revisions.entry(revision).or_insert(changes)
    }

    fn put(&mut self, revision: i64, key: &Bytes, value: &Bytes) -> Change {
        let previous = self.state.get(key).cloned();
        let (create_revision, version) =
            previous.as_ref().map_or((revision, 0), |kv| (kv.create_revision, kv.version));
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision,
            mod_revision: revision,
            version: version + 1,
            lease: 0,
        };
        self.state.insert(key.clone(), kv.clone());
        Change { kind: EventType::Put, kv, previous }
    }

    fn delete(&mut self, revision: i64, key: &Bytes, end: &Bytes, changes: &mut Vec<Change>) {
        let gone = self.state.keys().filter(|found| is_within(found, key, end));
        let gone: Vec<Bytes> = gone.cloned().collect();
        for key in gone {
            let previous = self.state.remove(&key);
            let kv = KeyValue { key, mod_revision: revision, ..Default::default() };
            changes.push(Change { kind: EventType::Delete, kv, previous });
        }
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revisions.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// The keys that a deletion would delete now.
    pub fn keys_within(&self, key: &[u8], end: &[u8]) -> Vec<Bytes> {
        self.state.keys().filter(|found| is_within(found, key, end)).cloned().collect()
    }

    /// What a revision did to a key, and the place of that in the revision.
    pub fn change(&self, revision: i64, key: &[u8]) -> Option<(usize, &Change)> {
        let changes = self.revisions.get(&revision)?;
        changes.iter().enumerate().find(|(_, change)| change.kv.key == key)
    }

    /// The revisions from `start` on in which something happened that a request asks for, and how many changes that is.
    pub fn wanted(
        &self,
        request: &WatchCreateRequest,
        start: i64,
    ) -> impl Iterator<Item = (i64, usize)> {
        let revisions = self.revisions.range(start..).map(|(revision, changes)| {
            let wanted =
                changes.iter().filter(|change| asks_for(request, change.kind, &change.kv.key));
            (*revision, wanted.count())
        });
        revisions.filter(|(_, count)| *count > 0)
    }

    /// Notes that a compaction was asked for at a moment.
    pub fn compaction(&mut self, revision: i64, begun: u64) {
        self.compactions.push(Compaction { revision, begun });
    }

    /// Whether the store may have been compacted to exactly this revision when something was received.
    pub fn may_be_compacted_to(&self, revision: i64, received: u64) -> bool {
        let fits = |found: &Compaction| found.revision == revision && found.begun < received;
        self.compactions.iter().any(fits)
    }

    /// Whether what was there before a revision may have been compacted away when something was received.
    pub fn may_lack_previous(&self, revision: i64, received: u64) -> bool {
        let fits = |found: &Compaction| found.revision >= revision && found.begun < received;
        self.compactions.iter().any(fits)
    }
}

/// Whether a watch wants to be told of such a change.
pub fn asks_for(request: &WatchCreateRequest, kind: EventType, key: &[u8]) -> bool {
    let unwanted = match kind {
        EventType::Put => FilterType::Noput,
        EventType::Delete => FilterType::Nodelete,
    };
    let first: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
    is_within(key, first, &request.range_end) && request.filters().all(|filter| filter != unwanted)
}

/// Whether a key lies in a range as requests name it.
fn is_within(found: &[u8], key: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => found == key,
        b"\0" => found >= key,
        _ => found >= key && found < end,
    }
}
