//! The comparisons of a transaction: lines such as `mod("fruit") > "7"`.

use kvorum_client::api::etcdserverpb::Compare;
use kvorum_client::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::go::number::{Base, parse_int};
use crate::go::quote::{quoted, read_quoted};

/// Reads one comparison.
pub fn parse(line: &[u8]) -> Result<Compare, String> {
    let shown = String::from_utf8_lossy(line);
    let open = line.iter().position(|byte| *byte == b'(');
    let Some(open) = open else { return Err(format!("malformed comparison: {shown}")) };
    let target = String::from_utf8_lossy(&line[..open]);
    let parts = Parts::read(&line[open + 1..]);
    let (Some(key), Some(sign), Some(value)) = (&parts.key, &parts.sign, &parts.value) else {
        return Err(format!("malformed comparison: {shown}; got {}", parts.shown(&target)));
    };
    let number = || {
        let text = String::from_utf8_lossy(value);
        parse_int(&text, Base::Decimal).map_err(|_| format!("invalid txn compare request: {shown}"))
    };
    let (target, union) = match target.as_ref() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.clone().into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number()?)),
        _ => return Err(format!("malformed comparison: {shown} (unknown target {target})")),
    };
    let result = match sign.as_slice() {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b">" => CompareResult::Greater,
        b"<" => CompareResult::Less,
        _ => {
            let sign = String::from_utf8_lossy(sign);
            return Err(format!("malformed comparison: {shown} (unknown operator {sign})"));
        }
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.clone().into(),
        range_end: Default::default(),
        target_union: Some(union),
    })
}

/// What comes after the target, as far as it can be read.
#[derive(Default)]
struct Parts {
    key: Option<Vec<u8>>,
    sign: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

impl Parts {
    /// Reads `"key") sign "value"`. What follows the value is not looked at.
    fn read(text: &[u8]) -> Parts {
        let mut parts = Parts::default();
        let Ok((key, rest)) = read_quoted(text.trim_ascii_start()) else { return parts };
        parts.key = Some(key);
        let Some(rest) = rest.strip_prefix(b")").and_then(after_space) else { return parts };
        let sign_len = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (sign, rest) = rest.split_at(sign_len);
        if sign.is_empty() {
            return parts;
        }
        parts.sign = Some(sign.to_vec());
        parts.value =
            after_space(rest).and_then(|rest| read_quoted(rest).ok()).map(|(value, _)| value);
        parts
    }

    fn shown(&self, target: &str) -> String {
        let text = |part: &Option<Vec<u8>>| part.clone().unwrap_or_default();
        let (key, value) = (quoted(&text(&self.key)), quoted(&text(&self.value)));
        format!("{target}({key}) {} {value}", String::from_utf8_lossy(&text(&self.sign)))
    }
}

/// What follows at least one space.
fn after_space(text: &[u8]) -> Option<&[u8]> {
    let rest = text.trim_ascii_start();
    (rest.len() < text.len()).then_some(rest)
}
