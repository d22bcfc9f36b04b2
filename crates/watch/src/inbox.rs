//! What one stream's client has asked and was not answered.

use std::collections::{BTreeSet, VecDeque};

use crate::request::Request;

/// Requests in the order in which they came.
///
/// - `bytes` is the sum of the requests' weights.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    requests: VecDeque<Request>,
    bytes: usize,
    /// A cancel has come, and nobody has looked whether it need not wait.
    has_new_cancel: bool,
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxLimits {
    pub count: usize,
    pub bytes: usize,
}

impl InboxLimits {
    fn doubled(self) -> InboxLimits {
        InboxLimits { count: self.count.saturating_mul(2), bytes: self.bytes.saturating_mul(2) }
    }
}

impl Inbox {
    /// Adds a request, unless twice as much waits already as may.
    pub fn push(&mut self, request: Request, limits: InboxLimits) -> Result<(), Overfull> {
        if self.is_full(limits.doubled()) {
            return Err(Overfull);
        }
        self.bytes += request.weight();
        self.has_new_cancel |= matches!(request, Request::Cancel(_));
        self.requests.push_back(request);
        Ok(())
    }

    /// Whether as much waits as may.
    pub fn is_full(&self, limits: InboxLimits) -> bool {
        self.requests.len() >= limits.count || self.bytes >= limits.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Takes the first requests.
    pub fn take(&mut self, count_max: usize) -> Vec<Request> {
        let count = self.requests.len().min(count_max);
        let taken: Vec<Request> = self.requests.drain(..count).collect();
        self.bytes -= taken.iter().map(Request::weight).sum::<usize>();
        if self.requests.is_empty() {
            self.clear();
        }
        taken
    }

    /// Takes cancels that need not wait for what was asked before them: of a watcher that is there, unless one of its name
    /// is still to be created. So a cancel frees memory also while there is no room for the answers to other requests.
    pub fn take_cancels(
        &mut self,
        count_max: usize,
        is_there: impl Fn(i64) -> bool,
    ) -> (Vec<i64>, bool) {
        if !self.has_new_cancel {
            return (Vec::new(), false);
        }
        let (mut taken, mut has_more) = (Vec::new(), false);
        let (mut named, mut is_behind_create) = (BTreeSet::new(), false);
        self.requests.retain(|request| match request {
            Request::Create(create) => {
                is_behind_create = true;
                // 0 names nobody: the hub will choose a name that is free.
                if create.watch_id != 0 {
                    named.insert(create.watch_id);
                }
                true
            }
            // Without a create before it, one that names nobody has nothing to wait for either.
            Request::Cancel(id) if !named.contains(id) && (is_there(*id) || !is_behind_create) => {
                has_more |= taken.len() == count_max;
                if has_more {
                    return true;
                }
                taken.push(*id);
                false
            }
            _ => true,
        });
        self.bytes -= taken.len() * Request::Cancel(0).weight();
        self.has_new_cancel = has_more;
        (taken, has_more)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Inbox::default();
    }
}

/// The client has gone on although there was no room.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Overfull;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Create;

    const AMPLE: InboxLimits = InboxLimits { count: 100, bytes: 100_000 };

    fn create(watch_id: i64, key_bytes: usize) -> Request {
        let key = vec![b'k'; key_bytes].into();
        Request::Create(Box::new(Create { watch_id, key, ..Create::default() }))
    }

    #[test]
    fn it_is_full_by_count_or_by_bytes_and_overfull_at_twice_that() {
        for (limits, key_bytes) in
            [(InboxLimits { count: 4, ..AMPLE }, 1), (InboxLimits { bytes: 4000, ..AMPLE }, 1000)]
        {
            let mut inbox = Inbox::default();
            while !inbox.is_full(limits) {
                inbox.push(create(0, key_bytes), limits).unwrap();
            }
            assert_eq!(inbox.requests.len(), 4);
            while inbox.push(create(0, key_bytes), limits).is_ok() {}
            assert!((7..=8).contains(&inbox.requests.len()));
            inbox.take(usize::MAX);
            assert_eq!(inbox.bytes, 0);
        }
    }

    #[test]
    fn cancels_overtake_only_what_they_do_not_depend_on() {
        let fill = |requests: Vec<Request>| {
            let mut inbox = Inbox::default();
            for request in requests {
                inbox.push(request, AMPLE).unwrap();
            }
            inbox
        };
        let cancel = Request::Cancel;
        let mut inbox =
            fill(vec![cancel(9), create(5, 1), create(0, 1), cancel(5), cancel(0), cancel(9)]);
        // 5 is about to be created anew, and what the create makes of 9 is not known.
        assert_eq!(inbox.take_cancels(100, |id| [0, 5].contains(&id)), (vec![9, 0], false));
        assert_eq!(inbox.take_cancels(100, |_| true), (vec![], false), "it has been looked at");
        assert_eq!(inbox.requests.len(), 4);
        inbox.push(cancel(9), AMPLE).unwrap();
        assert_eq!(inbox.take_cancels(1, |_| true), (vec![9], true));
        assert_eq!(inbox.take_cancels(1, |_| true), (vec![9], false));
        inbox.take(3);
        assert_eq!(inbox.bytes, 0);
    }
}
