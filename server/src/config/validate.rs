//! From settings to a [`Config`], by etcd's rules.

use std::path::PathBuf;
use std::time::Duration;

use super::InitialCluster;
use super::error::{BadValue, ConfigError};
use super::flags::{
    COMPACT_HASH_CHECK, COMPACT_HASH_CHECK_ENABLED, COMPACTION_BATCH, COMPACTION_SLEEP,
    CORRUPT_CHECK, DEFAULT_CLIENT_URL, DEFAULT_PEER_URL, INITIAL_CORRUPT_CHECK, LEASE_CHECKPOINT,
    MAX_LEARNERS, WATCH_PROGRESS,
};
use super::memory::memory_settings;
use super::model::{
    AUTO_COMPACTION_AGE_MIN, AutoCompaction, ClusterState, Config, CorruptionChecks,
    LEASE_CHECKPOINT_INTERVAL, LEASE_CHECKPOINT_INTERVAL_MIN, Limits, LogFormat, LogLevel,
    LogOptions, MembershipRules, QUOTA_BACKEND_BYTES, WATCH_PROGRESS_INTERVAL,
    WATCH_PROGRESS_INTERVAL_MIN,
};
use super::settings::{Settings, join};
use super::time::parse_time;
use super::url::ServerUrl;

const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
const HEARTBEATS_PER_ELECTION_MIN: u64 = 5;
/// etcd's own interval between two looks whether there was a compaction.
const COMPACT_HASH_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Half of what a segment of the log holds, so that a request always fits into one.
const MAX_REQUEST_BYTES_MAX: u64 = 32 * 1024 * 1024;

pub(super) fn build(settings: &Settings) -> Result<Config, ConfigError> {
    let name = settings.text("name").unwrap_or("default").to_owned();
    let advertised_peers = urls_or(settings, "initial-advertise-peer-urls", DEFAULT_PEER_URL)?;
    let config = Config {
        data_dir: data_dir(settings, &name),
        wal_dir: settings.text("wal-dir").map(PathBuf::from),
        listen_client_urls: urls_or(settings, "listen-client-urls", DEFAULT_CLIENT_URL)?,
        listen_metrics_urls: settings.urls("listen-metrics-urls")?.unwrap_or_default(),
        advertise_client_urls: advertised_clients(settings)?,
        listen_peer_urls: urls_or(settings, "listen-peer-urls", DEFAULT_PEER_URL)?,
        initial_cluster: initial_cluster(settings, &name, &advertised_peers)?,
        initial_advertise_peer_urls: advertised_peers,
        initial_cluster_state: cluster_state(settings)?,
        initial_cluster_token: settings
            .text("initial-cluster-token")
            .unwrap_or("etcd-cluster")
            .to_owned(),
        force_new_cluster: settings.switch("force-new-cluster")?,
        membership: membership_rules(settings)?,
        pre_vote: settings.switch_or("pre-vote", true)?,
        heartbeat_interval: milliseconds(settings, "heartbeat-interval", 100)?,
        election_timeout: milliseconds(settings, "election-timeout", 1000)?,
        snapshot_catchup_entries: settings.number("snapshot-catchup-entries")?.unwrap_or(5000),
        peer_append_compression_bytes: append_compression(settings)?,
        limits: limits(settings)?,
        watch_progress_notify_interval: watch_progress_interval(settings)?
            .max(WATCH_PROGRESS_INTERVAL_MIN),
        lease_checkpoint_interval: lease_checkpoint_interval(settings)?
            .max(LEASE_CHECKPOINT_INTERVAL_MIN),
        quota_backend_bytes: quota(settings)?,
        auto_disarm: settings.switch("auto-disarm")?,
        auto_compaction: auto_compaction(settings)?,
        compaction_batch_limit: compaction_batch_limit(settings)?,
        compaction_sleep_interval: settings.time(COMPACTION_SLEEP)?.unwrap_or_default(),
        corruption_checks: corruption_checks(settings)?,
        memory: memory_settings(settings)?,
        log: log_options(settings, LogOptions { level: LogLevel::Info, format: LogFormat::Json })?,
        unsafe_no_fsync: settings.switch("unsafe-no-fsync")?,
        name,
    };
    check_urls(&config)?;
    check_times(&config)?;
    Ok(config)
}

pub(super) fn log_options(
    settings: &Settings,
    unset: LogOptions,
) -> Result<LogOptions, ConfigError> {
    let level = settings.read("log-level", |text| match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(LogLevel::Debug),
        "info" => Ok(LogLevel::Info),
        "warn" => Ok(LogLevel::Warn),
        "error" => Ok(LogLevel::Error),
        "panic" => Ok(LogLevel::Panic),
        "fatal" => Ok(LogLevel::Fatal),
        _ => Err(BadValue::Choice("debug, info, warn, error, panic, fatal")),
    })?;
    let format = settings.read("log-format", |text| match text {
        "json" => Ok(LogFormat::Json),
        "console" => Ok(LogFormat::Console),
        _ => Err(BadValue::Choice("json, console")),
    })?;
    Ok(LogOptions { level: level.unwrap_or(unset.level), format: format.unwrap_or(unset.format) })
}

/// 0 is never.
fn append_compression(settings: &Settings) -> Result<Option<usize>, ConfigError> {
    let bytes = settings.number("peer-append-compression-bytes")?.filter(|bytes| *bytes > 0);
    Ok(bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
}

fn data_dir(settings: &Settings, name: &str) -> PathBuf {
    let unset = || PathBuf::from(format!("{name}.kvorum"));
    settings.text("data-dir").map_or_else(unset, PathBuf::from)
}

fn urls_or(
    settings: &Settings,
    flag: &str,
    default: &'static str,
) -> Result<Vec<ServerUrl>, ConfigError> {
    match settings.urls(flag)? {
        Some(urls) => Ok(urls),
        None => Ok(ServerUrl::parse_list(default).expect("the defaults are URLs")),
    }
}

/// The default would lie once the member listens elsewhere.
fn advertised_clients(settings: &Settings) -> Result<Vec<ServerUrl>, ConfigError> {
    let is_missing =
        settings.is_set("listen-client-urls") && !settings.is_set("advertise-client-urls");
    if is_missing {
        return Err(ConfigError::AdvertiseUnset);
    }
    urls_or(settings, "advertise-client-urls", DEFAULT_CLIENT_URL)
}

fn initial_cluster(
    settings: &Settings,
    name: &str,
    advertised_peers: &[ServerUrl],
) -> Result<InitialCluster, ConfigError> {
    let given = settings.read("initial-cluster", |text| text.parse().map_err(BadValue::Url))?;
    Ok(given.unwrap_or_else(|| InitialCluster::of_one(name, advertised_peers.to_vec())))
}

fn cluster_state(settings: &Settings) -> Result<ClusterState, ConfigError> {
    let state = settings.read("initial-cluster-state", |text| match text {
        "new" => Ok(ClusterState::New),
        "existing" => Ok(ClusterState::Existing),
        _ => Err(BadValue::Choice("new, existing")),
    })?;
    Ok(state.unwrap_or(ClusterState::New))
}

fn membership_rules(settings: &Settings) -> Result<MembershipRules, ConfigError> {
    let unset = MembershipRules::default();
    let max_learners = settings.number_of(MAX_LEARNERS)?;
    Ok(MembershipRules {
        strict_reconfig_check: settings
            .switch_or("strict-reconfig-check", unset.strict_reconfig_check)?,
        max_learners: max_learners
            .map_or(unset.max_learners, |most| usize::try_from(most).unwrap_or(usize::MAX)),
        auto_promote: settings.switch_or("auto-promote", unset.auto_promote)?,
    })
}

fn milliseconds(settings: &Settings, flag: &str, default: u64) -> Result<Duration, ConfigError> {
    Ok(Duration::from_millis(settings.number(flag)?.unwrap_or(default)))
}

/// A time of zero means the default, as in etcd.
fn watch_progress_interval(settings: &Settings) -> Result<Duration, ConfigError> {
    let set = settings.time(WATCH_PROGRESS)?.filter(|interval| !interval.is_zero());
    Ok(set.unwrap_or(WATCH_PROGRESS_INTERVAL))
}

/// What is not used as it was set, without being worth a refusal.
pub(super) fn warnings(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    let intervals = [
        (WATCH_PROGRESS[0], watch_progress_interval(settings)?, WATCH_PROGRESS_INTERVAL_MIN),
        (LEASE_CHECKPOINT, lease_checkpoint_interval(settings)?, LEASE_CHECKPOINT_INTERVAL_MIN),
    ];
    let raised = intervals.into_iter().filter(|(_, interval, least)| interval < least);
    let warning = |(flag, interval, least): (&str, Duration, Duration)| {
        format!("--{flag}[{interval:?}] is too short, {least:?} is used")
    };
    Ok(raised.map(warning).collect())
}

/// A time of zero means the default, as in etcd.
fn lease_checkpoint_interval(settings: &Settings) -> Result<Duration, ConfigError> {
    let set = settings.read(LEASE_CHECKPOINT, parse_time)?.filter(|interval| !interval.is_zero());
    Ok(set.unwrap_or(LEASE_CHECKPOINT_INTERVAL))
}

/// As in etcd, nothing means etcd's own quota, and what is below it none.
fn quota(settings: &Settings) -> Result<Option<u64>, ConfigError> {
    let set = settings
        .read("quota-backend-bytes", |text| text.parse::<i64>().map_err(|_| BadValue::Number))?;
    match set.unwrap_or(0) {
        0 => Ok(Some(QUOTA_BACKEND_BYTES)),
        bytes => Ok(u64::try_from(bytes).ok()),
    }
}

/// As in etcd, a bare number is one of hours or of revisions, whichever the mode is about.
fn auto_compaction(settings: &Settings) -> Result<AutoCompaction, ConfigError> {
    let is_periodic = settings.read("auto-compaction-mode", |text| match text {
        "periodic" => Ok(true),
        "revision" => Ok(false),
        _ => Err(BadValue::Choice("periodic, revision")),
    })?;
    let retention = settings.read("auto-compaction-retention", |text| {
        let count = text.parse::<i64>().ok().filter(|count| *count >= 0);
        if !is_periodic.unwrap_or(true) {
            return count.map(AutoCompaction::Revisions).ok_or(BadValue::Number);
        }
        let hours = count.and_then(|hours| u64::try_from(hours).ok()?.checked_mul(60 * 60));
        let age = hours.map_or_else(|| parse_time(text), |hours| Ok(Duration::from_secs(hours)))?;
        if !age.is_zero() && age < AUTO_COMPACTION_AGE_MIN {
            return Err(BadValue::ShortTime(AUTO_COMPACTION_AGE_MIN));
        }
        Ok(AutoCompaction::Periodic(age))
    })?;
    Ok(match retention {
        None | Some(AutoCompaction::Revisions(0)) => AutoCompaction::Off,
        Some(AutoCompaction::Periodic(age)) if age.is_zero() => AutoCompaction::Off,
        Some(retention) => retention,
    })
}

/// Nothing means the default, as in etcd.
fn compaction_batch_limit(settings: &Settings) -> Result<usize, ConfigError> {
    let set = settings.number_of(COMPACTION_BATCH)?.filter(|changes| *changes > 0);
    let changes = set.map(|changes| usize::try_from(changes).unwrap_or(usize::MAX));
    Ok(changes.unwrap_or(kvorum_mvcc::Options::default().compaction_step_changes))
}

fn corruption_checks(settings: &Settings) -> Result<CorruptionChecks, ConfigError> {
    let interval = settings.time(CORRUPT_CHECK)?.filter(|interval| !interval.is_zero());
    let compaction_interval = settings.time(COMPACT_HASH_CHECK)?;
    let is_enabled = settings.switch_of(COMPACT_HASH_CHECK_ENABLED)?;
    let wanted = compaction_interval.filter(|interval| !interval.is_zero());
    Ok(CorruptionChecks {
        interval,
        compaction_interval: is_enabled.then(|| wanted.unwrap_or(COMPACT_HASH_CHECK_INTERVAL)),
        at_start: settings.switch_of(INITIAL_CORRUPT_CHECK)?,
    })
}

fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    let unset = Limits::default();
    let bounded = |flag: &'static str, most: u64| -> Result<Option<u64>, ConfigError> {
        match settings.number(flag)? {
            Some(value) if value > most => Err(ConfigError::TooLarge { flag, value, most }),
            other => Ok(other),
        }
    };
    let streams_max = u64::from(u32::MAX);
    let to_size = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok());
    let request_bytes = to_size(bounded("max-request-bytes", MAX_REQUEST_BYTES_MAX)?);
    let txn_ops = to_size(bounded("max-txn-ops", u64::from(u32::MAX))?);
    let streams = bounded("max-concurrent-streams", streams_max)?;
    Ok(Limits {
        max_request_bytes: request_bytes.unwrap_or(unset.max_request_bytes),
        max_txn_ops: txn_ops.unwrap_or(unset.max_txn_ops),
        max_concurrent_streams: streams
            .and_then(|streams| u32::try_from(streams).ok())
            .unwrap_or(unset.max_concurrent_streams),
        ..unset
    })
}

fn check_urls(config: &Config) -> Result<(), ConfigError> {
    let listened = config.listen_peer_urls.iter().chain(&config.listen_client_urls);
    for url in listened.chain(&config.listen_metrics_urls) {
        if !url.is_bindable() {
            return Err(ConfigError::Unbindable(url.to_string()));
        }
    }
    let lists = [
        ("listen-peer-urls", &config.listen_peer_urls),
        ("listen-client-urls", &config.listen_client_urls),
        ("listen-metrics-urls", &config.listen_metrics_urls),
        ("initial-advertise-peer-urls", &config.initial_advertise_peer_urls),
        ("advertise-client-urls", &config.advertise_client_urls),
    ];
    for (flag, urls) in &lists[3..] {
        if let Some(url) = urls.iter().find(|url| !url.has_host()) {
            return Err(ConfigError::NoHost { flag, urls: join(urls), url: url.to_string() });
        }
    }
    for (flag, urls) in lists {
        if let Some(url) = urls.iter().find(|url| url.is_tls()) {
            return Err(ConfigError::Tls { flag, url: url.to_string() });
        }
    }
    for (_, urls) in config.initial_cluster.members() {
        if let Some(url) = urls.iter().find(|url| url.is_tls()) {
            return Err(ConfigError::Tls { flag: "initial-cluster", url: url.to_string() });
        }
    }
    Ok(())
}

fn check_times(config: &Config) -> Result<(), ConfigError> {
    let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let heartbeat = in_ms(config.heartbeat_interval);
    let election = in_ms(config.election_timeout);
    if heartbeat == 0 {
        return Err(ConfigError::ZeroTime("heartbeat-interval"));
    }
    if election == 0 {
        return Err(ConfigError::ZeroTime("election-timeout"));
    }
    if heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_MIN) > election {
        return Err(ConfigError::ElectionTooShort { election, heartbeat });
    }
    if election > ELECTION_TIMEOUT_MS_MAX {
        return Err(ConfigError::ElectionTooLong(election));
    }
    Ok(())
}
