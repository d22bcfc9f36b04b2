//! Tables of command lines and environments, and what they come to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::flags::{FLAGS, UNSUPPORTED_SWITCHES, UNSUPPORTED_VALUES};
use super::*;

type Environment<'a> = &'a [(&'a str, &'a str)];

fn run(line: &str, environment: Environment<'_>) -> Result<Parsed, ConfigError> {
    let variables = environment.iter().map(|(name, value)| (name.into(), value.into()));
    parse(line.split_whitespace().map(OsString::from), variables)
}

fn serve(line: &str, environment: Environment<'_>) -> Config {
    match run(line, environment).unwrap().invocation {
        Invocation::Serve(config) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

fn refusal(line: &str, environment: Environment<'_>) -> String {
    run(line, environment).unwrap_err().to_string()
}

fn texts(urls: &[ServerUrl]) -> Vec<&str> {
    urls.iter().map(ServerUrl::as_str).collect()
}

#[test]
fn nothing_set_is_a_member_with_etcds_defaults() {
    let config = serve("", &[]);
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.kvorum"));
    assert_eq!(config.wal_dir, None);
    assert_eq!(texts(&config.listen_client_urls), ["http://localhost:2379"]);
    assert_eq!(texts(&config.advertise_client_urls), ["http://localhost:2379"]);
    assert_eq!(texts(&config.listen_peer_urls), ["http://localhost:2380"]);
    assert_eq!(texts(&config.initial_advertise_peer_urls), ["http://localhost:2380"]);
    assert_eq!(config.initial_cluster.to_string(), "default=http://localhost:2380");
    assert_eq!(config.initial_cluster_state, ClusterState::New);
    assert_eq!(config.initial_cluster_token, "etcd-cluster");
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.snapshot_catchup_entries, 5000);
    assert_eq!(config.membership, MembershipRules::default());
    assert!(config.pre_vote);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.limits.max_request_bytes, 1_572_864);
    assert_eq!(config.log, LogOptions { level: LogLevel::Info, format: LogFormat::Json });
    assert!(!config.unsafe_no_fsync);
    config.check_bootstrap().unwrap();
}

#[test]
fn every_way_to_write_a_flag_is_read() {
    for line in ["--name a", "--name=a", "-name a", "-name=a", "--name b --name a", "--name=a --"] {
        assert_eq!(serve(line, &[]).name, "a", "{line}");
    }
    let switches = [
        ("--unsafe-no-fsync", true),
        ("--unsafe-no-fsync=true", true),
        ("--unsafe-no-fsync=1", true),
        ("--unsafe-no-fsync=false", false),
        ("--unsafe-no-fsync --name=a", true),
    ];
    for (line, wanted) in switches {
        assert_eq!(serve(line, &[]).unsafe_no_fsync, wanted, "{line}");
    }
}

#[test]
fn values_reach_their_fields() {
    let config = serve(
        "--name b --data-dir /d --wal-dir /w --listen-client-urls http://127.0.0.1:1,unix:///s \
         --advertise-client-urls http://h:1 --listen-peer-urls http://[::1]:2 \
         --initial-advertise-peer-urls http://h:3,http://h:2 \
         --initial-cluster a=http://g:2,b=http://h:3,b=http://h:2 --initial-cluster-state existing \
         --initial-cluster-token t --heartbeat-interval 10 --election-timeout 50 \
         --snapshot-catchup-entries 7 --max-request-bytes 8 --max-txn-ops 9 \
         --max-concurrent-streams 10 --log-level DEBUG --log-format console",
        &[],
    );
    assert_eq!(config.data_dir, PathBuf::from("/d"));
    assert_eq!(config.wal_dir, Some(PathBuf::from("/w")));
    assert_eq!(texts(&config.listen_client_urls), ["http://127.0.0.1:1", "unix:///s"]);
    assert_eq!(texts(&config.initial_advertise_peer_urls), ["http://h:2", "http://h:3"]);
    let cluster = "a=http://g:2,b=http://h:2,b=http://h:3";
    assert_eq!(config.initial_cluster.to_string(), cluster);
    assert_eq!(config.initial_cluster_state, ClusterState::Existing);
    assert_eq!(config.initial_cluster_token, "t");
    assert_eq!(config.heartbeat_interval, Duration::from_millis(10));
    assert_eq!(config.election_timeout, Duration::from_millis(50));
    assert_eq!(config.snapshot_catchup_entries, 7);
    let limits = Limits {
        max_request_bytes: 8,
        max_txn_ops: 9,
        max_concurrent_streams: 10,
        ..Limits::default()
    };
    assert_eq!(config.limits, limits);
    assert_eq!(config.log, LogOptions { level: LogLevel::Debug, format: LogFormat::Console });
}

#[test]
fn variables_set_flags_and_an_empty_one_is_unset() {
    assert_eq!(serve("", &[("KVORUM_NAME", "a")]).name, "a");
    assert_eq!(serve("", &[("ETCD_NAME", "a")]).name, "a");
    assert_eq!(serve("", &[("ETCD_NAME", "")]).name, "default");
    assert_eq!(serve("--name a", &[("ETCD_NAME", "")]).name, "a");
    assert_eq!(serve("", &[("ETCD_SNAPSHOT_CATCHUP_ENTRIES", "9")]).snapshot_catchup_entries, 9);
    assert!(serve("", &[("KVORUM_UNSAFE_NO_FSYNC", "t")]).unsafe_no_fsync);
}

#[test]
fn members_are_compared_when_flags_say_so() {
    let checks = |line: &str| serve(line, &[]).corruption_checks;
    assert_eq!(checks(""), CorruptionChecks::default());
    assert_eq!(checks("--corrupt-check-time 0s --compact-hash-check-time 5s"), checks(""));
    let all = "--corrupt-check-time 1h --compact-hash-check-enabled --compact-hash-check-time 5s \
               --initial-corrupt-check";
    let wanted = CorruptionChecks {
        interval: Some(Duration::from_secs(3600)),
        compaction_interval: Some(Duration::from_secs(5)),
        at_start: true,
    };
    assert_eq!(checks(all), wanted);
    assert_eq!(checks(&all.replace("--", "--experimental-")), wanted);
    let enabled = checks("--experimental-compact-hash-check-enabled");
    assert_eq!(enabled.compaction_interval, Some(Duration::from_secs(60)));
}

#[test]
fn compactions_go_in_the_steps_that_flags_set() {
    let steps = |line: &str| {
        let config = serve(line, &[]);
        (config.compaction_batch_limit, config.compaction_sleep_interval)
    };
    assert_eq!(steps(""), (4096, Duration::ZERO));
    assert_eq!(steps("--compaction-batch-limit 0"), (4096, Duration::ZERO));
    let set = "--compaction-batch-limit 100 --compaction-sleep-interval 20ms";
    assert_eq!(steps(set), (100, Duration::from_millis(20)));
    assert_eq!(steps(&set.replace("--", "--experimental-")), (100, Duration::from_millis(20)));
}

#[test]
fn changes_of_members_go_by_rules_that_flags_set() {
    let line = "--strict-reconfig-check=false --max-learners 3 --auto-promote --pre-vote=false";
    let config = serve(line, &[]);
    let rules =
        MembershipRules { strict_reconfig_check: false, max_learners: 3, auto_promote: true };
    assert_eq!((config.membership, config.pre_vote), (rules, false));
    let learners = |line: &str| serve(line, &[]).membership.max_learners;
    assert_eq!(learners("--experimental-max-learners=2"), 2);
    assert_eq!(learners("--max-learners=2 --experimental-max-learners=2"), 2);
    assert_eq!(
        refusal("--max-learners 2 --experimental-max-learners 3", &[]),
        "--max-learners=2 and --experimental-max-learners=3 differ: set only one of them"
    );
}

#[test]
fn what_remains_of_leases_is_noted_as_often_as_set() {
    let interval = |line| serve(line, &[]).lease_checkpoint_interval.as_secs();
    assert_eq!(interval(""), 300);
    assert_eq!(interval("--lease-checkpoint-interval 0"), 300);
    assert_eq!(interval("--lease-checkpoint-interval 1m30s"), 90);
    assert_eq!(interval("--lease-checkpoint-interval 10ms"), 1);
    let warnings = run("--lease-checkpoint-interval 10ms", &[]).unwrap().warnings;
    assert_eq!(warnings, ["--lease-checkpoint-interval[10ms] is too short, 1s is used"]);
}

#[test]
fn the_quota_is_etcds_unless_it_is_set() {
    let quota = |line: &str| serve(line, &[]).quota_backend_bytes;
    assert_eq!(quota(""), Some(2_147_483_648));
    assert_eq!(quota("--quota-backend-bytes 0"), Some(2_147_483_648));
    assert_eq!(quota("--quota-backend-bytes 5000"), Some(5000));
    assert_eq!(quota("--quota-backend-bytes=-1"), None);
    let refused = refusal("--quota-backend-bytes 8G", &[]);
    assert!(refused.ends_with("it must be a whole number"), "{refused}");
    assert!(serve("--auto-disarm", &[]).auto_disarm);
}

#[test]
fn history_is_kept_by_age_or_by_count() {
    let kept = |line: &str| serve(line, &[]).auto_compaction;
    let hours = |count: u64| AutoCompaction::Periodic(Duration::from_secs(count * 60 * 60));
    assert_eq!(kept(""), AutoCompaction::Off);
    assert_eq!(kept("--auto-compaction-retention 0"), AutoCompaction::Off);
    assert_eq!(kept("--auto-compaction-retention 0s"), AutoCompaction::Off);
    assert_eq!(kept("--auto-compaction-retention 8"), hours(8));
    assert_eq!(
        kept("--auto-compaction-retention 30m --auto-compaction-mode periodic"),
        AutoCompaction::Periodic(Duration::from_secs(30 * 60))
    );
    let revisions = "--auto-compaction-mode revision --auto-compaction-retention";
    assert_eq!(kept(&format!("{revisions} 1000")), AutoCompaction::Revisions(1000));
    assert_eq!(kept(&format!("{revisions} 0")), AutoCompaction::Off);
    for (line, reason) in [
        (&*format!("{revisions} 1h"), "it must be a whole number"),
        (&*format!("{revisions} -5"), "it must be a whole number"),
        ("--auto-compaction-retention -1", "it must be a time such as 10m or 100ms"),
        ("--auto-compaction-retention 10ms", "it must be at least 1s"),
        ("--auto-compaction-retention 99999999999999999", "it must be a time such as 10m or 100ms"),
        ("--auto-compaction-mode never", "it must be one of periodic, revision"),
    ] {
        assert!(refusal(line, &[]).ends_with(reason), "{line}");
    }
}

#[test]
fn the_shortest_ttl_is_one_and_a_half_election_timeouts_as_etcd_counts_them() {
    let ttl = |line| serve(line, &[]).lease_ttl_min();
    assert_eq!(ttl(""), 2);
    assert_eq!(ttl("--heartbeat-interval 50 --election-timeout 500"), 1);
    // Three halves of 5 heartbeats are 7 of them.
    assert_eq!(ttl("--heartbeat-interval 300 --election-timeout 1500"), 3);
    assert_eq!(ttl("--heartbeat-interval 10 --election-timeout 50000"), 75);
}

#[test]
fn the_interval_of_progress_notifications_has_two_names_and_a_least_value() {
    let interval = |line, environment| serve(line, environment).watch_progress_notify_interval;
    let cases: [(&str, Environment<'_>, u64); 8] = [
        ("", &[], 600_000),
        ("--watch-progress-notify-interval 1m30s", &[], 90_000),
        ("--experimental-watch-progress-notify-interval=2s", &[], 2_000),
        ("", &[("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "3s")], 3_000),
        ("", &[("KVORUM_WATCH_PROGRESS_NOTIFY_INTERVAL", "100ms")], 100),
        (
            "--watch-progress-notify-interval 1m --experimental-watch-progress-notify-interval 60s",
            &[("ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL", "0h1m")],
            60_000,
        ),
        ("--watch-progress-notify-interval 0", &[], 600_000),
        ("--watch-progress-notify-interval 99ms", &[], 100),
    ];
    for (line, environment, wanted) in cases {
        assert_eq!(interval(line, environment), Duration::from_millis(wanted), "{line}");
    }
    let warnings = run("--experimental-watch-progress-notify-interval 1ms", &[]).unwrap().warnings;
    assert_eq!(warnings, ["--watch-progress-notify-interval[1ms] is too short, 100ms is used"]);
    assert_eq!(
        refusal(
            "--watch-progress-notify-interval 1s",
            &[("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "2s")]
        ),
        "--watch-progress-notify-interval=1s and \
         ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL=2s differ: set only one of them"
    );
}

#[test]
fn two_settings_that_agree_are_one() {
    let same = [("KVORUM_NAME", "a"), ("ETCD_NAME", "a")];
    assert_eq!(serve("--name a", &same).name, "a");
    assert!(serve("--unsafe-no-fsync", &[("ETCD_UNSAFE_NO_FSYNC", "1")]).unsafe_no_fsync);
    let urls = [("ETCD_INITIAL_ADVERTISE_PEER_URLS", "http://h:2,http://h:1")];
    serve("--initial-advertise-peer-urls http://h:1,http://h:2", &urls);
}

#[test]
fn two_settings_that_differ_stop_the_start_naming_both() {
    let cases: [(&str, Environment<'_>, &str); 4] = [
        ("--name a", &[("KVORUM_NAME", "b")], "--name=a and KVORUM_NAME=b"),
        ("--name a", &[("ETCD_NAME", "b")], "--name=a and ETCD_NAME=b"),
        ("", &[("KVORUM_NAME", "a"), ("ETCD_NAME", "b")], "KVORUM_NAME=a and ETCD_NAME=b"),
        ("--name a", &[("KVORUM_NAME", "a"), ("ETCD_NAME", "b")], "--name=a and ETCD_NAME=b"),
    ];
    for (line, environment, wanted) in cases {
        let found = refusal(line, environment);
        assert_eq!(found, format!("{wanted} differ: set only one of them"));
    }
}

#[test]
fn variables_that_set_nothing_are_warned_of() {
    let environment = [
        ("ETCD_QUOTA_BACKEND_BYTES", ""),
        ("ETCD_SERVICE_HOST", "10.0.0.1"),
        ("ETCD_auto_tls", "true"),
        ("KVORUM_NO_SUCH", "1"),
        ("KVORUM_VERSION", "1"),
        ("ETCDCTL_API", "3"),
        ("KVORUMCTL_ENDPOINTS", "x"),
        ("HOME", "/"),
    ];
    let warnings = run("", &environment).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "unrecognized environment variable ETCD_SERVICE_HOST",
            "unrecognized environment variable ETCD_auto_tls",
            "unrecognized environment variable KVORUM_NO_SUCH",
            "environment variable KVORUM_VERSION sets nothing",
        ]
    );
}

#[test]
fn variables_of_flags_that_only_etcd_has_are_refused_together_and_by_name() {
    let environment = [
        ("KVORUM_MAX_WALS", "1"),
        ("ETCD_CLIENT_CERT_AUTH", "true"),
        ("ETCD_NAME", "a"),
        ("ETCD_NO_SUCH", "1"),
    ];
    let refused = run("--name a", &environment).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "not supported by kvorum: ETCD_CLIENT_CERT_AUTH, KVORUM_MAX_WALS"
    );
    assert_eq!(refused.exit_code(), 2);
    for flag in UNSUPPORTED_VALUES.iter().chain(UNSUPPORTED_SWITCHES) {
        let variable = format!("ETCD_{}", flag.replace('-', "_").to_ascii_uppercase());
        let wanted = format!("not supported by kvorum: {variable}");
        assert_eq!(refusal("", &[(&variable, "x")]), wanted);
    }
}

#[test]
fn flags_that_only_etcd_has_are_refused_together_and_by_name() {
    assert_eq!(
        refusal("--max-wals 0 --auto-tls --name a --snapshot-count=5", &[]),
        "not supported by kvorum: --max-wals, --auto-tls, --snapshot-count"
    );
    for flag in UNSUPPORTED_VALUES {
        let wanted = format!("not supported by kvorum: --{flag}");
        assert_eq!(refusal(&format!("--{flag} x"), &[]), wanted);
        assert!(FLAGS.iter().all(|known| known.name != *flag), "{flag} is in both lists");
    }
    for flag in UNSUPPORTED_SWITCHES {
        let wanted = format!("not supported by kvorum: --{flag}");
        assert_eq!(refusal(&format!("--{flag}"), &[]), wanted);
        assert!(FLAGS.iter().all(|known| known.name != *flag), "{flag} is in both lists");
    }
}

#[test]
fn what_cannot_be_read_says_so_and_exits_as_etcd_does() {
    let cases = [
        (
            "--listen-client-url x",
            "flag provided but not defined: --listen-client-url; the nearest is --listen-client-urls",
            2,
        ),
        (
            "--election-timout=5",
            "flag provided but not defined: --election-timout; the nearest is --election-timeout",
            2,
        ),
        ("--name", "flag needs an argument: --name", 2),
        ("---name a", "bad flag syntax: ---name", 2),
        ("--=a", "bad flag syntax: --=a", 2),
        ("member", "\"member\" is not a valid flag", 1),
        ("--name a b", "\"b\" is not a valid flag", 1),
        ("-- b", "\"b\" is not a valid flag", 1),
        ("gateway start", "etcd's subcommand \"gateway\" is not supported by kvorum", 1),
        (
            "--heartbeat-interval x",
            "invalid value \"x\" for --heartbeat-interval: it must be a whole number",
            1,
        ),
        (
            "--unsafe-no-fsync=maybe",
            "invalid value \"maybe\" for --unsafe-no-fsync: it must be true or false",
            1,
        ),
        (
            "--watch-progress-notify-interval 10",
            "invalid value \"10\" for --watch-progress-notify-interval: it must be a time such as \
             10m or 100ms",
            1,
        ),
        (
            "--initial-cluster-state old",
            "invalid value \"old\" for --initial-cluster-state: it must be one of new, existing",
            1,
        ),
        (
            "--initial-cluster a",
            "invalid value \"a\" for --initial-cluster: URL scheme must be http, https, unix, or \
             unixs: a",
            1,
        ),
        (
            "--log-format=xml",
            "invalid value \"xml\" for --log-format: it must be one of json, console",
            1,
        ),
    ];
    for (line, wanted, code) in cases {
        let error = run(line, &[]).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), (wanted, code), "{line}");
    }
}

#[test]
fn etcds_rules_hold() {
    let cases = [
        (
            "--listen-client-urls http://127.0.0.1:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-peer-urls http://example.org:1",
            "expected IP in URL for binding (http://example.org:1)",
        ),
        ("--listen-peer-urls http://:1", "expected IP in URL for binding (http://:1)"),
        (
            "--initial-advertise-peer-urls http://:1",
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty \
             host (http://:1))",
        ),
        (
            "--listen-peer-urls https://127.0.0.1:1",
            "--listen-peer-urls has https://127.0.0.1:1, but TLS is not supported by kvorum yet",
        ),
        ("--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)"),
        ("--election-timeout 0", "--election-timeout must be >0 (set to 0ms)"),
        (
            "--election-timeout 499",
            "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        ),
        (
            "--election-timeout 50001",
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            "--max-request-bytes 33554433",
            "--max-request-bytes[33554433] is too large, at most 33554432 is possible",
        ),
    ];
    for (line, wanted) in cases {
        assert_eq!(refusal(line, &[]), wanted, "{line}");
    }
    serve("--election-timeout 50000", &[]);
    serve("--election-timeout 500", &[]);
}

#[test]
fn a_founding_member_must_be_listed_where_it_is_advertised() {
    let own = "--name a --initial-advertise-peer-urls http://127.0.0.1:1";
    let cases = [
        (
            "--initial-cluster b=http://127.0.0.1:1",
            "couldn't find local name \"a\" in the initial cluster configuration",
        ),
        (
            "--initial-cluster a=http://127.0.0.1:2",
            "--initial-cluster has a=http://127.0.0.1:2 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1",
        ),
        (
            "--initial-cluster a=http://127.0.0.1:1,a=http://127.0.0.1:2",
            "--initial-cluster has a=http://127.0.0.1:2 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1",
        ),
        (
            "--initial-cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1",
            "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
        ),
    ];
    for (cluster, wanted) in cases {
        let config = serve(&format!("{own} {cluster}"), &[]);
        assert_eq!(config.check_bootstrap().unwrap_err().to_string(), wanted);
    }
    let two = "--name a --initial-advertise-peer-urls http://127.0.0.1:1,http://127.0.0.1:2";
    let config = serve(&format!("{two} --initial-cluster a=http://127.0.0.1:1"), &[]);
    assert_eq!(
        config.check_bootstrap().unwrap_err().to_string(),
        "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from \
         --initial-cluster=a=http://127.0.0.1:1"
    );
}

#[test]
fn host_names_that_resolve_to_the_listed_address_match_it() {
    let line = "--initial-advertise-peer-urls http://localhost:1 \
                --initial-cluster default=http://127.0.0.1:1";
    serve(line, &[]).check_bootstrap().unwrap();
}

#[test]
fn a_joining_member_need_not_be_listed_where_it_is_advertised() {
    let line = "--initial-cluster default=http://127.0.0.1:9 --initial-cluster-state existing";
    serve(line, &[]).check_bootstrap().unwrap();
}

#[test]
fn help_and_version_are_printed_whatever_the_environment_says() {
    for line in ["--help", "-h", "-help", "--name a --help"] {
        match run(line, &[("ETCD_ELECTION_TIMEOUT", "x")]).unwrap().invocation {
            Invocation::Print(text) => {
                assert!(FLAGS.iter().all(|flag| text.contains(&format!("  --{}", flag.name))));
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    match run("--version", &[]).unwrap().invocation {
        Invocation::Print(text) => {
            let wanted = concat!(
                "kvorum Version: ",
                env!("CARGO_PKG_VERSION"),
                "\netcd API Version: 3.7.1\n"
            );
            assert!(text.starts_with(wanted), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn subcommands_are_read() {
    let cases = [("dev", 1), ("dev --members 3", 3), ("dev --members=5 --log-level info", 5)];
    for (line, wanted) in cases {
        match run(line, &[]).unwrap().invocation {
            Invocation::Dev(options) => assert_eq!(options.member_count, wanted, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    for line in ["dev --members", "dev --members 0", "dev --members=10", "dev --member 3"] {
        assert!(matches!(run(line, &[]), Err(ConfigError::Usage(_))), "{line}");
    }
    match run("wal verify /d", &[]).unwrap().invocation {
        Invocation::Wal(command) => {
            let wanted = WalCommand { action: WalAction::Verify, dir: PathBuf::from("/d") };
            assert_eq!(command, wanted);
        }
        other => panic!("{other:?}"),
    }
    for line in ["wal", "wal dump", "wal show /d", "wal dump /d /e"] {
        assert!(matches!(run(line, &[]), Err(ConfigError::Usage(_))), "{line}");
    }
}

#[test]
fn arbitrary_arguments_never_panic() {
    let pieces =
        ["--", "-", "=", "name", "--name", "=x", "dev", "--version", "--members", "wal", ""];
    for first in pieces {
        for second in pieces {
            for third in pieces {
                let joined = format!("{first}{second}");
                let arguments = [OsString::from(&joined), third.into(), second.into()];
                let _ = parse(arguments, []);
            }
        }
    }
}
