//! What to watch.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use clap::ArgMatches;
use kvorum_client::WatchOptions;

use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::Flags;
use crate::go::quote::quoted;

/// A key and the end of its range from the environment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// None, the key, or both.
    arguments: Vec<OsString>,
}

impl Environment {
    /// Reads the variables; an empty one counts as not set.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Environment, Failure> {
        let value = |name: &str| variable(name).filter(|value| !value.is_empty());
        let (key, range_end) = (value("ETCDCTL_WATCH_KEY"), value("ETCDCTL_WATCH_RANGE_END"));
        if let (None, Some(range_end)) = (&key, &range_end) {
            let range_end = quoted(range_end.as_encoded_bytes());
            return Err(bad(&format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={range_end}"
            )));
        }
        Ok(Environment { arguments: key.into_iter().chain(range_end).collect() })
    }

    /// Whether there is a key.
    pub fn has_key(&self) -> bool {
        !self.arguments.is_empty()
    }
}

/// What was asked for, before it is known to make sense.
#[derive(Debug)]
pub struct Asked<'a> {
    matches: &'a ArgMatches,
    arguments: Vec<OsString>,
    command: Vec<OsString>,
}

/// A watch that makes sense.
#[derive(Debug, PartialEq)]
pub struct Checked {
    pub key: Bytes,
    pub options: WatchOptions,
    /// What to run for each event; nothing if it is empty.
    pub command: Vec<OsString>,
}

impl Asked<'_> {
    /// Joins what was given with the environment. `words` is the line that `matches` were read from.
    pub fn read<'a>(
        matches: &'a ArgMatches,
        words: &[OsString],
        environment: &Environment,
    ) -> Result<Asked<'a>, Failure> {
        let given = matches.arguments();
        let command: Vec<OsString> =
            matches.get_many("command").into_iter().flatten().cloned().collect();
        let separator = words.iter().position(|word| word == "--");
        if separator.is_some_and(|at| at + 1 == words.len()) {
            return Err(bad("bad number of arguments (found separator --, but no commands)"));
        }
        if environment.has_key() && !given.is_empty() {
            return Err(bad("bad number of arguments (found conflicting environment key)"));
        }
        let arguments = environment.arguments.iter().cloned().chain(given).collect();
        Ok(Asked { matches, arguments, command })
    }

    /// The watch, if there is a key and the flags go together.
    pub fn checked(self) -> Result<Checked, Failure> {
        let prefix = self.matches.is_on("prefix");
        let argument_count = self.arguments.len();
        let mut arguments = self.arguments.into_iter().map(|word| Bytes::from(word.into_vec()));
        let Some(key) = arguments.next() else { return Err(bad("bad number of arguments")) };
        // As etcdctl has it: of three arguments, only the first counts.
        let range_end = arguments.next().filter(|_| argument_count == 2);
        let mut options =
            WatchOptions::new().start_revision(self.matches.integer("rev").unwrap_or(0));
        match range_end {
            Some(_) if prefix => {
                return Err(bad("`range_end` and `--prefix` are mutually exclusive"));
            }
            Some(range_end) => options = options.until(range_end),
            None if prefix => options = options.prefix(),
            None => {}
        }
        if self.matches.is_on("prev-kv") {
            options = options.prev_kv();
        }
        if self.matches.is_on("progress-notify") {
            options = options.progress_notify();
        }
        if self.matches.is_on("with-state") {
            options = options.with_state();
        }
        Ok(Checked { key, options, command: self.command })
    }
}

fn bad(message: &str) -> Failure {
    Failure::new(BAD_ARGUMENTS, message)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use kvorum_client::WatchOptions;

    use super::{Asked, Checked, Environment, bad};
    use crate::commands::watch::command;
    use crate::failure::Failure;

    fn environment(key: &str, range_end: &str) -> Result<Environment, Failure> {
        Environment::read(|name| match name {
            "ETCDCTL_WATCH_KEY" => Some(key.into()),
            _ => Some(range_end.into()),
        })
    }

    fn watch(line: &[&str], variables: (&str, &str)) -> Result<Checked, Failure> {
        let words: Vec<OsString> = ["watch"].iter().chain(line).map(OsString::from).collect();
        let environment = environment(variables.0, variables.1)?;
        let matches = command().try_get_matches_from(&words).unwrap();
        Asked::read(&matches, &words, &environment)?.checked()
    }

    fn watching(key: &'static str, options: WatchOptions, command: &[&str]) -> Checked {
        let command = command.iter().map(OsString::from).collect();
        Checked { key: key.into(), options, command }
    }

    #[test]
    fn from_the_command_line() {
        let new = WatchOptions::new;
        let cases = [
            (&["foo"][..], watching("foo", new(), &[])),
            (&["foo", "fox"], watching("foo", new().until("fox"), &[])),
            (&["foo", "--rev=5", "a", "b"], watching("foo", new().start_revision(5), &[])),
            (
                &["--prefix", "--prev-kv", "foo", "--progress-notify"],
                watching("foo", new().prefix().prev_kv().progress_notify(), &[]),
            ),
            (&["foo", "--with-state"], watching("foo", new().with_state(), &[])),
            (
                &["foo", "--", "echo", "foo", "--", "-x"],
                watching("foo", new(), &["echo", "foo", "--", "-x"]),
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(watch(line, ("", "")), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn from_the_environment() {
        let new = WatchOptions::new;
        assert_eq!(watch(&[], ("foo", "")), Ok(watching("foo", new(), &[])));
        let line = ["--rev", "5", "--", "echo", "hello"];
        let expected = new().until("fox").start_revision(5);
        assert_eq!(watch(&line, ("foo", "fox")), Ok(watching("foo", expected, &["echo", "hello"])));
    }

    #[test]
    fn mistakes() {
        let conflict = "bad number of arguments (found conflicting environment key)";
        let separator = "bad number of arguments (found separator --, but no commands)";
        let cases = [
            (&[][..], ("", ""), "bad number of arguments"),
            (&["--prefix", "--rev", "5"], ("", ""), "bad number of arguments"),
            (&["--", "echo"], ("", ""), "bad number of arguments"),
            (&["foo", "--"], ("", ""), separator),
            (
                &["a", "b", "--prefix"],
                ("", ""),
                "`range_end` and `--prefix` are mutually exclusive",
            ),
            (&["foo"], ("foo", ""), conflict),
            (&["foo", "--", "echo"], ("foo", ""), conflict),
            (
                &["foo"],
                ("", "fox"),
                r#"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END="fox""#,
            ),
        ];
        for (line, variables, text) in cases {
            assert_eq!(watch(line, variables), Err(bad(text)), "{line:?}");
        }
    }
}
