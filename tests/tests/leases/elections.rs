//! The Election service.

use kvorum_proto::api::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ResignRequest,
};
use kvorum_testkit::{Cluster, Endpoint, WAIT_MAX, eventually};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

async fn campaign(
    endpoint: &Endpoint,
    lease: i64,
    value: &str,
) -> Result<CampaignResponse, Status> {
    let request = CampaignRequest { name: "name".into(), lease, value: value.to_owned().into() };
    Ok(endpoint.election().campaign(request).await?.into_inner())
}

fn campaigning(endpoint: &Endpoint, lease: i64, value: &'static str) -> JoinHandle<LeaderKey> {
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        let won = campaign(&endpoint, lease, value).await.expect("a leadership");
        won.leader.expect("it has a key")
    })
}

async fn leader(endpoint: &Endpoint) -> Result<LeaderResponse, Status> {
    Ok(endpoint.election().leader(LeaderRequest { name: "name".into() }).await?.into_inner())
}

async fn proclaim(endpoint: &Endpoint, leader: &LeaderKey, value: &str) -> Result<(), Status> {
    let value = value.to_owned().into();
    let request = ProclaimRequest { leader: Some(leader.clone()), value };
    endpoint.election().proclaim(request).await.map(drop)
}

async fn resign(endpoint: &Endpoint, leader: &LeaderKey) {
    let request = ResignRequest { leader: Some(leader.clone()) };
    endpoint.election().resign(request).await.expect("a resignation");
}

async fn observe(endpoint: &Endpoint) -> Streaming<LeaderResponse> {
    let observing = endpoint.election().observe(LeaderRequest { name: "name".into() }).await;
    observing.expect("a stream").into_inner()
}

async fn observed(observing: &mut Streaming<LeaderResponse>) -> (String, i64) {
    let next = timeout(WAIT_MAX, observing.message()).await.expect("in time");
    let next = next.expect("no error").expect("not the end");
    let kv = next.kv.expect("it has a key");
    (String::from_utf8(kv.value.to_vec()).expect("text"), next.header.expect("it has one").revision)
}

/// Waits until so many have their key below the name.
async fn has_candidates(endpoint: &Endpoint, count: i64) {
    let request = kvorum_proto::api::etcdserverpb::RangeRequest {
        key: "name/".into(),
        range_end: "name0".into(),
        count_only: true,
        ..Default::default()
    };
    eventually("candidates", async || {
        let found = endpoint.range(request.clone()).await.map_err(|status| status.to_string())?;
        if found.count == count { Ok(()) } else { Err(format!("{}", found.count)) }
    })
    .await;
}

#[tokio::test]
async fn a_leadership_goes_from_one_to_the_next() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    for id in 1..=3 {
        endpoint.grant(id, 100).await.unwrap();
    }
    let won = campaign(&endpoint, 1, "one").await.unwrap();
    assert_eq!(won.header.unwrap().revision, 2);
    let first = won.leader.unwrap();
    let wanted = LeaderKey { name: "name".into(), key: "name/1".into(), rev: 2, lease: 1 };
    assert_eq!(first, wanted);
    let second = campaigning(&cluster.endpoint(1), 2, "two");
    has_candidates(&endpoint, 2).await;
    let third = campaigning(&cluster.endpoint(2), 3, "three");
    has_candidates(&endpoint, 3).await;
    let told = leader(&cluster.endpoint(2)).await.unwrap().kv.unwrap();
    assert_eq!((&*told.key, &*told.value, told.lease), (&b"name/1"[..], &b"one"[..], 1));

    proclaim(&cluster.endpoint(1), &first, "one more").await.unwrap();
    assert_eq!(leader(&endpoint).await.unwrap().kv.unwrap().value, "one more");
    assert!(!second.is_finished());
    resign(&endpoint, &first).await;
    let second = second.await.unwrap();
    assert_eq!(leader(&endpoint).await.unwrap().kv.unwrap().value, "two");
    // Who was a leader is none.
    let refused = proclaim(&endpoint, &first, "too late").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "election: not leader"));
    resign(&endpoint, &first).await;

    assert!(!third.is_finished());
    endpoint.revoke(2).await.unwrap();
    assert_eq!(third.await.unwrap().key, "name/3");
    let refused = proclaim(&endpoint, &second, "too late").await.unwrap_err();
    assert_eq!(refused.message(), "election: not leader");
}

#[tokio::test]
async fn a_leader_that_campaigns_again_proclaims() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    endpoint.grant(1, 100).await.unwrap();
    let first = campaign(&endpoint, 1, "one").await.unwrap().leader.unwrap();
    let again = campaign(&endpoint, 1, "two").await.unwrap().leader.unwrap();
    assert_eq!(again, first);
    assert_eq!(leader(&endpoint).await.unwrap().kv.unwrap().value, "two");
    let other = campaign(&endpoint, 0, "three");
    // One that gives up takes its key with it.
    assert!(timeout(std::time::Duration::from_millis(200), other).await.is_err());
    has_candidates(&endpoint, 1).await;
}

#[tokio::test]
async fn observers_are_told_of_every_leader_and_what_it_says() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    for id in 1..=2 {
        endpoint.grant(id, 100).await.unwrap();
    }
    let mut early = observe(&cluster.endpoint(1)).await;
    let first = campaign(&endpoint, 1, "one").await.unwrap().leader.unwrap();
    let (value, revision) = observed(&mut early).await;
    assert_eq!((value.as_str(), revision), ("one", first.rev));
    let mut late = observe(&cluster.endpoint(2)).await;
    assert_eq!(observed(&mut late).await.0, "one");
    for number in 0..5 {
        proclaim(&endpoint, &first, &format!("one {number}")).await.unwrap();
    }
    for observing in [&mut early, &mut late] {
        for number in 0..5 {
            assert_eq!(observed(observing).await.0, format!("one {number}"));
        }
    }
    let second = campaigning(&endpoint, 2, "two");
    has_candidates(&endpoint, 2).await;
    resign(&endpoint, &first).await;
    let second = second.await.unwrap();
    for observing in [&mut early, &mut late] {
        assert_eq!(observed(observing).await.0, "two");
    }
    resign(&endpoint, &second).await;
    endpoint.grant(3, 100).await.unwrap();
    campaign(&endpoint, 3, "three").await.unwrap();
    for observing in [&mut early, &mut late] {
        assert_eq!(observed(observing).await.0, "three");
    }
}

#[tokio::test]
async fn refusals_are_etcds() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    let said = |status: Status| (status.code(), status.message().to_owned());
    let unknown = |text: &str| (Code::Unknown, text.to_owned());
    let refused = leader(&endpoint).await.unwrap_err();
    assert_eq!(said(refused), unknown("election: no leader"));
    let refused = campaign(&endpoint, 999, "value").await.unwrap_err();
    assert_eq!(said(refused), unknown("etcdserver: requested lease not found"));
    let refused = endpoint.election().proclaim(ProclaimRequest::default()).await.unwrap_err();
    assert_eq!(said(refused), unknown("\"leader\" field must be provided"));
    let refused = endpoint.election().resign(ResignRequest::default()).await.unwrap_err();
    assert_eq!(said(refused), unknown("\"leader\" field must be provided"));
    let nobody = LeaderKey { name: "name".into(), key: "name/1".into(), rev: 5, lease: 999 };
    let refused = proclaim(&endpoint, &nobody, "value").await.unwrap_err();
    assert_eq!(said(refused), unknown("election: not leader"));
    resign(&endpoint, &nobody).await;
}
