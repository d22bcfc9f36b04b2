//! Scenarios of watches over whole members: what a client is told, and when.

mod api;

mod checker;

mod client;
mod ends;
mod etcd_bugs;
mod faults;
mod limits;
mod service;
mod starts;
mod zero;
