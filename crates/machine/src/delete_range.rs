//! A delete of a range, alone or in a transaction.

use kvorum_mvcc::{RangeOptions, Read, WriteTxn};
use kvorum_proto::wire::{DeleteRangeRequest, DeleteRangeResponse, KeyValue};
use kvorum_types::KeyRange;

use crate::command::Failure;
use crate::leases::Attachments;
use crate::range;

/// Deletes, and builds the answer where one is wanted. Where no key is deleted, the revision stays.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    attachments: &mut Attachments,
    request: &DeleteRangeRequest,
    answers: bool,
) -> Result<Option<DeleteRangeResponse>, Failure> {
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let prev_kvs = match answers && request.prev_kv {
        true => previous(txn, &keys)?,
        false => Vec::new(),
    };
    let deleted_keys = txn.delete_range(&keys);
    let deleted = i64::try_from(deleted_keys.len()).unwrap_or(i64::MAX);
    attachments.deleted(deleted_keys);
    if !answers {
        return Ok(None);
    }
    Ok(Some(DeleteRangeResponse { header: range::header(txn.revision()), deleted, prev_kvs }))
}

fn previous(txn: &WriteTxn<'_>, keys: &KeyRange) -> Result<Vec<KeyValue>, Failure> {
    let options = RangeOptions { limit: 0, keys_only: false, count: false };
    let records = txn.range(keys, 0, &options).map_err(Failure::store)?.records;
    Ok(records.into_iter().map(|record| KeyValue::from_trusted(record.into_bytes())).collect())
}
