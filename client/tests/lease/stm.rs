//! Transactions of many steps.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kvorum_client::api::etcdserverpb::compare::TargetUnion;
use kvorum_client::api::etcdserverpb::request_op::Request;
use kvorum_client::api::etcdserverpb::response_op::Response;
use kvorum_client::api::etcdserverpb::{
    PutRequest, RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use kvorum_client::api::mvccpb::KeyValue;
use kvorum_client::concurrency::{Isolation, Stm, StmOptions, transaction};
use kvorum_client::{Error, EtcdError};

use super::streams::{Answer, Server};
use super::{client, decoded, message};

/// Revisions begin here; each transaction is one later.
const REVISION: i64 = 100;

/// A server whose every key has the number of the transaction as its value, and that refuses so many commits.
#[derive(Clone, Default)]
struct Script {
    asked: Arc<Mutex<Vec<TxnRequest>>>,
    conflicts: usize,
    /// The reads, counted from 0, that find their revision compacted.
    compacted: Vec<usize>,
}

impl Script {
    fn answer(&self, bytes: Bytes) -> Answer {
        let request: TxnRequest = decoded(bytes);
        let mut asked = self.asked.lock().unwrap();
        asked.push(request.clone());
        let number = asked.len();
        if self.compacted.contains(&(number - 1)) {
            return Err(EtcdError::Compacted.into());
        }
        let commits = asked.iter().filter(|txn| !txn.compare.is_empty()).count();
        let succeeded = request.compare.is_empty() || commits > self.conflicts;
        let revision = REVISION + i64::try_from(number).unwrap();
        let operations = if succeeded { request.success } else { request.failure };
        let respond = |operation: Option<Request>| match operation {
            Some(Request::RequestRange(range)) => {
                let kv = KeyValue {
                    key: range.key,
                    value: number.to_string().into(),
                    mod_revision: revision - 50,
                    ..Default::default()
                };
                Some(Response::ResponseRange(RangeResponse { kvs: vec![kv], ..Default::default() }))
            }
            _ => None,
        };
        let responses =
            operations.into_iter().map(|one| ResponseOp { response: respond(one.request) });
        message(&TxnResponse {
            header: Some(ResponseHeader { revision, ..Default::default() }),
            succeeded,
            responses: responses.collect(),
        })
    }

    async fn serve(&self) -> Server {
        let script = self.clone();
        Server::answering(move |_, bytes| script.answer(bytes)).await
    }

    fn asked(&self) -> Vec<TxnRequest> {
        self.asked.lock().unwrap().clone()
    }
}

fn ranges(request: &TxnRequest) -> Vec<RangeRequest> {
    let range = |operation: &Option<Request>| match operation {
        Some(Request::RequestRange(range)) => Some(range.clone()),
        _ => None,
    };
    request.success.iter().filter_map(|operation| range(&operation.request)).collect()
}

/// The keys and revisions that a commit compares, sorted.
fn compared(request: &TxnRequest) -> Vec<(Bytes, i64)> {
    let mut compared: Vec<(Bytes, i64)> = request
        .compare
        .iter()
        .map(|compare| match compare.target_union {
            Some(TargetUnion::ModRevision(revision)) => (compare.key.clone(), revision),
            ref other => panic!("{other:?}"),
        })
        .collect();
    compared.sort();
    compared
}

fn options(isolation: Isolation) -> StmOptions {
    StmOptions::new().isolation(isolation)
}

/// Reads two keys and writes a third and the first.
async fn steps(stm: Stm) -> Result<(Bytes, Bytes), Error> {
    let a = stm.get("a").await?.unwrap();
    let b = stm.get("b").await?.unwrap();
    stm.put("c", "new");
    stm.delete("a");
    assert_eq!(stm.get("c").await?.unwrap(), "new", "it sees its own writes");
    assert_eq!(stm.get("a").await?, None);
    Ok((a, b))
}

#[tokio::test]
async fn a_snapshot_is_of_one_moment_and_guards_what_is_read_and_written() {
    let script = Script::default();
    let server = script.serve().await;
    let client = client(&[&server]);
    // It can be done by a task.
    let committed =
        tokio::spawn(async move { transaction(&client, StmOptions::new(), steps).await });
    let committed = committed.await.unwrap().unwrap();
    assert_eq!((committed.value, committed.attempts), (("1".into(), "2".into()), 1));
    let asked = script.asked();
    assert_eq!(asked.len(), 3);
    let (first, second) = (&ranges(&asked[0])[0], &ranges(&asked[1])[0]);
    assert!(first.revision == 0 && !first.serializable);
    assert!(second.revision == REVISION + 1 && !second.serializable);
    let unchanged = [("a".into(), REVISION - 49), ("b".into(), REVISION - 48)];
    let untouched = ("c".into(), REVISION + 2);
    assert_eq!(compared(&asked[2]), [&unchanged[..], &[untouched]].concat());
    assert_eq!((asked[2].success.len(), asked[2].failure.len()), (2, 2));
}

#[tokio::test]
async fn weaker_isolation_compares_less_and_reads_anywhere() {
    for (isolation, count) in [
        (Isolation::Serializable, 2),
        (Isolation::RepeatableReads, 2),
        (Isolation::ReadCommitted, 0),
    ] {
        let script = Script::default();
        let server = script.serve().await;
        transaction(&client(&[&server]), options(isolation), steps).await.unwrap();
        let asked = script.asked();
        assert_eq!(asked[2].compare.len(), count, "{isolation:?}");
        let second = &ranges(&asked[1])[0];
        let of_one_moment = isolation == Isolation::Serializable;
        assert_eq!((second.revision > 0, second.serializable), (of_one_moment, !of_one_moment));
    }
}

#[tokio::test]
async fn after_a_conflict_the_steps_run_again_on_what_the_servers_gave_with_it() {
    let script = Script { conflicts: 1, ..Default::default() };
    let server = script.serve().await;
    let committed = transaction(&client(&[&server]), StmOptions::new(), steps).await.unwrap();
    assert_eq!((committed.value, committed.attempts), (("3".into(), "3".into()), 2));
    let asked = script.asked();
    assert_eq!(asked.len(), 4, "two reads, two commits");
    // Of the moment of the conflict, which was the third transaction.
    assert!(compared(&asked[3]).contains(&("c".into(), REVISION + 4)));
}

#[tokio::test]
async fn conflicts_are_given_up_after_so_many() {
    let script = Script { conflicts: usize::MAX, ..Default::default() };
    let server = script.serve().await;
    let given_up = transaction(&client(&[&server]), StmOptions::new().attempts(3), steps).await;
    assert!(matches!(given_up, Err(Error::TooManyConflicts { attempts: 3 })));
    assert_eq!(script.asked().iter().filter(|txn| !txn.compare.is_empty()).count(), 3);
}

#[tokio::test]
async fn a_moment_that_was_compacted_away_is_replaced_by_a_new_one() {
    let script = Script { compacted: vec![1], ..Default::default() };
    let server = script.serve().await;
    let committed = transaction(&client(&[&server]), StmOptions::new(), steps).await.unwrap();
    assert_eq!(committed.attempts, 2);
    assert_eq!(ranges(&script.asked()[2])[0].revision, 0);
}

#[tokio::test]
async fn an_error_of_the_steps_ends_it_without_a_commit() {
    let script = Script::default();
    let server = script.serve().await;
    let options = StmOptions::new().prefetch(["a", "b"]);
    let ended = transaction(&client(&[&server]), options, |stm| async move {
        steps(stm.clone()).await?;
        assert_eq!(stm.mod_revision("b").await?, REVISION - 49);
        Err::<(), _>(Error::NobodyElected)
    })
    .await;
    assert!(matches!(ended, Err(Error::NobodyElected)));
    let asked = script.asked();
    assert_eq!((asked.len(), ranges(&asked[0]).len()), (1, 2), "one read of both");
}

/// Servers refuse transactions of more than 128 comparisons.
#[tokio::test]
async fn a_key_that_is_read_and_written_is_compared_once() {
    let script = Script::default();
    let server = script.serve().await;
    transaction(&client(&[&server]), StmOptions::new(), |stm| async move {
        let keys: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        stm.get_all(keys.clone()).await?;
        keys.into_iter().for_each(|key| stm.put(key, "new"));
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    assert_eq!(script.asked()[1].compare.len(), 100);
}

#[tokio::test]
async fn a_put_that_keeps_what_is_there_is_read_as_that() {
    let script = Script::default();
    let server = script.serve().await;
    transaction(&client(&[&server]), StmOptions::new(), |stm| async move {
        let leased = PutRequest { key: "a".into(), lease: 7, ..Default::default() };
        stm.put_with(PutRequest { ignore_value: true, ..leased.clone() });
        assert_eq!(stm.get("a").await?.unwrap(), "1", "it has the servers' value");
        stm.put_with(PutRequest { key: "b".into(), value: "new".into(), ..Default::default() });
        stm.put_with(PutRequest { key: "b".into(), ignore_value: true, ..leased });
        assert_eq!(stm.get("b").await?.unwrap(), "new", "it has the value it was given before");
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    let puts: Vec<PutRequest> = script.asked()[1]
        .success
        .iter()
        .map(|operation| match &operation.request {
            Some(Request::RequestPut(put)) => put.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(puts[0].ignore_value && puts[0].lease == 7);
    assert!(!puts[1].ignore_value && puts[1].value == "new" && puts[1].lease == 7);
}

#[tokio::test]
async fn a_put_that_keeps_what_was_deleted_before_is_refused() {
    let server = Script::default().serve().await;
    let refused = transaction(&client(&[&server]), StmOptions::new(), |stm| async move {
        stm.delete("a");
        let keeps = PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
        stm.put_with(keeps);
        assert_eq!(stm.get("a").await?, None);
        Ok::<_, Error>(())
    })
    .await;
    assert_eq!(refused.unwrap_err().etcd(), Some(EtcdError::KeyNotFound));
}
