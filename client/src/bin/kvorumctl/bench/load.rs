//! The clients of a run: how many, how fast, how long.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::keep_alive::Renewer;
use super::plan::Plan;
use super::recorder::Recorder;
use super::transport::{Lane, Sender};
use super::work::Work;

/// The pause of a client whose connection could not be made again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);

/// When operations begin, and when no more do.
#[derive(Debug)]
pub struct Pace {
    end: End,
    /// Operations a second; `None` for no limit.
    rate: Option<u64>,
    started: Instant,
    /// Operations begun.
    begun: Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
enum End {
    After(u64),
    At(Instant),
}

impl Pace {
    /// The pace of the measured phase.
    pub fn of(plan: &Plan) -> Pace {
        match plan.duration {
            Some(duration) => Pace::lasting(duration, plan.rate),
            None => Pace::new(End::After(plan.total), plan.rate),
        }
    }

    /// The pace of a phase that lasts so long.
    pub fn lasting(duration: Duration, rate: Option<u64>) -> Pace {
        let mut pace = Pace::new(End::After(0), rate);
        pace.end = End::At(pace.started + duration);
        pace
    }

    /// As fast as can be, so many operations.
    pub fn counting(operations: u64) -> Pace {
        Pace::new(End::After(operations), None)
    }

    fn new(end: End, rate: Option<u64>) -> Pace {
        Pace { end, rate, started: Instant::now(), begun: Cell::new(0) }
    }

    /// How much of how much is done: operations, or milliseconds.
    pub fn progress(&self, finished: u64) -> (u64, u64) {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match self.end {
            End::After(total) => (finished, total),
            End::At(end) => (millis(self.started.elapsed()), millis(end - self.started)),
        }
    }

    /// Waits for the turn of the next operation and returns when it counts as begun; `None` if there is none any more.
    ///
    /// At a limited rate each operation has its time. One that comes late because all clients were busy counts from the
    /// time it was due: its wait is part of what a user would have seen.
    pub async fn next(&self) -> Option<Instant> {
        let number = self.begun.get();
        let now = Instant::now();
        match self.end {
            End::After(total) if number >= total => return None,
            End::At(end) if now >= end => return None,
            _ => self.begun.set(number + 1),
        }
        let Some(rate) = self.rate else { return Some(now) };
        let due = self.started + Duration::from_secs_f64(number as f64 / rate as f64);
        if due <= now {
            return Some(due);
        }
        if let End::At(end) = self.end
            && due >= end
        {
            return None;
        }
        sleep(due - now).await;
        // The timer is coarse; its own delay is not the server's.
        Some(Instant::now())
    }
}

/// Clients that share work and connections.
pub struct Load<'a> {
    pub work: Work,
    pub clients: usize,
    /// How long one operation may take.
    pub timeout: Duration,
    pub lanes: &'a [Rc<Lane>],
}

impl Load<'_> {
    /// Runs to the end; operations that have begun are waited for.
    pub async fn run(self, pace: Rc<Pace>, recorder: Rc<RefCell<Recorder>>) {
        let is_streamed = self.work.is_streamed();
        let work = Rc::new(RefCell::new(self.work));
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let client = Client {
                lane: self.lanes[number % self.lanes.len()].clone(),
                work: work.clone(),
                pace: pace.clone(),
                recorder: recorder.clone(),
                timeout: self.timeout,
            };
            if is_streamed {
                clients.spawn_local(Renewer::of(client).run());
            } else {
                clients.spawn_local(client.run());
            }
        }
        while clients.join_next().await.is_some() {}
    }
}

/// Sends a request, waits for the answer, and again.
pub struct Client {
    pub lane: Rc<Lane>,
    pub work: Rc<RefCell<Work>>,
    pub pace: Rc<Pace>,
    pub recorder: Rc<RefCell<Recorder>>,
    pub timeout: Duration,
}

impl Client {
    async fn run(self) {
        let mut sender: Option<Sender> = None;
        while let Some(begun) = self.pace.next().await {
            let Some(connected) = self.connected(sender.take()).await else { continue };
            sender = self.operate(connected, begun).await;
        }
    }

    /// A connection to send on. Failing to get one is a failed operation.
    pub async fn connected(&self, sender: Option<Sender>) -> Option<Sender> {
        if sender.is_some() {
            return sender;
        }
        match self.lane.sender().await {
            Ok(sender) => Some(sender),
            Err(error) => {
                self.recorder.borrow_mut().failure(error);
                sleep(RECONNECT_PAUSE).await;
                None
            }
        }
    }

    /// One operation; gives the connection back if it can be used again.
    async fn operate(&self, mut sender: Sender, begun: Instant) -> Option<Sender> {
        let call = self.work.borrow_mut().next();
        let (name, put) = (call.method.name(), call.put);
        let answer = timeout(self.timeout, self.lane.call(&mut sender, call)).await;
        let now = Instant::now();
        match answer {
            Ok(Ok(bytes)) => {
                self.recorder.borrow_mut().success(name, now - begun, bytes, now);
                if let Some(put) = put {
                    self.work.borrow_mut().answered(put);
                }
                Some(sender)
            }
            Ok(Err(error)) => {
                self.recorder.borrow_mut().failure(error.to_string());
                if error.is_broken() {
                    self.lane.broken(&sender).await;
                    return None;
                }
                Some(sender)
            }
            Err(_) => {
                self.recorder.borrow_mut().failure("context deadline exceeded".into());
                Some(sender)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{End, Pace};

    #[tokio::test]
    async fn a_total_ends_after_so_many() {
        let pace = Pace::new(End::After(3), None);
        for _ in 0..3 {
            assert!(pace.next().await.is_some());
        }
        assert!(pace.next().await.is_none());
        assert_eq!(pace.progress(2), (2, 3));
    }

    #[tokio::test]
    async fn a_duration_ends_in_time() {
        let over = Pace::new(End::At(Instant::now()), None);
        assert!(over.next().await.is_none());
        let hour = Pace::lasting(Duration::from_secs(3600), None);
        assert!(hour.next().await.is_some());
        assert_eq!(hour.progress(9).1, 3_600_000);
        // The second operation would be due after the end.
        let slow = Pace::lasting(Duration::from_millis(500), Some(1));
        assert!(slow.next().await.is_some());
        assert!(slow.next().await.is_none());
    }

    #[tokio::test]
    async fn an_operation_that_is_late_counts_from_when_it_was_due() {
        let mut pace = Pace::new(End::After(10), Some(1000));
        pace.started = Instant::now() - Duration::from_secs(5);
        let first = pace.next().await.unwrap();
        let second = pace.next().await.unwrap();
        assert_eq!(first, pace.started);
        assert_eq!(second, pace.started + Duration::from_millis(1));
    }
}
