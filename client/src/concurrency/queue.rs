//! The queue under a prefix: one key for each session, and whose key was created first is its holder.
//!
//! ```text
//!  jobs/7a41   created at 12   holds
//!  jobs/09fe   created at 15   watches jobs/7a41
//!  jobs/33c0   created at 19   watches jobs/09fe
//! ```
//!
//! Everyone watches only the key before its own, so that one release wakes one session.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::response_op::Response;
use kvorum_proto::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_proto::errors::EtcdError;
use tokio::time::sleep;

use super::claims::{Attempt, Release, Seen};
use super::session::Session;
use crate::client::Client;
use crate::error::Error;
use crate::range::prefix_end;
use crate::streaming::is_permanent;
use crate::watch::WatchOptions;

/// The pause before a read is tried again while the servers are away.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// What all keys of a lock or an election begin with.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// A session's place in a queue. Dropped, it is given up, unless others of the session wait at it too.
pub(super) struct Place {
    attempt: Attempt,
    prefix: Bytes,
    value: Bytes,
    /// The create revision of the key.
    revision: i64,
    /// Of the last answer.
    header: ResponseHeader,
    is_first: bool,
}

/// The first place.
pub(super) struct First {
    pub(super) key: Bytes,
    pub(super) revision: i64,
    pub(super) header: ResponseHeader,
}

impl Place {
    /// Stands in the queue, at the end, or where the session stands already.
    pub(super) async fn enter(
        session: &Session,
        prefix: &Bytes,
        value: &Bytes,
    ) -> Result<Place, Error> {
        let mut place = Place {
            attempt: Attempt::begin(session, session.key(prefix)),
            prefix: prefix.clone(),
            value: value.clone(),
            revision: 0,
            header: ResponseHeader::default(),
            is_first: false,
        };
        place.stand().await?;
        Ok(place)
    }

    /// Puts the key.
    async fn stand(&mut self) -> Result<(), Error> {
        loop {
            self.put().await?;
            let (session, key) = (self.attempt.session(), self.attempt.key());
            if !session.claims().is_doubtful(key, self.revision) {
                return Ok(());
            }
            // The session was to release this very key, and may yet do so at any time: only a new one is worth having.
            if delete_if_written_at(session, key, self.header.revision).await? {
                session.claims().gone(key, self.revision);
            }
        }
    }

    /// Puts the key if it is not there. One that is there keeps its place and is written all the same, so that a request to
    /// delete it that is still on its way behind an earlier attempt finds another than it is meant for.
    async fn put(&mut self) -> Result<(), Error> {
        let session = self.attempt.session().clone();
        let key = self.attempt.key();
        let put = PutRequest {
            key: key.clone(),
            value: self.value.clone(),
            lease: session.lease(),
            ..Default::default()
        };
        let put = || operation(Request::RequestPut(put.clone()));
        let own = operation(Request::RequestRange(own_request(key)));
        let first = || operation(Request::RequestRange(first_request(&self.prefix)));
        let request = TxnRequest {
            compare: vec![created_at(key, 0)],
            success: vec![put(), first()],
            failure: vec![own, put(), first()],
        };
        self.attempt.sends();
        match session.client().txn(request).await {
            Ok(answer) => self.stands(answer),
            Err(error) => {
                if is_permanent(&error) {
                    self.attempt.refused();
                }
                Err(error)
            }
        }
    }

    /// Takes the answer to the request to stand in the queue.
    fn stands(&mut self, answer: TxnResponse) -> Result<(), Error> {
        self.header = answer.header.unwrap_or_default();
        let written = self.header.revision;
        let created = answer.succeeded;
        let mut ranges = answer.responses.into_iter().filter_map(range_of);
        let own = if created { None } else { ranges.next().flatten() };
        let first = ranges.next().flatten();
        self.revision = match own {
            _ if created => written,
            Some(own) => own.create_revision,
            // The comparison said that the key is there.
            None => return Err(Error::SessionExpired),
        };
        self.attempt.entered(Seen { created: self.revision, written });
        self.is_first = first.is_none_or(|first| first.create_revision == self.revision);
        Ok(())
    }

    /// Whether nobody was before it when it was entered.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Waits until the place is the first.
    pub(super) async fn wait(mut self) -> Result<First, Error> {
        let session = self.attempt.session().clone();
        while !self.is_first {
            let turn = tokio::select! {
                turn = self.wait_for_turn() => turn?,
                _ = session.done() => return Err(Error::SessionExpired),
            };
            match turn {
                Some(header) => {
                    self.header = header;
                    break;
                }
                None if session.claims().may_have_released(self.attempt.key(), self.revision) => {
                    self.stand_again().await?;
                }
                None => return Err(Error::SessionExpired),
            }
        }
        self.first()
    }

    /// Stands at the end: another task of the session had the lock and has released it while this one waited for it too.
    async fn stand_again(&mut self) -> Result<(), Error> {
        let stood = self.stand().await;
        stood.map_err(|error| match error.etcd() {
            Some(EtcdError::LeaseNotFound) => Error::SessionExpired,
            _ => error,
        })
    }

    /// The place as the first one, which it is known to be.
    pub(super) fn first(self) -> Result<First, Error> {
        let Place { attempt, revision, header, .. } = self;
        if !attempt.session().is_alive() {
            return Err(Error::SessionExpired);
        }
        let key = attempt.key().clone();
        attempt.granted(revision);
        Ok(First { key, revision, header })
    }

    /// The header of the answer by which the place is the first; `None` if it is lost.
    async fn wait_for_turn(&self) -> Result<Option<ResponseHeader>, Error> {
        let client = self.attempt.session().client();
        while let Some((before, seen)) = self.before().await? {
            wait_deleted(client, before, seen).await?;
        }
        // Those before are gone, but while it waited the session's lease may have ended and its key with them. The first
        // place is the session's only if its own key is still there, and the same one.
        let answer = patient_read(client, own_request(self.attempt.key())).await?;
        let own = answer.kvs.first().filter(|own| own.create_revision == self.revision);
        Ok(own.map(|_| answer.header.unwrap_or_default()))
    }

    /// The key that is next before this one, and the revision at which it was.
    async fn before(&self) -> Result<Option<(Bytes, i64)>, Error> {
        let request = RangeRequest {
            key: self.prefix.clone(),
            range_end: prefix_end(&self.prefix),
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: self.revision - 1,
            ..Default::default()
        };
        let mut answer = patient_read(self.attempt.session().client(), request).await?;
        let revision = answer.header.unwrap_or_default().revision;
        Ok(answer.kvs.pop().map(|before| (before.key, revision)))
    }

    /// Gives the place up, if no other attempt of the session is at it. If it fails, a task goes on with it.
    pub(super) async fn leave(self) {
        self.attempt.leave().await;
    }
}

/// Deletes the session's key, if it is the one that was created at `revision`, whoever of the session is at it. Whether it
/// was, by the answer.
pub(super) async fn release(
    session: &Session,
    key: &Bytes,
    revision: i64,
) -> Result<TxnResponse, Error> {
    let mut release = Release::begin(session, key, revision);
    let answer = delete_if(session, key, created_at(key, revision)).await;
    match &answer {
        Ok(_) => release.done(),
        Err(error) if is_permanent(error) => release.refused(),
        Err(_) => {}
    }
    answer
}

/// Deletes the session's key as it was written at `revision`. Whether it was that, or there was none.
pub(super) async fn delete_if_written_at(
    session: &Session,
    key: &Bytes,
    revision: i64,
) -> Result<bool, Error> {
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    };
    Ok(delete_if(session, key, compare).await?.succeeded)
}

async fn delete_if(session: &Session, key: &Bytes, compare: Compare) -> Result<TxnResponse, Error> {
    let delete = DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let request = TxnRequest {
        compare: vec![compare],
        success: vec![operation(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    session.client().txn(request).await
}

/// The session's key as it is.
pub(super) async fn read(session: &Session, key: &Bytes) -> Result<Option<Seen>, Error> {
    let answer = session.client().range(own_request(key)).await?;
    let seen = |kv: &KeyValue| Seen { created: kv.create_revision, written: kv.mod_revision };
    Ok(answer.kvs.first().map(seen))
}

fn own_request(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..Default::default() }
}

/// The comparison that holds as long as the key is the one that was created at `revision`, 0 for none.
pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

/// A request for the key that was created first.
pub(super) fn first_request(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

pub(super) fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// What an operation found if it was a range: the first key, if there was one.
fn range_of(operation: ResponseOp) -> Option<Option<KeyValue>> {
    match operation.response {
        Some(Response::ResponseRange(answer)) => Some(answer.kvs.into_iter().next()),
        _ => None,
    }
}

/// Reads, for as long as it takes: the servers may be away for longer than a call may last.
pub(super) async fn patient_read(
    client: &Client,
    request: RangeRequest,
) -> Result<RangeResponse, Error> {
    loop {
        match client.range(request.clone()).await {
            Err(error) if !is_permanent(&error) => sleep(READ_PAUSE).await,
            answer => return answer,
        }
    }
}

/// Waits until a key that was there at `seen` is deleted, or may have been. A member that has lost the others tells of
/// nothing any more, so one that knows of a leader is asked.
async fn wait_deleted(client: &Client, key: Bytes, seen: i64) -> Result<(), Error> {
    let options = WatchOptions::new().start_revision(seen + 1).without_puts();
    let mut watch = client.requiring_leader().watch(key, options);
    loop {
        match watch.next().await {
            Some(Ok(update)) if update.events.is_empty() => {}
            Some(Ok(_)) => return Ok(()),
            // Whether it was deleted is in the part of history that is gone: look again.
            Some(Err(Error::Compacted { .. })) => return Ok(()),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::WatchEnded),
        }
    }
}
