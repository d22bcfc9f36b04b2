//! A put, alone or in a transaction.

use kvorum_lease::Table;
use kvorum_mvcc::{Read, WriteTxn};
use kvorum_proto::wire::{KeyValue, PutRequest, PutResponse};
use kvorum_types::LeaseId;

use crate::command::Failure;
use crate::leases::Attachments;
use crate::outcome::CommandError;
use crate::range;

/// Checks what can be known before anything is written: the lease exists, and so does the key where its value or lease
/// is to be kept.
pub(crate) fn check(read: &impl Read, leases: &Table, request: &PutRequest) -> Result<(), Failure> {
    if request.lease != 0 && !leases.contains(LeaseId(request.lease)) {
        return Err(CommandError::LeaseNotFound.into());
    }
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && read.state(&request.key, 0).map_err(Failure::store)?.is_none() {
        return Err(CommandError::KeyNotFound.into());
    }
    Ok(())
}

/// Writes, and builds the answer where one is wanted.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    attachments: &mut Attachments,
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
    attachments.put(&request.key, lease);
    if !answers {
        return Ok(None);
    }
    let prev_kv = previous
        .filter(|_| request.prev_kv)
        .map(|previous| KeyValue::from_trusted(previous.into_bytes()));
    Ok(Some(PutResponse { header: range::header(txn.revision()), prev_kv }))
}
