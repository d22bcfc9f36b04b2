//! Reads that last while the store goes on.

use kvorum_proto::api::etcdserverpb::kv_client::KvClient;
use kvorum_testkit::Cluster;
use tonic::transport::Channel;

use crate::api::*;

const KEY_COUNT: usize = 100;
const VALUE_BYTES: usize = 20_000;

/// What a client that does not read on takes ahead, at most.
const WINDOW_BYTES: u32 = 65_535;

/// A stream is read from the revision at which it began, also when that is compacted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_one_revision_whatever_is_written_deleted_and_compacted_meanwhile() {
    let limits =
        kvorum_server::config::Limits { max_request_bytes: 32 * 1024, ..Default::default() };
    let cluster =
        Cluster::of(1).configure(move |builder| builder.in_memory().limits(limits)).start().await;
    let endpoint = cluster.endpoint(0);
    let old = "x".repeat(VALUE_BYTES);
    for number in 0..KEY_COUNT {
        endpoint.put(format!("key{number:03}"), &old).await.unwrap();
    }
    let channel = Channel::from_shared(endpoint.url().to_owned()).unwrap();
    let channel = channel.initial_stream_window_size(WINDOW_BYTES).connect_lazy();
    let stream = KvClient::new(channel).range_stream(everything()).await;
    let mut stream = stream.unwrap().into_inner();
    let mut chunks = vec![stream.message().await.unwrap().unwrap().range_response.unwrap()];
    assert!(chunks[0].kvs.len() < KEY_COUNT);

    for number in 0..KEY_COUNT {
        endpoint.put(format!("key{number:03}"), "new").await.unwrap();
    }
    endpoint.put("key0005", "between").await.unwrap();
    let deleted = endpoint.kv().delete_range(delete("key050", "\0")).await.unwrap().into_inner();
    let newest = revision(&deleted.header);
    endpoint.compact(newest).await.unwrap();
    let old_revision = KEY_COUNT as i64 + 1;
    let at_old = RangeRequest { revision: old_revision, ..everything() };
    assert_refused(endpoint.range(at_old).await, Code::OutOfRange, COMPACTED);

    while let Some(chunk) = stream.message().await.unwrap() {
        chunks.push(chunk.range_response.unwrap());
    }
    let found: Vec<_> = chunks.iter().flat_map(keys).collect();
    let wanted: Vec<_> = (0..KEY_COUNT).map(|number| format!("key{number:03}")).collect();
    assert_eq!(found, wanted);
    assert!(chunks.iter().flat_map(values).all(|value| value == old));
    let last = chunks.last().unwrap();
    assert_eq!((last.count, last.more), (KEY_COUNT as i64, false));
    assert_eq!(revision(&last.header), old_revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_reads_and_what_is_refused_leave_no_entry_in_the_log() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    let before = endpoint.status().await.unwrap().raft_index;

    endpoint.range(everything()).await.unwrap();
    endpoint.txn(always(vec![get_op("a"), range_op(everything())])).await.unwrap();
    let union = TargetUnion::Version(1);
    endpoint.txn(whether(vec![compare("a", CompareResult::Equal, union)])).await.unwrap();
    endpoint.member_list().await.unwrap();
    endpoint.hash_kv(0).await.unwrap();
    endpoint.put("", "1").await.unwrap_err();
    endpoint.txn(always(vec![put_op("a", "1"), put_op("a", "2")])).await.unwrap_err();
    let touch = PutRequest { ignore_value: true, ..put("a", "not empty") };
    endpoint.kv().put(touch).await.unwrap_err();
    endpoint.put("a", vec![b'x'; 1536 * 1024]).await.unwrap_err();
    assert_eq!(endpoint.status().await.unwrap().raft_index, before);

    // A nested transaction counts as a write, whatever it holds.
    endpoint.txn(always(vec![txn_op(always(vec![get_op("a")]))])).await.unwrap();
    let status = endpoint.status().await.unwrap();
    assert_eq!((status.raft_index, revision(&status.header)), (before + 1, 2));
}
