//! Scenarios over whole members: what clients may rely on, in quiet and while things break.

mod api;
mod clock;

mod compaction;
mod deletes;
mod errors;
mod kubernetes;
mod long_reads;
mod puts;
mod ranges;
mod revisions;
mod streams;
mod txn_rules;
mod txns;

mod bad_input;
mod failover;
mod full_disk;
mod hanging;
mod kills;
mod leaderless;
mod lifecycle;
mod power;
mod rebuild;
mod unanswered;
