//! A member's workers: the parts that may block, each a step function on a thread of its own.
//!
//! ```text
//! loop { match worker.step() { Again => continue, Wait(time) => bell.wait(time), Stopped => break } }
//! ```
//!
//! Whoever embeds a member may add workers of its own that end with it.
//!
//! Nothing in here starts a thread. The server runs each worker on one; a test or a simulation may step them all from
//! one, told by [`Bell::on_ring`] which has something to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::watchdog::StepTimer;

/// All workers of one member.
pub struct Workers {
    /// In no particular order. The member needs every one of them to be run.
    pub all: Vec<Worker>,
}

/// One worker.
pub struct Worker {
    /// What it is, for a thread's name: at most 15 bytes.
    pub name: &'static str,
    bell: Bell,
    timer: Option<Arc<StepTimer>>,
    step: Box<dyn FnMut() -> Step + Send>,
    panicked: Box<dyn FnMut(&'static str) + Send>,
}

/// What a worker wants after a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// To be stepped again at once.
    Again,
    /// To be stepped when its bell rings, or after this time if one is given.
    Wait(Option<Duration>),
    /// Not to be stepped again: the member has stopped.
    Stopped,
}

impl Worker {
    /// A worker that runs `step`. `panicked` is told the name once a step has panicked, and is to stop the member.
    pub fn new(
        name: &'static str,
        bell: Bell,
        step: impl FnMut() -> Step + Send + 'static,
        panicked: impl FnMut(&'static str) + Send + 'static,
    ) -> Worker {
        Worker { name, bell, timer: None, step: Box::new(step), panicked: Box::new(panicked) }
    }

    /// Notes on `timer` when each step begins and ends.
    pub(crate) fn timed(self, timer: Arc<StepTimer>) -> Worker {
        Worker { timer: Some(timer), ..self }
    }

    /// Does a bounded piece of work. A panic in it stops the member, not the thread.
    pub fn step(&mut self) -> Step {
        self.timer.iter().for_each(|timer| timer.begin());
        let stepped = catch_unwind(AssertUnwindSafe(&mut self.step));
        self.timer.iter().for_each(|timer| timer.end());
        match stepped {
            Ok(step) => step,
            Err(_) => {
                (self.panicked)(self.name);
                Step::Stopped
            }
        }
    }

    /// The bell that rings when there is something to do.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Steps and waits until the member stops. For a thread of its own.
    pub fn run(mut self) {
        loop {
            match self.step() {
                Step::Again => {}
                Step::Wait(time) => self.bell.wait(time),
                Step::Stopped => break,
            }
        }
    }
}

/// Wakes one worker. Ringing twice before it looks is ringing once.
#[derive(Clone, Default)]
pub struct Bell {
    shared: Arc<Shared>,
}

type OnRing = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Default)]
struct State {
    rung: bool,
    waiting: bool,
    on_ring: Option<OnRing>,
}

impl Bell {
    /// Asks for a step.
    pub fn ring(&self) {
        let mut state = self.shared.state.lock();
        if state.rung {
            return;
        }
        state.rung = true;
        let on_ring = state.on_ring.clone();
        let waiting = state.waiting;
        drop(state);
        if waiting {
            self.shared.rung.notify_one();
        }
        if let Some(on_ring) = on_ring {
            on_ring();
        }
    }

    /// Waits until the bell has rung since the last wait, or until `time` has passed.
    pub fn wait(&self, time: Option<Duration>) {
        let mut state = self.shared.state.lock();
        state.waiting = true;
        while !state.rung {
            match time {
                None => self.shared.rung.wait(&mut state),
                Some(time) => {
                    self.shared.rung.wait_for(&mut state, time);
                    break;
                }
            }
        }
        state.waiting = false;
        state.rung = false;
    }

    /// Takes back a ring without waiting: whether it had rung. For one thread that steps several workers.
    pub fn take(&self) -> bool {
        std::mem::take(&mut self.shared.state.lock().rung)
    }

    /// Calls `callback` at every ring that asks for a step not asked for yet, on the thread that rings.
    pub fn on_ring(&self, callback: impl Fn() + Send + Sync + 'static) {
        let callback: OnRing = Arc::new(callback);
        let mut state = self.shared.state.lock();
        state.on_ring = Some(callback.clone());
        let rung = state.rung;
        drop(state);
        if rung {
            callback();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.ring();
        bell.ring();
        bell.wait(None);
        assert!(!bell.take());
    }

    #[test]
    fn a_ring_wakes_the_waiting_thread() {
        let bell = Bell::default();
        let waiting = bell.clone();
        let thread = std::thread::spawn(move || waiting.wait(None));
        bell.ring();
        assert!(thread.join().is_ok());
    }

    #[test]
    fn callbacks_count_rings_not_yet_taken() {
        let bell = Bell::default();
        let count = Arc::new(AtomicUsize::new(0));
        bell.ring();
        let counter = count.clone();
        bell.on_ring(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        bell.ring();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(bell.take());
        bell.ring();
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_panic_stops_the_worker_and_is_told() {
        let told = Arc::new(Mutex::new(None));
        let tell = told.clone();
        let mut worker = Worker::new(
            "test",
            Bell::default(),
            || panic!("on purpose"),
            move |name| *tell.lock() = Some(name),
        );
        assert_eq!(worker.step(), Step::Stopped);
        assert_eq!(*told.lock(), Some("test"));
    }
}
