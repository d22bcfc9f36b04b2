//! Members that are killed, paused and cut off, by the machine's clock.

use std::time::Duration;

use futures_util::future::join_all;
use kvorum_testkit::{Cluster, eventually};
use tokio::time::sleep;

use super::clients::{Clients, Conduct, led_by};
use super::judge::Rules;
use super::standing::EXTENSION;

/// By how much a slow machine may be late. How late a lease really ends is for tests whose time stands still.
const SLOWNESS: Duration = Duration::from_secs(20);

/// Of leases that should not end before the scenario does, in seconds.
const LONG: u64 = 60;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn rules() -> Rules {
    Rules {
        late_max: millis(2_000) + SLOWNESS,
        extension: EXTENSION,
        checkpoint_age_max: None,
        unanswered_max: SLOWNESS,
    }
}

/// Short leases, treated in every way: left alone, kept alive all the time, often or just in time, and only for a while.
fn conducts() -> Vec<Conduct> {
    let manners = [(0, 0), (300, usize::MAX), (300, 4), (750, usize::MAX), (900, 2), (600, 1)];
    let of_ttl = |ttl| {
        manners.map(|(permille, count)| {
            let pause = (permille > 0).then(|| millis(ttl * permille));
            Conduct { ttl, pause, count }
        })
    };
    [1, 2, 3, 2].into_iter().flat_map(of_ttl).collect()
}

/// A cluster and its clients, who hold leases: the first one is a long one.
async fn held(cluster: &Cluster) -> Clients {
    let mut clients = Clients::of(cluster);
    clients.grant(1, LONG).await;
    clients.hold(&conducts()).await;
    sleep(millis(400)).await;
    clients
}

/// Lets all leases end, and judges.
async fn end(cluster: &Cluster, clients: &Clients) {
    // What is renewed by the new leader lives on.
    let settled = clients.book.history().changes.last().map(|change| change.settled);
    eventually("a keep-alive", async || {
        clients.book.keep_alive(clients.endpoint(0), 1, millis(1_000)).await.ok_or("no answer")
    })
    .await;
    assert!(clients.book.history().kept_after(settled.unwrap_or_default()) > 0);
    clients.fall_silent();
    clients.book.revoke(clients.endpoint(1), 1).await;
    clients.all_ended().await;
    clients.assert_safe(&rules());
    cluster.assert_members_agree().await;
}

fn others(leader: usize) -> [usize; 2] {
    [(leader + 1) % 3, (leader + 2) % 3]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let clients = held(&cluster).await;
    let leader = cluster.leader().await;
    let lost = clients.now();
    cluster.kill(leader);
    let new = led_by(&cluster, &others(leader)).await;
    clients.settled(lost, new).await;
    sleep(millis(500)).await;
    cluster.restart(leader).await;
    end(&cluster, &clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_are_killed() {
    let flags = ["--lease-checkpoint-interval", "1s"];
    let mut cluster = Cluster::of(3).as_processes().flags(flags).start().await;
    let clients = held(&cluster).await;
    // Long enough for checkpoints of some.
    sleep(millis(1_000)).await;
    let lost = clients.now();
    for member in 0..3 {
        cluster.kill(member);
    }
    for member in 0..3 {
        cluster.launch(member).await;
    }
    let leader = led_by(&cluster, &[0, 1, 2]).await;
    clients.settled(lost, leader).await;
    sleep(millis(500)).await;
    end(&cluster, &clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_paused_past_its_term_neither_renews_nor_revokes() {
    let mut cluster = Cluster::of(3).as_processes().start().await;
    let mut clients = held(&cluster).await;
    let leader = cluster.leader().await;
    // The old leader knows them, and nobody else keeps them alive. To it, some have ended when it goes on, and the others
    // have not.
    let ended = clients.grant_through(leader, 9, 3).await;
    let running = clients.grant_through(leader, 24, 4).await;
    let lost = clients.now();
    cluster.process(leader).pause();
    let new = led_by(&cluster, &others(leader)).await;
    clients.settled(lost, new).await;
    sleep((lost + millis(2_000)).saturating_sub(clients.now())).await;
    clients.keep_alive(new, &ended[..3]).await;
    sleep((lost + millis(3_200)).saturating_sub(clients.now())).await;
    let old = clients.endpoint(leader);
    let ask = |id: &i64| clients.book.keep_alive(old, *id, millis(2_000));
    // Some ask while it stands still, the others in its first moments: an answer must be one of the new leader's.
    let waiting = join_all(ended[..5].iter().chain(&running[..12]).map(ask));
    let asking = async {
        sleep(millis(100)).await;
        cluster.process(leader).resume();
        join_all(ended[5..8].iter().chain(&running[12..20]).map(ask)).await;
    };
    futures_util::join!(waiting, asking);
    end(&cluster, &clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_renews_nothing() {
    let cluster = Cluster::of(3).with_links().start().await;
    let mut clients = held(&cluster).await;
    let leader = cluster.leader().await;
    let probes = clients.grant(9, LONG).await;
    let short = clients.grant_through(leader, 6, 1).await;
    let lost = clients.now();
    cluster.isolate(leader).await;
    let new = led_by(&cluster, &others(leader)).await;
    clients.settled(lost, new).await;
    // By now a majority follows another: no answer of the old one can be true.
    let old = clients.endpoint(leader);
    for round in probes[..6].chunks(2) {
        let asking = round.iter().map(|id| clients.book.keep_alive(old, *id, millis(400)));
        let answered = join_all(asking).await;
        assert!(answered.iter().all(Option::is_none), "{answered:?}");
    }
    clients.keep_alive(new, &probes).await;
    clients.book.keep_alive(clients.endpoint(new), short[0], millis(400)).await;
    // A client that waits is told once the member hears the others again.
    let waiting = clients.book.keep_alive(old, probes[7], Duration::from_secs(30));
    let rejoining = async {
        sleep(millis(100)).await;
        cluster.rejoin(leader).await;
    };
    let (_, ()) = futures_util::join!(waiting, rejoining);
    eventually("a keep-alive through the old leader", async || {
        clients.book.keep_alive(old, probes[8], millis(1_000)).await.ok_or("no answer")
    })
    .await;
    for probe in probes {
        clients.book.revoke(old, probe).await;
    }
    end(&cluster, &clients).await;
}
