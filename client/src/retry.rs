//! What may be sent twice.
//!
//! These are the rules of etcd's own client. Whether a request may be repeated after an error depends on what it does and
//! on how sure it is that the server did not do it:
//!
//! | class | calls | sent again when |
//! |---|---|---|
//! | repeatable | reads, and writes that do no harm twice | the server was unavailable |
//! | once | everything else that writes | it was certainly never sent |
//! | any | | the token was refused and the client can get a new one |
//!
//! "Unavailable" is the gRPC code, by the table of named errors where the error has a name. A request that could not be
//! sent for want of a connection is not a failed attempt at all: it waits for a connection until its deadline.

use std::time::Duration;

use kvorum_proto::errors::EtcdError;
use tonic::{Code, Status};

use crate::error::was_never_sent;

/// Attempts at one call, the first included.
pub const ATTEMPTS_MAX: u32 = 100;
/// The pause before trying again, once a quorum of endpoints has been tried.
pub const PAUSE: Duration = Duration::from_millis(25);
/// A pause is up to this fraction longer or shorter, so that clients that failed together do not come back together.
pub const PAUSE_JITTER: f64 = 0.10;

/// How a call may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Doing it twice is as good as once: again if the server was unavailable.
    Repeatable,
    /// Doing it twice may do harm: again only if it was never sent.
    Once,
}

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Report it.
    GiveUp,
    /// There was no connection: choose another endpoint, now.
    AnotherEndpoint,
    /// Send it again after this long.
    Again(Duration),
    /// Get a new token, then send it again.
    NewToken,
}

/// The attempts at one call.
#[derive(Debug)]
pub struct Attempts {
    class: Class,
    endpoint_count: u32,
    can_sign_in: bool,
    /// Attempts that reached a server.
    made: u32,
}

impl Attempts {
    /// No attempt yet. `can_sign_in` says whether there are credentials to get a new token with.
    pub fn new(class: Class, endpoint_count: usize, can_sign_in: bool) -> Attempts {
        let endpoint_count = u32::try_from(endpoint_count).unwrap_or(u32::MAX);
        Attempts { class, endpoint_count, can_sign_in, made: 0 }
    }

    /// Decides after an attempt that failed with `status`. `random` is a number from 0 to 1 for the jitter.
    pub fn decide(&mut self, status: &Status, random: f64) -> Decision {
        if was_never_sent(status) {
            return Decision::AnotherEndpoint;
        }
        self.made = self.made.saturating_add(1);
        if self.made >= ATTEMPTS_MAX {
            return Decision::GiveUp;
        }
        let error = EtcdError::from_message(status.message());
        if self.can_sign_in && error.is_some_and(asks_for_new_token) {
            return Decision::NewToken;
        }
        match self.class {
            Class::Repeatable if is_unavailable(status, error) => {
                Decision::Again(self.pause(random))
            }
            Class::Once if is_never_sent_text(status) => Decision::Again(self.pause(random)),
            Class::Repeatable | Class::Once => Decision::GiveUp,
        }
    }

    /// No pause until as many endpoints as make a quorum have had their turn.
    fn pause(&self, random: f64) -> Duration {
        let quorum = self.endpoint_count / 2 + 1;
        if !self.made.is_multiple_of(quorum) {
            return Duration::ZERO;
        }
        PAUSE.mul_f64(1.0 + PAUSE_JITTER * (random * 2.0 - 1.0))
    }
}

pub(crate) fn asks_for_new_token(error: EtcdError) -> bool {
    matches!(error, EtcdError::UserEmpty | EtcdError::InvalidAuthToken | EtcdError::AuthOldRevision)
}

fn is_unavailable(status: &Status, error: Option<EtcdError>) -> bool {
    let named_otherwise =
        error.is_some_and(|error| error.is_known_to_clients() && error.code() != Code::Unavailable);
    status.code() == Code::Unavailable && !named_otherwise
}

/// Texts by which a proxy in between says that it had nowhere to send the request.
fn is_never_sent_text(status: &Status) -> bool {
    status.code() == Code::Unavailable
        && matches!(
            status.message(),
            "there is no address available" | "there is no connection available"
        )
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
