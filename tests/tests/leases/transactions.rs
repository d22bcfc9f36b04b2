//! The Rust client's transactions of many steps, while others come in between.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kvorum_client::concurrency::{Committed, Isolation, Stm, StmOptions, transaction};
use kvorum_client::{Client, Config, Error};
use kvorum_testkit::{Cluster, Endpoint, say_seed, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

const ISOLATIONS: [Isolation; 4] = [
    Isolation::SerializableSnapshot,
    Isolation::Serializable,
    Isolation::RepeatableReads,
    Isolation::ReadCommitted,
];
const ACCOUNTS: usize = 4;
const TASKS: usize = 6;
const TRANSFERS: usize = 12;
/// What each account begins with.
const BALANCE: i64 = 100;

fn accounts() -> Vec<String> {
    (0..ACCOUNTS).map(|number| format!("account/{number}")).collect()
}

fn number(value: Option<&bytes::Bytes>) -> i64 {
    let text = value.expect("the account is there");
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

/// Moves money from one account to another, unless there is too little.
async fn transfer(stm: Stm, from: String, to: String, amount: i64) -> Result<(), Error> {
    let found = stm.get_all([from.clone(), to.clone()]).await?;
    let (left, right) = (number(found[0].as_ref()), number(found[1].as_ref()));
    if left >= amount {
        stm.put(from, (left - amount).to_string());
        stm.put(to, (right + amount).to_string());
    }
    Ok(())
}

/// What is in all accounts together.
async fn sum(client: &Client, options: StmOptions) -> i64 {
    let audit = transaction(client, options, |stm| async move {
        let mut sum = 0;
        for account in accounts() {
            let balance = number(stm.get(account).await?.as_ref());
            assert!(balance >= 0, "{balance}");
            sum += balance;
        }
        Ok::<_, Error>(sum)
    });
    audit.await.expect("an audit").value
}

/// As many tasks as there are move money to and fro, while another looks at all of it again and again.
async fn bank(cluster: &Cluster, isolation: Isolation, seed: u64) {
    let client = cluster.client();
    for account in accounts() {
        client.put(account, BALANCE.to_string()).await.unwrap();
    }
    let options = StmOptions::new().isolation(isolation).attempts(100_000);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (client, options) = (client.clone(), options.clone());
        let mut random = StdRng::seed_from_u64(seed + task as u64);
        tasks.spawn(async move {
            for _ in 0..TRANSFERS {
                let from = random.random_range(0..ACCOUNTS);
                let to = (from + random.random_range(1..ACCOUNTS)) % ACCOUNTS;
                let amount = random.random_range(1..=BALANCE);
                let (from, to) = (accounts()[from].clone(), accounts()[to].clone());
                let done = transaction(&client, options.clone(), |stm| {
                    transfer(stm, from.clone(), to.clone(), amount)
                });
                done.await.expect("a transfer");
            }
        });
    }
    while !tasks.is_empty() {
        assert_eq!(sum(&client, options.clone()).await, BALANCE * ACCOUNTS as i64, "{isolation:?}");
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
    }
    assert_eq!(sum(&client, options).await, BALANCE * ACCOUNTS as i64, "{isolation:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_many_move_at_once_is_neither_made_nor_lost() {
    let seed = seed();
    say_seed(seed);
    let cluster = Cluster::of(3).start().await;
    for isolation in &ISOLATIONS[..3] {
        bank(&cluster, *isolation, seed).await;
    }
    cluster.assert_members_agree().await;
}

/// A cluster, and a client that speaks only to one member, so that what this member alone answers is new.
async fn one_member() -> (Cluster, Client, Endpoint) {
    let cluster = Cluster::of(3).start().await;
    let client = Client::new(Config::new([&cluster.client_urls()[1]])).unwrap();
    let endpoint = cluster.endpoint(1);
    (cluster, client, endpoint)
}

/// Runs a transaction whose steps are told which attempt they are.
async fn attempts<T, F: Future<Output = Result<T, Error>>>(
    client: &Client,
    isolation: Isolation,
    steps: impl Fn(Stm, u32) -> F,
) -> Committed<T> {
    let count = Arc::new(AtomicU32::new(0));
    let options = StmOptions::new().isolation(isolation);
    let done =
        transaction(client, options, |stm| steps(stm, count.fetch_add(1, Ordering::SeqCst) + 1));
    done.await.expect("the transaction is committed")
}

/// Ada and Bob may each leave if the other stays. Both look at the same moment.
#[tokio::test]
async fn two_who_each_rely_on_the_other_do_not_both_leave_unless_reads_are_not_checked() {
    let (_cluster, client, endpoint) = one_member().await;
    for isolation in ISOLATIONS {
        endpoint.put("ada", "there").await.unwrap();
        endpoint.put("bob", "there").await.unwrap();
        let left = attempts(&client, isolation, |stm, attempt| {
            let endpoint = &endpoint;
            async move {
                let bob_is_there = stm.get("bob").await?.unwrap() == "there";
                if attempt == 1 {
                    // He saw that Ada is there.
                    endpoint.put("bob", "gone").await.unwrap();
                }
                if bob_is_there {
                    stm.put("ada", "gone");
                }
                Ok(bob_is_there)
            }
        })
        .await;
        let both_left = isolation == Isolation::ReadCommitted;
        assert_eq!((left.value, left.attempts), (both_left, 2 - u32::from(both_left)));
        let ada = endpoint.get("ada").await.unwrap().unwrap();
        assert_eq!(ada, if both_left { "gone" } else { "there" }, "{isolation:?}");
    }
}

#[tokio::test]
async fn what_is_only_written_is_guarded_by_a_serializable_snapshot_alone() {
    let (_cluster, client, endpoint) = one_member().await;
    for isolation in ISOLATIONS {
        endpoint.put("read", "").await.unwrap();
        let done = attempts(&client, isolation, |stm, attempt| {
            let endpoint = &endpoint;
            async move {
                stm.get("read").await?;
                if attempt == 1 {
                    endpoint.put("written", "by another").await.unwrap();
                }
                stm.put("written", attempt.to_string());
                Ok(())
            }
        })
        .await;
        let attempts = 1 + u32::from(isolation == Isolation::SerializableSnapshot);
        assert_eq!(done.attempts, attempts, "{isolation:?}");
        assert_eq!(endpoint.get("written").await.unwrap().unwrap(), attempts.to_string());
    }
}

#[tokio::test]
async fn serializable_reads_are_of_one_moment_even_in_an_attempt_that_fails() {
    let (_cluster, client, endpoint) = one_member().await;
    for isolation in ISOLATIONS {
        endpoint.put("one", "old").await.unwrap();
        endpoint.put("two", "old").await.unwrap();
        let seen = std::sync::Mutex::new(Vec::new());
        let done = attempts(&client, isolation, |stm, attempt| {
            let (endpoint, seen) = (&endpoint, &seen);
            async move {
                let one = stm.get("one").await?.unwrap();
                if attempt == 1 {
                    endpoint.put("one", "new").await.unwrap();
                    endpoint.put("two", "new").await.unwrap();
                }
                let two = stm.get("two").await?.unwrap();
                seen.lock().unwrap().push((one, two));
                Ok(())
            }
        })
        .await;
        let seen = seen.into_inner().unwrap();
        let (attempts, first) = match isolation {
            Isolation::SerializableSnapshot | Isolation::Serializable => (2, "old"),
            Isolation::RepeatableReads => (2, "new"),
            Isolation::ReadCommitted => (1, "new"),
        };
        assert_eq!((done.attempts, seen[0].0.as_ref()), (attempts, &b"old"[..]), "{isolation:?}");
        assert_eq!(seen[0].1, first, "{isolation:?}");
        if let Some(second) = seen.get(1) {
            assert_eq!((second.0.as_ref(), second.1.as_ref()), (&b"new"[..], &b"new"[..]));
        }
    }
}

#[tokio::test]
async fn a_transaction_whose_moment_is_compacted_away_begins_anew() {
    let (_cluster, client, endpoint) = one_member().await;
    endpoint.put("one", "old").await.unwrap();
    let done = attempts(&client, Isolation::SerializableSnapshot, |stm, attempt| {
        let endpoint = &endpoint;
        async move {
            let one = stm.get("one").await?.unwrap();
            if attempt == 1 {
                let put = endpoint.put("one", "new").await.unwrap();
                endpoint.compact(put.header.unwrap().revision).await.unwrap();
            }
            Ok((one, stm.get("two").await?))
        }
    })
    .await;
    assert_eq!((done.value, done.attempts), (("new".into(), None), 2));
}
