//! Leases that are kept alive.

use kvorum_client::api::etcdserverpb::{
    AuthenticateResponse, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
};
use kvorum_client::{Client, Config, Credentials, Error, EtcdError, KeepAlive};
use tokio::time::timeout;
use tonic::Status;

use super::streams::{PATIENCE, Server, Stream};
use super::{client, message, unexpected};

/// The next keep-alive, which is for this lease.
async fn asked(stream: &mut Stream) -> i64 {
    stream.next::<LeaseKeepAliveRequest>().await.expect("a keep-alive comes").id
}

fn answer(stream: &mut Stream, id: i64, ttl: i64) {
    stream.send(&LeaseKeepAliveResponse { id, ttl, ..Default::default() });
}

async fn next(kept: &mut KeepAlive) -> Option<Result<i64, Error>> {
    let item = timeout(PATIENCE, kept.next()).await.expect("something comes");
    item.map(|answer| Ok(answer?.ttl))
}

/// The error that ends it.
async fn end(kept: &mut KeepAlive) -> Error {
    let error = next(kept).await.expect("an end").expect_err("an error");
    assert!(next(kept).await.is_none(), "nothing comes after the end");
    assert!(!kept.is_alive() && kept.remaining().is_zero());
    error
}

#[tokio::test]
async fn a_lease_is_renewed_again_and_again_until_it_is_dropped() {
    let mut server = Server::answering(unexpected).await;
    let client = client(&[&server]);
    let mut kept = client.keep_alive(7);
    let mut stream = server.stream().await;
    assert!(
        stream.headers.contains_key("hasleader") && !stream.headers.contains_key("grpc-timeout")
    );
    for _ in 0..3 {
        assert_eq!(asked(&mut stream).await, 7);
        answer(&mut stream, 7, 1);
        assert_eq!(next(&mut kept).await.unwrap().unwrap(), 1);
        assert!(kept.is_alive());
    }
    drop(kept);
    assert!(stream.next::<LeaseKeepAliveRequest>().await.is_none(), "it takes its stream with it");
}

#[tokio::test]
async fn leases_share_a_stream() {
    let mut server = Server::answering(unexpected).await;
    let client = client(&[&server]);
    let (first, mut second) = (client.keep_alive(1), client.clone().keep_alive(2));
    let mut stream = server.stream().await;
    let mut ids = [asked(&mut stream).await, asked(&mut stream).await];
    ids.sort();
    assert_eq!(ids, [1, 2]);
    answer(&mut stream, 2, 1);
    answer(&mut stream, 1, 100);
    assert_eq!(next(&mut second).await.unwrap().unwrap(), 1);
    drop(first);
    assert_eq!(asked(&mut stream).await, 2);
    assert!(!server.has_more_streams());
}

#[tokio::test]
async fn it_goes_on_at_the_next_endpoint_when_the_connection_breaks() {
    let (mut first, mut second) =
        (Server::answering(unexpected).await, Server::answering(unexpected).await);
    let client = client(&[&first, &second]);
    let mut kept = client.keep_alive(7);
    let mut stream = first.stream().await;
    assert_eq!(asked(&mut stream).await, 7);
    answer(&mut stream, 7, 3);
    assert_eq!(next(&mut kept).await.unwrap().unwrap(), 3);
    assert_eq!(asked(&mut stream).await, 7);
    stream.cut();
    let mut stream = second.stream().await;
    assert_eq!(asked(&mut stream).await, 7);
    answer(&mut stream, 7, 3);
    assert_eq!(next(&mut kept).await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_member_without_a_leader_and_one_that_is_silent_are_left() {
    let (mut first, mut second, mut third) = (
        Server::answering(unexpected).await,
        Server::answering(unexpected).await,
        Server::answering(unexpected).await,
    );
    let client = client(&[&first, &second, &third]);
    let mut kept = client.keep_alive(7);
    let mut stream = first.stream().await;
    assert_eq!(asked(&mut stream).await, 7);
    stream.fail(&EtcdError::NoLeader.into());
    let mut silent = second.stream().await;
    assert_eq!(asked(&mut silent).await, 7);
    let mut stream = third.stream().await;
    assert_eq!(asked(&mut stream).await, 7);
    answer(&mut stream, 7, 60);
    assert_eq!(next(&mut kept).await.unwrap().unwrap(), 60);
}

#[tokio::test]
async fn a_lease_that_is_gone_ends_with_lease_not_found() {
    let mut server = Server::answering(unexpected).await;
    let client = client(&[&server]);
    let (mut kept, mut again) = (client.keep_alive(7), client.keep_alive(7));
    let mut stream = server.stream().await;
    asked(&mut stream).await;
    answer(&mut stream, 7, 0);
    assert_eq!(end(&mut kept).await.etcd(), Some(EtcdError::LeaseNotFound));
    assert_eq!(end(&mut again).await.etcd(), Some(EtcdError::LeaseNotFound));
}

#[tokio::test]
async fn a_lease_that_nobody_renews_is_lost_by_the_clock() {
    let mut server = Server::answering(unexpected).await;
    let client = client(&[&server]);
    let mut kept = client.keep_alive(7);
    let mut stream = server.stream().await;
    asked(&mut stream).await;
    answer(&mut stream, 7, 1);
    assert_eq!(next(&mut kept).await.unwrap().unwrap(), 1);
    // What comes from now on is not answered, here or on another stream.
    assert!(matches!(end(&mut kept).await, Error::LeaseExpired));
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_not_waited_for_for_ever() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut config = Config::new([socket.local_addr().unwrap().to_string()]);
    config.dial_timeout = std::time::Duration::from_millis(10);
    let mut kept = Client::new(config).unwrap().keep_alive(7);
    assert!(matches!(end(&mut kept).await, Error::LeaseExpired));
}

#[tokio::test]
async fn a_lease_that_is_refused_takes_no_other_with_it() {
    let mut server = Server::answering(unexpected).await;
    let client = client(&[&server]);
    let (mut mine, mut other) = (client.keep_alive(1), client.keep_alive(2));
    let mut stream = server.stream().await;
    loop {
        match asked(&mut stream).await {
            1 => answer(&mut stream, 1, 60),
            _ => {
                stream.fail(&EtcdError::PermissionDenied.into());
                if mine.is_alive() && !other.is_alive() {
                    break;
                }
                match timeout(std::time::Duration::from_millis(300), server.stream()).await {
                    Ok(next) => stream = next,
                    Err(_) => break,
                }
            }
        }
    }
    assert_eq!(end(&mut other).await.etcd(), Some(EtcdError::PermissionDenied));
    assert!(mine.is_alive());
    assert_eq!(next(&mut mine).await.unwrap().unwrap(), 60);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced() {
    let given = std::sync::atomic::AtomicUsize::new(0);
    let mut server = Server::answering(move |_, _| {
        let number = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let token = format!("token-{number}");
        message(&AuthenticateResponse { token, ..Default::default() })
    })
    .await;
    let mut config = Config::new([server.endpoint.clone()]);
    config.credentials = Some(Credentials { user: "ada".into(), password: "secret".into() });
    let mut kept = Client::new(config).unwrap().keep_alive(7);
    let mut stream = server.stream().await;
    assert_eq!(stream.headers["token"], "token-1");
    asked(&mut stream).await;
    stream.fail(&EtcdError::InvalidAuthToken.into());
    let mut stream = server.stream().await;
    assert_eq!(stream.headers["token"], "token-2");
    asked(&mut stream).await;
    answer(&mut stream, 7, 60);
    assert_eq!(next(&mut kept).await.unwrap().unwrap(), 60);
}

#[tokio::test]
async fn once_is_once_but_tried_again_while_the_server_is_unavailable() {
    let mut server = Server::answering(unexpected).await;
    let client = client(&[&server]);
    let once = tokio::spawn(async move { client.keep_alive_once(7).await });
    let mut stream = server.stream().await;
    asked(&mut stream).await;
    stream.fail(&Status::unavailable("something"));
    let mut stream = server.stream().await;
    asked(&mut stream).await;
    answer(&mut stream, 7, 60);
    assert_eq!(once.await.unwrap().unwrap().ttl, 60);
    let client = super::client(&[&server]);
    let once = tokio::spawn(async move { client.keep_alive_once(7).await });
    let mut stream = server.stream().await;
    asked(&mut stream).await;
    answer(&mut stream, 7, 0);
    assert_eq!(once.await.unwrap().unwrap_err().etcd(), Some(EtcdError::LeaseNotFound));
}

#[tokio::test]
async fn a_grant_is_tried_again_while_the_server_is_unavailable() {
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::answering(move |_, _| {
        match tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Err(EtcdError::LeaderChanged.into()),
            _ => message(&LeaseGrantResponse { id: 7, ttl: 60, ..Default::default() }),
        }
    })
    .await;
    assert_eq!(client(&[&server]).lease_grant(60, 0).await.unwrap().id, 7);
    assert_eq!(server.calls(), ["/etcdserverpb.Lease/LeaseGrant"; 2]);
}
