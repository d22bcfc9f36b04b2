//! A server of watches that does what a test tells it.

#[path = "../fake/streams.rs"]
mod streams;

use std::sync::atomic::{AtomicUsize, Ordering};

use kvorum_client::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_client::api::etcdserverpb::{
    AuthenticateResponse, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_client::api::mvccpb::{Event, KeyValue};
use prost::Message;

pub use streams::{PATIENCE, Server, Stream};

impl Server {
    /// A server that gives the tokens `token-1`, `token-2` and so on.
    pub async fn start() -> Server {
        let given = AtomicUsize::new(0);
        Server::answering(move |_, _| {
            let token = format!("token-{}", given.fetch_add(1, Ordering::SeqCst) + 1);
            Ok(AuthenticateResponse { token, ..Default::default() }.encode_to_vec().into())
        })
        .await
    }
}

impl Stream {
    /// The next request; `None` when the client has ended the stream.
    pub async fn request(&mut self) -> Option<RequestUnion> {
        let request = self.next::<WatchRequest>().await;
        request.map(|request| request.request_union.expect("it asks for something"))
    }

    /// The next request, which creates a watch.
    pub async fn create(&mut self) -> WatchCreateRequest {
        match self.request().await {
            Some(RequestUnion::CreateRequest(create)) => create,
            other => panic!("{other:?}"),
        }
    }

    /// The next request, which cancels a watch.
    pub async fn cancel(&mut self) -> i64 {
        match self.request().await {
            Some(RequestUnion::CancelRequest(cancel)) => cancel.watch_id,
            other => panic!("{other:?}"),
        }
    }

    /// Answers a create that has been received.
    pub fn created(&mut self, watch_id: i64, revision: i64) {
        let header = header(revision);
        self.send(&WatchResponse { header, watch_id, created: true, ..Default::default() });
    }

    /// One event for each of these revisions.
    pub fn events(&mut self, watch_id: i64, revisions: &[i64]) {
        self.send(&events(watch_id, revisions));
    }
}

pub fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

pub fn events(watch_id: i64, revisions: &[i64]) -> WatchResponse {
    let event = |mod_revision: &i64| Event {
        kv: Some(KeyValue { key: "k".into(), mod_revision: *mod_revision, ..Default::default() }),
        ..Default::default()
    };
    WatchResponse {
        header: header(revisions.last().copied().unwrap_or_default()),
        watch_id,
        events: revisions.iter().map(event).collect(),
        ..Default::default()
    }
}
