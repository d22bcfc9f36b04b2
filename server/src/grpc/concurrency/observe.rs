//! Observe: who leads, and what it says, as that changes.
//!
//! ```text
//!   look for the first key --(there is one)--> tell it --> follow it: tell each put --(deleted)--+
//!     ^    |                                     ^                                               |
//!     |    +--(there is none)--> follow all: the first put                                       |
//!     +------------------------------------------------------------------------------------------+
//! ```
//!
//! Every answer is about whoever led at its revision. Changes between two looks are not told; the newest always is.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::HeaderMap;
use kvorum_proto::api::mvccpb::event::EventType;
use kvorum_proto::api::v3electionpb::{LeaderRequest, LeaderResponse};
use kvorum_proto::wire::Event;
use kvorum_watch::{Filters, Reply};
use tokio::sync::OwnedSemaphorePermit;

use super::super::call_end::CallEnd;
use super::super::context::Context;
use super::super::reply::{Messages, frame};
use super::election::told;
use super::first::Below;
use super::follow::Following;
use super::relayed;
use crate::errors::CallError;

/// Starts a call.
pub(in super::super) fn observe(
    context: Arc<Context>,
    headers: &HeaderMap,
    request: &LeaderRequest,
) -> Result<Messages, CallError> {
    let place = context.enter_stream()?;
    let end = CallEnd::watch(&context, headers);
    let below = Below::name(&request.name);
    let observing = Observing {
        context,
        below,
        at: At::Looking,
        found: VecDeque::new(),
        end,
        is_over: false,
        _place: place,
    };
    Ok(Box::pin(stream::unfold(observing, |mut observing| async move {
        if observing.is_over {
            return None;
        }
        let next = AssertUnwindSafe(observing.next()).catch_unwind().await;
        let next = next.unwrap_or_else(|_| Err(observing.context.note_panic()));
        observing.is_over = next.is_err();
        Some((next, observing))
    })))
}

/// A call under way.
struct Observing {
    context: Arc<Context>,
    below: Below,
    at: At,
    /// To be told.
    found: VecDeque<LeaderResponse>,
    end: CallEnd,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

enum At {
    /// It is not known who leads.
    Looking,
    /// Nobody leads: the first put makes a leader.
    Vacant(Following),
    /// The leader's key is followed.
    Led(Following),
}

impl Observing {
    async fn next(&mut self) -> Result<Bytes, CallError> {
        while self.found.is_empty() {
            let Observing { context, below, at, end, .. } = self;
            let replies = async {
                match at {
                    At::Looking => look(context, below).await,
                    At::Vacant(following) | At::Led(following) => {
                        Ok(Step::Replies(following.next().await.map_err(relayed)?))
                    }
                }
            };
            let step = tokio::select! {
                biased;
                error = end.come() => return Err(error),
                step = replies => step?,
            };
            match step {
                Step::Found(found, at) => {
                    self.found.extend(found);
                    self.at = at;
                }
                Step::Replies(replies) => self.take(replies)?,
            }
        }
        match self.found.pop_front() {
            Some(found) => frame(&found),
            None => Err(CallError::Internal),
        }
    }

    /// Tells what the changes come to, up to where somebody else leads.
    fn take(&mut self, replies: Vec<Reply>) -> Result<(), CallError> {
        for reply in replies {
            if reply.canceled {
                self.at = At::Looking;
                return Ok(());
            }
            for event in reply.events.iter() {
                let put = Some(event).filter(|event| event.kind() == EventType::Put);
                let Some(kv) = put.as_ref().and_then(Event::kv) else {
                    self.at = At::Looking;
                    return Ok(());
                };
                if matches!(self.at, At::Vacant(_)) {
                    let revision = kv.mod_revision();
                    self.found.push_back(told(&self.context, &kv, revision)?);
                    let key = Bytes::copy_from_slice(kv.key());
                    self.at = At::Led(follow_leader(&self.context, key, revision)?);
                    return Ok(());
                }
                self.found.push_back(told(&self.context, &kv, reply.revision)?);
            }
        }
        Ok(())
    }
}

enum Step {
    /// A leader, if there is one, and how to go on.
    Found(Option<LeaderResponse>, At),
    Replies(Vec<Reply>),
}

async fn look(context: &Arc<Context>, below: &Below) -> Result<Step, CallError> {
    let (found, revision) = below.find_first(context).await?;
    let Some(found) = found else {
        let following = Following::open(context).map_err(relayed)?;
        let puts = Filters { no_put: false, no_delete: true };
        let Below { first, end } = below.clone();
        following.watch(first, end, revision.saturating_add(1), puts);
        return Ok(Step::Found(None, At::Vacant(following)));
    };
    let key = Bytes::copy_from_slice(found.key());
    let following = follow_leader(context, key, revision)?;
    Ok(Step::Found(Some(told(context, &found, revision)?), At::Led(following)))
}

/// Follows a leader's key from after `revision` on.
fn follow_leader(context: &Context, key: Bytes, revision: i64) -> Result<Following, CallError> {
    let following = Following::open(context).map_err(relayed)?;
    following.watch(key, Bytes::new(), revision.saturating_add(1), Filters::default());
    Ok(following)
}
