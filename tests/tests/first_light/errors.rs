//! Errors that belong to no single request: size, missing leaders, calls that do not exist yet.

use kvorum_proto::api::etcdserverpb::{AuthStatusRequest, auth_client::AuthClient};
use prost::Message;
use tonic::Request;

use crate::api::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_the_largest_size_is_taken_and_a_larger_one_refused() {
    let (_cluster, endpoint) = member().await;
    let limit = 1536 * 1024;
    endpoint.put("a", vec![b'x'; limit - 1024]).await.unwrap();
    let answer = endpoint.put("a", vec![b'x'; limit]).await;
    assert_refused(answer, Code::InvalidArgument, "etcdserver: request is too large");
    let operations = (0..3).map(|number| put_op(&format!("k{number}"), &"x".repeat(limit / 2)));
    let answer = endpoint.txn(always(operations.collect())).await;
    // Past the limit of a message, of which this transaction is one, gRPC itself refuses.
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(
        status.message().starts_with("grpc: received message larger than max ("),
        "{}",
        status.message()
    );
    assert_eq!(endpoint.range(everything()).await.unwrap().count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_write_has_the_same_limit_and_every_message_another() {
    const REQUEST_BYTES_MAX: usize = 1536 * 1024;
    const MESSAGE_BYTES_MAX: usize = REQUEST_BYTES_MAX + 512 * 1024;
    let (_cluster, endpoint) = member().await;
    let mut kv = endpoint.kv();
    let [long, too_long] = [REQUEST_BYTES_MAX, MESSAGE_BYTES_MAX].map(|bytes| "x".repeat(bytes));
    let refused = |answer| {
        assert_refused(answer, Code::InvalidArgument, "etcdserver: request is too large");
    };
    refused(kv.put(put("a", &long)).await.map(drop));
    refused(kv.txn(always(vec![put_op("a", &long)])).await.map(drop));
    refused(kv.delete_range(delete(&long, "")).await.map(drop));
    // One that only reads does not become an entry, and has the other limit alone.
    assert_eq!(endpoint.range(range(&long, "")).await.unwrap().count, 0);
    endpoint.txn(always(vec![get_op(&long)])).await.unwrap();

    let beyond = |bytes: usize, answer| {
        let text =
            format!("grpc: received message larger than max ({bytes} vs. {MESSAGE_BYTES_MAX})");
        assert_refused(answer, Code::ResourceExhausted, &text);
    };
    let request = put("a", &too_long);
    beyond(request.encoded_len(), kv.put(request).await.map(drop));
    let request = range(&too_long, "");
    beyond(request.encoded_len(), kv.range(request).await.map(drop));
    let request = always(vec![get_op(&too_long)]);
    beyond(request.encoded_len(), kv.txn(request).await.map(drop));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_there_yet_is_named() {
    let (_cluster, endpoint) = member().await;
    let mut auth = AuthClient::new(endpoint.channel());
    let status = auth.auth_status(AuthStatusRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("AuthStatus"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_wants_a_leader_is_served_while_there_is_one() {
    let (_cluster, endpoint) = member().await;
    let mut request = Request::new(range("a", ""));
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    endpoint.kv().range(request).await.unwrap();
}
