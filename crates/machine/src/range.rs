//! etcd's Range over any view of the store.
//!
//! A range is read, filtered, sorted, cut to its limit, in that order. What a client can observe of that order:
//!
//! | asked for | read | count | more |
//! |---|---|---|---|
//! | nothing special | up to the limit, in key order | all keys of the range | there are keys beyond the limit |
//! | a bound on revisions, or an explicit order other than ascending by key | everything | all keys of the range, filtered out or not | what passed the filters exceeds the limit |
//! | a sort target without an order | one more than the limit, in key order, **then** sorted ascending | all keys of the range | one more was there |
//! | `count_only` | nothing | all keys of the range | never |
//! | `keys_only` | the index alone, which knows no leases | as above | as above |
//! | `keys_only` sorted by value | records, whose values are dropped at the end | as above | as above |
//!
//! Equal sort keys keep key order. The header carries the view's own revision, not the one that was asked for.

use std::cmp::Ordering;

use kvorum_mvcc as mvcc;
use kvorum_mvcc::{RangeOptions, Read, Record};
use kvorum_proto::api::mvccpb;
use kvorum_proto::wire::{
    KeyValue, RangeRequest, RangeResponse, ResponseHeader,
    range_request::{SortOrder, SortTarget},
};
use kvorum_types::KeyRange;
use prost::Message;

use crate::validate::{self, RequestError};

/// Why a range has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The revision is below the compaction revision, or the view grew too old while it was read.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision is above the newest one.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// A request that [`validate`] refuses.
    #[error(transparent)]
    Invalid(#[from] RequestError),
    /// The store failed or is damaged: the member must stop.
    #[error("the store failed: {0}")]
    Store(#[source] mvcc::ReadError),
}

impl From<mvcc::ReadError> for RangeError {
    fn from(error: mvcc::ReadError) -> RangeError {
        match error {
            mvcc::ReadError::Compacted => RangeError::Compacted,
            mvcc::ReadError::Future { .. } => RangeError::FutureRevision,
            other => RangeError::Store(other),
        }
    }
}

/// Answers a range request.
pub fn range(read: &impl Read, request: &RangeRequest) -> Result<RangeResponse, RangeError> {
    let keys = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    if request.count_only {
        let count = read.count(&keys, request.revision)?;
        return Ok(response(read, Vec::new(), false, count));
    }
    let sort = Sort::of(request)?;
    let limit = limit_of(request);
    let reads_all = !validate::is_default_order(request) || validate::has_revision_filter(request);
    let fetch_limit = match (reads_all, limit, &sort) {
        (true, _, _) | (_, 0, _) => 0,
        (false, limit, Some(_)) => limit.saturating_add(1),
        (false, limit, None) => limit,
    };
    let options =
        RangeOptions { limit: fetch_limit, keys_only: reads_index_alone(request), count: true };
    let result = read.range(&keys, request.revision, &options)?;

    let mut records = result.records;
    if validate::has_revision_filter(request) {
        records.retain(|record| passes_filters(record, request));
    }
    if let Some(sort) = sort {
        sort.apply(&mut records);
    }
    // Where exactly the limit was fetched, only the count tells whether there is more.
    let cut_by_fetch = fetch_limit != 0 && fetch_limit == limit;
    let available_count = if cut_by_fetch { result.count } else { records.len() as u64 };
    let more = limit != 0 && available_count > limit as u64;
    if limit != 0 {
        records.truncate(limit);
    }
    let key_values = records.into_iter().map(|record| key_value(record, request)).collect();
    Ok(response(read, key_values, more, result.count))
}

/// The number of key-values wanted at most, 0 for all: what is below zero means all as well.
pub(crate) fn limit_of(request: &RangeRequest) -> usize {
    usize::try_from(request.limit.max(0)).unwrap_or(usize::MAX)
}

/// Whether the index knows all that the request wants. Sorted by value, it does not.
pub(crate) fn reads_index_alone(request: &RangeRequest) -> bool {
    request.keys_only && request.sort_target != SortTarget::Value as i32
}

/// The header of an answer that is given at a revision.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// The sorting that remains to be done after records were read in key order.
struct Sort {
    target: SortTarget,
    descends: bool,
}

impl Sort {
    fn of(request: &RangeRequest) -> Result<Option<Sort>, RequestError> {
        validate_sort(request).map(|(order, target)| {
            let descends = order == SortOrder::Descend;
            (descends || target != SortTarget::Key).then_some(Sort { target, descends })
        })
    }

    fn apply(&self, records: &mut [Record]) {
        // A stable sort in either direction, so that descending is not simply ascending backwards.
        match self.descends {
            false => records.sort_by(|left, right| self.compare(left, right)),
            true => records.sort_by(|left, right| self.compare(right, left)),
        }
    }

    fn compare(&self, left: &Record, right: &Record) -> Ordering {
        match self.target {
            SortTarget::Key => left.key().cmp(right.key()),
            SortTarget::Version => left.version().cmp(&right.version()),
            SortTarget::Create => left.create_revision().cmp(&right.create_revision()),
            SortTarget::Mod => left.mod_revision().cmp(&right.mod_revision()),
            SortTarget::Value => left.value().cmp(right.value()),
        }
    }
}

fn validate_sort(request: &RangeRequest) -> Result<(SortOrder, SortTarget), RequestError> {
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    match (order, target) {
        (Ok(order), Ok(target)) => Ok((order, target)),
        _ => Err(RequestError::InvalidSortOption),
    }
}

/// Whether a record's revisions lie within the bounds, of which 0 is none.
fn passes_filters(record: &Record, request: &RangeRequest) -> bool {
    let within = |revision: i64, min: i64, max: i64| {
        (min == 0 || revision >= min) && (max == 0 || revision <= max)
    };
    within(record.mod_revision(), request.min_mod_revision, request.max_mod_revision)
        && within(
            record.create_revision(),
            request.min_create_revision,
            request.max_create_revision,
        )
}

/// A record as an answer carries it: the stored bytes themselves, wherever that is possible.
pub(crate) fn key_value(record: Record, request: &RangeRequest) -> KeyValue {
    if request.keys_only && !reads_index_alone(request) {
        return without_value(&record);
    }
    KeyValue::from_trusted(record.into_bytes())
}

fn without_value(record: &Record) -> KeyValue {
    let plain = mvccpb::KeyValue {
        key: bytes::Bytes::copy_from_slice(record.key()),
        create_revision: record.create_revision(),
        mod_revision: record.mod_revision(),
        version: record.version(),
        value: bytes::Bytes::new(),
        lease: record.lease(),
    };
    KeyValue::from_trusted(plain.encode_to_vec().into())
}

fn response(read: &impl Read, kvs: Vec<KeyValue>, more: bool, count: u64) -> RangeResponse {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    RangeResponse { header: header(read.revision()), kvs, more, count }
}
