//! Requests to an entry's bytes. Drawn in `docs/formats/entry.md`.
//!
//! Written by hand, so that each request's bytes are copied once, from where they were received to the buffer that goes
//! to the log and to the peers.

use bytes::{BufMut, Bytes};
use kvorum_machine::{BATCH_FORMAT_VERSION, COMMAND_FORMAT_VERSION};
use kvorum_pool::BufferPool;
use kvorum_proto::entry::CommandKind;
use kvorum_types::{Incarnation, MemberId};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

const ENTRY_BATCHES: u32 = 1;
const BATCH_ORIGIN: u32 = 1;
const BATCH_INCARNATION: u32 = 2;
const BATCH_SEQUENCE: u32 = 3;
const BATCH_COMMANDS: u32 = 4;
const BATCH_FORMAT: u32 = 5;
const COMMAND_KIND: u32 = 1;
const COMMAND_FORMAT: u32 = 2;
const COMMAND_REQUEST: u32 = 5;

/// More than the framing of one command takes.
pub(crate) const COMMAND_OVERHEAD_BYTES: usize = 24;

/// Names a batch: no two have the same name.
#[derive(Clone, Copy, Debug)]
pub struct BatchName {
    /// Who proposed it.
    pub origin: MemberId,
    /// In which of its runs.
    pub incarnation: Incarnation,
    /// As which of that run's batches.
    pub sequence: u64,
}

/// The bytes of an entry with one batch of these commands, each a request as protobuf, in a buffer of the pool.
pub fn encode_entry<'a>(
    pool: &BufferPool,
    name: BatchName,
    commands: impl Iterator<Item = (CommandKind, &'a Bytes)> + Clone,
) -> Bytes {
    let command_lens = commands.clone().map(|(kind, request)| command_len(kind, request));
    let batch_len = number_len(BATCH_ORIGIN, name.origin.0)
        + number_len(BATCH_INCARNATION, name.incarnation.0)
        + number_len(BATCH_SEQUENCE, name.sequence)
        + command_lens.map(|len| framed_len(BATCH_COMMANDS, len)).sum::<usize>()
        + number_len(BATCH_FORMAT, u64::from(BATCH_FORMAT_VERSION));

    let entry_len = framed_len(ENTRY_BATCHES, batch_len);
    pool.build(entry_len, |into| put_batch(name, batch_len, commands, into))
}

fn put_batch<'a>(
    name: BatchName,
    batch_len: usize,
    commands: impl Iterator<Item = (CommandKind, &'a Bytes)>,
    into: &mut Vec<u8>,
) {
    put_len(ENTRY_BATCHES, batch_len, into);
    put_number(BATCH_ORIGIN, name.origin.0, into);
    put_number(BATCH_INCARNATION, name.incarnation.0, into);
    put_number(BATCH_SEQUENCE, name.sequence, into);
    for (kind, request) in commands {
        put_len(BATCH_COMMANDS, command_len(kind, request), into);
        put_number(COMMAND_KIND, kind_number(kind), into);
        put_number(COMMAND_FORMAT, u64::from(COMMAND_FORMAT_VERSION), into);
        if !request.is_empty() {
            put_len(COMMAND_REQUEST, request.len(), into);
            into.put_slice(request);
        }
    }
    put_number(BATCH_FORMAT, u64::from(BATCH_FORMAT_VERSION), into);
}

/// One entry with the batches of all of them, in order.
pub(crate) fn merge(pool: &BufferPool, mut entries: Vec<Bytes>) -> Bytes {
    if entries.len() == 1
        && let Some(only) = entries.pop()
    {
        return only;
    }
    pool.build(entries.iter().map(Bytes::len).sum(), |into| {
        for entry in &entries {
            into.put_slice(entry);
        }
    })
}

fn kind_number(kind: CommandKind) -> u64 {
    u64::from(i32::from(kind).unsigned_abs())
}

fn command_len(kind: CommandKind, request: &Bytes) -> usize {
    let request_len =
        if request.is_empty() { 0 } else { framed_len(COMMAND_REQUEST, request.len()) };
    number_len(COMMAND_KIND, kind_number(kind))
        + number_len(COMMAND_FORMAT, u64::from(COMMAND_FORMAT_VERSION))
        + request_len
}

fn framed_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

fn number_len(field: u32, number: u64) -> usize {
    if number == 0 { 0 } else { key_len(field) + encoded_len_varint(number) }
}

fn put_len(field: u32, len: usize, into: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, into);
    encode_varint(len as u64, into);
}

fn put_number(field: u32, number: u64, into: &mut Vec<u8>) {
    if number != 0 {
        encode_key(field, WireType::Varint, into);
        encode_varint(number, into);
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::entry::{Batch, Command, Entry};
    use prost::Message;

    use super::*;

    fn batch(sequence: u64, requests: &[(CommandKind, Bytes)]) -> Batch {
        let command = |(kind, request): &(CommandKind, Bytes)| Command {
            kind: i32::from(*kind),
            format_version: COMMAND_FORMAT_VERSION,
            request: request.clone(),
            ..Command::default()
        };
        Batch {
            origin: 0xdead_beef_0000_0001,
            incarnation: 3,
            sequence,
            commands: requests.iter().map(command).collect(),
            format_version: BATCH_FORMAT_VERSION,
        }
    }

    fn encoded(pool: &BufferPool, sequence: u64, requests: &[(CommandKind, Bytes)]) -> Bytes {
        let name = BatchName {
            origin: MemberId(0xdead_beef_0000_0001),
            incarnation: Incarnation(3),
            sequence,
        };
        encode_entry(pool, name, requests.iter().map(|(kind, request)| (*kind, request)))
    }

    #[test]
    fn an_entry_written_by_hand_is_the_protobuf_it_claims_to_be() {
        let pool = BufferPool::new(1 << 20);
        let requests = [
            (CommandKind::Put, Bytes::from_static(b"a request")),
            (CommandKind::Compaction, Bytes::new()),
            (CommandKind::Txn, Bytes::from(vec![7; 300])),
        ];
        let bytes = encoded(&pool, 9, &requests);
        let wanted = Entry { batches: vec![batch(9, &requests)] };
        assert_eq!(bytes, wanted.encode_to_vec());
        let overhead = bytes.len() - 9 - 300;
        assert!(overhead < 3 * COMMAND_OVERHEAD_BYTES + 40, "{overhead}");
    }

    #[test]
    fn merged_entries_hold_the_batches_of_all() {
        let pool = BufferPool::new(1 << 20);
        let requests = [(CommandKind::Put, Bytes::from_static(b"a"))];
        let other = [(CommandKind::Put, Bytes::from_static(b"b"))];
        let entries = vec![encoded(&pool, 1, &requests), encoded(&pool, 2, &other)];
        let merged = Entry::decode(merge(&pool, entries)).expect("an entry");
        assert_eq!(merged, Entry { batches: vec![batch(1, &requests), batch(2, &other)] });
    }
}
