//! The rules of deadlines, one by one.

use std::time::Duration;

use kvorum_lease::{Deadlines, Event, LeaseView, Renewal, Table};
use kvorum_types::LeaseId;

const INTERVAL: Duration = Duration::from_secs(300);
const EXTEND: Duration = Duration::from_secs(1);
const RENEWED: Renewal = Renewal::Renewed { ttl: 10 };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A table and the deadlines of a leader of it that is told of everything at once.
struct Leader {
    table: Table,
    deadlines: Deadlines,
    index: u64,
}

impl Leader {
    /// Without leases, at 0 seconds.
    fn new() -> Leader {
        let mut deadlines = Deadlines::new(INTERVAL);
        deadlines.promote(LeaseView::default(), at(0), EXTEND);
        assert!(!deadlines.promote_step(10));
        Leader { table: Table::new(), deadlines, index: 0 }
    }

    fn grant(&mut self, id: i64, ttl: i64, now: u64) -> u64 {
        self.index += 1;
        let (id, granted) = (LeaseId(id), self.index);
        self.table.grant(id, ttl, granted).unwrap();
        self.deadlines.on_event(&Event::Granted { id, ttl, granted }, at(now));
        granted
    }

    fn revoke(&mut self, id: i64, now: u64) {
        let id = LeaseId(id);
        let granted = self.table.lease(id).unwrap().granted;
        self.table.revoke(id);
        self.deadlines.on_event(&Event::Revoked { id, granted }, at(now));
    }

    fn checkpoint(&mut self, decided: &[(LeaseId, u64, i64)], now: u64) {
        for (id, granted, remaining) in decided.iter().copied() {
            assert!(self.table.checkpoint(id, granted, remaining));
            let event = Event::Checkpointed { id, granted, remaining };
            self.deadlines.on_event(&event, at(now));
        }
    }

    fn renew(&mut self, id: i64, now: u64) -> Renewal {
        let view = self.table.view();
        self.deadlines.renew(LeaseId(id), at(now), &view)
    }

    fn due(&mut self, now: u64) -> Vec<i64> {
        self.deadlines.due(at(now), 100).iter().map(|(id, _)| id.0).collect()
    }

    /// Another leader takes over, and has walked over all leases.
    fn succeed(&mut self, now: u64) {
        self.deadlines = Deadlines::new(INTERVAL);
        self.deadlines.promote(self.table.view(), at(now), EXTEND);
        while self.deadlines.promote_step(2) {}
    }
}

#[test]
fn a_lease_is_due_at_its_deadline_and_not_before() {
    let mut leader = Leader::new();
    let granted = leader.grant(5, 10, 3);
    assert_eq!(leader.deadlines.next_due(), Some(at(13)));
    let just_before = at(13) - Duration::from_nanos(1);
    assert_eq!(leader.deadlines.due(just_before, 9), []);
    assert_eq!(leader.deadlines.due(at(13), 9), [(LeaseId(5), granted)]);
}

#[test]
fn a_renewal_gives_the_whole_ttl_from_its_moment_on() {
    let mut leader = Leader::new();
    leader.grant(5, 10, 0);
    assert_eq!(leader.renew(5, 4), RENEWED);
    assert_eq!(leader.deadlines.remaining(LeaseId(5), at(6)), Some(at(8)));
    assert_eq!(leader.due(13), []);
    assert_eq!(leader.due(14), [5]);
}

#[test]
fn a_lease_that_is_due_is_given_once_and_never_renewed() {
    let mut leader = Leader::new();
    leader.grant(5, 10, 0);
    assert_eq!(leader.renew(5, 10), Renewal::Ending, "due, and not yet given");
    assert_eq!(leader.due(10), [5]);
    assert_eq!(leader.renew(5, 10), Renewal::Ending);
    assert_eq!(leader.due(20), []);
    assert_eq!(leader.deadlines.next_due(), None);
    assert_eq!(leader.deadlines.remaining(LeaseId(5), at(20)), Some(Duration::ZERO));
    leader.revoke(5, 20);
    assert_eq!(leader.renew(5, 20), Renewal::Unknown);
    assert_eq!(leader.deadlines.remaining(LeaseId(5), at(20)), None);
    assert_eq!(leader.deadlines.figures().known_count, 0);
}

#[test]
fn leases_are_due_the_earliest_first_and_no_more_than_wanted() {
    let mut leader = Leader::new();
    for (id, ttl) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
        leader.grant(id, ttl, 0);
    }
    let ids = |due: Vec<(LeaseId, u64)>| due.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
    assert_eq!(ids(leader.deadlines.due(at(100), 3)), [2, 4, 3]);
    assert_eq!(leader.deadlines.next_due(), Some(at(30)));
    assert_eq!(ids(leader.deadlines.due(at(100), 3)), [1]);
}

#[test]
fn a_revoke_that_failed_is_due_again_and_cannot_be_renewed_meanwhile() {
    let mut leader = Leader::new();
    let granted = leader.grant(5, 10, 0);
    assert_eq!(leader.due(12), [5]);
    leader.deadlines.revoke_failed(&[(LeaseId(5), granted), (LeaseId(9), 1)]);
    assert_eq!(leader.renew(5, 12), Renewal::Ending);
    assert_eq!(leader.due(12), [5]);
    leader.revoke(5, 12);
    leader.grant(5, 10, 12);
    leader.deadlines.revoke_failed(&[(LeaseId(5), granted)]);
    assert_eq!(leader.renew(5, 13), RENEWED, "granted anew, it is another lease");
}

#[test]
fn a_lease_granted_anew_has_its_own_deadline() {
    let mut leader = Leader::new();
    leader.grant(5, 10, 0);
    leader.revoke(5, 9);
    leader.grant(5, 20, 9);
    assert_eq!(leader.due(28), []);
    assert_eq!(leader.due(29), [5]);
}

#[test]
fn a_member_that_does_not_lead_counts_nothing() {
    let mut leader = Leader::new();
    leader.grant(5, 10, 0);
    let old = leader.deadlines.demote();
    assert_eq!(old.figures().known_count, 1);
    assert_eq!(leader.renew(5, 1), Renewal::Demoted);
    assert_eq!(leader.due(100), []);
    assert_eq!(leader.deadlines.to_checkpoint(at(1000), 9), []);
    assert!(!leader.deadlines.is_promoted() && !leader.deadlines.promote_step(9));
    leader.grant(6, 10, 100);
    assert_eq!(leader.deadlines.figures().known_count, 0);
}

#[test]
fn a_new_leader_gives_the_whole_ttl_and_an_election_on_top() {
    let mut leader = Leader::new();
    leader.grant(5, 10, 0);
    leader.grant(6, 20, 0);
    leader.succeed(8);
    assert_eq!(leader.due(18), []);
    assert_eq!(leader.due(19), [5]);
    assert_eq!(leader.renew(6, 20), Renewal::Renewed { ttl: 20 });
    assert_eq!(leader.due(39), [], "what was on top is used up by a renewal");
    assert_eq!(leader.due(40), [6]);
}

#[test]
fn renewals_and_events_need_not_wait_for_the_walk_of_a_promotion() {
    let mut leader = Leader::new();
    for id in 1..=6 {
        leader.grant(id, 10, 0);
    }
    leader.deadlines = Deadlines::new(INTERVAL);
    leader.deadlines.promote(leader.table.view(), at(5), EXTEND);
    assert!(leader.deadlines.promote_step(2));
    assert_eq!(leader.deadlines.figures().known_count, 2);
    assert_eq!(leader.deadlines.remaining(LeaseId(6), at(5)), Some(at(11)));
    assert_eq!(leader.renew(5, 8), RENEWED, "ahead of the walk");
    leader.revoke(4, 8);
    leader.revoke(6, 8);
    leader.grant(6, 30, 8);
    leader.grant(7, 10, 8);
    assert!(!leader.deadlines.is_promoted());
    while leader.deadlines.promote_step(2) {}
    assert!(leader.deadlines.is_promoted());
    assert_eq!(leader.due(16), [1, 2, 3]);
    assert_eq!(leader.due(18), [5, 7]);
    assert_eq!(leader.due(37), []);
    assert_eq!(leader.due(38), [6]);
}

#[test]
fn an_event_that_the_view_of_a_promotion_already_held_changes_nothing() {
    let mut leader = Leader::new();
    let granted = leader.grant(5, 10, 0);
    leader.revoke(5, 0);
    let granted_anew = leader.grant(5, 20, 0);
    leader.succeed(100);
    let id = LeaseId(5);
    leader.deadlines.on_event(&Event::Revoked { id, granted }, at(110));
    let event = Event::Granted { id, ttl: 20, granted: granted_anew };
    leader.deadlines.on_event(&event, at(110));
    assert_eq!(leader.deadlines.next_due(), Some(at(121)));
}

#[test]
fn time_may_jump_ahead_and_never_goes_back() {
    let mut leader = Leader::new();
    leader.grant(5, 10, 1_000_000);
    assert_eq!(leader.renew(5, 3), RENEWED);
    assert_eq!(leader.due(1_000_009), []);
    assert_eq!(leader.due(5_000_000_000), [5]);
    leader.grant(6, kvorum_lease::TTL_MAX, 0);
    assert_eq!(leader.due(13_999_999_999), []);
    assert_eq!(leader.due(14_000_000_000), [6]);
    assert_eq!(leader.deadlines.due(Duration::MAX, 9), []);
}

#[test]
fn what_remains_is_noted_once_an_interval_of_leases_that_live_longer() {
    let mut leader = Leader::new();
    leader.grant(1, 300, 0);
    let granted = leader.grant(2, 1000, 0);
    assert_eq!(leader.deadlines.next_checkpoint(), Some(at(300)));
    assert_eq!(leader.deadlines.to_checkpoint(at(299), 9), []);
    let half_late = at(300) + Duration::from_millis(1500);
    assert_eq!(leader.deadlines.to_checkpoint(half_late, 9), [(LeaseId(2), granted, 699)]);
    assert_eq!(leader.deadlines.to_checkpoint(at(600), 9), []);
    assert_eq!(leader.deadlines.to_checkpoint(at(602), 9), [(LeaseId(2), granted, 398)]);
    assert_eq!(leader.deadlines.to_checkpoint(at(903), 9), [(LeaseId(2), granted, 97)]);
    assert_eq!(leader.deadlines.next_checkpoint(), None, "it does not live that long");
    let mut never = Deadlines::new(Duration::ZERO);
    never.promote(leader.table.view(), at(0), EXTEND);
    never.promote_step(9);
    assert_eq!(never.next_checkpoint(), None);
}

#[test]
fn a_renewal_puts_the_next_checkpoint_off() {
    let mut leader = Leader::new();
    leader.grant(1, 1000, 0);
    leader.renew(1, 200);
    assert_eq!(leader.deadlines.to_checkpoint(at(499), 9), []);
    assert_eq!(leader.deadlines.to_checkpoint(at(500), 9).len(), 1);
}

#[test]
fn no_more_is_checkpointed_than_wanted_and_clears_come_first() {
    let mut leader = Leader::new();
    for id in 1..=4 {
        leader.grant(id, 1000, 0);
    }
    let decided = leader.deadlines.to_checkpoint(at(300), 3);
    assert_eq!(decided.len(), 3);
    leader.checkpoint(&decided, 300);
    assert_eq!(leader.renew(2, 310), Renewal::Checkpointed);
    assert_eq!(leader.renew(1, 310), Renewal::Checkpointed);
    let ids = |decided: Vec<(LeaseId, u64, i64)>| {
        decided.iter().map(|(id, _, remaining)| (id.0, *remaining)).collect::<Vec<_>>()
    };
    assert_eq!(leader.deadlines.next_checkpoint(), Some(Duration::ZERO));
    assert_eq!(ids(leader.deadlines.to_checkpoint(at(310), 1)), [(2, 0)]);
    assert_eq!(ids(leader.deadlines.to_checkpoint(at(310), 9)), [(1, 0), (4, 690)]);
}

// A checkpoint that outlives a renewal makes the next leader end the lease too early.
#[test]
fn a_renewal_waits_until_the_checkpoint_is_cleared() {
    let mut leader = Leader::new();
    leader.grant(1, 1000, 0);
    let noted = leader.deadlines.to_checkpoint(at(300), 9);
    // From the decision on: what it wrote is not applied yet.
    assert_eq!(leader.renew(1, 301), Renewal::Checkpointed);
    leader.checkpoint(&noted, 302);
    assert_eq!(leader.renew(1, 302), Renewal::Checkpointed);
    let cleared = leader.deadlines.to_checkpoint(at(303), 9);
    assert_eq!(cleared[0].2, 0);
    assert_eq!(leader.deadlines.to_checkpoint(at(700), 9), [], "not while it is being cleared");
    assert_eq!(leader.renew(1, 304), Renewal::Checkpointed);
    leader.checkpoint(&cleared, 305);
    assert_eq!(leader.renew(1, 700), Renewal::Renewed { ttl: 1000 });
    leader.succeed(800);
    assert_eq!(leader.deadlines.next_due(), Some(at(1801)));
}

#[test]
fn a_clear_that_failed_is_given_again() {
    let mut leader = Leader::new();
    leader.grant(1, 1000, 0);
    let noted = leader.deadlines.to_checkpoint(at(300), 9);
    leader.deadlines.checkpoint_failed(&noted);
    assert_eq!(leader.renew(1, 301), Renewal::Checkpointed, "it may be applied after all");
    let cleared = leader.deadlines.to_checkpoint(at(301), 9);
    assert_eq!(leader.deadlines.to_checkpoint(at(301), 9), []);
    leader.deadlines.checkpoint_failed(&cleared);
    assert_eq!(leader.deadlines.to_checkpoint(at(302), 9), cleared);
    leader.checkpoint(&cleared, 302);
    assert_eq!(leader.renew(1, 302), Renewal::Renewed { ttl: 1000 });
}

// etcd 13508: what remained was noted once, and forgotten with the second change of leader.
#[test]
fn bug_13508_a_checkpoint_holds_through_every_change_of_leader() {
    let mut leader = Leader::new();
    leader.grant(1, 1000, 0);
    let noted = leader.deadlines.to_checkpoint(at(300), 9);
    leader.checkpoint(&noted, 300);
    for now in [310, 320, 330] {
        leader.succeed(now);
        assert_eq!(leader.deadlines.next_due(), Some(at(now + 701)));
    }
    // Each leader goes on to note it.
    let noted = leader.deadlines.to_checkpoint(at(630), 9);
    assert_eq!(noted[0].2, 401);
    leader.checkpoint(&noted, 630);
    leader.succeed(640);
    assert_eq!(leader.due(1041), []);
    assert_eq!(leader.due(1042), [1]);
}

// etcd 20615: a keep-alive of a lease succeeded after its revoke had been answered.
#[test]
fn bug_20615_no_renewal_succeeds_after_a_revoke() {
    let mut leader = Leader::new();
    leader.grant(1, 10, 0);
    leader.grant(2, 10, 0);
    // Applied and published, but the deadlines have not been told yet.
    leader.table.revoke(LeaseId(1));
    assert_eq!(leader.renew(1, 1), Renewal::Unknown);
    leader.succeed(5);
    leader.revoke(2, 6);
    assert_eq!(leader.renew(2, 6), Renewal::Unknown);
}

// etcd 9496: with many leases the walk of a promotion held everything up until requests timed out.
#[test]
fn bug_9496_a_promotion_does_no_more_at_a_time_than_wanted() {
    let mut leader = Leader::new();
    for id in 1..=1000 {
        leader.grant(id, 10, 0);
    }
    leader.deadlines = Deadlines::new(INTERVAL);
    leader.deadlines.promote(leader.table.view(), at(5), EXTEND);
    assert_eq!(leader.deadlines.figures().known_count, 0);
    for steps in 1..=10 {
        let has_more = leader.deadlines.promote_step(100);
        assert_eq!(leader.deadlines.figures().known_count, 100 * steps);
        // What a step has reached is served, whether or not others are still to come.
        assert_eq!(leader.renew(100 * steps as i64, 5), RENEWED);
        assert!(has_more || steps == 10);
    }
    while leader.deadlines.promote_step(100) {}
    assert_eq!(leader.deadlines.figures().known_count, 1000);
}
