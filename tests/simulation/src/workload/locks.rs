//! Locks as etcd's clients take them, and what they protect.
//!
//! A lock is a queue: the key that was created first below its name has it. The key hangs on a lease, so whoever stalls
//! loses it without being told; therefore every write that the lock protects compares, in its own transaction, that the
//! key is still the one it was: the fence. The revision that created the key is the fencing token.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::wire::{KeyValue, PutRequest, TxnRequest};
use kvorum_types::LeaseId;

use super::client::{Client, Failed};
use super::door::Surroundings;
use super::record::{Call, Deed, Locked};
use super::words::{created_at, delete, delete_op, list, put, put_op};

/// What the keys begin with.
pub const PREFIX: &str = "lock/";

/// What the locks protect begins with.
pub const PROTECTED: &str = "locked/";

/// How many locks there are.
const LOCKS: u64 = 2;

/// The time of a holder's lease, in seconds.
const TTL: i64 = 3;

/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(400);

/// How long a client rests between two locks at most.
const REST: Duration = Duration::from_millis(800);

/// A place in a queue.
struct Place {
    name: String,
    key: Bytes,
    lease: LeaseId,
    /// The revision that created the key.
    token: i64,
}

/// Takes locks until the end.
pub async fn run<S: Surroundings>(mut client: Client<S>) {
    while !client.world.is_over() {
        if let Ok((lease, _)) = client.grant(TTL).await {
            hold(&mut client, lease).await;
            if client.once_in(2) {
                let _ = client.revoke(lease).await;
            }
        }
        client.rest(REST).await;
    }
}

async fn hold<S: Surroundings>(client: &mut Client<S>, lease: LeaseId) {
    let name = client.world.random(LOCKS).to_string();
    let Some(place) = enter(client, name, lease).await else { return };
    let mut is_held = false;
    while !client.world.is_over() && !is_held {
        match is_first(client, &place).await {
            Some(first) => is_held = first,
            None => return,
        }
        if !is_held {
            client.rest(LOOK).await;
            if client.keep_alive(lease).await == Ok(0) {
                return;
            }
        }
    }
    if is_held {
        work(client, &place).await;
    }
    if client.once_in(4) {
        // A client that is gone without a word.
        return;
    }
    release(client, &place).await;
}

/// Puts a key into the queue. A place whose request has no answer is left for the lease to clear.
async fn enter<S: Surroundings>(
    client: &mut Client<S>,
    name: String,
    lease: LeaseId,
) -> Option<Place> {
    let key: Bytes = format!("{PREFIX}{name}/{:016x}", lease.0).into();
    let value = client.value();
    let request = PutRequest { lease: lease.0, ..put(&key, value) };
    let compare = vec![created_at(&key, 0)];
    let success = vec![put_op(request)];
    let entered = client.txn(TxnRequest { compare, success, failure: Vec::new() }).await.ok()?;
    let token = entered.header?.revision;
    entered.succeeded.then_some(Place { name, key, lease, token })
}

/// Whether the place is the first in its queue. None: it is gone.
async fn is_first<S: Surroundings>(client: &mut Client<S>, place: &Place) -> Option<bool> {
    let call = client.recorder.ask(client.world.now(), (client.number, Default::default()));
    let Ok(queue) = client.range(list(&format!("{PREFIX}{}/", place.name))).await else {
        return Some(false);
    };
    let mine = queue.kvs.iter().find(|kv| kv.key() == place.key)?;
    if mine.create_revision() != place.token {
        return None;
    }
    let first = queue.kvs.iter().map(KeyValue::create_revision).min();
    let is_first = first == Some(place.token);
    if is_first {
        let revision = queue.header.map_or(0, |header| header.revision);
        note(client, call, place, Deed::Held { revision });
    }
    Some(is_first)
}

/// Writes what the lock protects, a few times, sometimes for longer than the lease lives.
async fn work<S: Surroundings>(client: &mut Client<S>, place: &Place) {
    let protected: Bytes = format!("{PROTECTED}{}", place.name).into();
    for _ in 0..=client.world.random(5) {
        if client.once_in(2) && client.keep_alive(place.lease).await == Ok(0) {
            // It goes on all the same: the fence is what protects.
        }
        let value = format!("{}:{}", place.token, client.number);
        let compare = vec![created_at(&place.key, place.token)];
        let success = vec![put_op(put(&protected, value.into()))];
        let call = client.recorder.ask(client.world.now(), (client.number, Default::default()));
        match client.txn(TxnRequest { compare, success, failure: Vec::new() }).await {
            Ok(answer) => {
                let revision = answer.header.map_or(0, |header| header.revision);
                let deed = match answer.succeeded {
                    true => Deed::Wrote { revision },
                    false => Deed::Fenced { revision },
                };
                note(client, call, place, deed);
                if !answer.succeeded {
                    return;
                }
            }
            Err(Failed::Unknown | Failed::Refused | Failed::Rejected(_)) => {}
        }
        let pause = if client.once_in(5) { 2 * TTL as u64 } else { 1 };
        client.rest(Duration::from_secs(pause)).await;
    }
}

/// Gives the lock back: deletes the key if it is still the same.
async fn release<S: Surroundings>(client: &mut Client<S>, place: &Place) {
    let compare = vec![created_at(&place.key, place.token)];
    let success = vec![delete_op(delete(&place.key))];
    let call = client.recorder.ask(client.world.now(), (client.number, Default::default()));
    if client.txn(TxnRequest { compare, success, failure: Vec::new() }).await.is_ok() {
        note(client, call, place, Deed::Released);
    }
}

fn note<S: Surroundings>(client: &Client<S>, call: Call, place: &Place, deed: Deed) {
    let end = (client.world.now(), client.recorder.place());
    let (name, key, token) = (place.name.clone(), place.key.clone(), place.token);
    client.recorder.lock(Locked { call, end, name, key, token, deed });
}
