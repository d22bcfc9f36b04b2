//! Pinned reads.

use std::fmt;
use std::sync::Arc;

use crate::error::ReadError;
use crate::index::{History, Tree};
use crate::read::Lookup;
use crate::record::Record;
use crate::state::{Resolver, State};

/// What was published when it was made, for as long as it is held.
///
/// A view holds no lock. It keeps the memory and the blocks that it needs, the latter no longer than
/// [`Options::view_age_max`](crate::Options::view_age_max): what is then missing is answered with
/// [`ReadError::Compacted`], never with less than was asked for. [`View::kept`] makes one that keeps them to its end.
#[derive(Clone)]
pub struct View {
    state: Arc<State>,
    _kept: Option<Arc<()>>,
}

impl View {
    pub(crate) fn new(state: Arc<State>) -> View {
        View { state, _kept: None }
    }

    /// The same view, which nothing is freed under: for what has to come to its end, and does so by itself. A disk holds
    /// as much more meanwhile as is compacted meanwhile. What was freed before is gone all the same: make it at once.
    pub fn kept(self) -> View {
        let kept = self.state.blocks.keep();
        View { _kept: Some(kept), ..self }
    }

    pub(crate) fn pinned(&self) -> &Arc<State> {
        &self.state
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("revision", &self.state.revision)
            .field("compact_revision", &self.state.compact_revision)
            .finish_non_exhaustive()
    }
}

impl Lookup for View {
    fn tree(&self) -> &Tree {
        &self.state.tree
    }

    fn history(&self) -> &History {
        &self.state.history
    }

    fn newest_revision(&self) -> i64 {
        self.state.revision
    }

    fn oldest_revision(&self) -> i64 {
        self.state.compact_revision
    }

    fn resolve(
        &self,
        changes: impl Iterator<Item = u64>,
        mut visit: impl FnMut(Record),
    ) -> Result<(), ReadError> {
        let mut resolver = Resolver::new(&self.state);
        for change in changes {
            visit(resolver.record(change)?);
        }
        Ok(())
    }
}
