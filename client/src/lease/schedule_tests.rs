use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kvorum_proto::api::etcdserverpb::LeaseKeepAliveResponse;
use kvorum_proto::errors::EtcdError;
use proptest::prelude::*;

use super::Schedule;
use crate::error::Error;
use crate::lease::clock::Moment;
use crate::lease::listener::Listener;
use crate::lease::mailbox::{Added, Known};

const fn at(millis: u64) -> Moment {
    Duration::from_millis(millis)
}

fn schedule() -> Schedule {
    Schedule::new(at(5000), 1)
}

fn add(schedule: &mut Schedule, id: i64, known: Known, now: Moment) -> Arc<Listener> {
    let listener = Arc::new(Listener::new(known.deadline()));
    schedule.add(Added { id, listener: listener.clone(), known }, now);
    listener
}

/// A lease of 9 seconds, granted at 0.
fn granted(schedule: &mut Schedule, id: i64) -> Arc<Listener> {
    add(schedule, id, Known::Ttl(at(9000), at(0)), at(0))
}

fn answer(id: i64, ttl: i64) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse { id, ttl, ..Default::default() }
}

/// The error that ended a lease.
fn end(listener: &Listener) -> Error {
    loop {
        match listener.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(error))) => return error,
            other => panic!("it has not ended: {other:?}"),
        }
    }
}

#[test]
fn a_keep_alive_is_sent_at_each_third_of_the_ttl() {
    let mut schedule = schedule();
    let listener = granted(&mut schedule, 7);
    assert_eq!(schedule.wakes_at(), Some(at(3000)));
    assert_eq!(schedule.next_request(at(2999)), None);
    assert_eq!(schedule.next_request(at(3100)), Some(7));
    assert_eq!(schedule.next_request(at(3100)), None);
    assert!(schedule.answered(&answer(7, 9), at(3500)));
    // Counted from the sending, not from the answer.
    assert_eq!(schedule.wakes_at(), Some(at(6100)));
    assert!(listener.is_alive(at(12_099)));
    assert!(!listener.is_alive(at(12_100)));
}

#[test]
fn a_lease_of_unknown_ttl_is_sent_for_at_once() {
    let mut schedule = schedule();
    let listener = add(&mut schedule, 7, Known::NothingUntil(at(3100)), at(100));
    assert_eq!(schedule.next_request(at(100)), Some(7));
    assert!(!schedule.gives_up(at(1099)) && schedule.gives_up(at(1100)));
    schedule.lost();
    schedule.expire(at(3099));
    assert!(!schedule.is_empty());
    schedule.expire(at(3100));
    assert!(schedule.is_empty() && matches!(end(&listener), Error::LeaseExpired));
}

#[test]
fn what_was_unanswered_is_sent_again_at_once_and_counts_from_then() {
    let mut schedule = schedule();
    let listener = granted(&mut schedule, 7);
    assert_eq!(schedule.next_request(at(3000)), Some(7));
    assert!(schedule.gives_up(at(6000)));
    schedule.lost();
    assert_eq!(schedule.next_request(at(6100)), Some(7));
    assert!(schedule.answered(&answer(7, 9), at(6200)));
    assert!(listener.is_alive(at(15_099)) && !listener.is_alive(at(15_100)));
}

#[test]
fn one_that_is_not_answered_comes_after_the_others_next_time() {
    let mut schedule = schedule();
    let listeners = [1, 2, 3].map(|id| granted(&mut schedule, id));
    for id in 1..=3 {
        assert_eq!(schedule.next_request(at(3000 + id)), i64::try_from(id).ok());
    }
    // The member waits for something before it answers for the first, and the others wait behind it.
    assert!(schedule.gives_up(at(6001)));
    schedule.lost();
    for id in [2, 3, 1] {
        assert_eq!(schedule.next_request(at(6010)), Some(id));
    }
    assert!(
        schedule.answered(&answer(2, 9), at(6011)) && schedule.answered(&answer(3, 9), at(6011))
    );
    assert_eq!(listeners.map(|listener| listener.is_alive(at(9000))), [false, true, true]);
}

#[test]
fn a_ttl_of_zero_ends_it() {
    let mut schedule = schedule();
    let listener = granted(&mut schedule, 7);
    schedule.next_request(at(3000));
    assert!(schedule.answered(&answer(7, 0), at(3001)));
    assert!(schedule.is_empty());
    assert!(matches!(end(&listener), Error::Etcd(EtcdError::LeaseNotFound)));
}

#[test]
fn an_answer_that_is_too_late_renews_nothing() {
    let mut schedule = schedule();
    let listener = granted(&mut schedule, 7);
    schedule.next_request(at(8999));
    assert!(schedule.answered(&answer(7, 9), at(9000)));
    assert!(schedule.is_empty() && matches!(end(&listener), Error::LeaseExpired));
}

#[test]
fn the_answer_to_a_keep_alive_from_before_a_lease_was_taken_up_again_renews_nothing() {
    let mut schedule = schedule();
    let first = granted(&mut schedule, 7);
    assert_eq!(schedule.next_request(at(3000)), Some(7));
    first.close();
    schedule.released(7);
    assert!(schedule.is_empty());
    let second = add(&mut schedule, 7, Known::NothingUntil(at(8000)), at(4000));
    assert_eq!(schedule.next_request(at(4000)), Some(7));
    assert!(!schedule.answered(&answer(7, 9), at(4100)));
    assert!(!second.is_alive(at(8000)));
    let third = add(&mut schedule, 7, Known::NothingUntil(at(9000)), at(4000));
    assert!(schedule.answered(&answer(7, 9), at(4200)));
    assert!(third.is_alive(at(12_999)) && !third.is_alive(at(13_000)));
}

#[test]
fn readers_share_a_lease_and_the_last_one_takes_it_along() {
    let mut schedule = schedule();
    let first = granted(&mut schedule, 7);
    let second = add(&mut schedule, 7, Known::NothingUntil(at(100)), at(0));
    assert!(second.is_alive(at(8999)));
    assert_eq!(schedule.next_request(at(3000)), Some(7));
    assert!(schedule.answered(&answer(7, 9), at(3000)));
    assert!(first.is_alive(at(11_999)) && second.is_alive(at(11_999)));
    first.close();
    schedule.released(7);
    assert!(!schedule.is_empty());
    second.close();
    schedule.released(7);
    assert!(schedule.is_empty() && schedule.wakes_at().is_none());
}

#[test]
fn a_lease_that_is_refused_takes_no_other_with_it() {
    let mut schedule = Schedule::new(at(5000), 2);
    let (mine, other) = (granted(&mut schedule, 1), granted(&mut schedule, 2));
    let denied = Error::Etcd(EtcdError::PermissionDenied);
    assert_eq!(schedule.next_request(at(3000)), Some(1));
    assert_eq!(schedule.next_request(at(3000)), Some(2));
    schedule.refused(&denied);
    schedule.lost();
    assert_eq!(schedule.next_request(at(3100)), Some(1));
    assert_eq!(schedule.next_request(at(3100)), None, "one by one");
    schedule.refused(&denied);
    schedule.lost();
    assert!(mine.is_alive(at(3200)), "another member may think otherwise");
    assert_eq!(schedule.next_request(at(3200)), Some(2));
    assert!(schedule.answered(&answer(2, 9), at(3300)));
    assert_eq!(schedule.next_request(at(3300)), Some(1));
    schedule.refused(&denied);
    schedule.lost();
    assert!(matches!(end(&mine), Error::Etcd(EtcdError::PermissionDenied)));
    assert!(other.is_alive(at(12_000)));
}

/// What a server knows: when the lease ends if nothing renews it.
#[derive(Default)]
struct Server {
    ends: HashMap<i64, Moment>,
    /// Keep-alives in the order they were sent.
    asked: Vec<i64>,
}

const TTL_SECONDS: i64 = 3;
const TTL: Moment = at(3000);
const LEASES: i64 = 4;

#[derive(Clone, Debug)]
enum Happens {
    Time(u64),
    Send,
    Serve,
    Deliver,
    Lost,
    Leave(i64),
    Take(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => (1..900u64).prop_map(Happens::Time),
        4 => Just(Happens::Send),
        4 => Just(Happens::Serve),
        4 => Just(Happens::Deliver),
        1 => Just(Happens::Lost),
        1 => (0..LEASES).prop_map(Happens::Leave),
        1 => (0..LEASES).prop_map(Happens::Take),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is lost, late or left: a reader who is told that a lease is alive is never wrong, and no keep-alive that
    /// could be sent is forgotten.
    #[test]
    fn a_lease_that_counts_as_alive_is_alive(steps in prop::collection::vec(happens(), 1..200)) {
        let mut now = at(1000);
        let mut schedule = Schedule::new(at(5000), 1);
        let mut server = Server::default();
        let mut answers: Vec<LeaseKeepAliveResponse> = Vec::new();
        // Of a lease that was taken up nothing is known before the first answer.
        let mut listeners: HashMap<i64, (Arc<Listener>, bool)> = HashMap::new();
        for id in 0..LEASES {
            server.ends.insert(id, now + TTL);
            listeners.insert(id, (add(&mut schedule, id, Known::Ttl(TTL, now), now), true));
        }
        for step in steps {
            match step {
                Happens::Time(millis) => now += at(millis),
                Happens::Send => server.asked.extend(schedule.next_request(now)),
                Happens::Serve if !server.asked.is_empty() => {
                    let id = server.asked.remove(0);
                    let end = server.ends.get_mut(&id).unwrap();
                    let is_alive = *end > now;
                    if is_alive {
                        *end = now + TTL;
                    }
                    answers.push(answer(id, if is_alive { TTL_SECONDS } else { 0 }));
                }
                Happens::Deliver if !answers.is_empty() => {
                    schedule.answered(&answers.remove(0), now);
                }
                Happens::Lost => {
                    schedule.lost();
                    server.asked.clear();
                    answers.clear();
                }
                Happens::Leave(id) => {
                    if let Some((listener, _)) = listeners.remove(&id) {
                        listener.close();
                        schedule.released(id);
                    }
                }
                Happens::Take(id) if !listeners.contains_key(&id) => {
                    let known = Known::NothingUntil(now + at(2000));
                    listeners.insert(id, (add(&mut schedule, id, known, now), false));
                }
                _ => {}
            }
            for (id, (listener, known)) in &mut listeners {
                *known |= listener.poll(&mut Context::from_waker(Waker::noop())).is_ready();
                let is_alive = *known && listener.is_alive(now);
                prop_assert!(!is_alive || server.ends[id] > now, "lease {id} at {now:?}");
            }
            schedule.expire(now);
            prop_assert!(schedule.wakes_at().is_some() || schedule.is_empty());
        }
    }
}
