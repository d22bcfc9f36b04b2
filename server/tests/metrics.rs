//! The page of metrics: where it is, what is on it, and what many scrapes cost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kvorum_proto::api::etcdserverpb::kv_client::KvClient;
use kvorum_proto::api::etcdserverpb::{PutRequest, RangeRequest};
use kvorum_server::Server;
use kvorum_server::config::ServerUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Request;

/// An answer that has not come by then never comes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

async fn member() -> Server {
    let urls = vec![ServerUrl::http("127.0.0.1", 0)];
    let server = Server::builder().in_memory().listen_metrics_urls(urls).start().await.unwrap();
    server.ready().await.unwrap();
    server
}

/// Status, head and body of what is answered at `url`.
async fn get(url: &str, path: &str) -> (u16, String, String) {
    let address = url.strip_prefix("http://").unwrap();
    let said = timeout(ANSWER_TIME_MAX, async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    });
    let said = said.await.unwrap_or_else(|_| panic!("{path} is not answered"));
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap().get(..3).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

async fn page(server: &Server) -> String {
    let (status, head, body) = get(&server.metrics_urls()[0], "/metrics").await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    body
}

/// A page on which `holds` holds: one may be a moment old.
async fn page_on_which(server: &Server, holds: impl Fn(&str) -> bool) -> String {
    let asked = async {
        loop {
            let page = page(server).await;
            if holds(&page) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(ANSWER_TIME_MAX, asked).await.expect("the page never shows it")
}

fn shows(page: &str, line: &str) -> bool {
    page.lines().any(|found| found == line)
}

/// The value of a series, 0 if it is not there.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// The metrics of a page and what they are.
fn metrics(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let named = types.map(|line| {
        let (name, kind) = line.split_once(' ').unwrap();
        let total = if kind == "counter" { "_total" } else { "" };
        (format!("{name}{total}"), kind.to_owned())
    });
    named.collect()
}

#[tokio::test]
async fn the_page_is_what_the_document_lists() {
    let server = member().await;
    let found = metrics(&page(&server).await);
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeMap<String, String> = rows
        // Those of the allocator are not here: this process has one of its own.
        .filter(|row| !row.starts_with("kvorum_heap_"))
        .filter_map(|row| {
            let (name, rest) = row.split_once('`')?;
            let kind = rest.split('|').nth(1)?.trim();
            let name = name.split('{').next()?;
            Some((name.to_owned(), kind.to_owned()))
        })
        .collect();
    let only = |these: &BTreeMap<String, String>, those: &BTreeMap<String, String>| {
        let other = these.iter().filter(|(name, kind)| those.get(*name) != Some(*kind));
        other.map(|(name, kind)| format!("{name} {kind}")).collect::<BTreeSet<_>>()
    };
    let none = BTreeSet::new();
    assert_eq!(only(&found, &listed), none, "on the page and not so in docs/metrics.md");
    assert_eq!(only(&listed, &found), none, "in docs/metrics.md and not so on the page");
    assert!(found.keys().all(|name| {
        ["etcd_", "kvorum_", "grpc_server_", "process_", "os_fd_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    }));
}

#[tokio::test]
async fn metrics_are_served_to_clients_and_at_urls_of_their_own() {
    let server = member().await;
    let (client, metrics) = (&server.endpoints()[0], &server.metrics_urls()[0]);
    for url in [client, metrics] {
        let (status, _, body) = get(url, "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.ends_with("# EOF\n") && shows(&body, "etcd_server_has_leader 1"), "{body}");
        let (status, _, body) = get(url, "/health").await;
        assert_eq!((status, body.as_str()), (200, r#"{"health":"true","reason":""}"#));
        assert_eq!(get(url, "/readyz").await.0, 200);
    }
    assert_eq!(get(client, "/version").await.0, 200);
    assert_eq!(get(metrics, "/version").await.0, 404);
    page_on_which(&server, |page| value(page, "etcd_server_health_success") == 2.0).await;
}

#[tokio::test]
async fn what_clients_do_is_counted() {
    const PUT: &str = "{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\"";
    let server = member().await;
    let endpoint = server.endpoints()[0].clone();
    let mut kv = KvClient::connect(endpoint).await.unwrap();
    for number in 0..7 {
        let mut request = Request::new(PutRequest { key: "a".into(), ..PutRequest::default() });
        if number < 2 {
            request.metadata_mut().insert("client-api-version", "3.7".parse().unwrap());
        }
        kv.put(request).await.unwrap();
    }
    kv.put(PutRequest::default()).await.unwrap_err();
    kv.range(RangeRequest { key: "a".into(), ..RangeRequest::default() }).await.unwrap();
    let handled = format!("grpc_server_handled_total{PUT},grpc_code=\"OK\"}}");
    let page = page_on_which(&server, |page| {
        value(page, &handled) == 7.0 && value(page, "etcd_mvcc_range_total") == 1.0
    });
    let page = page.await;
    let lines = [
        format!("grpc_server_handled_total{PUT},grpc_code=\"InvalidArgument\"}} 1"),
        format!("grpc_server_started_total{PUT}}} 8"),
        format!("grpc_server_msg_received_total{PUT}}} 8"),
        format!("grpc_server_msg_sent_total{PUT}}} 7"),
        "etcd_server_client_requests_total{type=\"unary\",client_api_version=\"3.7\"} 2".to_owned(),
        "etcd_server_proposals_pending 0".to_owned(),
        "etcd_server_proposals_failed_total 0".to_owned(),
        "etcd_debugging_mvcc_current_revision 8".to_owned(),
        "etcd_debugging_mvcc_keys_total 1".to_owned(),
        "etcd_server_is_leader 1".to_owned(),
        "etcd_server_leader_changes_seen_total 1".to_owned(),
    ];
    for line in lines {
        assert!(shows(&page, &line), "{line} is not on the page:\n{page}");
    }
    let syncs = value(&page, "etcd_disk_wal_fsync_duration_seconds_count");
    assert!(syncs >= 7.0, "{syncs}");
    assert!(value(&page, "etcd_disk_wal_write_bytes_total") > 7.0 * 16.0);
}

#[tokio::test]
async fn scrapes_that_come_together_share_pages() {
    const SCRAPES: usize = 300;
    let server = member().await;
    let url = server.metrics_urls()[0].clone();
    let begun = std::time::Instant::now();
    let scrapes: Vec<_> = (0..SCRAPES)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { get(&url, "/metrics").await.0 })
        })
        .collect();
    let mut refused = 0;
    for scrape in scrapes {
        match scrape.await.unwrap() {
            200 => {}
            503 => refused += 1,
            other => panic!("answered {other}"),
        }
    }
    let page = page_on_which(&server, |page| {
        value(page, "kvorum_metrics_scrapes_total") >= SCRAPES as f64
    });
    let page = page.await;
    // One page in 100 ms at most, however many were asked for.
    let pages_max = begun.elapsed().as_millis() as f64 / 100.0 + 1.0;
    assert!(value(&page, "kvorum_metrics_pages_total") <= pages_max, "{page}");
    assert_eq!(value(&page, "kvorum_metrics_scrapes_dropped_total"), f64::from(refused));
}
