//! Members that cannot reach one another, in one direction or in both.

use std::time::Duration;

use kvorum_testkit::{Endpoint, Process, eventually, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use crate::load::Load;
use crate::namespaces::Namespaces;
use crate::rounds;

const MEMBERS: usize = 3;

/// Answers between two cuts.
const ANSWERS_BETWEEN: u64 = 40;

/// How long a cut lasts, in milliseconds: longer than an election takes.
const CUT: std::ops::Range<u64> = 1_000..2_500;

/// Members, each in a namespace. The fields are dropped in this order.
struct Members {
    processes: Vec<Process>,
    endpoints: Vec<Endpoint>,
    namespaces: Namespaces,
    _dir: TempDir,
}

impl Members {
    async fn start(namespaces: Namespaces) -> Members {
        let dir =
            TempDir::with_prefix("kvorum-test-").expect("the temporary directory is writable");
        let url = |member, port| format!("http://{}:{port}", namespaces.member_address(member));
        let listed = |member: usize| format!("m{member}={}", url(member, 2380));
        let all = (0..MEMBERS).map(listed).collect::<Vec<_>>().join(",");
        let start = |member: usize| {
            let home = dir.path().join(format!("m{member}"));
            let (clients, peers) = (url(member, 2379), url(member, 2380));
            let flags = [
                ("name", format!("m{member}")),
                ("data-dir", home.display().to_string()),
                ("listen-client-urls", clients.clone()),
                ("advertise-client-urls", clients),
                ("listen-peer-urls", peers.clone()),
                ("initial-advertise-peer-urls", peers),
                ("initial-cluster", all.clone()),
                ("heartbeat-interval", "50".to_owned()),
                ("election-timeout", "500".to_owned()),
                ("log-format", "console".to_owned()),
            ];
            let flags = flags.into_iter().flat_map(|(flag, value)| [format!("--{flag}"), value]);
            let place = ["ip", "netns", "exec", &namespaces.name(member)].map(str::to_owned);
            Process::start_under(&place, flags, &dir.path().join(format!("m{member}.log")))
        };
        let processes: Vec<Process> = (0..MEMBERS).map(start).collect();
        let endpoints: Vec<Endpoint> =
            (0..MEMBERS).map(|member| Endpoint::new(&url(member, 2379))).collect();
        for endpoint in &endpoints {
            eventually(&format!("{} to be ready", endpoint.url()), async || {
                endpoint.get("x").await
            })
            .await;
        }
        Members { processes, endpoints, namespaces, _dir: dir }
    }

    /// All ways from some members to others, as pairs.
    fn ways(random: &mut StdRng) -> Vec<(usize, usize)> {
        let one = random.random_range(0..MEMBERS);
        let others: Vec<usize> = (0..MEMBERS).filter(|member| *member != one).collect();
        let out = others.iter().map(|other| (one, *other));
        let back = others.iter().map(|other| (*other, one));
        match random.random_range(0..4) {
            // It hears, and is not heard.
            0 => out.collect(),
            // It is heard, and does not hear.
            1 => back.collect(),
            // Two do not know of one another; the third knows both.
            2 => vec![(one, others[0]), (others[0], one)],
            _ => out.chain(back).collect(),
        }
    }

    /// All come to the newest revision that one has, with the same hash.
    async fn assert_agree(&self) {
        eventually("the same hash everywhere", async || {
            let mut found = Vec::new();
            for endpoint in &self.endpoints {
                let hash = endpoint.hash_kv(0).await.map_err(|status| status.to_string())?;
                found.push((hash.hash_revision, hash.compact_revision, hash.hash));
            }
            let agree = found.iter().all(|other| Some(other) == found.first());
            if agree { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_members_that_cannot_reach_one_another_are_told_nothing_wrong() {
    let namespaces = match Namespaces::make(MEMBERS) {
        Ok(namespaces) => namespaces,
        Err(why) => {
            eprintln!("skipped: no network namespaces on this machine: {why}");
            return;
        }
    };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let members = Members::start(namespaces).await;
    let load = Load::start(members.endpoints.clone(), seed);
    load.wait_for(ANSWERS_BETWEEN).await;
    for _ in 0..rounds() {
        let ways = Members::ways(&mut random);
        ways.iter().for_each(|(from, to)| members.namespaces.cut(*from, *to));
        tokio::time::sleep(Duration::from_millis(random.random_range(CUT))).await;
        ways.iter().for_each(|(from, to)| members.namespaces.mend(*from, *to));
        load.wait_for(ANSWERS_BETWEEN).await;
    }
    load.finish("cuts").await;
    members.assert_agree().await;
    assert_eq!(members.processes.len(), MEMBERS);
}
