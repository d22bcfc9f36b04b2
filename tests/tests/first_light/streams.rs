//! Ranges answered as streams.

use kvorum_proto::api::etcdserverpb::RangeResponse;
use kvorum_testkit::Endpoint;
use prost::Message;

use crate::api::*;

/// All chunks of a stream.
async fn chunks(endpoint: &Endpoint, request: RangeRequest) -> Result<Vec<RangeResponse>, Status> {
    let mut stream = endpoint.kv().range_stream(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.message().await? {
        chunks.push(chunk.range_response.expect("a chunk is a part of an answer"));
    }
    Ok(chunks)
}

/// The chunks put together the way protobuf merges messages.
fn merged(chunks: &[RangeResponse]) -> RangeResponse {
    let mut whole = RangeResponse::default();
    for chunk in chunks {
        whole.merge(chunk.encode_to_vec().as_slice()).unwrap();
    }
    whole
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chunks_put_together_are_the_unary_answer() {
    let (_cluster, endpoint) = member().await;
    for number in 0..250 {
        endpoint.put(format!("key{number:03}"), format!("value {number}")).await.unwrap();
    }
    let requests = [
        everything(),
        range("key100", ""),
        range("missing", ""),
        range("key010", "key200"),
        RangeRequest { limit: 37, ..everything() },
        RangeRequest { limit: 10, ..everything() },
        RangeRequest { limit: 250, ..everything() },
        RangeRequest { keys_only: true, ..everything() },
        RangeRequest { revision: 100, ..everything() },
        RangeRequest { serializable: true, ..everything() },
        RangeRequest { sort_order: SortOrder::Ascend.into(), ..everything() },
    ];
    for request in requests {
        let unary = endpoint.range(request.clone()).await.unwrap();
        let chunks = chunks(&endpoint, request.clone()).await.unwrap();
        assert_eq!(merged(&chunks), unary, "{request:?}");
        // Header, count and `more` stand in the last chunk alone.
        let (last, others) = chunks.split_last().expect("at least one chunk");
        assert!(last.header.is_some());
        assert!(
            others.iter().all(|c| c.header.is_none() && c.count == 0 && !c.more),
            "{request:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_chunk_is_small_and_a_large_answer_takes_several() {
    let (_cluster, endpoint) = member().await;
    for number in 0..40 {
        endpoint.put(format!("key{number:03}"), "x".repeat(100_000)).await.unwrap();
    }
    let chunks = chunks(&endpoint, everything()).await.unwrap();
    assert_eq!(chunks[0].kvs.len(), 10);
    assert!(chunks.len() > 2, "{}", chunks.len());
    assert_eq!(merged(&chunks).kvs.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn count_only_is_one_message() {
    let (_cluster, endpoint) = member().await;
    for number in 0..30 {
        endpoint.put(format!("key{number}"), "x").await.unwrap();
    }
    let chunks =
        chunks(&endpoint, RangeRequest { count_only: true, ..everything() }).await.unwrap();
    assert_eq!(chunks.len(), 1);
    assert_eq!((chunks[0].count, chunks[0].kvs.len()), (30, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_streamed_is_refused() {
    let (_cluster, endpoint) = member().await;
    endpoint.put("a", "1").await.unwrap();
    let refused = async |request, code, message| {
        assert_refused(chunks(&endpoint, request).await, code, message);
    };
    let sort = "RangeStream does not support custom sort orders";
    for (target, order) in [
        (SortTarget::Value, SortOrder::None),
        (SortTarget::Mod, SortOrder::Ascend),
        (SortTarget::Key, SortOrder::Descend),
    ] {
        let request =
            RangeRequest { sort_target: target.into(), sort_order: order.into(), ..everything() };
        refused(request, Code::Unimplemented, sort).await;
    }
    let filters = "RangeStream does not support revision filters";
    for request in [
        RangeRequest { min_mod_revision: 1, ..everything() },
        RangeRequest { max_mod_revision: 1, ..everything() },
        RangeRequest { min_create_revision: 1, ..everything() },
        RangeRequest { max_create_revision: 1, ..everything() },
    ] {
        refused(request, Code::Unimplemented, filters).await;
    }
    refused(range("", ""), Code::InvalidArgument, EMPTY_KEY).await;
    let unknown = RangeRequest { sort_order: 7, ..everything() };
    refused(unknown, Code::InvalidArgument, "etcdserver: invalid sort option").await;
    refused(RangeRequest { revision: 9, ..everything() }, Code::OutOfRange, FUTURE).await;
    endpoint.put("a", "2").await.unwrap();
    endpoint.compact(3).await.unwrap();
    refused(RangeRequest { revision: 2, ..everything() }, Code::OutOfRange, COMPACTED).await;
}
