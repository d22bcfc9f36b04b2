//! Transactions within transactions.
//!
//! Some of them fail half way: they put with a lease that there is not, or read what is compacted. Nothing of such a
//! transaction may ever be seen.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::wire::{Compare, RequestOp, TxnRequest};

use super::client::Client;
use super::door::Surroundings;
use super::words::{
    created_at, delete, delete_op, get, has_version, holds, list, modified_at, prefix_end, put,
    put_op, range_op, txn_op,
};

/// What the keys begin with.
pub const PREFIX: &str = "txn/";

/// How many keys there are.
const KEYS: u64 = 5;

/// How deep transactions nest.
const DEPTH: u64 = 3;

/// A lease that nobody grants: clients choose positive ones.
const NO_LEASE: i64 = -4711;

/// How long a client rests between two transactions at most.
const REST: Duration = Duration::from_millis(200);

/// What a client last saw of the keys, to compare with.
#[derive(Clone, Debug, Default)]
struct Seen {
    mod_revision: i64,
    create_revision: i64,
    version: i64,
    value: Bytes,
}

/// Runs transactions until the end.
pub async fn run<S: Surroundings>(mut client: Client<S>) {
    while !client.world.is_over() {
        let key = key(&client);
        let seen = look(&mut client, &key).await;
        let request = match client.world.random(8) {
            0 => half_way(&mut client, &key),
            1 => into_the_past(&mut client, &key),
            _ => txn(&mut client, (&key, &seen), DEPTH),
        };
        drop(client.txn(request).await);
        client.rest(REST).await;
    }
}

fn key<S: Surroundings>(client: &Client<S>) -> Bytes {
    format!("{PREFIX}{}", client.world.random(KEYS)).into()
}

async fn look<S: Surroundings>(client: &mut Client<S>, key: &Bytes) -> Seen {
    let Ok(found) = client.range(get(key)).await else { return Seen::default() };
    let Some(found) = found.kvs.first() else { return Seen::default() };
    Seen {
        mod_revision: found.mod_revision(),
        create_revision: found.create_revision(),
        version: found.version(),
        value: Bytes::copy_from_slice(found.value()),
    }
}

fn txn<S: Surroundings>(client: &mut Client<S>, known: (&Bytes, &Seen), depth: u64) -> TxnRequest {
    let mut request = TxnRequest::default();
    for _ in 0..client.world.random(3) {
        request.compare.push(compare(client, known));
    }
    for _ in 0..client.world.random(4) {
        request.success.push(step(client, known, depth));
    }
    for _ in 0..client.world.random(3) {
        request.failure.push(step(client, known, depth));
    }
    request
}

fn compare<S: Surroundings>(client: &Client<S>, (known, seen): (&Bytes, &Seen)) -> Compare {
    let other = key(client);
    let mut compare = match client.world.random(6) {
        0 => modified_at(known, seen.mod_revision),
        1 => created_at(known, seen.create_revision),
        2 => has_version(known, seen.version),
        3 => holds(known, seen.value.clone()),
        4 => created_at(&other, 0),
        _ => modified_at(&other, client.seen),
    };
    // Equal, greater, less, not equal.
    compare.result = if client.once_in(3) { client.world.random(4) as i32 } else { 0 };
    if client.once_in(10) {
        compare.range_end = prefix_end(PREFIX);
    }
    compare
}

fn step<S: Surroundings>(client: &mut Client<S>, known: (&Bytes, &Seen), depth: u64) -> RequestOp {
    let key = key(client);
    match client.world.random(if depth > 1 { 10 } else { 8 }) {
        0..4 => {
            let mut request = put(&key, client.value());
            request.prev_kv = client.once_in(3);
            put_op(request)
        }
        4..6 => range_op(get(&key)),
        6 => range_op(list(PREFIX)),
        7 => {
            let mut request = delete(&key);
            request.prev_kv = client.once_in(3);
            if client.once_in(4) {
                request.range_end = prefix_end(PREFIX);
            }
            delete_op(request)
        }
        _ => txn_op(txn(client, known, depth - 1)),
    }
}

/// Puts, deletes, and then puts with a lease that there is not.
fn half_way<S: Surroundings>(client: &mut Client<S>, key: &Bytes) -> TxnRequest {
    let other: Bytes = format!("{PREFIX}other").into();
    let mut leased = put(key, client.value());
    leased.lease = NO_LEASE;
    let success = vec![
        put_op(put(&other, client.value())),
        delete_op(delete(&format!("{PREFIX}gone").into())),
        txn_op(TxnRequest { success: vec![put_op(leased)], ..TxnRequest::default() }),
    ];
    TxnRequest { success, ..TxnRequest::default() }
}

/// Puts, and reads at a revision that may be compacted.
fn into_the_past<S: Surroundings>(client: &mut Client<S>, key: &Bytes) -> TxnRequest {
    let mut past = get(key);
    past.revision = (client.seen - client.world.random(150) as i64).max(1);
    let success = vec![put_op(put(key, client.value())), range_op(past)];
    TxnRequest { success, ..TxnRequest::default() }
}
