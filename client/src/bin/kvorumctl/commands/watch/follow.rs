//! Printing one watch, and running a command for each of its events.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use kvorum_client::api::etcdserverpb::{ResponseHeader, WatchResponse};
use kvorum_client::api::mvccpb::Event;
use kvorum_client::{Error, UpdateKind, Watch, WatchUpdate};

use crate::commands::output;
use crate::failure::{ERROR, Failure};
use crate::go::quote::quoted;
use crate::output::Printer;

/// Prints everything that a watch is told to its end, and runs `command` for each event, if it is not empty.
pub async fn follow(
    mut watch: Watch,
    printer: Printer,
    command: &[OsString],
) -> Result<(), Failure> {
    while let Some(item) = watch.next().await {
        let update = match item {
            Ok(update) => update,
            Err(error) => {
                print_end(printer, &error, watch.header())?;
                break;
            }
        };
        let header = update.header;
        let events = print(printer, update)?;
        for event in events.iter().filter(|_| !command.is_empty()) {
            run(command, header, event).await?;
        }
    }
    Ok(())
}

/// Prints an update as a whole and gives its events back.
fn print(printer: Printer, update: WatchUpdate) -> Result<Vec<Event>, Failure> {
    let revision = update.header.revision;
    let mut text = Vec::new();
    match update.kind {
        UpdateKind::Changes if update.is_progress() => {
            writeln!(text, "progress notify: {revision}")?;
        }
        UpdateKind::StateBegins => writeln!(text, "state begins: {revision}")?,
        UpdateKind::StateComplete => writeln!(text, "state complete: {revision}")?,
        UpdateKind::Changes | UpdateKind::State => {}
    }
    let answer =
        WatchResponse { header: Some(update.header), events: update.events, ..Default::default() };
    printer.watch(&mut text, &answer)?;
    write(&text)?;
    Ok(answer.events)
}

/// Prints why there is nothing more to come.
fn print_end(printer: Printer, error: &Error, header: ResponseHeader) -> Result<(), Failure> {
    eprintln!("watch was canceled ({error})");
    let mut answer = WatchResponse { canceled: true, ..Default::default() };
    if let Error::Compacted { compact_revision } = error {
        answer.header = Some(header);
        answer.compact_revision = *compact_revision;
    }
    let mut text = Vec::new();
    printer.watch(&mut text, &answer)?;
    write(&text)
}

fn write(text: &[u8]) -> Result<(), Failure> {
    let mut out = output().lock();
    out.write_all(text)?;
    Ok(out.flush()?)
}

/// Runs the command for one event and waits for it. One that fails ends the program.
async fn run(command: &[OsString], header: ResponseHeader, event: &Event) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let kv = event.kv.clone().unwrap_or_default();
    let mut child = Command::new(program);
    child
        .args(arguments)
        .env("ETCD_WATCH_REVISION", header.revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", format!("{:?}", event.r#type().as_str_name()))
        .env("ETCD_WATCH_KEY", quoted(&kv.key))
        .env("ETCD_WATCH_VALUE", quoted(&kv.value))
        .stdin(Stdio::null());
    // Connections are kept alive meanwhile, so it is waited for elsewhere.
    let ended = tokio::task::spawn_blocking(move || child.status()).await;
    let reason = match ended.map_err(std::io::Error::other).and_then(|ended| ended) {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => how(status),
        Err(error) => why_not(program, &error),
    };
    let words: Vec<String> = command.iter().map(|word| quoted(word.as_bytes())).collect();
    eprintln!("command [{}] error ({reason})", words.join(" "));
    Err(Failure::silent(ERROR))
}

/// How a command ended, as Go says it.
fn how(status: ExitStatus) -> String {
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
fn why_not(program: &OsString, error: &std::io::Error) -> String {
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
