//! The flags that every command has, and their environment variables.
//!
//! A global flag `--some-flag` can also be given as `ETCDCTL_SOME_FLAG`. Given both ways the command ends at once, as
//! etcdctl's does: which of the two was meant is not for us to guess.

use std::ffi::OsString;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use kvorum_client::{Config, Credentials};

use crate::failure::{BAD_ARGUMENTS, ERROR, Failure};
use crate::flags;
use crate::go::quote::quoted;
use crate::go::{duration, number};

/// What the names of variables begin with.
const PREFIX: &str = "ETCDCTL_";

/// Variables that are no global flags: which API etcdctl is to use, of which there is one left, and what `watch` reads.
const OTHER_VARIABLES: [&str; 3] = ["ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"];

const DEFAULT_ENDPOINT: &str = "127.0.0.1:2379";
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(6);

/// What a global flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// Separated by commas, and by giving the flag again.
    List,
    Time,
    Switch,
    /// Known to etcdctl, not supported here; only a value that changes nothing is let pass.
    Unsupported {
        harmless: &'static str,
    },
}

/// Name, kind and help of every global flag, sorted by name.
const GLOBAL_FLAGS: [(&str, Kind, &str); 18] = [
    (
        "cacert",
        Kind::Unsupported { harmless: "" },
        "CA certificates to check servers with (TLS is not supported yet)",
    ),
    (
        "cert",
        Kind::Unsupported { harmless: "" },
        "certificate to show to servers (TLS is not supported yet)",
    ),
    ("command-timeout", Kind::Time, "how long a command may wait for its answer (5s)"),
    ("debug", Kind::Switch, "print the settings in use to standard error"),
    ("dial-timeout", Kind::Time, "how long one attempt to connect may take (2s)"),
    (
        "discovery-srv",
        Kind::Unsupported { harmless: "" },
        "domain to ask for SRV records (not supported yet)",
    ),
    (
        "discovery-srv-name",
        Kind::Unsupported { harmless: "" },
        "service to ask for in SRV records (not supported yet)",
    ),
    ("endpoints", Kind::List, "where the servers are, separated by commas (127.0.0.1:2379)"),
    ("hex", Kind::Switch, "print keys and values as hexadecimal bytes"),
    (
        "insecure-discovery",
        Kind::Unsupported { harmless: "true" },
        "accept SRV records of plain HTTP (not supported yet)",
    ),
    (
        "insecure-skip-tls-verify",
        Kind::Unsupported { harmless: "false" },
        "do not check servers' certificates (TLS is not supported yet)",
    ),
    (
        "insecure-transport",
        Kind::Unsupported { harmless: "true" },
        "do not use TLS (false is not supported yet)",
    ),
    ("keepalive-time", Kind::Time, "how often a connection in use is pinged (2s)"),
    ("keepalive-timeout", Kind::Time, "how long a ping may go unanswered (6s)"),
    (
        "key",
        Kind::Unsupported { harmless: "" },
        "key of the certificate (TLS is not supported yet)",
    ),
    ("password", Kind::Text, "the user's password"),
    ("user", Kind::Text, "user, or user:password; the password is asked for if it is not given"),
    ("write-out", Kind::Text, "how to print: simple, json, fields, table or protobuf (simple)"),
];

/// The flags, for the root command.
pub fn arguments() -> impl Iterator<Item = Arg> {
    GLOBAL_FLAGS.into_iter().map(|(name, kind, help)| {
        let flag = match kind {
            Kind::List => flags::list(name, help),
            Kind::Switch => flags::switch(name, help).value_parser(checked(kind)),
            Kind::Unsupported { harmless } if !harmless.is_empty() => {
                flags::switch(name, help).value_parser(checked(Kind::Switch))
            }
            _ => flags::text(name, help).value_parser(checked(kind)),
        };
        let short = match name {
            "write-out" => Some('w'),
            "discovery-srv" => Some('d'),
            _ => None,
        };
        flag.short(short).global(true).help_heading("Global options")
    })
}

/// Keeps the text of a value that can be understood.
fn checked(kind: Kind) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |text| kind.check(text).map(|()| text.to_string())
}

impl Kind {
    fn check(self, text: &str) -> Result<(), String> {
        match self {
            Kind::Time => duration::parse(text).map(drop),
            Kind::Switch => number::parse_bool(text).map(drop),
            Kind::Text | Kind::List | Kind::Unsupported { .. } => Ok(()),
        }
    }
}

/// Every global flag's value as it was given, by flag or variable.
#[derive(Debug)]
pub struct Globals {
    /// In the order of `GLOBAL_FLAGS`.
    given: Vec<Option<String>>,
}

impl Globals {
    /// Joins what the command line says with the environment.
    pub fn read(
        matches: &ArgMatches,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Globals, Failure> {
        let mut given: Vec<Option<String>> =
            GLOBAL_FLAGS.iter().map(|(name, _, _)| from_command_line(matches, name)).collect();
        let mut variables: Vec<(String, String)> = variables
            .map(|(name, value)| (lossy(&name), lossy(&value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        variables.sort();
        for (variable, value) in variables {
            match GLOBAL_FLAGS.iter().position(|(name, _, _)| variable_name(name) == variable) {
                Some(flag) if given[flag].is_some() => return Err(conflict(&variable)),
                Some(flag) if !value.is_empty() => {
                    GLOBAL_FLAGS[flag].1.check(&value).map_err(|error| {
                        let value = quoted(value.as_bytes());
                        Failure::new(
                            ERROR,
                            format!("invalid value {value} for {variable}: {error}"),
                        )
                    })?;
                    given[flag] = Some(value);
                }
                Some(_) => {}
                None if OTHER_VARIABLES.contains(&variable.as_str()) => {}
                None => eprintln!("Warning: unrecognized environment variable {variable}"),
            }
        }
        let globals = Globals { given };
        globals.refuse_unsupported()?;
        Ok(globals)
    }

    fn refuse_unsupported(&self) -> Result<(), Failure> {
        for ((name, kind, _), given) in GLOBAL_FLAGS.iter().zip(&self.given) {
            let (Kind::Unsupported { harmless }, Some(value)) = (kind, given) else { continue };
            let same = match number::parse_bool(harmless) {
                Ok(harmless) => number::parse_bool(value) == Ok(harmless),
                Err(_) => value == harmless,
            };
            if !same {
                return Err(Failure::new(BAD_ARGUMENTS, format!("--{name} is not supported yet")));
            }
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Option<&str> {
        let flag = GLOBAL_FLAGS.iter().position(|(known, _, _)| *known == name)?;
        self.given[flag].as_deref()
    }

    fn time(&self, name: &str, default: Duration) -> Duration {
        self.text(name).and_then(|text| duration::parse(text).ok()).unwrap_or(default)
    }

    fn is_on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| number::parse_bool(text) == Ok(true))
    }

    /// Where the servers are.
    pub fn endpoints(&self) -> Vec<String> {
        let text = self.text("endpoints").unwrap_or(DEFAULT_ENDPOINT);
        if text.is_empty() {
            return Vec::new();
        }
        text.split(',').map(|endpoint| endpoint.trim().to_string()).collect()
    }

    /// The name of the output format.
    pub fn write_out(&self) -> &str {
        self.text("write-out").unwrap_or("simple")
    }

    /// Whether keys and values are printed in hexadecimal.
    pub fn hex(&self) -> bool {
        self.is_on("hex")
    }

    /// Whether the settings are to be printed.
    pub fn debug(&self) -> bool {
        self.is_on("debug")
    }

    /// Settings as variables would give them, passwords left out.
    pub fn shown(&self) -> Vec<String> {
        let hidden = |name: &str| matches!(name, "password" | "user");
        GLOBAL_FLAGS
            .iter()
            .zip(&self.given)
            .filter(|((name, _, _), given)| given.is_some() && !hidden(name))
            .map(|((name, _, _), given)| {
                format!("{}={}", variable_name(name), given.as_deref().unwrap_or_default())
            })
            .collect()
    }

    /// The user and, if it was given, the password.
    pub fn user(&self) -> Option<(&str, Option<&str>)> {
        let user = self.text("user").filter(|user| !user.is_empty())?;
        match self.text("password").filter(|password| !password.is_empty()) {
            Some(password) => Some((user, Some(password))),
            None => match user.split_once(':') {
                Some((user, password)) => Some((user, Some(password))),
                None => Some((user, None)),
            },
        }
    }

    /// How long a command may take, if somebody said so.
    pub fn time_limit(&self) -> Option<Duration> {
        self.text("command-timeout").and_then(|text| duration::parse(text).ok())
    }

    /// The client's configuration.
    pub fn config(&self, credentials: Option<Credentials>) -> Config {
        let mut config = Config::new(self.endpoints());
        config.request_timeout = self.time_limit().unwrap_or(COMMAND_TIMEOUT);
        config.dial_timeout = self.time("dial-timeout", DIAL_TIMEOUT);
        config.keep_alive_interval = Some(self.time("keepalive-time", KEEP_ALIVE_INTERVAL));
        config.keep_alive_timeout = self.time("keepalive-timeout", KEEP_ALIVE_TIMEOUT);
        config.credentials = credentials;
        config
    }
}

fn from_command_line(matches: &ArgMatches, name: &str) -> Option<String> {
    if matches.value_source(name) != Some(ValueSource::CommandLine) {
        return None;
    }
    let values: Vec<&str> = matches.get_many::<String>(name)?.map(String::as_str).collect();
    Some(values.join(","))
}

fn variable_name(flag: &str) -> String {
    format!("{PREFIX}{}", flag.replace('-', "_").to_uppercase())
}

fn conflict(variable: &str) -> Failure {
    Failure::new(
        ERROR,
        format!(
            "conflicting environment variable {variable} is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag)"
        ),
    )
}

fn lossy(text: &OsString) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "globals_tests.rs"]
mod tests;
