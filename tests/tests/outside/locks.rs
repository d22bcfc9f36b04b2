//! A lock as etcd's clients take it: a queue of keys on leases, and a fence around what it protects.

use std::time::Duration;

use kvorum_judges::history::{Deed, Input, Output};
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use rand::RngExt;

use crate::client::Client;
use crate::keys::{delete, get, op, put};

const TTL: i64 = 1;
const NAME: &str = "one";
const LOOK: Duration = Duration::from_millis(100);

/// The keys of the queue begin so.
pub const PREFIX: &str = "lock/";

/// A place in the queue.
struct Place {
    key: String,
    token: i64,
    lease: i64,
}

pub async fn run(mut client: Client) {
    while !client.shared.is_over() {
        let lease = client.random.random_range(1..i64::MAX);
        if client.ask(Input::Grant { id: lease, ttl: TTL }).await.is_none() {
            continue;
        }
        let key = format!("{PREFIX}{lease:x}");
        let value = client.value();
        let request = PutRequest { lease, ..put(&key, &value) };
        let Some(Output::Put(entered)) = client.ask(Input::Put(request)).await else { continue };
        let token = entered.header.map_or(0, |header| header.revision);
        let place = Place { key, token, lease };
        if wait(&mut client, &place).await {
            work(&mut client, &place).await;
            release(&mut client, &place).await;
        }
    }
}

/// Waits until it is the first. Whether it is.
async fn wait(client: &mut Client, place: &Place) -> bool {
    while !client.shared.is_over() {
        let call = client.shared.moment();
        let queue = RangeRequest { range_end: "lock0".into(), ..get(PREFIX) };
        if let Some(Output::Range(queue)) = client.ask(Input::Range(queue)).await {
            let first = queue.kvs.iter().map(|kv| kv.create_revision).min();
            if !queue.kvs.iter().any(|kv| kv.create_revision == place.token) {
                return false;
            }
            if first == Some(place.token) {
                let revision = queue.header.map_or(0, |header| header.revision);
                client.deed(call, (NAME, &place.key, place.token), Deed::Held { revision });
                return true;
            }
        }
        if client.ask(Input::KeepAlive { id: place.lease }).await == Some(Output::Kept { ttl: 0 }) {
            return false;
        }
        client.rest(LOOK).await;
    }
    false
}

/// Writes what the lock protects, now and then for longer than the lease lives.
async fn work(client: &mut Client, place: &Place) {
    for _ in 0..client.random.random_range(1..4) {
        let value = client.value();
        let success = vec![op(Request::RequestPut(put("locked", &value)))];
        let call = client.shared.moment();
        if let Some(answer) = fenced(client, place, success).await {
            let revision = answer.header.map_or(0, |header| header.revision);
            let deed = match answer.succeeded {
                true => Deed::Wrote { revision },
                false => Deed::Fenced { revision },
            };
            client.deed(call, (NAME, &place.key, place.token), deed);
            if !answer.succeeded {
                return;
            }
        }
        let longest = if client.once_in(4) { 3_000 } else { 100 };
        client.rest(Duration::from_millis(longest)).await;
    }
}

async fn release(client: &mut Client, place: &Place) {
    let call = client.shared.moment();
    let success = vec![op(Request::RequestDeleteRange(delete(&place.key)))];
    if fenced(client, place, success).await.is_some() {
        client.deed(call, (NAME, &place.key, place.token), Deed::Released);
    }
}

/// Does something if the key is still the same.
async fn fenced(
    client: &mut Client,
    place: &Place,
    success: Vec<RequestOp>,
) -> Option<kvorum_proto::api::etcdserverpb::TxnResponse> {
    let compare = vec![Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: place.key.clone().into(),
        target_union: Some(TargetUnion::CreateRevision(place.token)),
        ..Compare::default()
    }];
    match client.ask(Input::Txn(TxnRequest { compare, success, failure: Vec::new() })).await {
        Some(Output::Txn(answer)) => Some(answer),
        _ => None,
    }
}
