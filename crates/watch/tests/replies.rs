//! What a client is told when it creates, cancels and asks, to the letter, and how often when nothing happens.

mod support;

use kvorum_watch::{Create, Filters, Options};
use support::{ALL, Bench, Client, from, watch, watch_all, watch_range};

fn bench() -> (Bench, Client) {
    let bench = Bench::new(Options::default());
    let client = bench.open();
    (bench, client)
}

#[test]
fn a_watcher_from_now_gets_what_comes_after_its_created_reply() {
    let (mut bench, client) = bench();
    bench.put("a", "before");
    client.stream.create(watch("a"));
    assert_eq!(bench.told(&client), ["0 created at 2"]);
    bench.put("a", "1");
    bench.put("b", "not watched");
    bench.delete("a");
    assert_eq!(bench.told(&client), ["0 at 5 +a=1@3 -a@5"]);
}

#[test]
fn a_watcher_from_now_misses_nothing_that_is_published_before_the_hub_has_looked() {
    let (mut bench, client) = bench();
    bench.put("a", "1");
    client.stream.create(watch("a"));
    bench.put("a", "2");
    // Both were published when the request was answered.
    assert_eq!(bench.told(&client), ["0 created at 3"]);
    let late = bench.open();
    bench.put("a", "3");
    late.stream.create(watch("a"));
    assert_eq!(bench.told(&late), ["0 created at 4"]);
    assert_eq!(bench.told(&client), ["0 at 4 +a=3@4"]);
}

#[test]
fn every_shape_of_range_is_watched() {
    let (mut bench, client) = bench();
    for create in [
        watch("b"),
        watch_range("b", "d"),
        watch_range("b", "\0"),
        watch_all(),
        // No key is the smallest one, and that alone without an end.
        watch(""),
        watch_range("", "\0"),
    ] {
        client.stream.create(create);
    }
    assert_eq!(bench.told(&client).len(), 6);
    for key in ["\0", "a", "b", "c", "d"] {
        bench.put(key, "v");
    }
    let mut told = bench.told(&client);
    told.sort();
    let wanted = [
        "0 at 4 +b=v@4",
        "1 at 5 +b=v@4 +c=v@5",
        "2 at 6 +b=v@4 +c=v@5 +d=v@6",
        "3 at 6 +\0=v@2 +a=v@3 +b=v@4 +c=v@5 +d=v@6",
        "4 at 2 +\0=v@2",
        "5 at 6 +\0=v@2 +a=v@3 +b=v@4 +c=v@5 +d=v@6",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn watch_ids_are_chosen_upwards_and_a_chosen_one_can_be_used_again_after_its_end() {
    let (bench, client) = bench();
    client.stream.create(watch("a"));
    client.stream.create(Create { watch_id: 7, ..watch("a") });
    client.stream.create(Create { watch_id: 1, ..watch("a") });
    client.stream.create(watch("a"));
    client.stream.cancel(7);
    client.stream.cancel(0);
    client.stream.create(Create { watch_id: 7, ..watch("a") });
    client.stream.create(watch("a"));
    let wanted = [
        "0 created at 1",
        "7 created at 1",
        "1 created at 1",
        "2 created at 1",
        "7 canceled at 1",
        "0 canceled at 1",
        "7 created at 1",
        "3 created at 1",
    ];
    assert_eq!(bench.told(&client), wanted);
}

#[test]
fn what_cannot_be_created_is_refused_in_its_turn() {
    let (bench, client) = bench();
    client.stream.create(watch("a"));
    client.stream.create(from(-1, watch("a")));
    client.stream.create(watch_range("b", "b"));
    client.stream.create(watch_range("b", "a"));
    client.stream.create(Create { watch_id: 5, ..watch("a") });
    client.stream.create(Create { watch_id: 5, ..watch("a") });
    client.stream.refuse("rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    client.stream.create(Create { with_state: true, ..from(1, watch("a")) });
    let wanted = [
        "0 created at 1",
        "-1 created canceled at 1 because etcdserver: mvcc: required revision has been compacted",
        "-1 created canceled at 1 because mvcc: watcher range is empty",
        "-1 created canceled at 1 because mvcc: watcher range is empty",
        "5 created at 1",
        "-1 created canceled at 1 because mvcc: duplicate watch ID provided on the WatchStream",
        "-1 created canceled at 1 because rpc error: code = PermissionDenied desc = etcdserver: \
         permission denied",
        "-1 created canceled at 1 because a watch with state begins at the current revision: \
         start_revision must be 0",
    ];
    assert_eq!(bench.told(&client), wanted);
}

#[test]
fn a_past_revision_is_told_from_there() {
    let (mut bench, client) = bench();
    for value in ["1", "2", "3"] {
        bench.put("a", value);
    }
    bench.put("b", "other");
    client.stream.create(from(3, watch("a")));
    client.stream.create(from(1, watch("a")));
    client.stream.create(from(5, watch("a")));
    let wanted = [
        "0 created at 5",
        "1 created at 5",
        "2 created at 5",
        // Who is told all that there is hears how far that is.
        "1 at 5 +a=1@2 +a=2@3 +a=3@4",
        "0 at 5 +a=2@3 +a=3@4",
    ];
    assert_eq!(bench.told(&client), wanted);
    bench.put("a", "4");
    let mut told = bench.told(&client);
    told.sort();
    assert_eq!(told, ["0 at 6 +a=4@6", "1 at 6 +a=4@6", "2 at 6 +a=4@6"]);
}

#[test]
fn a_future_revision_is_waited_for() {
    let (mut bench, client) = bench();
    client.stream.create(from(4, watch("a")));
    assert_eq!(bench.told(&client), ["0 created at 1"]);
    for value in ["2", "3", "4", "5"] {
        bench.put("a", value);
    }
    assert_eq!(bench.told(&client), ["0 at 5 +a=4@4 +a=5@5"]);
}

#[test]
fn a_compacted_revision_is_created_and_then_cancelled() {
    let (mut bench, client) = bench();
    for value in ["1", "2", "3"] {
        bench.put("a", value);
    }
    bench.compact(3);
    client.stream.create(from(2, watch("a")));
    client.stream.create(from(3, watch("a")));
    let wanted =
        ["0 created at 4", "0 canceled at 0 compacted 3", "1 created at 4", "1 at 4 +a=2@3 +a=3@4"];
    assert_eq!(bench.told(&client), wanted);
    client.stream.cancel(0);
    assert!(bench.told(&client).is_empty(), "it is gone already");
}

#[test]
fn a_cancelled_watcher_hears_nothing_after_and_an_unknown_one_nothing_at_all() {
    let (mut bench, client) = bench();
    client.stream.create(watch("a"));
    bench.settle();
    bench.put("a", "1");
    bench.settle();
    client.stream.cancel(0);
    client.stream.cancel(9);
    bench.settle();
    bench.put("a", "2");
    assert_eq!(bench.told(&client), ["0 created at 1", "0 at 2 +a=1@2", "0 canceled at 2"]);
}

#[test]
fn filters_leave_out_and_what_is_left_out_is_not_mentioned() {
    let (mut bench, client) = bench();
    for (no_put, no_delete) in [(true, false), (false, true), (true, true)] {
        client.stream.create(Create { filters: Filters { no_put, no_delete }, ..watch("a") });
    }
    bench.settle();
    client.stream.drain(ALL);
    bench.put("a", "1");
    assert_eq!(bench.told(&client), ["1 at 2 +a=1@2"]);
    bench.delete("a");
    assert_eq!(bench.told(&client), ["0 at 3 -a@3"]);
}

#[test]
fn what_was_before_is_told_to_those_who_ask() {
    let (mut bench, client) = bench();
    client.stream.create(Create { prev_kv: true, ..watch_all() });
    client.stream.create(watch_all());
    bench.settle();
    client.stream.drain(ALL);
    bench.put("a", "1");
    bench.put("a", "2");
    bench.delete("a");
    bench.put("a", "3");
    let wanted =
        ["0 at 5 +a=1@2 +a=2@3(was 1@2) -a@4(was 2@3) +a=3@5", "1 at 5 +a=1@2 +a=2@3 -a@4 +a=3@5"];
    let mut told = bench.told(&client);
    told.sort();
    assert_eq!(told, wanted);
    // What was before the compaction revision is gone.
    bench.compact(3);
    client.stream.create(Create { prev_kv: true, ..from(3, watch_all()) });
    let told = bench.told(&client);
    assert_eq!(told, ["2 created at 5", "2 at 5 +a=2@3 -a@4(was 2@3) +a=3@5"]);
}

#[test]
fn what_begins_anew_in_a_transaction_has_nothing_before_it() {
    let (mut bench, client) = bench();
    bench.put("a", "1");
    client.stream.create(Create { prev_kv: true, ..watch_all() });
    bench.settle();
    bench.commit(&[("a", None), ("a", Some("2"))]);
    bench.publish();
    assert_eq!(bench.told(&client), ["0 created at 2", "0 at 3 -a@3(was 1@2) +a=2@3"]);
}

#[test]
fn events_of_one_revision_come_together_in_the_order_they_were_made() {
    let (mut bench, client) = bench();
    client.stream.create(watch_all());
    bench.settle();
    client.stream.drain(ALL);
    bench.put("b", "old");
    bench.commit(&[("c", Some("1")), ("b", None), ("a", Some("2"))]);
    bench.publish();
    assert_eq!(bench.told(&client), ["0 at 3 +b=old@2 +c=1@3 -b@3 +a=2@3"]);
}

#[test]
fn a_stream_is_rung_once_for_what_comes_together() {
    let (mut bench, client) = bench();
    for _ in 0..10 {
        client.stream.create(watch("a"));
    }
    bench.settle();
    assert_eq!(client.rung(), 1);
    client.stream.drain(ALL);
    bench.put("a", "1");
    bench.settle();
    assert_eq!(client.rung(), 2);
    bench.put("a", "2");
    bench.settle();
    assert_eq!(client.rung(), 2, "what is pending was rung for");
    assert_eq!(client.stream.drain(ALL).len(), 20);
}

#[test]
fn progress_comes_once_an_interval_to_idle_watchers_that_want_it() {
    let mut bench = Bench::new(Options::default());
    let interval = Options::default().progress_interval;
    let clients: Vec<_> = (0..50).map(|_| bench.open()).collect();
    for client in &clients {
        client.stream.create(Create { progress_notify: true, ..watch("a") });
        client.stream.create(watch("a"));
        client.stream.create(Create { progress_notify: true, ..watch("b") });
        bench.settle();
        client.stream.drain(ALL);
    }
    bench.put("b", "told");
    for client in &clients {
        assert_eq!(bench.told(client), ["2 at 2 +b=told@2"]);
    }
    let mut due = Vec::new();
    for part in 0..=20 {
        bench.now = interval + interval / 200 * part;
        for client in &clients {
            let told = bench.told(client);
            assert!(told.is_empty() || told == ["0 at 2"], "{told:?}");
            due.extend(told.iter().map(|_| part));
        }
    }
    assert_eq!(due.len(), clients.len());
    due.sort_unstable();
    due.dedup();
    assert!(due.len() > 10, "streams have theirs at different times: {due:?}");
    bench.now += interval * 2;
    assert_eq!(bench.told(&clients[7]), ["0 at 2", "2 at 2"]);
}

#[test]
fn progress_of_very_many_watchers_is_told_a_few_in_each_step() {
    const COUNT: usize = 5000;
    let limits = Options { step_progress_max: 100, ..Options::default() };
    let interval = limits.progress_interval;
    let mut bench = Bench::new(limits);
    let (many, other) = (bench.open(), bench.open());
    for _ in 0..COUNT {
        many.stream.create(Create { progress_notify: true, ..watch("a") });
        bench.hub.step(bench.now);
    }
    other.stream.create(watch("b"));
    bench.settle();
    many.stream.drain(ALL);
    other.stream.drain(ALL);

    bench.now = interval * 2;
    let (mut told, mut steps) = (0, 0);
    while told < COUNT {
        // Something happens elsewhere all the while, and is told without delay.
        bench.put("b", "v");
        bench.hub.step(bench.now);
        assert_eq!(other.stream.drain(ALL).len(), 1, "step {steps}");
        let replies = many.stream.drain(ALL);
        assert!(replies.len() <= 100, "{}", replies.len());
        assert!(replies.iter().all(|reply| reply.watch_id as usize >= told));
        told += replies.len();
        steps += 1;
    }
    assert_eq!((told, steps), (COUNT, COUNT / 100 + 1));
    assert!(bench.hear(&many).is_empty(), "once an interval");
}

#[test]
fn progress_that_a_full_queue_had_no_room_for_is_told_when_there_is() {
    let limits = Options { queue_bytes_max: 2000, ..Options::default() };
    let interval = limits.progress_interval;
    let mut bench = Bench::new(limits);
    let client = bench.open();
    for _ in 0..100 {
        client.stream.create(Create { progress_notify: true, ..watch("a") });
        bench.hear(&client);
    }
    for part in 2..5 {
        // Rounds that are due while another has not ended add nothing.
        bench.now = interval * part;
        bench.settle();
        assert!(bench.hub.figures().pending_bytes < 3000);
    }
    let told: Vec<i64> = bench.hear(&client).iter().map(|reply| reply.watch_id).collect();
    assert_eq!(told, (0..100).collect::<Vec<i64>>());
    // A round whose watchers are gone has nothing to go on with.
    bench.now = interval * 6;
    bench.settle();
    for watch_id in 0..100 {
        client.stream.cancel(watch_id);
    }
    bench.settle();
    client.stream.create(Create { progress_notify: true, ..watch("a") });
    let told = bench.told(&client);
    assert_eq!(told.last().unwrap(), "100 created at 1");
    bench.now = interval * 8;
    assert_eq!(bench.told(&client), ["100 at 1"]);
}
