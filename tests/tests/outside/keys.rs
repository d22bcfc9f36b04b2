//! Mixed reads and writes of a few keys that everybody fights for.

use std::time::Duration;

use kvorum_judges::history::{Input, Output};
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use rand::RngExt;

use crate::client::Client;

const KEYS: u64 = 5;
const REST: Duration = Duration::from_millis(25);

pub async fn run(mut client: Client) {
    while !client.shared.is_over() {
        let key = format!("kv/{}", client.random.random_range(0..KEYS));
        match client.random.random_range(0..100) {
            0..35 => {
                let prev_kv = client.once_in(3);
                let value = client.value();
                client.ask(Input::Put(PutRequest { prev_kv, ..put(&key, &value) })).await;
            }
            35..55 => drop(client.ask(Input::Range(get(&key))).await),
            55..65 => {
                let request = RangeRequest { serializable: true, ..get(&key) };
                client.ask(Input::Range(request)).await;
            }
            65..75 => look_around(&mut client).await,
            75..82 => drop(client.ask(Input::DeleteRange(delete(&key))).await),
            82..99 => swap(&mut client, &key).await,
            _ => {
                let revision = client.seen - client.random.random_range(0..100);
                if revision > 1 {
                    client.ask(Input::Compact { revision }).await;
                }
            }
        }
        client.rest(REST).await;
    }
}

/// All keys, now or a while ago.
async fn look_around(client: &mut Client) {
    let revision =
        if client.once_in(2) { 0 } else { client.seen - client.random.random_range(0..50) };
    let request = RangeRequest { range_end: "kv0".into(), revision, ..get("kv/") };
    client.ask(Input::Range(request)).await;
}

/// Reads a key, and writes it and another one if it is still the same.
async fn swap(client: &mut Client, key: &str) {
    let Some(Output::Range(found)) = client.ask(Input::Range(get(key))).await else { return };
    let modified = found.kvs.first().map_or(0, |kv| kv.mod_revision);
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(modified)),
        ..Compare::default()
    };
    let value = client.value();
    let success = vec![
        op(Request::RequestPut(put(key, &value))),
        op(Request::RequestPut(put("kv/last", &value))),
        op(Request::RequestRange(get(key))),
    ];
    let failure = vec![op(Request::RequestRange(get(key)))];
    client.ask(Input::Txn(TxnRequest { compare: vec![compare], success, failure })).await;
}

pub fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

pub fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

pub fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() }
}
