//! Flags and environment.
//!
//! Input: arguments, one a line; behind a zero byte variables of the environment, one a line as `NAME=value`. Neither need be
//! Unicode.
//!
//! - A command line is refused in words, with etcd's exit codes, or understood; twice the same way.
//! - A member's configuration, written as flags, is understood as the same configuration.
//! - Flags mean the same as the variables of the same names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use kvorum_server::config::{self, Config, Invocation, ServerUrl};

/// The target.
pub fn config(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let arguments = lines(parts.next().unwrap_or_default());
    let environment: Vec<(OsString, OsString)> =
        lines(parts.next().unwrap_or_default()).iter().map(split).collect();
    let parse = || config::parse(arguments.clone(), environment.clone());
    let first = parse();
    assert_eq!(format!("{first:?}"), format!("{:?}", parse()), "understood in two ways");
    match first.map(|parsed| parsed.invocation) {
        Err(error) => {
            assert!(!error.to_string().is_empty(), "refused without a word: {error:?}");
            assert!((1..=2).contains(&error.exit_code()), "{error}: {}", error.exit_code());
        }
        Ok(Invocation::Serve(config)) => {
            let _ = config.check_bootstrap();
            check_written(&config);
            check_variables(&arguments, &environment, &config);
        }
        Ok(_) => {}
    }
}

fn lines(text: &[u8]) -> Vec<OsString> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| OsString::from_vec(line.to_vec())).collect()
}

fn split(line: &OsString) -> (OsString, OsString) {
    let bytes = line.clone().into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    let value = bytes.get(at + 1..).unwrap_or_default().to_vec();
    (OsString::from_vec(bytes[..at].to_vec()), OsString::from_vec(value))
}

fn serve(arguments: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> Option<Config> {
    match config::parse(arguments, environment).ok()?.invocation {
        Invocation::Serve(config) => Some(*config),
        _ => None,
    }
}

/// Writes what has a form of its own as flags, and reads it again.
fn check_written(config: &Config) {
    let urls =
        |urls: &[ServerUrl]| urls.iter().map(ServerUrl::as_str).collect::<Vec<_>>().join(",");
    let millis = |time: std::time::Duration| time.as_millis().to_string();
    let mut flags = vec![
        ("name", config.name.clone()),
        ("listen-client-urls", urls(&config.listen_client_urls)),
        ("listen-metrics-urls", urls(&config.listen_metrics_urls)),
        ("advertise-client-urls", urls(&config.advertise_client_urls)),
        ("listen-peer-urls", urls(&config.listen_peer_urls)),
        ("initial-advertise-peer-urls", urls(&config.initial_advertise_peer_urls)),
        ("initial-cluster-token", config.initial_cluster_token.clone()),
        ("heartbeat-interval", millis(config.heartbeat_interval)),
        ("election-timeout", millis(config.election_timeout)),
        ("snapshot-catchup-entries", config.snapshot_catchup_entries.to_string()),
    ];
    // A name with such letters cannot stand in the list, only be there by default.
    let is_plain = |name: &str| !name.is_empty() && !name.contains(['=', ',']);
    let cluster = config.initial_cluster.to_string();
    if !cluster.is_empty() && config.initial_cluster.members().all(|(name, _)| is_plain(name)) {
        flags.push(("initial-cluster", cluster));
    }
    let arguments = flags.iter().filter(|(_, value)| !value.is_empty());
    let arguments = arguments.map(|(name, value)| OsString::from(format!("--{name}={value}")));
    let again = config::parse(arguments, Vec::new());
    let again = again.unwrap_or_else(|error| panic!("{flags:?} was understood before: {error}"));
    let Invocation::Serve(again) = again.invocation else { panic!("{flags:?} asks for a member") };
    assert_eq!(again.name, config.name);
    assert_eq!(again.listen_client_urls, config.listen_client_urls);
    assert_eq!(again.listen_metrics_urls, config.listen_metrics_urls);
    assert_eq!(again.advertise_client_urls, config.advertise_client_urls);
    assert_eq!(again.listen_peer_urls, config.listen_peer_urls);
    assert_eq!(again.initial_advertise_peer_urls, config.initial_advertise_peer_urls);
    if flags.iter().any(|(name, _)| *name == "initial-cluster") {
        assert_eq!(again.initial_cluster, config.initial_cluster);
    }
    assert_eq!(
        (again.heartbeat_interval, again.election_timeout, again.snapshot_catchup_entries),
        (config.heartbeat_interval, config.election_timeout, config.snapshot_catchup_entries)
    );
}

/// Where every flag was given as `--name=value`, the same as variables is the same member.
fn check_variables(arguments: &[OsString], environment: &[(OsString, OsString)], config: &Config) {
    let mut variables: BTreeMap<OsString, OsString> = BTreeMap::new();
    for argument in arguments {
        let text = argument.to_string_lossy();
        let Some((name, value)) = text.trim_start_matches('-').split_once('=') else { return };
        if value.is_empty() || name == "version" {
            return;
        }
        let name = format!("KVORUM_{}", name.replace('-', "_").to_ascii_uppercase());
        variables.insert(name.into(), value.into());
    }
    let kept = environment.iter().filter(|(name, _)| !variables.contains_key(name)).cloned();
    let environment = kept.collect::<Vec<_>>().into_iter().chain(variables).collect();
    let again = serve(Vec::new(), environment);
    assert_eq!(again.as_ref(), Some(config), "variables mean something else than flags");
}

/// What the target begins with.
pub fn seeds() -> Vec<Vec<u8>> {
    let lines: [&str; 12] = [
        "",
        "--name=a\n--data-dir=/d\n--initial-cluster=a=http://h:2380,b=http://g:2380\n\
         --initial-advertise-peer-urls=http://h:2380\n--initial-cluster-state=existing",
        "--name\na\n-listen-client-urls\nhttp://127.0.0.1:1,unix:///s\n\
         --advertise-client-urls=http://[::1]:1\0ETCD_LOG_LEVEL=debug\nKVORUM_MAX_TXN_OPS=9",
        "--watch-progress-notify-interval=1h30m0.5s\n--lease-checkpoint-interval=90s\n\
         --corrupt-check-time=10m\n--quota-backend-bytes=-1",
        "--auto-compaction-mode=revision\n--auto-compaction-retention=1000",
        "--auto-compaction-retention=30m\n--pre-vote=false\n--unsafe-no-fsync",
        "--heartbeat-interval=10\n--election-timeout=50\n--max-request-bytes=8",
        "--client-cert-auth\n--enable-v2=true\0ETCD_ENABLE_PPROF=1",
        "dev\n--members\n3\n--log-level=warn",
        "wal\nverify\n/d/member/wal",
        "snapshot\nrestore\nfile.db\n--name=m1\n--data-dir=/d\n--bump-revision=7\n\
         --mark-compacted",
        "--help",
    ];
    lines.iter().map(|line| line.as_bytes().to_vec()).collect()
}
