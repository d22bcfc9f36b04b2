//! What can be asked for.

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::WatchCreateRequest;
use kvorum_proto::api::etcdserverpb::watch_create_request::FilterType;

use super::queue::QUEUE_BYTES_MAX;
use crate::range::{EVERY_KEY_AFTER, prefix_end};

/// How to watch; without any of it one key, from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    extent: Extent,
    start_revision: i64,
    prev_kv: bool,
    progress_notify: bool,
    fragment: bool,
    without_puts: bool,
    without_deletes: bool,
    with_state: bool,
    pub(super) queue_bytes_max: usize,
}

/// Which keys, seen from the key that is given with it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    Key,
    Prefix,
    FromKey,
    Until(Bytes),
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions::new()
    }
}

impl WatchOptions {
    /// One key, from now on.
    pub fn new() -> WatchOptions {
        WatchOptions {
            extent: Extent::Key,
            start_revision: 0,
            prev_kv: false,
            progress_notify: false,
            fragment: false,
            without_puts: false,
            without_deletes: false,
            with_state: false,
            queue_bytes_max: QUEUE_BYTES_MAX,
        }
    }

    /// Every key that begins with the key.
    pub fn prefix(self) -> WatchOptions {
        WatchOptions { extent: Extent::Prefix, ..self }
    }

    /// The key and every key after it.
    pub fn from_key(self) -> WatchOptions {
        WatchOptions { extent: Extent::FromKey, ..self }
    }

    /// The keys from the key up to this one, which is not among them.
    pub fn until(self, range_end: impl Into<Bytes>) -> WatchOptions {
        WatchOptions { extent: Extent::Until(range_end.into()), ..self }
    }

    /// Begins with this revision, which may be past or future; 0 for what comes after now.
    pub fn start_revision(self, start_revision: i64) -> WatchOptions {
        WatchOptions { start_revision, ..self }
    }

    /// Tells with each event what the key was before, unless that has been compacted.
    pub fn prev_kv(self) -> WatchOptions {
        WatchOptions { prev_kv: true, ..self }
    }

    /// Lets the server send an update without events now and then while nothing happens.
    pub fn progress_notify(self) -> WatchOptions {
        WatchOptions { progress_notify: true, ..self }
    }

    /// Lets the server split large responses, for the sake of what is between it and the client. The updates are the same:
    /// they are put together again.
    pub fn fragment(self) -> WatchOptions {
        WatchOptions { fragment: true, ..self }
    }

    /// Leaves puts out.
    pub fn without_puts(self) -> WatchOptions {
        WatchOptions { without_puts: true, ..self }
    }

    /// Leaves deletes out.
    pub fn without_deletes(self) -> WatchOptions {
        WatchOptions { without_deletes: true, ..self }
    }

    /// Begins with the keys as they are: see [`UpdateKind`](super::UpdateKind). Only kvorum's servers can do that; with others
    /// the watch ends with an error that says so, as soon as that is noticed. It goes with no start revision.
    ///
    /// The state itself may wait to be read beyond [`WatchOptions::queue_bytes`]: as the answer to a range, it is as large as
    /// it is.
    pub fn with_state(self) -> WatchOptions {
        WatchOptions { with_state: true, ..self }
    }

    /// How many bytes of updates may wait to be read (4 MiB). One update may be larger.
    pub fn queue_bytes(self, queue_bytes_max: usize) -> WatchOptions {
        WatchOptions { queue_bytes_max, ..self }
    }

    /// The request for a watch of `key`.
    pub(super) fn request(&self, key: Bytes) -> WatchCreateRequest {
        // No key can be empty, so every key begins with the least one there can be.
        let first = |key: &Bytes| {
            if key.is_empty() { Bytes::from_static(b"\0") } else { key.clone() }
        };
        let (key, range_end) = match &self.extent {
            Extent::Key => (key, Bytes::new()),
            Extent::Until(range_end) => (key, range_end.clone()),
            Extent::Prefix => (first(&key), prefix_end(&key)),
            Extent::FromKey => (first(&key), Bytes::from_static(EVERY_KEY_AFTER)),
        };
        let filters = [
            self.without_puts.then_some(FilterType::Noput),
            self.without_deletes.then_some(FilterType::Nodelete),
        ];
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.start_revision,
            progress_notify: self.progress_notify,
            filters: filters.into_iter().flatten().map(i32::from).collect(),
            prev_kv: self.prev_kv,
            watch_id: 0,
            fragment: self.fragment,
            with_state: self.with_state,
        }
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::api::etcdserverpb::WatchCreateRequest;

    use super::WatchOptions;

    fn range(key: &'static str, options: &WatchOptions) -> (Vec<u8>, Vec<u8>) {
        let request = options.request(key.into());
        (request.key.to_vec(), request.range_end.to_vec())
    }

    #[test]
    fn ranges() {
        let new = WatchOptions::new;
        assert_eq!(range("a", &new()), (b"a".to_vec(), b"".to_vec()));
        assert_eq!(range("a", &new().prefix()), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(range("", &new().prefix()), (b"\0".to_vec(), b"\0".to_vec()));
        assert_eq!(range("a", &new().from_key()), (b"a".to_vec(), b"\0".to_vec()));
        assert_eq!(range("", &new().from_key()), (b"\0".to_vec(), b"\0".to_vec()));
        assert_eq!(range("a", &new().until("c")), (b"a".to_vec(), b"c".to_vec()));
    }

    #[test]
    fn everything_else_is_in_the_request() {
        let options = WatchOptions::default()
            .start_revision(7)
            .prev_kv()
            .progress_notify()
            .fragment()
            .without_puts()
            .without_deletes()
            .with_state();
        let expected = WatchCreateRequest {
            key: "k".into(),
            start_revision: 7,
            progress_notify: true,
            filters: vec![0, 1],
            prev_kv: true,
            fragment: true,
            with_state: true,
            ..Default::default()
        };
        assert_eq!(options.request("k".into()), expected);
        assert_eq!(WatchOptions::new().without_deletes().request("k".into()).filters, [1]);
    }
}
