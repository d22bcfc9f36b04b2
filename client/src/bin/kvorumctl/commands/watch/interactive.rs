//! Watches begun by typed lines.

use std::ffi::OsString;
use std::io::{BufRead, stdin};
use std::os::unix::ffi::OsStringExt;

use kvorum_client::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::arguments::{Asked, Checked, Environment};
use super::follow::follow;
use crate::cli;
use crate::commands::words;
use crate::failure::{BAD_ARGUMENTS, Failure, INVALID_INPUT};
use crate::session::Session;

/// Lines that have been read and not yet looked at.
const LINES_WAITING_MAX: usize = 16;

/// What a line asks for.
#[derive(Debug, PartialEq)]
enum Line {
    Watch(Checked),
    Progress,
    /// Nothing that makes sense; what to say about it.
    Mistake(String),
}

/// Reads lines until standard input ends, which is a failure as it is for etcdctl.
pub async fn run(session: &Session, environment: &Environment) -> Result<(), Failure> {
    let client = session.client.requiring_leader();
    let mut lines = read_lines();
    let mut watches: JoinSet<Result<(), Failure>> = JoinSet::new();
    loop {
        tokio::select! {
            line = lines.recv() => {
                let line = line.unwrap_or_else(|| Err("EOF".into())).map_err(|error| {
                    let text = format!("error reading watch request line: {error}");
                    Failure::new(INVALID_INPUT, text)
                })?;
                begin(&client, session, understand(&line, environment)?, &mut watches);
            }
            Some(ended) = watches.join_next() => {
                ended.unwrap_or(Ok(()))?;
            }
        }
    }
}

fn begin(
    client: &Client,
    session: &Session,
    line: Line,
    watches: &mut JoinSet<Result<(), Failure>>,
) {
    match line {
        Line::Watch(Checked { key, options, command }) => {
            let (watch, printer) = (client.watch(key, options), session.printer);
            watches.spawn(async move { follow(watch, printer, &command).await });
        }
        Line::Progress => client.request_watch_progress(),
        Line::Mistake(text) => eprintln!("{text}"),
    }
}

/// Reads whole lines on a thread of its own, which ends with the program: reading cannot be interrupted.
fn read_lines() -> mpsc::Receiver<Result<Vec<u8>, String>> {
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    std::thread::spawn(move || {
        let send = |line: Result<Vec<u8>, String>| sender.blocking_send(line);
        loop {
            let mut line = Vec::new();
            let read = stdin().lock().read_until(b'\n', &mut line);
            let sent = match read {
                Ok(_) if line.pop() == Some(b'\n') => send(Ok(line)),
                Ok(_) => return drop(send(Err("EOF".into()))),
                Err(error) => return drop(send(Err(error.to_string()))),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    receiver
}

/// What a line means. Fails for mistakes that etcdctl does not forgive.
fn understand(line: &[u8], environment: &Environment) -> Result<Line, Failure> {
    let shown = String::from_utf8_lossy(line);
    let mistake = |text: String| Ok(Line::Mistake(text));
    let words = words::split(line).map_err(|error| Failure::new(BAD_ARGUMENTS, error))?;
    let words: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
    match words.first().and_then(|word| word.to_str()) {
        None => mistake(format!("Invalid command: {shown} (watch and progress supported)")),
        Some("progress") => Ok(Line::Progress),
        Some("watch") if words.len() < 2 && !environment.has_key() => {
            mistake(format!("Invalid command {shown} (command type or key is not provided)"))
        }
        Some("watch") => {
            let asked = |matches| Asked::read(matches, &words, environment).map(Asked::checked);
            let matches = super::command()
                .disable_help_flag(true)
                .try_get_matches_from(&words)
                .map_err(|error| Failure::new(BAD_ARGUMENTS, cli::explain(&error, "watch")))?;
            match asked(&matches)? {
                Ok(watch) => Ok(Line::Watch(watch)),
                Err(failure) => mistake(format!("Invalid command {shown} ({})", failure.message())),
            }
        }
        Some(_) => mistake(format!("Invalid command {shown} (only support watch)")),
    }
}

#[cfg(test)]
mod tests {
    use kvorum_client::WatchOptions;

    use super::{Checked, Environment, Line, understand};
    use crate::failure::{BAD_ARGUMENTS, Failure};

    fn line(text: &str) -> Result<Line, Failure> {
        understand(text.as_bytes(), &Environment::default())
    }

    #[test]
    fn lines_that_are_understood() {
        let watch = |key: &'static str, options, command: &[&str]| {
            let command = command.iter().map(Into::into).collect();
            Ok(Line::Watch(Checked { key: key.into(), options, command }))
        };
        let new = WatchOptions::new;
        assert_eq!(line("progress"), Ok(Line::Progress));
        assert_eq!(line("  watch foo"), watch("foo", new(), &[]));
        assert_eq!(line(r#"watch "a b" --rev 5"#), watch("a b", new().start_revision(5), &[]));
        assert_eq!(
            line("watch foo --prefix --prev-kv -- echo hello"),
            watch("foo", new().prefix().prev_kv(), &["echo", "hello"])
        );
    }

    #[test]
    fn mistakes_that_are_forgiven() {
        let cases = [
            ("", "Invalid command:  (watch and progress supported)"),
            ("get foo", "Invalid command get foo (only support watch)"),
            ("watch", "Invalid command watch (command type or key is not provided)"),
            (
                "watch foo a --prefix",
                "Invalid command watch foo a --prefix (`range_end` and `--prefix` are mutually exclusive)",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(line(text), Ok(Line::Mistake(expected.into())), "{text}");
        }
    }

    #[test]
    fn mistakes_that_are_not() {
        let cases = [
            ("watch --bogus foo", "unknown flag: --bogus"),
            ("watch foo -w json", "unknown shorthand flag: 'w' in -w"),
            (
                "watch foo --rev x",
                r#"invalid argument "x" for "--rev" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
            ("watch foo --", "bad number of arguments (found separator --, but no commands)"),
        ];
        for (text, expected) in cases {
            assert_eq!(line(text), Err(Failure::new(BAD_ARGUMENTS, expected)), "{text}");
        }
        let environment =
            Environment::read(|name| (name == "ETCDCTL_WATCH_KEY").then(|| "foo".into()));
        let failure = understand(b"watch foo", &environment.unwrap()).unwrap_err();
        let expected = "bad number of arguments (found conflicting environment key)";
        assert_eq!(failure, Failure::new(BAD_ARGUMENTS, expected));
    }
}
