//! A member's client port, called as clients call it.

use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum_proto::api::etcdserverpb::{AlarmRequest, HashKvRequest, StatusRequest};
use kvorum_server::Server;
use tonic::Code;
use tonic::transport::Channel;

async fn member() -> (Server, Channel) {
    let server = Server::builder().in_memory().start().await.unwrap();
    server.ready().await.unwrap();
    let endpoint = server.endpoints().first().unwrap().clone();
    let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
    (server, channel)
}

#[tokio::test]
async fn no_alarm_is_on_and_none_can_be_raised_or_ended() {
    let (server, channel) = member().await;
    let mut maintenance = MaintenanceClient::new(channel);
    let listed = maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.alarms, []);
    let header = listed.header.unwrap();
    assert_eq!(header.revision, 1);
    assert_eq!(header.member_id, server.member().status().id.0);

    for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
        let request = AlarmRequest { action: action.into(), ..AlarmRequest::default() };
        let refused = maintenance.alarm(request).await.unwrap_err();
        let name = action.as_str_name();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert_eq!(
            refused.message(),
            format!("kvorum does not serve etcdserverpb.Maintenance/Alarm with action {name} yet")
        );
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_status_is_whole() {
    let (server, channel) = member().await;
    let mut maintenance = MaintenanceClient::new(channel);
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    let id = server.member().status().id.0;
    assert_eq!((status.version.as_str(), status.storage_version.as_str()), ("3.7.1", "3.7.0"));
    assert_eq!(status.leader, id);
    assert!(status.db_size > 0, "tools divide by it");
    assert!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 0);
    assert!(status.errors.is_empty() && !status.is_learner);
    let hash = maintenance.hash_kv(HashKvRequest::default()).await.unwrap().into_inner();
    let header = hash.header.unwrap();
    assert_eq!((header.revision, hash.hash_revision, hash.compact_revision), (1, 1, -1));
    assert_eq!((header.member_id, header.raft_term), (id, status.raft_term));
    server.stop().await.unwrap();
}
