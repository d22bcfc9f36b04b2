//! Commands that are run for someone: how they end, in the words of Go.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::go::quote::quoted;

/// How a command ended, as Go says it.
pub fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            let dumped = if status.core_dumped() { " (core dumped)" } else { "" };
            format!("signal: {}{dumped}", signal_name(signal))
        }
        (None, None) => status.to_string(),
    }
}

/// The names of the signals that commands die of. Their numbers are the same on every Linux.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => return format!("signal {signal}"),
    };
    name.into()
}

/// Why a command could not be begun.
pub fn why_not(program: &OsString, error: &std::io::Error) -> String {
    let is_path = program.as_bytes().contains(&b'/');
    match error.kind() {
        std::io::ErrorKind::NotFound if !is_path => {
            format!("exec: {}: executable file not found in $PATH", quoted(program.as_bytes()))
        }
        std::io::ErrorKind::NotFound => {
            format!("fork/exec {}: no such file or directory", program.to_string_lossy())
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("fork/exec {}: permission denied", program.to_string_lossy())
        }
        _ => format!("fork/exec {}: {error}", program.to_string_lossy()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::{Error, ErrorKind};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::{how, why_not};

    #[test]
    fn ends_of_commands_in_the_words_of_go() {
        let status = ExitStatus::from_raw;
        let (code, core_dumped) = (3 << 8, 0x80);
        assert_eq!(how(status(code)), "exit status 3");
        assert_eq!(how(status(9)), "signal: killed");
        assert_eq!(how(status(6 | core_dumped)), "signal: aborted (core dumped)");
        assert_eq!(how(status(60)), "signal: signal 60");
        let missing =
            |program: &str| why_not(&OsString::from(program), &Error::from(ErrorKind::NotFound));
        assert_eq!(missing("nosuch"), r#"exec: "nosuch": executable file not found in $PATH"#);
        assert_eq!(missing("./nosuch"), "fork/exec ./nosuch: no such file or directory");
    }
}
