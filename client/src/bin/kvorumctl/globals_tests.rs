use std::ffi::OsString;
use std::time::Duration;

use super::{GLOBAL_FLAGS, Globals};
use crate::cli::{self, Parsed};
use crate::failure::{BAD_ARGUMENTS, ERROR, Failure};

fn globals(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Globals, Failure> {
    let arguments = [&["kvorumctl"], arguments].concat();
    let Parsed::Run(matches) = cli::parse(arguments.iter().map(OsString::from))? else {
        panic!("{arguments:?} is a command")
    };
    let (_, matches) = matches.subcommand().expect("a subcommand was given");
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    Globals::read(matches, variables)
}

#[test]
fn defaults_are_those_of_etcdctl() {
    let globals = globals(&["get", "k"], &[]).unwrap();
    let config = globals.config(None);
    assert_eq!(config.endpoints, ["127.0.0.1:2379"]);
    assert_eq!(config.request_timeout, Duration::from_secs(5));
    assert_eq!(config.dial_timeout, Duration::from_secs(2));
    assert_eq!(config.keep_alive_interval, Some(Duration::from_secs(2)));
    assert_eq!(config.keep_alive_timeout, Duration::from_secs(6));
    assert_eq!(globals.write_out(), "simple");
    assert!(!globals.hex() && !globals.debug() && globals.user().is_none());
}

#[test]
fn flags_stand_before_or_after_the_command() {
    for arguments in [
        &["--endpoints", "a:1, b:2", "-w", "json", "--hex", "get", "k"][..],
        &["get", "--endpoints=a:1,b:2", "k", "-wjson", "--hex=true"],
        &["get", "k", "--endpoints=a:1", "--endpoints", "b:2", "--write-out=json", "--hex=T"],
    ] {
        let globals = globals(arguments, &[]).unwrap();
        assert_eq!(globals.endpoints(), ["a:1", "b:2"], "{arguments:?}");
        assert_eq!(globals.write_out(), "json");
        assert!(globals.hex());
    }
    let globals = globals(&["get", "k", "-wjson", "-w", "table", "--endpoints="], &[]).unwrap();
    assert_eq!(globals.write_out(), "table");
    assert!(globals.endpoints().is_empty());
}

#[test]
fn variables_stand_in_for_flags() {
    let variables = [
        ("ETCDCTL_ENDPOINTS", "a:1"),
        ("ETCDCTL_COMMAND_TIMEOUT", "300ms"),
        ("ETCDCTL_HEX", "true"),
        ("ETCDCTL_WRITE_OUT", ""),
        ("OTHER", "x"),
    ];
    let globals = globals(&["get", "k"], &variables).unwrap();
    assert_eq!(globals.endpoints(), ["a:1"]);
    assert_eq!(globals.config(None).request_timeout, Duration::from_millis(300));
    assert!(globals.hex());
    assert_eq!(globals.write_out(), "simple");
    assert_eq!(
        globals.shown(),
        ["ETCDCTL_COMMAND_TIMEOUT=300ms", "ETCDCTL_ENDPOINTS=a:1", "ETCDCTL_HEX=true"]
    );
}

#[test]
fn a_flag_and_its_variable_conflict() {
    for value in ["a:1", ""] {
        let failure = globals(&["--endpoints=a:1", "get", "k"], &[("ETCDCTL_ENDPOINTS", value)]);
        let text = "conflicting environment variable ETCDCTL_ENDPOINTS is shadowed by corresponding \
                    command-line flag (either unset environment variable or disable flag)";
        assert_eq!(failure.unwrap_err(), Failure::new(ERROR, text));
    }
}

#[test]
fn a_variable_that_makes_no_sense_is_an_error() {
    let failure = globals(&["get", "k"], &[("ETCDCTL_DIAL_TIMEOUT", "abc")]).unwrap_err();
    let text = r#"invalid value "abc" for ETCDCTL_DIAL_TIMEOUT: time: invalid duration "abc""#;
    assert_eq!(failure, Failure::new(ERROR, text));
}

#[test]
fn what_is_not_supported_is_refused_by_name_unless_it_changes_nothing() {
    let harmless = [
        "--cert=",
        "--insecure-transport",
        "--insecure-transport=true",
        "--insecure-skip-tls-verify=false",
        "--insecure-discovery=1",
        "--discovery-srv=",
    ];
    for flag in harmless {
        assert!(globals(&["get", "k", flag], &[]).is_ok(), "{flag}");
    }
    for (flag, name) in [
        ("--cert=x", "cert"),
        ("--key=x", "key"),
        ("--cacert=x", "cacert"),
        ("--insecure-transport=false", "insecure-transport"),
        ("--insecure-skip-tls-verify", "insecure-skip-tls-verify"),
        ("--insecure-discovery=false", "insecure-discovery"),
        ("-dexample.org", "discovery-srv"),
        ("--discovery-srv-name=x", "discovery-srv-name"),
    ] {
        let expected = Failure::new(BAD_ARGUMENTS, format!("--{name} is not supported yet"));
        assert_eq!(globals(&["get", "k", flag], &[]).unwrap_err(), expected, "{flag}");
    }
}

#[test]
fn users() {
    let user = |arguments: &[&str]| {
        let globals = globals(&[&["get", "k"], arguments].concat(), &[]).unwrap();
        globals.user().map(|(user, password)| (user.to_string(), password.map(str::to_string)))
    };
    let ada = |password: Option<&str>| Some(("ada".to_string(), password.map(str::to_string)));
    assert_eq!(user(&["--user=ada:a:b"]), ada(Some("a:b")));
    assert_eq!(user(&["--user=ada", "--password=x"]), ada(Some("x")));
    assert_eq!(user(&["--user=ada"]), ada(None));
    assert_eq!(user(&["--password=x"]), None);
    let all = globals(&["get", "k", "--user=ada:secret", "--password=x"], &[]).unwrap();
    assert!(all.shown().is_empty(), "no secrets are shown");
}

#[test]
fn the_flags_are_sorted_by_name() {
    assert!(GLOBAL_FLAGS.is_sorted_by_key(|(name, _, _)| *name));
}
