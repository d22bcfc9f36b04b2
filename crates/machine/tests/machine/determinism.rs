//! The same commands make the same state, however they were grouped and whoever answers them.

use bytes::Bytes;
use kvorum_machine::{BATCH_FORMAT_VERSION, Machine, Outcome, Payload};
use kvorum_mvcc::Read;
use kvorum_proto::entry::{Batch, CommandKind};
use kvorum_proto::wire::CompactionRequest;
use kvorum_types::{Incarnation, LeaseId, MemberId};
use prost::Message;

use crate::fixture::{Fixture, ME, command, entry, position};
use crate::model::{Random, seed_count};

fn random_commands(seed: u64, count: usize) -> Vec<(CommandKind, Bytes)> {
    let mut random = Random(seed);
    (0..count)
        .map(|number| {
            let revision = number as i64 / 2;
            match random.below(12) {
                0..=4 => (CommandKind::Put, random.put().encode_to_vec().into()),
                5 => (CommandKind::DeleteRange, random.delete().encode_to_vec().into()),
                6..=9 => (CommandKind::Txn, random.txn(revision, 2).encode_to_vec().into()),
                10 if random.one_in(2) => loop {
                    // What depends on the entry it stands in is another matter.
                    let (kind, request) = random.lease_command(1, |_| None);
                    if matches!(kind, CommandKind::LeaseGrant | CommandKind::LeaseRevoke) {
                        break (kind, request);
                    }
                },
                10 => {
                    let revision = revision - random.below(20) as i64;
                    let request = CompactionRequest { revision, physical: false };
                    (CommandKind::Compaction, request.encode_to_vec().into())
                }
                _ => (CommandKind::Put, Bytes::from_static(b"\xff no request")),
            }
        })
        .collect()
}

/// Applies the commands, cut into entries of batches of two members as the seed says.
fn apply(
    seed: u64,
    commands: &[(CommandKind, Bytes)],
    mine: Option<(MemberId, Incarnation)>,
) -> (Fixture, Vec<Outcome>) {
    let mut random = Random(seed);
    let mut fixture = Fixture::new();
    let mut outcomes = Vec::new();
    let (mut index, mut rest) = (0, commands);
    while !rest.is_empty() {
        let mut batches = Vec::new();
        for _ in 0..=random.below(3) {
            let (now, later) = rest.split_at(rest.len().min(random.below(6) as usize));
            rest = later;
            let commands = now.iter().map(|(kind, bytes)| command(*kind, bytes.clone())).collect();
            let (sequence, format_version) = (index, BATCH_FORMAT_VERSION);
            let (origin, incarnation) = (ME.0.0, ME.1.0);
            batches.push(Batch { origin, incarnation, sequence, commands, format_version });
        }
        let payload = if random.one_in(5) { Payload::Blank } else { entry(batches.clone()) };
        if matches!(payload, Payload::Blank) {
            apply_one(&mut fixture.machine, &mut index, Payload::Blank, mine);
        }
        outcomes.extend(apply_one(&mut fixture.machine, &mut index, entry(batches), mine));
        if random.one_in(3) {
            fixture.machine.publish();
        }
        if random.one_in(4) {
            fixture.maintain_up_to(Some(index));
        }
    }
    fixture.machine.publish();
    (fixture, outcomes)
}

fn apply_one(
    machine: &mut Machine,
    index: &mut u64,
    payload: Payload,
    mine: Option<(MemberId, Incarnation)>,
) -> Vec<Outcome> {
    let batches = machine.apply(position(*index), payload, mine).expect("the entry applies");
    *index += 1;
    batches.into_iter().flat_map(|batch| batch.outcomes).collect()
}

/// Every lease with its TTL and its keys.
fn leases(fixture: &Fixture) -> Vec<(LeaseId, i64, Vec<Vec<u8>>)> {
    let view = fixture.machine.reader().leases();
    let keys = |id| view.keys(id).map(<[u8]>::to_vec).collect();
    view.iter().map(|(id, lease)| (id, lease.ttl, keys(id))).collect()
}

#[test]
fn the_same_commands_in_other_groups_give_the_same_outcomes_and_hash() {
    for seed in 0..seed_count(12) {
        let commands = random_commands(seed, 300);
        let (one, outcomes) = apply(seed, &commands, Some(ME));
        let (other, other_outcomes) = apply(seed + 1000, &commands, Some(ME));
        // A member to whom none of the commands belong builds no answers.
        let (silent, none) = apply(seed + 2000, &commands, None);
        assert_eq!(outcomes.len(), commands.len(), "seed {seed}");
        assert_eq!(outcomes, other_outcomes, "seed {seed}");
        assert!(none.is_empty());

        let views = [one.view(), other.view(), silent.view()];
        let hashes = views.each_ref().map(|view| {
            (
                view.hash(0).expect("the history is readable"),
                view.revision(),
                view.compact_revision(),
            )
        });
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
        assert_eq!(hashes[0], hashes[2], "seed {seed}");
        let leases = [leases(&one), leases(&other), leases(&silent)];
        assert_eq!(leases[0], leases[1], "seed {seed}");
        assert_eq!(leases[0], leases[2], "seed {seed}");
    }
}

#[test]
fn only_the_run_that_proposed_a_batch_gets_its_outcomes() {
    let put = |key| command(CommandKind::Put, crate::fixture::put(key, "1").encode_to_vec().into());
    let batch = |origin, incarnation, sequence, key| Batch {
        origin,
        incarnation,
        sequence,
        commands: vec![put(key), put(key)],
        format_version: BATCH_FORMAT_VERSION,
    };
    let (id, run) = (ME.0.0, ME.1.0);
    let mut fixture = Fixture::new();
    let outcomes = fixture.apply(entry(vec![
        batch(id, run, 7, "a"),
        batch(id + 1, run, 8, "b"),
        batch(id, run + 1, 9, "c"),
        batch(id, run, 10, "d"),
    ]));
    let told: Vec<_> =
        outcomes.iter().map(|o| (o.incarnation, o.sequence, o.outcomes.len())).collect();
    assert_eq!(told, [(ME.1, 7, 2), (ME.1, 10, 2)]);
    assert_eq!(fixture.view().revision(), 9);
}
