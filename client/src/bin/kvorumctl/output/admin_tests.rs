//! Changes to the cluster in every format. The texts are what etcdctl 3.5.1 printed for them; of `downgrade`, which it
//! lacks, what etcdctl 3.6 would.

use kvorum_client::api::etcdserverpb::{
    AlarmMember, AlarmResponse, AlarmType, DowngradeResponse, Member, MemberAddResponse,
    MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse,
    ResponseHeader,
};
use prost::Message;

use super::Printer;
use crate::failure::{BAD_FEATURE, Failure};

const FORMATS: [&str; 5] = ["simple", "json", "protobuf", "fields", "table"];

fn header() -> Option<ResponseHeader> {
    let cluster_id = 2591492842302393877;
    Some(ResponseHeader { cluster_id, member_id: 14720799474854129801, revision: 0, raft_term: 4 })
}

fn member(id: u64, name: &str, is_learner: bool) -> Member {
    Member {
        id,
        name: name.into(),
        peer_ur_ls: vec!["http://127.0.0.1:33804".into(), "http://127.0.0.1:33814".into()],
        client_ur_ls: Vec::new(),
        is_learner,
    }
}

const MEMBERS: &str = r#""members":[{"ID":818805532681859057,"name":"n3","peerURLs":["http://127.0.0.1:33804","http://127.0.0.1:33814"]},{"ID":14729207088210748742,"peerURLs":["http://127.0.0.1:33804","http://127.0.0.1:33814"],"isLearner":true}]"#;
const HEADER: &str =
    r#""header":{"cluster_id":2591492842302393877,"member_id":14720799474854129801,"raft_term":4}"#;

fn members() -> Vec<Member> {
    vec![member(818805532681859057, "n3", false), member(14729207088210748742, "", true)]
}

/// Checks every format of an answer that has no fields and no table.
fn check(
    simple: &str,
    json: &str,
    answer: &impl Message,
    print: impl Fn(Printer, &mut Vec<u8>) -> Result<(), Failure>,
) {
    let unsupported = |format: &str| {
        Err(Failure::new(BAD_FEATURE, format!("{format} not supported as output format")))
    };
    for format in FORMATS {
        let mut out = Vec::new();
        let printed = print(Printer::new(format, false).unwrap(), &mut out).map(|()| out);
        let expected = match format {
            "simple" => Ok(simple.as_bytes().to_vec()),
            "json" => Ok(json.as_bytes().to_vec()),
            "protobuf" => Ok(answer.encode_to_vec()),
            _ => unsupported(format),
        };
        assert_eq!(printed, expected, "{format}");
    }
}

#[test]
fn an_added_member_and_how_to_start_it() {
    let answer = MemberAddResponse {
        header: header(),
        member: Some(member(14729207088210748742, "", true)),
        members: members(),
    };
    let simple = r#"Member cc68a7cedbf7a546 added to cluster 23f6d5027f66ce15

ETCD_NAME="n4"
ETCD_INITIAL_CLUSTER="n3=http://127.0.0.1:33804,n3=http://127.0.0.1:33814,n4=http://127.0.0.1:33804,n4=http://127.0.0.1:33814"
ETCD_INITIAL_ADVERTISE_PEER_URLS="http://127.0.0.1:33814,http://127.0.0.1:33804"
ETCD_INITIAL_CLUSTER_STATE="existing"
"#;
    let json = format!(
        r#"{{{HEADER},"member":{{"ID":14729207088210748742,"peerURLs":["http://127.0.0.1:33804","http://127.0.0.1:33814"],"isLearner":true}},{MEMBERS}}}
"#
    );
    check(simple, &json, &answer, |printer, out| {
        let urls = "http://127.0.0.1:33814,http://127.0.0.1:33804";
        printer.member_add(out, "n4", urls, &answer)
    });
}

#[test]
fn members_that_were_removed_updated_and_promoted() {
    let json = format!("{{{HEADER},{MEMBERS}}}\n");
    let answer = MemberRemoveResponse { header: header(), members: members() };
    let simple = "Member              1ff removed from cluster 23f6d5027f66ce15\n";
    check(simple, &json, &answer, |printer, out| printer.member_remove(out, 0x1ff, &answer));
    let answer = MemberUpdateResponse { header: header(), members: members() };
    let simple = "Member d9457467e38e1e31 updated in cluster 23f6d5027f66ce15\n";
    check(simple, &json, &answer, |printer, out| {
        printer.member_update(out, 0xd945_7467_e38e_1e31, &answer)
    });
    let answer = MemberPromoteResponse { header: header(), members: members() };
    let simple = "Member d9457467e38e1e31 promoted in cluster 23f6d5027f66ce15\n";
    check(simple, &json, &answer, |printer, out| {
        printer.member_promote(out, 0xd945_7467_e38e_1e31, &answer)
    });
}

#[test]
fn a_leadership_handed_over_and_a_downgrade() {
    let answer = MoveLeaderResponse::default();
    let simple = "Leadership transferred from b6451a7c240d6712 to b5cfb4b33a06ff1\n";
    check(simple, "{}\n", &answer, |printer, out| {
        printer.move_leader(out, 0xb645_1a7c_240d_6712, 0x0b5c_fb4b_33a0_6ff1, &answer)
    });
    let answer = DowngradeResponse { header: header(), version: "3.7.0".into() };
    let simple = "Downgrade enable success, cluster version 3.7.0\n";
    let json = format!("{{{HEADER},\"version\":\"3.7.0\"}}\n");
    check(simple, &json, &answer, |printer, out| printer.downgrade(out, "enable", &answer));
}

#[test]
fn alarms_in_every_format() {
    let alarm = AlarmMember { member_id: 14720799474854129801, alarm: AlarmType::Nospace.into() };
    let answer = AlarmResponse { header: header(), alarms: vec![alarm] };
    let show = |format, answer: &AlarmResponse| {
        let mut out = Vec::new();
        let printed = Printer::new(format, false).unwrap().alarms(&mut out, answer);
        printed.map(|()| String::from_utf8_lossy(&out).into_owned())
    };
    let simple = "memberID:14720799474854129801 alarm:NOSPACE \n";
    assert_eq!(show("simple", &answer).unwrap(), simple);
    let fields = r#""ClusterID" : 2591492842302393877
"MemberID" : 14720799474854129801
"Revision" : 0
"RaftTerm" : 4
"MemberID" : 14720799474854129801
"AlarmType" : NOSPACE

"#;
    assert_eq!(show("fields", &answer).unwrap(), fields);
    let alarms = r#""alarms":[{"memberID":14720799474854129801,"alarm":1}]"#;
    assert_eq!(show("json", &answer).unwrap(), format!("{{{HEADER},{alarms}}}\n"));
    // What was ended comes without a header.
    let ended = AlarmResponse { header: None, ..answer };
    assert_eq!(show("json", &ended).unwrap(), format!("{{{alarms}}}\n"));
    assert_eq!(show("json", &AlarmResponse::default()).unwrap(), "{}\n");
    assert_eq!(show("simple", &AlarmResponse::default()).unwrap(), "");
    let text = "table not supported as output format";
    assert_eq!(show("table", &ended), Err(Failure::new(BAD_FEATURE, text)));
}
