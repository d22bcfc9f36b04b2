//! Clients: what they ask of members, and how their histories come about.
//!
//! ```text
//! world --door--> client --asks--> member        one task a client, all of them tasks of the world
//!                   |
//!                   +--> recorder --> history --> judges
//! ```
//!
//! | kind | file | what it is out for |
//! |---|---|---|
//! | mixed | `kv` | few keys, everybody writes them; reads now, in the past, from a member's own state |
//! | nested | `nested` | transactions within transactions, some of which must come to nothing |
//! | leases | `leases` | keys that hang on leases, kept alive, left, revoked, moved |
//! | watches | `watches` | watchers that go on elsewhere, slow ones among them; one that sees everything at each member |
//! | locks | `locks` | queues of keys on leases, and what a fence protects |
//! | Kubernetes | `kubernetes` | optimistic writes, paged lists at one revision, watches from there on |
//!
//! Every choice is the world's ([`Surroundings::random`]), so that a seed gives the same clients again.

pub mod client;
pub mod door;
mod judged;
pub mod kubernetes;
pub mod kv;
pub mod last;
pub mod leases;
pub mod locks;
pub mod nested;
pub mod record;
pub mod watches;
pub mod words;

use std::future::Future;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};

use self::client::Client;
use self::door::Surroundings;
use self::last::Last;
use self::record::Recorder;
use self::watches::Goals;

/// How many clients of a kind there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mix {
    /// Of mixed reads and writes.
    pub kv: u64,
    /// Of nested transactions.
    pub nested: u64,
    /// Of leases.
    pub leases: u64,
    /// Watching.
    pub watches: u64,
    /// Of locks.
    pub locks: u64,
    /// That write like Kubernetes.
    pub kubernetes_writers: u64,
    /// That list and watch like Kubernetes.
    pub kubernetes_watchers: u64,
}

impl Mix {
    /// Draws how many there are; `random` gives a number below its argument. Every kind is left out now and then, so that
    /// others have the members for themselves; some always write, as without writes there is nothing to see.
    pub fn draw(mut random: impl FnMut(u64) -> u64) -> Mix {
        let mut up_to = |most: u64| {
            if random(4) == 0 { 0 } else { 1 + random(most) }
        };
        Mix {
            kv: up_to(4).max(1),
            nested: up_to(2),
            leases: up_to(5),
            watches: up_to(4),
            locks: up_to(3),
            kubernetes_writers: up_to(3),
            kubernetes_watchers: up_to(2),
        }
    }

    /// The numbers, in the order of the fields.
    pub fn counts(self) -> [u64; 7] {
        let Mix { kv, nested, leases, watches, locks, kubernetes_writers, kubernetes_watchers } =
            self;
        [kv, nested, leases, watches, locks, kubernetes_writers, kubernetes_watchers]
    }

    /// The other way round.
    pub fn of_counts(counts: [u64; 7]) -> Mix {
        let [kv, nested, leases, watches, locks, kubernetes_writers, kubernetes_watchers] = counts;
        Mix { kv, nested, leases, watches, locks, kubernetes_writers, kubernetes_watchers }
    }
}

/// Starts all clients. They end by themselves when the world is over; what they are to come to then, [`Last`] tells them.
pub fn start<S: Surroundings>(world: &S, mix: Mix, recorder: &Recorder) -> Last {
    let (goal, goal_rx) = watch::channel(None);
    let (done_tx, done) = mpsc::channel(64);
    let goals = Goals::new(goal_rx, done_tx);
    let (busy, idle) = mpsc::channel(1);
    let mut clients = Clients { world, recorder, busy: Some(busy), count: 0 };
    clients.start(mix.kv, kv::run);
    clients.start(mix.nested, nested::run);
    clients.start(mix.leases, leases::run);
    clients.start(mix.locks, locks::run);
    clients.start(mix.kubernetes_writers, kubernetes::write);
    clients.start(mix.kubernetes_watchers, |client| {
        let series = client.number << 32;
        kubernetes::list_and_watch(client, series)
    });
    // Who only watches has something to do in the last phase.
    clients.busy = None;
    clients.start(mix.watches, |client| watches::run(client, goals.clone()));
    let members = world.members();
    for member in &members {
        clients.start(1, |client| watches::observe(client, *member, goals.clone()));
    }
    let watchers = mix.watches + members.len() as u64;
    Last::new(idle, (goal, done), (watchers, clients.count))
}

/// Gives each client its number.
struct Clients<'a, S> {
    world: &'a S,
    recorder: &'a Recorder,
    /// Held by every client that asks for something, until it ends.
    busy: Option<mpsc::Sender<()>>,
    count: u64,
}

impl<S: Surroundings> Clients<'_, S> {
    fn start<F>(&mut self, count: u64, run: impl Fn(Client<S>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        for _ in 0..count {
            let client = Client::new(self.world.clone(), self.count, self.recorder.clone());
            self.count += 1;
            let (running, busy) = (run(client), self.busy.clone());
            let task = async move {
                running.await;
                drop(busy);
            };
            self.world.spawn(task.boxed());
        }
    }
}
