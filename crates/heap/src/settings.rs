//! Settings as text, to be kept over a restart. `docs/formats/heap.md` draws it.

use std::fmt::Write;
use std::str::FromStr;

use crate::change::{Change, ChangeError};
use crate::policy::{Policy, UnknownPolicy};
use crate::startup::{Startup, StartupError};

const MAGIC: &str = "kvorum-heap";
const FORMAT_VERSION: u32 = 1;
const CHECKSUM: &str = "crc32c";

/// The longest text that is read.
pub(crate) const SETTINGS_BYTES_MAX: usize = 4096;

/// What is kept. What is `None` was never set for good.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// The policy.
    pub policy: Option<Policy>,
    /// See [`Change::background_threads`].
    pub background_threads: Option<bool>,
    /// See [`Change::dirty_decay_ms`].
    pub dirty_decay_ms: Option<i64>,
    /// See [`Change::muzzy_decay_ms`].
    pub muzzy_decay_ms: Option<i64>,
    /// See [`Change::profiling`].
    pub profiling: Option<bool>,
    /// See [`Startup::arenas`].
    pub arenas: Option<u32>,
    /// See [`Startup::thread_cache_bytes`].
    pub thread_cache_bytes: Option<u64>,
    /// Milliseconds without traffic until memory is purged; 0: never.
    pub quiet_purge_ms: Option<u64>,
    /// Bytes in memory beyond which memory is purged; 0: no limit.
    pub soft_limit_bytes: Option<u64>,
    /// Bytes in memory at which what needs much of it is refused; 0: no limit.
    pub hard_limit_bytes: Option<u64>,
}

/// Why a text holds no settings.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// It does not begin as such a text does.
    #[error("it does not begin with {MAGIC:?} and a version")]
    Foreign,
    /// It is of a version that is not known here.
    #[error("it is of format version {0}, and only {FORMAT_VERSION} is known")]
    Version(u32),
    /// It is not as it was written.
    #[error("it is damaged: its checksum does not match")]
    Damaged,
    /// A line that says nothing that is known.
    #[error("line {line} is no setting: {text:?}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// A value outside its range.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A value outside its range.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// A policy that there is not.
    #[error(transparent)]
    Policy(#[from] UnknownPolicy),
}

impl Settings {
    /// What is set while the process runs: the policy's settings, and what was set beside them.
    pub fn change(&self) -> Change {
        let policy = self.policy.map(Policy::change).unwrap_or_default();
        Change {
            background_threads: self.background_threads.or(policy.background_threads),
            dirty_decay_ms: self.dirty_decay_ms.or(policy.dirty_decay_ms),
            muzzy_decay_ms: self.muzzy_decay_ms.or(policy.muzzy_decay_ms),
            arena: None,
            profiling: self.profiling,
        }
    }

    /// What is set when it starts.
    pub fn startup(&self) -> Startup {
        Startup { arenas: self.arenas, thread_cache_bytes: self.thread_cache_bytes }
    }

    /// These, and what `over` says instead.
    pub fn overlaid(&self, over: &Settings) -> Settings {
        // A policy that is chosen replaces what was set beside the one before it.
        let below = match over.policy {
            None => *self,
            Some(_) => Settings {
                background_threads: None,
                dirty_decay_ms: None,
                muzzy_decay_ms: None,
                ..*self
            },
        };
        Settings {
            policy: over.policy.or(below.policy),
            background_threads: over.background_threads.or(below.background_threads),
            dirty_decay_ms: over.dirty_decay_ms.or(below.dirty_decay_ms),
            muzzy_decay_ms: over.muzzy_decay_ms.or(below.muzzy_decay_ms),
            profiling: over.profiling.or(below.profiling),
            arenas: over.arenas.or(below.arenas),
            thread_cache_bytes: over.thread_cache_bytes.or(below.thread_cache_bytes),
            quiet_purge_ms: over.quiet_purge_ms.or(below.quiet_purge_ms),
            soft_limit_bytes: over.soft_limit_bytes.or(below.soft_limit_bytes),
            hard_limit_bytes: over.hard_limit_bytes.or(below.hard_limit_bytes),
        }
    }

    /// Checks every value's range.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.change().check()?;
        Ok(self.startup().check()?)
    }

    /// As text.
    pub fn encode(&self) -> String {
        let mut text = format!("{MAGIC} {FORMAT_VERSION}\n");
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{name} {value}");
            }
        };
        line("policy", self.policy.map(|policy| policy.to_string()));
        line("background-threads", self.background_threads.map(|on| on.to_string()));
        line("dirty-decay-ms", self.dirty_decay_ms.map(|time| time.to_string()));
        line("muzzy-decay-ms", self.muzzy_decay_ms.map(|time| time.to_string()));
        line("profiling", self.profiling.map(|on| on.to_string()));
        line("arenas", self.arenas.map(|arenas| arenas.to_string()));
        line("thread-cache-bytes", self.thread_cache_bytes.map(|bytes| bytes.to_string()));
        line("quiet-purge-ms", self.quiet_purge_ms.map(|time| time.to_string()));
        line("soft-limit-bytes", self.soft_limit_bytes.map(|bytes| bytes.to_string()));
        line("hard-limit-bytes", self.hard_limit_bytes.map(|bytes| bytes.to_string()));
        let checksum = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "{CHECKSUM} {checksum:08x}");
        text
    }

    /// Reads what [`Settings::encode`] has written.
    pub fn decode(bytes: &[u8]) -> Result<Settings, SettingsError> {
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = str::from_utf8(first).map_err(|_| SettingsError::Foreign)?;
        let version = first.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' '));
        let version =
            version.and_then(|version| version.parse().ok()).ok_or(SettingsError::Foreign)?;
        if version != FORMAT_VERSION {
            return Err(SettingsError::Version(version));
        }
        if bytes.len() > SETTINGS_BYTES_MAX {
            return Err(SettingsError::Damaged);
        }
        let text = str::from_utf8(bytes).map_err(|_| SettingsError::Damaged)?;
        let sealed = text.strip_suffix('\n').and_then(|text| text.rfind('\n'));
        let (body, seal) =
            sealed.and_then(|end| text.split_at_checked(end + 1)).ok_or(SettingsError::Damaged)?;
        if seal != format!("{CHECKSUM} {:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return Err(SettingsError::Damaged);
        }
        let mut settings = Settings::default();
        for (number, line) in body.lines().enumerate().skip(1) {
            let unknown = || SettingsError::Line { line: number + 1, text: line.to_owned() };
            let (name, value) = line.split_once(' ').ok_or_else(unknown)?;
            settings.set(name, value, unknown)?;
        }
        settings.check()?;
        Ok(settings)
    }

    fn set(
        &mut self,
        name: &str,
        value: &str,
        unknown: impl Fn() -> SettingsError,
    ) -> Result<(), SettingsError> {
        fn read<T: FromStr>(
            value: &str,
            unknown: impl Fn() -> SettingsError,
        ) -> Result<Option<T>, SettingsError> {
            value.parse().map(Some).map_err(|_| unknown())
        }
        match name {
            "policy" => self.policy = Some(value.parse()?),
            "background-threads" => self.background_threads = read(value, unknown)?,
            "dirty-decay-ms" => self.dirty_decay_ms = read(value, unknown)?,
            "muzzy-decay-ms" => self.muzzy_decay_ms = read(value, unknown)?,
            "profiling" => self.profiling = read(value, unknown)?,
            "arenas" => self.arenas = read(value, unknown)?,
            "thread-cache-bytes" => self.thread_cache_bytes = read(value, unknown)?,
            "quiet-purge-ms" => self.quiet_purge_ms = read(value, unknown)?,
            "soft-limit-bytes" => self.soft_limit_bytes = read(value, unknown)?,
            "hard-limit-bytes" => self.hard_limit_bytes = read(value, unknown)?,
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Settings {
        Settings {
            policy: Some(Policy::Latency),
            background_threads: Some(false),
            dirty_decay_ms: Some(1500),
            muzzy_decay_ms: Some(0),
            profiling: Some(true),
            arenas: Some(3),
            thread_cache_bytes: Some(4096),
            quiet_purge_ms: Some(30000),
            soft_limit_bytes: Some(1 << 30),
            hard_limit_bytes: Some(0),
        }
    }

    /// As in `docs/formats/heap.md`.
    const PINNED: &str = "\
kvorum-heap 1
policy latency
background-threads false
dirty-decay-ms 1500
muzzy-decay-ms 0
profiling true
arenas 3
thread-cache-bytes 4096
quiet-purge-ms 30000
soft-limit-bytes 1073741824
hard-limit-bytes 0
crc32c cbf5a206
";

    #[test]
    fn the_text_is_as_it_is_drawn_and_is_read_back() {
        assert_eq!(all().encode(), PINNED);
        assert_eq!(Settings::decode(PINNED.as_bytes()), Ok(all()));
        let nothing = Settings::default();
        assert_eq!(Settings::decode(nothing.encode().as_bytes()), Ok(nothing));
    }

    #[test]
    fn a_text_that_is_cut_or_changed_anywhere_is_refused() {
        let whole = all().encode();
        for cut in 0..whole.len() {
            assert!(Settings::decode(&whole.as_bytes()[..cut]).is_err(), "cut at {cut}");
            let mut changed = whole.clone().into_bytes();
            changed[cut] ^= 1;
            assert!(Settings::decode(&changed).is_err(), "changed at {cut}");
        }
        assert!(Settings::decode(&[whole.as_bytes(), b"x"].concat()).is_err());
    }

    #[test]
    fn what_is_sealed_and_makes_no_sense_says_what_it_is() {
        let sealed = |body: &str| {
            let checksum = crc32c::crc32c(body.as_bytes());
            let text = format!("{body}crc32c {checksum:08x}\n");
            Settings::decode(text.as_bytes()).unwrap_err().to_string()
        };
        assert!(sealed("kvorum-heap 2\n").contains("format version 2"));
        assert!(sealed("another 1\n").contains("does not begin with"));
        assert!(sealed("kvorum-heap 1\nspeed 7\n").contains("line 2 is no setting: \"speed 7\""));
        assert!(sealed("kvorum-heap 1\narenas many\n").contains("line 2"));
        assert!(sealed("kvorum-heap 1\npolicy fast\n").contains("one of balanced"));
        assert!(sealed("kvorum-heap 1\ndirty-decay-ms -1\n").contains("from 0 to 86400000"));
        assert!(sealed("kvorum-heap 1\narenas 0\n").contains("from 1 to 1024"));
        assert!(Settings::decode(b"").unwrap_err().to_string().contains("does not begin with"));
    }

    #[test]
    fn a_new_policy_replaces_what_was_set_beside_the_old_one() {
        let over = Settings { policy: Some(Policy::Compact), ..Settings::default() };
        let both = all().overlaid(&over);
        assert_eq!(both.change().dirty_decay_ms, Policy::Compact.change().dirty_decay_ms);
        assert_eq!((both.arenas, both.quiet_purge_ms), (Some(3), Some(30000)));
        let over = Settings { muzzy_decay_ms: Some(7), ..Settings::default() };
        assert_eq!(all().overlaid(&over), Settings { muzzy_decay_ms: Some(7), ..all() });
    }
}
