//! What the allocator takes when its process starts, and only then: through a variable that it reads before the program.

/// The variable. It is read before any of the program's code runs, so a program that wants another value in it starts
/// itself again.
pub const CONF_VARIABLE: &str = "_RJEM_MALLOC_CONF";

/// How to have a profiler.
pub(crate) const NO_PROFILER: &str =
    "the variable _RJEM_MALLOC_CONF must say prof:true, or nothing of prof";

/// The most arenas.
pub const ARENAS_MAX: u32 = 1024;

/// The longest allocation that threads may keep for themselves.
pub const THREAD_CACHE_BYTES_MAX: u64 = 32 * 1024;

/// Settings of the next start. What is `None` is the allocator's choice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Startup {
    /// How many arenas threads are spread over: from 1 to [`ARENAS_MAX`].
    pub arenas: Option<u32>,
    /// The longest allocation that threads keep for themselves when it is freed, in bytes: from 0 to
    /// [`THREAD_CACHE_BYTES_MAX`]. With 0 they keep none.
    pub thread_cache_bytes: Option<u64>,
}

/// Why a setting of the next start is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StartupError {
    /// No arena, or too many.
    #[error("arenas is {0}: it must be from 1 to {ARENAS_MAX}")]
    Arenas(u32),
    /// Caches of too much.
    #[error("thread_cache_bytes is {0}: it must be from 0 to {THREAD_CACHE_BYTES_MAX}")]
    ThreadCache(u64),
}

/// What the variable should be, and what of it was somebody else's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Merged {
    /// Its value; none: as it is.
    pub conf: Option<String>,
    /// Options that were wanted and are set to something of its own by the variable already, which stands.
    pub overridden: Vec<&'static str>,
}

impl Startup {
    /// Checks the ranges.
    pub fn check(&self) -> Result<(), StartupError> {
        match self {
            Startup { arenas: Some(arenas), .. } if !(1..=ARENAS_MAX).contains(arenas) => {
                Err(StartupError::Arenas(*arenas))
            }
            Startup { thread_cache_bytes: Some(bytes), .. } if *bytes > THREAD_CACHE_BYTES_MAX => {
                Err(StartupError::ThreadCache(*bytes))
            }
            _ => Ok(()),
        }
    }

    /// Joins these with what the variable holds. What an operator wrote into it stands: it is not replaced.
    pub fn merge(&self, given: Option<&str>) -> Merged {
        let given = given.unwrap_or_default();
        let (mut added, mut overridden) = (Vec::new(), Vec::new());
        for (name, value) in self.options() {
            if !given.split(',').any(|option| option.split(':').next() == Some(name)) {
                added.push(format!("{name}:{value}"));
            } else if !given.split(',').any(|option| option == format!("{name}:{value}")) {
                overridden.push(name);
            }
        }
        if added.is_empty() {
            return Merged { conf: None, overridden };
        }
        let parts = added.iter().map(String::as_str).chain((!given.is_empty()).then_some(given));
        Merged { conf: Some(parts.collect::<Vec<_>>().join(",")), overridden }
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        if let Some(arenas) = self.arenas {
            options.push(("narenas", arenas.to_string()));
        }
        match self.thread_cache_bytes {
            None => {}
            Some(0) => options.push(("tcache", "false".to_owned())),
            Some(bytes) => options.push(("tcache_max", bytes.to_string())),
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arenas: u32, thread_cache_bytes: u64) -> Startup {
        Startup { arenas: Some(arenas), thread_cache_bytes: Some(thread_cache_bytes) }
    }

    #[test]
    fn what_was_given_stays_and_what_is_wanted_is_added() {
        let added = |startup: Startup, given| startup.merge(given).conf;
        assert_eq!(added(Startup::default(), None), None);
        assert_eq!(added(of(2, 4096), None).unwrap(), "narenas:2,tcache_max:4096");
        assert_eq!(
            added(of(2, 0), Some("prof:false")).unwrap(),
            "narenas:2,tcache:false,prof:false"
        );
        let merged = of(2, 4096).merge(Some("narenas:3"));
        assert_eq!(merged.conf.unwrap(), "tcache_max:4096,narenas:3");
        assert_eq!(merged.overridden, ["narenas"]);
    }

    #[test]
    fn what_was_merged_is_not_merged_again() {
        let conf = of(2, 4096).merge(Some("prof:false")).conf;
        let again = of(2, 4096).merge(conf.as_deref());
        assert_eq!(again, Merged { conf: None, overridden: Vec::new() });
    }

    #[test]
    fn bad_values_are_refused_with_what_is_allowed() {
        assert!(of(0, 0).check().unwrap_err().to_string().contains("from 1 to 1024"));
        assert!(of(1025, 0).check().unwrap_err().to_string().contains("from 1 to 1024"));
        assert!(of(1, 32769).check().unwrap_err().to_string().contains("from 0 to 32768"));
        assert_eq!(of(1024, 32768).check(), Ok(()));
    }
}
