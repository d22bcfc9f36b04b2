//! The flags of memory.

use std::time::Duration;

use kvorum_heap::{
    ARENAS_MAX, DECAY_MS_MAX, Policy, Settings as MemorySettings, THREAD_CACHE_BYTES_MAX,
};

use super::error::{BadValue, ConfigError};
use super::settings::Settings;
use super::time::parse_time;
use crate::memory::{LIMIT_BYTES_MIN, QUIET_PURGE_MAX, QUIET_PURGE_MIN};

/// Units of sizes, and how many bytes they have.
const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// What is set of memory. Whether the machine has as much is looked at when the member starts.
pub(super) fn memory_settings(settings: &Settings) -> Result<MemorySettings, ConfigError> {
    let switch = |name: &str| settings.is_set(name).then(|| settings.switch(name)).transpose();
    let limit = |name: &str| settings.read(name, limit_bytes);
    let decay = |name: &str| settings.read(name, decay_ms);
    Ok(MemorySettings {
        policy: settings.read("heap-policy", |text| {
            text.parse::<Policy>().map_err(|_| BadValue::Choice("balanced, latency, compact"))
        })?,
        background_threads: switch("heap-background-threads")?,
        dirty_decay_ms: decay("heap-dirty-decay")?,
        muzzy_decay_ms: decay("heap-muzzy-decay")?,
        profiling: switch("heap-profiling")?,
        arenas: settings
            .read("heap-arenas", |text| ranged(text, 1, u64::from(ARENAS_MAX)))?
            .and_then(|arenas| u32::try_from(arenas).ok()),
        thread_cache_bytes: settings
            .read("heap-thread-cache-bytes", |text| ranged(text, 0, THREAD_CACHE_BYTES_MAX))?,
        quiet_purge_ms: settings.read("heap-quiet-purge", quiet_purge_ms)?,
        soft_limit_bytes: limit("memory-soft-limit")?,
        hard_limit_bytes: limit("memory-hard-limit")?,
    })
}

fn ranged(text: &str, least: u64, most: u64) -> Result<u64, BadValue> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or(BadValue::NumberRange(least, most))
}

fn decay_ms(text: &str) -> Result<i64, BadValue> {
    let most = Duration::from_millis(DECAY_MS_MAX.unsigned_abs());
    let time = parse_time(text).ok().filter(|time| *time <= most);
    let time = time.ok_or(BadValue::TimeRange(Duration::ZERO, most, ""))?;
    Ok(i64::try_from(time.as_millis()).unwrap_or(DECAY_MS_MAX))
}

fn quiet_purge_ms(text: &str) -> Result<u64, BadValue> {
    let range = QUIET_PURGE_MIN..=QUIET_PURGE_MAX;
    let time = parse_time(text).ok().filter(|time| time.is_zero() || range.contains(time));
    let bad = BadValue::TimeRange(QUIET_PURGE_MIN, QUIET_PURGE_MAX, ", or 0 for never");
    Ok(u64::try_from(time.ok_or(bad)?.as_millis()).unwrap_or(u64::MAX))
}

fn limit_bytes(text: &str) -> Result<u64, BadValue> {
    let unit = UNITS.into_iter().find_map(|(unit, log)| Some((text.strip_suffix(unit)?, log)));
    let (digits, log) = unit.unwrap_or((text, 0));
    let number = digits.parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(1_u64.checked_shl(log)?));
    bytes.filter(|bytes| *bytes == 0 || *bytes >= LIMIT_BYTES_MIN).ok_or(BadValue::Bytes)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{Invocation, parse};
    use super::*;

    fn settings(flags: &[&str]) -> Result<MemorySettings, ConfigError> {
        match parse(flags.iter().map(OsString::from), [])?.invocation {
            Invocation::Serve(config) => Ok(config.memory),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_set_unless_somebody_does() {
        assert_eq!(settings(&[]).unwrap(), MemorySettings::default());
        let all = [
            "--memory-soft-limit=512MiB",
            "--memory-hard-limit=1073741824",
            "--heap-policy=latency",
            "--heap-background-threads=false",
            "--heap-dirty-decay=1m",
            "--heap-muzzy-decay=0",
            "--heap-quiet-purge=5s",
            "--heap-profiling",
            "--heap-arenas=2",
            "--heap-thread-cache-bytes=4096",
        ];
        let wanted = MemorySettings {
            policy: Some(Policy::Latency),
            background_threads: Some(false),
            dirty_decay_ms: Some(60_000),
            muzzy_decay_ms: Some(0),
            profiling: Some(true),
            arenas: Some(2),
            thread_cache_bytes: Some(4096),
            quiet_purge_ms: Some(5000),
            soft_limit_bytes: Some(512 << 20),
            hard_limit_bytes: Some(1 << 30),
        };
        assert_eq!(settings(&all).unwrap(), wanted);
    }

    #[test]
    fn bad_values_are_refused_with_what_is_allowed() {
        let cases = [
            ("--heap-dirty-decay=-1s", "a time from 0ns to 86400s"),
            ("--heap-muzzy-decay=25h", "a time from 0ns to 86400s"),
            (
                "--heap-quiet-purge=10ms",
                "a time from 1s to 86400s, such as 10s or 5m, or 0 for never",
            ),
            ("--heap-policy=fast", "one of balanced, latency, compact"),
            ("--heap-arenas=0", "from 1 to 1024"),
            ("--heap-thread-cache-bytes=99999", "from 0 to 32768"),
            ("--memory-hard-limit=1MiB", "at least 64MiB, or 0 for no limit"),
            ("--memory-soft-limit=99999999TiB", "such as 1073741824, 512MiB"),
            ("--memory-soft-limit=-1", "such as 1073741824, 512MiB"),
        ];
        for (flag, wanted) in cases {
            let error = settings(&[flag]).unwrap_err().to_string();
            assert!(error.contains(wanted), "{flag}: {error}");
        }
    }
}
