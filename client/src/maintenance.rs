//! Questions to one member, and its upkeep. Ask through [`Client::at`] to know which one answers.

use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::downgrade_request::DowngradeAction;
use kvorum_proto::api::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum_proto::api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusRequest, StatusResponse,
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
        self.alarm(AlarmAction::Get, AlarmMember::default()).await
    }

    /// Ends one alarm; the answer names it if it was on.
    pub async fn alarm_disarm(&self, alarm: AlarmMember) -> Result<AlarmResponse, Error> {
        self.alarm(AlarmAction::Deactivate, alarm).await
    }

    /// Ends all alarms that are on, one after the other. As from etcd's own client, the answer has no header.
    pub async fn alarm_disarm_all(&self) -> Result<AlarmResponse, Error> {
        let mut ended = AlarmResponse::default();
        for alarm in self.alarm_list().await?.alarms {
            ended.alarms.extend(self.alarm_disarm(alarm).await?.alarms);
        }
        Ok(ended)
    }

    async fn alarm(&self, action: AlarmAction, alarm: AlarmMember) -> Result<AlarmResponse, Error> {
        let AlarmMember { member_id, alarm } = alarm;
        let request = AlarmRequest { action: action.into(), member_id, alarm };
        self.call(Class::Repeatable, request, |channel, request| async move {
            MaintenanceClient::new(channel).alarm(request).await
        })
        .await
    }

    /// Hands the leadership over to another member. Only the leader takes this call.
    pub async fn move_leader(&self, target: u64) -> Result<MoveLeaderResponse, Error> {
        let request = MoveLeaderRequest { target_id: target };
        self.call(Class::Repeatable, request, |channel, request| async move {
            MaintenanceClient::new(channel).move_leader(request).await
        })
        .await
    }

    /// Gives back the space that the answering member no longer needs.
    pub async fn defragment(&self) -> Result<DefragmentResponse, Error> {
        self.call(Class::Once, DefragmentRequest {}, |channel, request| async move {
            MaintenanceClient::new(channel).defragment(request).await
        })
        .await
    }

    /// Asks whether the cluster may go back to an earlier version, has it begin to, or has it stop.
    pub async fn downgrade(
        &self,
        action: DowngradeAction,
        version: impl Into<String>,
    ) -> Result<DowngradeResponse, Error> {
        let request = DowngradeRequest { action: action.into(), version: version.into() };
        self.call(Class::Once, request, |channel, request| async move {
            MaintenanceClient::new(channel).downgrade(request).await
        })
        .await
    }
}
