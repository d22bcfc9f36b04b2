//! What clients asked and were told, in the words of the API, until a judge looks at it.
//!
//! Nothing is judged here, and nothing left out but requests that certainly did nothing.

use std::sync::Arc;

use kvorum_machine::CommandError;
use kvorum_proto::wire::{
    CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, Event, LeaseRevokeResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};
use kvorum_types::MemberId;
use kvorum_watch::Create;
use parking_lot::Mutex;

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// To set a key.
    Put(PutRequest),
    /// To delete keys.
    DeleteRange(DeleteRangeRequest),
    /// To compare, read and write.
    Txn(TxnRequest),
    /// To read keys.
    Range(RangeRequest),
    /// To give up history before a revision.
    Compact(i64),
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

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Of a put.
    Put(PutResponse),
    /// Of a deletion.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// Of a read.
    Range(RangeResponse),
    /// Of a compaction.
    Compacted(CompactionResponse),
    /// A lease, and its time in seconds.
    Granted {
        /// In seconds.
        ttl: i64,
    },
    /// A lease lives on for so many seconds; 0: there is none.
    Kept {
        /// In seconds.
        ttl: i64,
    },
    /// A lease has so many seconds left; -1: there is none.
    Left {
        /// In seconds.
        ttl: i64,
    },
    /// A lease is gone.
    Revoked(LeaseRevokeResponse),
    /// It was carried out and changed nothing, for this reason.
    Rejected(CommandError),
    /// Nobody can say.
    Unknown,
}

impl Told {
    /// The revision in the answer's header.
    pub fn revision(&self) -> Option<i64> {
        let header: &Option<ResponseHeader> = match self {
            Told::Put(response) => &response.header,
            Told::DeleteRange(response) => &response.header,
            Told::Txn(response) => &response.header,
            Told::Range(response) => &response.header,
            Told::Compacted(response) => &response.header,
            Told::Revoked(response) => &response.header,
            Told::Granted { .. }
            | Told::Kept { .. }
            | Told::Left { .. }
            | Told::Rejected(_)
            | Told::Unknown => return None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

/// The moment something was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// When, by the world's clock.
    pub at: u64,
    /// Which of all events of the history this was: no two are at the same place.
    pub place: u64,
    /// By which client.
    pub client: u64,
    /// Of which member.
    pub member: MemberId,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// When it was asked.
    pub call: Call,
    /// When the client had its answer, or gave up: time and place.
    pub end: (u64, u64),
    /// What was asked.
    pub asked: Asked,
    /// What came back.
    pub told: Told,
}

/// One watcher, from the request to the end of its stream.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When, by whom, of which member.
    pub call: Call,
    /// What was asked for.
    pub create: Create,
    /// The client's series of watchers, each going on where the one before it ended.
    pub series: u64,
    /// What it was told, in order.
    pub heard: Vec<Heard>,
}

/// One message to a watcher.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: u64,
    /// The place in the history.
    pub place: u64,
    /// The header's revision.
    pub revision: i64,
    /// It is about the whole stream.
    pub is_of_stream: bool,
    /// The watcher is there.
    pub created: bool,
    /// The watcher is gone.
    pub canceled: bool,
    /// Not 0 where history was compacted away.
    pub compact_revision: i64,
    /// More of the same follows.
    pub fragment: bool,
    /// What happened.
    pub events: Vec<Event>,
}

/// What somebody did with a lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Locked {
    /// When.
    pub call: Call,
    /// When the answer was there.
    pub end: (u64, u64),
    /// Which lock.
    pub name: String,
    /// The key that stands for the holder.
    pub key: bytes::Bytes,
    /// The revision that created it: the fencing token.
    pub token: i64,
    /// What happened.
    pub deed: Deed,
}

/// What can happen to a lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    /// It is held from here on, as was read at this revision.
    Held {
        /// Where it was read.
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

/// All that happened, in the order in which it was noted.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Requests.
    pub requests: Vec<Recorded>,
    /// Watchers.
    pub watched: Vec<Watched>,
    /// Locks.
    pub locks: Vec<Locked>,
    /// What must never be, and was seen at once.
    pub doubts: Vec<String>,
    places: u64,
    compacted: i64,
}

/// Writes the history. Clones write the same.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
}

impl Recorder {
    /// Notes that something is asked now.
    pub fn ask(&self, at: u64, (client, member): (u64, MemberId)) -> Call {
        Call { at, place: self.place(), client, member }
    }

    /// The next place.
    pub fn place(&self) -> u64 {
        let mut history = self.history.lock();
        history.places += 1;
        history.places
    }

    /// An answer.
    pub fn told(&self, call: Call, now: u64, asked: Asked, told: Told) {
        let end = (now, self.place());
        let mut history = self.history.lock();
        if let (Asked::Compact(revision), Told::Compacted(_)) = (&asked, &told) {
            history.compacted = history.compacted.max(*revision);
        }
        history.requests.push(Recorded { call, end, asked, told });
    }

    /// It was carried out, and changed nothing.
    pub fn rejected(&self, call: Call, now: u64, asked: Asked, error: CommandError) {
        self.told(call, now, asked, Told::Rejected(error));
    }

    /// There was no answer.
    pub fn unknown(&self, call: Call, now: u64, asked: Asked) {
        self.told(call, now, asked, Told::Unknown);
    }

    /// A watcher begins; its number is for [`Recorder::heard`].
    pub fn watch(&self, call: Call, create: Create, series: u64) -> usize {
        let watched = &mut self.history.lock().watched;
        watched.push(Watched { call, create, series, heard: Vec::new() });
        watched.len() - 1
    }

    /// A watcher was told something.
    pub fn heard(&self, watcher: usize, mut heard: Heard) {
        heard.place = self.place();
        self.history.lock().watched[watcher].heard.push(heard);
    }

    /// Something happened to a lock.
    pub fn lock(&self, locked: Locked) {
        self.history.lock().locks.push(locked);
    }

    /// Something was seen that must never be.
    pub fn doubt(&self, what: String) {
        self.history.lock().doubts.push(what);
    }

    /// The newest revision that somebody compacted at, as far as it was told; 0 before the first.
    pub fn compacted(&self) -> i64 {
        self.history.lock().compacted
    }

    /// Hands the history over. What comes later is another one.
    pub fn take(&self) -> History {
        std::mem::take(&mut *self.history.lock())
    }

    /// How many requests were noted.
    pub fn request_count(&self) -> usize {
        self.history.lock().requests.len()
    }
}
