//! Questions to one member. Ask through [`Client::at`] to know which one answers.

use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum_proto::api::etcdserverpb::{
    AlarmRequest, AlarmResponse, HashKvRequest, HashKvResponse, StatusRequest, StatusResponse,
};

use crate::client::Client;
use crate::error::Error;
use crate::retry::Class;

impl Client {
    /// How the answering member is.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.call(Class::Repeatable, StatusRequest {}, |channel, request| async move {
            MaintenanceClient::new(channel).status(request).await
        })
        .await
    }

    /// A checksum of the answering member's keys and their history up to `revision`, 0 for the newest.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        let request = HashKvRequest { revision };
        self.call(Class::Repeatable, request, |channel, request| async move {
            MaintenanceClient::new(channel).hash_kv(request).await
        })
        .await
    }

    /// The alarms that are on, of all members.
    pub async fn alarm_list(&self) -> Result<AlarmResponse, Error> {
        let request = AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
        self.call(Class::Repeatable, request, |channel, request| async move {
            MaintenanceClient::new(channel).alarm(request).await
        })
        .await
    }
}
