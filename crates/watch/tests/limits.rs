//! What happens at every limit.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_mvcc::{Backend, BackendError, BlockKey, MemBackend, Opened, Store, create};
use kvorum_watch::{Create, Ended, Hub, Options, Reply, Step, TooManyStreams};
use support::{ALL, Bench, from, small_blocks, watch, watch_all};

#[test]
fn a_stream_that_never_reads_holds_no_more_than_its_limit_and_delays_nobody() {
    let mut bench = Bench::new(Options::default());
    let (silent, reading) = (bench.open(), bench.open());
    for client in [&silent, &reading] {
        for _ in 0..3 {
            client.stream.create(watch("a"));
        }
    }
    bench.settle();
    reading.stream.drain(ALL);
    let value = "v".repeat(256);
    let limits = Options::default();
    for round in 0..1000 {
        for _ in 0..20 {
            bench.commit(&[("a", Some(&value))]);
        }
        bench.publish();
        bench.settle();
        let told: usize = reading.stream.drain(ALL).iter().map(|reply| reply.events.len()).sum();
        assert_eq!(told, 3 * 20, "round {round}");
        let pending = bench.hub.figures().pending_bytes as usize;
        assert!(pending <= limits.queue_bytes_max + limits.response_bytes_max, "{pending}");
    }
    let figures = bench.hub.figures();
    assert_eq!((figures.watchers, figures.synced, figures.blocked), (6, 3, 3));
    let told: usize = bench.hear(&silent).iter().map(|reply| reply.events.len()).sum();
    assert_eq!(told, 3 * 20_000, "nothing is lost");
    assert_eq!(bench.hub.figures().synced, 6);
}

#[test]
fn a_blocked_watcher_that_was_overtaken_by_a_compaction_is_cancelled_when_its_client_reads() {
    let mut bench = Bench::new(Options { queue_bytes_max: 500, ..Options::default() });
    let client = bench.open();
    client.stream.create(watch("a"));
    bench.settle();
    for _ in 0..20 {
        bench.put("a", "v");
        bench.settle();
    }
    bench.compact(15);
    let told = bench.told(&client);
    assert_eq!(told[0], "0 created at 1");
    assert_eq!(told.last().unwrap(), "0 canceled at 0 compacted 15");
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn a_response_tells_no_more_revisions_and_bytes_than_its_limits() {
    let limits =
        Options { revisions_per_response_max: 10, response_bytes_max: 2000, ..Options::default() };
    for (value, revisions) in [("v", 10), (&*"v".repeat(500), 3), (&*"v".repeat(5000), 1)] {
        let mut bench = Bench::new(limits.clone());
        let client = bench.open();
        client.stream.create(watch("a"));
        bench.settle();
        for _ in 0..30 {
            bench.put("a", value);
        }
        let replies = bench.hear(&client);
        let counts: Vec<usize> = replies.iter().skip(1).map(|reply| reply.events.len()).collect();
        assert_eq!(counts, vec![revisions; 30 / revisions]);
    }
}

#[test]
fn runs_that_were_queued_apart_are_told_together() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(watch("a"));
    for value in ["1", "2", "3"] {
        bench.settle();
        bench.put("a", value);
    }
    assert_eq!(bench.told(&client), ["0 created at 1", "0 at 4 +a=1@2 +a=2@3 +a=3@4"]);
}

#[test]
fn a_drain_gives_whole_replies_and_at_least_one() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    for key in ["a", "b", "c"] {
        client.stream.create(watch(key));
    }
    bench.settle();
    for key in ["a", "b", "c"] {
        bench.put(key, &"v".repeat(1000));
    }
    bench.settle();
    assert_eq!(client.stream.drain(0).len(), 1);
    assert_eq!(client.stream.drain(200).len(), 2);
    assert_eq!(client.stream.drain(1500).len(), 2);
    assert_eq!(client.stream.drain(ALL).len(), 1);
    assert!(client.stream.drain(ALL).is_empty());
}

#[test]
fn only_who_allows_fragments_gets_a_revision_in_parts() {
    let limits = Options { fragment_bytes: 1000, response_bytes_max: 600, ..Options::default() };
    let mut bench = Bench::new(limits);
    let client = bench.open();
    client.stream.create(Create { fragment: true, ..watch_all() });
    client.stream.create(watch_all());
    bench.settle();
    client.stream.drain(ALL);
    let keys: Vec<String> = (0..10).map(|number| format!("key{number}")).collect();
    let value = "v".repeat(300);
    let changes: Vec<(&str, Option<&str>)> =
        keys.iter().map(|key| (key.as_str(), Some(&*value))).collect();
    bench.commit(&changes);
    bench.publish();
    let mut replies = bench.hear(&client);
    replies.sort_by_key(|reply| reply.watch_id);
    let whole = replies.pop().unwrap();
    assert_eq!((whole.watch_id, whole.events.len(), whole.fragment), (1, 10, false));
    let parts: Vec<(usize, bool, i64)> =
        replies.iter().map(|part| (part.events.len(), part.fragment, part.revision)).collect();
    assert_eq!(parts, [(2, true, 2), (2, true, 2), (2, true, 2), (2, true, 2), (2, false, 2)]);
    let joined: Vec<_> = replies.iter().flat_map(|part| part.events.iter()).collect();
    assert!(whole.events.iter().eq(joined), "put together, the parts are the whole");
    assert_eq!(bench.hub.figures().pending_bytes, 0);
}

#[test]
fn there_are_no_more_streams_and_watchers_than_there_may_be() {
    let limits = Options { streams_max: 2, watchers_per_stream_max: 2, ..Options::default() };
    let bench = Bench::new(limits);
    let (one, _two) = (bench.open(), bench.open());
    assert!(matches!(bench.hub.open(Arc::new(|| {})), Err(TooManyStreams)));
    drop(one);
    let one = bench.open();
    for _ in 0..3 {
        one.stream.create(watch("a"));
    }
    one.stream.cancel(0);
    one.stream.create(watch("a"));
    let wanted = [
        "0 created at 1",
        "1 created at 1",
        "-1 created canceled at 1 because too many watchers on one stream",
        "0 canceled at 1",
        "2 created at 1",
    ];
    assert_eq!(bench.told(&one), wanted);
}

#[test]
fn a_client_that_asks_faster_than_it_is_answered_waits_or_is_ended() {
    let bench = Bench::new(Options { requests_max: 3, ..Options::default() });
    let client = bench.open();
    for _ in 0..3 {
        assert!(client.stream.has_room());
        client.stream.create(watch("a"));
    }
    assert!(!client.stream.has_room());
    assert_eq!(client.rung(), 0);
    bench.settle();
    assert_eq!(client.rung(), 2, "there is room, and there are replies");
    assert!(client.stream.has_room());

    for _ in 0..7 {
        client.stream.create(watch("a"));
    }
    assert_eq!(client.stream.ended(), Some(Ended::TooManyRequests));
    assert_eq!(client.stream.drain(ALL).len(), 3, "what was queued can still be read");
    bench.settle();
    assert!(client.stream.drain(ALL).is_empty());
    assert_eq!(bench.hub.figures().watchers, 0);
}

#[test]
fn requests_of_a_client_that_does_not_read_wait_with_its_events() {
    let bench = Bench::new(Options { queue_bytes_max: 2000, ..Options::default() });
    let client = bench.open();
    for _ in 0..2000 {
        client.stream.create(watch("a"));
        client.stream.cancel(0);
        bench.settle();
    }
    assert!(bench.hub.figures().pending_bytes < 3000);
    let told = bench.hear(&client);
    assert_eq!(told.iter().filter(|reply| reply.created).count(), 2000);
}

#[test]
fn a_dropped_stream_takes_its_watchers_along_a_few_in_each_step() {
    let bench = Bench::new(Options { step_requests_max: 10, ..Options::default() });
    let (client, other) = (bench.open(), bench.open());
    for number in 0..100 {
        let key = Bytes::from(format!("key{}", number % 7));
        client.stream.create(Create { key, ..from(number % 3, watch_all()) });
        other.stream.create(watch_all());
        bench.settle();
    }
    assert_eq!(bench.hub.figures().watchers, 200);
    drop(client);
    bench.hub.step(bench.now);
    assert!(bench.hub.figures().watchers > 180);
    bench.settle();
    assert_eq!(bench.hub.figures().watchers, 100);
    assert_eq!(bench.hub.figures().streams, 1);
}

#[test]
fn a_stopped_hub_ends_every_stream() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(watch("a"));
    bench.settle();
    bench.put("a", "1");
    bench.settle();
    let rung = client.rung();
    bench.hub.stop();
    assert_eq!(client.rung(), rung + 1);
    assert_eq!(client.stream.ended(), Some(Ended::Stopped));
    assert_eq!(client.stream.drain(ALL).len(), 2, "what was queued can still be read");
    let late = bench.open();
    assert_eq!(late.stream.ended(), Some(Ended::Stopped));
    late.stream.create(watch("a"));
    assert!(matches!(bench.hub.step(bench.now), Step::Wait(None)));
    assert!(late.stream.drain(ALL).is_empty());
}

#[test]
fn a_client_that_asks_for_large_keys_waits_or_is_ended() {
    let bench = Bench::new(Options { requests_bytes_max: 10_000, ..Options::default() });
    let client = bench.open();
    let large = || Create { key: vec![b'k'; 6000].into(), ..Create::default() };
    for _ in 0..2 {
        assert!(client.stream.has_room());
        client.stream.create(large());
    }
    assert!(!client.stream.has_room());
    bench.settle();
    assert_eq!(client.rung(), 2, "there is room, and there are replies");
    assert!(client.stream.has_room());

    for _ in 0..4 {
        client.stream.create(large());
    }
    assert_eq!(client.stream.ended(), None);
    client.stream.create(large());
    assert_eq!(client.stream.ended(), Some(Ended::TooManyRequests));
    bench.settle();
    assert_eq!(bench.hub.figures().watchers, 0);
}

#[test]
fn watchers_of_one_stream_and_of_all_take_no_more_memory_than_they_may() {
    let limits = Options {
        stream_watchers_bytes_max: 10_000,
        watchers_bytes_max: 15_000,
        ..Options::default()
    };
    let bench = Bench::new(limits);
    let large = || Create { range_end: vec![b'z'; 4000].into(), ..watch("a") };
    let refused = |why| format!("-1 created canceled at 1 because the watchers of {why}");
    let (one, other) = (bench.open(), bench.open());
    for client in [&one, &other] {
        (0..3).for_each(|_| client.stream.create(large()));
    }
    let of_stream = refused("one stream take too much memory");
    let of_member = refused("this member take too much memory");
    assert_eq!(bench.told(&one), ["0 created at 1", "1 created at 1", &of_stream]);
    assert_eq!(bench.told(&other), ["0 created at 1", &of_member, &of_member]);
    assert!((12_000..15_000).contains(&bench.hub.figures().watchers_bytes));
    // Small ones still find room, and what is cancelled makes more.
    other.stream.create(watch("b"));
    one.stream.cancel(0);
    bench.settle();
    other.stream.create(large());
    assert_eq!(bench.told(&other), ["1 created at 1", "2 created at 1"]);
    drop((one, other));
    bench.settle();
    assert_eq!(bench.hub.figures().watchers_bytes, 0);
}

#[test]
fn a_cancel_takes_effect_at_once_though_its_client_does_not_read() {
    let mut bench = Bench::new(Options { queue_bytes_max: 500, ..Options::default() });
    let (client, other) = (bench.open(), bench.open());
    for _ in 0..3 {
        client.stream.create(watch("a"));
    }
    other.stream.create(watch("a"));
    bench.settle();
    bench.put("a", "1");
    bench.settle();
    assert_eq!(bench.hub.figures().blocked, 3);
    client.stream.create(watch("b"));
    for watch_id in [1, 7, 3, 0] {
        client.stream.cancel(watch_id);
    }
    bench.settle();
    assert_eq!(bench.hub.figures().watchers, 2, "of each stream one");
    let told = bench.told(&client);
    let wanted = [
        "0 created at 1",
        "1 created at 1",
        "2 created at 1",
        "1 canceled at 2",
        "0 canceled at 2",
        "3 created at 2",
        "3 canceled at 2",
        "2 at 2 +a=1@2",
    ];
    assert_eq!(told, wanted, "a cancel of what is not there yet keeps its turn");
}

#[test]
fn many_streams_share_what_may_be_queued() {
    let limits =
        Options { queues_bytes_max: 10_000, requests_bytes_max: 4000, ..Options::default() };
    let mut bench = Bench::new(limits);
    let clients: Vec<_> = (0..10).map(|_| bench.open()).collect();
    let value = "v".repeat(300);
    for client in &clients {
        client.stream.create(watch_all());
        bench.settle();
        client.stream.create(Create { key: vec![b'k'; 1000].into(), ..Create::default() });
        assert!(!client.stream.has_room());
    }
    for number in 0..100 {
        bench.put(&format!("key{number}"), &value);
        bench.settle();
    }
    assert_eq!(bench.hub.figures().blocked, 10);
    assert!(bench.hub.figures().pending_bytes < 20_000);
    let mut clients = clients.into_iter();
    let last = clients.next_back().unwrap();
    drop(clients);
    for number in 0..10 {
        bench.put(&format!("more{number}"), &value);
    }
    let told: usize = bench.hear(&last).iter().map(|reply| reply.events.len()).sum();
    assert_eq!(told, 110);
    last.stream.create(Create { key: vec![b'k'; 1000].into(), ..Create::default() });
    assert!(last.stream.has_room(), "the whole is its own now");
}

#[test]
fn a_closed_stream_is_as_a_dropped_one() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(watch("a"));
    bench.settle();
    bench.put("a", "1");
    bench.settle();
    client.stream.close();
    client.stream.create(watch("a"));
    bench.settle();
    assert!(client.stream.drain(ALL).is_empty());
    let figures = bench.hub.figures();
    assert_eq!((figures.streams, figures.watchers, figures.pending_bytes), (0, 0, 0));
    drop(client);
    bench.settle();
}

#[test]
fn what_is_asked_too_early_is_answered_as_soon_as_it_can_be() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(watch("a"));
    for start in [5, 4] {
        client.stream.create(from(start, watch("a")));
    }
    bench.told(&client);
    client.stream.request_progress();
    client.stream.request_progress();
    for _ in 0..2 {
        bench.put("b", "v");
        assert!(bench.told(&client).is_empty());
    }
    // Without the watcher that begins with 5, there is only one that begins with 4 to wait for.
    client.stream.cancel(1);
    assert_eq!(bench.told(&client), ["1 canceled at 3"]);
    bench.put("b", "v");
    assert_eq!(bench.told(&client), ["-1 at 4"]);
    client.stream.create(from(9, watch("a")));
    client.stream.request_progress();
    bench.told(&client);
    client.stream.cancel(3);
    assert_eq!(bench.told(&client), ["3 canceled at 4", "-1 at 4"]);
}

#[test]
fn fragments_of_many_small_events_are_cut_out_of_the_whole() {
    let limits = Options { fragment_bytes: 4000, ..Options::default() };
    let mut bench = Bench::new(limits);
    let client = bench.open();
    client.stream.create(Create { fragment: true, ..watch_all() });
    bench.settle();
    client.stream.drain(ALL);
    let keys: Vec<String> = (0..1000).map(|number| format!("key{number:04}")).collect();
    let changes: Vec<(&str, Option<&str>)> =
        keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
    bench.commit(&changes);
    bench.publish();
    let replies = bench.hear(&client);
    assert!(replies.len() > 5);
    assert!(replies.iter().all(|reply| reply.events.parts().count() == 1));
    assert_eq!(replies.iter().map(|reply| reply.events.len()).sum::<usize>(), 1000);
}

#[test]
fn a_page_of_the_state_is_bounded_though_values_become_large() {
    let mut bench = Bench::new(Options { step_bytes_max: 20_000, ..Options::default() });
    for number in 0..3000 {
        bench.commit(&[(&format!("k{number:05}"), Some("v"))]);
    }
    let large = "v".repeat(10_000);
    for number in 3000..3200 {
        bench.commit(&[(&format!("k{number:05}"), Some(&large))]);
    }
    bench.publish();
    let client = bench.open();
    client.stream.create(Create { with_state: true, ..watch_all() });
    let mut told = 0;
    while told < 3200 {
        bench.hub.step(bench.now);
        let replies = client.stream.drain(ALL);
        let bytes: usize = replies.iter().map(|reply| reply.events.encoded_len()).sum();
        // As much as a step reads, and a few records that were not known to be large.
        assert!(bytes <= 20_000 + 16 * 10_100, "{bytes}");
        told += replies.iter().map(|reply| reply.events.len()).sum::<usize>();
    }
}

#[test]
fn a_run_is_cut_where_very_many_ranges_hold_its_changes() {
    const RANGES: usize = 100;
    let limits = Options { step_matches_max: 5 * RANGES, ..Options::default() };
    let mut bench = Bench::new(limits);
    let client = bench.open();
    let create = |start_revision| {
        for number in 0..RANGES {
            let range_end = Bytes::from(format!("z{number}"));
            client.stream.create(Create { range_end, ..from(start_revision, watch("a")) });
        }
    };
    let count = |replies: Vec<Reply>| -> usize { replies.iter().map(|r| r.events.len()).sum() };
    create(0);
    bench.settle();
    let put = |bench: &mut Bench| {
        (0..20).for_each(|_| _ = bench.commit(&[("key", Some("v"))]));
        bench.commit(&[("key1", Some("v")), ("key2", Some("v"))]);
        bench.publish();
    };
    put(&mut bench);
    for told in [5, 5, 5, 5, 2] {
        bench.hub.step(bench.now);
        assert_eq!(count(client.stream.drain(ALL)), told * RANGES);
    }
    // The same for those who catch up, and who begins behind a cut is told nothing twice.
    create(2);
    create(10);
    let mut told = 0;
    for _ in 0..100 {
        bench.hub.step(bench.now);
        let more = count(client.stream.drain(ALL));
        assert!(more <= 2 * 5 * RANGES, "{more} for two watchers of each range");
        told += more;
    }
    assert_eq!(told, (22 + 14) * RANGES);
    // One revision is told whole, whatever it comes to.
    let keys: Vec<String> = (0..50).map(|number| format!("key{number:02}")).collect();
    let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
    bench.commit(&changes);
    bench.publish();
    bench.hub.step(bench.now);
    assert_eq!(count(client.stream.drain(ALL)), 50 * 3 * RANGES);
}

/// A backend whose blocks cannot be read.
#[derive(Debug)]
struct Broken(MemBackend);

impl Backend for Broken {
    fn write(&self, blocks: &[(BlockKey, Bytes)]) -> Result<(), BackendError> {
        self.0.write(blocks)
    }

    fn commit(&self, meta: &[u8], removed: &[BlockKey]) -> Result<(), BackendError> {
        self.0.commit(meta, removed)
    }

    fn read(&self, _key: BlockKey) -> Result<Option<Bytes>, BackendError> {
        Ok(None)
    }

    fn keys(&self) -> Result<Vec<BlockKey>, BackendError> {
        self.0.keys()
    }

    fn meta(&self) -> Result<Option<Bytes>, BackendError> {
        self.0.meta()
    }

    fn clear(&self) -> Result<(), BackendError> {
        self.0.clear()
    }

    fn disk_bytes(&self) -> u64 {
        self.0.disk_bytes()
    }
}

#[test]
fn a_run_that_cannot_be_told_to_all_ends_the_hub() {
    for start_revision in [0, 52] {
        let options = kvorum_mvcc::Options { block_cache_bytes: 0, ..small_blocks() };
        let backend = Arc::new(Broken(MemBackend::new()));
        let Opened { mut store, mut maintainer, .. } = create(backend, options).unwrap();
        let hub = Hub::new(store.reader(), Options::default());
        let put = |store: &mut Store, key: &[u8]| {
            let mut txn = store.begin();
            txn.put(key, &[b'v'; 200], 0);
            txn.commit();
            store.publish(1, Bytes::new());
        };
        for _ in 0..50 {
            put(&mut store, b"a");
        }
        maintainer.flush_all(Some(1)).unwrap();
        let stream = hub.open(Arc::new(|| {})).unwrap();
        // Who does not ask what was before can be told, who does cannot.
        for prev_kv in [false, true] {
            stream.create(Create { prev_kv, ..from(start_revision, watch("a")) });
        }
        if start_revision == 0 {
            while matches!(hub.step(Duration::ZERO), Step::Again) {}
        }
        put(&mut store, b"a");
        let is_failed = (0..10).any(|_| matches!(hub.step(Duration::ZERO), Step::Failed(_)));
        assert!(is_failed, "from {start_revision}");
        assert_eq!(stream.ended(), Some(Ended::Stopped));
    }
}

#[test]
fn a_store_that_cannot_be_read_ends_the_hub() {
    let options = kvorum_mvcc::Options { block_cache_bytes: 0, ..small_blocks() };
    let backend = Arc::new(Broken(MemBackend::new()));
    let Opened { mut store, mut maintainer, .. } = create(backend, options).unwrap();
    let hub = Hub::new(store.reader(), Options::default());
    for _ in 0..50 {
        let mut txn = store.begin();
        txn.put(b"a", &[b'v'; 200], 0);
        txn.commit();
        store.publish(1, Bytes::new());
    }
    maintainer.flush_all(Some(1)).unwrap();
    let stream = hub.open(Arc::new(|| {})).unwrap();
    stream.create(from(2, watch("a")));
    let failed = (0..10).find_map(|_| match hub.step(Duration::ZERO) {
        Step::Failed(error) => Some(error.to_string()),
        _ => None,
    });
    assert!(failed.is_some_and(|error| error.contains("is missing")));
    assert_eq!(stream.ended(), Some(Ended::Stopped));
}
