//! Watches against servers that break off wherever they can.

mod server;

use std::time::Duration;

use kvorum_client::api::etcdserverpb::WatchResponse;
use kvorum_client::{Client, Config, Credentials, Error, UpdateKind, Watch, WatchOptions};
use kvorum_proto::errors::EtcdError;
use tokio::time::timeout;
use tonic::Status;

use server::{PATIENCE, Server, Stream, events, header};

fn client(servers: &[&Server]) -> Client {
    Client::new(Config::new(servers.iter().map(|server| server.endpoint.clone()))).unwrap()
}

fn watch(client: &Client) -> Watch {
    client.watch("k", WatchOptions::new())
}

/// A watch that the only server serves, and was at `revision` when it began to.
async fn served(options: WatchOptions, revision: i64) -> (Server, Client, Watch, Stream) {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let watch = client.watch("k", options);
    let mut stream = server.stream().await;
    stream.create().await;
    stream.created(0, revision);
    (server, client, watch, stream)
}

async fn created(watch: &mut Watch) -> Result<i64, Error> {
    timeout(PATIENCE, watch.created()).await.expect("it is created")
}

async fn next(watch: &mut Watch) -> Option<Result<Vec<i64>, Error>> {
    let item = timeout(PATIENCE, watch.next()).await.expect("something comes");
    item.map(|update| {
        let events = update?.events.into_iter();
        Ok(events.map(|event| event.kv.unwrap().mod_revision).collect())
    })
}

/// The revisions of the next update's events.
async fn revisions(watch: &mut Watch) -> Vec<i64> {
    next(watch).await.expect("it goes on").expect("it has not failed")
}

/// The error that ends the watch.
async fn end(watch: &mut Watch) -> Error {
    let error = next(watch).await.expect("an end").expect_err("an error");
    assert!(next(watch).await.is_none(), "nothing comes after the end");
    error
}

#[tokio::test]
async fn changes_arrive_in_order_and_dropping_cancels() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let mut watch = client.watch("k", WatchOptions::new().prev_kv());
    let mut stream = server.stream().await;
    assert!(
        stream.headers.get("hasleader").is_none() && stream.headers.get("grpc-timeout").is_none()
    );
    let create = stream.create().await;
    assert!(create.start_revision == 0 && create.prev_kv && create.key == "k");
    stream.created(0, 7);
    stream.events(0, &[8, 9]);
    stream.events(0, &[12]);
    assert_eq!(created(&mut watch).await.unwrap(), 7);
    assert_eq!(revisions(&mut watch).await, [8, 9]);
    assert_eq!(revisions(&mut watch).await, [12]);
    assert_eq!(watch.header().revision, 12);
    let other = client.watch("other", WatchOptions::new());
    assert_eq!(stream.create().await.key, "other");
    stream.created(1, 12);
    drop(watch);
    assert_eq!(stream.cancel().await, 0);
    drop(other);
    assert!(stream.request().await.is_none(), "the last watch takes its stream with it");
}

#[tokio::test]
async fn a_connection_lost_before_the_create_is_answered_means_now_anew() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let mut watch = watch(&client);
    let mut stream = server.stream().await;
    stream.create().await;
    stream.cut();
    let mut stream = server.stream().await;
    assert_eq!(stream.create().await.start_revision, 0);
    stream.created(0, 9);
    assert_eq!(created(&mut watch).await.unwrap(), 9);
}

#[tokio::test]
async fn a_watch_from_now_resumes_after_the_revision_of_its_creation() {
    let (mut server, _client, mut watch, stream) = served(WatchOptions::new(), 7).await;
    assert_eq!(created(&mut watch).await.unwrap(), 7);
    stream.cut();
    let mut stream = server.stream().await;
    assert_eq!(stream.create().await.start_revision, 8);
    stream.created(0, 20);
    stream.events(0, &[8, 20]);
    assert_eq!(revisions(&mut watch).await, [8, 20]);
    assert_eq!(created(&mut watch).await.unwrap(), 7);
}

#[tokio::test]
async fn it_resumes_after_the_last_event_at_the_next_endpoint() {
    let (mut first, mut second) = (Server::start().await, Server::start().await);
    let client = client(&[&first, &second]);
    let mut watch = client.watch("k", WatchOptions::new().start_revision(3));
    let mut stream = first.stream().await;
    assert_eq!(stream.create().await.start_revision, 3);
    stream.created(0, 30);
    stream.events(0, &[3, 5]);
    assert_eq!(revisions(&mut watch).await, [3, 5]);
    stream.cut();
    let mut stream = second.stream().await;
    assert_eq!(stream.create().await.start_revision, 6);
    stream.created(4, 30);
    stream.events(4, &[6]);
    assert_eq!(revisions(&mut watch).await, [6]);
    stream.fail(&EtcdError::Stopped.into());
    let mut stream = first.stream().await;
    assert_eq!(stream.create().await.start_revision, 7);
}

#[tokio::test]
async fn half_of_fragments_is_thrown_away_and_asked_for_again() {
    let options = WatchOptions::new().start_revision(3).fragment();
    let (mut server, _client, mut watch, mut stream) = served(options, 30).await;
    let fragment = |revisions: &[i64]| WatchResponse { fragment: true, ..events(0, revisions) };
    stream.send(&fragment(&[3, 4]));
    stream.send(&fragment(&[4, 4]));
    stream.cut();
    let mut stream = server.stream().await;
    assert_eq!(stream.create().await.start_revision, 3);
    stream.created(0, 30);
    stream.send(&fragment(&[3, 4]));
    stream.send(&fragment(&[4, 4]));
    stream.events(0, &[5]);
    assert_eq!(revisions(&mut watch).await, [3, 4, 4, 4, 5]);
    stream.cut();
    assert_eq!(server.stream().await.create().await.start_revision, 6);
}

#[tokio::test]
async fn it_resumes_after_progress_of_its_own_but_not_after_that_of_the_stream() {
    let options = WatchOptions::new().progress_notify();
    let (mut server, client, mut watch, mut stream) = served(options, 7).await;
    let progress = |watch_id, revision| WatchResponse {
        header: header(revision),
        watch_id,
        ..Default::default()
    };
    stream.send(&progress(0, 11));
    assert!(revisions(&mut watch).await.is_empty() && watch.header().revision == 11);
    client.request_watch_progress();
    stream.request().await;
    stream.send(&progress(-1, 15));
    assert!(revisions(&mut watch).await.is_empty() && watch.header().revision == 15);
    stream.cut();
    assert_eq!(server.stream().await.create().await.start_revision, 12);
}

#[tokio::test]
async fn compaction_is_told_with_its_revision() {
    let options = WatchOptions::new().start_revision(3);
    let (mut server, _client, mut watch, mut stream) = served(options, 30).await;
    stream.events(0, &[3]);
    assert_eq!(revisions(&mut watch).await, [3]);
    stream.cut();
    let mut stream = server.stream().await;
    assert_eq!(stream.create().await.start_revision, 4);
    stream.created(0, 30);
    stream.send(&WatchResponse { canceled: true, compact_revision: 9, ..Default::default() });
    let error = end(&mut watch).await;
    assert!(matches!(error, Error::Compacted { compact_revision: 9 }), "{error:?}");
    assert!(stream.request().await.is_none());
    assert!(!server.has_more_streams());
}

#[tokio::test]
async fn a_refusal_is_told_and_the_other_watches_go_on() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let mut refused = client.watch("b", WatchOptions::new().until("a"));
    let mut served = watch(&client);
    let mut stream = server.stream().await;
    assert_eq!((stream.create().await.key, stream.create().await.key), ("b".into(), "k".into()));
    stream.send(&WatchResponse {
        watch_id: -1,
        created: true,
        canceled: true,
        cancel_reason: "mvcc: watcher range is empty".into(),
        ..Default::default()
    });
    stream.created(0, 7);
    stream.events(0, &[8]);
    assert_eq!(
        created(&mut refused).await.unwrap_err().to_string(),
        "mvcc: watcher range is empty"
    );
    assert!(next(&mut refused).await.is_none());
    assert_eq!(revisions(&mut served).await, [8]);
}

#[tokio::test]
async fn a_call_that_no_server_knows_ends_every_watch() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let mut watches = [watch(&client), watch(&client)];
    server.stream().await.fail(&Status::unimplemented("no watches here"));
    for watch in &mut watches {
        let error = end(watch).await;
        assert_eq!(error.to_string(), "rpc error: code = Unimplemented desc = no watches here");
    }
    assert!(!server.has_more_streams());
}

#[tokio::test]
async fn a_member_without_a_leader_is_left_for_the_next() {
    let (mut first, mut second) = (Server::start().await, Server::start().await);
    let client = client(&[&first, &second]).requiring_leader();
    let mut watch = watch(&client);
    let stream = first.stream().await;
    assert_eq!(stream.headers["hasleader"], "true");
    stream.fail(&EtcdError::NoLeader.into());
    let mut stream = second.stream().await;
    stream.create().await;
    stream.created(0, 7);
    stream.events(0, &[8]);
    assert_eq!(revisions(&mut watch).await, [8]);
    stream.fail(&EtcdError::NoLeader.into());
    assert_eq!(first.stream().await.create().await.start_revision, 9);
}

#[tokio::test]
async fn an_event_from_before_is_never_passed_on() {
    let options = WatchOptions::new().start_revision(3);
    let (_server, _client, mut watch, mut stream) = served(options, 30).await;
    stream.events(0, &[3, 4]);
    stream.events(0, &[4]);
    assert_eq!(revisions(&mut watch).await, [3, 4]);
    let error = end(&mut watch).await;
    assert!(matches!(error, Error::WatchDisorder { expected: 5, received: 4 }), "{error:?}");
}

#[tokio::test]
async fn one_that_is_not_read_leaves_the_server_and_comes_back() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let mut slow = client.watch("slow", WatchOptions::new().queue_bytes(1).start_revision(3));
    let mut quick = client.watch("quick", WatchOptions::new().start_revision(3));
    let mut stream = server.stream().await;
    for id in 0..2 {
        stream.create().await;
        stream.created(id, 30);
    }
    stream.events(0, &[3]);
    stream.events(0, &[4]);
    assert_eq!(stream.cancel().await, 0);
    // What was on its way is not lost: it will be asked for again.
    stream.events(0, &[5]);
    for revision in 3..50 {
        stream.events(1, &[revision]);
        assert_eq!(revisions(&mut quick).await, [revision]);
    }
    stream.send(&WatchResponse { watch_id: 0, canceled: true, ..Default::default() });
    assert_eq!(revisions(&mut slow).await, [3]);
    let create = stream.create().await;
    assert_eq!((create.key, create.start_revision), ("slow".into(), 4));
    stream.created(2, 50);
    stream.events(2, &[4, 5]);
    assert_eq!(revisions(&mut slow).await, [4, 5]);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced() {
    let mut server = Server::start().await;
    let mut config = Config::new([server.endpoint.clone()]);
    config.credentials = Some(Credentials { user: "ada".into(), password: "secret".into() });
    let client = Client::new(config).unwrap();
    let mut watch = watch(&client);
    let mut stream = server.stream().await;
    assert_eq!(stream.headers["token"], "token-1");
    stream.create().await;
    stream.send(&WatchResponse {
        watch_id: -1,
        created: true,
        canceled: true,
        cancel_reason: "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
            .into(),
        ..Default::default()
    });
    let mut stream = server.stream().await;
    assert_eq!(stream.headers["token"], "token-2");
    stream.create().await;
    stream.created(0, 7);
    assert_eq!(created(&mut watch).await.unwrap(), 7);
}

/// What the next update is, and how many events it has.
async fn kind(watch: &mut Watch) -> (UpdateKind, usize) {
    let update = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    (update.kind, update.events.len())
}

#[tokio::test]
async fn a_state_that_breaks_off_begins_anew() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let mut watch = client.watch("k", WatchOptions::new().prefix().with_state());
    let mut stream = server.stream().await;
    assert!(stream.create().await.with_state);
    stream.created(0, 30);
    stream.events(0, &[9, 3]);
    let mut kinds = vec![kind(&mut watch).await, kind(&mut watch).await];
    stream.cut();
    let mut stream = server.stream().await;
    assert!(stream.create().await.with_state);
    stream.created(0, 31);
    stream.events(0, &[9, 31, 3]);
    let mark = WatchResponse { header: header(31), state_complete: true, ..Default::default() };
    stream.send(&mark);
    stream.events(0, &[32]);
    while kinds.last() != Some(&(UpdateKind::Changes, 1)) {
        kinds.push(kind(&mut watch).await);
    }
    let (begins, state) = ((UpdateKind::StateBegins, 0), UpdateKind::State);
    let expected = [
        begins,
        (state, 2),
        begins,
        (state, 3),
        (UpdateKind::StateComplete, 0),
        (UpdateKind::Changes, 1),
    ];
    assert_eq!(kinds, expected);
    stream.cut();
    let create = server.stream().await.create().await;
    assert!(!create.with_state && create.start_revision == 33);
}

#[tokio::test]
async fn a_server_that_knows_no_state_is_found_out() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let mut watch = client.watch("k", WatchOptions::new().with_state());
    let mut stream = server.stream().await;
    stream.create().await;
    stream.created(0, 30);
    assert!(revisions(&mut watch).await.is_empty(), "the state begins");
    stream.request().await;
    stream.send(&WatchResponse { header: header(30), watch_id: -1, ..Default::default() });
    let error = end(&mut watch).await.to_string();
    assert!(error.contains("the server knows no watches with state"), "{error}");
}

#[tokio::test]
async fn more_watches_than_fit_get_another_stream() {
    let mut server = Server::start().await;
    let client = client(&[&server]);
    let watches: Vec<Watch> = (0..1001).map(|_| watch(&client)).collect();
    let (mut first, mut second) = (server.stream().await, server.stream().await);
    for _ in 0..1000 {
        first.create().await;
    }
    second.create().await;
    drop(watches);
    assert!(first.request().await.is_none() && second.request().await.is_none());
    assert!(!server.has_more_streams());
}

#[test]
fn a_watch_ends_with_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let mut watch = first.block_on(async {
        let client = Client::new(Config::new(["127.0.0.1:1"])).unwrap();
        watch(&client)
    });
    drop(first);
    let error = runtime().block_on(end(&mut watch));
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[tokio::test]
async fn a_member_that_does_not_answer_is_left() {
    let mut silent = Server::start().await;
    let mut speaking = Server::start().await;
    let mut config = Config::new([silent.endpoint.clone(), speaking.endpoint.clone()]);
    config.request_timeout = Duration::from_millis(1);
    let mut watch = watch(&Client::new(config).unwrap());
    let began = std::time::Instant::now();
    let mut stream = silent.stream().await;
    stream.create().await;
    let mut stream = speaking.stream().await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    stream.create().await;
    stream.created(0, 7);
    assert_eq!(created(&mut watch).await.unwrap(), 7);
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_left() {
    let (mut silent, mut speaking) = (Server::start().await, Server::start().await);
    let mut config = Config::new([silent.endpoint.clone(), speaking.endpoint.clone()]);
    config.keep_alive_interval = Some(Duration::from_millis(300));
    config.keep_alive_timeout = Duration::from_secs(1);
    let mut watch = watch(&Client::new(config).unwrap());
    let mut stream = silent.stream().await;
    stream.create().await;
    stream.created(0, 7);
    stream.events(0, &[9]);
    assert_eq!(revisions(&mut watch).await, [9]);
    stream.fall_silent();
    assert_eq!(speaking.stream().await.create().await.start_revision, 10);
}

#[tokio::test]
async fn a_quiet_watch_that_hears_progress_outlives_compactions() {
    let options = WatchOptions::new().progress_notify();
    let (mut server, _client, mut watch, mut stream) = served(options, 7).await;
    for revision in [100, 200, 300] {
        stream.send(&WatchResponse { header: header(revision), ..Default::default() });
        assert!(revisions(&mut watch).await.is_empty());
        stream.cut();
        // A server that has compacted up to there serves what is asked for, and would not have served 8.
        stream = server.stream().await;
        assert_eq!(stream.create().await.start_revision, revision + 1);
        stream.created(0, revision);
    }
    stream.events(0, &[301]);
    assert_eq!(revisions(&mut watch).await, [301]);
}
