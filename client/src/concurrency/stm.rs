//! Reads and writes that happen all at once or not at all.
//!
//! Steps run without a lock: reads ask the servers, writes wait. At the end one transaction of the servers compares what was
//! read with what is there now, and writes all or nothing. If something came in between, the steps run again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::response_op::Response;
use kvorum_proto::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader, TxnRequest, TxnResponse,
};
use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_proto::errors::EtcdError;
use tokio::time::sleep;

use super::queue::operation;
use crate::client::Client;
use crate::error::Error;

/// Attempts, unless told otherwise.
const ATTEMPTS_MAX: u32 = 256;
/// The pause after the second conflict in a row is at most this long; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// What a transaction is protected from. Each level from the last to the first has all of the one after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All reads are of one moment, and from then until the commit nobody has changed what was read, nor what is written.
    #[default]
    SerializableSnapshot,
    /// All reads are of one moment, and until the commit nobody has changed what was read. What is only written may have
    /// been changed.
    Serializable,
    /// A key that is read twice is the same both times and still at the commit. Reads may be of different moments, and of
    /// the past: a member answers by itself.
    RepeatableReads,
    /// Reads may be of different moments, and of the past, and what was read may have changed before the commit.
    ReadCommitted,
}

impl Isolation {
    fn is_serializable(self) -> bool {
        matches!(self, Isolation::SerializableSnapshot | Isolation::Serializable)
    }
}

/// How a transaction runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StmOptions {
    isolation: Isolation,
    attempts_max: u32,
    prefetch: Vec<Bytes>,
}

impl Default for StmOptions {
    fn default() -> StmOptions {
        StmOptions::new()
    }
}

impl StmOptions {
    /// A serializable snapshot, and 256 attempts.
    pub fn new() -> StmOptions {
        StmOptions {
            isolation: Isolation::default(),
            attempts_max: ATTEMPTS_MAX,
            prefetch: Vec::new(),
        }
    }

    /// What it is protected from.
    pub fn isolation(self, isolation: Isolation) -> StmOptions {
        StmOptions { isolation, ..self }
    }

    /// How often it is tried, at least once.
    pub fn attempts(self, attempts_max: u32) -> StmOptions {
        StmOptions { attempts_max: attempts_max.max(1), ..self }
    }

    /// Reads these keys at the beginning, all in one request.
    pub fn prefetch<K: Into<Bytes>>(self, keys: impl IntoIterator<Item = K>) -> StmOptions {
        StmOptions { prefetch: keys.into_iter().map(Into::into).collect(), ..self }
    }
}

/// A transaction that was committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed<T> {
    /// What the steps gave.
    pub value: T,
    /// Of the commit.
    pub header: ResponseHeader,
    /// How often the steps ran.
    pub attempts: u32,
}

/// Runs `steps` and commits what they wrote; again, from the beginning, if others came in between.
///
/// `steps` must do nothing but read and write through the [`Stm`], since it may run many times. An error from it ends the
/// transaction without a trace, unless a read failed for a reason that another attempt cures. Fails with
/// [`Error::TooManyConflicts`] when all attempts met others. Any other error of the commit leaves open whether it was done,
/// as with any write.
///
/// ```no_run
/// # async fn example(client: kvorum_client::Client) -> Result<(), kvorum_client::Error> {
/// use kvorum_client::concurrency::{Stm, StmOptions, transaction};
///
/// let next = transaction(&client, StmOptions::new(), async |stm: &mut Stm| {
///     let last: u64 = match stm.get("counter").await? {
///         Some(text) => String::from_utf8_lossy(&text).parse().unwrap_or(0),
///         None => 0,
///     };
///     stm.put("counter", (last + 1).to_string());
///     Ok::<_, kvorum_client::Error>(last + 1)
/// })
/// .await?
/// .value;
/// # Ok(())
/// # }
/// ```
pub async fn transaction<T, E>(
    client: &Client,
    options: StmOptions,
    mut steps: impl AsyncFnMut(&mut Stm) -> Result<T, E>,
) -> Result<Committed<T>, E>
where
    E: From<Error>,
{
    let mut stm = Stm::new(client.clone(), options.isolation);
    for attempts in 1..=options.attempts_max {
        let value = match stm.begin(&options.prefetch).await {
            Ok(()) => steps(&mut stm).await,
            Err(error) => Err(error.into()),
        };
        let committed = match value {
            Ok(value) => stm.commit().await?.map(|header| Committed { value, header, attempts }),
            Err(_) if stm.is_stale => None,
            Err(error) => return Err(error),
        };
        match committed {
            Some(committed) => return Ok(committed),
            None => sleep(pause(attempts, rand::random())).await,
        }
    }
    Err(Error::TooManyConflicts { attempts: options.attempts_max }.into())
}

/// None after the first conflict: what was in the way is done.
fn pause(attempts: u32, random: f64) -> Duration {
    match attempts.checked_sub(2) {
        None => Duration::ZERO,
        Some(further) => PAUSE.saturating_mul(1 << further.min(16)).min(PAUSE_MAX).mul_f64(random),
    }
}

/// The reads and writes of one attempt.
///
/// - A key that was written is read as it was written.
/// - A key is asked for once in an attempt.
/// - With a serializable isolation all that is in `reads` was so at `base`.
pub struct Stm {
    client: Client,
    isolation: Isolation,
    /// What was found, `None` for no such key.
    reads: BTreeMap<Bytes, Option<KeyValue>>,
    writes: BTreeMap<Bytes, Write>,
    /// The moment that reads are of, once there was one.
    base: Option<i64>,
    /// What the servers gave with the last conflict: what was read, as of `base`.
    refetched: BTreeMap<Bytes, Option<KeyValue>>,
    /// The moment that reads are of is no longer to be had.
    is_stale: bool,
}

enum Write {
    Put(PutRequest),
    Delete,
}

impl Stm {
    fn new(client: Client, isolation: Isolation) -> Stm {
        Stm {
            client,
            isolation,
            reads: BTreeMap::new(),
            writes: BTreeMap::new(),
            base: None,
            refetched: BTreeMap::new(),
            is_stale: false,
        }
    }

    /// The value of a key, `None` if there is no such key.
    pub async fn get(&mut self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        Ok(self.get_all([key]).await?.pop().flatten())
    }

    /// The values of many keys, in their order, asked for in one request.
    pub async fn get_all<K: Into<Bytes>>(
        &mut self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let keys: Vec<Bytes> = keys.into_iter().map(Into::into).collect();
        self.fetch(keys.iter().filter(|key| !self.writes.contains_key(*key)).cloned().collect())
            .await?;
        let value = |key: &Bytes| match self.writes.get(key) {
            Some(Write::Put(put)) => Some(put.value.clone()),
            Some(Write::Delete) => None,
            None => self.reads.get(key)?.as_ref().map(|kv| kv.value.clone()),
        };
        Ok(keys.iter().map(value).collect())
    }

    /// The revision at which a key was last changed before this transaction, 0 if there is no such key.
    pub async fn mod_revision(&mut self, key: impl Into<Bytes>) -> Result<i64, Error> {
        let key = key.into();
        self.fetch(vec![key.clone()]).await?;
        Ok(mod_revision(self.reads.get(&key).and_then(Option::as_ref)))
    }

    /// Writes a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.put_with(PutRequest { key: key.into(), value: value.into(), ..Default::default() });
    }

    /// Writes a key with everything that can be asked of a put.
    pub fn put_with(&mut self, request: PutRequest) {
        self.writes.insert(request.key.clone(), Write::Put(request));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.writes.insert(key.into(), Write::Delete);
    }

    /// Begins an attempt.
    async fn begin(&mut self, prefetch: &[Bytes]) -> Result<(), Error> {
        self.reads.clear();
        self.writes.clear();
        if self.is_stale || self.refetched.is_empty() {
            self.base = None;
            self.refetched.clear();
        }
        self.is_stale = false;
        self.fetch(prefetch.to_vec()).await
    }

    /// Brings keys into `reads`.
    async fn fetch(&mut self, mut keys: Vec<Bytes>) -> Result<(), Error> {
        keys.sort();
        keys.dedup();
        keys.retain(|key| !self.reads.contains_key(key));
        keys.retain(|key| match self.refetched.remove_entry(key) {
            Some((key, found)) => {
                self.reads.insert(key, found);
                false
            }
            None => true,
        });
        if keys.is_empty() {
            return Ok(());
        }
        let request = TxnRequest {
            success: keys.iter().map(|key| operation(self.read(key))).collect(),
            ..Default::default()
        };
        let answer = match self.client.txn_read(request).await {
            Err(error) if error.etcd() == Some(EtcdError::Compacted) => {
                self.is_stale = true;
                return Err(error);
            }
            answer => answer?,
        };
        if self.isolation.is_serializable() && self.base.is_none() {
            self.base = Some(answer.header.unwrap_or_default().revision);
        }
        self.reads.extend(keys.into_iter().zip(found(answer)));
        Ok(())
    }

    fn read(&self, key: &Bytes) -> Request {
        Request::RequestRange(RangeRequest {
            key: key.clone(),
            revision: self.base.unwrap_or(0),
            serializable: !self.isolation.is_serializable(),
            ..Default::default()
        })
    }

    /// Commits the attempt; `None` if it met others.
    async fn commit(&mut self) -> Result<Option<ResponseHeader>, Error> {
        let refetch = self.isolation.is_serializable();
        let reads: Vec<Bytes> = self.reads.keys().cloned().collect();
        let request = TxnRequest {
            compare: self.conflicts(),
            success: self.writes.iter().map(|(key, write)| operation(write.request(key))).collect(),
            failure: reads
                .iter()
                .filter(|_| refetch)
                .map(|key| {
                    let range = RangeRequest { key: key.clone(), ..Default::default() };
                    operation(Request::RequestRange(range))
                })
                .collect(),
        };
        let answer = self.client.txn(request).await?;
        let header = answer.header.unwrap_or_default();
        if answer.succeeded {
            return Ok(Some(header));
        }
        self.base = None;
        self.refetched.clear();
        if refetch {
            self.refetched.extend(reads.into_iter().zip(found(answer)));
            self.base = Some(header.revision);
        }
        Ok(None)
    }

    /// What must hold for the attempt to be committed.
    fn conflicts(&self) -> Vec<Compare> {
        if self.isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let unchanged = self
            .reads
            .iter()
            .map(|(key, found)| compare(key, CompareResult::Equal, mod_revision(found.as_ref())));
        let base = self.base.filter(|_| self.isolation == Isolation::SerializableSnapshot);
        let untouched = base.into_iter().flat_map(|base| {
            self.writes.keys().map(move |key| compare(key, CompareResult::Less, base + 1))
        });
        unchanged.chain(untouched).collect()
    }
}

impl Write {
    fn request(&self, key: &Bytes) -> Request {
        match self {
            Write::Put(request) => Request::RequestPut(request.clone()),
            Write::Delete => Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone(),
                ..Default::default()
            }),
        }
    }
}

fn compare(key: &Bytes, result: CompareResult, revision: i64) -> Compare {
    Compare {
        result: result.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}

fn mod_revision(found: Option<&KeyValue>) -> i64 {
    found.map_or(0, |kv| kv.mod_revision)
}

/// What each read found, in order.
fn found(answer: TxnResponse) -> impl Iterator<Item = Option<KeyValue>> {
    answer.responses.into_iter().map(|operation| match operation.response {
        Some(Response::ResponseRange(answer)) => answer.kvs.into_iter().next(),
        _ => None,
    })
}
