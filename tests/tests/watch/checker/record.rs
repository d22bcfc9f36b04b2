//! What a watching client asked for and was answered.

use kvorum_proto::api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::api::mvccpb::Event;

/// What one client wanted to be told, over as many watchers as that took.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Who it is, for a message.
    pub name: String,
    /// One after the other; each goes on where the one before had come to.
    pub runs: Vec<Run>,
    /// Up to which revision it was waited for, 0 if it was not.
    pub up_to: i64,
}

/// One watcher, from its request to its end.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The member that was asked.
    pub member: usize,
    pub request: WatchCreateRequest,
    /// Everything that came for it, in order, with what its stream was told as a whole.
    pub responses: Vec<Received>,
}

/// A response and the moment at which it came, counted by a counter that all who record share.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: u64,
    pub response: WatchResponse,
}

/// A response, or several that are fragments of one.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: u64,
    /// The revision in the header.
    pub revision: i64,
    pub events: Vec<Event>,
}

/// What a run was told, by kind.
#[derive(Clone, Debug)]
pub enum Step {
    Created { revision: i64 },
    Events(Told),
    Progress { revision: i64 },
    Compacted { at: u64, compact_revision: i64 },
}

impl Run {
    /// The steps; or what is wrong about the form of a response. Fragments whose last one never came are left out.
    pub fn steps(&self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        let mut joined: Option<Told> = None;
        for (number, received) in self.responses.iter().enumerate() {
            let response = &received.response;
            let revision = response.header.as_ref().ok_or("a response has no header")?.revision;
            if (number == 0) != response.created {
                return Err(format!("response {number} has created={}", response.created));
            }
            if response.fragment && !self.request.fragment {
                return Err(format!("response {number} is a fragment, which was not asked for"));
            }
            if joined.is_some() && response.events.is_empty() {
                return Err(format!("response {number} stands between fragments"));
            }
            if response.canceled {
                steps.push(cancel(received)?);
            } else if response.created {
                steps.push(Step::Created { revision });
            } else if response.events.is_empty() {
                steps.push(Step::Progress { revision });
            } else {
                let told = joined.get_or_insert(Told { at: 0, revision, events: Vec::new() });
                told.at = received.at;
                told.revision = revision;
                told.events.extend(response.events.iter().cloned());
                if !response.fragment {
                    steps.extend(joined.take().map(Step::Events));
                }
            }
        }
        Ok(steps)
    }
}

/// The only reason for which a watcher here is cancelled is that it came too late.
fn cancel(received: &Received) -> Result<Step, String> {
    let response = &received.response;
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    let is_bare = revision == 0 && response.events.is_empty() && !response.created;
    if response.compact_revision <= 0 || !is_bare {
        return Err(format!("cancelled as {response:?}"));
    }
    Ok(Step::Compacted { at: received.at, compact_revision: response.compact_revision })
}

/// The revision of an event.
pub fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
