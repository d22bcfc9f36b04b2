//! Calls about leases.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{once, pending};
use kvorum_proto::api::etcdserverpb::lease_client::LeaseClient;
use kvorum_proto::api::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use kvorum_proto::errors::EtcdError;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::client::Client;
use crate::error::Error;
use crate::retry::Class;

impl Client {
    /// Grants a lease of `ttl` seconds. Servers raise a TTL that is shorter than an election takes; the answer says what it
    /// is. `id` 0 lets the servers choose one.
    ///
    /// As by etcd's client the request is sent again when the server was unavailable. Then a lease that nobody knows of may
    /// have been granted beside the one in the answer; it expires.
    pub async fn lease_grant(&self, ttl: i64, id: i64) -> Result<LeaseGrantResponse, Error> {
        let request = LeaseGrantRequest { ttl, id };
        self.call(Class::Repeatable, request, |channel, request| {
            let mut client = self.lease(channel);
            async move { client.lease_grant(request).await }
        })
        .await
    }

    /// Ends a lease and deletes its keys, in one revision.
    pub async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse, Error> {
        let request = LeaseRevokeRequest { id };
        self.call(Class::Repeatable, request, |channel, request| {
            let mut client = self.lease(channel);
            async move { client.lease_revoke(request).await }
        })
        .await
    }

    /// How long a lease has left, and with `keys` which keys it has. A TTL of -1 means that there is no such lease.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let request = LeaseTimeToLiveRequest { id, keys };
        self.call(Class::Repeatable, request, |channel, request| {
            let mut client = self.lease(channel);
            async move { client.lease_time_to_live(request).await }
        })
        .await
    }

    /// All leases, as the answering member knows them.
    pub async fn leases(&self) -> Result<LeaseLeasesResponse, Error> {
        self.call(Class::Repeatable, LeaseLeasesRequest {}, |channel, request| {
            let mut client = self.lease(channel);
            async move { client.lease_leases(request).await }
        })
        .await
    }

    /// Renews a lease once. Fails with [`EtcdError::LeaseNotFound`] if there is none.
    pub async fn keep_alive_once(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        let request = LeaseKeepAliveRequest { id };
        let answer = self
            .call(Class::Repeatable, request, |channel, request| {
                let mut client = self.lease(channel);
                async move {
                    // The stream stays open until the answer is there: a server may take its end for a farewell.
                    let request = request.map(|one| once(async move { one }).chain(pending()));
                    let mut answers = client.lease_keep_alive(request).await?.into_inner();
                    match answers.message().await? {
                        Some(answer) => Ok(Response::new(answer)),
                        None => Err(Status::unavailable("the stream ended")),
                    }
                }
            })
            .await?;
        if answer.ttl <= 0 { Err(Error::Etcd(EtcdError::LeaseNotFound)) } else { Ok(answer) }
    }

    fn lease(&self, channel: Channel) -> LeaseClient<Channel> {
        LeaseClient::new(channel).max_decoding_message_size(self.config().response_bytes_max)
    }
}

/// A TTL as servers give it.
pub(super) fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
