//! The compares of a transaction.

use std::cmp::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_mvcc as mvcc;
use kvorum_mvcc::{KeyState, RangeOptions, Read, Record};
use kvorum_proto::wire::{
    Compare,
    compare::{CompareResult, CompareTarget, TargetUnion},
};
use kvorum_types::{KeyRange, RangeEnd};

/// How many records of a compared range are held in memory at a time.
const PAGE_RECORDS: usize = 1024;

/// Whether every compare holds.
pub(crate) fn all_hold(read: &impl Read, compares: &[Compare]) -> Result<bool, mvcc::ReadError> {
    for compare in compares {
        let keys = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
        let holds = match keys.end {
            RangeEnd::Point => holds_for_key(read, compare)?,
            _ => holds_for_range(read, compare, keys)?,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds_for_key(read: &impl Read, compare: &Compare) -> Result<bool, mvcc::ReadError> {
    Ok(match needs_record(compare) {
        true => match read.get(&compare.key, 0)? {
            Some(record) => passes(compare, order_of_record(compare, &record)),
            None => holds_for_nothing(compare),
        },
        false => match read.state(&compare.key, 0)? {
            Some(state) => passes(compare, order_of_state(compare, state)),
            None => holds_for_nothing(compare),
        },
    })
}

/// Whether a compare holds for every key of a range.
fn holds_for_range(
    read: &impl Read,
    compare: &Compare,
    mut keys: KeyRange,
) -> Result<bool, mvcc::ReadError> {
    let keys_only = !needs_record(compare);
    let options = RangeOptions { limit: PAGE_RECORDS, keys_only, count: false };
    let mut is_empty = true;
    loop {
        let page = read.range(&keys, 0, &options)?.records;
        if !page.iter().all(|record| passes(compare, order_of_record(compare, record))) {
            return Ok(false);
        }
        is_empty &= page.is_empty();
        match page.last() {
            Some(last) if page.len() == PAGE_RECORDS => keys.start = key_after(last.key()),
            _ => break,
        }
    }
    Ok(!is_empty || holds_for_nothing(compare))
}

/// Whether a compare holds where there is no key: one of values never does, not even `NOT_EQUAL`; every other target is
/// taken as 0.
fn holds_for_nothing(compare: &Compare) -> bool {
    let compares_values = compare.target == CompareTarget::Value as i32;
    let nothing = KeyState { create_revision: 0, mod_revision: 0, version: 0 };
    !compares_values && passes(compare, order_of_state(compare, nothing))
}

/// Whether the index alone does not know what is compared.
fn needs_record(compare: &Compare) -> bool {
    compare.target == CompareTarget::Value as i32 || compare.target == CompareTarget::Lease as i32
}

/// How what is stored compares with what is given, which counts as empty where it is not a value.
fn order_of_record(compare: &Compare, record: &Record) -> Ordering {
    match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let given: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            record.value().cmp(given)
        }
        Ok(CompareTarget::Lease) => record.lease().cmp(&given_lease(compare)),
        _ => {
            let (create_revision, mod_revision) = (record.create_revision(), record.mod_revision());
            let version = record.version();
            order_of_state(compare, KeyState { create_revision, mod_revision, version })
        }
    }
}

/// How what the index knows compares with what is given, which counts as 0 where it is of another kind. A target that
/// etcd does not know finds everything equal.
fn order_of_state(compare: &Compare, state: KeyState) -> Ordering {
    let given = &compare.target_union;
    match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => state.version.cmp(match given {
            Some(TargetUnion::Version(version)) => version,
            _ => &0,
        }),
        Ok(CompareTarget::Create) => state.create_revision.cmp(match given {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => &0,
        }),
        Ok(CompareTarget::Mod) => state.mod_revision.cmp(match given {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => &0,
        }),
        // Asked only where there is no key, and so no lease.
        Ok(CompareTarget::Lease) => 0.cmp(&given_lease(compare)),
        Ok(CompareTarget::Value) | Err(_) => Ordering::Equal,
    }
}

fn given_lease(compare: &Compare) -> i64 {
    match &compare.target_union {
        Some(TargetUnion::Lease(lease)) => *lease,
        _ => 0,
    }
}

/// Whether an order is the wanted result. A result that etcd does not know is always had.
fn passes(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

/// The key that follows `key` immediately.
fn key_after(key: &[u8]) -> Bytes {
    let mut after = BytesMut::with_capacity(key.len() + 1);
    after.put_slice(key);
    after.put_u8(0);
    after.freeze()
}
