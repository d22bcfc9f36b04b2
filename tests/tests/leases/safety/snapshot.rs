//! Leases that a member learns of through a snapshot.

use std::fs;
use std::path::Path;

use kvorum_testkit::{Cluster, eventually};

use super::clients::led_by;
use super::standing::{World, exact, seconds};

/// The numbers of the first and the last file of a member's log.
fn segments(data_dir: &Path) -> (u64, u64) {
    let entries = fs::read_dir(data_dir.join("member/wal")).unwrap();
    let numbers = entries.filter_map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_stem()?.to_str()?;
        path.extension().filter(|end| *end == "wal").and(u64::from_str_radix(name, 16).ok())
    });
    let numbers = numbers.collect::<Vec<_>>();
    (*numbers.iter().min().unwrap(), *numbers.iter().max().unwrap())
}

/// Writes until these members have nothing any more of what their logs hold now.
async fn write_past(cluster: &Cluster, members: [usize; 2]) {
    let last = members.map(|member| segments(cluster.data_dir(member)).1);
    let mut number = 0;
    eventually("the logs to move on", async || {
        for _ in 0..10 {
            let key = format!("filler{}", number % 7);
            let value = "x".repeat(16 << 10);
            cluster.endpoint(members[0]).put(key, value).await.unwrap();
            number += 1;
        }
        let first = members.map(|member| segments(cluster.data_dir(member)).0);
        if first[0] > last[0] && first[1] > last[1] { Ok(()) } else { Err((first, last)) }
    })
    .await;
}

/// Kills one leader after the other until it is `member` that leads.
async fn make_leader(world: &mut World, member: usize) {
    while world.cluster.leader().await != member {
        let killed = world.kill_leader().await;
        world.cluster.restart(killed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_snapshot_end_in_their_time_under_who_installed_it() {
    let small = |builder: kvorum_server::Builder| {
        let wal = kvorum_wal::Options { segment_bytes: 256 << 10, ..Default::default() };
        let builder = builder.wal_options(wal).checkpoint_bytes(64 << 10);
        builder.snapshot_catchup_entries(10).lease_checkpoint_interval(seconds(15))
    };
    let mut world = World::start(Cluster::of(3).configure(small), exact()).await;
    let known = world.clients.grant(9, 20).await;
    let revoked = world.clients.grant(3, 100).await;
    let leader = world.cluster.leader().await;
    let (behind, other) = ((leader + 1) % 3, (leader + 2) % 3);
    world.cluster.kill(behind);
    for lease in revoked {
        world.clients.book.revoke(world.clients.endpoint(other), lease).await;
    }
    let short = world.clients.grant_through(other, 6, 6).await;
    let missed = world.clients.grant_through(leader, 9, 30).await;
    // Some of what it knew ends before it is back.
    world.clients.keep_alive(leader, &known[..6]).await;
    world.pass(seconds(10)).await;
    world.clients.keep_alive(other, &known[..3]).await;
    world.pass(seconds(11)).await;
    write_past(&world.cluster, [leader, other]).await;
    world.cluster.restart(behind).await;
    let standing = world.clients.book.history().standing();
    for lease in &missed {
        let found = world.cluster.endpoint(behind).time_to_live(*lease).await.unwrap();
        assert_eq!(found.keys.len(), 2, "{found:?}");
        assert!(standing.contains(lease));
    }
    assert!(!short.iter().any(|lease| standing.contains(lease)));
    make_leader(&mut world, behind).await;
    world.clients.keep_alive(behind, &missed[..3]).await;
    world.pass(seconds(7)).await;
    let last = led_by(&world.cluster, &[0, 1, 2]).await;
    assert_eq!(last, behind);
    world.run_out().await;
}
