//! What a [`Table`](crate::Table) is made of where threads meet: the real thing, and what a test puts in its place to try
//! every order in which threads can run.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// The two things by which threads meet in a table.
pub trait Primitives {
    /// Holds a value that is read by many and replaced by one.
    type Cell<T: Send + Sync + 'static>: Snapshot<T>;
    /// Lets one thread in at a time.
    type Gate: Gate;
}

/// A value that is replaced as a whole.
pub trait Snapshot<T>: Send + Sync {
    /// Holds this one first.
    fn new(value: T) -> Self;

    /// Reads the value that is there now, without waiting for whoever replaces it.
    fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R;

    /// Puts another one there, for all who read from now on.
    fn replace(&self, value: T);
}

/// Lets one thread in at a time.
pub trait Gate: Default + Send + Sync {
    /// Runs `work` while nobody else runs theirs.
    fn alone<R>(&self, work: impl FnOnce() -> R) -> R;
}

/// The real ones: an arc-swap and a mutex.
#[derive(Debug)]
pub struct Real;

impl Primitives for Real {
    type Cell<T: Send + Sync + 'static> = ArcSwap<T>;
    type Gate = Mutex<()>;
}

impl<T: Send + Sync> Snapshot<T> for ArcSwap<T> {
    fn new(value: T) -> ArcSwap<T> {
        ArcSwap::from_pointee(value)
    }

    fn read<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.load())
    }

    fn replace(&self, value: T) {
        self.store(Arc::new(value));
    }
}

impl Gate for Mutex<()> {
    fn alone<R>(&self, work: impl FnOnce() -> R) -> R {
        let _held = self.lock();
        work()
    }
}
