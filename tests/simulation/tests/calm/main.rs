//! The clients over a cluster that nothing happens to, on tokio's runtime instead of the simulation's own: what they write
//! down agrees with itself, and the last phase ends. It tells a fault of the clients from one of the world.

mod cluster;
mod truth;

use std::collections::BTreeSet;
use std::time::Duration;

use kvorum_simulation::workload::door::Surroundings;
use kvorum_simulation::workload::record::{Asked, History, Recorder};
use kvorum_simulation::workload::{Mix, start};

use crate::cluster::World;

/// Clients of every kind.
const MIX: Mix = Mix {
    kv: 3,
    nested: 2,
    leases: 3,
    watches: 4,
    locks: 3,
    kubernetes_writers: 2,
    kubernetes_watchers: 2,
};

/// Runs all clients for so long; what they wrote down.
async fn run(seed: u64, time: Duration) -> History {
    let world = World::new(seed);
    world.start_all().await;
    let recorder = Recorder::default();
    let last = start(&world, MIX, &recorder);
    world.sleep(time).await;
    world.end();
    let held = last.run(&world, &recorder).await.expect("everything works");
    assert_eq!(held.len(), world.members().len());
    let first = held.values().next();
    assert!(held.values().all(|other| Some(other) == first), "{held:?}");
    recorder.take()
}

/// What clients ask for, each kind by its name.
fn kind(asked: &Asked) -> &'static str {
    match asked {
        Asked::Put(_) => "put",
        Asked::DeleteRange(_) => "delete",
        Asked::Txn(_) => "txn",
        Asked::Range(_) => "range",
        Asked::Compact(_) => "compact",
        Asked::Grant { .. } => "grant",
        Asked::KeepAlive { .. } => "keep alive",
        Asked::TimeToLive { .. } => "time to live",
        Asked::Revoke { .. } => "revoke",
    }
}

#[test]
fn what_clients_write_down_agrees_with_itself() {
    // Time stands still while anybody has something to do.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    for seed in 1..=3 {
        let history = runtime.block_on(run(seed, Duration::from_secs(15)));
        let wrong = truth::judge(&history);
        assert!(wrong.is_empty(), "seed {seed}: {} wrong:\n{}", wrong.len(), wrong.join("\n"));
        let asked: BTreeSet<&str> =
            history.requests.iter().map(|request| kind(&request.asked)).collect();
        assert_eq!(asked.len(), 9, "every kind of request was made: {asked:?}");
        let heard = history.watched.iter().flat_map(|watched| &watched.heard);
        assert!(heard.map(|heard| heard.events.len()).sum::<usize>() > 100, "watchers heard");
        assert!(!history.locks.is_empty(), "locks were held");
    }
}
