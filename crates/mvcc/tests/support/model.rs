//! The store as one would write it if nothing had to be fast: a list of all changes.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kvorum_types::{KeyRange, Revision};
use prost::Message;

/// `mvccpb.KeyValue`, by a library that knows nothing of ours.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub revision: Revision,
    pub kv: KeyValue,
    pub is_tombstone: bool,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub stored: Vec<Stored>,
    pub revision: i64,
    pub compacted: i64,
}

impl Model {
    pub fn new() -> Model {
        Model { stored: Vec::new(), revision: 1, compacted: -1 }
    }

    /// The newest change of every key in the range up to a revision, tombstones too.
    fn newest(&self, range: &KeyRange, at: i64) -> BTreeMap<Bytes, &Stored> {
        let seen =
            self.stored.iter().filter(|s| s.revision.main <= at && range.contains(&s.kv.key));
        seen.map(|stored| (stored.kv.key.clone(), stored)).collect()
    }

    pub fn range(&self, range: &KeyRange, at: i64) -> Vec<KeyValue> {
        let newest = self.newest(range, at).into_values();
        newest.filter(|stored| !stored.is_tombstone).map(|stored| stored.kv.clone()).collect()
    }

    /// The live keys that name a lease.
    pub fn leased(&self) -> HashMap<Bytes, i64> {
        let live = self.range(&KeyRange::all(), self.revision).into_iter();
        live.filter(|kv| kv.lease != 0).map(|kv| (kv.key, kv.lease)).collect()
    }

    pub fn put(&mut self, revision: Revision, key: Bytes, value: Bytes, lease: i64) {
        let mod_revision = revision.main;
        let old = self.range(&KeyRange::point(key.clone()), mod_revision).pop();
        let (create_revision, version) =
            old.map_or((mod_revision, 1), |old| (old.create_revision, old.version + 1));
        let kv = KeyValue { key, create_revision, mod_revision, version, value, lease };
        self.stored.push(Stored { revision, kv, is_tombstone: false });
    }

    pub fn delete(&mut self, revision: Revision, key: Bytes) {
        let kv = KeyValue { key, ..KeyValue::default() };
        self.stored.push(Stored { revision, kv, is_tombstone: true });
    }

    /// Drops what etcd's compaction drops.
    pub fn compact(&mut self, at: i64) {
        let newest = self.newest(&KeyRange::all(), at).into_values();
        let kept: Vec<Revision> = newest
            .filter(|stored| !stored.is_tombstone || stored.revision.main == at)
            .map(|stored| stored.revision)
            .collect();
        self.stored.retain(|stored| stored.revision.main > at || kept.contains(&stored.revision));
        self.compacted = at;
    }

    /// etcd's HashKV, as its source has it.
    pub fn hash(&self, at: i64) -> u32 {
        let newest = self.newest(&KeyRange::all(), at).into_values();
        let keep: Vec<Revision> =
            newest.filter(|stored| !stored.is_tombstone).map(|stored| stored.revision).collect();
        let mut hashed = b"key".to_vec();
        for Stored { revision, kv, is_tombstone } in &self.stored {
            let is_scheduled = revision.main <= self.compacted && !keep.is_empty();
            if revision.main > at
                || (is_scheduled && !keep.contains(revision))
                || (revision.main == self.compacted && *is_tombstone)
            {
                continue;
            }
            hashed.extend(revision.to_bytes());
            hashed.extend(is_tombstone.then_some(b't'));
            hashed.extend(kv.encode_to_vec());
        }
        crc32c::crc32c(&hashed)
    }
}
