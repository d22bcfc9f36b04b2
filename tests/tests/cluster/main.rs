//! Scenarios over whole members: those that come, go, move and take over.

mod errors;
mod grow;
mod joins;
mod leaders;
mod learners;
mod moves;
mod removed;
mod space;
