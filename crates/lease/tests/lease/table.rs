//! The table against a naive model, and that what a view shows never changes.

use std::collections::BTreeMap;

use kvorum_lease::{Lease, LeaseExists, LeaseView, Table};
use kvorum_types::LeaseId;

use crate::random::{Random, seed_count};

/// Each lease with nothing but its own fields; each key with its lease.
#[derive(Clone, Default)]
struct Model {
    leases: BTreeMap<LeaseId, Lease>,
    of_key: BTreeMap<Vec<u8>, LeaseId>,
}

impl Model {
    fn keys(&self, id: LeaseId) -> Vec<&[u8]> {
        self.of_key.iter().filter(|(_, of)| **of == id).map(|(key, _)| key.as_slice()).collect()
    }

    fn assert_equals(&self, view: &LeaseView, place: &str) {
        let leases: Vec<_> = self.leases.iter().map(|(id, lease)| (*id, *lease)).collect();
        assert_eq!(view.iter().collect::<Vec<_>>(), leases, "{place}");
        assert_eq!((view.len(), view.key_count()), (leases.len(), self.of_key.len()), "{place}");
        for id in (-3..12).map(LeaseId) {
            assert_eq!(view.get(id), self.leases.get(&id).copied(), "{place}");
            assert_eq!(view.keys(id).collect::<Vec<_>>(), self.keys(id), "{place}: keys of {id}");
            let from: Vec<_> = leases.iter().copied().filter(|(other, _)| *other >= id).collect();
            assert_eq!(view.iter_from(id).collect::<Vec<_>>(), from, "{place}: from {id}");
        }
    }
}

fn step(table: &mut Table, model: &mut Model, random: &mut Random, index: u64) {
    let id = LeaseId(random.below(12) as i64 - 2);
    let key = format!("key-{}", random.below(20)).into_bytes();
    match random.below(10) {
        0..=2 if id != LeaseId::NONE => {
            let ttl = 1 + random.below(100) as i64;
            let wanted = match model.leases.contains_key(&id) {
                true => Err(LeaseExists),
                false => {
                    model.leases.insert(id, Lease { ttl, granted: index, remaining: 0 });
                    Ok(())
                }
            };
            assert_eq!(table.grant(id, ttl, index), wanted);
        }
        3 => {
            let keys = model.keys(id).iter().map(|key| key.to_vec()).collect::<Vec<_>>();
            let wanted = model.leases.remove(&id).map(|_| keys);
            model.of_key.retain(|_, of| *of != id);
            let found = table.revoke(id);
            assert_eq!(found.map(|keys| keys.iter().map(|k| k.to_vec()).collect()), wanted);
        }
        4 => {
            let (off, remaining) = (random.below(2), random.below(120) as i64 - 5);
            let lease = model.leases.get_mut(&id);
            let granted = lease.as_ref().map_or(0, |lease| lease.granted) + off;
            let wanted = match lease.filter(|lease| lease.granted == granted) {
                Some(lease) => {
                    lease.remaining = remaining.clamp(0, lease.ttl);
                    true
                }
                None => false,
            };
            assert_eq!(table.checkpoint(id, granted, remaining), wanted);
        }
        5..=7 if table.contains(id) => {
            table.attach(&key, id);
            model.of_key.insert(key, id);
        }
        _ => {
            table.detach(&key);
            model.of_key.remove(&key);
        }
    }
}

#[test]
fn random_changes_come_out_as_in_the_model_and_leave_older_views_alone() {
    for seed in 0..seed_count(40) {
        let mut random = Random(seed);
        let (mut table, mut model) = (Table::new(), Model::default());
        let mut older: Vec<(LeaseView, Model)> = Vec::new();
        for index in 1..400 {
            step(&mut table, &mut model, &mut random, index);
            model.assert_equals(&table.view(), &format!("seed {seed}, step {index}"));
            for key in (0..20).map(|number| format!("key-{number}").into_bytes()) {
                assert_eq!(table.of_key(&key), model.of_key.get(&key).copied(), "seed {seed}");
            }
            assert_eq!(table.has_keys(), !model.of_key.is_empty());
            if random.one_in(60) {
                older.push((table.view(), model.clone()));
            }
        }
        for (place, (view, model)) in older.iter().enumerate() {
            model.assert_equals(view, &format!("seed {seed}, view {place}"));
        }
    }
}

#[test]
fn a_key_belongs_to_the_lease_it_was_attached_to_last() {
    let mut table = Table::new();
    table.grant(LeaseId(1), 10, 1).unwrap();
    table.grant(LeaseId(2), 10, 2).unwrap();
    table.attach(b"a", LeaseId(1));
    table.attach(b"a", LeaseId(2));
    assert_eq!(table.of_key(b"a"), Some(LeaseId(2)));
    assert_eq!(table.revoke(LeaseId(1)), Some(Vec::new()));
    assert_eq!(table.revoke(LeaseId(2)), Some(vec!["a".into()]));
    assert!(!table.has_keys());
}

#[test]
fn a_revoke_gives_the_keys_in_key_order() {
    let mut table = Table::new();
    table.grant(LeaseId(7), 10, 1).unwrap();
    for key in ["b", "", "aa", "\u{ff}", "a"] {
        table.attach(key.as_bytes(), LeaseId(7));
    }
    let keys = table.revoke(LeaseId(7)).unwrap();
    assert_eq!(keys, ["", "a", "aa", "b", "\u{ff}"].map(bytes::Bytes::from));
    assert_eq!(table.revoke(LeaseId(7)), None);
}

#[test]
fn a_lease_outlives_its_keys() {
    let mut table = Table::new();
    table.grant(LeaseId(1), 10, 1).unwrap();
    table.attach(b"a", LeaseId(1));
    table.detach(b"a");
    table.detach(b"never attached");
    assert!(table.contains(LeaseId(1)));
    assert_eq!(table.view().keys(LeaseId(1)).count(), 0);
}

#[test]
fn many_keys_are_attached_at_once_or_none_is() {
    let (mut table, mut one_by_one) = (Table::new(), Table::new());
    let mut pairs: Vec<(bytes::Bytes, LeaseId)> = Vec::new();
    for number in 0..200_i64 {
        let id = LeaseId(number * 7 % 50 + 1);
        let _ = table.grant(id, 10, 1);
        let _ = one_by_one.grant(id, 10, 1);
        let key = format!("key-{}", number * 31 % 200);
        one_by_one.attach(key.as_bytes(), id);
        pairs.push((key.into(), id));
    }
    let with_unknown = pairs.iter().cloned().chain([("a".into(), LeaseId(77))]);
    assert_eq!(table.attach_all(with_unknown), Err(LeaseId(77)));
    assert!(!table.has_keys() && table.view().key_count() == 0);
    assert_eq!(table.attach_all(pairs.clone()), Ok(()));
    for id in (1..=50).map(LeaseId) {
        assert!(table.view().keys(id).eq(one_by_one.view().keys(id)), "{id}");
    }
    assert!(pairs.iter().all(|(key, id)| table.of_key(key) == Some(*id)));
}
