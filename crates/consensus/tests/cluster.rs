//! Members of a group, from the outside: one alone, and three that lose each other.

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{Cluster, Node, Plan, eventually, put};

const THREADS: &str = "two";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_puts_and_has_it_all_after_a_loss_of_power() {
    let mut cluster = Cluster::start(Plan::members(1)).await;
    let mut revisions = Vec::new();
    for number in 0..50 {
        let key = format!("key{number}");
        revisions.push(cluster.nodes[0].put(&key, "value").await.expect("a put"));
    }
    assert!(revisions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{revisions:?} {THREADS}");
    let id = cluster.nodes[0].id;
    let disk = cluster.take(id).lose_power(&cluster.network, 1).await;
    cluster.restart(id, disk).await;
    for number in 0..50 {
        let value = cluster.nodes[0].get(&format!("key{number}")).await;
        assert_eq!(value.as_deref(), Some("value"));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_replicate_forward_and_read() {
    let cluster = Cluster::start(Plan::members(3)).await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.put("key", &format!("{number}")).await.expect("a put through any member");
        for reading in &cluster.nodes {
            assert_eq!(reading.get("key").await, Some(format!("{number}")));
        }
    }
    cluster.stop().await;
}
