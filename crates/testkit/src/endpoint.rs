//! Talking to one certain member, without the failover and retries of a client library.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb as pb;
use kvorum_proto::api::v3electionpb::election_client::ElectionClient;
use kvorum_proto::api::v3lockpb::lock_client::LockClient;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::keeping_alive::KeepingAlive;
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

    /// The Lease service.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel()).max_decoding_message_size(usize::MAX)
    }

    /// The Lock service.
    pub fn lock(&self) -> LockClient<Channel> {
        LockClient::new(self.channel())
    }

    /// The Election service.
    pub fn election(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel())
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

    /// Puts one key that is bound to a lease.
    pub async fn put_leased(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        lease: i64,
    ) -> Result<pb::PutResponse, Status> {
        let request = pb::PutRequest {
            key: key.as_ref().to_vec().into(),
            value: value.as_ref().to_vec().into(),
            lease,
            ..Default::default()
        };
        bounded(self.kv().put(request)).await
    }

    /// Grants a lease; id 0 lets the server choose.
    pub async fn grant(&self, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Status> {
        bounded(self.lease().lease_grant(pb::LeaseGrantRequest { ttl, id })).await
    }

    /// Revokes a lease.
    pub async fn revoke(&self, id: i64) -> Result<pb::LeaseRevokeResponse, Status> {
        bounded(self.lease().lease_revoke(pb::LeaseRevokeRequest { id })).await
    }

    /// How a lease stands, with its keys.
    pub async fn time_to_live(&self, id: i64) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        bounded(self.lease().lease_time_to_live(request)).await
    }

    /// The ids of all leases, in the member's order.
    pub async fn leases(&self) -> Result<Vec<i64>, Status> {
        let response = bounded(self.lease().lease_leases(pb::LeaseLeasesRequest {})).await?;
        Ok(response.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// Keeps a lease alive, once, on a stream of its own: its TTL.
    pub async fn keep_alive(&self, id: i64) -> Result<i64, Status> {
        Ok(self.keeping_alive(id).await?.next().await?.map_or(0, |response| response.ttl))
    }

    /// Opens a keep-alive stream with a first request.
    pub async fn keeping_alive(&self, first: i64) -> Result<KeepingAlive, Status> {
        self.keeping_alive_with(first, |_| {}).await
    }

    /// The same; `adapt` may add metadata or a deadline to the call.
    pub async fn keeping_alive_with(
        &self,
        first: i64,
        adapt: impl FnOnce(&mut Request<()>),
    ) -> Result<KeepingAlive, Status> {
        KeepingAlive::open(self.channel(), first, adapt).await
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

    /// Adds a member that its peers find there.
    pub async fn member_add(
        &self,
        peer_url: &str,
        is_learner: bool,
    ) -> Result<pb::MemberAddResponse, Status> {
        let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner };
        bounded(self.cluster().member_add(request)).await
    }

    /// Removes a member.
    pub async fn member_remove(&self, id: u64) -> Result<pb::MemberRemoveResponse, Status> {
        bounded(self.cluster().member_remove(pb::MemberRemoveRequest { id })).await
    }

    /// Tells where a member's peers find it from now on.
    pub async fn member_update(
        &self,
        id: u64,
        peer_url: &str,
    ) -> Result<pb::MemberUpdateResponse, Status> {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: vec![peer_url.to_owned()] };
        bounded(self.cluster().member_update(request)).await
    }

    /// Gives a learner a vote.
    pub async fn member_promote(&self, id: u64) -> Result<pb::MemberPromoteResponse, Status> {
        bounded(self.cluster().member_promote(pb::MemberPromoteRequest { id })).await
    }

    /// Hands the leadership over; asked of the leader.
    pub async fn move_leader(&self, to: u64) -> Result<pb::MoveLeaderResponse, Status> {
        bounded(self.maintenance().move_leader(pb::MoveLeaderRequest { target_id: to })).await
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
