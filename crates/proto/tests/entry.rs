//! The bytes of an entry, pinned: a replicated log is read by every later version.

use kvorum_proto::entry::{Batch, Command, CommandKind, Entry};
use kvorum_proto::wire::{CompactionRequest, DeleteRangeRequest, PutRequest};
use prost::Message;

/// The worked example of `docs/formats/entry.md`.
const PINNED: &[u8] = include_bytes!("entry_v1.bin");

fn command(kind: CommandKind, request: impl Message) -> Command {
    Command {
        kind: kind.into(),
        format_version: 1,
        request: request.encode_to_vec().into(),
        ..Default::default()
    }
}

fn first_batch() -> Batch {
    let put = PutRequest { key: "fruit".into(), value: "apple".into(), ..Default::default() };
    let delete = DeleteRangeRequest { key: "nut".into(), ..Default::default() };
    Batch {
        origin: 0x8e9e_05c5_2164_694d,
        incarnation: 3,
        sequence: 41,
        commands: vec![
            command(CommandKind::Put, put),
            Command {
                user: "ada".into(),
                auth_revision: 9,
                ..command(CommandKind::DeleteRange, delete)
            },
        ],
        format_version: 1,
    }
}

fn second_batch() -> Batch {
    let compaction = CompactionRequest { revision: 12, physical: false };
    Batch {
        origin: 0x91bc_3c39_8fb3_c146,
        incarnation: 1,
        sequence: 7,
        commands: vec![command(CommandKind::Compaction, compaction)],
        format_version: 1,
    }
}

#[test]
fn the_pinned_example_reads_and_writes_the_same() {
    let entry = Entry { batches: vec![first_batch(), second_batch()] };
    assert_eq!(Entry::decode(PINNED).unwrap(), entry);
    assert_eq!(entry.encode_to_vec(), PINNED);
}

#[test]
fn concatenated_entries_are_one_entry() {
    let first = Entry { batches: vec![first_batch()] }.encode_to_vec();
    let second = Entry { batches: vec![second_batch()] }.encode_to_vec();
    assert_eq!([first, second].concat(), PINNED);
}

#[test]
fn an_empty_entry_is_no_bytes_and_changes_nothing_it_is_joined_to() {
    assert!(Entry::default().encode_to_vec().is_empty());
}

#[test]
fn cut_at_every_byte_is_refused_or_ends_at_a_batch() {
    let first_bytes = Entry { batches: vec![first_batch()] }.encoded_len();
    for end in 0..PINNED.len() {
        let whole = end == 0 || end == first_bytes;
        assert_eq!(Entry::decode(&PINNED[..end]).is_ok(), whole, "cut at {end}");
    }
}
