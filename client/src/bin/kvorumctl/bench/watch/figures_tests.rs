use std::time::{Duration, Instant};

use super::{Faults, Figures};
use crate::bench::plan::{Plan, command};
use crate::bench::process::{ServerUsage, Usage};
use crate::bench::recorder::Recorder;

fn figures(faults: Faults) -> Figures {
    let matches = command().try_get_matches_from(["bench", "watch", "--watchers=2"]).unwrap();
    let (kind, matches) = matches.subcommand().unwrap();
    let record = |name, count| {
        let mut recorder = Recorder::new();
        for number in 1..=count {
            recorder.success(name, Duration::from_millis(number), 100, Instant::now());
        }
        recorder
    };
    let mut deliveries = record("delivery", 4);
    deliveries.failure("stream: etcdserver: no leader".into());
    let server = ServerUsage {
        pid: 11,
        cpu: Some(Duration::from_micros(300)),
        resident_bytes: 3_000_000,
        resident_bytes_max: 4_000_000,
    };
    Figures {
        plan: Plan::read(kind, matches).unwrap(),
        endpoints: vec!["127.0.0.1:2379".into()],
        opened_in: Duration::from_millis(7),
        put_for: Duration::from_millis(250),
        told_for: Duration::from_millis(500),
        faults,
        puts: record("put", 2),
        deliveries,
        usage: Usage { own: Duration::from_micros(40), servers: vec![server] },
        resident_bytes_before: 1_000_000,
    }
}

#[test]
fn text_says_how_soon_and_how_well() {
    let text = figures(Faults::default()).text();
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "watch    4 events in 500ms, 2 watchers, 0 idle watchers, 1 streams, 1 connections",
        "rate     8.0 events/s",
        "delivery p50 2.001 ms  p90 4.002 ms  p99 4.002 ms  p99.9 4.002 ms  max 4.002 ms",
        "faults   0 missed, 0 duplicated, 0 out of order",
        "puts     2 in 250ms, 8.0/s, 1 clients, 1 connections, values of 256 B",
        "latency  p50 1.000 ms  p90 2.001 ms  p99 2.001 ms  p99.9 2.001 ms  max 2.001 ms",
        "opened   all watchers in 7.000 ms",
        "received 400 B",
        "errors   1",
        "         1 x stream: etcdserver: no leader",
        "client   10.00 us of processor time an event, 20.0 us a put",
        "servers  75.00 us of processor time an event, 150.0 us a put, 3.0 MB resident, 2.0 MB more than before",
        "         pid 11: 75.00 us of processor time an event, 150.0 us a put, 3.0 MB",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn json_holds_the_same() {
    let faults = Faults { missed: 1, duplicated: 2, out_of_order: 3 };
    let figures = figures(faults);
    assert!(!figures.is_faultless());
    let json = figures.json();
    for part in [
        r#"{"work":"watch","endpoints":["127.0.0.1:2379"],"watchers":2,"idle_watchers":0,"streams":1,"watch_connections":1,"clients":1,"connections":1,"value_bytes":256,"seconds":0.500000,"events":4,"rate":8.0,"delivery_us":{"mean":"#,
        r#","missed":1,"duplicated":2,"out_of_order":3,"put_seconds":0.250000,"puts":2,"put_rate":8.0,"put_latency_us":{"#,
        r#""opened_ms":7.000,"bytes_received":400,"error_count":1,"errors":{"stream: etcdserver: no leader":1},"#,
        r#""client":{"cpu_us_per_event":10.000,"cpu_us_per_put":20.000,"cpu_seconds":0.00},"#,
        r#""servers":{"cpu_us_per_event":75.000,"cpu_us_per_put":150.000,"cpu_seconds":0.00,"resident_bytes":3000000,"resident_bytes_before":1000000,"processes":[{"#,
    ] {
        assert!(json.contains(part), "{part}\nis not in\n{json}");
    }
}
