//! Leases: who counts their time, and what comes of it.
//!
//! Which leases there are is replicated, like all state; when they end is known to the leader alone, who counts on its own
//! clock for as long as it leads ([`kvorum_lease::Deadlines`]).
//!
//! ```text
//!  keep-alives, look-ups                      time
//!   of this member's clients                    |
//!          |                                    v
//!      questions -> asking -(leads)-> keeper <-> worker kv-lease: promotion in steps, what is due, what to checkpoint
//!                     |                 ^  |                                    | job
//!                     v (follows)       |  +-- renewed, remaining               v
//!                   the leader's    events, told by the applier         jobs -> proposals (as leader of term T)
//! ```
//!
//! # Why a lease never ends too early
//!
//! A lease lives for its TTL from the moment on at which its client sent the last keep-alive that was answered.
//!
//! - A keep-alive is answered only after a read barrier that began after it had arrived: at some moment between its arrival
//!   and its answer this member led. Whoever leads after that moment was elected after it, and begins with the whole TTL.
//!   A leader that stood still and was replaced gets no barrier, and so answers nothing.
//! - A checkpoint shortens what the next leader begins with. So from the moment on at which one is decided no keep-alive is
//!   answered before the checkpoint has been cleared through the log.
//! - What a leader decided about the end of leases names the term in which it was decided, and the machine ignores it in an
//!   entry of any other. It is never forwarded and never sent again, so a leader that stood still ends no lease either.
//! - A lease whose end is on its way is not kept alive: the answer waits for what becomes of that.
//!
//! # Why none ends much too late
//!
//! The worker looks at the clock every [`work::LOOK_INTERVAL`] at the latest, whatever the machine did meanwhile: a
//! suspended one wakes up to a clock that has gone on.

mod asking;
mod jobs;
mod keeper;
mod questions;
mod time_to_live;
mod work;

pub(crate) use self::asking::{answer_follower, keep_alive, keep_alive_now, run as run_asking};
pub(crate) use self::jobs::run as run_jobs;
pub(crate) use self::keeper::{Keeper, Leads};
pub(crate) use self::questions::Questions;
pub use self::time_to_live::TimeToLive;
pub(crate) use self::time_to_live::{ids_by_remaining, time_to_live};
