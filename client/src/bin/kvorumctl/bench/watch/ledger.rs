//! The puts that are watched for.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

/// Which put of the process it is, from 0.
pub type PutNumber = u64;

/// Bytes at the beginning of a value that hold the put's number.
pub const MARK_BYTES: usize = size_of::<PutNumber>();

/// Every put: when it was sent and what is known of it. A put that failed may or may not have been done; it was if anyone
/// was told of it.
#[derive(Debug, Default)]
pub struct Ledger {
    puts: Vec<Put>,
    /// Puts that are answered or seen.
    done: u64,
    /// Puts that are answered.
    answered: u64,
}

#[derive(Debug)]
struct Put {
    sent: Instant,
    answered: bool,
    seen: bool,
}

impl Ledger {
    /// The next put is sent now.
    pub fn sent(&mut self, sent: Instant) -> PutNumber {
        self.puts.push(Put { sent, answered: false, seen: false });
        self.puts.len() as PutNumber - 1
    }

    /// A put was answered.
    pub fn answered(&mut self, number: PutNumber) {
        if let Some(put) = at(&mut self.puts, number) {
            self.done += u64::from(!put.answered && !put.seen);
            self.answered += u64::from(!put.answered);
            put.answered = true;
        }
    }

    /// A watcher was told of a put; returns when it was sent.
    pub fn seen(&mut self, number: PutNumber) -> Option<Instant> {
        let put = at(&mut self.puts, number)?;
        self.done += u64::from(!put.answered && !put.seen);
        put.seen = true;
        Some(put.sent)
    }

    /// How many puts were done: every watcher is to be told of as many.
    pub fn done_count(&self) -> u64 {
        self.done
    }

    /// The number that the next put will have.
    pub fn next_number(&self) -> PutNumber {
        self.puts.len() as PutNumber
    }
}

fn at(puts: &mut [Put], number: PutNumber) -> Option<&mut Put> {
    puts.get_mut(usize::try_from(number).ok()?)
}

/// A value with a put's number in it, otherwise as `value`, which is at least as long as the number.
pub fn mark(number: PutNumber, value: &[u8]) -> Bytes {
    let mut marked = BytesMut::with_capacity(value.len());
    marked.put_u64_le(number);
    marked.put_slice(value.get(MARK_BYTES..).unwrap_or_default());
    marked.freeze()
}

/// The number in a value; `None` if it is too short to have one.
pub fn number_in(value: &[u8]) -> Option<PutNumber> {
    value.first_chunk().map(|bytes| PutNumber::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Ledger, mark, number_in};

    #[test]
    fn numbers_travel_in_values() {
        let value = mark(258, b"0123456789");
        assert_eq!((number_in(&value), &value[8..]), (Some(258), &b"89"[..]));
        assert_eq!(number_in(b"short"), None);
    }

    #[test]
    fn a_put_is_done_when_it_is_answered_or_seen() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        assert_eq!([ledger.sent(now), ledger.sent(now), ledger.sent(now)], [0, 1, 2]);
        ledger.answered(0);
        assert_eq!(ledger.seen(0), Some(now));
        assert_eq!(ledger.seen(1), Some(now));
        ledger.answered(1);
        assert_eq!((ledger.done_count(), ledger.next_number()), (2, 3));
        assert_eq!(ledger.seen(99), None);
    }
}
