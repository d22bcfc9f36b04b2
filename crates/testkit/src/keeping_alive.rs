//! One keep-alive stream to one member, request by request and answer by answer.

use futures_util::stream;
use kvorum_proto::api::etcdserverpb as pb;
use pb::lease_client::LeaseClient;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::wait::WAIT_MAX;

/// Requests that may wait to be sent.
const REQUESTS_MAX: usize = 4096;

/// A keep-alive stream. Dropped, it is cancelled.
#[derive(Debug)]
pub struct KeepingAlive {
    /// `None` once the client has no more to ask.
    requests: Option<mpsc::Sender<pb::LeaseKeepAliveRequest>>,
    responses: Streaming<pb::LeaseKeepAliveResponse>,
}

impl KeepingAlive {
    /// Opens a stream with its first request, before which some servers answer nothing at all. `adapt` may add metadata or
    /// a deadline to the call.
    pub(crate) async fn open(
        channel: Channel,
        first: i64,
        adapt: impl FnOnce(&mut Request<()>),
    ) -> Result<KeepingAlive, Status> {
        let (requests, sent) = mpsc::channel(REQUESTS_MAX);
        let sent = stream::unfold(sent, |mut sent| async move {
            let request = sent.recv().await?;
            Some((request, sent))
        });
        let mut call = Request::new(());
        adapt(&mut call);
        let _ = requests.send(pb::LeaseKeepAliveRequest { id: first }).await;
        let opening =
            async { LeaseClient::new(channel).lease_keep_alive(call.map(|()| sent)).await };
        let opened = timeout(WAIT_MAX, opening).await.expect("a stream, or an error")?;
        Ok(KeepingAlive { requests: Some(requests), responses: opened.into_inner() })
    }

    /// Sends a request. A stream that has ended says so when it is read.
    pub async fn send(&self, id: i64) {
        let requests = self.requests.as_ref().expect("the client has more to ask");
        let _ = requests.send(pb::LeaseKeepAliveRequest { id }).await;
    }

    /// Says that nothing more will be asked (HTTP/2's half-close).
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next answer; `None` when the stream has ended well. Panics when neither comes.
    pub async fn next(&mut self) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
        let next = timeout(WAIT_MAX, self.responses.message());
        next.await.expect("an answer, or the end of the stream")
    }

    /// The next answer. Panics when the stream ends instead.
    pub async fn response(&mut self) -> pb::LeaseKeepAliveResponse {
        self.next().await.expect("an answer, not an error").expect("an answer, not the end")
    }
}
