//! A member inside of another program, whose allocator is that program's.

use kvorum_client::Error;
use kvorum_testkit::Cluster;
use tonic::Code;

use crate::client_of;

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_member_leaves_the_allocator_alone_and_says_so() {
    let cluster = Cluster::of(1).start().await;
    let client = client_of(&cluster, 0);
    let refused = [
        client.heap_stats(true).await.map(drop),
        client.heap_policy().await.map(drop),
        client.heap_set_policy("compact", true).await.map(drop),
        client.heap_purge(None).await.map(drop),
        client.heap_profile().await.map(drop),
    ];
    for refused in refused {
        let Err(Error::Status(status)) = refused else { panic!("{refused:?}") };
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("inside of a program whose allocator is its own"));
    }
    cluster.endpoint(0).put("key", "value").await.unwrap();
}
