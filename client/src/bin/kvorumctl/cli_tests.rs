use std::ffi::OsString;

use super::{Parsed, command, parse};
use crate::failure::{ERROR, Failure};

fn refused(arguments: &[&str]) -> Failure {
    let arguments = [&["kvorumctl"], arguments].concat();
    match parse(arguments.iter().map(OsString::from)) {
        Err(failure) => failure,
        Ok(_) => panic!("{arguments:?} was understood"),
    }
}

/// The names of the command and subcommand that the arguments choose.
fn chosen(arguments: &[&str]) -> Vec<String> {
    let arguments = [&["kvorumctl"], arguments].concat();
    let Ok(Parsed::Run(matches)) = parse(arguments.iter().map(OsString::from)) else {
        panic!("{arguments:?} was not understood")
    };
    let mut names = Vec::new();
    let mut matches = &matches;
    while let Some((name, below)) = matches.subcommand() {
        names.push(name.to_string());
        matches = below;
    }
    names
}

#[test]
fn the_tree_of_commands_is_sound() {
    command().debug_assert();
}

#[test]
fn commands_may_be_shortened() {
    assert_eq!(chosen(&["compact", "5"]), ["compaction"]);
    assert_eq!(chosen(&["compa", "5"]), ["compaction"]);
    assert_eq!(chosen(&["en", "s"]), ["endpoint", "status"]);
    assert_eq!(chosen(&["lease", "keep", "1f"]), ["lease", "keep-alive"]);
    assert_eq!(chosen(&["le", "t", "1f"]), ["lease", "timetolive"]);
    assert_eq!(chosen(&["endpoint", "hash"]), ["endpoint", "hashkv"]);
    assert_eq!(chosen(&["me", "l"]), ["member", "list"]);
    assert_eq!(chosen(&["me", "pro", "1f"]), ["member", "promote"]);
    assert_eq!(chosen(&["mo", "1f"]), ["move-leader"]);
    assert_eq!(chosen(&["al", "d"]), ["alarm", "disarm"]);
    assert_eq!(chosen(&["down", "v", "3.6"]), ["downgrade", "validate"]);
    assert_eq!(chosen(&["del", "k"]), ["del"]);
    assert_eq!(chosen(&["endpoint", "--cluster", "health"]), ["endpoint", "health"]);
}

#[test]
fn mistakes_are_told_in_the_words_of_etcdctl() {
    let cases: [(&[&str], &str); 10] = [
        (&["get", "k", "--bogus"], "unknown flag: --bogus"),
        (&["--bogus=1"], "unknown flag: --bogus"),
        (&["get", "k", "-z"], "unknown shorthand flag: 'z' in -z"),
        (&["put", "k", "-v"], "unknown shorthand flag: 'v' in -v"),
        (&["get", "k", "--limit"], "flag needs an argument: --limit"),
        (
            &["get", "k", "--limit", "--prefix"],
            r#"invalid argument "--prefix" for "--limit" flag: strconv.ParseInt: parsing "--prefix": invalid syntax"#,
        ),
        (
            &["get", "k", "--prefix=xx"],
            r#"invalid argument "xx" for "--prefix" flag: strconv.ParseBool: parsing "xx": invalid syntax"#,
        ),
        (
            &["elect", "e", "--listen=x"],
            r#"invalid argument "x" for "-l, --listen" flag: strconv.ParseBool: parsing "x": invalid syntax"#,
        ),
        (
            &["--command-timeout=5", "get", "k"],
            r#"invalid argument "5" for "--command-timeout" flag: time: missing unit in duration "5""#,
        ),
        (&["foo"], "unknown command \"foo\" for \"kvorumctl\"\nRun 'kvorumctl --help' for usage."),
    ];
    for (arguments, text) in cases {
        assert_eq!(refused(arguments), Failure::new(ERROR, text), "{arguments:?}");
    }
}

#[test]
fn help_is_printed() {
    for arguments in [&["kvorumctl", "--help"][..], &["kvorumctl", "get", "-h"]] {
        match parse(arguments.iter().map(OsString::from)) {
            Ok(Parsed::Print(text)) => assert!(text.contains("--endpoints"), "{text}"),
            _ => panic!("{arguments:?} prints help"),
        }
    }
}
