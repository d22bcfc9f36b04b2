//! Reads and writes that happen all at once or not at all.
//!
//! Steps run without a lock: reads ask the servers, writes wait. At the end one transaction of the servers compares what was
//! read with what is there now, and writes all or nothing. If something came in between, the steps run again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::response_op::Response;
use kvorum_proto::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse,
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
/// The commit is one transaction of the servers, which have a limit for those: `--max-txn-ops`, 128 unless they are told
/// otherwise. No more keys than that can be read, nor written, nor, with [`Isolation::SerializableSnapshot`], both together;
/// a key that is both read and written counts once. More are refused with [`EtcdError::TooManyOps`].
///
/// ```no_run
/// # async fn example(client: kvorum_client::Client) -> Result<(), kvorum_client::Error> {
/// use kvorum_client::concurrency::{StmOptions, transaction};
///
/// let next = transaction(&client, StmOptions::new(), |stm| async move {
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
pub async fn transaction<T, E, F>(
    client: &Client,
    options: StmOptions,
    mut steps: impl FnMut(Stm) -> F,
) -> Result<Committed<T>, E>
where
    E: From<Error>,
    F: Future<Output = Result<T, E>>,
{
    let mut known = Reads::default();
    for attempts in 1..=options.attempts_max {
        let stm = Stm::new(client.clone(), options.isolation, known);
        let value = match stm.attempt.fetch(options.prefetch.clone()).await.map(drop) {
            Ok(()) => steps(stm.clone()).await,
            Err(error) => Err(error.into()),
        };
        known = match value {
            Ok(value) => match stm.attempt.commit().await? {
                Commit::Done(header) => return Ok(Committed { value, header, attempts }),
                Commit::Conflict(known) => known,
            },
            Err(_) if stm.attempt.reads.lock().await.is_stale => Reads::default(),
            Err(error) => return Err(error),
        };
        sleep(pause(attempts, rand::random())).await;
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

/// The reads and writes of one attempt. Clones are the same attempt.
///
/// A key that was written is read as it was written, and a key is asked for once.
#[derive(Clone)]
pub struct Stm {
    attempt: Arc<Attempt>,
}

struct Attempt {
    client: Client,
    isolation: Isolation,
    /// Locked while the servers are asked: the first answer says which moment the next question is about.
    reads: tokio::sync::Mutex<Reads>,
    writes: Mutex<BTreeMap<Bytes, Write>>,
}

/// What is known of the servers' keys.
///
/// With a serializable isolation all that is in `found` and in `refetched` was so at `base`.
#[derive(Default)]
struct Reads {
    /// What the steps have read, `None` for no such key.
    found: BTreeMap<Bytes, Option<KeyValue>>,
    /// What the servers gave with the last conflict, and the steps have not read yet.
    refetched: BTreeMap<Bytes, Option<KeyValue>>,
    /// The moment that reads are of, once there was one.
    base: Option<i64>,
    /// That moment is no longer to be had.
    is_stale: bool,
}

enum Write {
    Put(PutRequest),
    Delete,
    /// A put that keeps the value or the lease of a key that was deleted before: there is none to keep.
    Nothing,
}

/// What came of a commit.
enum Commit {
    Done(ResponseHeader),
    /// Others came in between; this is how things are now.
    Conflict(Reads),
}

impl Stm {
    fn new(client: Client, isolation: Isolation, known: Reads) -> Stm {
        let (reads, writes) = (tokio::sync::Mutex::new(known), Mutex::default());
        Stm { attempt: Arc::new(Attempt { client, isolation, reads, writes }) }
    }

    /// The value of a key, `None` if there is no such key.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, Error> {
        Ok(self.get_all([key]).await?.pop().flatten())
    }

    /// The values of many keys, in their order, asked for in one request: so many as the servers take in one transaction.
    pub async fn get_all<K: Into<Bytes>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        let keys: Vec<Bytes> = keys.into_iter().map(Into::into).collect();
        let mut values: Vec<Option<Option<Bytes>>> = {
            let writes = self.attempt.writes();
            keys.iter().map(|key| writes.get(key).and_then(Write::value)).collect()
        };
        let unwritten = keys.iter().zip(&values).filter(|(_, value)| value.is_none());
        let reads = self.attempt.fetch(unwritten.map(|(key, _)| key.clone()).collect()).await?;
        for (key, value) in keys.iter().zip(&mut values) {
            value.get_or_insert_with(|| reads.of(key).map(|kv| kv.value.clone()));
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    /// The revision at which a key was last changed before this transaction, 0 if there is no such key.
    pub async fn mod_revision(&self, key: impl Into<Bytes>) -> Result<i64, Error> {
        let key = key.into();
        let reads = self.attempt.fetch(vec![key.clone()]).await?;
        Ok(mod_revision(reads.of(&key)))
    }

    /// Writes a key.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.put_with(PutRequest { key: key.into(), value: value.into(), ..Default::default() });
    }

    /// Writes a key with everything that can be asked of a put.
    ///
    /// With `ignore_value` or `ignore_lease` the key keeps what the steps gave it before, or else what it has at the servers,
    /// where it must exist: otherwise the commit fails with [`EtcdError::KeyNotFound`].
    pub fn put_with(&self, request: PutRequest) {
        let mut writes = self.attempt.writes();
        let write = Write::after(writes.get(&request.key), request.clone());
        writes.insert(request.key, write);
    }

    /// Deletes a key.
    pub fn delete(&self, key: impl Into<Bytes>) {
        self.attempt.writes().insert(key.into(), Write::Delete);
    }
}

impl Reads {
    fn of(&self, key: &Bytes) -> Option<&KeyValue> {
        self.found.get(key)?.as_ref()
    }

    /// Takes what is known of these keys; gives those of which nothing is.
    fn take(&mut self, mut keys: Vec<Bytes>) -> Vec<Bytes> {
        keys.sort();
        keys.dedup();
        keys.retain(|key| !self.found.contains_key(key));
        keys.retain(|key| match self.refetched.remove_entry(key) {
            Some((key, found)) => {
                self.found.insert(key, found);
                false
            }
            None => true,
        });
        keys
    }
}

impl Attempt {
    fn writes(&self) -> MutexGuard<'_, BTreeMap<Bytes, Write>> {
        self.writes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// All reads, after asking for those of these keys that are not among them.
    async fn fetch(&self, keys: Vec<Bytes>) -> Result<tokio::sync::MutexGuard<'_, Reads>, Error> {
        let mut reads = self.reads.lock().await;
        let keys = reads.take(keys);
        if keys.is_empty() {
            return Ok(reads);
        }
        let base = reads.base.unwrap_or(0);
        let request = TxnRequest {
            success: keys.iter().map(|key| operation(self.read(key, base))).collect(),
            ..Default::default()
        };
        let answer = match self.client.txn_read(request).await {
            Err(error) if error.etcd() == Some(EtcdError::Compacted) => {
                reads.is_stale = true;
                return Err(error);
            }
            answer => answer?,
        };
        if self.isolation.is_serializable() && reads.base.is_none() {
            reads.base = Some(answer.header.unwrap_or_default().revision);
        }
        reads.found.extend(keys.into_iter().zip(found(answer)));
        Ok(reads)
    }

    fn read(&self, key: &Bytes, revision: i64) -> Request {
        Request::RequestRange(RangeRequest {
            key: key.clone(),
            revision,
            serializable: !self.isolation.is_serializable(),
            ..Default::default()
        })
    }

    async fn commit(&self) -> Result<Commit, Error> {
        let reads = self.reads.lock().await;
        let refetched: Vec<Bytes> = match self.isolation.is_serializable() {
            true => reads.found.keys().cloned().collect(),
            false => Vec::new(),
        };
        let request = {
            let writes = self.writes();
            TxnRequest {
                compare: self.conflicts(&reads, &writes),
                success: writes
                    .iter()
                    .map(|(key, write)| write.request(key))
                    .collect::<Result<_, _>>()?,
                failure: refetched.iter().map(|key| operation(self.read(key, 0))).collect(),
            }
        };
        let answer = self.client.txn(request).await?;
        let header = answer.header.unwrap_or_default();
        if answer.succeeded {
            return Ok(Commit::Done(header));
        }
        let base = (!refetched.is_empty()).then_some(header.revision);
        let refetched = refetched.into_iter().zip(found(answer)).collect();
        Ok(Commit::Conflict(Reads { refetched, base, ..Reads::default() }))
    }

    /// What must hold for the attempt to be committed.
    fn conflicts(&self, reads: &Reads, writes: &BTreeMap<Bytes, Write>) -> Vec<Compare> {
        if self.isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let unchanged = reads
            .found
            .iter()
            .map(|(key, found)| compare(key, CompareResult::Equal, mod_revision(found.as_ref())));
        let base = reads.base.filter(|_| self.isolation == Isolation::SerializableSnapshot);
        let untouched = base.into_iter().flat_map(|base| {
            // What was read was so at the base, so that it is unchanged says this too.
            let only_written = writes.keys().filter(|key| !reads.found.contains_key(*key));
            only_written.map(move |key| compare(key, CompareResult::Less, base + 1))
        });
        unchanged.chain(untouched).collect()
    }
}

impl Write {
    /// A put after another write of the same key.
    fn after(before: Option<&Write>, mut put: PutRequest) -> Write {
        match before {
            Some(Write::Delete | Write::Nothing) if put.ignore_value || put.ignore_lease => {
                return Write::Nothing;
            }
            Some(Write::Put(before)) => {
                if put.ignore_value {
                    put.value = before.value.clone();
                    put.ignore_value = before.ignore_value;
                }
                if put.ignore_lease {
                    put.lease = before.lease;
                    put.ignore_lease = before.ignore_lease;
                }
            }
            _ => {}
        }
        Write::Put(put)
    }

    /// What a read finds; `None` if that is what the servers have.
    fn value(&self) -> Option<Option<Bytes>> {
        match self {
            Write::Put(put) if put.ignore_value => None,
            Write::Put(put) => Some(Some(put.value.clone())),
            Write::Delete | Write::Nothing => Some(None),
        }
    }

    fn request(&self, key: &Bytes) -> Result<RequestOp, Error> {
        let request = match self {
            Write::Put(request) => Request::RequestPut(request.clone()),
            Write::Delete => Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone(),
                ..Default::default()
            }),
            Write::Nothing => return Err(Error::Etcd(EtcdError::KeyNotFound)),
        };
        Ok(operation(request))
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
