//! The program itself: what can be seen of it without a server.

use std::process::{Command, Output};

use tokio::net::TcpSocket;

fn kvorumctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvorumctl"))
        .args(arguments)
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program can be run")
}

/// Exit code, standard output and standard error.
fn ends(arguments: &[&str]) -> (i32, String, String) {
    let output = kvorumctl(arguments);
    let text = |bytes| String::from_utf8(bytes).expect("it is UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

/// An endpoint nobody listens on, and nobody else can as long as the socket is kept.
fn closed_endpoint() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address.to_string())
}

#[test]
fn version_names_the_program_and_the_api() {
    let expected = format!("kvorumctl version: {}\nAPI version: 3.7\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(ends(&["version"]), (0, expected, String::new()));
}

#[test]
fn help_comes_without_a_command() {
    for arguments in
        [&[][..], &["--help"], &["endpoint"], &["member"], &["bench"], &["bench", "put", "-h"]]
    {
        let (code, out, err) = ends(arguments);
        assert!(
            code == 0 && out.contains("Usage:") && err.is_empty(),
            "{arguments:?}: {code} {err}"
        );
    }
}

#[test]
fn completion_scripts_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = ends(&["completion", shell]);
        assert!(code == 0 && out.contains("kvorumctl") && out.contains("compaction"), "{shell}");
    }
    assert_eq!(ends(&["completion", "nosuch"]).0, 1);
}

#[test]
fn exit_codes_are_those_of_etcdctl() {
    let cases: [(&[&str], i32, &str); 12] = [
        (&["--bogus"], 1, "unknown flag: --bogus"),
        (
            &["nosuch"],
            1,
            "unknown command \"nosuch\" for \"kvorumctl\"\nRun 'kvorumctl --help' for usage.",
        ),
        (
            &["get"],
            128,
            "get command needs one argument as key and an optional argument as range_end",
        ),
        (&["get", "a", "--order=x"], 4, "bad sort order x"),
        (&["get", "a", "-w", "xx"], 4, "unsupported output format"),
        (&["--endpoints=", "get", "a"], 2, "etcdclient: no available endpoints"),
        (&["compaction", "x"], 1, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (&["txn"], 3, "EOF"),
        (&["watch"], 128, "bad number of arguments"),
        (
            &["watch", "a", "--"],
            128,
            "bad number of arguments (found separator --, but no commands)",
        ),
        (
            &["watch", "a", "b", "--prefix"],
            128,
            "`range_end` and `--prefix` are mutually exclusive",
        ),
        (&["watch", "-i"], 3, "error reading watch request line: EOF"),
    ];
    for (arguments, code, text) in cases {
        let expected = (code, String::new(), format!("Error: {text}\n"));
        assert_eq!(ends(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn mistakes_about_leases_and_locks_are_those_of_etcdctl() {
    let cases: [(&[&str], i32, &str); 14] = [
        (&["lease", "grant"], 128, "lease grant command needs TTL argument"),
        (&["lease", "grant", "1", "2"], 128, "lease grant command needs TTL argument"),
        (
            &["lease", "grant", "x"],
            128,
            "bad TTL (strconv.ParseInt: parsing \"x\": invalid syntax)",
        ),
        (&["lease", "revoke"], 128, "lease revoke command needs 1 argument"),
        (
            &["lease", "revoke", "zz"],
            128,
            "bad lease ID arg (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex",
        ),
        (&["lease", "timetolive"], 128, "lease timetolive command needs lease ID as argument"),
        (&["lease", "keep-alive"], 128, "lease keep-alive command needs lease ID as argument"),
        (
            &["lease", "keep-alive", "--once"],
            128,
            "lease keep-alive command needs lease ID as argument",
        ),
        (&["lock"], 128, "lock takes a lock name argument and an optional command to execute"),
        (
            &["lock", "--ttl=x", "a"],
            1,
            "invalid argument \"x\" for \"--ttl\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            &["elect"],
            128,
            "elect takes one election name argument and an optional proposal argument",
        ),
        (
            &["elect", "a", "b", "c"],
            128,
            "elect takes one election name argument and an optional proposal argument",
        ),
        (&["elect", "a"], 128, "no proposal argument but -l not set"),
        (&["elect", "a", "b", "-l"], 128, "proposal given but -l is set"),
    ];
    for (arguments, code, text) in cases {
        let expected = (code, String::new(), format!("Error: {text}\n"));
        assert_eq!(ends(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn mistakes_about_members_and_upkeep_are_those_of_etcdctl() {
    let bad_id = "bad member ID arg (strconv.ParseUint: parsing \"zz\": invalid syntax), expecting ID in Hex";
    let cases: [(&[&str], i32, &str); 22] = [
        (&["member", "add"], 128, "member name not provided"),
        (&["member", "add", "a", "b"], 128, "too many arguments"),
        (
            &["member", "add", "a", "http://x:1"],
            128,
            "too many arguments, did you mean --peer-urls=http://x:1",
        ),
        (&["member", "add", "a"], 128, "member peer urls not provided"),
        (
            &["member", "add", "a", "--peer-urls=foo"],
            1,
            "URL scheme must be http, https, unix, or unixs: foo",
        ),
        (&["member", "remove"], 128, "member ID is not provided"),
        (&["member", "remove", "1", "2"], 128, "member ID is not provided"),
        (&["member", "remove", "zz"], 128, bad_id),
        (&["member", "update"], 128, "member ID is not provided"),
        (&["member", "update", "zz"], 128, bad_id),
        (&["member", "update", "1"], 128, "member peer urls not provided"),
        (
            &["member", "update", "1", "--peer-urls", "http://a:1/b"],
            1,
            "URL must not contain a path: http://a:1/b",
        ),
        (&["member", "promote"], 128, "member ID is not provided"),
        (&["member", "promote", "zz"], 128, bad_id),
        (&["move-leader"], 128, "move-leader command needs 1 argument"),
        (&["move-leader", "zz"], 128, "strconv.ParseUint: parsing \"zz\": invalid syntax"),
        (&["alarm", "list", "x"], 128, "alarm list command accepts no arguments"),
        (&["alarm", "disarm", "x"], 128, "alarm disarm command accepts no arguments"),
        (&["downgrade", "validate"], 128, "TARGET_VERSION not provided"),
        (&["downgrade", "enable", ""], 128, "target version not provided"),
        (&["downgrade", "enable", "3.6", "3.5"], 128, "too many arguments"),
        (&["compaction"], 128, "compaction command needs 1 argument"),
    ];
    for (arguments, code, text) in cases {
        let expected = (code, String::new(), format!("Error: {text}\n"));
        assert_eq!(ends(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_waited_for_until_the_timeout() {
    let (_closed, address) = closed_endpoint();
    let endpoint = format!("--endpoints={address}");
    let (code, out, err) = ends(&[&endpoint, "--command-timeout=50ms", "put", "a", "b"]);
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", "Error: context deadline exceeded\n"));
    let (code, out, err) = ends(&[&endpoint, "--command-timeout=50ms", "endpoint", "status"]);
    let expected =
        format!("Failed to get the status of endpoint {address} (context deadline exceeded)\n");
    assert_eq!((code, out, err), (1, String::new(), expected));
    let (code, _, err) = ends(&[&endpoint, "bench", "put"]);
    assert!(code == 2 && err.starts_with("Error: cannot connect to 127.0.0.1:"), "{code} {err}");
}

#[test]
fn a_flag_and_its_variable_conflict() {
    let output = Command::new(env!("CARGO_BIN_EXE_kvorumctl"))
        .args(["--endpoints=127.0.0.1:1", "get", "a"])
        .env("ETCDCTL_ENDPOINTS", "127.0.0.1:1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("conflicting environment variable ETCDCTL_ENDPOINTS"), "{text}");
}
