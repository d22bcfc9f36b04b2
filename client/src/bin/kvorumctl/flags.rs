//! Flags as etcdctl takes them.
//!
//! `--flag value`, `--flag=value`, and for switches `--flag` or `--flag=false`; a repeated flag counts for its last value; a
//! value may begin with a dash.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::go::duration;
use crate::go::number::{Base, parse_bool, parse_int};

/// A flag with a text.
pub fn text(name: &'static str, help: &'static str) -> Arg {
    value(name, help).value_parser(value_parser!(String))
}

/// A flag with a whole number.
pub fn integer(name: &'static str, help: &'static str) -> Arg {
    value(name, help).value_parser(|text: &str| parse_int(text, Base::Any)).value_name("N")
}

/// A flag with a duration such as `500ms`.
pub fn time(name: &'static str, help: &'static str) -> Arg {
    value(name, help).value_parser(duration::parse).value_name("DURATION")
}

/// A flag that is on or off, and off if it is not given.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    value(name, help)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .hide_possible_values(true)
        .value_name("BOOL")
        .value_parser(parse_bool)
}

/// What is left when flags are taken away. Any bytes are allowed, since keys and values may be any bytes.
pub fn arguments(names: &'static str) -> Arg {
    Arg::new("arguments").value_name(names).num_args(0..).value_parser(value_parser!(OsString))
}

/// A flag whose values add up when it is repeated.
pub fn list(name: &'static str, help: &'static str) -> Arg {
    repeatable(name, help).action(ArgAction::Append).value_parser(value_parser!(String))
}

fn value(name: &'static str, help: &'static str) -> Arg {
    repeatable(name, help).action(ArgAction::Set).overrides_with(name)
}

fn repeatable(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).allow_hyphen_values(true).value_name("VALUE")
}

/// What the command line says about flags. A name that the command does not declare is a programming error.
pub trait Flags {
    /// A text, empty if not given.
    fn text(&self, name: &str) -> &str;
    /// A number, `None` if not given.
    fn integer(&self, name: &str) -> Option<i64>;
    /// A duration, `None` if not given.
    fn time(&self, name: &str) -> Option<Duration>;
    /// A switch.
    fn is_on(&self, name: &str) -> bool;
    /// The arguments that are no flags.
    fn arguments(&self) -> Vec<OsString>;
}

impl Flags for ArgMatches {
    fn text(&self, name: &str) -> &str {
        self.get_one::<String>(name).map_or("", String::as_str)
    }

    fn integer(&self, name: &str) -> Option<i64> {
        self.get_one(name).copied()
    }

    fn time(&self, name: &str) -> Option<Duration> {
        self.get_one(name).copied()
    }

    fn is_on(&self, name: &str) -> bool {
        self.get_one(name).copied().unwrap_or(false)
    }

    fn arguments(&self) -> Vec<OsString> {
        self.get_many("arguments").into_iter().flatten().cloned().collect()
    }
}
