//! What the page of metrics says of memory.

use std::collections::BTreeSet;

use kvorum_client::admin::{SetRequest, Settings};
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{MIB, client_of};

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

async fn page(cluster: &Cluster) -> String {
    let url = &cluster.client_urls()[0];
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

/// The value of a series.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.trim().parse().unwrap())
}

/// Of all classes of buffers.
fn idle_bytes(page: &str) -> Option<f64> {
    let of_a_class = |line: &str| {
        let (_, value) = line.strip_prefix("kvorum_pool_held_bytes{")?.split_once("} ")?;
        value.trim().parse::<f64>().ok()
    };
    page.lines().filter_map(of_a_class).reduce(|sum, bytes| sum + bytes)
}

/// A page on which these series have these values: one may be a moment old.
async fn page_with(cluster: &Cluster, wanted: &[(&str, f64)]) -> String {
    eventually("the page to show it", async || {
        let page = page(cluster).await;
        let other = wanted.iter().find(|(series, wanted)| value(&page, series) != Some(*wanted));
        match other {
            Some((series, wanted)) => Err((*series, *wanted, value(&page, series))),
            None => Ok(page),
        }
    })
    .await
}

/// Waits for a page on which each of these series is more than 0.
async fn page_on_which_are_more_than_none(cluster: &Cluster, grows: &[&str]) {
    eventually("the page to count it", async || {
        let page = page(cluster).await;
        let none = grows.iter().find(|series| value(&page, series) <= Some(0.0));
        none.map_or(Ok(()), |series| Err((*series, page)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_allocators_metrics_are_those_that_the_document_lists() {
    let cluster = Cluster::of(1).as_processes().start().await;
    let page = page(&cluster).await;
    let is_ours = |(name, _): &(String, String)| name.starts_with("kvorum_heap_");
    let found = page.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let total = if kind == "counter" { "_total" } else { "" };
        Some((format!("{name}{total}"), kind.trim().to_owned()))
    });
    let listed = DOCUMENT.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
        let kind = rest.split('|').nth(1)?.trim();
        Some((name.split('{').next()?.to_owned(), kind.to_owned()))
    });
    let found: BTreeSet<_> = found.filter(is_ours).collect();
    assert_eq!(found, listed.filter(is_ours).collect());
    assert!(value(&page, "kvorum_heap_allocated_bytes") > Some(0.0), "{page}");
    assert!(value(&page, "kvorum_heap_arenas") > Some(0.0), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_and_purged_and_refused_is_on_the_page() {
    let cluster = Cluster::of(1).as_processes().start().await;
    let client = client_of(&cluster, 0);
    client.heap_set_policy("latency", false).await.unwrap();
    let limits = Settings {
        soft_limit_bytes: Some(0),
        hard_limit_bytes: Some(64 * MIB),
        quiet_purge_ms: Some(0),
        ..Settings::default()
    };
    let request = SetRequest { settings: Some(limits), ..SetRequest::default() };
    client.heap_set(request).await.unwrap();
    let holds = [
        ("kvorum_heap_policy{policy=\"latency\"}", 1.0),
        ("kvorum_heap_policy{policy=\"balanced\"}", 0.0),
        ("kvorum_heap_dirty_decay_seconds", 600.0),
        ("kvorum_heap_quiet_purge_seconds", 0.0),
        ("kvorum_heap_soft_limit_bytes", 0.0),
        ("kvorum_heap_hard_limit_bytes", 64.0 * MIB as f64),
        ("kvorum_heap_purges_total{reason=\"quiet\"}", 0.0),
    ];
    page_with(&cluster, &holds).await;

    let endpoint = Endpoint::new(&cluster.client_urls()[0]);
    eventually("a refusal", async || match endpoint.put("key", vec![b'v'; MIB as usize]).await {
        Ok(_) => {
            fill(&endpoint).await;
            Err(())
        }
        Err(status) => {
            assert_eq!(status.message(), "etcdserver: too many requests");
            Ok(())
        }
    })
    .await;
    let grows = ["kvorum_heap_refused_total", "kvorum_heap_purges_total{reason=\"hard_limit\"}"];
    page_on_which_are_more_than_none(&cluster, &grows).await;
}

/// Puts more that stays.
async fn fill(endpoint: &Endpoint) {
    for number in 0..16 {
        // Whether it is refused is not the matter here.
        let _ = endpoint.put(format!("fill/{number}"), vec![b'v'; MIB as usize]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_gives_back_the_buffers_that_lie_idle() {
    let cluster = Cluster::of(1).as_processes().start().await;
    let (client, endpoint) = (client_of(&cluster, 0), Endpoint::new(&cluster.client_urls()[0]));
    eventually("an idle buffer", async || {
        endpoint.put("key", vec![b'v'; 60_000]).await.unwrap();
        let page = page(&cluster).await;
        idle_bytes(&page).filter(|bytes| *bytes >= 65_536.0).ok_or(page)
    })
    .await;
    eventually("none", async || {
        client.heap_purge(None).await.unwrap();
        let page = page(&cluster).await;
        idle_bytes(&page).filter(|bytes| *bytes == 0.0).ok_or(page)
    })
    .await;
    let grows = ["kvorum_heap_purges_total{reason=\"asked_for\"}"];
    page_on_which_are_more_than_none(&cluster, &grows).await;
}
