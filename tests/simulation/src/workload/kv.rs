//! Mixed reads and writes of a few keys that everybody fights for.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::wire::{RangeRequest, TxnRequest};

use super::client::Client;
use super::door::Surroundings;
use super::words::{delete, delete_op, get, list, prefix_end, put, put_op};

/// What the keys begin with.
pub const PREFIX: &str = "kv/";

/// How many keys there are.
const KEYS: u64 = 6;

/// How long a client rests between two requests at most.
const REST: Duration = Duration::from_millis(120);

/// Reads and writes until the end.
pub async fn run<S: Surroundings>(mut client: Client<S>) {
    while !client.world.is_over() {
        let key = key(&client);
        match client.world.random(100) {
            0..40 => set(&mut client, &key).await,
            40..60 => drop(client.range(get(&key)).await),
            60..70 => drop(client.range(RangeRequest { serializable: true, ..get(&key) }).await),
            70..82 => look_around(&mut client).await,
            82..93 => remove(&mut client, &key).await,
            93..98 => remove_some(&mut client).await,
            98 => compact(&mut client).await,
            _ => compact_at_deletion(&mut client, &key).await,
        }
        client.rest(REST).await;
    }
}

fn key<S: Surroundings>(client: &Client<S>) -> Bytes {
    format!("{PREFIX}{}", client.world.random(KEYS)).into()
}

async fn set<S: Surroundings>(client: &mut Client<S>, key: &Bytes) {
    let mut request = put(key, client.value());
    request.prev_kv = client.once_in(3);
    if client.once_in(12) {
        (request.ignore_value, request.value) = (true, Bytes::new());
    }
    drop(client.put(request).await);
}

/// Reads a range: now or at a revision of the past, all of it or the first few.
async fn look_around<S: Surroundings>(client: &mut Client<S>) {
    let mut request = list(PREFIX);
    request.serializable = client.once_in(3);
    request.limit = if client.once_in(2) { client.world.random(KEYS) as i64 } else { 0 };
    request.count_only = client.once_in(10);
    if client.once_in(3) {
        request.revision = (client.seen - client.world.random(60) as i64).max(0);
    }
    drop(client.range(request).await);
}

async fn remove<S: Surroundings>(client: &mut Client<S>, key: &Bytes) {
    let mut request = delete(key);
    request.prev_kv = client.once_in(2);
    drop(client.delete(request).await);
}

async fn remove_some<S: Surroundings>(client: &mut Client<S>) {
    let mut request = delete(&key(client));
    request.range_end = if client.once_in(2) { prefix_end(PREFIX) } else { key(client) };
    request.prev_kv = client.once_in(2);
    drop(client.delete(request).await);
}

/// Mostly at the newest revision or close to it: that is where the edges are.
async fn compact<S: Surroundings>(client: &mut Client<S>) {
    let back = if client.once_in(2) { client.world.random(3) } else { client.world.random(80) };
    let revision = client.seen - back as i64;
    if revision > 1 {
        let _ = client.compact(revision).await;
    }
}

/// Puts and deletes in one revision, and compacts at that very revision: the deletion is to be told to whoever watches from
/// there on.
async fn compact_at_deletion<S: Surroundings>(client: &mut Client<S>, key: &Bytes) {
    let other: Bytes = format!("{PREFIX}other").into();
    let mut success = vec![put_op(put(&other, client.value())), delete_op(delete(key))];
    if client.once_in(2) {
        success.remove(0);
    }
    let deletion = TxnRequest { success, ..TxnRequest::default() };
    if let Ok(answer) = client.txn(deletion).await
        && let Some(header) = answer.header
    {
        let _ = client.compact(header.revision).await;
    }
}
