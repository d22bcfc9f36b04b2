//! A run of changes, and the events made of them.
//!
//! A run holds whole revisions. Each of its changes is encoded at most twice, without and with what the key was before,
//! and only if somebody wants it. What a range's watchers get is a [`Chunk`]: the encoded events of the run in that
//! range, copied together once and shared by all of them.

use bytes::Bytes;
use kvorum_mvcc::{Change, Read, ReadError, Record, View};
use kvorum_types::Revision;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::request::Filters;

/// The field `events` of a `WatchResponse`.
pub(crate) const EVENTS_TAG: u32 = 11;

/// The fields of an `mvccpb.Event`, and the one of its key-value that a tombstone's record lacks.
const TYPE_TAG: u32 = 1;
const KV_TAG: u32 = 2;
const PREV_KV_TAG: u32 = 3;
const MOD_REVISION_TAG: u32 = 3;
const TYPE_DELETE: u64 = 1;

/// All keys above take one byte.
const KEY_BYTES: usize = 1;
const _: () = assert!(EVENTS_TAG < 16, "a tag below 16 is encoded in one byte");

/// Consecutive revisions, each of them whole.
#[derive(Debug)]
pub(crate) struct Run {
    pub changes: Vec<Change>,
    /// Everything up to this revision is in it.
    pub last: i64,
}

impl Run {
    /// Reads about `bytes_max` bytes of changes from revision `from` on, but at least one revision.
    pub fn read(view: &View, from: i64, bytes_max: usize) -> Result<Run, ReadError> {
        let mut read = view.changes(Revision::new(from, 0), bytes_max)?;
        let mut changes = std::mem::take(&mut read.changes);
        loop {
            let Some(next) = read.next else { return Ok(Run { changes, last: view.revision() }) };
            let is_cut = changes.last().is_some_and(|last| last.revision.main == next.main);
            let has_whole = changes.first().is_some_and(|first| first.revision.main < next.main);
            if !is_cut || has_whole {
                // A revision that is not all there is left for the next run.
                changes.truncate(changes.partition_point(|c| c.revision.main < next.main));
                return Ok(Run { changes, last: next.main - 1 });
            }
            read = view.changes(next, bytes_max)?;
            changes.append(&mut read.changes);
        }
    }
}

/// Which of a run's events a watcher wants, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Variant {
    pub filters: Filters,
    pub prev_kv: bool,
}

impl Variant {
    pub const COUNT: usize = 8;

    /// A small number for each.
    pub fn number(self) -> usize {
        let Filters { no_put, no_delete } = self.filters;
        usize::from(no_put) | usize::from(no_delete) << 1 | usize::from(self.prev_kv) << 2
    }

    fn wants(self, change: &Change) -> bool {
        if change.is_tombstone { !self.filters.no_delete } else { !self.filters.no_put }
    }
}

/// The events of one range over a run, encoded and framed as they stand in a response.
///
/// - Marks are in the order of their revisions, and `bytes` ends with the last one.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub bytes: Bytes,
    pub marks: Box<[Mark]>,
}

/// Where a revision's events end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub revision: i64,
    /// In bytes, and in events, from the chunk's start.
    pub bytes_end: usize,
    pub count_end: usize,
}

impl Chunk {
    /// A chunk of one revision.
    pub fn of_one(revision: i64, bytes: Vec<u8>, count: usize) -> Chunk {
        let mark = Mark { revision, bytes_end: bytes.len(), count_end: count };
        Chunk { bytes: bytes.into(), marks: Box::new([mark]) }
    }

    /// The place of the first mark at or after a revision.
    pub fn place_of(&self, revision: i64) -> usize {
        self.marks.partition_point(|mark| mark.revision < revision)
    }

    /// Where the events of the mark at `place` start, in bytes and in events.
    pub fn start_of(&self, place: usize) -> (usize, usize) {
        let before = place.checked_sub(1).and_then(|before| self.marks.get(before));
        before.map_or((0, 0), |mark| (mark.bytes_end, mark.count_end))
    }
}

/// Encodes the events of one run as they are wanted.
pub(crate) struct Encoder<'a> {
    run: &'a Run,
    view: &'a View,
    encoded: Vec<u8>,
    /// For each change, where its event stands in `encoded`, without and with what the key was before.
    spans: Vec<[Option<Span>; 2]>,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl<'a> Encoder<'a> {
    /// `view` is the one that the run was read from.
    pub fn new(run: &'a Run, view: &'a View) -> Encoder<'a> {
        Encoder { run, view, encoded: Vec::new(), spans: vec![[None; 2]; run.changes.len()] }
    }

    /// What a watcher gets of the changes at `places`, if it wants any of them.
    pub fn chunk(&mut self, places: &[u32], variant: Variant) -> Result<Option<Chunk>, ReadError> {
        let run = self.run;
        let changes = || {
            let known = places.iter().filter_map(|place| {
                let place = *place as usize;
                run.changes.get(place).map(|change| (place, change))
            });
            known.filter(|(_, change)| variant.wants(change))
        };
        let mut bytes_count = 0;
        for (place, change) in changes() {
            let span = self.span(place, change, variant.prev_kv)?;
            bytes_count += span.end - span.start;
        }
        let mut bytes = Vec::with_capacity(bytes_count);
        let mut marks: Vec<Mark> = Vec::new();
        for (count, (place, change)) in changes().enumerate() {
            let span = self.span(place, change, variant.prev_kv)?;
            bytes.extend_from_slice(&self.encoded[span.start..span.end]);
            let revision = change.revision.main;
            let mark = Mark { revision, bytes_end: bytes.len(), count_end: count + 1 };
            match marks.last_mut() {
                Some(last) if last.revision == revision => *last = mark,
                _ => marks.push(mark),
            }
        }
        let chunk = Chunk { bytes: bytes.into(), marks: marks.into() };
        Ok((!chunk.marks.is_empty()).then_some(chunk))
    }

    fn span(&mut self, place: usize, change: &Change, prev_kv: bool) -> Result<Span, ReadError> {
        if let Some(known) = self.spans[place][usize::from(prev_kv)] {
            return Ok(known);
        }
        let before = if prev_kv { before(self.view, change)? } else { None };
        let span = match (prev_kv, &before) {
            // There was nothing before: the event is the same for those who do not ask.
            (true, None) => self.span(place, change, false)?,
            _ => {
                let start = self.encoded.len();
                encode(&mut self.encoded, change, before.as_ref());
                Span { start, end: self.encoded.len() }
            }
        };
        self.spans[place][usize::from(prev_kv)] = Some(span);
        Ok(span)
    }
}

/// What a key was before a change; nothing when it did not exist, or when that is compacted.
fn before(view: &View, change: &Change) -> Result<Option<Record>, ReadError> {
    let main = change.revision.main;
    let is_create = !change.is_tombstone && change.record.create_revision() == main;
    if is_create {
        return Ok(None);
    }
    match view.get(change.record.key(), main - 1) {
        Err(ReadError::Compacted) => Ok(None),
        found => found,
    }
}

/// Appends the event of a change, framed as a field of a response.
fn encode(out: &mut Vec<u8>, change: &Change, before: Option<&Record>) {
    let kv = change.record.bytes();
    let mod_revision = change.revision.main.cast_unsigned();
    // A tombstone's record holds only the key.
    let more = if change.is_tombstone { KEY_BYTES + encoded_len_varint(mod_revision) } else { 0 };
    let type_bytes = if change.is_tombstone { KEY_BYTES + 1 } else { 0 };
    let prev_bytes = before.map_or(0, |before| nested_len(before.bytes().len()));
    let event_bytes = type_bytes + nested_len(kv.len() + more) + prev_bytes;
    out.reserve(nested_len(event_bytes));
    put_head(out, EVENTS_TAG, event_bytes);
    if change.is_tombstone {
        encode_key(TYPE_TAG, WireType::Varint, out);
        encode_varint(TYPE_DELETE, out);
    }
    put_head(out, KV_TAG, kv.len() + more);
    out.extend_from_slice(kv);
    if change.is_tombstone {
        encode_key(MOD_REVISION_TAG, WireType::Varint, out);
        encode_varint(mod_revision, out);
    }
    if let Some(before) = before {
        put_head(out, PREV_KV_TAG, before.bytes().len());
        out.extend_from_slice(before.bytes());
    }
}

/// Appends the event of a key that is there, framed as a field of a response.
pub(crate) fn encode_state(out: &mut Vec<u8>, record: &Record) {
    put_head(out, EVENTS_TAG, nested_len(record.bytes().len()));
    put_head(out, KV_TAG, record.bytes().len());
    out.extend_from_slice(record.bytes());
}

/// The bytes of a nested message of `bytes` bytes, with its key and length.
fn nested_len(bytes: usize) -> usize {
    KEY_BYTES + encoded_len_varint(bytes as u64) + bytes
}

fn put_head(out: &mut Vec<u8>, tag: u32, bytes: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes as u64, out);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kvorum_mvcc::{MemBackend, Opened, Options, create};
    use kvorum_proto::api::mvccpb::event::EventType;
    use kvorum_proto::wire::{Event, KeyValue, WatchResponse};
    use kvorum_types::KeyRange;
    use prost::Message;

    use super::*;

    fn store() -> Opened {
        create(Arc::new(MemBackend::new()), Options::default()).unwrap()
    }

    fn key_value(record: &Record) -> KeyValue {
        KeyValue::from_encoded(record.bytes().clone()).unwrap()
    }

    #[test]
    fn events_are_encoded_as_a_response_encodes_them() {
        let Opened { mut store, maintainer: _maintainer, .. } = store();
        for value in ["one", "two"] {
            let mut txn = store.begin();
            txn.put(b"key", value.as_bytes(), 77);
            txn.commit();
        }
        let mut txn = store.begin();
        txn.delete_range(&KeyRange::point(Bytes::from_static(b"key")));
        txn.put(b"other", b"", 0);
        txn.commit();
        store.publish(1, Bytes::new());

        let view = store.reader().view();
        let run = Run::read(&view, 2, 1 << 20).unwrap();
        let mut encoder = Encoder::new(&run, &view);
        for prev_kv in [false, true] {
            let variant = Variant { filters: Filters::default(), prev_kv };
            let chunk = encoder.chunk(&[0, 1, 2, 3], variant).unwrap().unwrap();
            let old = |at| Some(key_value(&view.get(b"key", at).unwrap().unwrap()));
            let record = |place: usize| key_value(&run.changes[place].record);
            let mut tombstone = run.changes[2].record.bytes().to_vec();
            tombstone.extend([0x18, 4]);
            let events = [
                (EventType::Put, record(0), None),
                (EventType::Put, record(1), old(2)),
                (EventType::Delete, KeyValue::from_encoded(tombstone.into()).unwrap(), old(3)),
                (EventType::Put, record(3), None),
            ];
            let events = events
                .map(|(kind, kv, prev)| Event::new(kind, &kv, prev.filter(|_| prev_kv).as_ref()));
            let response = WatchResponse { events: events.into(), ..WatchResponse::default() };
            assert_eq!(chunk.bytes, response.encode_to_vec());
            let marks: Vec<(i64, usize)> =
                chunk.marks.iter().map(|mark| (mark.revision, mark.count_end)).collect();
            assert_eq!(marks, [(2, 1), (3, 2), (4, 4)]);
        }
    }

    #[test]
    fn a_run_holds_whole_revisions_only() {
        let Opened { mut store, maintainer: _maintainer, .. } = store();
        for size in [1, 40, 2, 1] {
            let mut txn = store.begin();
            for number in 0..size {
                txn.put(format!("key{number}").as_bytes(), &[b'v'; 100], 0);
            }
            txn.commit();
        }
        store.publish(1, Bytes::new());
        let view = store.reader().view();
        let mains = |from, bytes_max| {
            let run = Run::read(&view, from, bytes_max).unwrap();
            let mains: Vec<i64> = run.changes.iter().map(|change| change.revision.main).collect();
            (mains, run.last)
        };
        assert_eq!(mains(2, 1), (vec![2], 2));
        assert_eq!(mains(2, 300), (vec![2], 2), "what is cut is left for the next run");
        assert_eq!(mains(3, 1), (vec![3; 40], 3), "a large revision is read to its end");
        assert_eq!(mains(4, 150), (vec![4; 2], 4));
        assert_eq!(mains(4, 1 << 20), (vec![4, 4, 5], 5));
        assert_eq!(mains(6, 1 << 20), (vec![], 5));
    }
}
