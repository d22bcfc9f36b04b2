//! Printing one watch, and running a command for each of its events.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use kvorum_client::api::etcdserverpb::{ResponseHeader, WatchResponse};
use kvorum_client::api::mvccpb::Event;
use kvorum_client::{Error, UpdateKind, Watch, WatchUpdate};

use crate::commands::child::{how, why_not};
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
