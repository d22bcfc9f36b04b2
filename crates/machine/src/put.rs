//! A put, alone or in a transaction.

use kvorum_mvcc::{Read, WriteTxn};
use kvorum_proto::wire::{KeyValue, PutRequest, PutResponse};

use crate::command::Failure;
use crate::outcome::CommandError;
use crate::range;

/// Checks what can be known before anything is written: the lease exists, and so does the key where its value or lease
/// is to be kept.
pub(crate) fn check(read: &impl Read, request: &PutRequest) -> Result<(), Failure> {
    check_lease(request)?;
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && read.state(&request.key, 0).map_err(Failure::store)?.is_none() {
        return Err(CommandError::KeyNotFound.into());
    }
    Ok(())
}

/// Writes, and builds the answer where one is wanted.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    request: &PutRequest,
    answers: bool,
) -> Result<Option<PutResponse>, Failure> {
    let keeps = request.ignore_value || request.ignore_lease;
    let previous = match keeps || (answers && request.prev_kv) {
        true => txn.get(&request.key, 0).map_err(Failure::store)?,
        false => None,
    };
    // Checked before the transaction began, but its own deletes can have taken the key away since.
    if keeps && previous.is_none() {
        return Err(CommandError::KeyNotFound.into());
    }
    let (mut value, mut lease) = (request.value.as_ref(), request.lease);
    if let Some(previous) = &previous {
        if request.ignore_value {
            value = previous.value();
        }
        if request.ignore_lease {
            lease = previous.lease();
        }
    }
    txn.put(&request.key, value, lease);
    if !answers {
        return Ok(None);
    }
    let prev_kv = previous
        .filter(|_| request.prev_kv)
        .map(|previous| KeyValue::from_trusted(previous.into_bytes()));
    Ok(Some(PutResponse { header: range::header(txn.revision()), prev_kv }))
}

/// Refuses every lease: none can have been granted, since no command grants one.
fn check_lease(request: &PutRequest) -> Result<(), CommandError> {
    if request.lease == 0 { Ok(()) } else { Err(CommandError::LeaseNotFound) }
}
