//! What an API server of Kubernetes does: it creates, updates and deletes objects on the revision it knows of, lists them
//! page by page at one revision, and watches from there on.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::wire::response_op::Response;
use kvorum_proto::wire::{KeyValue, RangeRequest, RequestOp, TxnRequest, TxnResponse};

use super::client::{Answer, Client};
use super::door::Surroundings;
use super::watches::{Ending, Wish};
use super::words::{delete, delete_op, get, list, modified_at, prefix_end, put, put_op, range_op};

/// What the keys begin with.
pub const PREFIX: &str = "/registry/pods/";

/// How many objects there are at most.
const OBJECTS: u64 = 12;

/// How many objects a page holds.
const PAGE: i64 = 3;

/// How often a client tries to update an object before it leaves it.
const TRIES: usize = 4;

/// How long a client rests between two requests at most.
const REST: Duration = Duration::from_millis(250);

/// Changes objects until the end.
pub async fn write<S: Surroundings>(mut client: Client<S>) {
    while !client.world.is_over() {
        let key: Bytes = format!("{PREFIX}default/{}", client.world.random(OBJECTS)).into();
        match client.world.random(10) {
            0..3 => drop(create(&mut client, &key).await),
            3..8 => update(&mut client, &key).await,
            _ => remove(&mut client, &key).await,
        }
        client.rest(REST).await;
    }
}

/// Lists, then watches from the revision of the list on, then lists again.
pub async fn list_and_watch<S: Surroundings>(mut client: Client<S>, series: u64) {
    while !client.world.is_over() {
        let Some(revision) = pages(&mut client).await else {
            client.rest(REST).await;
            continue;
        };
        let wish = Wish {
            prefix: PREFIX,
            start_revision: revision + 1,
            prev_kv: true,
            progress_notify: true,
            asks_progress: true,
            time: Duration::from_secs(3 + client.world.random(20)),
            ..Wish::default()
        };
        let mut series = Ending { series, next: wish.start_revision };
        super::watches::follow(&mut client, &wish, &mut series).await;
    }
}

async fn create<S: Surroundings>(client: &mut Client<S>, key: &Bytes) -> Answer<TxnResponse> {
    let success = vec![put_op(put(key, client.value()))];
    optimistic(client, key, 0, success).await
}

/// Gets, changes, puts if nobody was faster; who was faster is told by the answer, and tried on.
async fn update<S: Surroundings>(client: &mut Client<S>, key: &Bytes) {
    let Ok(found) = client.range(get(key)).await else { return };
    let mut known = found.kvs.first().map_or(0, KeyValue::mod_revision);
    for _ in 0..TRIES {
        if known == 0 {
            return;
        }
        let success = vec![put_op(put(key, client.value()))];
        match optimistic(client, key, known, success).await {
            Ok(answer) if !answer.succeeded => known = newest(&answer),
            _ => return,
        }
    }
}

async fn remove<S: Surroundings>(client: &mut Client<S>, key: &Bytes) {
    let Ok(found) = client.range(get(key)).await else { return };
    let known = found.kvs.first().map_or(0, KeyValue::mod_revision);
    if known != 0 {
        drop(optimistic(client, key, known, vec![delete_op(delete(key))]).await);
    }
}

async fn optimistic<S: Surroundings>(
    client: &mut Client<S>,
    key: &Bytes,
    known: i64,
    success: Vec<RequestOp>,
) -> Answer<TxnResponse> {
    let compare = vec![modified_at(key, known)];
    client.txn(TxnRequest { compare, success, failure: vec![range_op(get(key))] }).await
}

fn newest(answer: &TxnResponse) -> i64 {
    match answer.responses.first().and_then(|op| op.response.as_ref()) {
        Some(Response::ResponseRange(found)) => found.kvs.first().map_or(0, KeyValue::mod_revision),
        _ => 0,
    }
}

/// Lists all objects page by page, at the revision of the first page, each page from whatever member. The revision, if the
/// list came to its end.
async fn pages<S: Surroundings>(client: &mut Client<S>) -> Option<i64> {
    let first = RangeRequest { limit: PAGE, ..list(PREFIX) };
    let mut page = client.range(first).await.ok()?;
    let revision = page.header.as_ref()?.revision;
    let mut found: Vec<Bytes> = keys(&page.kvs);
    let mut left = page.count - page.kvs.len() as i64;
    while page.more {
        let mut key = page.kvs.last()?.key().to_vec();
        key.push(0);
        let range_end = prefix_end(PREFIX);
        let next = RangeRequest {
            key: key.into(),
            range_end,
            limit: PAGE,
            revision,
            ..RangeRequest::default()
        };
        client.rest(REST).await;
        page = client.range(next).await.ok()?;
        if page.count != left {
            let told = format!("a page at {revision} counts {}, {left} were left", page.count);
            client.recorder.doubt(told);
        }
        left = page.count - page.kvs.len() as i64;
        found.extend(keys(&page.kvs));
    }
    if !found.is_sorted_by(|one, other| one < other) {
        client.recorder.doubt(format!("the pages at {revision} are out of order: {found:?}"));
    }
    Some(revision)
}

fn keys(kvs: &[KeyValue]) -> Vec<Bytes> {
    kvs.iter().map(|kv| Bytes::copy_from_slice(kv.key())).collect()
}
