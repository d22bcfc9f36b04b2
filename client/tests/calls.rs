//! What the client makes of servers' answers.

mod fake;

use std::time::Duration;

use fake::{Answer, Asked, Server, one};
use kvorum_client::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_client::api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, AuthenticateRequest, AuthenticateResponse,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader,
};
use kvorum_client::api::mvccpb::KeyValue;
use kvorum_client::{Client, Config, Credentials, Error, EtcdError};
use prost::Message;
use tokio::net::TcpSocket;
use tonic::Status;

fn range(value: &'static str) -> RangeResponse {
    let kv = KeyValue { key: "k".into(), value: value.into(), ..Default::default() };
    RangeResponse { kvs: vec![kv], count: 1, ..Default::default() }
}

fn client(servers: &[&Server]) -> Client {
    Client::new(Config::new(servers.iter().map(|server| server.endpoint()))).unwrap()
}

/// An endpoint nobody listens on, and nobody else can as long as the socket is kept.
fn closed_endpoint() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address.to_string())
}

#[tokio::test]
async fn a_read_is_sent_again_while_the_server_is_unavailable() {
    let server = Server::start(|_, before| match before {
        0 => Err(EtcdError::LeaderChanged.into()),
        1 => Err(Status::unavailable("something")),
        _ => one(&range("v")),
    })
    .await;
    let found = client(&[&server]).get("k").await.unwrap();
    assert_eq!(found.unwrap().value, "v");
    assert_eq!(server.paths(), ["/etcdserverpb.KV/Range"; 3]);
}

#[tokio::test]
async fn a_write_is_not() {
    let server = Server::start(|_, _| Err(EtcdError::TimeoutDueToLeaderFail.into())).await;
    let error = client(&[&server]).put("k", "v").await.unwrap_err();
    assert_eq!(error.etcd(), Some(EtcdError::TimeoutDueToLeaderFail));
    assert_eq!(server.paths(), ["/etcdserverpb.KV/Put"]);
}

#[tokio::test]
async fn changes_of_members_are_not_sent_twice_and_bad_addresses_not_at_all() {
    let server = Server::start(|_, _| Err(EtcdError::Unhealthy.into())).await;
    let client = client(&[&server]);
    let url = || vec!["http://127.0.0.1:2380".to_owned()];
    let refused = [
        client.member_add(url(), true).await.map(drop),
        client.member_remove(1).await.map(drop),
        client.member_update(1, url()).await.map(drop),
        client.member_promote(1).await.map(drop),
        client.defragment().await.map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().etcd(), Some(EtcdError::Unhealthy));
    }
    let paths = [
        "/etcdserverpb.Cluster/MemberAdd",
        "/etcdserverpb.Cluster/MemberRemove",
        "/etcdserverpb.Cluster/MemberUpdate",
        "/etcdserverpb.Cluster/MemberPromote",
        "/etcdserverpb.Maintenance/Defragment",
    ];
    assert_eq!(server.paths(), paths);
    let bad = client.member_add(vec!["127.0.0.1:2380".to_owned()], false).await.unwrap_err();
    assert!(matches!(bad, Error::InvalidPeerUrl { .. }), "{bad}");
    assert_eq!(server.paths().len(), paths.len());
}

#[tokio::test]
async fn all_alarms_are_ended_one_after_the_other() {
    let alarm = |id, kind: AlarmType| AlarmMember { member_id: id, alarm: kind.into() };
    let alarms = vec![alarm(1, AlarmType::Nospace), alarm(2, AlarmType::Corrupt)];
    let listed = AlarmResponse { alarms: alarms.clone(), ..Default::default() };
    let server = Server::start(move |asked, _| {
        let asked = AlarmRequest::decode(asked.message.clone()).unwrap();
        let one_ended = AlarmMember { member_id: asked.member_id, alarm: asked.alarm };
        match asked.action() {
            AlarmAction::Get => one(&listed),
            _ => one(&AlarmResponse { alarms: vec![one_ended], ..Default::default() }),
        }
    })
    .await;
    let ended = client(&[&server]).alarm_disarm_all().await.unwrap();
    assert_eq!((ended.header, ended.alarms), (None, alarms));
}

#[tokio::test]
async fn endpoints_take_turns_and_dead_ones_are_passed_over() {
    let [first, second] = [
        Server::start(|_, _| one(&PutResponse::default())).await,
        Server::start(|_, _| one(&PutResponse::default())).await,
    ];
    let (closed, also_closed) = (closed_endpoint(), closed_endpoint());
    let endpoints = [closed.1, first.endpoint(), also_closed.1, second.endpoint()];
    let client = Client::new(Config::new(endpoints)).unwrap();
    for _ in 0..20 {
        client.put("k", "v").await.unwrap();
    }
    let (first, second) = (first.paths().len(), second.paths().len());
    assert_eq!(first + second, 20);
    assert!(first >= 5 && second >= 5, "{first} {second}");
}

#[tokio::test]
async fn a_read_moves_on_to_the_next_endpoint() {
    let sick = Server::start(|_, _| Err(EtcdError::NoLeader.into())).await;
    let well = Server::start(|_, _| one(&range("v"))).await;
    for _ in 0..4 {
        client(&[&sick, &well]).get("k").await.unwrap();
    }
    assert_eq!((sick.paths().len(), well.paths().len()), (4, 4));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_at_the_deadline() {
    let server = Server::start(|_, _| {
        std::thread::sleep(Duration::from_millis(300));
        one(&range("late"))
    })
    .await;
    let client = client(&[&server]).with_timeout(Duration::from_millis(50));
    assert!(matches!(client.get("k").await, Err(Error::DeadlineExceeded)));
}

/// A server that gives the tokens `token-1`, `token-2` and so on, and accepts only those that `accepts` says.
fn with_tokens(accepts: fn(&str) -> Result<(), EtcdError>) -> impl Fn(&Asked, usize) -> Answer {
    let given = std::sync::atomic::AtomicUsize::new(0);
    move |asked, _| {
        if asked.path == "/etcdserverpb.Auth/Authenticate" {
            let request = AuthenticateRequest::decode(asked.message.clone()).unwrap();
            if request.password != "secret" {
                return Err(EtcdError::AuthFailed.into());
            }
            let number = 1 + given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let token = format!("token-{number}");
            return one(&AuthenticateResponse { token, ..Default::default() });
        }
        let token = asked.headers.get("token").map_or("", |token| token.to_str().unwrap());
        accepts(token)?;
        one(&PutResponse::default())
    }
}

fn signed_in(server: &Server, password: &str) -> Client {
    let mut config = Config::new([server.endpoint()]);
    config.credentials = Some(Credentials { user: "ada".into(), password: password.into() });
    Client::new(config).unwrap()
}

#[tokio::test]
async fn a_token_is_got_once_and_again_when_it_is_refused() {
    let server = Server::start(with_tokens(|token| match token {
        "token-2" => Ok(()),
        "token-1" => Err(EtcdError::InvalidAuthToken),
        _ => Err(EtcdError::UserEmpty),
    }))
    .await;
    let client = signed_in(&server, "secret");
    assert_eq!(client.token(), None);
    client.put("k", "v").await.unwrap();
    client.put("k", "v").await.unwrap();
    assert_eq!(client.token().as_deref(), Some("token-2"));
    let (ask, put) = ("/etcdserverpb.Auth/Authenticate", "/etcdserverpb.KV/Put");
    assert_eq!(server.paths(), [ask, put, ask, put, put]);
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let server = Server::start(with_tokens(|_| Ok(()))).await;
    let error = signed_in(&server, "wrong").put("k", "v").await.unwrap_err();
    assert_eq!(error.etcd(), Some(EtcdError::AuthFailed));
    let error = signed_in(&server, "wrong").sign_in().await.unwrap_err();
    assert_eq!(error.etcd(), Some(EtcdError::AuthFailed));
}

#[tokio::test]
async fn servers_that_ask_for_no_user_are_used_without_a_token() {
    let server = Server::start(|asked, _| match asked.path.as_str() {
        "/etcdserverpb.Auth/Authenticate" => Err(EtcdError::AuthNotEnabled.into()),
        _ => one(&PutResponse::default()),
    })
    .await;
    let client = signed_in(&server, "secret");
    client.put("k", "v").await.unwrap();
    client.put("k", "v").await.unwrap();
    let (ask, put) = ("/etcdserverpb.Auth/Authenticate", "/etcdserverpb.KV/Put");
    assert_eq!((server.paths(), client.token()), (vec![ask.into(), put.into(), put.into()], None));
}

#[tokio::test]
async fn a_stream_is_the_answer_in_pieces() {
    let server = Server::start(|_, _| {
        let header = Some(ResponseHeader { revision: 9, ..Default::default() });
        let pieces = [
            RangeResponse { count: 0, ..range("a") },
            RangeResponse { header, count: 2, ..range("b") },
        ];
        let pieces = pieces.map(|piece| RangeStreamResponse { range_response: Some(piece) });
        Ok(pieces.iter().map(|piece| piece.encode_to_vec().into()).collect())
    })
    .await;
    let stream = client(&[&server]).range_stream(RangeRequest::default()).await.unwrap();
    let whole = stream.collect().await.unwrap();
    let values: Vec<_> = whole.kvs.iter().map(|kv| kv.value.clone()).collect();
    assert_eq!(
        (values, whole.count, whole.header.unwrap().revision),
        (vec!["a".into(), "b".into()], 2, 9)
    );
}

#[tokio::test]
async fn what_is_asked_for_is_in_the_metadata() {
    let server = Server::start(|asked, _| {
        let value = if asked.headers.contains_key("hasleader") { "leader" } else { "any" };
        assert!(asked.headers.contains_key("grpc-timeout"));
        one(&range(value))
    })
    .await;
    let client = client(&[&server]);
    assert_eq!(client.get("k").await.unwrap().unwrap().value, "any");
    assert_eq!(client.requiring_leader().get("k").await.unwrap().unwrap().value, "leader");
}
