//! The history as the judges take it.

use kvorum_judges::history::{
    Deed as JudgedDeed, Heard as JudgedHeard, History as JudgedHistory, Input, LockDeed, Moment,
    Op, Output, Refusal, Watcher, plain,
};
use kvorum_machine::CommandError;
use kvorum_proto::api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use kvorum_proto::wire::watch_create_request::FilterType;
use kvorum_watch::{Create, Filters};

use super::record::{Asked, Call, Deed, Heard, History, Locked, Recorded, Told, Watched};

impl History {
    /// The same for the judges. What was seen at once to be wrong is not in it: [`History::doubts`].
    pub fn judged(&self) -> JudgedHistory {
        JudgedHistory {
            ops: self.requests.iter().map(op).collect(),
            watchers: self.watched.iter().map(watcher).collect(),
            locks: self.locks.iter().map(lock).collect(),
        }
    }
}

fn begun(call: &Call) -> Moment {
    Moment { at: call.at, place: call.place }
}

fn moment((at, place): (u64, u64)) -> Moment {
    Moment { at, place }
}

fn op(recorded: &Recorded) -> Op {
    let Recorded { call, end, asked, told } = recorded;
    Op {
        client: call.client,
        member: call.member.0,
        call: begun(call),
        end: (*told != Told::Unknown).then(|| moment(*end)),
        input: input(asked),
        output: output(told),
    }
}

fn input(asked: &Asked) -> Input {
    match asked {
        Asked::Put(request) => Input::Put(request.clone()),
        Asked::DeleteRange(request) => Input::DeleteRange(request.clone()),
        Asked::Txn(request) => Input::Txn(request.clone()),
        Asked::Range(request) => Input::Range(request.clone()),
        Asked::Compact(revision) => Input::Compact { revision: *revision },
        Asked::Grant { id, ttl } => Input::Grant { id: *id, ttl: *ttl },
        Asked::KeepAlive { id } => Input::KeepAlive { id: *id },
        Asked::TimeToLive { id } => Input::TimeToLive { id: *id },
        Asked::Revoke { id } => Input::Revoke { id: *id },
    }
}

fn output(told: &Told) -> Output {
    let revision = told.revision().unwrap_or(0);
    match told {
        Told::Put(response) => Output::Put(plain(response)),
        Told::DeleteRange(response) => Output::DeleteRange(plain(response)),
        Told::Txn(response) => Output::Txn(plain(response)),
        Told::Range(response) => Output::Range(plain(response)),
        Told::Compacted(_) => Output::Compacted { revision },
        Told::Granted { ttl } => Output::Granted { ttl: *ttl },
        Told::Kept { ttl } => Output::Kept { ttl: *ttl },
        Told::Left { ttl } => Output::Left { ttl: *ttl },
        Told::Revoked(_) => Output::Revoked { revision },
        Told::Rejected(error) => Output::Rejected(refusal(*error)),
        Told::Unknown => Output::Unknown,
    }
}

fn refusal(error: CommandError) -> Refusal {
    match error {
        CommandError::Compacted => Refusal::Compacted,
        CommandError::FutureRevision => Refusal::FutureRevision,
        CommandError::KeyNotFound => Refusal::KeyNotFound,
        CommandError::LeaseNotFound => Refusal::LeaseNotFound,
        CommandError::LeaseExists => Refusal::LeaseExists,
        other => Refusal::Other(other.to_string()),
    }
}

fn watcher(watched: &Watched) -> Watcher {
    let Watched { call, create, series, heard } = watched;
    Watcher {
        client: call.client,
        member: call.member.0,
        call: begun(call),
        request: request(create),
        series: *series,
        heard: heard.iter().map(message).collect(),
    }
}

fn request(create: &Create) -> WatchCreateRequest {
    let Filters { no_put, no_delete } = create.filters;
    let put = no_put.then_some(FilterType::Noput.into());
    let delete = no_delete.then_some(FilterType::Nodelete.into());
    WatchCreateRequest {
        key: create.key.clone(),
        range_end: create.range_end.clone(),
        start_revision: create.start_revision,
        progress_notify: create.progress_notify,
        filters: put.into_iter().chain(delete).collect(),
        prev_kv: create.prev_kv,
        watch_id: create.watch_id,
        fragment: create.fragment,
        ..WatchCreateRequest::default()
    }
}

fn message(heard: &Heard) -> JudgedHeard {
    let header = ResponseHeader { revision: heard.revision, ..ResponseHeader::default() };
    let response = WatchResponse {
        header: Some(header),
        watch_id: if heard.is_of_stream { -1 } else { 0 },
        created: heard.created,
        canceled: heard.canceled,
        compact_revision: heard.compact_revision,
        fragment: heard.fragment,
        events: heard.events.iter().map(Into::into).collect(),
        ..WatchResponse::default()
    };
    JudgedHeard { at: moment((heard.at, heard.place)), response }
}

fn lock(locked: &Locked) -> LockDeed {
    let deed = match locked.deed {
        Deed::Held { revision } => JudgedDeed::Held { revision },
        Deed::Wrote { revision } => JudgedDeed::Wrote { revision },
        Deed::Fenced { revision } => JudgedDeed::Fenced { revision },
        Deed::Released => JudgedDeed::Released,
    };
    LockDeed {
        client: locked.call.client,
        call: begun(&locked.call),
        end: moment(locked.end),
        name: locked.name.clone(),
        key: locked.key.clone(),
        token: locked.token,
        deed,
    }
}
