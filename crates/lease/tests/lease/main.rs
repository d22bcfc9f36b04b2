//! Leases as their users drive them: the rules one by one, faults that others had by name, and random drivers against
//! naive models.

mod chunks;
mod deadlines;
mod random;
mod reigns;
mod table;
