//! What the scenarios under `tests/` share, which so far is nothing but a place to stand in the workspace.
//!
//! This crate must never be a dependency of another one.
