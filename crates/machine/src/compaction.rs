//! The compact command.

use kvorum_mvcc as mvcc;
use kvorum_mvcc::Store;
use kvorum_proto::wire::{CompactionRequest, CompactionResponse};

use crate::command::Failure;
use crate::outcome::CommandError;
use crate::range;

/// Raises the compaction revision. The current revision stays as it is.
///
/// Whether the client wants to wait until the history is gone from the disk (`physical`) is a matter of the member that
/// answers it.
pub(crate) fn execute(
    store: &mut Store,
    request: &CompactionRequest,
) -> Result<CompactionResponse, Failure> {
    match store.compact(request.revision) {
        Ok(()) => Ok(CompactionResponse { header: range::header(store.revision()) }),
        Err(mvcc::ReadError::Compacted) => Err(CommandError::Compacted.into()),
        Err(mvcc::ReadError::Future { .. }) => Err(CommandError::FutureRevision.into()),
        Err(other) => Err(Failure::store(other)),
    }
}
