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
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::session::{Hold, Session};
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

/// A session's place in a queue. Dropped, it is given up, as well as that can be done without waiting for it.
pub(super) struct Place {
    session: Session,
    prefix: Bytes,
    key: Bytes,
    /// The create revision of the key; `None` while it is not known whether there is a key.
    revision: Option<i64>,
    /// Of the last answer.
    header: ResponseHeader,
    /// The key's value, if it was there before.
    found: Option<Bytes>,
    is_first: bool,
    given_up: bool,
}

/// The first place.
pub(super) struct First {
    pub(super) hold: Hold,
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
            session: session.clone(),
            prefix: prefix.clone(),
            key: session.key(prefix),
            revision: None,
            header: ResponseHeader::default(),
            found: None,
            is_first: false,
            given_up: false,
        };
        let key = &place.key;
        let put = PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: session.lease(),
            ..Default::default()
        };
        let own = RangeRequest { key: key.clone(), ..Default::default() };
        let request = TxnRequest {
            compare: vec![created_at(key, 0)],
            success: vec![operation(Request::RequestPut(put)), operation(read_first(prefix))],
            failure: vec![operation(Request::RequestRange(own)), operation(read_first(prefix))],
        };
        place.entered(session.client().txn(request).await?)?;
        Ok(place)
    }

    /// Takes the answer to the request to stand in the queue.
    fn entered(&mut self, answer: TxnResponse) -> Result<(), Error> {
        self.header = answer.header.unwrap_or_default();
        let created = answer.succeeded;
        let mut ranges = answer.responses.into_iter().map(first_of);
        let own = ranges.next().flatten();
        let first = ranges.next().flatten();
        let revision = match own {
            _ if created => self.header.revision,
            Some(own) => {
                self.found = Some(own.value);
                own.create_revision
            }
            // The comparison said that the key is there.
            None => return Err(Error::SessionExpired),
        };
        self.revision = Some(revision);
        self.is_first = first.is_none_or(|first| first.create_revision == revision);
        Ok(())
    }

    /// Whether nobody was before it when it was entered.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn key(&self) -> &Bytes {
        &self.key
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision.unwrap_or_default()
    }

    /// The value that the key had before this place was entered, if it was there.
    pub(super) fn found(&self) -> Option<&Bytes> {
        self.found.as_ref()
    }

    /// Waits until the place is the first.
    pub(super) async fn wait(mut self) -> Result<First, Error> {
        if !self.is_first {
            let session = self.session.clone();
            tokio::select! {
                turn = self.wait_for_turn() => self.header = turn?,
                _ = session.done() => return Err(Error::SessionExpired),
            }
        }
        self.first()
    }

    /// The place as the first one, which it is known to be.
    pub(super) fn first(mut self) -> Result<First, Error> {
        if !self.session.is_alive() {
            return Err(Error::SessionExpired);
        }
        self.given_up = true;
        let hold = self.session.hold(&self.key);
        Ok(First { hold, revision: self.revision(), header: self.header })
    }

    async fn wait_for_turn(&self) -> Result<ResponseHeader, Error> {
        let client = self.session.client();
        while let Some((before, seen)) = self.before().await? {
            wait_deleted(client, before, seen).await?;
        }
        // Those before are gone, but while it waited the session's lease may have ended and its key with them. The first
        // place is the session's only if its own key is still there, and the same one.
        let own = RangeRequest { key: self.key.clone(), ..Default::default() };
        let answer = patient_read(client, own).await?;
        match answer.kvs.first() {
            Some(own) if own.create_revision == self.revision() => {
                Ok(answer.header.unwrap_or_default())
            }
            _ => Err(Error::SessionExpired),
        }
    }

    /// The key that is next before this one, and the revision at which it was.
    async fn before(&self) -> Result<Option<(Bytes, i64)>, Error> {
        let request = RangeRequest {
            key: self.prefix.clone(),
            range_end: prefix_end(&self.prefix),
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: self.revision() - 1,
            ..Default::default()
        };
        let mut answer = patient_read(self.session.client(), request).await?;
        let revision = answer.header.unwrap_or_default().revision;
        Ok(answer.kvs.pop().map(|before| (before.key, revision)))
    }

    /// Gives the place up.
    pub(super) async fn leave(mut self) -> Result<(), Error> {
        let left = leave(&self.session, &self.key, self.revision).await;
        self.given_up = left.is_ok();
        left.map(drop)
    }
}

impl Drop for Place {
    /// A place that nobody waits at any more would hold up those behind it for as long as the session lives.
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.given_up || self.session.holds(&self.key) {
            return;
        }
        let (session, key, revision) = (self.session.clone(), self.key.clone(), self.revision);
        runtime.spawn(async move {
            if session.is_alive() && !session.holds(&key) {
                // If it fails, the place goes with the session.
                drop(leave(&session, &key, revision).await);
            }
        });
    }
}

/// Deletes the session's key, if it is the one that was created at `revision`. Whether it was.
pub(super) async fn leave(
    session: &Session,
    key: &Bytes,
    revision: Option<i64>,
) -> Result<TxnResponse, Error> {
    let delete = DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let request = TxnRequest {
        compare: revision.map(|revision| created_at(key, revision)).into_iter().collect(),
        success: vec![operation(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    session.client().txn(request).await
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

fn read_first(prefix: &Bytes) -> Request {
    Request::RequestRange(first_request(prefix))
}

pub(super) fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The first key of an operation that was a range.
fn first_of(operation: ResponseOp) -> Option<KeyValue> {
    match operation.response {
        Some(Response::ResponseRange(answer)) => answer.kvs.into_iter().next(),
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

/// Waits until a key that was there at `seen` is deleted, or may have been.
async fn wait_deleted(client: &Client, key: Bytes, seen: i64) -> Result<(), Error> {
    let options = WatchOptions::new().start_revision(seen + 1).without_puts();
    let mut watch = client.watch(key, options);
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
