use std::time::Duration;

use kvorum_proto::errors::EtcdError;
use tonic::{Code, ConnectError, Status};

use super::{ATTEMPTS_MAX, Attempts, Class, Decision, PAUSE};

const MIDDLE: f64 = 0.5;

fn decide(class: Class, can_sign_in: bool, status: &Status) -> Decision {
    Attempts::new(class, 1, can_sign_in).decide(status, MIDDLE)
}

fn connect_failed() -> Status {
    let error: Box<dyn std::error::Error + Send + Sync> =
        Box::new(ConnectError("connection refused".into()));
    Status::from_error(error)
}

#[test]
fn only_repeatable_calls_go_again_when_a_server_is_unavailable() {
    let named = [
        EtcdError::NoLeader,
        EtcdError::LeaderChanged,
        EtcdError::Stopped,
        EtcdError::Timeout,
        EtcdError::TimeoutDueToLeaderFail,
        EtcdError::TimeoutDueToConnectionLost,
        EtcdError::TimeoutWaitAppliedIndex,
        EtcdError::Unhealthy,
    ];
    for error in named {
        let status = Status::from(error);
        assert_eq!(decide(Class::Repeatable, false, &status), Decision::Again(PAUSE), "{error}");
        assert_eq!(decide(Class::Once, false, &status), Decision::GiveUp, "{error}");
    }
    let status = Status::unavailable("transport is closing");
    assert_eq!(decide(Class::Repeatable, false, &status), Decision::Again(PAUSE));
    assert_eq!(decide(Class::Once, false, &status), Decision::GiveUp);
}

#[test]
fn no_other_named_error_goes_again() {
    for &error in EtcdError::ALL.iter().filter(|error| error.code() != Code::Unavailable) {
        let status = Status::from(error);
        for class in [Class::Repeatable, Class::Once] {
            assert_eq!(decide(class, false, &status), Decision::GiveUp, "{error}");
        }
    }
    // The name counts, not the code on the wire.
    let status = Status::unavailable(EtcdError::RequestTooManyRequests.message());
    assert_eq!(decide(Class::Repeatable, false, &status), Decision::GiveUp);
    for code in [Code::Unknown, Code::Internal, Code::DeadlineExceeded, Code::Cancelled] {
        let status = Status::new(code, "something");
        assert_eq!(decide(Class::Repeatable, false, &status), Decision::GiveUp, "{code:?}");
    }
}

#[test]
fn what_was_never_sent_always_goes_again() {
    for class in [Class::Repeatable, Class::Once] {
        assert_eq!(decide(class, false, &connect_failed()), Decision::AnotherEndpoint);
        for text in ["there is no address available", "there is no connection available"] {
            let status = Status::unavailable(text);
            assert_eq!(decide(class, false, &status), Decision::Again(PAUSE), "{text}");
        }
    }
}

#[test]
fn a_refused_token_is_replaced_if_there_are_credentials() {
    for error in [EtcdError::UserEmpty, EtcdError::InvalidAuthToken, EtcdError::AuthOldRevision] {
        for class in [Class::Repeatable, Class::Once] {
            let status = Status::from(error);
            assert_eq!(decide(class, true, &status), Decision::NewToken, "{error}");
            assert_eq!(decide(class, false, &status), Decision::GiveUp, "{error}");
        }
    }
    let denied = Status::from(EtcdError::PermissionDenied);
    assert_eq!(decide(Class::Repeatable, true, &denied), Decision::GiveUp);
}

#[test]
fn pauses_come_after_a_quorum_of_endpoints() {
    let mut attempts = Attempts::new(Class::Repeatable, 3, false);
    let status = Status::unavailable("down");
    let pauses: Vec<Decision> = (0..4).map(|_| attempts.decide(&status, MIDDLE)).collect();
    let now = Decision::Again(Duration::ZERO);
    let paused = Decision::Again(PAUSE);
    assert_eq!(pauses, [now, paused, now, paused]);
}

#[test]
fn pauses_vary_by_a_tenth() {
    let status = Status::unavailable("down");
    for (random, micros) in [(0.0, 22_500), (MIDDLE, 25_000), (1.0, 27_500)] {
        let decision = Attempts::new(Class::Repeatable, 1, false).decide(&status, random);
        assert_eq!(decision, Decision::Again(Duration::from_micros(micros)));
    }
}

#[test]
fn attempts_end() {
    let mut attempts = Attempts::new(Class::Repeatable, 1, false);
    let status = Status::unavailable("down");
    for attempt in 1..ATTEMPTS_MAX {
        assert_ne!(attempts.decide(&status, MIDDLE), Decision::GiveUp, "attempt {attempt}");
    }
    assert_eq!(attempts.decide(&status, MIDDLE), Decision::GiveUp);
    // A token that is refused again and again ends too.
    let mut attempts = Attempts::new(Class::Once, 1, true);
    let refused = Status::from(EtcdError::InvalidAuthToken);
    let again =
        (0..).take_while(|_| attempts.decide(&refused, MIDDLE) == Decision::NewToken).count();
    assert_eq!(again as u32 + 1, ATTEMPTS_MAX);
}
