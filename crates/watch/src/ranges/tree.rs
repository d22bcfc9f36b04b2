//! An interval tree: ranges of keys, and which of them hold a key, in O(log n) steps and one for each that does.
//!
//! A treap ordered by start and end, in which every node knows the range in its subtree that ends last. Priorities come
//! from the number of insertions, mixed with a seed: the same history and seed always make the same tree, and a client that
//! does not know the seed cannot choose ranges that make a list of it.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::slab::Slab;

/// Stands for no node.
const NIL: u32 = u32::MAX;

/// Ranges with a start and perhaps an end, each with a number that the caller gave it.
#[derive(Debug)]
pub(crate) struct RangeTree {
    seed: u64,
    nodes: Slab<Node>,
    root: u32,
    inserted_count: u64,
}

/// - Every range in `left` is before this one, and every range in `right` after it.
/// - The priority is not below that of either child.
/// - `last` is the node of this subtree whose range ends last.
#[derive(Debug)]
struct Node {
    start: Bytes,
    /// `None` has no end.
    end: Option<Bytes>,
    number: u32,
    priority: u32,
    left: u32,
    right: u32,
    last: u32,
}

impl RangeTree {
    pub fn new(seed: u64) -> RangeTree {
        RangeTree { seed, nodes: Slab::default(), root: NIL, inserted_count: 0 }
    }

    /// The number of a range.
    pub fn get(&self, start: &[u8], end: Option<&[u8]>) -> Option<u32> {
        let (found, _) = self.find(start, end);
        (found != NIL).then(|| self.node(found).number)
    }

    /// Adds a range that is not there.
    pub fn insert(&mut self, start: Bytes, end: Option<Bytes>, number: u32) {
        let (found, mut path) = self.find(&start, end.as_deref());
        debug_assert_eq!(found, NIL, "a range is there once");
        self.inserted_count += 1;
        let priority = mix(self.seed.wrapping_add(self.inserted_count));
        let node = Node { start, end, number, priority, left: NIL, right: NIL, last: NIL };
        let added = self.nodes.insert(node);
        self.set_last(added);
        match path.last() {
            None => self.root = added,
            Some(&parent) if self.order(added, parent) == Ordering::Less => {
                self.node_mut(parent).left = added;
            }
            Some(&parent) => self.node_mut(parent).right = added,
        }
        while let Some(&parent) = path.last()
            && self.node(added).priority > self.node(parent).priority
        {
            path.pop();
            self.rotate_up(added, parent, path.last().copied());
        }
        self.set_last_of_all(&path);
    }

    /// Takes a range out.
    pub fn remove(&mut self, start: &[u8], end: Option<&[u8]>) {
        let (found, mut path) = self.find(start, end);
        if found == NIL {
            return;
        }
        loop {
            let Node { left, right, .. } = *self.node(found);
            let child = match (left, right) {
                (NIL, NIL) => break,
                (NIL, child) | (child, NIL) => child,
                _ if self.node(left).priority > self.node(right).priority => left,
                _ => right,
            };
            self.rotate_up(child, found, path.last().copied());
            path.push(child);
        }
        self.replace_child(path.last().copied(), found, NIL);
        self.nodes.remove(found);
        self.set_last_of_all(&path);
    }

    /// Calls `visit` with the number of every range that holds `key`.
    pub fn find_holding(&self, key: &[u8], mut visit: impl FnMut(u32)) {
        // As deep as the tree, which is a few dozen for any number of ranges that fits memory.
        let mut waiting = Vec::with_capacity(64);
        waiting.push(self.root);
        while let Some(at) = waiting.pop() {
            if at == NIL || !self.ends_after(self.node(at).last, key) {
                continue;
            }
            let node = self.node(at);
            waiting.push(node.left);
            if node.start.as_ref() <= key {
                if self.ends_after(at, key) {
                    visit(node.number);
                }
                waiting.push(node.right);
            }
        }
    }

    /// The node of a range, or where it would be; and the nodes above it, the root first.
    fn find(&self, start: &[u8], end: Option<&[u8]>) -> (u32, Vec<u32>) {
        let mut path = Vec::new();
        let mut at = self.root;
        while at != NIL {
            let node = self.node(at);
            let order =
                start.cmp(&node.start).then_with(|| order_of_ends(end, node.end.as_deref()));
            let next = match order {
                Ordering::Less => node.left,
                Ordering::Equal => return (at, path),
                Ordering::Greater => node.right,
            };
            path.push(at);
            at = next;
        }
        (NIL, path)
    }

    fn order(&self, one: u32, other: u32) -> Ordering {
        let (one, other) = (self.node(one), self.node(other));
        let of_ends = || order_of_ends(one.end.as_deref(), other.end.as_deref());
        one.start.cmp(&other.start).then_with(of_ends)
    }

    fn ends_after(&self, at: u32, key: &[u8]) -> bool {
        self.node(at).end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// Puts a child in its parent's place, and the parent below it.
    fn rotate_up(&mut self, child: u32, parent: u32, above: Option<u32>) {
        if self.node(parent).left == child {
            let moved = std::mem::replace(&mut self.node_mut(child).right, parent);
            self.node_mut(parent).left = moved;
        } else {
            let moved = std::mem::replace(&mut self.node_mut(child).left, parent);
            self.node_mut(parent).right = moved;
        }
        self.set_last(parent);
        self.set_last(child);
        self.replace_child(above, parent, child);
    }

    fn replace_child(&mut self, parent: Option<u32>, old: u32, new: u32) {
        match parent {
            None => self.root = new,
            Some(parent) if self.node(parent).left == old => self.node_mut(parent).left = new,
            Some(parent) => self.node_mut(parent).right = new,
        }
    }

    fn set_last_of_all(&mut self, path: &[u32]) {
        for &at in path.iter().rev() {
            self.set_last(at);
        }
    }

    fn set_last(&mut self, at: u32) {
        let node = self.node(at);
        let mut last = at;
        for child in [node.left, node.right] {
            if child != NIL {
                let below = self.node(child).last;
                let (end, so_far) = (&self.node(below).end, &self.node(last).end);
                if order_of_ends(end.as_deref(), so_far.as_deref()) == Ordering::Greater {
                    last = below;
                }
            }
        }
        self.node_mut(at).last = last;
    }

    fn node(&self, at: u32) -> &Node {
        self.nodes.get(at).expect("links lead to nodes that are there")
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        self.nodes.get_mut(at).expect("links lead to nodes that are there")
    }
}

/// No end is after every end.
fn order_of_ends(one: Option<&[u8]>, other: Option<&[u8]>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.cmp(other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

/// The finaliser of splitmix64, cut to 32 bits.
fn mix(number: u64) -> u32 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    type Plain = Vec<(Bytes, Option<Bytes>, u32)>;

    fn check(tree: &RangeTree, plain: &Plain, key_count: u64) {
        for key in 0..key_count {
            let key = key.to_string();
            let mut found = Vec::new();
            tree.find_holding(key.as_bytes(), |number| found.push(number));
            found.sort_unstable();
            let holds = |(start, end, _): &&(Bytes, Option<Bytes>, u32)| {
                start.as_ref() <= key.as_bytes()
                    && end.as_ref().is_none_or(|end| key.as_bytes() < end.as_ref())
            };
            let mut wanted: Vec<u32> = plain.iter().filter(holds).map(|plain| plain.2).collect();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "key {key}");
        }
    }

    fn depth(tree: &RangeTree) -> usize {
        let mut waiting = vec![(tree.root, 1)];
        let mut deepest = 0;
        while let Some((at, depth)) = waiting.pop() {
            if at != NIL {
                deepest = deepest.max(depth);
                waiting.push((tree.node(at).left, depth + 1));
                waiting.push((tree.node(at).right, depth + 1));
            }
        }
        deepest
    }

    #[test]
    fn finds_what_a_list_finds_while_ranges_come_and_go() {
        let (mut tree, mut plain) = (RangeTree::new(3), Plain::new());
        let mut seed = 7;
        let mut below = |bound: u32| {
            seed += 1;
            mix(seed) % bound
        };
        for round in 0..3000 {
            let start = Bytes::from(below(60).to_string());
            let end = (below(8) > 0).then(|| Bytes::from(below(60).to_string()));
            let known = plain.iter().position(|(s, e, _)| *s == start && *e == end);
            assert_eq!(tree.get(&start, end.as_deref()), known.map(|place| plain[place].2));
            match known {
                Some(place) => {
                    tree.remove(&start, end.as_deref());
                    plain.swap_remove(place);
                }
                None => {
                    tree.insert(start.clone(), end.clone(), round);
                    plain.push((start, end, round));
                }
            }
            if round % 50 == 0 {
                check(&tree, &plain, 60);
            }
        }
        for (start, end, _) in std::mem::take(&mut plain) {
            tree.remove(&start, end.as_deref());
        }
        assert_eq!((tree.nodes.len(), tree.root), (0, NIL));
    }

    #[test]
    fn ranges_that_come_in_order_make_no_list() {
        let mut tree = RangeTree::new(0);
        for number in 0..10_000u32 {
            let start = Bytes::from(format!("/{number:05}/"));
            tree.insert(start, Some(format!("/{number:05}0").into()), number);
        }
        assert!(depth(&tree) < 50, "{}", depth(&tree));
    }

    #[test]
    fn ranges_chosen_for_one_seed_make_no_list_with_another() {
        // The n-th to come is to have its place in the order where its priority has its place among all.
        let mut by_priority: Vec<u64> = (1..=2000).collect();
        by_priority.sort_unstable_by_key(|count| mix(*count));
        let mut starts = vec![Bytes::new(); by_priority.len()];
        for (place, count) in by_priority.into_iter().enumerate() {
            starts[count as usize - 1] = format!("{place:05}").into();
        }
        let depth_with = |seed| {
            let mut tree = RangeTree::new(seed);
            for (start, number) in starts.iter().zip(0..) {
                tree.insert(start.clone(), None, number);
            }
            depth(&tree)
        };
        assert_eq!(depth_with(0), 2000, "this is what they were chosen for");
        assert!(depth_with(0x5eed) < 50, "{}", depth_with(0x5eed));
    }
}
