//! Threads held back at a place of the test's choosing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A place that threads pass, unless it is closed.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    held: usize,
}

/// Keeps a gate closed; it opens when this is dropped, even by a test that fails. So declare it after those whose threads
/// it holds: they are waited for when they are dropped.
#[must_use = "the gate opens when this is dropped"]
#[derive(Debug)]
pub struct Closed(Arc<Gate>);

impl Gate {
    /// Passes, as soon as the gate is open.
    pub fn pass(&self) {
        let mut state = self.state();
        while state.is_closed {
            state.held += 1;
            state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.held -= 1;
        }
    }

    /// Closes the gate.
    pub fn close(self: &Arc<Gate>) -> Closed {
        let was_closed = std::mem::replace(&mut self.state().is_closed, true);
        assert!(!was_closed, "the gate is closed already");
        Closed(self.clone())
    }

    /// How many threads it holds back.
    pub fn held(&self) -> usize {
        self.state().held
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.state().is_closed = false;
        self.0.opened.notify_all();
    }
}
