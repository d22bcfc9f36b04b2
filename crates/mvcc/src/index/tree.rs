//! A copy-on-write B+tree from keys to their newest changes.
//!
//! Nodes are shared between the tree that is being changed and the trees that were published. Changing a tree copies
//! the nodes on the way that are shared, and changes those in place that are not: of all changes of one batch, only the
//! first to come through a node copies it. Branches hold the count of live keys under each child, so that counting a
//! range takes O(log n).
//!
//! Nodes are split and joined on the way down, before they are entered, so that nothing has to come back up. A branch
//! has few children because a copy of it touches each of them (their reference counts).

use std::ops::ControlFlow;
use std::sync::Arc;

use kvorum_types::{KeyRange, RangeEnd};

use super::Head;
use super::leaf::{LEAF_KEYS_MAX, Leaf};
use super::packed::Packed;

const BRANCH_CHILDREN_MAX: usize = 24;
const BRANCH_CHILDREN_MIN: usize = BRANCH_CHILDREN_MAX / 4;

const _: () = assert!(BRANCH_CHILDREN_MIN >= 2 && LEAF_KEYS_MAX >= 8);

/// The tree. A clone is a pinned tree and costs one reference count.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Child,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

/// Children in order; `separators[i]` is above every key of child `i` and not above any of child `i + 1`.
#[derive(Clone, Debug)]
struct Branch {
    separators: Packed,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
struct Child {
    node: Arc<Node>,
    live_count: u64,
}

impl Default for Tree {
    fn default() -> Tree {
        let node = Arc::new(Node::Leaf(Leaf::default()));
        Tree { root: Child { node, live_count: 0 } }
    }
}

impl Tree {
    /// How many keys are live.
    pub fn live_count(&self) -> u64 {
        self.root.live_count
    }

    /// The newest change of a key.
    pub fn get(&self, key: &[u8]) -> Option<&Head> {
        let mut node = self.root.node.as_ref();
        loop {
            match node {
                Node::Leaf(leaf) => {
                    return leaf.keys.search(key).ok().map(|place| &leaf.heads[place]);
                }
                Node::Branch(branch) => node = &branch.children[branch.place_of(key)].node,
            }
        }
    }

    /// Sets the newest change of a key; `old` is what [`Tree::get`] says now.
    pub fn set(&mut self, key: &[u8], head: Head, old: Option<&Head>) {
        debug_assert_eq!(self.get(key), old, "the old head is the present one");
        let old_live_count = old.map_or(0, Head::live_count);
        let is_new = old.is_none();
        if is_new && self.root.node.is_full() {
            self.grow(key);
        }
        let mut child = &mut self.root;
        loop {
            child.live_count = child.live_count - old_live_count + head.live_count();
            match Arc::make_mut(&mut child.node) {
                Node::Leaf(leaf) => return leaf.set(key, head),
                Node::Branch(branch) => {
                    let mut place = branch.place_of(key);
                    if is_new && branch.children[place].node.is_full() {
                        branch.split_child(place, key);
                        place = branch.place_of(key);
                    }
                    child = &mut branch.children[place];
                }
            }
        }
    }

    /// Takes a key out; `old` is what [`Tree::get`] says now.
    pub fn remove(&mut self, key: &[u8], old: &Head) {
        debug_assert_eq!(self.get(key), Some(old), "the old head is the present one");
        let mut child = &mut self.root;
        loop {
            child.live_count -= old.live_count();
            match Arc::make_mut(&mut child.node) {
                Node::Leaf(leaf) => {
                    leaf.remove(key);
                    break;
                }
                Node::Branch(branch) => {
                    let mut place = branch.place_of(key);
                    if branch.children[place].node.is_small() && branch.children.len() > 1 {
                        branch.join_child(place);
                        place = branch.place_of(key);
                    }
                    child = &mut branch.children[place];
                }
            }
        }
        self.shrink();
    }

    /// Puts a branch above a full root.
    fn grow(&mut self, key: &[u8]) {
        let mut branch =
            Branch { separators: Packed::default(), children: vec![self.root.clone()] };
        // The only other reference goes, so that the split need not copy.
        self.root.node = Arc::new(Node::Leaf(Leaf::default()));
        branch.split_child(0, key);
        self.root.node = Arc::new(Node::Branch(branch));
    }

    /// Takes branches with a single child off the top.
    fn shrink(&mut self) {
        while let Node::Branch(branch) = self.root.node.as_ref()
            && let [only] = branch.children.as_slice()
        {
            self.root = only.clone();
        }
    }

    /// How many live keys lie in a range.
    pub fn count(&self, range: &KeyRange) -> u64 {
        if range.is_empty() {
            return 0;
        }
        match &range.end {
            RangeEnd::Point => self.get(&range.start).map_or(0, Head::live_count),
            RangeEnd::Unbounded => self.live_count() - self.live_count_below(&range.start),
            RangeEnd::Before(end) => {
                self.live_count_below(end) - self.live_count_below(&range.start)
            }
        }
    }

    /// How many live keys sort below `key`.
    fn live_count_below(&self, key: &[u8]) -> u64 {
        let mut below = 0;
        let mut node = self.root.node.as_ref();
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let place = leaf.keys.search(key).unwrap_or_else(|place| place);
                    return below + leaf.heads[..place].iter().map(Head::live_count).sum::<u64>();
                }
                Node::Branch(branch) => {
                    let place = branch.place_of(key);
                    below += branch.children[..place].iter().map(|c| c.live_count).sum::<u64>();
                    node = &branch.children[place].node;
                }
            }
        }
    }

    /// Visits the keys of a range in order, dead ones too, until told to stop.
    pub fn visit<'a>(
        &'a self,
        range: &KeyRange,
        mut visit: impl FnMut(&'a [u8], &'a Head) -> ControlFlow<()>,
    ) {
        let mut path: Vec<std::slice::Iter<'a, Child>> = Vec::new();
        let (mut leaf, first) = self.descend(&range.start, &mut path);
        let mut first = Some(first);
        loop {
            for place in first.take().unwrap_or(0)..leaf.len() {
                let key = leaf.keys.get(place);
                if !range.contains(key) || visit(key, &leaf.heads[place]).is_break() {
                    return;
                }
            }
            match next_leaf(&mut path) {
                Some(next) => leaf = next,
                None => return,
            }
        }
    }

    /// The leaf and the place of the first key not below `key`, with the way to what follows.
    fn descend<'a>(
        &'a self,
        key: &[u8],
        path: &mut Vec<std::slice::Iter<'a, Child>>,
    ) -> (&'a Leaf, usize) {
        let mut node = self.root.node.as_ref();
        loop {
            match node {
                Node::Leaf(leaf) => {
                    return (leaf, leaf.keys.search(key).unwrap_or_else(|place| place));
                }
                Node::Branch(branch) => {
                    let place = branch.place_of(key);
                    path.push(branch.children[place + 1..].iter());
                    node = &branch.children[place].node;
                }
            }
        }
    }
}

/// Goes on to the leaf that follows the path.
fn next_leaf<'a>(path: &mut Vec<std::slice::Iter<'a, Child>>) -> Option<&'a Leaf> {
    let mut node = loop {
        match path.last_mut()?.next() {
            Some(child) => break child.node.as_ref(),
            None => {
                path.pop();
            }
        }
    };
    loop {
        match node {
            Node::Leaf(leaf) => return Some(leaf),
            Node::Branch(branch) => {
                let mut children = branch.children.iter();
                // A branch is never without children.
                node = children.next()?.node.as_ref();
                path.push(children);
            }
        }
    }
}

impl Node {
    fn is_full(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.is_full(),
            Node::Branch(branch) => branch.children.len() >= BRANCH_CHILDREN_MAX,
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.is_small(),
            Node::Branch(branch) => branch.children.len() < BRANCH_CHILDREN_MIN,
        }
    }

    fn live_count(&self) -> u64 {
        match self {
            Node::Leaf(leaf) => leaf.live_count(),
            Node::Branch(branch) => branch.children.iter().map(|child| child.live_count).sum(),
        }
    }
}

impl Branch {
    /// The child that a key belongs to.
    fn place_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(place) => place + 1,
            Err(place) => place,
        }
    }

    /// Splits a full child in two; `key` is what will be inserted.
    fn split_child(&mut self, place: usize, key: &[u8]) {
        let child = &mut self.children[place];
        let (upper, separator) = match Arc::make_mut(&mut child.node) {
            Node::Leaf(leaf) => {
                let (upper, separator) = leaf.split(key);
                (Node::Leaf(upper), separator)
            }
            Node::Branch(branch) => {
                let is_at_end = branch.place_of(key) + 1 == branch.children.len();
                let count = branch.children.len();
                let (upper, separator) =
                    branch.split_at(if is_at_end { count * 3 / 4 } else { count / 2 });
                (Node::Branch(upper), separator)
            }
        };
        self.insert_upper(place, upper, &separator);
    }

    /// Puts what was split off child `place` behind it.
    fn insert_upper(&mut self, place: usize, upper: Node, separator: &[u8]) {
        let live_count = upper.live_count();
        self.children[place].live_count -= live_count;
        self.separators.insert(place, separator);
        self.children.insert(place + 1, Child { node: Arc::new(upper), live_count });
    }

    fn split_at(&mut self, place: usize) -> (Branch, Vec<u8>) {
        let children = self.children.split_off(place);
        let separators = self.separators.split_off(place);
        let separator = self.separators.get(place - 1).to_vec();
        self.separators.remove(place - 1);
        (Branch { separators, children }, separator)
    }

    /// Joins a small child with a neighbour; shares the content evenly when it is too much for one.
    fn join_child(&mut self, place: usize) {
        let lower = if place + 1 < self.children.len() { place } else { place - 1 };
        let upper = self.children.remove(lower + 1);
        let separator = self.separators.get(lower).to_vec();
        self.separators.remove(lower);
        let child = &mut self.children[lower];
        child.live_count += upper.live_count;
        let split = match (Arc::make_mut(&mut child.node), upper.node.as_ref()) {
            (Node::Leaf(lower), Node::Leaf(upper)) => {
                lower.append(upper);
                lower.is_full().then(|| {
                    let (upper, separator) = lower.split_at(lower.len() / 2);
                    (Node::Leaf(upper), separator)
                })
            }
            (Node::Branch(lower), Node::Branch(upper)) => {
                lower.separators.insert(lower.separators.len(), &separator);
                lower.separators.append(&upper.separators);
                lower.children.extend_from_slice(&upper.children);
                (lower.children.len() >= BRANCH_CHILDREN_MAX).then(|| {
                    let (upper, separator) = lower.split_at(lower.children.len() / 2);
                    (Node::Branch(upper), separator)
                })
            }
            _ => unreachable!("all leaves of a tree are at one depth"),
        };
        if let Some((upper, separator)) = split {
            self.insert_upper(lower, upper, &separator);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;

    /// A small generator: the tests need variety, not quality.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    fn content(tree: &Tree, range: &KeyRange) -> Vec<(Vec<u8>, Head)> {
        let mut found = Vec::new();
        tree.visit(range, |key, head| {
            found.push((key.to_vec(), *head));
            ControlFlow::Continue(())
        });
        found
    }

    fn check(tree: &Tree, model: &BTreeMap<Vec<u8>, Head>, random: &mut Random) {
        let whole: Vec<_> = model.iter().map(|(key, head)| (key.clone(), *head)).collect();
        assert_eq!(content(tree, &KeyRange::all()), whole);
        let live = |keys: &mut dyn Iterator<Item = (&Vec<u8>, &Head)>| {
            keys.map(|(_, head)| head.live_count()).sum::<u64>()
        };
        assert_eq!(tree.live_count(), live(&mut model.iter()));
        for _ in 0..10 {
            let start = Bytes::from(key(random.below(3000)));
            let end = Bytes::from(key(random.below(3000)));
            let range = KeyRange { start, end: RangeEnd::Before(end) };
            let wanted = live(&mut model.iter().filter(|(key, _)| range.contains(key)));
            assert_eq!(tree.count(&range), wanted, "{range:?}");
            if !range.is_empty() {
                let found = content(tree, &range).len();
                assert_eq!(found, model.keys().filter(|key| range.contains(key)).count());
            }
        }
    }

    fn key(number: u64) -> Vec<u8> {
        // Lengths differ, some much.
        let tail = if number.is_multiple_of(100) { 3000 } else { number as usize % 30 };
        [format!("key-{number:05}").into_bytes(), vec![b'x'; tail]].concat()
    }

    #[test]
    fn the_tree_agrees_with_a_map_and_pinned_trees_never_change() {
        let mut random = Random(42);
        let mut tree = Tree::default();
        let mut model = BTreeMap::new();
        let mut pinned = Vec::new();
        for step in 0..30_000u64 {
            // Grow for a while, then shrink.
            let removes = if step % 10_000 < 5000 { 2 } else { 7 };
            let key = key(random.below(3000));
            let old = tree.get(&key).copied();
            assert_eq!(old, model.get(&key).copied());
            if random.below(10) < removes {
                if let Some(old) = old {
                    tree.remove(&key, &old);
                    model.remove(&key);
                }
            } else {
                let main = step as i64 + 2;
                let head = match random.below(4) {
                    0 => Head::tombstone(main, step),
                    _ => Head::live(main, main, 1, step),
                };
                tree.set(&key, head, old.as_ref());
                model.insert(key, head);
            }
            if step % 1500 == 0 {
                check(&tree, &model, &mut random);
                pinned.push((tree.clone(), model.clone()));
            }
        }
        for (tree, model) in &pinned {
            check(tree, model, &mut random);
        }
        for (key, head) in model.clone() {
            tree.remove(&key, &head);
        }
        check(&tree, &BTreeMap::new(), &mut random);
    }

    #[test]
    fn keys_in_order_fill_the_leaves() {
        let mut tree = Tree::default();
        for number in 0..10_000u64 {
            tree.set(format!("{number:08}").as_bytes(), Head::live(2, 2, 1, number), None);
        }
        let mut leaves = 0;
        let mut path = Vec::new();
        tree.descend(b"", &mut path);
        while next_leaf(&mut path).is_some() {
            leaves += 1;
        }
        assert!(leaves < 10_000 / (LEAF_KEYS_MAX - 2), "{leaves} leaves");
    }
}
