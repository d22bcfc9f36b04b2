//! Values as Go's standard library reads and writes them.
//!
//! etcdctl is a Go program, and scripts read what it prints: numbers, durations, quoted strings, JSON. What is here prints
//! and understands the same, its error texts included.

pub mod duration;
pub mod errno;
pub mod json;
pub mod number;
pub mod quote;
pub mod size;
