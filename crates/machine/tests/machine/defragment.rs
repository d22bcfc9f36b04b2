//! The store moves into a new one while it is used.

use std::sync::Arc;

use kvorum_machine::{DefragmentError, Origin};
use kvorum_mvcc::{Read, Relocated};
use parking_lot::Mutex;

use crate::fixture::Fixture;

type Ends = Arc<Mutex<Vec<Result<Relocated, DefragmentError>>>>;

fn begin(fixture: &Fixture) -> Ends {
    let ends = Ends::default();
    let told = ends.clone();
    let begun = fixture.machine.defragmenter().begin(move |ended| told.lock().push(ended));
    begun.expect("nothing else is under way");
    ends
}

fn populated() -> Fixture {
    let mut fixture = Fixture::new();
    for number in 0..60 {
        fixture.put(&format!("key{number:02}"), &"x".repeat(50)).unwrap();
    }
    fixture.maintain();
    fixture
}

fn step(fixture: &mut Fixture) {
    let durable = crate::fixture::last_index(&fixture.log);
    fixture.maintainer.step(durable, std::time::Duration::ZERO).unwrap();
}

#[test]
fn a_store_moves_while_it_is_written_and_read() {
    let mut fixture = populated();
    let old_view = fixture.view();
    let ends = begin(&fixture);
    let mut number = 0;
    while ends.lock().is_empty() {
        fixture.put(&format!("key{:02}", number % 70), &format!("{number}")).unwrap();
        step(&mut fixture);
        number += 1;
        assert!(number < 10_000, "the move does not end");
    }
    assert!(ends.lock()[0].is_ok(), "{ends:?}");
    assert_eq!(fixture.stores.numbers(), [1, 2], "the old store is still read");
    assert_eq!(old_view.get(b"key00", 0).unwrap().unwrap().value(), "x".repeat(50).as_bytes());
    drop(old_view);
    fixture.maintain();
    fixture.machine.defragmenter().remove_unused();
    assert_eq!(fixture.stores.numbers(), [2]);
    let hash = fixture.view().hash(0).unwrap();
    let fixture = fixture.restart().unwrap();
    assert_eq!(fixture.origin, Origin::Store, "{:?}", fixture.refused);
    assert_eq!(fixture.view().hash(0).unwrap(), hash);
}

#[test]
fn a_move_that_is_cut_short_at_any_step_leaves_the_old_store() {
    for steps in 0.. {
        let mut fixture = populated();
        let hash = fixture.view().hash(0).unwrap();
        let ends = begin(&fixture);
        for _ in 0..steps {
            step(&mut fixture);
        }
        let was_over = !ends.lock().is_empty();
        let fixture = fixture.restart().unwrap();
        assert_eq!(fixture.origin, Origin::Store, "{steps}: {:?}", fixture.refused);
        assert_eq!(fixture.view().hash(0).unwrap(), hash);
        assert_eq!(ends.lock()[0].is_ok(), was_over);
        let expected = if was_over { 2 } else { 1 };
        assert_eq!(fixture.stores.numbers(), [expected], "after {steps} steps");
        if was_over {
            assert!(steps > 3, "it takes several steps");
            return;
        }
    }
}

#[test]
fn one_move_is_made_at_a_time() {
    let mut fixture = populated();
    let ends = begin(&fixture);
    let second = fixture.machine.defragmenter().begin(|_| panic!("it was refused"));
    assert!(matches!(second, Err(DefragmentError::Move(_))), "{second:?}");
    fixture.maintain();
    assert!(ends.lock()[0].is_ok());
    let ends = begin(&fixture);
    fixture.maintain();
    assert!(ends.lock()[0].is_ok());
}

#[test]
fn a_checkpoint_that_is_installed_overtakes_a_move() {
    let mut leader = populated();
    let info = leader.checkpoint().unwrap();
    let mut follower = Fixture::new();
    follower.put("mine", "1").unwrap();
    follower.maintain();
    let ends = begin(&follower);
    let checkpoint =
        crate::fixture::transfer(&leader.checkpoints, &info, &follower.checkpoints, 500).unwrap();
    follower.machine.install(checkpoint).unwrap();
    follower.log.clone_from(&leader.log);
    follower.maintain();
    assert!(matches!(ends.lock()[0], Err(DefragmentError::Move(_))), "{ends:?}");
    let hash = leader.view().hash(0).unwrap();
    let follower = follower.restart().unwrap();
    assert_eq!(follower.view().hash(0).unwrap(), hash);
    assert_eq!(follower.stores.numbers().len(), 1, "what was begun is removed");
}

/// etcd's issue 20271: a member was defragmented while it took a snapshot in. It went on in a file that had been replaced,
/// and what it wrote there was gone with its next restart.
#[test]
fn issue_20271_what_follows_a_snapshot_that_met_a_move_outlives_a_restart() {
    for steps in 0.. {
        let mut leader = populated();
        let info = leader.checkpoint().unwrap();
        let mut follower = Fixture::new();
        for number in 0..40 {
            follower.put(&format!("mine{number:02}"), &"y".repeat(50)).unwrap();
        }
        follower.maintain();
        let ends = begin(&follower);
        let (from, to) = (&leader.checkpoints, &follower.checkpoints);
        let checkpoint = crate::fixture::transfer(from, &info, to, 500).unwrap();
        for _ in 0..steps {
            step(&mut follower);
        }
        let was_over = !ends.lock().is_empty();
        follower.machine.install(checkpoint).unwrap();
        follower.log.clone_from(&leader.log);
        follower.purged = Some(info.position.index);
        for number in 0..10 {
            for member in [&mut leader, &mut follower] {
                member.put("later", &number.to_string()).unwrap();
                step(member);
            }
        }
        follower.maintain();
        assert_eq!(ends.lock()[0].is_ok(), was_over);
        let hash = leader.view().hash(0).unwrap();
        assert_eq!(follower.view().hash(0).unwrap(), hash, "{steps} steps");
        let follower = follower.restart().unwrap();
        assert_eq!(follower.view().hash(0).unwrap(), hash, "{steps} steps and a restart");
        assert_eq!(follower.stores.numbers().len(), 1, "{steps} steps");
        if was_over {
            assert!(steps > 3, "{steps} steps");
            return;
        }
    }
}
