//! What etcd refuses before it reads or proposes anything.
//!
//! These are functions of the request alone. The server calls them on what clients send; apply calls them again on what
//! the log holds, so that a proposer with a fault cannot make members differ. Apply sets no limit on the operations of a
//! transaction: the limit is a matter of each member's configuration.

use kvorum_proto::wire::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

use crate::overlap;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// No key, or a compare without one.
    #[error("key is not provided")]
    EmptyKey,
    /// An operation of a transaction with nothing in it. etcd words it as `key not found`.
    #[error("an operation is not set")]
    OperationUnset,
    /// `ignore_value` together with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// A transaction with more compares or operations than allowed.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// Two puts on one key, or a put on a key that is deleted as well, in one branch of a transaction.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or sort target outside its enum.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// A streamed range in another order than by ascending key.
    #[error("RangeStream does not support custom sort orders")]
    StreamSortOrder,
    /// A streamed range with a bound on create or mod revisions.
    #[error("RangeStream does not support revision filters")]
    StreamRevisionFilter,
}

/// Checks a range request.
pub fn range(request: &RangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    let order_known = SortOrder::try_from(request.sort_order).is_ok();
    let target_known = SortTarget::try_from(request.sort_target).is_ok();
    if !order_known || !target_known {
        return Err(RequestError::InvalidSortOption);
    }
    Ok(())
}

/// Checks a range request that is to be answered in chunks, which neither sorting nor filtering allows. A target other
/// than the key counts as sorting even without an order: the answer in one piece would be sorted by it.
pub fn range_stream(request: &RangeRequest) -> Result<(), RequestError> {
    range(request)?;
    if request.sort_target != SortTarget::Key as i32 || !is_default_order(request) {
        return Err(RequestError::StreamSortOrder);
    }
    if has_revision_filter(request) {
        return Err(RequestError::StreamRevisionFilter);
    }
    Ok(())
}

/// Checks a put request.
pub fn put(request: &PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete request.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction with everything nested in it.
///
/// Each of the lists `compare`, `success` and `failure` may have up to `max_txn_ops` members. What is left of that
/// number after the longest of the three is the limit of every transaction nested in it.
pub fn txn(request: &TxnRequest, max_txn_ops: usize) -> Result<(), RequestError> {
    txn_parts(request, max_txn_ops)?;
    overlap::check(&request.success)?;
    overlap::check(&request.failure)
}

/// Whether the order asked for is the one that the store reads in. Every other order reads the whole range first.
///
/// No order at all counts as the default whatever the target is. That such a request is nevertheless sorted by its
/// target, after its limit was applied in key order, is etcd's way.
pub(crate) fn is_default_order(request: &RangeRequest) -> bool {
    request.sort_order == SortOrder::None as i32
        || (request.sort_order == SortOrder::Ascend as i32
            && request.sort_target == SortTarget::Key as i32)
}

/// Whether the request bounds the create or mod revisions it wants.
pub(crate) fn has_revision_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// One transaction on the way down: the operations still to be checked, and the limit of those nested in it.
struct Level<'a> {
    operations: std::iter::Chain<std::slice::Iter<'a, RequestOp>, std::slice::Iter<'a, RequestOp>>,
    nested_ops_max: usize,
}

impl<'a> Level<'a> {
    fn enter(request: &'a TxnRequest, ops_max: usize) -> Result<Level<'a>, RequestError> {
        let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
        let Some(nested_ops_max) = ops_max.checked_sub(longest) else {
            return Err(RequestError::TooManyOps);
        };
        if request.compare.iter().any(|compare| compare.key.is_empty()) {
            return Err(RequestError::EmptyKey);
        }
        let operations = request.success.iter().chain(&request.failure);
        Ok(Level { operations, nested_ops_max })
    }
}

/// Checks each compare and operation by itself, depth first, so that of several faults the one etcd finds first is
/// named.
fn txn_parts(request: &TxnRequest, max_txn_ops: usize) -> Result<(), RequestError> {
    let mut levels = vec![Level::enter(request, max_txn_ops)?];
    while let Some(level) = levels.last_mut() {
        let Some(operation) = level.operations.next() else {
            levels.pop();
            continue;
        };
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => {
                let nested = Level::enter(request, level.nested_ops_max)?;
                levels.push(nested);
            }
            None => return Err(RequestError::OperationUnset),
        }
    }
    Ok(())
}
