//! Which transactions write one key twice.
//!
//! In one branch of a transaction, nested transactions included, a key may be put once, and not be put where it is
//! deleted. The rule is etcd's, with what is odd about it, since a client can see it:
//!
//! - The two branches of one nested transaction exclude each other, so both may put a key.
//! - The nested transactions of a list are looked at in order, each against the deletes found before it. So of two
//!   neighbours, one putting `k` and a later one deleting `k` pass; the other way round they do not.
//! - A delete from a key on without end (`range_end` of one zero byte) is compared as if it ended before that zero byte.
//!   It covers nothing, so it never collides.
//!
//! Lists are walked with a stack of our own, not by recursion: how deep they nest is the client's choice.

use std::collections::{BTreeMap, BTreeSet};

use kvorum_proto::wire::{RequestOp, request_op::Request};

use crate::validate::RequestError;

/// Checks one branch of a transaction.
pub(crate) fn check(operations: &[RequestOp]) -> Result<(), RequestError> {
    // Most transactions do one thing, or one thing else: they need no sets.
    let is_txn = |operation: &RequestOp| matches!(operation.request, Some(Request::RequestTxn(_)));
    if operations.len() < 2 && !operations.iter().any(is_txn) {
        return Ok(());
    }
    let mut lists = vec![List::new(operations)];
    // What the list that was just finished writes, to be taken up by the list it is nested in.
    let mut finished: Option<Footprint<'_>> = None;
    while let Some(list) = lists.last_mut() {
        if let Some(footprint) = finished.take() {
            list.take_branch(footprint)?;
        }
        match list.next_branch() {
            Some(branch) => lists.push(List::new(branch)),
            None => {
                list.add_own_puts()?;
                finished = lists.pop().map(|list| list.footprint);
            }
        }
    }
    Ok(())
}

/// The keys that a list of operations puts and deletes.
#[derive(Default)]
struct Footprint<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// A list of operations on the way through.
struct List<'a> {
    operations: &'a [RequestOp],
    /// How many of the list's operations have been searched for nested transactions.
    searched_count: usize,
    /// The second branch of the nested transaction whose first branch is under way.
    failure: Option<&'a [RequestOp]>,
    /// What the first branch of a nested transaction writes, while its second is under way.
    success: Option<Footprint<'a>>,
    footprint: Footprint<'a>,
}

impl<'a> List<'a> {
    /// Starts with the list's own deletes: nested puts are compared with them wherever they stand in the list.
    fn new(operations: &'a [RequestOp]) -> List<'a> {
        let mut footprint = Footprint::default();
        for operation in operations {
            if let Some(Request::RequestDeleteRange(delete)) = &operation.request {
                footprint.deletes.add(&delete.key, &delete.range_end);
            }
        }
        List { operations, searched_count: 0, failure: None, success: None, footprint }
    }

    /// The next nested branch to look at.
    fn next_branch(&mut self) -> Option<&'a [RequestOp]> {
        if let Some(failure) = self.failure.take() {
            return Some(failure);
        }
        while let Some(operation) = self.operations.get(self.searched_count) {
            self.searched_count += 1;
            if let Some(Request::RequestTxn(nested)) = &operation.request {
                self.failure = Some(&nested.failure);
                return Some(&nested.success);
            }
        }
        None
    }

    /// Takes up what a nested branch writes: the first branch waits for the second.
    fn take_branch(&mut self, branch: Footprint<'a>) -> Result<(), RequestError> {
        let Some(success) = self.success.take() else {
            self.success = Some(branch);
            return Ok(());
        };
        let failure = branch;
        self.refuse_known(&success.puts)?;
        self.refuse_known(&failure.puts)?;
        self.footprint.puts.extend(success.puts);
        self.footprint.puts.extend(failure.puts);
        self.footprint.deletes.add_all(success.deletes);
        self.footprint.deletes.add_all(failure.deletes);
        Ok(())
    }

    /// Adds the list's own puts, last, so that they are compared with everything nested.
    fn add_own_puts(&mut self) -> Result<(), RequestError> {
        for operation in self.operations {
            if let Some(Request::RequestPut(put)) = &operation.request {
                self.refuse_known(std::iter::once(&put.key.as_ref()))?;
                self.footprint.puts.insert(&put.key);
            }
        }
        Ok(())
    }

    fn refuse_known<'b>(
        &self,
        keys: impl IntoIterator<Item = &'b &'b [u8]>,
    ) -> Result<(), RequestError> {
        let Footprint { puts, deletes } = &self.footprint;
        let known = |key: &[u8]| puts.contains(key) || deletes.contains(key);
        if keys.into_iter().any(|key| known(key)) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

/// A union of key intervals, each from its first key to before its end.
///
/// - Intervals are disjoint, so that the one that may hold a key is the last that begins at or before it.
#[derive(Default)]
struct Intervals<'a> {
    ends: BTreeMap<&'a [u8], End<'a>>,
}

/// Where an interval ends.
#[derive(Clone, Copy)]
enum End<'a> {
    /// After the key it begins with.
    Own,
    /// Before this key.
    Before(&'a [u8]),
}

impl<'a> Intervals<'a> {
    /// Adds the keys that a delete request names by `key` and `range_end`.
    fn add(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            if !self.contains(key) {
                self.ends.insert(key, End::Own);
            }
        } else if key < range_end {
            self.add_range(key, range_end);
        }
    }

    fn add_all(&mut self, other: Intervals<'a>) {
        for (key, end) in other.ends {
            match end {
                End::Own => self.add(key, &[]),
                End::Before(end) => self.add(key, end),
            }
        }
    }

    fn add_range(&mut self, start: &'a [u8], end: &'a [u8]) {
        let (mut start, mut end) = (start, end);
        if let Some((&before, &End::Before(before_end))) = self.ends.range(..=start).next_back()
            && start <= before_end
        {
            start = before;
            end = end.max(before_end);
        }
        // Whatever begins inside is swallowed; the last such may reach further.
        while let Some((&inside, &inside_end)) = self.ends.range(start..end).next() {
            if let End::Before(inside_end) = inside_end {
                end = end.max(inside_end);
            }
            self.ends.remove(inside);
        }
        self.ends.insert(start, End::Before(end));
    }

    fn contains(&self, key: &[u8]) -> bool {
        match self.ends.range(..=key).next_back() {
            Some((&start, End::Own)) => start == key,
            Some((_, &End::Before(end))) => key < end,
            None => false,
        }
    }
}
