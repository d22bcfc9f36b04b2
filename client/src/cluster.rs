//! Who belongs to the cluster.

use kvorum_proto::api::etcdserverpb::cluster_client::ClusterClient;
use kvorum_proto::api::etcdserverpb::{MemberListRequest, MemberListResponse};

use crate::client::Client;
use crate::error::Error;
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
}
