use std::time::{Duration, Instant};

use super::super::process::{ServerUsage, Usage};
use super::super::recorder::Recorder;
use super::{Format, Report};
use crate::bench::plan::{Plan, command};
use crate::failure::{BAD_FEATURE, Failure};
use crate::output::Printer;

fn report(kind: &str, pids: bool) -> Report {
    let matches = command().try_get_matches_from(["bench", kind]).unwrap();
    let (kind, matches) = matches.subcommand().unwrap();
    let mut recorder = Recorder::new();
    let start = Instant::now();
    for number in 1..=4u64 {
        let name = if kind == "mixed" && number % 2 == 0 { "range" } else { "put" };
        recorder.success(name, Duration::from_millis(number), 100, start);
    }
    recorder.failure("etcdserver: no leader".into());
    let server = |pid, cpu, resident_bytes| ServerUsage {
        pid,
        cpu,
        resident_bytes,
        resident_bytes_max: resident_bytes * 2,
    };
    let servers = if pids {
        vec![server(11, Some(Duration::from_micros(300)), 1_000_000), server(12, None, 0)]
    } else {
        Vec::new()
    };
    Report {
        plan: Plan::read(kind, matches).unwrap(),
        endpoints: vec!["127.0.0.1:2379".into()],
        elapsed: Duration::from_millis(500),
        recorder,
        usage: Usage { own: Duration::from_micros(40), servers },
    }
}

#[test]
fn text_says_what_was_done_how_fast_and_at_what_cost() {
    let text = report("put", true).text();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("pause")).collect();
    let expected = [
        "put      4 operations in 500ms, 1 clients, 1 connections, 10000 keys of 16 B, values of 256 B",
        "rate     8.0/s",
        "latency  p50 2.001 ms  p90 4.002 ms  p99 4.002 ms  p99.9 4.002 ms  max 4.002 ms",
        "received 400 B",
        "errors   1",
        "         1 x etcdserver: no leader",
        "client   10.0 us of processor time each",
        "servers  75.0 us of processor time each, 1.0 MB resident",
        "         pid 11: 75.0 us, 1.0 MB",
        "         pid 12: ended, 0 B",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn mixed_work_is_told_apart() {
    let text = report("mixed", false).text();
    assert!(
        text.contains("\n put     p50 1.000 ms") && text.contains("\n range   p50 2.001 ms"),
        "{text}"
    );
    assert!(!text.contains("servers"));
}

#[test]
fn json_holds_the_same() {
    let json = report("put", true).json();
    for part in [
        r#"{"work":"put","endpoints":["127.0.0.1:2379"],"clients":1,"connections":1,"key_bytes":16,"value_bytes":256,"key_count":10000,"seconds":0.500000,"operations":4,"rate":8.0,"latency_us":{"mean":"#,
        r#","p50":20"#,
        r#","latency_us_by_operation":{"put":{"#,
        r#""bytes_received":400,"error_count":1,"errors":{"etcdserver: no leader":1},"#,
        r#""client":{"cpu_us_per_operation":10.00,"cpu_seconds":0.00},"#,
        r#""servers":{"cpu_us_per_operation":75.00,"cpu_seconds":0.00,"resident_bytes":1000000,"processes":["#,
        r#"{"cpu_us_per_operation":75.00,"cpu_seconds":0.00,"pid":11,"ended":false,"resident_bytes":1000000,"resident_bytes_max":2000000}"#,
    ] {
        assert!(json.contains(part), "{part}\nis not in\n{json}");
    }
    assert!(!report("put", false).json().contains("servers"));
}

#[test]
fn only_two_formats_make_sense() {
    let format = |name| Format::of(&Printer::new(name, false).unwrap());
    assert_eq!((format("simple"), format("json")), (Ok(Format::Text), Ok(Format::Json)));
    let refused = Failure::new(BAD_FEATURE, "bench writes simple or json only");
    assert_eq!(format("table"), Err(refused));
}
