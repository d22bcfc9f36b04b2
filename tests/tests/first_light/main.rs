//! Scenarios over whole members: what clients may rely on, in quiet and while things break.

mod api;

mod compaction;
mod deletes;
mod errors;
mod kubernetes;
mod puts;
mod ranges;
mod revisions;
mod streams;
mod txn_rules;
mod txns;

mod bad_input;
mod failover;
mod full_disk;
mod kills;
mod lifecycle;
mod power;
mod rebuild;
