//! Leases with keys: granted, kept alive, left to expire, revoked, and keys that move from one to another.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::wire::PutRequest;
use kvorum_types::LeaseId;

use super::client::{Client, Failed};
use super::door::Surroundings;
use super::words::{delete, get, put};

/// What the keys begin with.
pub const PREFIX: &str = "lease/";

/// The times that are asked for, in seconds.
const TTLS: [i64; 6] = [1, 2, 2, 3, 5, 9];

/// The time of a lease that lives longer than what goes wrong, in seconds.
const LONG_TTL: i64 = 60;

/// How long a client rests between two leases at most.
const REST: Duration = Duration::from_millis(1_500);

/// What becomes of a lease.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Expires,
    Revoked,
    /// Kept alive for so many rounds, then left to expire.
    Kept(u64),
}

/// Has leases until the end.
pub async fn run<S: Surroundings>(mut client: Client<S>) {
    if client.number.is_multiple_of(3) {
        return look_on(client).await;
    }
    let mut made = 0;
    while !client.world.is_over() {
        let ttl = *client.one_of(&TTLS);
        if let Ok((id, ttl)) = client.grant(ttl).await {
            made += 1;
            live(&mut client, id, ttl, made).await;
        }
        client.rest(REST).await;
    }
}

/// Has a long lease that it does not keep alive, and looks what is left of it, whoever leads.
async fn look_on<S: Surroundings>(mut client: Client<S>) {
    let mut lease = None;
    while !client.world.is_over() {
        match lease {
            None => lease = client.grant(LONG_TTL).await.ok().map(|(id, _)| id),
            Some(id) => drop(client.time_to_live(id).await),
        }
        client.rest(REST).await;
    }
}

async fn live<S: Surroundings>(client: &mut Client<S>, id: LeaseId, ttl: i64, made: u64) {
    let keys: Vec<Bytes> = (0..=client.world.random(3))
        .map(|number| format!("{PREFIX}{}/{made}/{number}", client.number).into())
        .collect();
    for key in &keys {
        let value = client.value();
        drop(client.put(PutRequest { lease: id.0, ..put(key, value) }).await);
    }
    // A key that everybody takes from everybody.
    let shared: Bytes = format!("{PREFIX}shared").into();
    if client.once_in(3) {
        let value = client.value();
        drop(client.put(PutRequest { lease: id.0, ..put(&shared, value) }).await);
    }
    if client.once_in(3) {
        take_away(client, &keys).await;
    }
    let fate = match client.world.random(4) {
        0 => Fate::Expires,
        1 => Fate::Revoked,
        _ => Fate::Kept(1 + client.world.random(30)),
    };
    match fate {
        Fate::Expires => client.world.sleep(seconds(ttl)).await,
        Fate::Revoked => {
            client.rest(seconds(ttl)).await;
            let _ = client.revoke(id).await;
        }
        Fate::Kept(rounds) => keep(client, id, ttl, rounds).await,
    }
    for key in &keys {
        drop(client.range(get(key)).await);
    }
    // Nothing brings it back.
    let _ = client.keep_alive(id).await;
}

/// Keeps a lease alive as a client does: three times within its time, and after a failure sooner.
async fn keep<S: Surroundings>(client: &mut Client<S>, id: LeaseId, ttl: i64, rounds: u64) {
    for _ in 0..rounds {
        if client.world.is_over() {
            return;
        }
        match client.keep_alive(id).await {
            Ok(0) => return,
            Ok(_) => client.world.sleep(seconds(ttl) / 3).await,
            Err(Failed::Unknown | Failed::Refused | Failed::Rejected(_)) => {
                client.world.sleep(seconds(ttl) / 12).await;
            }
        }
    }
}

/// Frees a key of its lease by a put without one, or deletes it and puts it again.
async fn take_away<S: Surroundings>(client: &mut Client<S>, keys: &[Bytes]) {
    let key = client.one_of(keys).clone();
    if client.once_in(2) {
        drop(client.delete(delete(&key)).await);
    }
    let value = client.value();
    drop(client.put(put(&key, value)).await);
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}
