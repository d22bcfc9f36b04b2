//! A lease never ends before its time, and not much after it, whatever happens to members and their clocks.
//!
//! Clients write down what they asked, were answered and saw; the [`judge`] says what of it breaks the rule. There are two
//! ways to measure time:
//!
//! - By the machine's clock, with members that are processes: that nothing ends early is exact; how late something ends is
//!   held to a bound that a slow machine does not reach.
//! - By clocks that stand still but for what the test lets pass: then both bounds are exact, however slow the machine is.

mod clients;
mod clocks;
mod judge;
mod planted;
mod processes;
mod snapshot;
mod standing;
