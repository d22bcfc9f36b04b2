//! Leases with keys: kept alive for a while, then revoked or left to expire.

use std::time::Duration;

use kvorum_judges::history::{Input, Output};
use kvorum_proto::api::etcdserverpb::PutRequest;
use rand::RngExt;

use crate::client::Client;
use crate::keys::{get, put};

/// In seconds.
const TTL: i64 = 1;

/// The keys of leases begin so.
pub const PREFIX: &str = "lease/";

pub async fn run(mut client: Client) {
    let mut made = 0;
    while !client.shared.is_over() {
        made += 1;
        let id = client.random.random_range(1..i64::MAX);
        let Some(Output::Granted { ttl }) = client.ask(Input::Grant { id, ttl: TTL }).await else {
            continue;
        };
        let keys = [0, 1].map(|number| format!("{PREFIX}{}/{made}/{number}", client.number));
        for key in &keys {
            let value = client.value();
            client.ask(Input::Put(PutRequest { lease: id, ..put(key, &value) })).await;
        }
        for _ in 0..client.random.random_range(0..5) {
            if client.ask(Input::KeepAlive { id }).await == Some(Output::Kept { ttl: 0 }) {
                break;
            }
            client.rest(Duration::from_secs(ttl.unsigned_abs()) / 2).await;
        }
        if client.once_in(3) {
            client.ask(Input::Revoke { id }).await;
        } else {
            client.rest(2 * Duration::from_secs(ttl.unsigned_abs())).await;
        }
        for key in &keys {
            client.ask(Input::Range(get(key))).await;
        }
    }
}
