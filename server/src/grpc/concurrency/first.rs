//! Keys below a name, by when they were created.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_machine::range;
use kvorum_mvcc::{Read, View};
use kvorum_proto::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::wire::{KeyValue, RangeRequest};
use kvorum_types::LeaseId;

use super::super::context::Context;
use super::super::reads;
use super::relayed;
use crate::errors::CallError;

/// What a name's keys have between the name and the rest.
const SEPARATOR: u8 = b'/';

/// The keys below a name.
#[derive(Clone, Debug)]
pub(super) struct Below {
    pub(super) first: Bytes,
    pub(super) end: Bytes,
}

impl Below {
    pub(super) fn name(name: &[u8]) -> Below {
        let with = |last: u8| Bytes::from([name, &[last]].concat());
        Below { first: with(SEPARATOR), end: with(SEPARATOR + 1) }
    }

    /// The key of the one whose lease this is, as etcd's clients write it.
    pub(super) fn key_of(&self, lease: LeaseId) -> Bytes {
        let sign = if lease.0 < 0 { "-" } else { "" };
        let lease = format!("{sign}{:x}", lease.0.unsigned_abs());
        Bytes::from([&self.first, lease.as_bytes()].concat())
    }

    /// A request for the key that was created first.
    fn created_first(&self) -> RangeRequest {
        self.by_creation(SortOrder::Ascend)
    }

    /// A request for the key that was created last before `revision`.
    fn created_last_before(&self, revision: i64) -> RangeRequest {
        let max_create_revision = revision.saturating_sub(1);
        RangeRequest {
            max_create_revision,
            keys_only: true,
            ..self.by_creation(SortOrder::Descend)
        }
    }

    fn by_creation(&self, order: SortOrder) -> RangeRequest {
        RangeRequest {
            key: self.first.clone(),
            range_end: self.end.clone(),
            limit: 1,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        }
    }

    /// The key that was created first, and the revision it was looked for at.
    pub(super) async fn find_first(
        &self,
        context: &Arc<Context>,
    ) -> Result<(Option<KeyValue>, i64), CallError> {
        let (view, request) = (linearizable_view(context).await?, self.created_first());
        let revision = view.revision();
        Ok((find_one(context, view, request).await?, revision))
    }

    /// The key that was created last before `revision`.
    pub(super) async fn find_last_before(
        &self,
        context: &Arc<Context>,
        view: View,
        revision: i64,
    ) -> Result<Option<KeyValue>, CallError> {
        find_one(context, view, self.created_last_before(revision)).await
    }
}

/// The state, no older than anything acknowledged before.
pub(super) async fn linearizable_view(context: &Context) -> Result<View, CallError> {
    context.read_barrier().await.map_err(relayed)?;
    Ok(context.reader().store().view())
}

async fn find_one(
    context: &Arc<Context>,
    view: View,
    request: RangeRequest,
) -> Result<Option<KeyValue>, CallError> {
    let is_large = reads::is_large_range(&view, &request);
    let found = reads::run(context, is_large, move |context| {
        range::range(&view, &request).map_err(|error| context.range_error(error))
    });
    Ok(found.await.map_err(relayed)?.kvs.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_etcds_clients_name_them() {
        let below = Below::name(b"my-lock");
        assert_eq!((&*below.first, &*below.end), (&b"my-lock/"[..], &b"my-lock0"[..]));
        assert_eq!(below.key_of(LeaseId(0x33a1)), "my-lock/33a1");
        assert_eq!(below.key_of(LeaseId(i64::MAX)), "my-lock/7fffffffffffffff");
        assert_eq!(below.key_of(LeaseId(-78)), "my-lock/-4e");
        assert_eq!(below.key_of(LeaseId(i64::MIN)), "my-lock/-8000000000000000");
        assert_eq!(Below::name(b"").key_of(LeaseId(1)), "/1");
    }
}
