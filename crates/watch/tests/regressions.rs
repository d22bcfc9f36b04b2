//! Bugs that etcd has had, by the number of their issue or of the change that fixed them.

mod support;

use kvorum_watch::{Create, Options, Step};
use support::driver::tiny;
use support::{ALL, Bench, Client, from, tell, watch, watch_all};

/// Steps once and drains.
fn step(bench: &Bench, client: &Client) -> Vec<String> {
    bench.hub.step(bench.now);
    client.stream.drain(ALL).iter().map(tell).collect()
}

/// A history of so many puts to one key, whose values are their revisions.
fn history(bench: &mut Bench, key: &str, count: usize) {
    for _ in 0..count {
        let value = (bench.store.revision() + 1).to_string();
        bench.put(key, &value);
    }
}

#[test]
fn issue_15220_progress_names_no_revision_that_the_stream_has_not_been_told() {
    let mut bench = Bench::new(tiny());
    history(&mut bench, "a", 40);
    let client = bench.open();
    client.stream.create(watch("other"));
    client.stream.create(from(2, watch("a")));
    client.stream.request_progress();
    let (mut told, mut has_asked_again) = (Vec::new(), false);
    while told.last() != Some(&"-1 at 46".to_owned()) {
        assert!(told.len() < 200, "{told:?}");
        told.extend(step(&bench, &client));
        // Changes go on while it catches up.
        if told.len() > 5 && !has_asked_again {
            has_asked_again = true;
            history(&mut bench, "a", 5);
            client.stream.request_progress();
        }
    }
    let told_events = told.iter().map(|line| line.matches('+').count()).sum::<usize>();
    assert_eq!(told_events, 45, "everything up to revision 46 comes before the progress");
    let progress = told.iter().filter(|line| line.starts_with("-1")).count();
    assert_eq!(progress, 1, "what was asked while none could be told is told once");
}

#[test]
fn issue_15220_progress_is_no_older_than_what_was_acknowledged_before_it_was_asked() {
    let mut bench = Bench::new(tiny());
    let client = bench.open();
    client.stream.create(watch("a"));
    bench.settle();
    client.stream.drain(ALL);
    for _ in 0..20 {
        bench.put("b", &"v".repeat(100));
    }
    bench.put("a", "2");
    client.stream.request_progress();
    bench.hub.step(bench.now);
    assert!(bench.hub.figures().lag_revisions > 10, "the hub is behind when it is asked");
    assert_eq!(bench.told(&client), ["0 at 22 +a=2@22", "-1 at 22"]);
}

#[test]
fn a_stream_without_watchers_is_told_no_progress() {
    let bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.request_progress();
    bench.settle();
    client.stream.create(watch("a"));
    client.stream.cancel(0);
    client.stream.request_progress();
    bench.settle();
    client.stream.create(watch("a"));
    assert_eq!(bench.told(&client), ["0 created at 1", "0 canceled at 1", "1 created at 1"]);
}

#[test]
fn issue_15271_no_watcher_goes_back_after_a_snapshot_was_installed() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(watch_all());
    client.stream.create(from(2, watch_all()));
    bench.settle();
    history(&mut bench, "a", 3);
    assert_eq!(bench.told(&client).len(), 4);
    let mut ahead = bench.copy();
    let mut txn = ahead.store.begin();
    txn.put(b"a", b"ahead", 0);
    txn.commit();
    ahead.store.publish(9, "".into());
    bench.adopt(ahead);
    let mut told = bench.told(&client);
    told.sort();
    assert_eq!(told, ["0 at 5 +a=ahead@5", "1 at 5 +a=ahead@5"]);
    bench.put("a", "after");
    let mut told = bench.told(&client);
    told.sort();
    assert_eq!(told, ["0 at 6 +a=after@6", "1 at 6 +a=after@6"]);
}

#[test]
fn issue_15271_even_a_store_that_is_behind_repeats_nothing() {
    let mut bench = Bench::new(Options::default());
    history(&mut bench, "a", 2);
    let behind = bench.copy();
    let client = bench.open();
    client.stream.create(watch_all());
    bench.settle();
    history(&mut bench, "a", 2);
    assert_eq!(bench.told(&client), ["0 created at 3", "0 at 5 +a=4@4 +a=5@5"]);
    bench.adopt(behind);
    client.stream.request_progress();
    let late = bench.open();
    late.stream.create(watch_all());
    assert_eq!(bench.told(&client), ["-1 at 5"]);
    assert_eq!(bench.told(&late), ["0 created at 3"]);
    // The same transactions are applied again.
    history(&mut bench, "a", 3);
    assert_eq!(bench.told(&client), ["0 at 6 +a=6@6"]);
    let told = bench.told(&late).join(" ");
    assert_eq!(told.matches('+').count(), 3, "{told}");
}

#[test]
fn issue_15271_what_the_old_store_held_is_told_from_it() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(watch_all());
    bench.settle();
    client.stream.drain(ALL);
    // Not told when the snapshot comes, which begins at revision 5.
    history(&mut bench, "a", 3);
    let mut ahead = bench.copy();
    for value in ["5", "6"] {
        let mut txn = ahead.store.begin();
        txn.put(b"a", value.as_bytes(), 0);
        txn.commit();
    }
    ahead.store.compact(5).unwrap();
    ahead.store.publish(9, "".into());
    bench.adopt(ahead);
    assert_eq!(bench.told(&client), ["0 at 6 +a=2@2 +a=3@3 +a=4@4 +a=5@5 +a=6@6"]);
}

#[test]
fn a_watcher_that_was_told_less_than_the_snapshot_compacted_is_cancelled() {
    let mut bench = Bench::new(Options::default());
    history(&mut bench, "a", 3);
    let client = bench.open();
    client.stream.create(from(2, watch_all()));
    let mut ahead = bench.copy();
    let mut txn = ahead.store.begin();
    txn.put(b"a", b"ahead", 0);
    txn.commit();
    ahead.store.compact(5).unwrap();
    ahead.store.publish(9, "".into());
    bench.adopt(ahead);
    assert_eq!(bench.told(&client), ["0 created at 5", "0 canceled at 0 compacted 5"]);
}

/// How many steps a watcher takes from revision 2 to 31, while in every step as many as can be served together come and
/// want to be told from another revision on.
fn steps_in_a_crowd(start_revision: i64) -> usize {
    let mut bench = Bench::new(tiny());
    history(&mut bench, "a", 30);
    let client = bench.open();
    client.stream.create(from(2, watch("a")));
    let crowd: Vec<Client> = (0..60).map(|_| bench.open()).collect();
    let mut told = 0;
    for round in 0..400 {
        for place in [2 * round, 2 * round + 1] {
            let stream = &crowd[place % crowd.len()].stream;
            stream.drain(ALL);
            stream.cancel(7);
            stream.create(Create { watch_id: 7, ..from(start_revision, watch("a")) });
        }
        told += step(&bench, &client).join(" ").matches('+').count();
        if told == 30 {
            return round;
        }
    }
    panic!("only {told} of 30 events after 400 steps");
}

#[test]
fn issue_17529_no_watcher_is_kept_from_catching_up_by_those_who_come_after_it() {
    for start_revision in [2, 15, 30] {
        let steps = steps_in_a_crowd(start_revision);
        assert!(steps < 200, "{steps} beside others from {start_revision}");
    }
}

#[test]
fn issue_17529_a_full_queue_loses_no_event() {
    let mut bench = Bench::new(tiny());
    let (slow, fast) = (bench.open(), bench.open());
    for client in [&slow, &fast] {
        client.stream.create(watch("a"));
        client.stream.create(watch("b"));
    }
    bench.settle();
    for _ in 0..100 {
        history(&mut bench, "a", 1);
        history(&mut bench, "b", 1);
        bench.settle();
        fast.stream.drain(ALL);
    }
    assert_eq!(bench.hub.figures().blocked, 2);
    let told = bench.told(&slow).join(" ");
    for revision in 2..=201 {
        let key = if revision % 2 == 0 { "a" } else { "b" };
        let event = format!("+{key}={revision}@{revision}");
        assert_eq!(told.matches(&event).count(), 1, "{event}");
    }
}

#[test]
fn issue_20221_a_future_watcher_is_told_nothing_old_and_no_progress_before_it_begins() {
    let mut bench = Bench::new(tiny());
    history(&mut bench, "a", 3);
    let client = bench.open();
    client.stream.create(Create { progress_notify: true, ..from(8, watch("a")) });
    client.stream.request_progress();
    assert_eq!(bench.told(&client), ["0 created at 4"]);
    for _ in 0..3 {
        history(&mut bench, "a", 1);
        bench.now += tiny().progress_interval * 2;
        assert!(bench.told(&client).is_empty());
    }
    history(&mut bench, "a", 1);
    assert_eq!(bench.told(&client), ["0 at 8 +a=8@8", "-1 at 8"]);
    history(&mut bench, "other", 1);
    // One interval in which it was told something, and one in which it was not.
    bench.now += tiny().progress_interval * 2;
    assert!(bench.told(&client).is_empty());
    bench.now += tiny().progress_interval * 2;
    assert_eq!(bench.told(&client), ["0 at 9"]);
}

#[test]
fn issue_17566_a_watcher_that_caught_up_without_an_event_is_told_progress() {
    let mut bench = Bench::new(Options::default());
    history(&mut bench, "b", 5);
    let client = bench.open();
    client.stream.create(Create { progress_notify: true, ..from(2, watch("a")) });
    client.stream.request_progress();
    assert_eq!(bench.told(&client), ["0 created at 6", "-1 at 6"]);
    bench.now += Options::default().progress_interval * 2;
    assert_eq!(bench.told(&client), ["0 at 6"]);
}

#[test]
fn issue_20707_a_negative_start_revision_is_refused_as_compacted() {
    let mut bench = Bench::new(Options::default());
    history(&mut bench, "a", 2);
    let client = bench.open();
    for start_revision in [-1, i64::MIN] {
        client.stream.create(from(start_revision, watch("a")));
    }
    history(&mut bench, "a", 1);
    let refused =
        "-1 created canceled at 4 because etcdserver: mvcc: required revision has been compacted";
    assert_eq!(bench.told(&client), [refused, refused]);
    assert_eq!(bench.hub.figures().watchers, 0);
}

#[test]
fn issue_14563_a_refusal_is_not_taken_for_the_watcher_with_id_0() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(watch("a"));
    client.stream.create(Create { range_end: "a".into(), ..watch("a") });
    client.stream.refuse("not allowed");
    let told = bench.told(&client);
    assert_eq!(told[0], "0 created at 1");
    assert!(told[1..].iter().all(|line| line.starts_with("-1 created canceled")), "{told:?}");
    history(&mut bench, "a", 1);
    assert_eq!(bench.told(&client), ["0 at 2 +a=2@2"]);
}

/// The store at every stage of a compaction to a revision at which `a` was deleted.
fn compacted_at_a_delete(stage: usize) -> (Bench, i64) {
    let mut bench = Bench::new(Options::default());
    history(&mut bench, "b", 30);
    history(&mut bench, "a", 2);
    let deleted = bench.delete("a");
    history(&mut bench, "b", 30);
    bench.compact(deleted);
    for _ in 0..stage {
        bench.maintainer.step(Some(u64::MAX), bench.now).unwrap();
    }
    (bench, deleted)
}

#[test]
fn issue_18089_and_19179_a_watch_from_the_compaction_revision_is_told_the_delete_made_there() {
    for stage in 0..30 {
        let (mut bench, deleted) = compacted_at_a_delete(stage);
        let client = bench.open();
        client.stream.create(from(deleted, watch("a")));
        client.stream.create(from(deleted + 1, watch("a")));
        client.stream.create(from(deleted - 1, watch("a")));
        let current = bench.store.revision();
        let wanted = [
            format!("0 created at {current}"),
            format!("1 created at {current}"),
            format!("2 created at {current}"),
            format!("2 canceled at 0 compacted {deleted}"),
        ];
        let told = bench.told(&client);
        assert_eq!(told[..4], wanted, "stage {stage}");
        let header = told[4].strip_prefix("0 at ").and_then(|rest| rest.split(' ').next());
        assert!(header.is_some(), "{told:?}");
        assert!(told[4].ends_with(&format!(" -a@{deleted}")), "{told:?}");
        assert_eq!(told.len(), 5, "stage {stage}: {told:?}");
        history(&mut bench, "a", 1);
        assert_eq!(bench.told(&client).len(), 2);
    }
}

#[test]
fn issue_18089_a_watcher_that_catches_up_over_a_delete_misses_none_when_it_is_compacted() {
    // With small steps, so that the compaction comes while it catches up.
    for steps in 0..40 {
        let mut bench = Bench::new(tiny());
        history(&mut bench, "b", 20);
        history(&mut bench, "a", 2);
        let deleted = bench.delete("a");
        history(&mut bench, "b", 20);
        let client = bench.open();
        client.stream.create(from(2, watch("a")));
        let mut told: Vec<String> = (0..steps).flat_map(|_| step(&bench, &client)).collect();
        bench.compact(deleted);
        bench.maintain();
        told.extend(bench.told(&client));
        let told = told.join(" ");
        let is_cancelled = told.contains("canceled");
        assert!(is_cancelled || told.contains(&format!("-a@{deleted}")), "{steps}: {told}");
    }
}

#[test]
fn a_synced_watcher_is_told_what_was_compacted_before_the_hub_had_looked() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(Create { prev_kv: true, ..watch("a") });
    bench.settle();
    client.stream.drain(ALL);
    for _ in 0..7 {
        history(&mut bench, "a", 1);
        bench.commit(&[("a", None)]);
        bench.commit(&[("a", Some("again"))]);
        let revision = bench.store.revision();
        bench.compact(revision);
        bench.maintain();
    }
    let told = bench.told(&client).join(" ");
    assert_eq!(told.matches(['+', '-']).count(), 21, "{told}");
    assert!(!told.contains("canceled"), "{told}");
    assert_eq!(told.matches("was").count(), 13, "all but the first put, and those after a delete");
}

#[test]
fn a_synced_watcher_is_cancelled_if_the_hub_is_too_many_compactions_behind() {
    let mut bench = Bench::new(Options::default());
    let (client, future) = (bench.open(), bench.open());
    client.stream.create(watch("a"));
    future.stream.create(from(1000, watch("a")));
    bench.settle();
    client.stream.drain(ALL);
    for _ in 0..20 {
        history(&mut bench, "a", 1);
        let revision = bench.store.revision();
        bench.compact(revision);
    }
    assert_eq!(bench.told(&client), ["0 canceled at 0 compacted 21"]);
    assert_eq!(bench.told(&future), ["0 created at 1"]);
    assert_eq!(bench.hub.figures().watchers, 1);
}

#[test]
fn steps_come_to_rest_when_nobody_is_left() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(Create { progress_notify: true, ..watch("a") });
    bench.settle();
    assert!(matches!(bench.hub.step(bench.now), Step::Wait(Some(_))), "progress is due some time");
    drop(client);
    bench.settle();
    history(&mut bench, "a", 1);
    assert!(matches!(bench.hub.step(bench.now), Step::Wait(None)));
}
