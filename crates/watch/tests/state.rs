//! Watches that begin with the state: beyond etcd.

mod support;

use kvorum_watch::{Create, Filters, Options};
use support::driver::tiny;
use support::{ALL, Bench, Client, tell, watch, watch_all, watch_range};

fn with_state(create: Create) -> Create {
    Create { with_state: true, ..create }
}

fn step(bench: &Bench, client: &Client) -> Vec<String> {
    bench.hub.step(bench.now);
    client.stream.drain(ALL).iter().map(tell).collect()
}

#[test]
fn the_state_comes_in_key_order_then_a_mark_then_what_changes() {
    let mut bench = Bench::new(Options::default());
    for key in ["c", "a", "b", "gone", "a"] {
        bench.put(key, "v");
    }
    bench.delete("gone");
    let client = bench.open();
    client.stream.create(with_state(Create { prev_kv: true, ..watch_all() }));
    let wanted = ["0 created at 7", "0 at 7 +a=v@6 +b=v@4 +c=v@2", "0 state at 7"];
    assert_eq!(bench.told(&client), wanted);
    bench.put("a", "next");
    assert_eq!(bench.told(&client), ["0 at 8 +a=next@8(was v@6)"]);
}

#[test]
fn an_empty_range_has_an_empty_state() {
    let mut bench = Bench::new(Options::default());
    let client = bench.open();
    client.stream.create(with_state(watch("a")));
    client.stream.create(with_state(watch_range("b", "d")));
    let mut told = bench.told(&client);
    told.sort();
    assert_eq!(told, ["0 created at 1", "0 state at 1", "1 created at 1", "1 state at 1"]);
    bench.put("c", "v");
    assert_eq!(bench.told(&client), ["1 at 2 +c=v@2"]);
}

#[test]
fn filters_leave_out_changes_and_not_the_state() {
    let mut bench = Bench::new(Options::default());
    bench.put("a", "1");
    let client = bench.open();
    let filters = Filters { no_put: true, no_delete: false };
    client.stream.create(with_state(Create { filters, ..watch("a") }));
    bench.settle();
    bench.put("a", "2");
    bench.delete("a");
    let wanted = ["0 created at 2", "0 at 2 +a=1@2", "0 state at 2", "0 at 4 -a@4"];
    assert_eq!(bench.told(&client), wanted);
}

#[test]
fn changes_made_while_the_state_is_told_come_after_it() {
    let mut bench = Bench::new(tiny());
    let keys: Vec<String> = (0..100).map(|number| format!("k{number:03}")).collect();
    for key in &keys {
        bench.put(key, "old");
    }
    let client = bench.open();
    client.stream.create(with_state(watch_all()));
    client.stream.request_progress();
    let (mut told, mut changed) = (step(&bench, &client), 0);
    for round in 0..500 {
        if let Some(key) = keys.get(round) {
            // Changed and deleted before and behind what has been told.
            bench.put(key, "new");
            bench.delete(&keys[99 - round]);
            changed += 2;
        }
        told.extend(step(&bench, &client));
    }
    told.extend(bench.told(&client));
    let mark = told.iter().position(|line| line == "0 state at 101").unwrap();
    let state = told[1..mark].join(" ");
    for (key, revision) in keys.iter().zip(2..) {
        assert!(state.contains(&format!("+{key}=old@{revision}")), "{key}");
    }
    assert_eq!(state.matches('+').count(), 100);
    assert!(mark > 5, "a page at a time: {mark}");
    let after = told[mark..].join(" ");
    assert_eq!(after.matches(['+', '-']).count() - after.matches("-1 at").count(), changed);
    let progress = told.iter().position(|line| line.starts_with("-1 at")).unwrap();
    assert!(progress > mark, "no progress while the state is not complete");
}

#[test]
fn a_client_that_does_not_read_is_told_the_rest_of_the_state_when_it_does() {
    let mut bench = Bench::new(tiny());
    for number in 0..50 {
        bench.put(&format!("k{number:03}"), &"v".repeat(100));
    }
    let client = bench.open();
    client.stream.create(with_state(watch_all()));
    bench.settle();
    let figures = bench.hub.figures();
    assert_eq!((figures.blocked, figures.catching_up), (1, 0));
    assert!(figures.pending_bytes < 5000, "{figures:?}");
    bench.put("k000", "next");
    let told = bench.told(&client).join("\n");
    assert_eq!(told.matches('+').count(), 51);
    assert!(told.ends_with("0 state at 51\n0 at 52 +k000=next@52"));
}

#[test]
fn marks_of_empty_states_wait_for_room_with_the_rest() {
    const COUNT: usize = 200;
    let mut bench = Bench::new(Options { queue_bytes_max: 2000, ..Options::default() });
    let client = bench.open();
    (0..COUNT).for_each(|_| client.stream.create(with_state(watch("a"))));
    bench.hub.step(bench.now);
    let told = client.stream.drain(ALL);
    assert_eq!(told.iter().filter(|reply| reply.created).count(), COUNT);
    bench.settle();
    let figures = bench.hub.figures();
    assert!(figures.pending_bytes < 2500, "{figures:?}");
    assert!(figures.blocked > 0, "{figures:?}");
    bench.put("a", "v");
    bench.hear(&client);
    assert_eq!(bench.hub.figures().synced, COUNT as u64);
}

#[test]
fn a_compaction_beyond_the_state_cancels_who_has_not_been_told_all_of_it() {
    let mut bench = Bench::new(tiny());
    for number in 0..50 {
        bench.put(&format!("k{number:03}"), "v");
    }
    let (client, early) = (bench.open(), bench.open());
    early.stream.create(with_state(watch_all()));
    bench.hear(&early);
    client.stream.create(with_state(watch_all()));
    let mut told = step(&bench, &client);
    bench.put("k000", "next");
    bench.compact(51);
    told.extend(step(&bench, &client));
    assert!(!told.join(" ").contains("canceled"), "the state's own revision can be read");
    bench.compact(52);
    told.extend(bench.told(&client));
    assert_eq!(told.last().unwrap(), "0 canceled at 0 compacted 52");
    assert_eq!(bench.told(&early), ["0 at 52 +k000=next@52"]);
}

#[test]
fn cancelled_and_dropped_while_the_state_is_told() {
    let mut bench = Bench::new(tiny());
    for number in 0..50 {
        bench.put(&format!("k{number:03}"), "v");
    }
    let (client, other) = (bench.open(), bench.open());
    client.stream.create(with_state(watch_all()));
    client.stream.create(with_state(watch_all()));
    other.stream.create(with_state(watch_all()));
    step(&bench, &client);
    client.stream.cancel(1);
    drop(other);
    let told = bench.told(&client);
    assert!(told.contains(&"1 canceled at 51".to_owned()), "{told:?}");
    let marks: Vec<&String> = told.iter().filter(|line| line.contains("state")).collect();
    assert_eq!(marks, ["0 state at 51"]);
    assert_eq!(bench.hub.figures().watchers, 1);
}
