//! What goes back to a client.

use std::borrow::Cow;

use bytes::Bytes;
use kvorum_proto::wire::Event;
use prost::encoding::decode_varint;

/// The watch id of a reply that is not about a watcher of the stream.
pub(crate) const NO_WATCHER: i64 = -1;

/// One `WatchResponse`, all but what the server adds to the header.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// Which watcher; -1 for the whole stream, or for a watcher that could not be created.
    pub watch_id: i64,
    /// The header's revision; 0 with a `compact_revision`.
    pub revision: i64,
    /// The answer to a create request: all events of the watcher come after it.
    pub created: bool,
    /// The watcher is gone, nothing more will come.
    pub canceled: bool,
    /// Not 0 when the watcher wants what has been compacted: the first revision still to be had.
    pub compact_revision: i64,
    /// Why, where `canceled` alone does not say.
    pub cancel_reason: Cow<'static, str>,
    /// More of the same response follows.
    pub fragment: bool,
    /// All of the state has been told: what follows are changes after `revision`. Beyond etcd.
    pub state_complete: bool,
    /// What happened, in order.
    pub events: Events,
}

/// Events as they stand in an encoded `WatchResponse`: its field `events`, over and over, shared by all watchers that
/// get the same. They are the last field of etcd's message, so that [`Events::parts`] can be put behind the others.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// Most replies have one part, which then needs no list.
    first: Bytes,
    rest: Vec<Bytes>,
    /// Of all parts.
    bytes: usize,
    count: usize,
}

impl Events {
    /// How many events.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes all parts have.
    pub fn encoded_len(&self) -> usize {
        self.bytes
    }

    /// The encoded fields, to be written one part after the other. No part is empty.
    pub fn parts(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest).filter(|part| !part.is_empty())
    }

    /// Each event by itself, sharing the bytes.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.framed().filter_map(|framed| {
            let mut at = framed.as_ref().get(1..)?;
            decode_varint(&mut at).ok()?;
            Event::from_encoded(framed.slice_ref(at)).ok()
        })
    }

    /// Adds a part that holds `count` events.
    pub(crate) fn append(&mut self, part: Bytes, count: usize) {
        self.count += count;
        self.bytes += part.len();
        if self.first.is_empty() {
            self.first = part;
        } else {
            self.rest.push(part);
        }
    }

    /// Cuts between events: pieces of at most `bytes_max` bytes, or of one event.
    pub(crate) fn split(&self, bytes_max: usize) -> Vec<Events> {
        let mut pieces = vec![Events::default()];
        for part in self.parts() {
            // From `start` on, `count` events in `bytes` are to go into the last piece.
            let (mut start, mut bytes, mut count) = (0, 0, 0);
            for framed_len in framed_lens(part) {
                let filled = pieces.last().map_or(0, Events::encoded_len) + bytes;
                if filled > 0 && filled + framed_len > bytes_max {
                    append_last(&mut pieces, part.slice(start..start + bytes), count);
                    pieces.push(Events::default());
                    (start, bytes, count) = (start + bytes, 0, 0);
                }
                (bytes, count) = (bytes + framed_len, count + 1);
            }
            append_last(&mut pieces, part.slice(start..start + bytes), count);
        }
        pieces
    }

    /// Each event with its key and length.
    pub(crate) fn framed(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.parts().flat_map(|part| {
            let mut start = 0;
            framed_lens(part).map(move |framed_len| {
                start += framed_len;
                part.slice(start - framed_len..start)
            })
        })
    }
}

/// How long each event of a part is, with its key and length.
fn framed_lens(part: &Bytes) -> impl Iterator<Item = usize> + '_ {
    let mut rest = part.as_ref();
    std::iter::from_fn(move || {
        let whole = rest;
        // One byte of key, as every tag below 16 has.
        let mut at = whole.get(1..)?;
        let length = usize::try_from(decode_varint(&mut at).ok()?).ok()?;
        let framed_len = (whole.len() - at.len()).checked_add(length)?;
        rest = whole.get(framed_len..)?;
        Some(framed_len)
    })
}

fn append_last(pieces: &mut [Events], part: Bytes, count: usize) {
    if let Some(last) = pieces.last_mut()
        && !part.is_empty()
    {
        last.append(part, count);
    }
}

impl PartialEq for Events {
    /// However they are cut into parts.
    fn eq(&self, other: &Events) -> bool {
        self.count == other.count && self.framed().eq(other.framed())
    }
}

impl Eq for Events {}
