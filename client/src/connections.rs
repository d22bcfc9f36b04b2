//! One connection for each endpoint, made when it is first wanted, and the choice among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tonic::transport::{Channel, Endpoint};

/// How long an endpoint is left alone after the first failure to connect; twice as long after each further one.
const REST_MIN: Duration = Duration::from_millis(25);
/// The longest an endpoint is left alone.
const REST_MAX: Duration = Duration::from_secs(1);

/// The endpoints of a client. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Connections {
    slots: Arc<[Slot]>,
    /// Whose turn it is.
    turn: Arc<AtomicUsize>,
}

/// One endpoint.
struct Slot {
    endpoint: Endpoint,
    state: Mutex<State>,
}

/// What is known of an endpoint.
#[derive(Default)]
struct State {
    /// Connects again by itself when the connection breaks.
    channel: Option<Channel>,
    /// Failures to connect in a row.
    failures: u32,
    /// Not tried before this.
    rest_until: Option<Instant>,
}

/// A connection in use.
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    slot: usize,
}

impl Connections {
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Connections {
        let slots =
            endpoints.into_iter().map(|endpoint| Slot { endpoint, state: Mutex::default() });
        Connections { slots: slots.collect(), turn: Arc::default() }
    }

    pub(crate) fn endpoint_count(&self) -> usize {
        self.slots.len()
    }

    /// The next endpoint's connection, skipping those that cannot be reached. Waits while none can, so it must run under a
    /// deadline.
    pub(crate) async fn next(&self) -> Connection {
        loop {
            let mut earliest: Option<Instant> = None;
            for _ in 0..self.slots.len() {
                let slot = self.turn.fetch_add(1, Ordering::Relaxed) % self.slots.len();
                match self.slots[slot].connect().await {
                    Ok(channel) => return Connection { channel, slot },
                    Err(rest_until) => {
                        earliest = Some(earliest.map_or(rest_until, |at| at.min(rest_until)));
                    }
                }
            }
            if let Some(at) = earliest {
                sleep_until(at).await;
            }
        }
    }

    /// Takes note that `connection` turned out to be no longer there.
    pub(crate) async fn lost(&self, connection: &Connection) {
        self.slots[connection.slot].state.lock().await.fail();
    }
}

impl Slot {
    /// The endpoint's connection, or when to try again.
    async fn connect(&self) -> Result<Channel, Instant> {
        let mut state = self.state.lock().await;
        if let Some(channel) = &state.channel {
            return Ok(channel.clone());
        }
        if let Some(until) = state.rest_until.filter(|until| *until > Instant::now()) {
            return Err(until);
        }
        match self.endpoint.connect().await {
            Ok(channel) => {
                *state = State { channel: Some(channel.clone()), ..State::default() };
                Ok(channel)
            }
            Err(_) => Err(state.fail()),
        }
    }
}

impl State {
    /// Forgets the connection and says when to try again.
    fn fail(&mut self) -> Instant {
        let rest = REST_MIN.saturating_mul(1 << self.failures.min(16)).min(REST_MAX);
        let until = Instant::now() + rest;
        *self = State {
            channel: None,
            failures: self.failures.saturating_add(1),
            rest_until: Some(until),
        };
        until
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, REST_MAX, REST_MIN, State};

    #[test]
    fn an_endpoint_that_fails_rests_longer_each_time() {
        let mut state = State::default();
        let mut rests = Vec::new();
        for _ in 0..40 {
            let before = Instant::now();
            rests.push(state.fail().duration_since(before));
        }
        assert!(rests[0] >= REST_MIN);
        assert!(rests.windows(2).all(|pair| pair[1] + Duration::from_millis(5) >= pair[0]));
        assert!(rests.iter().all(|rest| *rest <= REST_MAX + Duration::from_millis(100)));
    }
}
