//! Starting the process again with what the allocator takes at its start only.
//!
//! The allocator reads its variable before the program begins. Where that does not say what flags and file want, the
//! process becomes itself once more with a variable that does: the same process id, the same arguments. Another variable
//! says that it has been done, so that it is never done twice, whatever comes of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use kvorum_disk::RealDisk;
use kvorum_heap::{CONF_VARIABLE, Merged};

use super::file;
use crate::config::Config;

/// Says that the process has been started again. No flag is set by it.
const GUARD: &str = "_KVORUM_HEAP_CONF_SET";

/// What came of it, for the log, which is not there yet.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Restarted {
    /// What somebody should know.
    pub(crate) warnings: Vec<String>,
}

/// Starts the process again if its settings want it. Returns if they do not, or if that failed.
pub(crate) fn restart_if_wanted(config: &Config, variables: &[(OsString, OsString)]) -> Restarted {
    let variable = |name: &str| {
        let found = variables.iter().find(|(variable, _)| variable == OsStr::new(name));
        found.map(|(_, value)| value.to_string_lossy().into_owned())
    };
    // A file that cannot be read stops the start later on, with a message.
    let persisted = file::read(&RealDisk::new(), &config.data_dir).ok().flatten();
    let settings = persisted.map_or(config.memory, |kept| config.memory.overlaid(&kept));
    if settings.check().is_err() {
        return Restarted::default();
    }
    let Merged { conf, overridden } = settings.startup().merge(variable(CONF_VARIABLE).as_deref());
    let mut warnings = Vec::new();
    if !overridden.is_empty() {
        let names = overridden.join(", ");
        warnings
            .push(format!("{CONF_VARIABLE} sets {names}, which stands over flags and settings"));
    }
    let Some(conf) = conf else { return Restarted { warnings } };
    if variable(GUARD).is_some() {
        warnings.push(format!(
            "the process was started again already, and {CONF_VARIABLE} still lacks {conf}"
        ));
        return Restarted { warnings };
    }
    let error = become_again(&conf);
    warnings.push(format!("cannot start the process again with {CONF_VARIABLE}={conf}: {error}"));
    Restarted { warnings }
}

/// Returns only if it fails.
fn become_again(conf: &str) -> std::io::Error {
    let own = match std::env::current_exe() {
        // One that was replaced or removed since is still there under this name.
        Ok(own) if own.exists() => own,
        _ => "/proc/self/exe".into(),
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(own);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(CONF_VARIABLE, conf).env(GUARD, "1").exec()
}
