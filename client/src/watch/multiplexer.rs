//! The watches of one stream, as a machine without I/O.
//!
//! It is told what happens (a watch is added, its reader moved, a response came, the stream was lost) and says which
//! requests to send. It knows nothing of connections or time, so a test can lose the stream between any two messages.
//!
//! One watch on its way, as the server sees it:
//!
//! ```text
//!           create sent            created                cancel sent
//!  Wanted ---------------> Creating -------> Attached(id) ------------> Leaving(id)
//!    ^  ^                     |                   |                          | canceled
//!    |  +----- lost ----------+------- lost ------+                          v
//!    +------------------------------- room ------------------------------- Paused
//! ```
//!
//! One whose reader is gone, or has been told the end, is forgotten at once.
//!
//! A server answers creates in the order they were sent, each with one response that has `created` set; that is how an
//! answer is matched to its create, for a create that fails has no id. A watch that is not `Attached` receives nothing:
//! responses that are still on their way when it leaves are dropped, and asked for again if it comes back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use kvorum_proto::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::api::etcdserverpb::{
    WatchCancelRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use kvorum_proto::errors::EtcdError;
use tonic::{Code, Status};

use super::WatchNumber;
use super::cursor::{Cursor, Taken};
use super::queue::{Queue, UpdateKind, WatchUpdate};
use crate::error::Error;
use crate::retry::asks_for_new_token;

/// How often in a row a watch may be refused for its token while the client can get new ones.
const TOKENS_MAX: u32 = 3;
/// The id in responses that are about no watch.
const NO_WATCH: i64 = -1;

/// The watches of one stream and what the server knows of them.
///
/// Invariants:
/// - a watch is in `creating` if and only if it is `Creating`;
/// - `ids` names exactly the watches that are `Attached` or `Leaving`;
/// - between `lost` and `opened` every watch is `Wanted` or `Paused`.
pub(super) struct Multiplexer {
    watches: BTreeMap<WatchNumber, Entry>,
    ids: HashMap<i64, WatchNumber>,
    /// In the order their creates were sent.
    creating: VecDeque<WatchNumber>,
    /// Not sent yet.
    outgoing: VecDeque<Outgoing>,
    /// Someone waits for a progress response; it is asked for again on the next stream. Answers that nobody waits for are to
    /// requests of our own: they tell whether the server knows watches with state.
    progress_wanted: bool,
    is_open: bool,
}

struct Entry {
    cursor: Cursor,
    queue: Arc<Queue>,
    state: State,
    /// How often in a row it was refused for its token.
    tokens_refused: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Creating,
    Attached(i64),
    Leaving(i64),
    /// Its queue is too full to begin again.
    Paused,
}

/// A request that is built when its turn comes, from what is known then.
enum Outgoing {
    Create(WatchNumber),
    Cancel(i64),
    Progress,
}

/// What the stream must do after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Fine,
    /// Get a new token, which goes with a new stream.
    NewToken,
    /// This member does not serve now: try another.
    Lost,
}

impl Multiplexer {
    pub(super) fn new() -> Multiplexer {
        Multiplexer {
            watches: BTreeMap::new(),
            ids: HashMap::new(),
            creating: VecDeque::new(),
            outgoing: VecDeque::new(),
            progress_wanted: false,
            is_open: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Whether a create has been sent that is not answered.
    pub(super) fn awaits_answer(&self) -> bool {
        !self.creating.is_empty()
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// A new watch.
    pub(super) fn add(&mut self, number: WatchNumber, cursor: Cursor, queue: Arc<Queue>) {
        let entry = Entry { cursor, queue, state: State::Wanted, tokens_refused: 0 };
        self.watches.insert(number, entry);
        self.want(number);
    }

    /// The reader of a watch made room or is gone.
    pub(super) fn reader_moved(&mut self, number: WatchNumber) {
        let Some(entry) = self.watches.get_mut(&number) else { return };
        match entry.state {
            State::Attached(id) if entry.queue.is_over() => self.leave(number, id),
            State::Wanted | State::Paused if entry.queue.is_over() => self.remove(number),
            State::Paused => self.come_back(number),
            // The answer that is on its way will find the reader as it is then.
            State::Attached(_) | State::Wanted | State::Creating | State::Leaving(_) => {}
        }
    }

    /// Asks how far all watches of the stream have come.
    pub(super) fn request_progress(&mut self) {
        if !self.progress_wanted && self.is_open {
            self.outgoing.push_back(Outgoing::Progress);
        }
        self.progress_wanted = true;
    }

    /// A new stream: nothing has been sent on it.
    pub(super) fn opened(&mut self) {
        debug_assert!(!self.is_open, "the last stream was not lost");
        self.is_open = true;
        let wanted = self.watches.iter().filter(|(_, entry)| entry.state == State::Wanted);
        self.outgoing.extend(wanted.map(|(number, _)| Outgoing::Create(*number)));
        if self.progress_wanted {
            self.outgoing.push_back(Outgoing::Progress);
        }
    }

    /// The stream is gone, and all that was on its way in either direction.
    pub(super) fn lost(&mut self) {
        self.is_open = false;
        self.ids.clear();
        self.creating.clear();
        self.outgoing.clear();
        self.watches.retain(|_, entry| !entry.queue.is_over());
        for entry in self.watches.values_mut() {
            entry.cursor.lost();
            let paused = matches!(entry.state, State::Leaving(_) | State::Paused);
            let stays = paused && entry.queue.lacks_room();
            entry.state = if stays { State::Paused } else { State::Wanted };
        }
    }

    /// No server will serve these watches.
    pub(super) fn end_all(&mut self, error: &Error) {
        for entry in self.watches.values() {
            entry.queue.finish(error.clone(), entry.queue.header());
        }
        self.lost();
    }

    /// The next request to send.
    pub(super) fn next_request(&mut self) -> Option<WatchRequest> {
        while let Some(outgoing) = self.outgoing.pop_front() {
            let request = match outgoing {
                Outgoing::Progress => {
                    RequestUnion::ProgressRequest(WatchProgressRequest::default())
                }
                Outgoing::Cancel(watch_id) => {
                    RequestUnion::CancelRequest(WatchCancelRequest { watch_id })
                }
                Outgoing::Create(number) => {
                    // It may have been dropped since.
                    let Some(entry) = self.watches.get_mut(&number) else { continue };
                    entry.state = State::Creating;
                    self.creating.push_back(number);
                    RequestUnion::CreateRequest(entry.cursor.request())
                }
            };
            return Some(WatchRequest { request_union: Some(request) });
        }
        None
    }

    /// Takes a response.
    pub(super) fn received(&mut self, response: WatchResponse, can_sign_in: bool) -> Verdict {
        if response.created {
            return self.answered(response, can_sign_in);
        }
        if response.watch_id == NO_WATCH {
            self.progressed(response);
            return Verdict::Fine;
        }
        // A watch that has left, and whose last responses were on their way, has no id any more.
        let Some(number) = self.ids.get(&response.watch_id).copied() else { return Verdict::Fine };
        if response.canceled {
            return self.canceled(number, response, can_sign_in);
        }
        self.deliver(number, response);
        Verdict::Fine
    }

    /// The answer to the oldest create that has none.
    fn answered(&mut self, response: WatchResponse, can_sign_in: bool) -> Verdict {
        let Some(number) = self.creating.pop_front() else { return Verdict::Lost };
        if response.canceled || response.watch_id == NO_WATCH {
            return self.refused(number, response, can_sign_in);
        }
        let id = response.watch_id;
        let Some(entry) = self.watches.get_mut(&number) else { return Verdict::Lost };
        let header = response.header.unwrap_or_default();
        entry.state = State::Attached(id);
        entry.tokens_refused = 0;
        entry.cursor.created(header.revision);
        entry.queue.created(header);
        let is_over = entry.queue.is_over();
        self.ids.insert(id, number);
        let awaits_state = entry.cursor.awaits_state();
        if awaits_state && !is_over {
            entry.queue.push(WatchUpdate::bare(header, UpdateKind::StateBegins));
            self.outgoing.push_back(Outgoing::Progress);
        }
        if is_over {
            self.leave(number, id);
        } else if !response.events.is_empty() {
            self.deliver(number, response);
        }
        Verdict::Fine
    }

    /// The server serves the watch no more.
    fn canceled(
        &mut self,
        number: WatchNumber,
        response: WatchResponse,
        can_sign_in: bool,
    ) -> Verdict {
        self.ids.remove(&response.watch_id);
        let Some(entry) = self.watches.get_mut(&number) else { return Verdict::Fine };
        entry.cursor.lost();
        if !matches!(entry.state, State::Leaving(_)) {
            return self.refused(number, response, can_sign_in);
        }
        entry.state = State::Paused;
        if entry.queue.is_over() {
            self.remove(number);
        } else {
            self.come_back(number);
        }
        Verdict::Fine
    }

    /// Tells the reader why, unless it is worth another try.
    fn refused(
        &mut self,
        number: WatchNumber,
        response: WatchResponse,
        can_sign_in: bool,
    ) -> Verdict {
        let Some(entry) = self.watches.get_mut(&number) else { return Verdict::Fine };
        let error = reason(&response);
        entry.state = State::Wanted;
        if matches!(error, Error::Compacted { .. }) && entry.cursor.awaits_state() {
            // Compacted while it was being told: there is a newer state.
            self.want(number);
            return Verdict::Fine;
        }
        match error.etcd() {
            Some(name) if can_sign_in && asks_for_new_token(name) => {
                entry.tokens_refused += 1;
                if entry.tokens_refused <= TOKENS_MAX {
                    return Verdict::NewToken;
                }
            }
            Some(name) if name.code() == Code::Unavailable => return Verdict::Lost,
            _ => {}
        }
        entry.queue.finish(error, response.header.unwrap_or_default());
        self.remove(number);
        Verdict::Fine
    }

    /// The answer to a request for progress: it speaks of every watch that the server serves.
    fn progressed(&mut self, response: WatchResponse) {
        let header = response.header.unwrap_or_default();
        let wanted = std::mem::take(&mut self.progress_wanted);
        let mut ignored = Vec::new();
        for (number, entry) in &self.watches {
            let State::Attached(id) = entry.state else { continue };
            if entry.queue.is_over() {
                continue;
            }
            // A server that has still to send the state would not have answered.
            if entry.cursor.awaits_state() {
                let unknown = Status::unimplemented("the server knows no watches with state");
                entry.queue.finish(Error::Status(unknown), header);
                ignored.push((*number, id));
            } else if wanted
                && entry.cursor.may_have_reached(header.revision)
                && !entry.queue.is_full()
            {
                entry.queue.push(WatchUpdate::bare(header, UpdateKind::Changes));
            }
        }
        for (number, id) in ignored {
            self.leave(number, id);
        }
    }

    fn deliver(&mut self, number: WatchNumber, response: WatchResponse) {
        let Some(entry) = self.watches.get_mut(&number) else { return };
        let State::Attached(id) = entry.state else { return };
        let overflows = !entry.cursor.awaits_state() && entry.queue.is_full();
        if entry.queue.is_over() || overflows {
            return self.leave(number, id);
        }
        let header = response.header.unwrap_or_default();
        match entry.cursor.take(response) {
            Taken::Nothing => {}
            Taken::Update(update) => entry.queue.push(update),
            Taken::Disorder { expected, received } => {
                entry.queue.finish(Error::WatchDisorder { expected, received }, header);
                self.leave(number, id);
            }
        }
    }

    /// Asks the server to serve the watch no more.
    fn leave(&mut self, number: WatchNumber, id: i64) {
        let Some(entry) = self.watches.get_mut(&number) else { return };
        self.outgoing.push_back(Outgoing::Cancel(id));
        if entry.queue.is_over() {
            // Whatever still comes for it finds nobody.
            self.ids.remove(&id);
            return self.remove(number);
        }
        entry.state = State::Leaving(id);
        entry.cursor.lost();
    }

    /// Asks for a paused watch again if there is room.
    fn come_back(&mut self, number: WatchNumber) {
        let Some(entry) = self.watches.get_mut(&number) else { return };
        if !entry.queue.lacks_room() {
            entry.state = State::Wanted;
            self.want(number);
        }
    }

    fn want(&mut self, number: WatchNumber) {
        if self.is_open {
            self.outgoing.push_back(Outgoing::Create(number));
        }
    }

    fn remove(&mut self, number: WatchNumber) {
        self.watches.remove(&number);
    }
}

/// Why the server serves a watch no more.
fn reason(response: &WatchResponse) -> Error {
    if response.compact_revision != 0 {
        return Error::Compacted { compact_revision: response.compact_revision };
    }
    if response.cancel_reason.is_empty() {
        // The words etcd's client has for a server that gives none.
        return Error::WatchCanceled { reason: EtcdError::FutureRev.to_string() };
    }
    Error::WatchCanceled { reason: response.cancel_reason.clone() }
}
