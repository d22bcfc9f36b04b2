//! Watchers at every member, which go on elsewhere when their stream breaks.
//!
//! A series of watchers is one client's view of a range: each watcher begins where the one before it ended, so that together
//! they miss nothing. Only a watcher "from now", and one whose history was compacted away, begins a new series.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use kvorum_proto::wire::Event;
use kvorum_types::MemberId;
use kvorum_watch::{Create, Filters, Reply, Stream};
use tokio::sync::Notify;

use super::client::Client;
use super::door::{Door, Surroundings};
use super::record::Heard;
use super::words::prefix_end;

/// What a series of watchers wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Keys that begin with this; all keys, if it is empty.
    pub prefix: &'static str,
    /// 0: from now on.
    pub start_revision: i64,
    /// What was before each change.
    pub prev_kv: bool,
    /// Progress, now and then.
    pub progress_notify: bool,
    /// Progress, when asked for.
    pub asks_progress: bool,
    /// What is left out.
    pub filters: Filters,
    /// Revisions may be told in parts.
    pub fragment: bool,
    /// Reads little, and seldom.
    pub is_slow: bool,
    /// When the client ends the stream.
    pub time: Duration,
}

/// Where a series stands.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// The series.
    pub series: u64,
    /// The next revision it wants; 0: from now on.
    pub next: i64,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// By the client, or with the member.
    Broken,
    /// What it wants is compacted away.
    Compacted,
}

/// How long a client waits for news before it looks whether it should end.
const LOOK: Duration = Duration::from_millis(500);

/// How much a fast and a slow client read at a time.
const READ_BYTES: (usize, usize) = (64 * 1024, 64);

/// How long a slow client does something else at most.
const SLOW_REST: Duration = Duration::from_secs(4);

/// Watches until the end, and then on to `goal`, once that is told.
pub async fn run<S: Surroundings>(mut client: Client<S>, goals: Goals) {
    let mut made = 0;
    while !client.world.is_over() {
        made += 1;
        let wish = wish(&client);
        let mut at = Ending { series: client.number << 32 | made, next: wish.start_revision };
        for _ in 0..=client.world.random(5) {
            if client.world.is_over()
                || follow(&mut client, &wish, &mut at).await == Ended::Compacted
            {
                break;
            }
        }
    }
    goals.complete(&mut client, None).await;
}

/// Watches everything at one member, from the beginning on: what that member makes of history.
pub async fn observe<S: Surroundings>(mut client: Client<S>, member: MemberId, goals: Goals) {
    client.stay_at(member);
    let mut at = Ending { series: client.number << 32, next: 1 };
    while !client.world.is_over() {
        let wish = Wish {
            prev_kv: client.once_in(2),
            asks_progress: true,
            time: Duration::from_secs(600),
            ..Wish::default()
        };
        follow(&mut client, &wish, &mut at).await;
        client.rest(LOOK).await;
    }
    goals.complete(&mut client, Some(at)).await;
}

fn wish<S: Surroundings>(client: &Client<S>) -> Wish {
    let prefix = *client.one_of(&["", "", super::kv::PREFIX, super::nested::PREFIX]);
    let start_revision = match client.world.random(6) {
        0 | 1 => 0,
        3 | 4 => client.recorder.compacted(),
        2 => (client.seen - client.world.random(100) as i64).max(1),
        _ => client.seen + client.world.random(20) as i64,
    };
    let filters = match client.world.random(6) {
        0 => Filters { no_put: true, no_delete: false },
        1 => Filters { no_put: false, no_delete: true },
        _ => Filters::default(),
    };
    Wish {
        prefix,
        start_revision,
        prev_kv: client.once_in(2),
        progress_notify: client.once_in(2),
        asks_progress: client.once_in(2),
        filters,
        fragment: client.once_in(3),
        is_slow: client.once_in(2),
        time: Duration::from_millis(500 + client.world.random(20_000)),
    }
}

/// The request of a watcher that goes on where the series stands.
fn create(wish: &Wish, at: Ending) -> Create {
    let (key, range_end) = match wish.prefix {
        "" => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        prefix => (Bytes::from_static(prefix.as_bytes()), prefix_end(prefix)),
    };
    Create {
        key,
        range_end,
        start_revision: at.next,
        progress_notify: wish.progress_notify,
        filters: wish.filters,
        prev_kv: wish.prev_kv,
        watch_id: 0,
        fragment: wish.fragment,
        with_state: false,
    }
}

/// Watches for as long as the wish says, or until the stream breaks.
pub async fn follow<S: Surroundings>(
    client: &mut Client<S>,
    wish: &Wish,
    at: &mut Ending,
) -> Ended {
    let Some(door) = client.door().await else { return Ended::Broken };
    let until = client.world.now() + u64::try_from(wish.time.as_nanos()).unwrap_or(u64::MAX);
    let Some(watching) = Watching::open(client, &door, wish, *at) else {
        client.rest(LOOK).await;
        return Ended::Broken;
    };
    loop {
        let is_over = client.world.now() >= until || client.world.is_over();
        if let Some(ended) = watching.read(client, at) {
            // A member that is about to stop has ended its streams already.
            client.move_on();
            client.rest(LOOK).await;
            return ended;
        }
        if is_over {
            return Ended::Broken;
        }
        if wish.asks_progress && client.once_in(3) {
            watching.stream.request_progress();
        }
        if wish.is_slow {
            client.rest(SLOW_REST).await;
        }
        if watching.wait(client, &door).await == Waited::Closed {
            client.move_on();
            return Ended::Broken;
        }
    }
}

/// A stream with one watcher.
struct Watching {
    stream: Stream,
    rung: Arc<Notify>,
    /// Its number in the history.
    number: usize,
    is_slow: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Waited {
    Open,
    Closed,
}

impl Watching {
    fn open<S: Surroundings>(
        client: &Client<S>,
        door: &Door,
        wish: &Wish,
        at: Ending,
    ) -> Option<Watching> {
        let rung = Arc::new(Notify::new());
        let ring = rung.clone();
        let stream = door.hub.open(Arc::new(move || ring.notify_one())).ok()?;
        let create = create(wish, at);
        let call = client.recorder.ask(client.world.now(), (client.number, door.id));
        let number = client.recorder.watch(call, create.clone(), at.series);
        stream.create(create);
        Some(Watching { stream, rung, number, is_slow: wish.is_slow })
    }

    /// Reads what there is. How the stream has ended, if it has.
    fn read<S: Surroundings>(&self, client: &mut Client<S>, at: &mut Ending) -> Option<Ended> {
        let (fast, slow) = READ_BYTES;
        let replies = self.stream.drain(if self.is_slow { slow } else { fast });
        for reply in replies {
            client.seen = client.seen.max(reply.revision);
            self.note(client, &reply, at);
            if reply.compact_revision != 0 {
                at.next = reply.compact_revision;
                return Some(Ended::Compacted);
            }
            if reply.canceled {
                return Some(Ended::Broken);
            }
        }
        self.stream.ended().map(|_| Ended::Broken)
    }

    fn note<S: Surroundings>(&self, client: &Client<S>, reply: &Reply, at: &mut Ending) {
        let events: Vec<Event> = reply.events.iter().collect();
        if events.len() != reply.events.len() {
            client.recorder.doubt(format!("a reply whose events cannot be read: {reply:?}"));
        }
        let last = events.iter().filter_map(|event| Some(event.kv()?.mod_revision())).max();
        if reply.created && at.next == 0 {
            at.next = reply.revision + 1;
        }
        if !reply.fragment {
            at.next = at.next.max(last.map_or(0, |last| last + 1));
        }
        let is_of_stream = reply.watch_id < 0;
        // What is told as progress is all there was up to there.
        if events.is_empty() && !reply.created && !reply.canceled {
            at.next = at.next.max(reply.revision + 1);
        }
        client.recorder.heard(
            self.number,
            Heard {
                at: client.world.now(),
                place: 0,
                revision: reply.revision,
                is_of_stream,
                created: reply.created,
                canceled: reply.canceled,
                compact_revision: reply.compact_revision,
                fragment: reply.fragment,
                events,
            },
        );
    }

    async fn wait<S: Surroundings>(&self, client: &Client<S>, door: &Door) -> Waited {
        let mut closed = door.closed.clone();
        let closed = pin!(async move {
            let _ = closed.wait_for(|is_closed| *is_closed).await;
        });
        let rung = pin!(self.rung.notified());
        let news = select(rung, client.world.sleep(LOOK));
        match select(closed, news).await {
            Either::Left(_) => Waited::Closed,
            Either::Right(_) => Waited::Open,
        }
    }
}

/// Up to which revision every watcher is to hear everything, once the faults have stopped.
#[derive(Clone, Debug)]
pub struct Goals {
    goal: tokio::sync::watch::Receiver<Option<i64>>,
    done: tokio::sync::mpsc::Sender<u64>,
}

impl Goals {
    /// The other ends are the last phase's: it tells the goal, and hears who has come to it.
    pub fn new(
        goal: tokio::sync::watch::Receiver<Option<i64>>,
        done: tokio::sync::mpsc::Sender<u64>,
    ) -> Goals {
        Goals { goal, done }
    }

    /// Watches everything, from where a series stands or from the goal on, until it has heard of the goal; whoever judges
    /// the time sees to it that it is not for ever.
    async fn complete<S: Surroundings>(mut self, client: &mut Client<S>, from: Option<Ending>) {
        let Ok(goal) = self.goal.wait_for(Option::is_some).await.map(|goal| *goal) else { return };
        let goal = goal.unwrap_or(0);
        let mut at = from.unwrap_or(Ending { series: client.number << 32, next: goal });
        let wish = Wish { asks_progress: true, ..Wish::default() };
        while at.next <= goal {
            let Some(door) = client.door().await else {
                client.world.sleep(LOOK).await;
                continue;
            };
            let Some(watching) = Watching::open(client, &door, &wish, at) else {
                client.world.sleep(LOOK).await;
                continue;
            };
            while at.next <= goal {
                if watching.read(client, &mut at).is_some() {
                    client.world.sleep(LOOK).await;
                    break;
                }
                watching.stream.request_progress();
                if watching.wait(client, &door).await == Waited::Closed {
                    break;
                }
            }
        }
        let _ = self.done.send(client.number).await;
    }
}
