//! Scenarios of watches over whole members: what a client is told, and when.

mod api;

mod client;
mod ends;
mod service;
mod starts;
