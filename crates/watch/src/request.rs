//! What a client can ask of a stream.

use std::borrow::Cow;

use bytes::Bytes;

/// Asks for a watcher.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Create {
    /// The first key, or the only one. Empty means the smallest there can be, one zero byte.
    pub key: Bytes,
    /// Where the range ends, as in a range request: empty for one key, one zero byte for no end.
    pub range_end: Bytes,
    /// The first revision wanted; 0 for what comes after now.
    pub start_revision: i64,
    /// Send the revision now and then while nothing happens.
    pub progress_notify: bool,
    /// What is left out.
    pub filters: Filters,
    /// Tell what each key was before.
    pub prev_kv: bool,
    /// The watcher's name on its stream; 0 lets the hub choose.
    pub watch_id: i64,
    /// Responses may be split within a revision.
    pub fragment: bool,
    /// Begin with the keys of the range as they are, told as puts, then a mark, then what changes: beyond etcd. Needs a
    /// start revision of 0. Filters leave out changes, not state, and state comes without what was before.
    pub with_state: bool,
}

/// Which kinds of events are left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Filters {
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
}

/// A request on its way to a step.
#[derive(Debug)]
pub(crate) enum Request {
    Create(Box<Create>),
    Refuse(Cow<'static, str>),
    Cancel(i64),
    Progress,
}

impl Request {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        size_of::<Request>()
            + match self {
                Request::Create(create) => {
                    size_of::<Create>() + create.key.len() + create.range_end.len()
                }
                Request::Refuse(reason) => reason.len(),
                Request::Cancel(_) | Request::Progress => 0,
            }
    }
}
