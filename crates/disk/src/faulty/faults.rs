//! Which operations fail.

use std::io;

use super::trace::OpKind;

/// The failures that were asked for and have not happened yet.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    planned: Vec<Planned>,
    /// How many more operations that change something go through before the power is going.
    changes_left: Option<u64>,
}

#[derive(Clone, Debug)]
struct Planned {
    /// Which operations are counted; `None` counts all.
    kind: Option<OpKind>,
    /// How many of them still go through.
    skip: u64,
    error: io::ErrorKind,
}

impl Faults {
    /// The `nth` operation from now (of a kind, or of all), counted from 1, fails once.
    pub fn fail_nth(&mut self, kind: Option<OpKind>, nth: u64, error: io::ErrorKind) {
        assert!(nth > 0, "operations are counted from 1");
        self.planned.push(Planned { kind, skip: nth - 1, error });
    }

    /// After `changes` more operations that change something, every operation fails.
    pub fn halt_after(&mut self, changes: u64) {
        self.changes_left = Some(changes);
    }

    /// Whether every operation fails from now on.
    pub fn is_halted(&self) -> bool {
        self.changes_left == Some(0)
    }

    /// Whether an operation of this kind fails now. It is counted by every failure that is planned.
    pub fn check(&mut self, kind: OpKind) -> io::Result<()> {
        if let Some(left) = &mut self.changes_left {
            if *left == 0 {
                return Err(io::Error::other("the power is going"));
            }
            *left -= u64::from(kind.changes());
        }
        let mut failure = None;
        self.planned.retain_mut(|planned| {
            if planned.kind.is_some_and(|wanted| wanted != kind) {
                return true;
            }
            if planned.skip == 0 {
                failure = Some(planned.error);
                return false;
            }
            planned.skip -= 1;
            true
        });
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}
