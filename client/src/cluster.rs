//! Who belongs to the cluster, and changing that.

use kvorum_proto::api::etcdserverpb::cluster_client::ClusterClient;
use kvorum_proto::api::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};

use crate::client::Client;
use crate::error::Error;
use crate::peer_url;
use crate::retry::Class;

impl Client {
    /// The members, sorted by id. With `linearizable` the answering member first makes sure that it is up to date.
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        let request = MemberListRequest { linearizable };
        self.call(Class::Repeatable, request, |channel, request| async move {
            ClusterClient::new(channel).member_list(request).await
        })
        .await
    }

    /// Adds a member that its peers find at these URLs, with a vote, or as a learner without. It is to be started after
    /// that.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<MemberAddResponse, Error> {
        peer_url::check(&peer_urls)?;
        let request = MemberAddRequest { peer_ur_ls: peer_urls, is_learner };
        self.call(Class::Once, request, |channel, request| async move {
            ClusterClient::new(channel).member_add(request).await
        })
        .await
    }

    /// Removes a member for good: it stops, and no member may have its id again.
    pub async fn member_remove(&self, id: u64) -> Result<MemberRemoveResponse, Error> {
        self.call(Class::Once, MemberRemoveRequest { id }, |channel, request| async move {
            ClusterClient::new(channel).member_remove(request).await
        })
        .await
    }

    /// Tells the cluster of new URLs at which a member's peers find it.
    pub async fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<MemberUpdateResponse, Error> {
        peer_url::check(&peer_urls)?;
        let request = MemberUpdateRequest { id, peer_ur_ls: peer_urls };
        self.call(Class::Once, request, |channel, request| async move {
            ClusterClient::new(channel).member_update(request).await
        })
        .await
    }

    /// Gives a learner that has caught up a vote.
    pub async fn member_promote(&self, id: u64) -> Result<MemberPromoteResponse, Error> {
        self.call(Class::Once, MemberPromoteRequest { id }, |channel, request| async move {
            ClusterClient::new(channel).member_promote(request).await
        })
        .await
    }
}
