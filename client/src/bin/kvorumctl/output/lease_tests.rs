//! Fixed answers about leases in every format. The texts are what etcdctl 3.5.1 printed for them.

use kvorum_client::api::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseStatus, LeaseTimeToLiveResponse, ResponseHeader,
};
use prost::Message;

use super::Printer;
use crate::failure::{BAD_FEATURE, Failure};

const ID: i64 = 5685691197655384079;
const FIELDS: &str = r#""ClusterID" : 6012025715201963436
"MemberID" : 6662698563040693991
"Revision" : 9
"RaftTerm" : 2
"#;
const JSON: &str = r#""cluster_id":6012025715201963436,"member_id":6662698563040693991,"revision":9,"raft_term":2"#;

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 6012025715201963436,
        member_id: 6662698563040693991,
        revision: 9,
        raft_term: 2,
    })
}

/// Checks what `print` writes in the formats that are text, with `$FIELDS` and `$JSON` for the header, and that the others
/// are the answer's bytes and refused.
fn check(
    answer: &impl Message,
    print: impl Fn(Printer, &mut Vec<u8>) -> Result<(), Failure>,
    expected: [&str; 3],
) {
    let shown = |format| {
        let mut out = Vec::new();
        print(Printer::new(format, false)?, &mut out)?;
        Ok::<_, Failure>(out)
    };
    for (format, expected) in ["simple", "fields", "json"].into_iter().zip(expected) {
        let expected = expected.replace("$FIELDS", FIELDS).replace("$JSON", JSON);
        assert_eq!(String::from_utf8(shown(format).unwrap()).unwrap(), expected, "{format}");
    }
    assert_eq!(shown("protobuf").unwrap(), answer.encode_to_vec());
    let table = Failure::new(BAD_FEATURE, "table not supported as output format");
    assert_eq!(shown("table"), Err(table));
}

#[test]
fn a_grant() {
    let answer = LeaseGrantResponse { header: header(), id: ID, ttl: 100, error: String::new() };
    check(
        &answer,
        |printer, out| printer.lease_grant(out, &answer),
        [
            "lease 4ee7a2052ad0800f granted with TTL(100s)\n",
            "$FIELDS\"ID\" : 5685691197655384079\n\"TTL\" : 100\n",
            "{$JSON,\"ID\":5685691197655384079,\"TTL\":100,\"Error\":\"\"}\n",
        ],
    );
}

#[test]
fn a_revoke() {
    let answer = LeaseRevokeResponse { header: header() };
    check(
        &answer,
        |printer, out| printer.lease_revoke(out, 0x1234, &answer),
        ["lease 0000000000001234 revoked\n", "$FIELDS", "{\"header\":{$JSON}}\n"],
    );
}

#[test]
fn a_renewal() {
    let answer = LeaseKeepAliveResponse { header: header(), id: ID, ttl: 100 };
    check(
        &answer,
        |printer, out| printer.lease_keep_alive(out, &answer),
        [
            "lease 4ee7a2052ad0800f keepalived with TTL(100)\n",
            "$FIELDS\"ID\" : 5685691197655384079\n\"TTL\" : 100\n",
            "{$JSON,\"ID\":5685691197655384079,\"TTL\":100}\n",
        ],
    );
}

#[test]
fn a_time_to_live() {
    let mut answer = LeaseTimeToLiveResponse {
        header: header(),
        id: ID,
        ttl: 99,
        granted_ttl: 100,
        keys: Vec::new(),
    };
    check(
        &answer,
        |printer, out| printer.lease_time_to_live(out, false, &answer),
        [
            "lease 4ee7a2052ad0800f granted with TTL(100s), remaining(99s)\n",
            "$FIELDS\"ID\" : 5685691197655384079\n\"TTL\" : 99\n\"GrantedTTL\" : 100\n",
            "{$JSON,\"id\":5685691197655384079,\"ttl\":99,\"granted-ttl\":100,\"keys\":null}\n",
        ],
    );
    answer.keys = vec!["k1".into(), "k2".into()];
    check(
        &answer,
        |printer, out| printer.lease_time_to_live(out, true, &answer),
        [
            "lease 4ee7a2052ad0800f granted with TTL(100s), remaining(99s), attached keys([k1 k2])\n",
            "$FIELDS\"ID\" : 5685691197655384079\n\"TTL\" : 99\n\"GrantedTTL\" : 100\n\"Key\" : \"k1\"\n\"Key\" : \"k2\"\n",
            "{$JSON,\"id\":5685691197655384079,\"ttl\":99,\"granted-ttl\":100,\"keys\":[\"azE=\",\"azI=\"]}\n",
        ],
    );
    let gone =
        LeaseTimeToLiveResponse { header: header(), id: 0x1234, ttl: -1, ..Default::default() };
    check(
        &gone,
        |printer, out| printer.lease_time_to_live(out, true, &gone),
        [
            "lease 0000000000001234 already expired\n",
            "$FIELDS\"ID\" : 4660\n\"TTL\" : -1\n\"GrantedTTL\" : 0\n",
            "{$JSON,\"id\":4660,\"ttl\":-1,\"granted-ttl\":0,\"keys\":null}\n",
        ],
    );
}

#[test]
fn a_list() {
    let leases = vec![LeaseStatus { id: ID }, LeaseStatus { id: 0x1234 }];
    let answer = LeaseLeasesResponse { header: header(), leases };
    check(
        &answer,
        |printer, out| printer.leases(out, &answer),
        [
            "found 2 leases\n4ee7a2052ad0800f\n0000000000001234\n",
            "$FIELDS\"ID\" : 5685691197655384079\n\"ID\" : 4660\n",
            "{$JSON,\"leases\":[{\"id\":5685691197655384079},{\"id\":4660}]}\n",
        ],
    );
    let none = LeaseLeasesResponse { header: header(), leases: Vec::new() };
    check(
        &none,
        |printer, out| printer.leases(out, &none),
        ["found 0 leases\n", "$FIELDS", "{$JSON,\"leases\":[]}\n"],
    );
}
