//! A move of a store to another backend, as its caller orders it.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::backend::Backend;
use crate::error::BackendError;

/// Why a store stayed where it was. Nothing is lost: it goes on there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RelocateError {
    /// Another move is under way.
    #[error("the store is being moved already")]
    UnderWay,
    /// The new backend could not be written, or could not be made the one that is opened next.
    #[error("the new store cannot be filled: {0}")]
    Target(Arc<dyn std::error::Error + Send + Sync>),
    /// The store's content was replaced, or the store was closed, before the move was over.
    #[error("the store was replaced or closed meanwhile")]
    Overtaken,
}

impl From<BackendError> for RelocateError {
    fn from(error: BackendError) -> RelocateError {
        RelocateError::Target(Arc::new(error))
    }
}

/// What a move came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Relocated {
    /// Bytes that the store occupied before.
    pub bytes_before: u64,
    /// Bytes that it occupies now.
    pub bytes_after: u64,
}

type Switch = Box<dyn FnOnce(&Arc<dyn Backend>) -> Result<(), RelocateError> + Send>;
type Ended = Box<dyn FnOnce(Result<Relocated, RelocateError>) + Send>;

/// A move to be made by the maintainer, block by block, while the store is written and read.
///
/// ```text
/// blocks copied, those that come meanwhile as well -> new backend committed -> switched -> old backend left to old views
/// ```
pub struct Relocation {
    to: Option<Arc<dyn Backend>>,
    switch: Option<Switch>,
    ended: Option<Ended>,
}

impl Relocation {
    /// A move to `to`, which is empty. `switch` makes it the one that the next open finds, durably, and may refuse; it is
    /// called once `to` holds everything, and nothing is written to either meanwhile. `ended` is told what became of
    /// it, in any case, and when the new backend is not held any more if nothing did.
    pub fn new(
        to: Arc<dyn Backend>,
        switch: impl FnOnce(&Arc<dyn Backend>) -> Result<(), RelocateError> + Send + 'static,
        ended: impl FnOnce(Result<Relocated, RelocateError>) + Send + 'static,
    ) -> Relocation {
        Relocation { to: Some(to), switch: Some(Box::new(switch)), ended: Some(Box::new(ended)) }
    }

    pub(crate) fn to(&self) -> Result<&Arc<dyn Backend>, RelocateError> {
        self.to.as_ref().ok_or(RelocateError::Overtaken)
    }

    pub(crate) fn switch(&mut self) -> Result<Arc<dyn Backend>, RelocateError> {
        let (to, switch) = (self.to()?.clone(), self.switch.take());
        switch.ok_or(RelocateError::Overtaken)?(&to)?;
        Ok(to)
    }

    pub(crate) fn end(mut self, with: Result<Relocated, RelocateError>) {
        self.tell(with);
    }

    fn tell(&mut self, with: Result<Relocated, RelocateError>) {
        self.to = None;
        if let Some(ended) = self.ended.take() {
            ended(with);
        }
    }
}

impl Drop for Relocation {
    fn drop(&mut self) {
        self.tell(Err(RelocateError::Overtaken));
    }
}

impl fmt::Debug for Relocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relocation").finish_non_exhaustive()
    }
}

/// A move under way.
#[derive(Debug)]
pub(crate) struct Relocating {
    pub relocation: Relocation,
    /// The serials of the blocks that the new backend holds.
    pub copied: HashSet<u64>,
    /// The places among the store's blocks looked at so far in this round; 0: a round begins.
    pub next_change: u64,
    /// Where the first round ends: with the last block that was there when the move began.
    pub first_end: u64,
    /// Whether this round found a block to copy.
    pub has_copied: bool,
    /// What is left is what was written since the first round. Nothing else is
    /// done until it is moved, and there are no rests.
    pub is_catching_up: bool,
}

impl Relocating {
    pub fn new(relocation: Relocation, first_end: u64) -> Relocating {
        Relocating {
            relocation,
            first_end,
            copied: HashSet::new(),
            next_change: 0,
            has_copied: false,
            is_catching_up: false,
        }
    }
}
