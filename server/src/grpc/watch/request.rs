//! From a client's messages to the hub's requests.

use bytes::Bytes;
use kvorum_proto::wire::watch_create_request::FilterType;
use kvorum_proto::wire::watch_request::RequestUnion;
use kvorum_proto::wire::{WatchCreateRequest, WatchRequest};
use kvorum_watch::{Create, Filters, Stream};

use super::super::service::decode;
use crate::errors::CallError;

/// Asks the hub for what an encoded request wants. One that wants nothing this version knows is ignored, as in etcd.
pub(super) fn hand_on(encoded: &Bytes, stream: &Stream) -> Result<(), CallError> {
    let request: WatchRequest = decode(encoded)?;
    match request.request_union {
        Some(RequestUnion::CreateRequest(request)) => stream.create(create(&request)),
        Some(RequestUnion::CancelRequest(request)) => stream.cancel(request.watch_id),
        Some(RequestUnion::ProgressRequest(_)) => stream.request_progress(),
        None => {}
    }
    Ok(())
}

fn create(request: &WatchCreateRequest) -> Create {
    let leaves_out = |kind: FilterType| request.filters.contains(&kind.into());
    Create {
        // The hub makes copies: slices would keep what the connection received for as long as there is the watcher.
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        start_revision: request.start_revision,
        progress_notify: request.progress_notify,
        filters: Filters {
            no_put: leaves_out(FilterType::Noput),
            no_delete: leaves_out(FilterType::Nodelete),
        },
        prev_kv: request.prev_kv,
        watch_id: request.watch_id,
        fragment: request.fragment,
        with_state: request.with_state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_reaches_the_hub() {
        let request = WatchCreateRequest {
            key: "a".into(),
            range_end: "b".into(),
            start_revision: -3,
            progress_notify: true,
            filters: vec![FilterType::Nodelete.into()],
            prev_kv: true,
            watch_id: 7,
            fragment: true,
            with_state: true,
        };
        let wanted = Create {
            key: "a".into(),
            range_end: "b".into(),
            start_revision: -3,
            progress_notify: true,
            filters: Filters { no_put: false, no_delete: true },
            prev_kv: true,
            watch_id: 7,
            fragment: true,
            with_state: true,
        };
        assert_eq!(create(&request), wanted);
        assert_eq!(create(&WatchCreateRequest::default()), Create::default());
    }

    #[test]
    fn filters_add_up_and_unknown_ones_are_ignored() {
        let filters =
            |filters| create(&WatchCreateRequest { filters, ..Default::default() }).filters;
        assert_eq!(filters(vec![0]), Filters { no_put: true, no_delete: false });
        assert_eq!(filters(vec![1, 0, 1]), Filters { no_put: true, no_delete: true });
        assert_eq!(filters(vec![2, -1]), Filters::default());
    }
}
