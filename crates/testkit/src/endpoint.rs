//! Talking to one certain member, without the failover and retries of a client library.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::watching::Watching;

/// How long a call may take before it counts as failed with an unknown outcome.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// The client port of one member. Clones share a connection, which is made when it is needed and again when it broke.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: String,
    channel: Channel,
}

impl Endpoint {
    /// The member that listens at `url`. Must be called within a tokio runtime.
    pub fn new(url: &str) -> Endpoint {
        let channel = tonic::transport::Endpoint::from_shared(url.to_owned())
            .expect("a member's URL is one")
            .connect_timeout(Duration::from_secs(2))
            .timeout(CALL_TIME_MAX)
            .tcp_nodelay(true)
            .connect_lazy();
        Endpoint { url: url.to_owned(), channel }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The connection, for services that have no method here.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The KV service.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel()).max_decoding_message_size(usize::MAX)
    }

    /// The Maintenance service.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel())
    }

    /// The Cluster service.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    /// Opens a watch stream.
    pub fn watch(&self) -> Watching {
        self.watch_with(|_| {})
    }

    /// The same; `adapt` may add metadata or a deadline to the call.
    pub fn watch_with(&self, adapt: impl FnOnce(&mut Request<()>)) -> Watching {
        Watching::open(self.channel(), adapt)
    }

    /// Puts one key.
    pub async fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<pb::PutResponse, Status> {
        let request = pb::PutRequest {
            key: key.as_ref().to_vec().into(),
            value: value.as_ref().to_vec().into(),
            ..Default::default()
        };
        bounded(self.kv().put(request)).await
    }

    /// Any range.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        bounded(self.kv().range(request)).await
    }

    /// The value of one key as text, read linearizably.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<String>, Status> {
        let request = pb::RangeRequest { key: key.as_ref().to_vec().into(), ..Default::default() };
        let response = self.range(request).await?;
        Ok(response.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
    }

    /// Deletes one key.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<pb::DeleteRangeResponse, Status> {
        let key = key.as_ref().to_vec().into();
        let request = pb::DeleteRangeRequest { key, ..Default::default() };
        bounded(self.kv().delete_range(request)).await
    }

    /// Any transaction.
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        bounded(self.kv().txn(request)).await
    }

    /// Compacts to a revision.
    pub async fn compact(&self, revision: i64) -> Result<pb::CompactionResponse, Status> {
        let request = pb::CompactionRequest { revision, physical: false };
        bounded(self.kv().compact(request)).await
    }

    /// The member's own view of itself.
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        bounded(self.maintenance().status(pb::StatusRequest::default())).await
    }

    /// The hash of everything up to a revision; 0 for the newest.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Status> {
        bounded(self.maintenance().hash_kv(pb::HashKvRequest { revision })).await
    }

    /// The members, read linearizably.
    pub async fn member_list(&self) -> Result<Vec<pb::Member>, Status> {
        let request = pb::MemberListRequest { linearizable: true };
        Ok(bounded(self.cluster().member_list(request)).await?.members)
    }
}

/// The channel's own limit does not count the time without a connection.
async fn bounded<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL_TIME_MAX, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::new(Code::DeadlineExceeded, "no answer in time")),
    }
}
