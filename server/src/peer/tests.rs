//! Two transports and an acceptor over real sockets.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use kvorum_consensus::{Lane, PipeRx, PipeTx, Removed, Transport};
use kvorum_metrics::Registry;
use kvorum_pool::BufferPool;
use kvorum_proto::peer::{DiscoverReply, DiscoveredMember};
use kvorum_types::{ClusterId, Incarnation, MemberId};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::frame::{FrameReader, FrameWriter};
use super::{
    Acceptor, CONNECTIONS_PER_MEMBER_MAX, Host, PeerRx, PeerTransport, PeerTx, discover, handshake,
};
use crate::config::Address;
use crate::metrics::Traffic;
use crate::socket::{BoundListener, Listener};

const CALLER: MemberId = MemberId(1);
const CALLEE: MemberId = MemberId(2);

fn transport_of(cluster: ClusterId, member: MemberId) -> PeerTransport {
    let traffic = Traffic::new(&mut Registry::new());
    PeerTransport::new(cluster, member, BufferPool::new(1 << 20), traffic)
}

fn transport(cluster: u64, member: MemberId) -> Arc<PeerTransport> {
    let transport = transport_of(ClusterId(cluster), member);
    transport.opened(Incarnation(1));
    Arc::new(transport)
}

type Accepted = (Lane, MemberId, PeerTx, PeerRx);

/// A member that accepts, and what it accepted. Connections last as long as what was received of them is kept.
fn callee(address: &Address) -> (String, mpsc::Receiver<Accepted>, JoinHandle<()>) {
    let (accepted, receiver) = mpsc::channel(CONNECTIONS_PER_MEMBER_MAX + 1);
    let (url, task) = host(address, move |lane, from, tx, rx| {
        let accepted = accepted.clone();
        async move {
            let _ = accepted.send((lane, from, tx, rx)).await;
            // The acceptor counts the connection until this ends.
            std::future::pending().await
        }
    });
    (url, receiver, task)
}

/// A member that accepts, and does `serve` with every connection.
fn host<S, F>(address: &Address, serve: S) -> (String, JoinHandle<()>)
where
    S: Fn(Lane, MemberId, PeerTx, PeerRx) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let bound = BoundListener::bind(address).unwrap();
    let url = bound.url().unwrap();
    let listener = Listener::new(bound).unwrap();
    let acceptor = Acceptor::new(transport(9, CALLEE), Serving(serve));
    let task = tokio::spawn(async move { acceptor.run(listener).await });
    (url, task)
}

/// Serves connections, knows one member, and has removed another.
struct Serving<S>(S);

const REMOVED: MemberId = MemberId(7);

impl<S, F> Host for Serving<S>
where
    S: Fn(Lane, MemberId, PeerTx, PeerRx) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    async fn serve(&self, lane: Lane, from: MemberId, tx: PeerTx, rx: PeerRx) {
        (self.0)(lane, from, tx, rx).await;
    }

    async fn members(&self) -> DiscoverReply {
        let member = DiscoveredMember { id: CALLEE.0, ..DiscoveredMember::default() };
        DiscoverReply { cluster_id: 9, members: vec![member], certain: true }
    }

    fn is_removed(&self, member: MemberId) -> bool {
        member == REMOVED
    }
}

fn loopback() -> Address {
    Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 }
}

async fn call(from: &PeerTransport, url: &str, lane: Lane) -> io::Result<(PeerTx, PeerRx)> {
    from.connect(CALLEE, &[url.to_owned()], lane).await
}

#[tokio::test]
async fn messages_pass_both_ways_over_tcp_and_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    for address in [loopback(), Address::Unix(dir.path().join("peer"))] {
        let (url, mut accepted, _task) = callee(&address);
        let (mut tx, mut rx) = call(&transport(9, CALLER), &url, Lane::Snapshot).await.unwrap();
        let (lane, from, mut far_tx, mut far_rx) = accepted.recv().await.unwrap();
        assert_eq!((lane, from), (Lane::Snapshot, CALLER));
        let large = Bytes::from(vec![7; 5 << 20]);
        let parts = [Bytes::from_static(b"head"), large.clone()];
        let (sent, received) = tokio::join!(tx.send(&parts), far_rx.receive());
        sent.unwrap();
        let received = received.unwrap().unwrap();
        assert_eq!((&received[..4], received.len()), (&b"head"[..], 4 + large.len()));
        far_tx.send(&[Bytes::from_static(b"answer")]).await.unwrap();
        assert_eq!(rx.receive().await.unwrap().unwrap(), "answer");
        drop((far_tx, far_rx));
        assert_eq!(rx.receive().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_newcomer_is_told_who_the_members_are_and_nothing_else() {
    let (url, mut accepted, _task) = callee(&loopback());
    let pool = BufferPool::new(1 << 20);
    let reply = discover(&url.parse().unwrap(), &pool).await.unwrap();
    assert_eq!((reply.cluster_id, reply.members[0].id), (9, CALLEE.0));
    assert!(accepted.try_recv().is_err());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(discover(&format!("http://{closed}").parse().unwrap(), &pool).await.is_err());
}

#[tokio::test]
async fn a_member_that_was_removed_is_told_so() {
    let (url, _accepted, _task) = callee(&loopback());
    let refused = call(&transport(9, REMOVED), &url, Lane::Append).await.err().unwrap();
    assert!(refused.get_ref().is_some_and(|inner| inner.is::<Removed>()), "{refused:?}");
}

#[tokio::test]
async fn a_refused_caller_learns_why() {
    let (url, _accepted, _task) = callee(&loopback());
    let refused = call(&transport(8, CALLER), &url, Lane::Append).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(refused.to_string(), "refused by member 2: it belongs to another cluster");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let (url, mut accepted, _task) = callee(&loopback());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let urls = [format!("http://{closed}"), url];
    transport(9, CALLER).connect(CALLEE, &urls, Lane::Control).await.unwrap();
    assert!(accepted.recv().await.is_some());
}

#[tokio::test]
async fn one_member_gets_so_many_connections_and_then_none_until_one_ends() {
    let (url, mut accepted, task) = callee(&loopback());
    let caller = transport(9, CALLER);
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_PER_MEMBER_MAX {
        held.push(call(&caller, &url, Lane::Append).await.unwrap());
        held.extend(accepted.recv().await.map(|(_, _, tx, rx)| (tx, rx)));
    }
    let refused = call(&caller, &url, Lane::Append).await.err().unwrap();
    assert_eq!(refused.to_string(), "refused by member 2: too many connections");
    // Others are not concerned.
    call(&transport(9, MemberId(3)), &url, Lane::Append).await.unwrap();
    task.abort();
}

/// Seen when members were killed and started a thousand times: while one starts, the others give up connection after
/// connection to it, and once it accepted it took those for connections, and had no place left for the first live one.
#[tokio::test]
async fn callers_that_have_gone_give_their_places_back() {
    let (url, _task) = host(&loopback(), |_, _, _tx, mut rx| async move {
        while let Ok(Some(_)) = rx.receive().await {}
    });
    let hello = hello_of(&transport(9, CALLER)).await;
    // The acceptor does not run before this task waits for something.
    for _ in 0..=CONNECTIONS_PER_MEMBER_MAX {
        let mut caller =
            std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        caller.write_all(&hello).unwrap();
    }
    call(&transport(9, CALLER), &url, Lane::Append).await.unwrap();
}

/// What a caller says first.
async fn hello_of(caller: &PeerTransport) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(4096);
    let (read, write) = tokio::io::split(near);
    let mut reader = FrameReader::new(read, BufferPool::new(1 << 20), u32::MAX);
    let mut writer = FrameWriter::new(write, u32::MAX);
    let local = caller.local().unwrap();
    let calling = handshake::call(local, CALLEE, Lane::Append, &mut reader, &mut writer);
    assert!(calling.now_or_never().is_none(), "it waits for the answer");
    drop((reader, writer));
    let mut hello = Vec::new();
    far.read_to_end(&mut hello).await.unwrap();
    hello
}

#[tokio::test]
async fn a_transport_whose_log_is_not_open_speaks_to_nobody() {
    let (url, _accepted, _task) = callee(&loopback());
    let mute = transport_of(ClusterId(9), CALLER);
    let refused = call(&mute, &url, Lane::Append).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::NotConnected);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_its_place_is_free_again() {
    let (url, mut accepted, _task) = callee(&loopback());
    let address = url.strip_prefix("http://").unwrap();
    let mut silent = Vec::new();
    for _ in 0..super::HANDSHAKES_MAX * 2 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    for stream in &mut silent {
        let end = tokio::time::timeout(Duration::from_secs(30), stream.read_u8()).await;
        assert!(end.unwrap().is_err());
    }
    call(&transport(9, CALLER), &url, Lane::Append).await.unwrap();
    assert!(accepted.recv().await.is_some());
}
