//! One watch stream to one member, request by request and response by response: nothing is resumed or hidden.

use std::time::Duration;

use futures_util::stream;
use kvorum_proto::api::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::wait::WAIT_MAX;

/// Requests that may wait to be sent.
const REQUESTS_MAX: usize = 64;

/// A watch stream. Dropped, it is cancelled.
#[derive(Debug)]
pub struct Watching {
    /// `None` once the client has no more to ask.
    requests: Option<mpsc::Sender<pb::WatchRequest>>,
    responses: Responses,
}

#[derive(Debug)]
enum Responses {
    /// Some servers say nothing at all before their first response.
    Opening(JoinHandle<Result<Streaming<pb::WatchResponse>, Status>>),
    Open(Box<Streaming<pb::WatchResponse>>),
}

impl Watching {
    /// Opens a stream. `adapt` may add metadata or a deadline to the call.
    pub(crate) fn open(channel: Channel, adapt: impl FnOnce(&mut Request<()>)) -> Watching {
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let (requests, sent) = mpsc::channel(REQUESTS_MAX);
        let sent = stream::unfold(sent, |mut sent| async move {
            let request = sent.recv().await?;
            Some((request, sent))
        });
        let mut call = Request::new(());
        adapt(&mut call);
        let call = call.map(|()| sent);
        let opening = tokio::spawn(async move { Ok(client.watch(call).await?.into_inner()) });
        Watching { requests: Some(requests), responses: Responses::Opening(opening) }
    }

    /// Sends any request. A stream that has ended says so when it is read.
    pub async fn send(&self, union: Option<RequestUnion>) {
        let requests = self.requests.as_ref().expect("the client has more to ask");
        let _ = requests.send(pb::WatchRequest { request_union: union }).await;
    }

    /// Asks for a watcher.
    pub async fn create(&self, request: pb::WatchCreateRequest) {
        self.send(Some(RequestUnion::CreateRequest(request))).await;
    }

    /// Asks for the end of a watcher.
    pub async fn cancel(&self, watch_id: i64) {
        self.send(Some(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))).await;
    }

    /// Asks up to where everything has been told.
    pub async fn request_progress(&self) {
        self.send(Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))).await;
    }

    /// Says that nothing more will be asked (HTTP/2's half-close). Responses go on.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response; `None` when the stream has ended well. Panics when neither comes.
    pub async fn next(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        let next = timeout(WAIT_MAX, async {
            let responses = self.opened().await?;
            responses.message().await
        });
        next.await.expect("a response, or the end of the stream")
    }

    /// The next response. Panics when the stream ends instead.
    pub async fn response(&mut self) -> pb::WatchResponse {
        self.next().await.expect("a response, not an error").expect("a response, not the end")
    }

    /// Reads up to the end of the stream: what it ended with, `None` if it ended well.
    pub async fn end(&mut self) -> Option<Status> {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    }

    /// What comes within `time`, if anything does.
    pub async fn within(&mut self, time: Duration) -> Option<pb::WatchResponse> {
        timeout(time, self.response()).await.ok()
    }

    async fn opened(&mut self) -> Result<&mut Streaming<pb::WatchResponse>, Status> {
        if let Responses::Opening(opening) = &mut self.responses {
            let opened = opening.await.expect("opening a stream does not panic")?;
            self.responses = Responses::Open(Box::new(opened));
        }
        match &mut self.responses {
            Responses::Open(responses) => Ok(responses),
            Responses::Opening(_) => unreachable!("the stream has just been opened"),
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Responses::Opening(opening) = &self.responses {
            opening.abort();
        }
    }
}
