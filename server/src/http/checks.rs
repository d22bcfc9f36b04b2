//! `/livez` and `/readyz`: named checks, run one after the other.
//!
//! A member that is not live should be restarted; one that is not ready should get no clients for now. So being live
//! depends on this member alone, being ready on the cluster too.

use std::fmt::Write;

use http::{Response, StatusCode};
use kvorum_mvcc::{RangeOptions, Read};
use kvorum_types::KeyRange;
use tracing::warn;

use super::query::Query;
use super::respond;
use crate::errors::CallError;
use crate::grpc::{Context, ReplyBody};

/// What is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Check {
    /// No member has found its data to differ from the others'. Nothing can report that yet, so it holds.
    DataCorruption,
    /// This member's own state can be read.
    SerializableRead,
    /// A majority confirms a read.
    LinearizableRead,
    /// This member has a vote.
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, context: &Context) -> Result<(), String> {
        let shown = |error: CallError| error.to_string();
        match self {
            Check::DataCorruption => Ok(()),
            Check::SerializableRead => read_check(context, true).await.map_err(shown),
            Check::LinearizableRead => read_check(context, false).await.map_err(shown),
            Check::NonLearner if context.is_learner() => {
                Err("not supported for learner".to_owned())
            }
            Check::NonLearner => Ok(()),
        }
    }
}

const LIVE: &[Check] = &[Check::SerializableRead];
const READY: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// The checks that a path asks for: a whole list, or one of it.
pub(super) fn find(path: &str) -> Option<&'static [Check]> {
    let (list, one) = match path.strip_prefix('/')?.split_once('/') {
        Some((list, one)) => (list, Some(one)),
        None => (path.strip_prefix('/')?, None),
    };
    let checks = match list {
        "livez" => LIVE,
        "readyz" => READY,
        _ => return None,
    };
    match one {
        None => Some(checks),
        Some(one) => checks.chunks(1).find(|chunk| chunk.iter().any(|check| check.name() == one)),
    }
}

/// Runs the checks of a path that [`find`] knows.
pub(super) async fn answer(
    context: &Context,
    path: &str,
    checks: &[Check],
    query: &Query<'_>,
) -> Response<ReplyBody> {
    // One that is asked for by its own path is run whatever else is said.
    let is_list = checks.len() > 1 || path == "/livez";
    let mut report = String::new();
    let mut has_failed = false;
    for check in checks {
        let name = check.name();
        if is_list && query.all("exclude").any(|excluded| excluded == name) {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = match check.run(context).await {
            Ok(()) => writeln!(report, "[+]{name} ok"),
            Err(reason) => {
                has_failed = true;
                writeln!(report, "[-]{name} failed: {reason}")
            }
        };
    }
    if has_failed {
        warn!(path, report, "a health check failed");
        return respond::error(StatusCode::SERVICE_UNAVAILABLE, report);
    }
    let mut body = if query.has("verbose") { report } else { String::new() };
    body.push_str("ok\n");
    respond::text(body)
}

/// Reads one key of the state, behind a barrier unless it `is_serializable`.
pub(super) async fn read_check(context: &Context, is_serializable: bool) -> Result<(), CallError> {
    if !is_serializable {
        context.read_barrier().await?;
    }
    let options = RangeOptions { limit: 1, keys_only: true, count: false };
    let read = context.reader().store().view().range(&KeyRange::all(), 0, &options);
    read.map(drop).map_err(|error| context.read_error(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_list_or_one_of_it() {
        let names = |path: &str| {
            let checks = find(path)?;
            Some(checks.iter().map(|check| check.name()).collect::<Vec<_>>())
        };
        assert_eq!(names("/livez"), Some(vec!["serializable_read"]));
        assert_eq!(names("/livez/serializable_read"), Some(vec!["serializable_read"]));
        let all = ["data_corruption", "serializable_read", "linearizable_read", "non_learner"];
        assert_eq!(names("/readyz"), Some(all.to_vec()));
        for name in all {
            assert_eq!(names(&format!("/readyz/{name}")), Some(vec![name]));
        }
        for path in ["/livez/linearizable_read", "/livez/", "/readyz/x", "/", "", "/metrics"] {
            assert_eq!(names(path), None, "{path}");
        }
    }
}
