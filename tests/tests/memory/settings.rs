//! What is set while a member runs, and what of it outlives its restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kvorum_client::Error;
use kvorum_client::admin::{PolicyResponse, SetRequest, Settings};
use kvorum_testkit::{Cluster, eventually};
use tonic::Code;

use crate::{client_of, variable};

const CONF: &str = "_RJEM_MALLOC_CONF";

fn in_force(policy: &PolicyResponse) -> Settings {
    policy.in_force.clone().expect("every answer says what holds")
}

fn set(settings: Settings) -> SetRequest {
    SetRequest { settings: Some(settings), arena: None, persist: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_outlives_a_restart_and_what_needs_one_is_taken_at_the_next() {
    let flags = ["--heap-arenas=2", "--heap-policy=latency", "--memory-soft-limit=100MiB"];
    let mut cluster = Cluster::of(1).as_processes().flags(flags).start().await;
    let client = client_of(&cluster, 0);
    // The process started itself again, once, and is the same one.
    let process = cluster.process(0).id();
    assert_eq!(variable(process, CONF).as_deref(), Some("narenas:2"));
    assert_eq!(client.heap_stats(false).await.unwrap().arena_limit, 2);
    assert_eq!(in_force(&client.heap_policy().await.unwrap()).policy(), "latency");

    client.heap_set_policy("compact", true).await.unwrap();
    let later = Settings {
        muzzy_decay_ms: Some(77),
        thread_cache_bytes: Some(4096),
        quiet_purge_ms: Some(5000),
        hard_limit_bytes: Some(300 << 20),
        ..Settings::default()
    };
    let persisted = SetRequest { persist: true, ..set(later) };
    let kept = client.heap_set(persisted).await.unwrap();
    assert_eq!(client.heap_stats(false).await.unwrap().thread_cache_bytes_max, 32 * 1024);
    // Not kept: the flag's holds again after the restart.
    let not_kept = Settings { soft_limit_bytes: Some(0), ..Settings::default() };
    client.heap_set(set(not_kept)).await.unwrap();

    cluster.stop(0).await;
    cluster.restart(0).await;
    let process = cluster.process(0).id();
    assert_eq!(variable(process, CONF).as_deref(), Some("narenas:2,tcache_max:4096"));
    let now = client.heap_policy().await.unwrap();
    let wanted = Settings { soft_limit_bytes: Some(100 << 20), ..in_force(&kept) };
    assert_eq!((in_force(&now), &now.persisted), (wanted, &kept.persisted));
    assert_eq!((in_force(&now).dirty_decay_ms(), in_force(&now).muzzy_decay_ms()), (1000, 77));
    assert_eq!(client.heap_stats(false).await.unwrap().thread_cache_bytes_max, 4096);

    cluster.stop(0).await;
    let file = cluster.data_dir(0).join("heap.settings");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("compact", "latency")).unwrap();
    cluster.launch(0).await;
    assert_eq!(cluster.process(0).wait(Duration::from_secs(30)).code(), Some(1));
    let log = cluster.process(0).log();
    assert!(log.contains("heap.settings holds no settings: it is damaged"), "{log}");
    cluster.kill(0);
    std::fs::remove_file(&file).unwrap();
    cluster.restart(0).await;
    assert_eq!(in_force(&client.heap_policy().await.unwrap()).policy(), "latency");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_values_are_refused_with_the_range_and_change_nothing() {
    let cluster = Cluster::of(1).as_processes().start().await;
    let client = client_of(&cluster, 0);
    let before = client.heap_policy().await.unwrap();
    let good = Settings { dirty_decay_ms: Some(5), ..Settings::default() };
    let cases = [
        (Settings { muzzy_decay_ms: Some(-1), ..good.clone() }, "from 0 to 86400000 milliseconds"),
        (Settings { dirty_decay_ms: Some(i64::MAX), ..good.clone() }, "from 0 to 86400000"),
        (
            Settings { policy: Some("fast".to_owned()), ..good.clone() },
            "balanced, latency, compact",
        ),
        (Settings { hard_limit_bytes: Some(1), ..good.clone() }, "from 67108864 to"),
        (Settings { hard_limit_bytes: Some(u64::MAX), ..good.clone() }, "the memory there is"),
        (
            Settings {
                soft_limit_bytes: Some(200 << 20),
                hard_limit_bytes: Some(100 << 20),
                ..good.clone()
            },
            "at most the hard limit, which is 104857600",
        ),
        (Settings { quiet_purge_ms: Some(1), ..good.clone() }, "from 1000 to 86400000 ms"),
        (Settings { arenas: Some(4), ..good.clone() }, "they must be persisted"),
        (Settings::default(), "nothing is to be set"),
    ];
    let mut requests: Vec<_> = cases.map(|(settings, wanted)| (set(settings), wanted)).into();
    let persisted = |settings| SetRequest { persist: true, ..set(settings) };
    let none = Settings { arenas: Some(0), ..good.clone() };
    requests.push((persisted(none), "from 1 to 1024"));
    let caches = Settings { thread_cache_bytes: Some(1 << 20), ..good.clone() };
    requests.push((persisted(caches), "from 0 to 32768"));
    let of_arena = |settings| SetRequest { arena: Some(4000), ..set(settings) };
    requests.push((of_arena(good.clone()), "there is no arena 4000: those in use are [0"));
    let profiling = Settings { profiling: Some(true), ..good.clone() };
    requests.push((of_arena(profiling), "only dirty_decay_ms and muzzy_decay_ms"));
    for (request, wanted) in requests {
        let refused = client.heap_set(request.clone()).await;
        let Err(Error::Status(status)) = refused else { panic!("{request:?}: {refused:?}") };
        assert_eq!(status.code(), Code::InvalidArgument, "{request:?}: {status}");
        assert!(status.message().contains(wanted), "{request:?}: {status}");
        assert_eq!(client.heap_policy().await.unwrap(), before);
    }
    assert!(client.heap_set_policy("fast", true).await.is_err());
    assert!(client.heap_purge(Some(4000)).await.is_err());
    assert_eq!(client.heap_policy().await.unwrap(), before);
    assert!(!cluster.data_dir(0).join("heap.settings").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_that_is_changed_while_running_loses_a_request() {
    let cluster = Cluster::of(1).as_processes().start().await;
    let client = client_of(&cluster, 0);
    let (ends, put_count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (client, ends, put_count) = (client.clone(), ends.clone(), put_count.clone());
            tokio::spawn(async move {
                let (key, mut last) = (format!("writer-{number}"), 0);
                while !ends.load(Ordering::Relaxed) {
                    last += 1;
                    client.put(key.clone(), last.to_string()).await.expect("every put succeeds");
                    put_count.fetch_add(1, Ordering::Relaxed);
                }
                (key, last)
            })
        })
        .collect();
    for round in 0..30_i64 {
        let policy = ["latency", "compact", "balanced"][(round % 3) as usize];
        client.heap_set_policy(policy, round % 10 == 0).await.unwrap();
        let settings = Settings {
            background_threads: Some(round % 2 == 0),
            dirty_decay_ms: Some(round * 100),
            muzzy_decay_ms: Some(round * 10),
            profiling: Some(round % 2 == 1),
            hard_limit_bytes: Some(if round % 2 == 0 { 0 } else { 1 << 30 }),
            ..Settings::default()
        };
        let now = in_force(&client.heap_set(set(settings.clone())).await.unwrap());
        assert_eq!(now.dirty_decay_ms, settings.dirty_decay_ms);
        assert_eq!(now.background_threads, settings.background_threads);
        client.heap_purge(None).await.unwrap();
    }
    let profile = client.heap_profile().await.unwrap();
    assert!(profile.pprof.starts_with(&[0x1f, 0x8b]), "gzipped");
    let so_far = put_count.load(Ordering::Relaxed);
    eventually("puts to go on", async || {
        let now = put_count.load(Ordering::Relaxed);
        if now > so_far { Ok(()) } else { Err(now) }
    })
    .await;
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        let (key, last) = writer.await.unwrap();
        let found = client.get(key).await.unwrap().expect("it was put");
        assert_eq!(found.value, last.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_purged_when_no_requests_come() {
    let flags = ["--heap-policy=latency", "--heap-quiet-purge=1s"];
    let cluster = Cluster::of(1).as_processes().flags(flags).start().await;
    let client = client_of(&cluster, 0);
    // To ask is a request too: so it is asked less often than the quiet time is long.
    eventually("a purge", async || {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let purges = client.heap_stats(false).await.unwrap().purges.unwrap_or_default();
        if purges.quiet > 0 { Ok(()) } else { Err(purges) }
    })
    .await;
}
