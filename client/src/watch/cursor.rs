//! Where one watch is in history.

use kvorum_proto::api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::api::mvccpb::Event;

use super::queue::{UpdateKind, WatchUpdate};

/// The place of a watch in history, and what to ask a server for to go on from there.
///
/// Invariants:
/// - every event before `next` that the watch wants has been taken, and none from `next` on;
/// - `next` never goes back;
/// - the events of `parts` are ordered and none is before `next`;
/// - as long as `awaits_state`, `next` is what the request says and `parts` is empty.
#[derive(Debug)]
pub(super) struct Cursor {
    request: WatchCreateRequest,
    /// The first revision that is still wanted. 0 means "what comes after now", until a server has said what now is.
    next: i64,
    /// The beginning of a response of which more is to come.
    parts: Vec<Event>,
    /// The state was asked for and has not been taken whole: the watch can only begin anew.
    awaits_state: bool,
}

/// What came of a response.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// Nothing for the reader yet.
    Nothing,
    /// The cursor has moved past this.
    Update(WatchUpdate),
    /// The server sent an event that cannot follow what it was asked for and what it has sent.
    Disorder {
        /// The least revision that could have come.
        expected: i64,
        /// The one that did.
        received: i64,
    },
}

impl Cursor {
    pub(super) fn new(request: WatchCreateRequest) -> Cursor {
        let (next, awaits_state) = (request.start_revision, request.with_state);
        Cursor { request, next, parts: Vec::new(), awaits_state }
    }

    /// What asks a server for everything from here on.
    pub(super) fn request(&self) -> WatchCreateRequest {
        WatchCreateRequest {
            start_revision: self.next,
            with_state: self.awaits_state,
            ..self.request.clone()
        }
    }

    /// The server serves the watch, and was at `revision` when it began to.
    pub(super) fn created(&mut self, revision: i64) {
        if self.next == 0 && !self.awaits_state {
            self.next = revision.saturating_add(1);
        }
    }

    /// The server serves it no more: half a response is worth nothing now, all of it will come again.
    pub(super) fn lost(&mut self) {
        self.parts = Vec::new();
    }

    /// Takes a response that is neither `created` nor `canceled`.
    pub(super) fn take(&mut self, response: WatchResponse) -> Taken {
        let header = response.header.unwrap_or_default();
        if self.awaits_state {
            return self.take_state(response);
        }
        if response.events.is_empty() && self.parts.is_empty() && !response.fragment {
            return self.take_progress(WatchUpdate::bare(header, UpdateKind::Changes));
        }
        let mut expected = self.parts.last().map_or(self.next, revision_of);
        for event in &response.events {
            let received = revision_of(event);
            if received < expected {
                return Taken::Disorder { expected, received };
            }
            expected = received;
        }
        self.parts.extend(response.events);
        if response.fragment {
            return Taken::Nothing;
        }
        let events = std::mem::take(&mut self.parts);
        self.next = self.next.max(expected.saturating_add(1));
        Taken::Update(WatchUpdate { header, events, kind: UpdateKind::Changes })
    }

    fn take_state(&mut self, response: WatchResponse) -> Taken {
        let header = response.header.unwrap_or_default();
        let kind = match (response.state_complete, response.events.is_empty()) {
            (true, _) => UpdateKind::StateComplete,
            (false, true) => return Taken::Nothing,
            (false, false) => UpdateKind::State,
        };
        if response.state_complete {
            self.awaits_state = false;
            self.next = header.revision.saturating_add(1);
        }
        Taken::Update(WatchUpdate { header, events: response.events, kind })
    }

    fn take_progress(&mut self, update: WatchUpdate) -> Taken {
        let after = update.header.revision.saturating_add(1);
        // Of a watch that begins in the future, or has been ahead of this member, it says nothing new.
        if after < self.next {
            return Taken::Nothing;
        }
        self.next = after;
        Taken::Update(update)
    }

    /// Whether everything up to `revision` can have been delivered: whether the reader may be told so when the server says
    /// it of the whole stream.
    pub(super) fn may_have_reached(&self, revision: i64) -> bool {
        !self.awaits_state && self.parts.is_empty() && self.next <= revision.saturating_add(1)
    }

    /// Whether the state was asked for and has not come whole.
    pub(super) fn awaits_state(&self) -> bool {
        self.awaits_state
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

#[cfg(test)]
mod tests {
    use kvorum_proto::api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
    use kvorum_proto::api::mvccpb::{Event, KeyValue};

    use super::{Cursor, Taken};

    fn cursor(start_revision: i64) -> Cursor {
        Cursor::new(WatchCreateRequest { start_revision, ..Default::default() })
    }

    fn response(at: i64, fragment: bool, revisions: &[i64]) -> WatchResponse {
        let event = |mod_revision: &i64| {
            let kv = KeyValue { mod_revision: *mod_revision, ..Default::default() };
            Event { kv: Some(kv), ..Default::default() }
        };
        WatchResponse {
            header: Some(ResponseHeader { revision: at, ..Default::default() }),
            fragment,
            events: revisions.iter().map(event).collect(),
            ..Default::default()
        }
    }

    fn event_count(taken: Taken) -> usize {
        match taken {
            Taken::Update(update) => update.events.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_goes_on_after_the_last_event_whatever_the_header_says() {
        let mut cursor = cursor(3);
        cursor.created(20);
        assert_eq!(cursor.request().start_revision, 3);
        assert_eq!(event_count(cursor.take(response(20, false, &[3, 3, 5]))), 3);
        assert_eq!(cursor.request().start_revision, 6);
    }

    #[test]
    fn now_is_the_revision_of_the_first_created() {
        let mut cursor = cursor(0);
        assert_eq!(cursor.request().start_revision, 0);
        cursor.created(7);
        assert_eq!(cursor.request().start_revision, 8);
        cursor.created(9);
        assert_eq!(cursor.request().start_revision, 8);
    }

    #[test]
    fn it_goes_on_after_progress_but_never_back() {
        let mut cursor = cursor(0);
        cursor.created(7);
        assert_eq!(event_count(cursor.take(response(7, false, &[]))), 0);
        assert_eq!(event_count(cursor.take(response(12, false, &[]))), 0);
        assert_eq!(cursor.request().start_revision, 13);
        assert_eq!(cursor.take(response(11, false, &[])), Taken::Nothing);
        assert_eq!(cursor.request().start_revision, 13);
    }

    #[test]
    fn fragments_are_one_update_or_none() {
        let mut cursor = cursor(2);
        assert_eq!(cursor.take(response(9, true, &[2, 3])), Taken::Nothing);
        assert!(!cursor.may_have_reached(9));
        cursor.lost();
        assert_eq!(cursor.request().start_revision, 2);
        assert_eq!(cursor.take(response(9, true, &[2, 3])), Taken::Nothing);
        assert_eq!(cursor.take(response(9, true, &[3])), Taken::Nothing);
        assert_eq!(event_count(cursor.take(response(9, false, &[3, 4]))), 5);
        assert_eq!(cursor.request().start_revision, 5);
    }

    #[test]
    fn a_state_is_asked_for_until_it_is_whole() {
        let mut cursor = Cursor::new(WatchCreateRequest { with_state: true, ..Default::default() });
        cursor.created(20);
        assert_eq!(event_count(cursor.take(response(20, false, &[9, 3]))), 2);
        cursor.lost();
        assert!(cursor.request().with_state && cursor.request().start_revision == 0);
        assert!(!cursor.may_have_reached(30));
        cursor.created(22);
        assert_eq!(event_count(cursor.take(response(22, false, &[9, 22, 3]))), 3);
        let mark = WatchResponse { state_complete: true, ..response(22, false, &[]) };
        assert_eq!(event_count(cursor.take(mark)), 0);
        assert!(!cursor.request().with_state && cursor.request().start_revision == 23);
        assert_eq!(event_count(cursor.take(response(25, false, &[23]))), 1);
    }

    #[test]
    fn what_comes_too_early_or_twice_is_disorder() {
        let disorder = |expected, received| Taken::Disorder { expected, received };
        assert_eq!(cursor(5).take(response(9, false, &[4])), disorder(5, 4));
        assert_eq!(cursor(5).take(response(9, false, &[7, 6])), disorder(7, 6));
        let mut cursor = cursor(5);
        assert_eq!(event_count(cursor.take(response(9, false, &[5]))), 1);
        assert_eq!(cursor.take(response(9, false, &[5])), disorder(6, 5));
        assert_eq!(cursor.take(response(9, true, &[8])), Taken::Nothing);
        assert_eq!(cursor.take(response(9, false, &[7])), disorder(8, 7));
    }
}
