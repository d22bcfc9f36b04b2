//! Leases, locks and elections as clients of any member see them.

mod elections;
mod locks;
mod service;
mod streams;
