//! Time passes as the test says: how late leases end is exact, with and without a new leader.

use std::time::Duration;

use kvorum_testkit::{Cluster, ClusterBuilder, LeapingClock, eventually};
use tokio::time::sleep;

use super::clients::{Clients, led_by};
use super::judge::Rules;

/// What the clocks show in the beginning: far enough from zero to step back.
const BEGIN: Duration = Duration::from_secs(1000);

/// The last moment at which a lease must still be there is as long before its time is over.
const TICK: Duration = Duration::from_millis(1);

/// A leader looks at its clock more often than this.
const LOOK_TIME: Duration = Duration::from_millis(300);

/// The testkit's election timeout.
pub const EXTENSION: Duration = Duration::from_millis(500);

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The rule as it stands.
pub fn exact() -> Rules {
    Rules {
        late_max: seconds(2),
        extension: EXTENSION,
        checkpoint_age_max: None,
        unanswered_max: Duration::ZERO,
    }
}

/// A cluster whose clocks stand still, and its clients.
///
/// - The clients' clock is ahead of no member's by more than at the last leap of its own.
pub struct World {
    pub cluster: Cluster,
    pub clients: Clients,
    pub rules: Rules,
    truth: LeapingClock,
}

impl World {
    pub async fn start(builder: ClusterBuilder, rules: Rules) -> World {
        let cluster = builder.with_clocks().start().await;
        for member in 0..cluster.len() {
            cluster.clock(member).stand_at(BEGIN);
        }
        cluster.leader().await;
        let truth = LeapingClock::standing(BEGIN);
        let clients = Clients::with_clock(&cluster, {
            let truth = truth.clone();
            move || truth.now()
        });
        World { cluster, clients, rules, truth }
    }

    /// Lets time pass for the clients, and for these members.
    pub fn leap(&self, members: impl IntoIterator<Item = usize>, time: Duration) {
        // First, so that nothing a member does is seen too early.
        self.truth.leap(time);
        for member in members {
            self.cluster.clock(member).leap(time);
        }
    }

    fn leap_all(&self, time: Duration) {
        self.leap(0..self.cluster.len(), time);
    }

    /// Lets time pass for everyone, with a look just before each moment at which a lease may end, and at each at which one
    /// must have ended.
    pub async fn pass(&self, time: Duration) {
        let target = self.clients.now() + time;
        while let Some(bound) = self.next_bound().filter(|bound| *bound <= target) {
            self.pass_bound(bound).await;
        }
        self.leap_all(target - self.clients.now());
    }

    /// Lets time pass until all leases have ended, and then judges.
    pub async fn run_out(&self) {
        while let Some(bound) = self.next_bound() {
            self.pass_bound(bound).await;
        }
        self.clients.all_ended().await;
        self.clients.assert_safe(&self.rules);
        self.cluster.assert_members_agree().await;
        for endpoint in self.cluster.endpoints() {
            assert_eq!(endpoint.leases().await.unwrap(), [0; 0]);
        }
    }

    fn next_bound(&self) -> Option<Duration> {
        self.clients.book.history().next_bound(&self.rules, self.clients.now())
    }

    async fn pass_bound(&self, bound: Duration) {
        let before = (bound - TICK).saturating_sub(self.clients.now());
        if before > Duration::ZERO {
            self.leap_all(before);
            sleep(LOOK_TIME).await;
        }
        self.leap_all(bound - self.clients.now());
        self.clients.none_overdue(&self.rules).await;
    }

    /// Kills the leader, and waits until another one counts: the one killed.
    pub async fn kill_leader(&mut self) -> usize {
        let leader = self.cluster.leader().await;
        let lost = self.clients.now();
        self.cluster.kill(leader);
        let others = (0..self.cluster.len()).filter(|member| *member != leader);
        let new = led_by(&self.cluster, &others.collect::<Vec<_>>()).await;
        self.clients.settled(lost, new).await;
        leader
    }

    /// Kills all members, lets `time` pass, and starts them again.
    pub async fn restart_all(&mut self, time: Duration) {
        let lost = self.clients.now();
        for member in 0..self.cluster.len() {
            self.cluster.kill(member);
        }
        self.leap_all(time);
        for member in 0..self.cluster.len() {
            self.cluster.launch(member).await;
        }
        for member in 0..self.cluster.len() {
            self.cluster.wait_ready(member).await;
        }
        let leader = self.cluster.leader().await;
        self.clients.settled(lost, leader).await;
    }

    /// What the members say is left of a lease, in seconds.
    pub async fn left(&self, lease: i64) -> i64 {
        let mut left = Vec::new();
        for endpoint in self.cluster.endpoints() {
            left.push(endpoint.time_to_live(lease).await.unwrap().ttl);
        }
        assert!(left.iter().all(|other| *other == left[0]), "{left:?}");
        left[0]
    }
}

/// Some of these are kept alive now, through each member.
async fn keep_some(world: &World, leases: &[i64]) {
    for member in 0..world.cluster.len() {
        let some = leases.iter().copied().filter(|id| id % 9 == i64::try_from(member).unwrap());
        world.clients.keep_alive(member, &some.collect::<Vec<_>>()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_one_leader_a_lease_ends_within_two_seconds() {
    let mut world = World::start(Cluster::of(3), exact()).await;
    let short = world.clients.grant(18, 5).await;
    let long = world.clients.grant(18, 12).await;
    world.pass(seconds(4)).await;
    keep_some(&world, &short).await;
    world.pass(seconds(7)).await;
    keep_some(&world, &long).await;
    let revoked = world.clients.grant(1, 100).await[0];
    world.clients.book.revoke(world.clients.endpoint(1), revoked).await;
    world.run_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_gives_a_full_ttl_and_an_election() {
    let mut world = World::start(Cluster::of(3), exact()).await;
    let short = world.clients.grant(9, 5).await;
    let long = world.clients.grant(9, 30).await;
    world.pass(seconds(3)).await;
    keep_some(&world, &short).await;
    let killed = world.kill_leader().await;
    assert!((5..=6).contains(&world.left(short[3]).await), "a full TTL again");
    world.pass(seconds(2)).await;
    let others = (0..3).filter(|member| *member != killed).collect::<Vec<_>>();
    world.clients.keep_alive(others[0], &long[..4]).await;
    world.cluster.restart(killed).await;
    world.pass(seconds(2)).await;
    world.kill_leader().await;
    world.run_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_all_leases_have_a_full_ttl() {
    let mut world = World::start(Cluster::of(3), exact()).await;
    let leases = world.clients.grant(18, 10).await;
    world.pass(seconds(6)).await;
    keep_some(&world, &leases).await;
    world.pass(seconds(2)).await;
    world.restart_all(seconds(30)).await;
    for lease in [leases[0], leases[3]] {
        assert!((10..=11).contains(&world.left(lease).await));
    }
    world.pass(seconds(4)).await;
    keep_some(&world, &leases).await;
    world.run_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_all_leases_have_what_their_checkpoints_left() {
    // Some are checkpointed in the very moment at which the leader is lost.
    let rules = Rules { checkpoint_age_max: Some(Duration::ZERO), ..exact() };
    let often = |builder: kvorum_server::Builder| builder.lease_checkpoint_interval(seconds(5));
    let mut world = World::start(Cluster::of(3).configure(often), rules).await;
    let leases = world.clients.grant(18, 60).await;
    world.leap_all(seconds(40) - TICK);
    sleep(LOOK_TIME).await;
    let applied = async |world: &World, member: usize| {
        world.cluster.endpoint(member).status().await.unwrap().raft_applied_index
    };
    let leader = world.cluster.leader().await;
    // What was noted before does not stand in the way, and is older than this.
    let before = applied(&world, leader).await;
    world.leap_all(seconds(5));
    eventually("the checkpoint to be applied everywhere", async || {
        for member in 0..3 {
            let index = applied(&world, member).await;
            if index <= before {
                return Err((member, index, before));
            }
        }
        Ok(())
    })
    .await;
    // Kept alive after its checkpoint, a lease has its whole time again.
    keep_some(&world, &leases).await;
    world.restart_all(seconds(100)).await;
    let kept = leases.iter().filter(|id| **id % 9 < 3).collect::<Vec<_>>();
    for lease in &leases {
        let wanted = if kept.contains(&lease) { 60..=61 } else { 15..=16 };
        let left = world.left(*lease).await;
        assert!(wanted.contains(&left), "lease {lease}: {left}");
    }
    world.run_out().await;
}
