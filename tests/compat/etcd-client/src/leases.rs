//! Leases, locks and elections.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, LeaderKey, LeaseGrantOptions,
    LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions, Txn, TxnOp,
    WatchOptions,
};
use tokio::time::timeout;

use crate::{Result, fails};

const NOT_FOUND: &str = "etcdserver: requested lease not found";
const TTL: i64 = 600;
const WAIT_SECONDS_MAX: u64 = 15;

pub async fn all(client: &mut Client) -> Result<()> {
    grants(client).await?;
    attachments(client).await?;
    keep_alives(client).await?;
    revokes(client).await?;
    locks(client).await?;
    elections(client).await?;
    Ok(())
}

async fn grants(client: &mut Client) -> Result<()> {
    let drawn = client.lease_grant(TTL, None).await?;
    assert!(drawn.id() > 0 && drawn.ttl() == TTL && drawn.error().is_empty(), "{drawn:?}");
    let chosen = client.lease_grant(TTL, with_id(4711)).await?;
    assert_eq!((chosen.id(), chosen.ttl()), (4711, TTL));
    let negative = client.lease_grant(TTL, with_id(-4711)).await?;
    assert_eq!(negative.id(), -4711);
    fails(client.lease_grant(TTL, with_id(4711)).await, 9, "etcdserver: lease already exists");
    let too_large = "etcdserver: too large lease TTL";
    fails(client.lease_grant(9_000_000_001, None).await, 11, too_large);
    let listed: Vec<i64> = client.leases().await?.leases().iter().map(|lease| lease.id()).collect();
    assert!([drawn.id(), 4711, -4711].iter().all(|id| listed.contains(id)), "{listed:?}");
    for id in [drawn.id(), 4711, -4711] {
        client.lease_revoke(id).await?;
        fails(client.lease_revoke(id).await, 5, NOT_FOUND);
    }
    Ok(())
}

async fn attachments(client: &mut Client) -> Result<()> {
    let [one, other] = [grant(client).await?, grant(client).await?];
    put(client, "rs/l/a", one).await?;
    put(client, "rs/l/b", one).await?;
    assert_eq!(keys(client, one).await?, ["rs/l/a", "rs/l/b"]);
    let left = client.lease_time_to_live(one, None).await?;
    assert!(left.keys().is_empty() && left.granted_ttl() == TTL && left.id() == one, "{left:?}");
    assert!((TTL - 60..TTL).contains(&left.ttl()), "{left:?}");
    // Moved, kept, taken off.
    put(client, "rs/l/a", other).await?;
    assert_eq!([keys(client, one).await?, keys(client, other).await?], [["rs/l/b"], ["rs/l/a"]]);
    let keep = PutOptions::new().with_ignore_lease();
    client.put("rs/l/a", "kept", Some(keep)).await?;
    assert_eq!(client.get("rs/l/a", None).await?.kvs()[0].lease(), other);
    client.put("rs/l/a", "bare", None).await?;
    assert_eq!(client.get("rs/l/a", None).await?.kvs()[0].lease(), 0);
    assert!(keys(client, other).await?.is_empty());
    client.delete("rs/l/b", None).await?;
    assert!(keys(client, one).await?.is_empty());
    // All of a transaction or nothing.
    let half =
        [TxnOp::put("rs/l/a", "x", leased(one)), TxnOp::put("rs/l/b", "x", leased(987_654_321))];
    fails(client.txn(Txn::new().and_then(half)).await, 5, NOT_FOUND);
    assert_eq!(client.get("rs/l/a", None).await?.kvs()[0].value(), b"bare");
    let whole = Txn::new().when([Compare::lease("rs/l/a", CompareOp::Equal, 0)]).and_then([
        TxnOp::put("rs/l/a", "x", leased(one)),
        TxnOp::put("rs/l/b", "x", leased(other)),
    ]);
    assert!(client.txn(whole).await?.succeeded());
    assert_eq!([keys(client, one).await?, keys(client, other).await?], [["rs/l/a"], ["rs/l/b"]]);
    client.lease_revoke(one).await?;
    client.lease_revoke(other).await?;
    assert_eq!(client.get("rs/l/", Some(GetOptions::new().with_prefix())).await?.count(), 0);
    Ok(())
}

/// Each request on a stream is answered in its turn; one for a lease that is gone with 0.
async fn keep_alives(client: &mut Client) -> Result<()> {
    let lease = grant(client).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let answer = soon(answers.message()).await?.expect("the stream goes on");
        assert_eq!((answer.id(), answer.ttl()), (lease, TTL));
        assert!(answer.header().is_some_and(|header| header.revision() > 0));
    }
    client.lease_revoke(lease).await?;
    keeper.keep_alive().await?;
    let gone = soon(answers.message()).await?.expect("the stream goes on");
    assert_eq!((gone.id(), gone.ttl()), (lease, 0));
    let unknown = client.lease_time_to_live(lease, None).await?;
    assert_eq!((unknown.id(), unknown.ttl(), unknown.granted_ttl()), (lease, -1, 0));
    Ok(())
}

/// All keys go in one revision, in their order, and whoever watches is told so.
async fn revokes(client: &mut Client) -> Result<()> {
    let lease = grant(client).await?;
    for key in ["rs/l/c", "rs/l/a", "rs/l/b"] {
        put(client, key, lease).await?;
    }
    let mut stream = client.watch("rs/l/", Some(WatchOptions::new().with_prefix())).await?;
    soon(stream.message()).await?;
    let revoked = client.lease_revoke(lease).await?;
    let revision = revoked.header().expect("a revoke has a header").revision();
    let mut gone = Vec::new();
    while gone.len() < 3 {
        let told = soon(stream.message()).await?.expect("the stream goes on");
        for kv in told.events().iter().filter_map(|event| event.kv()) {
            assert_eq!(kv.mod_revision(), revision);
            gone.push(kv.key_str()?.to_owned());
        }
    }
    assert_eq!(gone, ["rs/l/a", "rs/l/b", "rs/l/c"]);
    let bare = grant(client).await?;
    let unchanged = client.lease_revoke(bare).await?;
    assert_eq!(unchanged.header().map(|header| header.revision()), Some(revision));
    Ok(())
}

async fn locks(client: &mut Client) -> Result<()> {
    let [one, other] = [grant(client).await?, grant(client).await?];
    let first = client.lock("rs/lock", with_lease(one)).await?;
    assert_eq!(first.key(), format!("rs/lock/{one:x}").as_bytes());
    assert_eq!(client.get(first.key(), None).await?.kvs()[0].lease(), one);
    let again = client.lock("rs/lock", with_lease(one)).await?;
    assert_eq!(again.key(), first.key(), "who holds a lock gets it again");

    let mut waiting = client.clone();
    let second = tokio::spawn(async move { waiting.lock("rs/lock", with_lease(other)).await });
    wait_for(client, "rs/lock/", 2).await?;
    assert!(!second.is_finished());
    client.unlock(first.key()).await?;
    let second = soon(second).await.expect("nothing panics")?;
    assert_eq!(second.key(), format!("rs/lock/{other:x}").as_bytes());
    client.unlock(first.key()).await?;
    client.lease_revoke(other).await?;
    wait_for(client, "rs/lock/", 0).await?;

    // Without a lease the server grants one.
    let own = client.lock("rs/lock", None).await?;
    let lease = client.get(own.key(), None).await?.kvs()[0].lease();
    assert_eq!(own.key(), format!("rs/lock/{lease:x}").as_bytes());
    assert_eq!(client.lease_time_to_live(lease, None).await?.granted_ttl(), 60);
    client.unlock(own.key()).await?;
    client.lease_revoke(one).await?;
    fails(client.lock("rs/lock", with_lease(one)).await, 2, NOT_FOUND);
    Ok(())
}

async fn elections(client: &mut Client) -> Result<()> {
    let [one, other] = [grant(client).await?, grant(client).await?];
    fails(client.leader("rs/e").await, 2, "election: no leader");
    let first = campaign(client, one, "1").await?;
    assert_eq!((first.name(), first.lease()), (&b"rs/e"[..], one));
    assert_eq!(first.key(), format!("rs/e/{one:x}").as_bytes());
    assert_eq!(value(client).await?, "1");
    // While nobody leads etcd does not even begin to answer.
    let mut observer = soon(client.observe("rs/e")).await?;
    assert_eq!(observed(&mut observer).await?, "1");
    proclaim(client, "2", &first).await?;
    assert_eq!(value(client).await?, "2");
    assert_eq!(observed(&mut observer).await?, "2");

    let mut waiting = client.clone();
    let second = tokio::spawn(async move { campaign(&mut waiting, other, "3").await });
    wait_for(client, "rs/e/", 2).await?;
    assert!(!second.is_finished() && value(client).await? == "2");
    client.resign(Some(ResignOptions::new().with_leader(first.clone()))).await?;
    let second = soon(second).await.expect("nothing panics")?;
    assert_eq!(observed(&mut observer).await?, "3");
    fails(proclaim(client, "4", &first).await, 2, "election: not leader");
    // The end of its lease ends a leader as well.
    client.lease_revoke(other).await?;
    fails(proclaim(client, "4", &second).await, 2, "election: not leader");
    fails(client.leader("rs/e").await, 2, "election: no leader");
    client.lease_revoke(one).await?;
    client.delete("rs/e/", Some(DeleteOptions::new().with_prefix())).await?;
    Ok(())
}

async fn campaign(client: &mut Client, lease: i64, value: &str) -> Result<LeaderKey> {
    let mut won = client.campaign("rs/e", value, lease).await?;
    Ok(won.take_leader().expect("who is elected gets a key"))
}

async fn proclaim(client: &mut Client, value: &str, leader: &LeaderKey) -> Result<()> {
    client.proclaim(value, Some(ProclaimOptions::new().with_leader(leader.clone()))).await?;
    Ok(())
}

async fn value(client: &mut Client) -> Result<String> {
    let leader = client.leader("rs/e").await?;
    Ok(leader.kv().expect("there is a leader").value_str()?.to_owned())
}

async fn observed(stream: &mut etcd_client::ObserveStream) -> Result<String> {
    let told = soon(stream.message()).await?.expect("the stream goes on");
    Ok(told.kv().expect("there is a leader").value_str()?.to_owned())
}

async fn grant(client: &mut Client) -> Result<i64> {
    Ok(client.lease_grant(TTL, None).await?.id())
}

async fn put(client: &mut Client, key: &str, lease: i64) -> Result<()> {
    client.put(key, "x", leased(lease)).await?;
    Ok(())
}

/// The keys of a lease; etcd has them in no order.
async fn keys(client: &mut Client, lease: i64) -> Result<Vec<String>> {
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let answer = client.lease_time_to_live(lease, Some(options)).await?;
    let mut keys: Vec<String> =
        answer.keys().iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    keys.sort();
    Ok(keys)
}

/// Waits until there are so many keys of that prefix.
async fn wait_for(client: &mut Client, prefix: &str, count: i64) -> Result<()> {
    let counting = async {
        loop {
            let options = GetOptions::new().with_prefix().with_count_only();
            if client.get(prefix, Some(options)).await?.count() == count {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(counting).await
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    let within = Duration::from_secs(WAIT_SECONDS_MAX);
    timeout(within, work).await.expect("an answer is due")
}

fn leased(lease: i64) -> Option<PutOptions> {
    Some(PutOptions::new().with_lease(lease))
}

fn with_id(id: i64) -> Option<LeaseGrantOptions> {
    Some(LeaseGrantOptions::new().with_id(id))
}

fn with_lease(lease: i64) -> Option<LockOptions> {
    Some(LockOptions::new().with_lease(lease))
}
