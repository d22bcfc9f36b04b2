//! The checker of what watching clients may rely on: recorded responses against the true history.
//!
//! It knows nothing of how either was come by. [`History`] holds what happened, a [`Watch`] what one client asked and was
//! answered; [`check`] finds every [`Guarantee`] that was broken.
//!
//! | guarantee | what would break it |
//! |---|---|
//! | ordered | an event after one of a later revision, or of a later change of the same revision |
//! | unique | an event twice |
//! | atomic | a revision in two responses, or a part of it; the fragments of a response count as one |
//! | reliable | a revision left out between two that were told, or never told although it was waited for |
//! | resumable | a revision left out before the first one told, or one before the start; a run that begins elsewhere than where the last one ended |
//! | bookmarkable | a progress that names a revision before which something was not yet told, or that goes back |
//! | previous value | another one than the key had, one not asked for, or none although nothing was compacted |
//! | is-create | another create revision or version than the key has |
//! | filtered | a key out of the range, or a kind that was filtered out |
//!
//! Beside these nine: what is told has happened, and responses have the right form.

mod guarantees;
mod history;
mod record;
mod tests;

pub use guarantees::check;
pub use history::{Change, History, Write};
pub use record::{Received, Run, Step, Watch, revision_of};
