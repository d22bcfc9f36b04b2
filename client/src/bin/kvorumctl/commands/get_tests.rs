use kvorum_client::api::etcdserverpb::RangeRequest;
use kvorum_client::api::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::{command, request};
use crate::failure::{BAD_ARGUMENTS, BAD_FEATURE, Failure};

fn get(arguments: &[&str]) -> Result<RangeRequest, Failure> {
    request(&command().try_get_matches_from([&["get"], arguments].concat()).unwrap())
}

fn key_range(arguments: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let request = get(arguments).unwrap();
    (request.key.to_vec(), request.range_end.to_vec())
}

#[test]
fn ranges() {
    let cases: [(&[&str], &str, &str); 9] = [
        (&["a"], "a", ""),
        (&["a", "c"], "a", "c"),
        (&["a", "c", "surplus"], "a", "c"),
        (&["a", "--prefix"], "a", "b"),
        (&["a", "--prefix=false"], "a", ""),
        (&["", "--prefix"], "\0", "\0"),
        (&["a", "--from-key"], "a", "\0"),
        (&["", "--from-key"], "\0", "\0"),
        (&["--", "-a"], "-a", ""),
    ];
    for (arguments, key, range_end) in cases {
        assert_eq!(key_range(arguments), (key.into(), range_end.into()), "{arguments:?}");
    }
}

#[test]
fn flags_are_in_the_request() {
    let request = get(&[
        "a",
        "--limit=0x10",
        "--rev",
        "7",
        "--order=descend",
        "--sort-by",
        "modify",
        "--consistency=s",
        "--keys-only",
        "--min-mod-rev=1",
        "--max-mod-rev=2",
        "--min-create-rev=3",
        "--max-create-rev=4",
    ]);
    let expected = RangeRequest {
        key: "a".into(),
        limit: 16,
        revision: 7,
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Mod.into(),
        serializable: true,
        keys_only: true,
        min_mod_revision: 1,
        max_mod_revision: 2,
        min_create_revision: 3,
        max_create_revision: 4,
        ..Default::default()
    };
    assert_eq!(request, Ok(expected));
    assert!(get(&["a", "--count-only"]).unwrap().count_only);
    assert_eq!(get(&["a", "--rev=-5"]).unwrap().revision, 0);
    assert_eq!(get(&["a", "--limit", "-5"]).unwrap().limit, -5);
}

#[test]
fn key_order_is_left_to_the_server() {
    let sort = |arguments: &[&str]| {
        let request = get(&[&["a"], arguments].concat()).unwrap();
        (request.sort_order(), request.sort_target())
    };
    assert_eq!(sort(&[]), (SortOrder::None, SortTarget::Key));
    assert_eq!(sort(&["--order=ASCEND"]), (SortOrder::None, SortTarget::Key));
    assert_eq!(sort(&["--order=ASCEND", "--sort-by=KEY"]), (SortOrder::None, SortTarget::Key));
    assert_eq!(sort(&["--order=DESCEND"]), (SortOrder::Descend, SortTarget::Key));
    assert_eq!(
        sort(&["--order=ASCEND", "--sort-by=create"]),
        (SortOrder::Ascend, SortTarget::Create)
    );
    assert_eq!(sort(&["--sort-by=VERSION"]), (SortOrder::None, SortTarget::Version));
    assert_eq!(sort(&["--sort-by=VALUE"]), (SortOrder::None, SortTarget::Value));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let choose = |flags: &str| format!("{flags} cannot be set at the same time, choose one");
    let cases: [(&[&str], u8, String); 9] = [
        (
            &[],
            BAD_ARGUMENTS,
            "get command needs one argument as key and an optional argument as range_end".into(),
        ),
        (&["a", "--prefix", "--from-key"], BAD_ARGUMENTS, choose("`--prefix` and `--from-key`")),
        (
            &["a", "--keys-only", "--count-only"],
            BAD_ARGUMENTS,
            choose("`--keys-only` and `--count-only`"),
        ),
        (
            &["a", "b", "--prefix"],
            BAD_ARGUMENTS,
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"
                .into(),
        ),
        (&["a", "--consistency=x"], BAD_FEATURE, r#"unknown consistency flag "x""#.into()),
        (&["a", "--order=x"], BAD_FEATURE, "bad sort order x".into()),
        (&["a", "--sort-by=x"], BAD_FEATURE, "bad sort target x".into()),
        (
            &["a", "--min-mod-rev=5", "--max-mod-rev=4"],
            BAD_FEATURE,
            "--min-mod-rev=5 > --max-mod-rev=4".into(),
        ),
        (
            &["a", "--min-create-rev=5", "--max-create-rev=4"],
            BAD_FEATURE,
            "--min-create-rev=5 > --max-create-rev=4".into(),
        ),
    ];
    for (arguments, code, text) in cases {
        assert_eq!(get(arguments), Err(Failure::new(code, text)), "{arguments:?}");
    }
}
