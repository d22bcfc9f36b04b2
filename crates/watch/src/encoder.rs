//! From changes to encoded events.
//!
//! Each change of a run is encoded at most twice, without and with what the key was before, and only if somebody wants it.
//! What is encoded for one range's watchers lies together in a **segment**. A chunk is a slice of a segment where the events
//! that it wants follow each other there, as they do for the first range that wants them and for every range that wants
//! the same, and a copy where they do not. So ranges that overlap share what a large revision takes.

use bytes::Bytes;
use kvorum_mvcc::{BackendError, Change, Read, ReadError, Record, View};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::run::{Chunk, Mark, Places, Run, Variant};

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

/// A slice keeps its whole segment: one that is smaller than this part of it is copied instead.
const SLICED_PART: usize = 4;

/// Encodes the events of one run as they are wanted.
pub(crate) struct Encoder<'a> {
    run: &'a Run,
    view: &'a View,
    segments: Vec<Bytes>,
    /// For each change, where its event stands, without and with what the key was before.
    spans: Vec<[Option<Span>; 2]>,
}

#[derive(Clone, Copy)]
struct Span {
    segment: usize,
    start: usize,
    end: usize,
}

impl<'a> Encoder<'a> {
    /// `view` is the one that the run was read from.
    pub fn new(run: &'a Run, view: &'a View) -> Encoder<'a> {
        Encoder { run, view, segments: Vec::new(), spans: vec![[None; 2]; run.changes.len()] }
    }

    /// What a watcher gets of the changes at `places`, if it wants any of them.
    pub fn chunk(
        &mut self,
        places: &Places,
        variant: Variant,
    ) -> Result<Option<Chunk>, BackendError> {
        self.encode(places, variant)?;
        let (mut marks, mut bytes_end): (Vec<Mark>, usize) = (Vec::new(), 0);
        let mut slice: Option<Span> = None;
        let mut is_slice = true;
        for (count, (span, change)) in self.wanted(places, variant).enumerate() {
            bytes_end += span.end - span.start;
            match &mut slice {
                None => slice = Some(span),
                Some(slice) if slice.segment == span.segment && slice.end == span.start => {
                    slice.end = span.end;
                }
                Some(_) => is_slice = false,
            }
            let revision = change.revision.main;
            let mark = Mark { revision, bytes_end, count_end: count + 1 };
            match marks.last_mut() {
                Some(last) if last.revision == revision => *last = mark,
                _ => marks.push(mark),
            }
        }
        let Some(slice) = slice else { return Ok(None) };
        let segment = &self.segments[slice.segment];
        let bytes = if is_slice && bytes_end.saturating_mul(SLICED_PART) >= segment.len() {
            segment.slice(slice.start..slice.end)
        } else {
            self.copy(places, variant, bytes_end)
        };
        Ok(Some(Chunk { bytes, marks: marks.into() }))
    }

    /// Encodes those that are wanted and have not been.
    fn encode(&mut self, places: &Places, variant: Variant) -> Result<(), BackendError> {
        let run = self.run;
        let which = usize::from(variant.prev_kv);
        let missing = |spans: &[[Option<Span>; 2]], place: usize| {
            let change = run.changes.get(place)?;
            (variant.wants(change) && spans[place][which].is_none()).then_some((place, change))
        };
        let known = &self.spans;
        let lens = places.iter().filter_map(|place| missing(known, place));
        // Without what was before, this is just what they take.
        let bytes: usize = lens.map(|(_, change)| nested_len(event_len(change, None))).sum();
        if bytes == 0 {
            return Ok(());
        }
        let mut fresh = Vec::with_capacity(bytes);
        for place in places.iter() {
            if let Some((place, change)) = missing(&self.spans, place) {
                self.encode_one(&mut fresh, place, change, variant.prev_kv)?;
            }
        }
        self.segments.push(fresh.into());
        Ok(())
    }

    /// Appends an event to the segment that is to be the next one.
    fn encode_one(
        &mut self,
        fresh: &mut Vec<u8>,
        place: usize,
        change: &Change,
        prev_kv: bool,
    ) -> Result<(), BackendError> {
        let before = if prev_kv { before(self.view, change)? } else { None };
        let [plain, whole] = &mut self.spans[place];
        // Where there was nothing before, the event is the same for those who do not ask.
        let is_plain = before.is_none();
        let known = if is_plain { *plain } else { None };
        let span = known.unwrap_or_else(|| {
            let start = fresh.len();
            encode(fresh, change, before.as_ref());
            Span { segment: self.segments.len(), start, end: fresh.len() }
        });
        if is_plain {
            *plain = Some(span);
        }
        if prev_kv {
            *whole = Some(span);
        }
        Ok(())
    }

    /// Those that are wanted, and where their events stand.
    fn wanted<'b>(
        &'b self,
        places: &'b Places,
        variant: Variant,
    ) -> impl Iterator<Item = (Span, &'b Change)> {
        places.iter().filter_map(move |place| {
            let change = self.run.changes.get(place).filter(|change| variant.wants(change))?;
            let span = self.spans.get(place)?[usize::from(variant.prev_kv)]?;
            Some((span, change))
        })
    }

    fn copy(&self, places: &Places, variant: Variant, bytes_count: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(bytes_count);
        for (span, _) in self.wanted(places, variant) {
            bytes.extend_from_slice(&self.segments[span.segment][span.start..span.end]);
        }
        bytes.into()
    }
}

/// What a key was before a change; nothing when it did not exist, or when that is compacted.
fn before(view: &View, change: &Change) -> Result<Option<Record>, BackendError> {
    let main = change.revision.main;
    let is_create = !change.is_tombstone && change.record.create_revision() == main;
    if is_create {
        return Ok(None);
    }
    let at = if kvorum_types::mutants::is_on("watch-prev-kv-newest") { 0 } else { main - 1 };
    match view.get(change.record.key(), at) {
        Ok(found) => Ok(found),
        Err(ReadError::Compacted) => Ok(None),
        Err(ReadError::Backend(error)) => Err(error),
        // The change was read from this view.
        Err(error @ ReadError::Future { .. }) => {
            Err(BackendError::Corrupt { what: format!("before a change that there is: {error}") })
        }
    }
}

/// Appends the event of a change, framed as a field of a response.
fn encode(out: &mut Vec<u8>, change: &Change, before: Option<&Record>) {
    let kv = change.record.bytes();
    let mod_revision = change.revision.main.cast_unsigned();
    let more = kv_more_len(change);
    let event_bytes = event_len(change, before);
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

/// The bytes of an event, without its key and length.
fn event_len(change: &Change, before: Option<&Record>) -> usize {
    let type_bytes = if change.is_tombstone { KEY_BYTES + 1 } else { 0 };
    let prev_bytes = before.map_or(0, |before| nested_len(before.bytes().len()));
    type_bytes + nested_len(change.record.bytes().len() + kv_more_len(change)) + prev_bytes
}

/// What an event's key-value has that its record lacks: a tombstone's holds only the key.
fn kv_more_len(change: &Change) -> usize {
    let mod_revision = change.revision.main.cast_unsigned();
    if change.is_tombstone { KEY_BYTES + encoded_len_varint(mod_revision) } else { 0 }
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
    use crate::request::Filters;

    fn store() -> Opened {
        create(Arc::new(MemBackend::new()), Options::default()).unwrap()
    }

    fn places(places: impl IntoIterator<Item = u32>) -> Places {
        let mut all = Places::default();
        places.into_iter().for_each(|place| all.push(place));
        all
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
            let chunk = encoder.chunk(&places(0..4), variant).unwrap().unwrap();
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
    fn ranges_that_overlap_share_what_a_large_revision_takes() {
        let Opened { mut store, maintainer: _maintainer, .. } = store();
        let mut txn = store.begin();
        for number in 0..100 {
            txn.put(format!("key{number:03}").as_bytes(), &[b'v'; 100], 0);
        }
        txn.commit();
        store.publish(1, Bytes::new());
        let view = store.reader().view();
        let run = Run::read(&view, 2, 1 << 20).unwrap();
        let mut encoder = Encoder::new(&run, &view);
        let mut chunk = |places: Places, prev_kv| {
            let variant = Variant { filters: Filters::default(), prev_kv };
            encoder.chunk(&places, variant).unwrap().unwrap().bytes
        };
        let whole = chunk(places(0..100), false);
        let is_shared = |part: &Bytes| whole.as_ptr_range().contains(&part.as_ptr());
        let same = [(0, false), (0, true), (40, false)]
            .map(|(first, prev_kv)| chunk(places(first..100), prev_kv));
        assert!(same.iter().all(is_shared));
        assert_eq!(same[2], whole[whole.len() / 100 * 40..]);
        // What wants little of it, or not one after the other, is not to keep all of it.
        let apart = [places(0..10), places((0..100).step_by(2))];
        let apart = apart.map(|places| chunk(places, false));
        assert!(!apart.iter().any(is_shared));
        assert_eq!(apart.each_ref().map(Bytes::len), [whole.len() / 10, whole.len() / 2]);
    }
}
