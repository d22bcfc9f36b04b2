//! What clients asked and were told, in the words of the API.
//!
//! Every event of a history has a [`Moment`]: a reading of the run's one clock, and its place in the order in which things
//! happened. Judges of order look at places alone; judges of leases look at the clock as well.
//!
//! A request has one of three ends. It was *answered*; it was *rejected*, that is carried out with nothing changed; or its
//! outcome is *unknown*: then it may take effect at any time after its call, or never. Requests that certainly were not
//! carried out are no part of a history.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::response_op::Response;
use kvorum_proto::api::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use prost::Message;

use crate::model::KeyRange;
use crate::words;

/// When something happened. Its order is that of the places.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Moment {
    /// By the run's clock, in nanoseconds.
    pub at: u64,
    /// Which of all events of the history it was: no two are at the same place.
    pub place: u64,
}

impl Ord for Moment {
    fn cmp(&self, other: &Moment) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Moment) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Moment {
    /// A moment of a history without a clock.
    pub fn at_place(place: u64) -> Moment {
        Moment { at: place, place }
    }
}

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// To set a key.
    Put(PutRequest),
    /// To delete keys.
    DeleteRange(DeleteRangeRequest),
    /// To compare, read and write.
    Txn(TxnRequest),
    /// To read keys.
    Range(RangeRequest),
    /// To give up history before a revision.
    Compact {
        /// The revision.
        revision: i64,
    },
    /// A lease.
    Grant {
        /// Its name.
        id: i64,
        /// In seconds.
        ttl: i64,
    },
    /// To keep a lease alive.
    KeepAlive {
        /// Its name.
        id: i64,
    },
    /// How long a lease has left.
    TimeToLive {
        /// Its name.
        id: i64,
    },
    /// To end a lease.
    Revoke {
        /// Its name.
        id: i64,
    },
}

/// Why a request was carried out and came to nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A revision below the compaction revision was named; or, by a compaction, one not above it.
    Compacted,
    /// A revision above the current one was named.
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// A lease that does not exist.
    LeaseNotFound,
    /// A grant under an id that another lease has.
    LeaseExists,
    /// Anything else. No judge has an opinion on when that may be.
    Other(String),
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Of a put.
    Put(PutResponse),
    /// Of a deletion.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// Of a read.
    Range(RangeResponse),
    /// Of a compaction: the header's revision.
    Compacted {
        /// The current revision.
        revision: i64,
    },
    /// A lease, and its time.
    Granted {
        /// In seconds.
        ttl: i64,
    },
    /// A lease lives on for so long; 0: there is none.
    Kept {
        /// In seconds.
        ttl: i64,
    },
    /// A lease has so long left; -1: there is none.
    Left {
        /// In seconds.
        ttl: i64,
    },
    /// A lease is gone: the header's revision.
    Revoked {
        /// The current revision, after its keys are gone.
        revision: i64,
    },
    /// It was carried out and changed nothing, for this reason.
    Rejected(Refusal),
    /// Nobody can say.
    Unknown,
}

impl Output {
    /// The revision in the answer's header.
    pub fn revision(&self) -> Option<i64> {
        let of = |header: &Option<ResponseHeader>| header.as_ref().map(|header| header.revision);
        match self {
            Output::Put(response) => of(&response.header),
            Output::DeleteRange(response) => of(&response.header),
            Output::Txn(response) => of(&response.header),
            Output::Range(response) => of(&response.header),
            Output::Compacted { revision } | Output::Revoked { revision } => Some(*revision),
            Output::Granted { .. }
            | Output::Kept { .. }
            | Output::Left { .. }
            | Output::Rejected(_)
            | Output::Unknown => None,
        }
    }
}

impl Output {
    /// The answer without what is no part of it: headers, those within included.
    pub(crate) fn bare(&self) -> Output {
        let mut bare = self.clone();
        match &mut bare {
            Output::Put(response) => response.header = None,
            Output::DeleteRange(response) => response.header = None,
            Output::Range(response) => response.header = None,
            Output::Txn(response) => strip(response),
            Output::Compacted { revision } | Output::Revoked { revision } => *revision = 0,
            Output::Granted { .. }
            | Output::Kept { .. }
            | Output::Left { .. }
            | Output::Rejected(_)
            | Output::Unknown => {}
        }
        bare
    }
}

fn strip(response: &mut TxnResponse) {
    let mut waiting = vec![response];
    while let Some(response) = waiting.pop() {
        response.header = None;
        for op in response.responses.iter_mut().filter_map(|op| op.response.as_mut()) {
            match op {
                Response::ResponsePut(put) => put.header = None,
                Response::ResponseDeleteRange(deleted) => deleted.header = None,
                Response::ResponseRange(found) => found.header = None,
                Response::ResponseTxn(inner) => waiting.push(inner),
            }
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// By which client.
    pub client: u64,
    /// Of which member; 0 where that is not known.
    pub member: u64,
    /// When it was asked.
    pub call: Moment,
    /// When the client had its answer. None: the outcome is unknown, whenever the client gave up.
    pub end: Option<Moment>,
    /// What was asked.
    pub input: Input,
    /// What came back.
    pub output: Output,
}

/// One watcher, from the request to the end of its stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Watcher {
    /// By which client.
    pub client: u64,
    /// Of which member.
    pub member: u64,
    /// When it was asked for.
    pub call: Moment,
    /// What was asked for.
    pub request: WatchCreateRequest,
    /// The client's series of watchers of one range and the same filters, each beginning where the one before it ended.
    pub series: u64,
    /// What it was told, in order.
    pub heard: Vec<Heard>,
}

/// One message to a watcher. One about a whole stream (`watch_id` -1) is noted at each watcher of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// When.
    pub at: Moment,
    /// The message.
    pub response: WatchResponse,
}

/// What can happen to a lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    /// The client was told that it holds the lock, as of this revision.
    Held {
        /// Where that was read.
        revision: i64,
    },
    /// The holder wrote, at this revision, under its token.
    Wrote {
        /// Of the write.
        revision: i64,
    },
    /// The holder's write was refused: its key was gone.
    Fenced {
        /// Where that was found.
        revision: i64,
    },
    /// It is given back.
    Released,
}

/// What somebody did with a lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LockDeed {
    /// By which client.
    pub client: u64,
    /// When it was asked.
    pub call: Moment,
    /// When the answer was there.
    pub end: Moment,
    /// Which lock.
    pub name: String,
    /// The key that stands for the holder.
    pub key: Bytes,
    /// The revision that created the key: the fencing token.
    pub token: i64,
    /// What happened.
    pub deed: Deed,
}

/// All that clients asked and were told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Requests, in any order.
    pub ops: Vec<Op>,
    /// Watchers, in any order.
    pub watchers: Vec<Watcher>,
    /// Locks, in any order.
    pub locks: Vec<LockDeed>,
}

/// A message of `kvorum_proto::wire` as the plain one that encodes to the same bytes.
///
/// # Panics
///
/// Panics if the two do not encode alike.
pub fn plain<P: Message + Default>(message: &impl Message) -> P {
    P::decode(message.encode_to_vec().as_slice()).expect("the two encode to the same bytes")
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.end.map_or("?".to_owned(), |end| end.place.to_string());
        let (client, member, call) = (self.client, self.member, self.call.place);
        write!(out, "[{call}..{end}] client {client} at {member:x}: ")?;
        write!(out, "{} -> {}", words::input(&self.input), words::output(&self.output))
    }
}

impl fmt::Display for Watcher {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Watcher { client, member, call, request, series, .. } = self;
        let range = KeyRange::new(&request.key, &request.range_end);
        let end = range.end.as_ref().map_or("..".to_owned(), |end| words::text(end));
        let (place, first) = (call.place, words::text(&range.first));
        write!(out, "[{place}] client {client} at {member:x}, series {series:x}: ")?;
        let filters: Vec<_> = request.filters().collect();
        let start = request.start_revision;
        write!(out, "watch [{first}, {end}) from {start}, filters {filters:?}")
    }
}

/// What clients asked and were told, a line for each, in the order in which they asked or were told.
impl fmt::Display for History {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.ops.iter().map(|op| (op.call.place, op.to_string()));
        let watched = self.watchers.iter().flat_map(|watcher| {
            let heard = watcher.heard.iter().map(|heard| {
                let (place, message) = (heard.at.place, words::message(&heard.response));
                (
                    place,
                    format!(
                        "[{place}] client {}, series {:x}, {message}",
                        watcher.client, watcher.series
                    ),
                )
            });
            std::iter::once((watcher.call.place, watcher.to_string())).chain(heard)
        });
        let mut lines: Vec<(u64, String)> = asked.chain(watched).collect();
        lines.sort();
        lines.iter().try_for_each(|(_, line)| writeln!(out, "{line}"))
    }
}
