//! Where ids come from: the same urls and token give the same ids as in etcd.

use kvorum_types::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// No member's URL begins like this, so that what follows is hashed as nothing else is.
const RESTORED: &str = "restored from a backup";

/// The id of the member that others reach at `peer_urls` in the cluster started with `token`.
///
/// - The order of `peer_urls` does not matter.
/// - A member that joins later is told apart from an earlier one at the same address by `joined_at`, in seconds since
///   1970; a member of the first configuration has none.
pub fn member_id<U: AsRef<str>>(peer_urls: &[U], token: &str, joined_at: Option<u64>) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(AsRef::as_ref).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(token);
    if let Some(seconds) = joined_at {
        hash.update(seconds.to_string());
    }
    MemberId(first_eight(hash))
}

/// The id of the cluster whose first members are `members`, in any order.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut members = members.to_vec();
    members.sort_unstable();
    let mut hash = Sha1::new();
    for member in members {
        hash.update(member.0.to_be_bytes());
    }
    ClusterId(first_eight(hash))
}

/// The id of a cluster that begins with a backup, where `founded` is the id of one that begins with nothing and `marks` tell
/// the state it begins with from others.
///
/// - It is another one than `founded`, so that members of the cluster that the backup is of, which may have that id, do not
///   talk to the new ones. In that, etcd trusts in another token.
/// - It is the same on all members that begin with the same.
pub fn restored_cluster_id(founded: ClusterId, marks: &[u64]) -> ClusterId {
    let mut hash = Sha1::new();
    hash.update(RESTORED);
    hash.update(founded.0.to_be_bytes());
    for mark in marks {
        hash.update(mark.to_be_bytes());
    }
    ClusterId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    let digest: [u8; 20] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    // Every etcd started without flags shows these two.
    #[test]
    fn a_member_started_without_flags_has_etcds_well_known_ids() {
        let member = member_id(&["http://localhost:2380"], "etcd-cluster", None);
        assert_eq!(member, MemberId(0x8e9e_05c5_2164_694d));
        assert_eq!(cluster_id(&[member]), ClusterId(0xcdf8_1819_4e3a_8c32));
    }

    // What etcd 3.5.1 listed for --initial-cluster
    // a=http://127.0.0.1:31380,b=http://127.0.0.1:31381,b=http://127.0.0.1:31382,c=http://127.0.0.1:31383.
    #[test]
    fn three_members_and_a_token_have_the_ids_that_etcd_listed() {
        let token = "tok-1";
        let a = member_id(&["http://127.0.0.1:31380"], token, None);
        let b = member_id(&["http://127.0.0.1:31382", "http://127.0.0.1:31381"], token, None);
        let c = member_id(&["http://127.0.0.1:31383"], token, None);
        assert_eq!(a, MemberId(17_682_899_107_222_035_216));
        assert_eq!(b, MemberId(3_925_924_438_847_983_499));
        assert_eq!(c, MemberId(5_208_857_219_595_260_096));
        assert_eq!(cluster_id(&[a, b, c]), ClusterId(12_838_659_231_624_881_376));
        assert_eq!(cluster_id(&[c, a, b]), cluster_id(&[a, b, c]));
    }

    #[test]
    fn a_restored_cluster_has_an_id_of_its_own_by_what_it_begins_with() {
        let founded = ClusterId(7);
        let restored = restored_cluster_id(founded, &[1, 2]);
        assert_ne!(restored, founded);
        assert_eq!(restored, restored_cluster_id(founded, &[1, 2]));
        for marks in [&[1, 3][..], &[2, 1], &[1], &[]] {
            assert_ne!(restored, restored_cluster_id(founded, marks), "{marks:?}");
        }
        assert_ne!(restored, restored_cluster_id(ClusterId(8), &[1, 2]));
    }

    #[test]
    fn a_member_that_joins_later_gets_another_id_at_the_same_address() {
        let urls = ["http://127.0.0.1:2380"];
        let first = member_id(&urls, "", None);
        let later = member_id(&urls, "", Some(1_700_000_000));
        assert_ne!(first, later);
        assert_ne!(later, member_id(&urls, "", Some(1_700_000_001)));
    }
}
