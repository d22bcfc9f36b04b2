//! Reads the store at every revision, before a compaction takes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kvorum_proto::api::etcdserverpb as pb;
use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_testkit::WAIT_MAX;
use pb::request_op::Request as Op;
use pb::response_op::Response as Answer;
use tokio::sync::watch;
use tokio::time::Instant;

use super::scenario::Shared;

/// How many revisions are read at once.
const READS_AT_ONCE: usize = 8;

/// How long lies between two looks for something new.
const INTERVAL: Duration = Duration::from_millis(10);

/// What two ranges show of a revision.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was put by it, whole.
    pub puts: Vec<KeyValue>,
    /// Every key that is there after it, without its value.
    pub keys: BTreeMap<Bytes, KeyValue>,
}

/// Reads on until everything up to the revision that `end` names at last has been read. The first is revision 2.
pub async fn read(shared: Arc<Shared>, end: watch::Receiver<Option<i64>>) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    loop {
        let known = all.len() as i64 + 1;
        if end.borrow().is_some_and(|end| end <= known) {
            return all;
        }
        let newest = newest(&shared).await;
        let reads = (known + 1..=newest).map(|revision| at(shared.clone(), revision));
        let mut seen = stream::iter(reads).buffered(READS_AT_ONCE);
        while let Some(seen) = seen.next().await {
            all.push(seen);
            shared.known.store(all.len() as i64 + 1, Ordering::SeqCst);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The newest revision that some member has.
async fn newest(shared: &Shared) -> i64 {
    let request = pb::RangeRequest { key: "none".into(), serializable: true, ..Default::default() };
    let mut newest = 1;
    for endpoint in &shared.endpoints {
        if let Ok(answer) = endpoint.range(request.clone()).await {
            newest = newest.max(answer.header.map_or(0, |header| header.revision));
        }
    }
    newest
}

/// The store at a revision. Members that are down, or not that far, are passed over.
async fn at(shared: Arc<Shared>, revision: i64) -> Seen {
    let request = |keys_only, min_mod_revision| {
        let everything = Bytes::from_static(b"\0");
        let range = pb::RangeRequest {
            key: everything.clone(),
            range_end: everything,
            revision,
            serializable: true,
            keys_only,
            min_mod_revision,
            ..Default::default()
        };
        pb::RequestOp { request: Some(Op::RequestRange(range)) }
    };
    let success = vec![request(true, 0), request(false, revision)];
    let request = pb::TxnRequest { success, ..Default::default() };
    let deadline = Instant::now() + WAIT_MAX;
    for endpoint in shared.endpoints.iter().cycle() {
        match endpoint.txn(request.clone()).await {
            Ok(answer) => return seen(answer),
            Err(status) if Instant::now() > deadline => panic!("at {revision}: {status:?}"),
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
    unreachable!("there are members")
}

fn seen(answer: pb::TxnResponse) -> Seen {
    let ranges = answer.responses.into_iter().map(|answer| match answer.response {
        Some(Answer::ResponseRange(range)) => range.kvs,
        other => panic!("the answer to a range is one: {other:?}"),
    });
    let [keys, puts] = ranges.collect::<Vec<_>>().try_into().expect("two answers to two ranges");
    Seen { puts, keys: keys.into_iter().map(|kv| (kv.key.clone(), kv)).collect() }
}
