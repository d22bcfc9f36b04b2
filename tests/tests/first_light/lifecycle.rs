//! Starting, ending, embedding.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use kvorum_machine::BackendKind;
use kvorum_server::{Server, StartError};
use kvorum_testkit::{Cluster, Endpoint, Port, Process, eventually};

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_one_data_directory_is_refused() {
    let cluster = Cluster::of(1).as_processes().start().await;
    let log = cluster.data_dir(0).with_file_name("second.log");
    let [clients, peers] = [Port::reserve(), Port::reserve()].map(|port| port.url());
    let dir = cluster.data_dir(0).display().to_string();
    let mut second = Process::start(
        [
            "--name=m0",
            &format!("--data-dir={dir}"),
            &format!("--listen-client-urls={clients}"),
            &format!("--advertise-client-urls={clients}"),
            &format!("--listen-peer-urls={peers}"),
        ],
        &log,
    );
    let status = second.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1));
    let said = second.log();
    assert!(said.contains("is locked: another process or member"), "{said}");
    cluster.endpoint(0).put("a", "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_in_one_process_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::builder().data_dir(dir.path()).start().await.unwrap();
    let second = Server::builder().data_dir(dir.path()).start().await;
    assert!(matches!(second, Err(StartError::Locked(_))), "{:?}", second.err());
    first.stop().await.unwrap();
    Server::builder().data_dir(dir.path()).start().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart_in_order() {
    let mut cluster = Cluster::of(1).start().await;
    cluster.endpoint(0).put("a", "1").await.unwrap();
    cluster.stop(0).await;
    cluster.restart(0).await;
    assert_eq!(cluster.endpoint(0).get("a").await.unwrap().as_deref(), Some("1"));
}

/// The names of this process's threads that belong to members, and its open files below `dir`.
fn traces(dir: &Path) -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let name = std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?;
        let name = name.trim_end().to_owned();
        name.starts_with("embed-").then_some(name)
    });
    let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|file| {
        let target = std::fs::read_link(file.ok()?.path()).ok()?;
        target.starts_with(dir).then(|| target.display().to_string())
    });
    threads.chain(files).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_member_leaves_no_thread_and_no_file() {
    // The store on disk keeps files open of its own; the other one has none.
    for backend in [BackendKind::Memory, BackendKind::Sled] {
        assert_leaves_no_trace(backend).await;
    }
}

async fn assert_leaves_no_trace(backend: BackendKind) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .data_dir(dir.path())
        .thread_name_prefix("embed-")
        .backend(backend.clone())
        .start()
        .await
        .unwrap();
    server.ready().await.unwrap();
    let endpoint = Endpoint::new(&server.endpoints()[0]);
    endpoint.put("a", "1").await.unwrap();
    assert!(traces(dir.path()).len() > 4, "{:?}", traces(dir.path()));
    drop(server);
    assert_eq!(traces(dir.path()), Vec::<String>::new(), "{backend:?}");
    let status = endpoint.put("a", "2").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_served_and_peers_taken_in_at_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let url = |name: &str| format!("unix://{}", dir.path().join(name).display()).parse().unwrap();
    let server = Server::builder()
        .in_memory()
        .listen_client_urls(vec![url("clients")])
        .listen_peer_urls(vec![url("peers")])
        .start()
        .await
        .unwrap();
    server.ready().await.unwrap();
    assert_eq!(server.endpoints(), [format!("unix://{}", dir.path().join("clients").display())]);
    assert_eq!(server.peer_urls(), [format!("unix://{}", dir.path().join("peers").display())]);
    let endpoint = Endpoint::new(&server.endpoints()[0]);
    endpoint.put("a", "1").await.unwrap();
    assert_eq!(endpoint.get("a").await.unwrap().as_deref(), Some("1"));
    assert!(UnixStream::connect(dir.path().join("peers")).is_ok());
    server.stop().await.unwrap();
    assert!(!dir.path().join("clients").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executable_logs_when_it_is_ready_and_ends_with_0() {
    let mut cluster = Cluster::of(1).as_processes().start().await;
    let process = cluster.process(0);
    eventually("the line that says so", async || {
        let said = process.log();
        if said.contains("ready to serve client requests") { Ok(()) } else { Err(said) }
    })
    .await;
    let (status, took) = process.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kvorum_dev_serves_until_it_is_told_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(["dev", "--members", "3"], &dir.path().join("log"));
    let said = eventually("the endpoints", async || {
        let said = process.log();
        if said.contains("Ctrl-C") { Ok(said) } else { Err(said) }
    })
    .await;
    let urls: Vec<&str> =
        said.lines().map(str::trim).filter(|l| l.starts_with("http://")).collect();
    assert_eq!(urls.len(), 3, "{said}");
    assert!(said.contains("kvorumctl --endpoints http://127.0.0.1:"), "{said}");
    let endpoints: Vec<_> = urls.iter().map(|url| Endpoint::new(url)).collect();
    endpoints[0].put("greeting", "hello").await.unwrap();
    for endpoint in &endpoints {
        assert_eq!(endpoint.get("greeting").await.unwrap().as_deref(), Some("hello"));
    }
    let (status, _) = process.terminate();
    assert_eq!(status.code(), Some(0), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_two_clusters_whose_addresses_got_mixed_up_do_not_meet() {
    let old = Cluster::of(1).start().await;
    old.endpoint(0).put("a", "old").await.unwrap();
    // The founder of another cluster believes that one of its peers is where the old cluster's member is.
    let stranger = Server::builder()
        .in_memory()
        .name("x")
        .advertise_peer_urls(vec!["http://127.0.0.1:1".parse().unwrap()])
        .initial_cluster(kvorum_server::config::InitialCluster::new([
            ("x".to_owned(), vec!["http://127.0.0.1:1".parse().unwrap()]),
            ("y".to_owned(), vec![old.peer_url(0).parse().unwrap()]),
        ]))
        .start()
        .await
        .unwrap();
    // Two election timeouts: long enough to be taken in, were anybody to take it in.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stranger.status().leader, None);
    assert_eq!(old.endpoint(0).get("a").await.unwrap().as_deref(), Some("old"));
    stranger.stop().await.unwrap();
}
