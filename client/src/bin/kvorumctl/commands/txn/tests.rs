use std::cell::RefCell;

use kvorum_client::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_client::api::etcdserverpb::request_op::Request;
use kvorum_client::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::{compare, read};
use crate::failure::{BAD_ARGUMENTS, Failure, INVALID_INPUT};

fn txn(input: &str) -> Result<TxnRequest, Failure> {
    read(&mut input.as_bytes(), |_| {})
}

fn comparison(
    target: CompareTarget,
    result: CompareResult,
    union: TargetUnion,
) -> Result<Compare, String> {
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: "k".into(),
        target_union: Some(union),
        ..Default::default()
    })
}

#[test]
fn three_groups() {
    let input =
        "val(\"k\") = \"v\"\n\nput k \"a b\" --prev-kv\n  get k --prefix\n\ndel k\n\nignored";
    let operation = |request| RequestOp { request: Some(request) };
    let expected = TxnRequest {
        compare: vec![
            comparison(CompareTarget::Value, CompareResult::Equal, TargetUnion::Value("v".into()))
                .unwrap(),
        ],
        success: vec![
            operation(Request::RequestPut(PutRequest {
                key: "k".into(),
                value: "a b".into(),
                prev_kv: true,
                ..Default::default()
            })),
            operation(Request::RequestRange(RangeRequest {
                key: "k".into(),
                range_end: "l".into(),
                ..Default::default()
            })),
        ],
        failure: vec![operation(Request::RequestDeleteRange(DeleteRangeRequest {
            key: "k".into(),
            ..Default::default()
        }))],
    };
    assert_eq!(txn(input), Ok(expected));
    assert_eq!(txn("\n\n\n"), Ok(TxnRequest::default()));
}

#[test]
fn prompts_come_before_the_groups() {
    let prompts = RefCell::new(Vec::new());
    read(&mut &b"\n\n\n"[..], |text| prompts.borrow_mut().push(text.to_string())).unwrap();
    let expected =
        ["compares:", "success requests (get, put, del):", "failure requests (get, put, del):"];
    assert_eq!(*prompts.borrow(), expected);
}

#[test]
fn input_must_not_end_early() {
    for input in ["", "\n\n", "\n\nget k", "\n\nget k\n", "\n\n\r"] {
        assert_eq!(txn(input), Err(Failure::new(INVALID_INPUT, "EOF")), "{input:?}");
    }
}

#[test]
fn comparisons() {
    let cases = [
        (
            r#"ver("k") = "1""#,
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(1),
        ),
        (
            r#"create("k") != "-1""#,
            CompareTarget::Create,
            CompareResult::NotEqual,
            TargetUnion::CreateRevision(-1),
        ),
        (
            r#"m("k") > "7""#,
            CompareTarget::Mod,
            CompareResult::Greater,
            TargetUnion::ModRevision(7),
        ),
        (
            r#"value("k")  <   "a\n" more"#,
            CompareTarget::Value,
            CompareResult::Less,
            TargetUnion::Value("a\n".into()),
        ),
        (
            "val(`k`) = `a\\n`",
            CompareTarget::Value,
            CompareResult::Equal,
            TargetUnion::Value("a\\n".into()),
        ),
        (
            r#"lease("k") = "255""#,
            CompareTarget::Lease,
            CompareResult::Equal,
            TargetUnion::Lease(255),
        ),
    ];
    for (line, target, result, union) in cases {
        assert_eq!(compare::parse(line.as_bytes()), comparison(target, result, union), "{line}");
    }
}

#[test]
fn comparisons_that_make_no_sense() {
    let malformed = |line: &str, got: &str| format!("malformed comparison: {line}; got {got}");
    let cases = [
        ("val", "malformed comparison: val".to_string()),
        (
            r#"foo("k") = "v""#,
            r#"malformed comparison: foo("k") = "v" (unknown target foo)"#.to_string(),
        ),
        (r#"val(k) = "v""#, malformed(r#"val(k) = "v""#, r#"val("")  """#)),
        (r#"val("k" = "v""#, malformed(r#"val("k" = "v""#, r#"val("k")  """#)),
        (r#"val("k")="v""#, malformed(r#"val("k")="v""#, r#"val("k")  """#)),
        (r#"val("k") = v"#, malformed(r#"val("k") = v"#, r#"val("k") = """#)),
        (
            r#"val("k") == "v""#,
            r#"malformed comparison: val("k") == "v" (unknown operator ==)"#.to_string(),
        ),
        (r#"ver("k") = "x""#, r#"invalid txn compare request: ver("k") = "x""#.to_string()),
        (r#"lease("k") = "x""#, r#"invalid txn compare request: lease("k") = "x""#.to_string()),
    ];
    for (line, expected) in cases {
        assert_eq!(compare::parse(line.as_bytes()), Err(expected.clone()), "{line}");
        assert_eq!(txn(&format!("{line}\n\n\n\n")), Err(Failure::new(INVALID_INPUT, expected)));
    }
}

#[test]
fn operations_that_make_no_sense() {
    let cases = [
        ("foo a", "invalid txn request: foo a"),
        ("put", "invalid txn compare request: put"),
        ("put --bogus c", "invalid txn request: put --bogus c"),
        ("put k \"\\q\"", "invalid syntax"),
    ];
    for (line, text) in cases {
        let expected = Failure::new(INVALID_INPUT, text);
        assert_eq!(txn(&format!("\n{line}\n\n\n")), Err(expected), "{line}");
    }
    let text = "put command needs 1 argument and input from stdin or 2 arguments";
    assert_eq!(txn("\nput a\n\n\n"), Err(Failure::new(BAD_ARGUMENTS, text)));
}
