//! Identities that etcd's clients see as 64-bit numbers.

use std::fmt;

/// A member of a cluster, for life: a removed member's id never returns.
///
/// Shown the way etcd shows it, as lower-case hexadecimal without leading zeros.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberId(pub u64);

/// A cluster, derived from its first members; peers of another cluster are refused.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClusterId(pub u64);

/// How often a member's log has been opened: one more at each start, so that what one run of a member proposed is
/// never taken for what an earlier run proposed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Incarnation(pub u64);

/// A lease, as its client chose or was given it: any number but zero, which says that there is none.
///
/// Shown the way etcd's tools show it, as 16 hexadecimal digits.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The number that stands for no lease.
    pub const NONE: LeaseId = LeaseId(0);
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({:x})", self.0)
    }
}

macro_rules! show_as_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }
    };
}

show_as_hex!(MemberId);
show_as_hex!(ClusterId);
