//! Leases, locks and elections as clients of any member see them.

mod elections;
mod fencing;
mod gone;
mod hazards;
mod locks;
mod places;
mod queues;
mod recipes;
mod safety;
mod service;
mod sessions;
mod streams;
mod transactions;
