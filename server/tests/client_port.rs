//! A member's client port, called as clients call it.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb::cluster_client::ClusterClient;
use kvorum_proto::api::etcdserverpb::kv_client::KvClient;
use kvorum_proto::api::etcdserverpb::maintenance_client::MaintenanceClient;
use kvorum_proto::api::etcdserverpb::{
    AlarmRequest, HashKvRequest, MemberListRequest, RangeRequest, StatusRequest,
};
use kvorum_server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Extensions, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// An answer that has not come by then never comes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// The most of a plain answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

async fn member() -> (Server, Channel) {
    let server = Server::builder().in_memory().start().await.unwrap();
    server.ready().await.unwrap();
    let endpoint = server.endpoints().first().unwrap().clone();
    let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
    (server, channel)
}

/// Status, head and body of what a member answers over HTTP/1.1.
async fn plain(server: &Server, method: &str, target: &str) -> (u16, String, String) {
    let endpoint = server.endpoints().first().unwrap();
    let address = endpoint.strip_prefix("http://").unwrap();
    let said = timeout(ANSWER_TIME_MAX, async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut said).await.unwrap();
        said
    });
    let said = said.await.unwrap_or_else(|_| panic!("{method} {target} is not answered"));
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap().get(..3).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn health_and_version_are_told_over_plain_http() {
    let server = Server::builder().in_memory().start().await.unwrap();
    server.ready().await.unwrap();
    let version = format!(
        r#"{{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0","kvorum":"{}"}}"#,
        env!("CARGO_PKG_VERSION")
    );
    let ready = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
                 [+]non_learner ok\nok\n";
    let text = "text/plain; charset=utf-8";
    let answers = [
        ("GET", "/health", 200, text, r#"{"health":"true","reason":""}"#),
        ("GET", "/livez", 200, text, "ok\n"),
        ("GET", "/readyz", 200, text, "ok\n"),
        ("GET", "/readyz?verbose", 200, text, ready),
        ("GET", "/version", 200, "application/json", version.as_str()),
        ("POST", "/health", 405, text, "Method Not Allowed\n"),
        ("GET", "/debug/vars", 404, text, "404 page not found\n"),
        ("POST", "/v3/kv/range", 404, text, "404 page not found\n"),
    ];
    for (method, target, status, kind, wanted) in answers {
        let (found, head, body) = plain(&server, method, target).await;
        assert_eq!((found, body.as_str()), (status, wanted), "{method} {target}");
        assert!(head.contains(&format!("\r\ncontent-type: {kind}")), "{method} {target}: {head}");
        let is_allowed = head.contains("\r\nallow: get");
        assert_eq!(is_allowed, status == 405, "{method} {target}: {head}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn grpc_says_that_it_serves_and_what() {
    let (server, channel) = member().await;
    let whole = HealthCheckRequest { service: String::new() };
    let mut health = HealthClient::new(channel.clone());
    let checked = health.check(whole).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::Serving);

    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let questions = futures_util::stream::iter([question]);
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(questions).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names = listed.service.iter().map(|service| service.name.as_str()).collect::<Vec<_>>();
    for wanted in ["etcdserverpb.KV", "etcdserverpb.Maintenance", "grpc.health.v1.Health"] {
        assert!(names.contains(&wanted), "{names:?} lacks {wanted}");
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn the_list_of_members_carries_no_revision() {
    let (server, channel) = member().await;
    let request = MemberListRequest { linearizable: true };
    let listed = ClusterClient::new(channel).member_list(request).await.unwrap().into_inner();
    let header = listed.header.unwrap();
    let id = server.member().status().id.0;
    assert_eq!((header.revision, header.member_id), (0, id));
    assert!(header.raft_term > 0 && header.cluster_id != 0);
    assert_eq!(listed.members.iter().map(|member| member.id).collect::<Vec<_>>(), [id]);
    server.stop().await.unwrap();
}

/// A read of one key by a client that says it is of that version.
fn range_by(version: &[u8]) -> Request<RangeRequest> {
    let mut headers = http::HeaderMap::new();
    headers.insert("client-api-version", http::HeaderValue::from_bytes(version).unwrap());
    let request = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    Request::from_parts(MetadataMap::from_headers(headers), Extensions::default(), request)
}

#[tokio::test]
async fn a_client_whose_version_is_not_text_is_refused() {
    let (server, channel) = member().await;
    let mut kv = KvClient::new(channel);
    kv.range(range_by(b"3.7.1")).await.unwrap();
    let refused = kv.range(range_by(b"3.7.\xff")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "etcdserver: invalid client api version");
    // The connection is still good.
    kv.range(range_by("3.7.\u{e9}".as_bytes())).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn no_alarm_is_on_at_first() {
    let (server, channel) = member().await;
    let mut maintenance = MaintenanceClient::new(channel);
    let listed = maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.alarms, []);
    let header = listed.header.unwrap();
    assert_eq!(header.revision, 1);
    assert_eq!(header.member_id, server.member().status().id.0);
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
