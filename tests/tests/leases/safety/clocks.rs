//! Clocks that step.
//!
//! A real member goes by the time since its machine started, that during which it was suspended included
//! (`CLOCK_BOOTTIME`). Setting the machine's date does not move that clock, it never goes back, and it leaps ahead only by
//! as much as the machine slept. So a leader that leaps is right: the clients' time passed as well. The other steps here
//! cannot happen to a real member; they show that no deadline is ever compared with another member's clock, and that a
//! clock gone wrong costs time, not safety.

use super::judge::Rules;
use super::standing::{World, exact, seconds};
use kvorum_testkit::Cluster;

/// The members that follow.
fn followers(leader: usize) -> [usize; 2] {
    [(leader + 1) % 3, (leader + 2) % 3]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clocks_of_followers_do_not_matter_even_when_they_lead() {
    let mut world = World::start(Cluster::of(3), exact()).await;
    let leases = world.clients.grant(18, 10).await;
    let [ahead, behind] = followers(world.cluster.leader().await);
    world.cluster.clock(ahead).leap(seconds(3600));
    world.cluster.clock(behind).step_back(seconds(500));
    world.pass(seconds(4)).await;
    world.clients.keep_alive(ahead, &leases[..4]).await;
    world.clients.keep_alive(behind, &leases[4..8]).await;
    world.pass(seconds(4)).await;
    let killed = world.kill_leader().await;
    world.clients.keep_alive(ahead, &leases[2..6]).await;
    world.pass(seconds(3)).await;
    world.cluster.restart(killed).await;
    world.kill_leader().await;
    world.run_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_clocks_step_ahead() {
    let mut world = World::start(Cluster::of(3), Rules { late_max: seconds(30), ..exact() }).await;
    let leases = world.clients.grant(18, 20).await;
    world.pass(seconds(5)).await;
    world.clients.keep_alive(0, &leases[..6]).await;
    // All machines sleep for so long, and so do the clients.
    world.leap(0..3, seconds(18));
    world.clients.keep_alive(1, &leases[..3]).await;
    world.clients.none_overdue(&exact()).await;
    world.run_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_ends_what_ended_meanwhile() {
    // In one leap time passes in which nothing could end.
    let mut world = World::start(Cluster::of(3), Rules { late_max: seconds(12), ..exact() }).await;
    let short = world.clients.grant(9, 20).await;
    let long = world.clients.grant(9, 40).await;
    let leader = world.cluster.leader().await;
    world.leap([leader], seconds(30));
    world.clients.keep_alive(followers(leader)[0], &long[..4]).await;
    world.clients.none_overdue(&Rules { late_max: seconds(10), ..exact() }).await;
    let standing = world.clients.book.history().standing();
    assert_eq!(standing, long, "not {short:?}");
    // The next leader's clock knows nothing of that.
    world.kill_leader().await;
    world.pass(seconds(3)).await;
    world.run_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_steps_back_is_late_by_the_step_and_never_early() {
    let mut world = World::start(Cluster::of(3), Rules { late_max: seconds(7), ..exact() }).await;
    let leases = world.clients.grant(18, 10).await;
    world.pass(seconds(6)).await;
    let leader = world.cluster.leader().await;
    world.cluster.clock(leader).step_back(seconds(5));
    world.clients.keep_alive(0, &leases[..6]).await;
    world.pass(seconds(2)).await;
    world.clients.keep_alive(1, &leases[3..9]).await;
    world.run_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_clocks_step_back() {
    let mut world = World::start(Cluster::of(3), Rules { late_max: seconds(7), ..exact() }).await;
    let leases = world.clients.grant(18, 10).await;
    world.pass(seconds(6)).await;
    for member in 0..3 {
        world.cluster.clock(member).step_back(seconds(5));
    }
    world.clients.keep_alive(0, &leases[..6]).await;
    world.pass(seconds(2)).await;
    let killed = world.kill_leader().await;
    world.clients.keep_alive(followers(killed)[0], &leases[..3]).await;
    world.run_out().await;
}
