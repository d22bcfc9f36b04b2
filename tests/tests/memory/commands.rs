//! What an operator types: `kvorumctl heap`.

use std::process::Command;

use kvorum_testkit::{Cluster, executable};
use serde_json::Value;

/// What a command says, and its code.
async fn kvorumctl(cluster: &Cluster, words: &[&str]) -> (String, Option<i32>) {
    let controller = executable().with_file_name("kvorumctl");
    let mut command = Command::new(controller);
    command.args(["--endpoints", &cluster.client_urls().join(","), "heap"]).args(words);
    let done = tokio::task::block_in_place(|| command.output());
    let done = done.expect("kvorumctl is built with the workspace");
    let said = [done.stdout, done.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), done.status.code())
}

/// The answer to a command that succeeds.
async fn answer(cluster: &Cluster, words: &[&str]) -> Value {
    let (said, code) = kvorumctl(cluster, &[words, &["-w", "json"]].concat()).await;
    assert_eq!(code, Some(0), "{words:?}: {said}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{words:?}: {error}: {said}"))
}

fn member() -> kvorum_testkit::ClusterBuilder {
    Cluster::of(1).as_processes()
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_tell_all_figures_and_those_of_arenas_if_asked() {
    let cluster = member().start().await;
    let stats = answer(&cluster, &["stats"]).await;
    let figure = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name}: {stats}"));
    assert!(figure("allocated_bytes") > 0);
    assert!(figure("active_bytes") >= figure("allocated_bytes"));
    assert!(figure("mapped_bytes") >= figure("active_bytes"));
    assert!(figure("process_resident_bytes") > 0);
    assert_eq!(stats["purges"]["asked_for"], 0);
    assert!(stats.get("arena_0").is_none());
    let arenas = answer(&cluster, &["stats", "--arenas"]).await;
    assert!(arenas["arena_0"]["active_bytes"].is_u64(), "{arenas}");
    let (said, code) = kvorumctl(&cluster, &["stats", "all"]).await;
    assert!(code == Some(128) && said.contains("takes no arguments"), "{code:?} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_shown_and_taken_on_and_what_is_none_is_refused() {
    let cluster = member().start().await;
    assert_eq!(answer(&cluster, &["policy"]).await["policy"], "balanced");
    let compact = answer(&cluster, &["policy", "compact", "--persist"]).await;
    assert_eq!((&compact["policy"], &compact["dirty_decay_ms"]), (&"compact".into(), &1000.into()));
    assert_eq!(compact["persisted"]["policy"], "compact");
    let (said, code) = kvorumctl(&cluster, &["policy", "fast"]).await;
    assert!(code != Some(0) && said.contains("one of balanced, latency, compact"), "{said}");
    let (said, code) = kvorumctl(&cluster, &["policy", "compact", "latency"]).await;
    assert!(code != Some(0) && said.contains("one policy at most"), "{said}");
    assert_eq!(answer(&cluster, &["policy"]).await["policy"], "compact");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_named_is_set() {
    let cluster = member().start().await;
    let before = answer(&cluster, &["policy"]).await;
    let set = ["set", "--dirty-decay-ms", "123", "--hard-limit-bytes", "268435456"];
    let after = answer(&cluster, &[&set[..], &["--background-threads=false"]].concat()).await;
    let mut wanted = before.clone();
    wanted["dirty_decay_ms"] = 123.into();
    wanted["hard_limit_bytes"] = 268_435_456_u64.into();
    wanted["background_threads"] = false.into();
    // It follows from the hard limit.
    wanted["soft_limit_bytes"] = after["soft_limit_bytes"].clone();
    assert_eq!(after, wanted);
    let refused = [
        (["set", "--dirty-decay-ms=-1"], "from 0 to 86400000"),
        (["set", "--hard-limit-bytes=7"], "from 67108864 to"),
        (["set", "--soft-limit-bytes=-7"], "--soft-limit-bytes must be 0 or more"),
        (["set", "--persist"], "needs something to set"),
    ];
    for (words, wanted) in refused {
        let (said, code) = kvorumctl(&cluster, &words).await;
        assert!(code != Some(0) && said.contains(wanted), "{words:?}: {code:?} {said}");
    }
    assert_eq!(answer(&cluster, &["policy"]).await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_tells_what_there_was_before_and_after() {
    let cluster = member().start().await;
    let purged = answer(&cluster, &["purge"]).await;
    assert!(purged["resident_bytes_before"].as_u64() > Some(0), "{purged}");
    assert!(purged["resident_bytes_after"].as_u64() > Some(0), "{purged}");
    answer(&cluster, &["purge", "--arena", "0"]).await;
    assert_eq!(answer(&cluster, &["stats"]).await["purges"]["asked_for"], 2);
    let (said, code) = kvorumctl(&cluster, &["purge", "--arena", "4000"]).await;
    assert!(code != Some(0) && said.contains("there is no arena 4000"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_saved_once_sampling_is_on() {
    let cluster = member().start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("heap.pb.gz");
    answer(&cluster, &["set", "--profiling"]).await;
    let (said, code) = kvorumctl(&cluster, &["profile", file.to_str().unwrap()]).await;
    assert_eq!((said.trim(), code), (&*format!("Profile saved at {}", file.display()), Some(0)));
    let saved = std::fs::read(&file).unwrap();
    assert!(saved.starts_with(&[0x1f, 0x8b]), "a gzipped file: {:?}", saved.get(..4));
    let (said, code) = kvorumctl(&cluster, &["profile"]).await;
    assert!(code != Some(0) && said.contains("needs a FILE"), "{said}");
}
