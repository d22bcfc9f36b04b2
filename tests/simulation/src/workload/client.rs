//! One client: which member it asks, how it asks, and what it takes the answers for.
//!
//! A request has one of three ends. It is *answered*; it was *refused*, and certainly changed nothing; or its outcome is
//! *unknown*: nobody answered in time, the member is gone, or says that it cannot tell. Nothing is ever sent twice: whoever
//! wants to try again makes a new request of it, with a value of its own.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use kvorum_consensus::ProposeError;
use kvorum_machine::{CommandError, RangeError, Reply, range, txn, validate};
use kvorum_proto::entry::CommandKind;
use kvorum_proto::wire::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, PutResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse,
};
use kvorum_types::{LeaseId, MemberId};
use prost::Message;

use super::door::{Door, Surroundings};
use super::record::{Asked, Recorder, Told};

/// How long a client waits for an answer: longer than a member lets a request wait.
pub const PATIENCE: Duration = Duration::from_secs(9);

/// How long a client waits before it asks again where nobody answers.
const PAUSE: Duration = Duration::from_millis(50);

/// One in so many requests goes to another member than the one before.
const MOVES: u64 = 8;

/// How long a long value is at most.
const LONG: u64 = 600;

/// And a very long one: more than two pages of a disk.
const VERY_LONG: u64 = 9_000;

/// Etcd's limit on the operations of a transaction.
const TXN_OPS_MAX: usize = 128;

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failed {
    /// It was carried out and came to nothing.
    Rejected(CommandError),
    /// It was not carried out, and will not be.
    Refused,
    /// It may have been carried out, or may be later.
    Unknown,
}

/// How a request ended.
pub type Answer<T> = Result<T, Failed>;

/// One client.
pub struct Client<S> {
    /// The world it lives in.
    pub world: S,
    /// Its name in the history.
    pub number: u64,
    /// Where what it does is noted.
    pub recorder: Recorder,
    /// The newest revision it was told of.
    pub seen: i64,
    /// The only member it asks.
    fixed: Option<MemberId>,
    at: Option<MemberId>,
    made: u64,
}

impl<S: Surroundings> Client<S> {
    /// A client that has not asked anything.
    pub fn new(world: S, number: u64, recorder: Recorder) -> Client<S> {
        Client { world, number, recorder, seen: 1, fixed: None, at: None, made: 0 }
    }

    /// A value that nobody else ever writes, a long one now and then, and seldom a very long one.
    pub fn value(&mut self) -> Bytes {
        self.made += 1;
        let padding = match self.world.random(32) {
            0..8 => self.world.random(LONG) as usize,
            8..10 => self.world.random(VERY_LONG) as usize,
            _ => 0,
        };
        format!("{}-{}{:.<padding$}", self.number, self.made, "").into()
    }

    /// Whether something that happens once in `times` happens now.
    pub fn once_in(&self, times: u64) -> bool {
        self.world.random(times) == 0
    }

    /// One of `all`.
    pub fn one_of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.world.random(all.len() as u64) as usize]
    }

    /// Rests for up to `max`.
    pub async fn rest(&self, max: Duration) {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        self.world.sleep(Duration::from_nanos(self.world.random(nanos.max(1)))).await;
    }

    /// Asks another member from now on.
    pub fn move_on(&mut self) {
        self.at = None;
    }

    /// Asks only this member.
    pub fn stay_at(&mut self, id: MemberId) {
        self.fixed = Some(id);
    }

    /// The door of the member it asks now. None: that one does not run, and a little time has passed.
    pub async fn door(&mut self) -> Option<Door> {
        if let Some(id) = self.fixed {
            return self.world.door(id);
        }
        let moves = self.once_in(MOVES);
        let id = match self.at {
            Some(id) if !moves => id,
            _ => {
                let members = self.world.members();
                if members.is_empty() {
                    self.world.sleep(PAUSE).await;
                    return None;
                }
                *self.one_of(&members)
            }
        };
        self.at = Some(id);
        let door = self.world.door(id);
        if door.is_none() {
            self.move_on();
            self.rest(PAUSE).await;
        }
        door
    }

    /// Waits for a call as long as it makes sense. None: the outcome is unknown.
    pub async fn within<T>(&self, door: &Door, call: impl Future<Output = T>) -> Option<T> {
        let mut closed = door.closed.clone();
        let closed = pin!(async move {
            // An error says that nobody is left to say so.
            let _ = closed.wait_for(|is_closed| *is_closed).await;
        });
        let ended = select(closed, self.world.sleep(PATIENCE));
        match select(pin!(call), ended).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }

    /// Sets a key.
    pub async fn put(&mut self, request: PutRequest) -> Answer<PutResponse> {
        if validate::put(&request).is_err() {
            return Err(Failed::Refused);
        }
        let encoded = request.encode_to_vec();
        match self.propose(CommandKind::Put, encoded, Asked::Put(request)).await? {
            Told::Put(response) => Ok(response),
            other => panic!("a put was answered with {other:?}"),
        }
    }

    /// Sets a key by way of one member.
    pub async fn put_at(&mut self, member: MemberId, request: PutRequest) -> Answer<PutResponse> {
        self.fixed = Some(member);
        let put = self.put(request).await;
        self.fixed = None;
        put
    }

    /// Reads keys by way of one member.
    pub async fn range_at(
        &mut self,
        member: MemberId,
        request: RangeRequest,
    ) -> Answer<RangeResponse> {
        self.fixed = Some(member);
        let read = self.range(request).await;
        self.fixed = None;
        read
    }

    /// Deletes keys.
    pub async fn delete(&mut self, request: DeleteRangeRequest) -> Answer<DeleteRangeResponse> {
        if validate::delete_range(&request).is_err() {
            return Err(Failed::Refused);
        }
        let encoded = request.encode_to_vec();
        let asked = Asked::DeleteRange(request);
        match self.propose(CommandKind::DeleteRange, encoded, asked).await? {
            Told::DeleteRange(response) => Ok(response),
            other => panic!("a deletion was answered with {other:?}"),
        }
    }

    /// Compares, then reads and writes.
    pub async fn txn(&mut self, request: TxnRequest) -> Answer<TxnResponse> {
        if validate::txn(&request, TXN_OPS_MAX).is_err() {
            return Err(Failed::Refused);
        }
        if txn::is_read_only(&request) {
            return self.read_only(request).await;
        }
        let encoded = request.encode_to_vec();
        match self.propose(CommandKind::Txn, encoded, Asked::Txn(request)).await? {
            Told::Txn(response) => Ok(response),
            other => panic!("a transaction was answered with {other:?}"),
        }
    }

    /// Gives history up.
    pub async fn compact(&mut self, revision: i64) -> Answer<()> {
        let request = CompactionRequest { revision, physical: false };
        let encoded = request.encode_to_vec();
        self.propose(CommandKind::Compaction, encoded, Asked::Compact(revision)).await.map(drop)
    }

    /// Grants a lease of any id; the id and its time in seconds.
    pub async fn grant(&mut self, ttl: i64) -> Answer<(LeaseId, i64)> {
        let id = i64::try_from(self.world.random(i64::MAX as u64)).unwrap_or(0).max(1);
        let request = LeaseGrantRequest { id, ttl };
        let asked = Asked::Grant { id, ttl };
        match self.propose(CommandKind::LeaseGrant, request.encode_to_vec(), asked).await? {
            Told::Granted { ttl } => Ok((LeaseId(id), ttl)),
            other => panic!("a grant was answered with {other:?}"),
        }
    }

    /// Ends a lease.
    pub async fn revoke(&mut self, id: LeaseId) -> Answer<()> {
        let encoded = LeaseRevokeRequest { id: id.0 }.encode_to_vec();
        self.propose(CommandKind::LeaseRevoke, encoded, Asked::Revoke { id: id.0 }).await.map(drop)
    }

    /// Keeps a lease alive: its time in seconds, 0 if there is none.
    pub async fn keep_alive(&mut self, id: LeaseId) -> Answer<i64> {
        let door = self.door().await.ok_or(Failed::Refused)?;
        let asked = self.recorder.ask(self.world.now(), (self.number, door.id));
        let kept = self.within(&door, door.served.keep_alive(id)).await;
        let now = self.world.now();
        match kept {
            Some(Ok(ttl)) => {
                self.recorder.told(asked, now, Asked::KeepAlive { id: id.0 }, Told::Kept { ttl });
                Ok(ttl)
            }
            _ => {
                self.recorder.unknown(asked, now, Asked::KeepAlive { id: id.0 });
                self.move_on();
                Err(Failed::Unknown)
            }
        }
    }

    /// How many seconds a lease has left; -1 if there is none.
    pub async fn time_to_live(&mut self, id: LeaseId) -> Answer<i64> {
        let door = self.door().await.ok_or(Failed::Refused)?;
        let asked = self.recorder.ask(self.world.now(), (self.number, door.id));
        let found = self.within(&door, door.served.time_to_live(id)).await;
        let Some(Ok(found)) = found else {
            self.move_on();
            return Err(Failed::Refused);
        };
        let ttl = found.unwrap_or(-1);
        let (now, told) = (self.world.now(), Told::Left { ttl });
        self.recorder.told(asked, now, Asked::TimeToLive { id: id.0 }, told);
        Ok(ttl)
    }

    /// Reads keys.
    pub async fn range(&mut self, request: RangeRequest) -> Answer<RangeResponse> {
        if validate::range(&request).is_err() {
            return Err(Failed::Refused);
        }
        let is_local = request.serializable;
        let read = |door: &Door| range::range(&door.reader.store().view(), &request);
        let (asked, now, read) = self.read(is_local, read).await?;
        let response = read.map_err(|error| self.read_failed(error))?;
        self.see(response.header.map(|header| header.revision));
        self.recorder.told(asked, now, Asked::Range(request), Told::Range(response.clone()));
        Ok(response)
    }

    async fn read_only(&mut self, request: TxnRequest) -> Answer<TxnResponse> {
        let is_local = txn::is_serializable(&request);
        let read = |door: &Door| txn::read_only(&door.reader.store().view(), &request);
        let (asked, now, read) = self.read(is_local, read).await?;
        let response = read.map_err(|error| self.read_failed(error))?;
        self.see(response.header.map(|header| header.revision));
        self.recorder.told(asked, now, Asked::Txn(request), Told::Txn(response.clone()));
        Ok(response)
    }

    /// Reads a member's state, after a barrier unless it `is_local`.
    async fn read<T>(
        &mut self,
        is_local: bool,
        read: impl FnOnce(&Door) -> T,
    ) -> Answer<(super::record::Call, u64, T)> {
        let door = self.door().await.ok_or(Failed::Refused)?;
        let asked = self.recorder.ask(self.world.now(), (self.number, door.id));
        if !is_local {
            let passed = self.within(&door, door.served.read_barrier()).await;
            if !matches!(passed, Some(Ok(()))) {
                self.move_on();
                return Err(Failed::Refused);
            }
        }
        let found = read(&door);
        Ok((asked, self.world.now(), found))
    }

    fn read_failed(&self, error: RangeError) -> Failed {
        match error {
            RangeError::Compacted => Failed::Rejected(CommandError::Compacted),
            RangeError::FutureRevision => Failed::Rejected(CommandError::FutureRevision),
            RangeError::Invalid(_) => Failed::Refused,
            RangeError::Store(error) => {
                // The server would stop the member for it.
                self.recorder.doubt(format!("a view could not be read: {error}"));
                Failed::Refused
            }
        }
    }

    async fn propose(
        &mut self,
        kind: CommandKind,
        encoded: Vec<u8>,
        request: Asked,
    ) -> Answer<Told> {
        let door = self.door().await.ok_or(Failed::Refused)?;
        let asked = self.recorder.ask(self.world.now(), (self.number, door.id));
        let proposed = self.within(&door, door.served.propose(kind, encoded.into())).await;
        let now = self.world.now();
        let told = match proposed {
            Some(Ok(reply)) => told(reply),
            Some(Err(error)) => {
                let failed = failed(&error);
                match failed {
                    Failed::Unknown => self.recorder.unknown(asked, now, request),
                    Failed::Rejected(error) => self.recorder.rejected(asked, now, request, error),
                    Failed::Refused => {}
                }
                self.move_on();
                return Err(failed);
            }
            None => {
                self.recorder.unknown(asked, now, request);
                self.move_on();
                return Err(Failed::Unknown);
            }
        };
        self.see(told.revision());
        self.recorder.told(asked, now, request, told.clone());
        Ok(told)
    }

    fn see(&mut self, revision: Option<i64>) {
        self.seen = self.seen.max(revision.unwrap_or(0));
    }
}

/// What an error leaves open, as the errors' own words have it.
fn failed(error: &ProposeError) -> Failed {
    match error {
        ProposeError::TooManyRequests
        | ProposeError::NoSpace
        | ProposeError::LeaderChanged
        | ProposeError::NotLeader => Failed::Refused,
        ProposeError::Command(error) => Failed::Rejected(*error),
        ProposeError::Timeout
        | ProposeError::TimeoutLeaderFailed
        | ProposeError::TimeoutConnectionLost
        | ProposeError::Stopped => Failed::Unknown,
    }
}

fn told(reply: Reply) -> Told {
    match reply {
        Reply::Put(response) => Told::Put(response),
        Reply::DeleteRange(response) => Told::DeleteRange(response),
        Reply::Txn(response) => Told::Txn(response),
        Reply::Compaction(response) => Told::Compacted(response),
        Reply::LeaseGrant(response) => Told::Granted { ttl: response.ttl },
        Reply::LeaseRevoke(response) => Told::Revoked(response),
        other => panic!("no client asks for {other:?}"),
    }
}
