//! Quota, alarms, defragmentation, compaction by itself, and what else keeps a cluster's house.

use std::time::Duration;

use kvorum_proto::api::etcdserverpb as pb;
use kvorum_proto::api::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::api::etcdserverpb::downgrade_request::DowngradeAction;
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_server::config::AutoCompaction;
use kvorum_testkit::{Cluster, Endpoint, eventually};
use tonic::{Code, Status};

const QUOTA_BYTES: u64 = 1 << 20;
const NO_SPACE: (Code, &str) =
    (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");

fn told(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

async fn alarm(
    endpoint: &Endpoint,
    action: AlarmAction,
    alarm: pb::AlarmType,
    member_id: u64,
) -> Vec<pb::AlarmMember> {
    let request = pb::AlarmRequest { action: action.into(), member_id, alarm: alarm.into() };
    endpoint.maintenance().alarm(request).await.expect("an answer").into_inner().alarms
}

async fn alarms(endpoint: &Endpoint) -> Vec<pb::AlarmMember> {
    alarm(endpoint, AlarmAction::Get, pb::AlarmType::None, 0).await
}

/// Puts until the quota is reached: how many keys there are then.
async fn fill(endpoint: &Endpoint) -> usize {
    let value = "v".repeat(64 << 10);
    for number in 0..40 {
        if let Err(status) = endpoint.put(format!("big/{number:02}"), value.clone()).await {
            assert_eq!(told(&status), NO_SPACE);
            return number;
        }
    }
    panic!("the quota is never reached");
}

fn operation(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

async fn delete_all_and_compact(endpoint: &Endpoint) {
    let delete = pb::DeleteRangeRequest {
        key: "big/".into(),
        range_end: "big0".into(),
        ..Default::default()
    };
    let request = pb::TxnRequest {
        success: vec![operation(Request::RequestDeleteRange(delete))],
        ..Default::default()
    };
    let deleted = endpoint.txn(request).await.expect("what only deletes is taken");
    endpoint.compact(deleted.header.unwrap().revision).await.expect("a compaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_quota_puts_are_refused_everywhere_until_the_alarm_is_ended() {
    let cluster = Cluster::of(3).configure(|b| b.quota_backend_bytes(Some(QUOTA_BYTES)));
    let cluster = cluster.start().await;
    let (first, other) = (cluster.endpoint(0), cluster.endpoint(1));
    let keys = fill(&first).await;
    assert!((8..=16).contains(&keys), "{keys} keys");
    let (raised, own) = (alarms(&first).await, cluster.id(0).await);
    assert!(raised.iter().any(|alarm| alarm.member_id == own), "who is refused sees why");
    eventually("the alarm on the others", async || match other.put("small", "1").await {
        Err(status) if told(&status) == NO_SPACE => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let raised = alarms(&other).await;
    assert!(raised.iter().all(|a| a.alarm == pb::AlarmType::Nospace as i32), "{raised:?}");
    assert_eq!(told(&other.grant(0, 10).await.unwrap_err()), NO_SPACE);
    let put =
        operation(Request::RequestPut(pb::PutRequest { key: "k".into(), ..Default::default() }));
    let txn = pb::TxnRequest { failure: vec![put], ..Default::default() };
    assert_eq!(told(&other.txn(txn).await.unwrap_err()), NO_SPACE);
    assert!(other.get("big/00").await.unwrap().is_some(), "reads go on");
    let status = other.status().await.unwrap();
    let named = format!("memberID:{} alarm:NOSPACE ", raised[0].member_id);
    assert!(status.errors.contains(&named), "{:?}", status.errors);
    assert_eq!(status.db_size_quota, i64::try_from(QUOTA_BYTES).unwrap());

    delete_all_and_compact(&other).await;
    eventually("all members to have room", async || {
        for number in 0..3 {
            let status = cluster.endpoint(number).status().await?;
            if status.db_size_in_use > 200_000 {
                return Err(Status::unavailable(format!("{} bytes", status.db_size_in_use)));
            }
        }
        Ok(())
    })
    .await;
    // As in etcd, room alone does not end it.
    assert_eq!(told(&other.put("small", "1").await.unwrap_err()), NO_SPACE);
    for raised in alarms(&first).await {
        let kind = pb::AlarmType::Nospace;
        let ended = alarm(&first, AlarmAction::Deactivate, kind, raised.member_id).await;
        assert_eq!(ended, [raised]);
    }
    other.put("small", "1").await.expect("there is room, and no alarm");
    assert!(alarms(&first).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_told_so_ends_its_alarm_by_itself() {
    let cluster = Cluster::of(1)
        .configure(|builder| builder.quota_backend_bytes(Some(QUOTA_BYTES)).auto_disarm());
    let cluster = cluster.start().await;
    let endpoint = cluster.endpoint(0);
    fill(&endpoint).await;
    eventually("the alarm", async || match alarms(&endpoint).await.len() {
        1 => Ok(()),
        other => Err(other),
    })
    .await;
    delete_all_and_compact(&endpoint).await;
    eventually("a put to be taken again", async || endpoint.put("small", "1").await).await;
    assert!(alarms(&endpoint).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_members_disagree_nothing_is_written_and_reads_go_on() {
    let cluster = Cluster::of(3).start().await;
    let (first, other) = (cluster.endpoint(0), cluster.endpoint(2));
    first.put("a", "1").await.unwrap();
    let kind = pb::AlarmType::Corrupt;
    let raised = alarm(&first, AlarmAction::Activate, kind, 77).await;
    assert_eq!(raised, [pb::AlarmMember { member_id: 77, alarm: kind.into() }]);
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster");
    assert_eq!(told(&other.put("a", "2").await.unwrap_err()), corrupt);
    assert_eq!(told(&other.delete("a").await.unwrap_err()), corrupt);
    assert_eq!(told(&other.compact(1).await.unwrap_err()), corrupt);
    assert_eq!(told(&other.grant(0, 10).await.unwrap_err()), corrupt);
    assert_eq!(other.get("a").await.unwrap().as_deref(), Some("1"));
    alarm(&other, AlarmAction::Deactivate, kind, 77).await;
    first.put("a", "2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_defragmented_while_it_is_written() {
    let cluster = Cluster::of(3).start().await;
    let endpoint = cluster.endpoint(0);
    for number in 0..200 {
        endpoint.put(format!("k{}", number % 20), "x".repeat(4000)).await.unwrap();
    }
    let writing = {
        let endpoint = cluster.endpoint(1);
        tokio::spawn(async move {
            for number in 0..200 {
                endpoint.put(format!("w{number}"), "y".repeat(2000)).await.unwrap();
            }
        })
    };
    for _ in 0..3 {
        let at_once = [endpoint.clone(), endpoint.clone()].map(|endpoint| async move {
            endpoint.maintenance().defragment(pb::DefragmentRequest {}).await
        });
        for defragmented in futures_util::future::join_all(at_once).await {
            defragmented.expect("both take their turn");
        }
    }
    writing.await.unwrap();
    let revision = endpoint.status().await.unwrap().header.unwrap().revision;
    let mut hashes = Vec::new();
    for number in 0..3 {
        let endpoint = cluster.endpoint(number);
        endpoint.get("k0").await.unwrap();
        hashes.push(endpoint.hash_kv(revision).await.unwrap().hash);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    // What all members have equal, the hash of the whole tells too.
    let mut wholes = Vec::new();
    for number in 0..3 {
        let hashing = cluster.endpoint(number).maintenance().hash(pb::HashRequest {}).await;
        wholes.push(hashing.unwrap().into_inner().hash);
    }
    assert!(wholes.iter().all(|hash| *hash == wholes[0]), "{wholes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_forgotten_by_itself() {
    let second = Duration::from_secs(1);
    let cluster = Cluster::of(1)
        .configure(move |builder| builder.auto_compaction(AutoCompaction::Periodic(second)));
    let cluster = cluster.start().await;
    let endpoint = cluster.endpoint(0);
    for number in 0..10 {
        endpoint.put("a", number.to_string()).await.unwrap();
    }
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    eventually("the old revisions to be gone", async || {
        let request = pb::RangeRequest { key: "a".into(), revision: 5, ..Default::default() };
        match endpoint.range(request).await {
            Err(status) if status.message() == compacted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(endpoint.get("a").await.unwrap().as_deref(), Some("9"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_is_checked_noted_and_taken_back_as_in_etcd() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    let ask = async |action: i32, version: &str| {
        let request = pb::DowngradeRequest { action, version: version.to_owned() };
        let answered = endpoint.maintenance().downgrade(request).await;
        answered.map(|answer| answer.into_inner().version)
    };
    let [validate, enable, cancel] =
        [DowngradeAction::Validate, DowngradeAction::Enable, DowngradeAction::Cancel]
            .map(|action| action as i32);
    let refusals = [
        (validate, "3", Code::InvalidArgument, "etcdserver: wrong downgrade target version format"),
        (enable, "3.5.0", Code::InvalidArgument, "etcdserver: invalid downgrade target version"),
        (cancel, "", Code::FailedPrecondition, "etcdserver: no inflight downgrade job"),
        (9, "3.6.0", Code::Unknown, "etcdserver: unknown method"),
    ];
    for (action, version, code, text) in refusals {
        let refused = ask(action, version).await.unwrap_err();
        assert_eq!(told(&refused), (code, text));
    }
    assert_eq!(ask(validate, "3.6").await.unwrap(), "3.7.0");
    assert!(!endpoint.status().await.unwrap().downgrade_info.unwrap().enabled);
    ask(enable, "3.6.0").await.unwrap();
    let noted = endpoint.status().await.unwrap().downgrade_info.unwrap();
    assert_eq!((noted.enabled, &*noted.target_version), (true, "3.6.0"));
    let again = ask(enable, "3.6.0").await.unwrap_err();
    let text = "etcdserver: cluster has a downgrade job in progress";
    assert_eq!(told(&again), (Code::FailedPrecondition, text));
    ask(cancel, "").await.unwrap();
    assert!(!endpoint.status().await.unwrap().downgrade_info.unwrap().enabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_downgrades_at_once_one_is_noted() {
    let cluster = Cluster::of(3).start().await;
    let enable = DowngradeAction::Enable.into();
    let asked = (0..12).map(|number| {
        let endpoint = cluster.endpoint(number % 3);
        async move {
            let request = pb::DowngradeRequest { action: enable, version: "3.6.0".to_owned() };
            endpoint.maintenance().downgrade(request).await
        }
    });
    let answers = futures_util::future::join_all(asked).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(done.len(), 1);
    let text = "etcdserver: cluster has a downgrade job in progress";
    for status in refused.into_iter().filter_map(Result::err) {
        assert_eq!(told(&status), (Code::FailedPrecondition, text));
    }
}

/// As in etcd, nobody else is asked about what is no version.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_version_is_refused_without_a_majority() {
    let mut cluster = Cluster::of(2).start().await;
    cluster.kill(1);
    for action in [DowngradeAction::Validate, DowngradeAction::Enable] {
        let request = pb::DowngradeRequest { action: action.into(), version: "3".to_owned() };
        let asked = cluster.endpoint(0).maintenance().downgrade(request).await;
        let text = "etcdserver: wrong downgrade target version format";
        assert_eq!(told(&asked.unwrap_err()), (Code::InvalidArgument, text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_members_do_not_take_the_alarms_of_members() {
    let cluster = Cluster::of(1).start().await;
    let endpoint = cluster.endpoint(0);
    let raise = async |member_id: u64| {
        let action = AlarmAction::Activate.into();
        let request = pb::AlarmRequest { action, member_id, alarm: pb::AlarmType::Nospace.into() };
        endpoint.maintenance().alarm(request).await.map(|answer| answer.into_inner().alarms)
    };
    let mut refused = None;
    for made_up in 1..=2_000 {
        refused = raise(made_up).await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("there is a bound");
    assert_eq!(told(&refused), (Code::ResourceExhausted, "etcdserver: too many alarms"));
    let own = cluster.id(0).await;
    let raised = raise(own).await.unwrap();
    assert_eq!(raised, [pb::AlarmMember { member_id: own, alarm: pb::AlarmType::Nospace.into() }]);
}
