//! The engine's way to the other members.
//!
//! Entries go over a connection of their own, many appends under way at a time, answers matched by id and given to the
//! engine in the order of the appends. Votes, heartbeats and transfers are questions on the control connection.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use kvorum_proto::peer;
use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use openraft::async_runtime::Select2;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::calls::CallError;
use crate::checkpoints::{SnapshotData, Transfers};
use crate::codec::{self, CodecError};
use crate::peers::{Peer, Peers};
use crate::runtime::{Runtime, spawn};
use crate::snapshot_send;
use crate::transport::{Lane, PipeRx, PipeTx, Transport};
use crate::types::{LogId, Node, TypeConfig, Vote};

/// How many appends are under way to one follower.
const APPENDS_MAX: usize = 64;

/// Makes [`Network`]s.
pub(crate) struct NetworkFactory<T: Transport> {
    pub(crate) peers: Arc<Peers<T>>,
    pub(crate) transfers: Transfers,
    /// How long a peer may say nothing before a connection to it counts as lost.
    pub(crate) silence_max: Duration,
    /// How long an entry is at least that is compressed. None: none is.
    pub(crate) compress_bytes_min: Option<usize>,
}

/// The way to one member, for one purpose of the engine's.
pub(crate) struct Network<T: Transport> {
    to: MemberId,
    peers: Arc<Peers<T>>,
    peer: Arc<Peer<T>>,
    purpose: Purpose,
    transfers: Transfers,
    silence_max: Duration,
    compress_bytes_min: Option<usize>,
    /// The connection for entries, kept between streams. The lock is never taken: it only makes a half of a pipe, which
    /// need not be shareable, part of something that must be.
    appends: Mutex<Option<AppendPipe<T::Tx>>>,
    next_id: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    Entries,
    Heartbeats,
}

impl<R: Runtime, T: Transport> RaftNetworkFactory<TypeConfig<R>> for NetworkFactory<T> {
    type Network = Network<T>;

    async fn new_client(&mut self, target: u64, node: &Node) -> Network<T> {
        self.make(target, node, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Network<T> {
        self.make(target, node, Purpose::Heartbeats)
    }
}

impl<T: Transport> NetworkFactory<T> {
    fn make(&self, target: u64, node: &Node, purpose: Purpose) -> Network<T> {
        let to = MemberId(target);
        self.peers.addresses.tell(to, &node.peer_urls);
        Network {
            to,
            peers: self.peers.clone(),
            peer: self.peers.get(to),
            purpose,
            transfers: self.transfers.clone(),
            silence_max: self.silence_max,
            compress_bytes_min: self.compress_bytes_min,
            appends: Mutex::new(None),
            next_id: 0,
        }
    }
}

/// An append connection: the sending half, and what the other half receives.
struct AppendPipe<Tx> {
    tx: Tx,
    /// Ends when the connection does.
    answers: mpsc::Receiver<(u64, peer::AppendReply)>,
}

fn unreachable<R: Runtime>(error: &io::Error) -> RPCError<TypeConfig<R>> {
    RPCError::Unreachable(Unreachable::new(error))
}

fn lost<R: Runtime>(what: &'static str) -> RPCError<TypeConfig<R>> {
    RPCError::Network(NetworkError::from_string(what))
}

fn call_error<R: Runtime>(error: &CallError) -> RPCError<TypeConfig<R>> {
    match error {
        CallError::NotSent(error) => unreachable(error),
        CallError::Lost => RPCError::Network(NetworkError::new(error)),
    }
}

fn codec_error<R: Runtime>(error: &CodecError) -> RPCError<TypeConfig<R>> {
    RPCError::Network(NetworkError::new(error))
}

impl<T: Transport> Network<T> {
    async fn connect<R: Runtime>(&self) -> io::Result<AppendPipe<T::Tx>> {
        let urls = self.peers.addresses.of(self.to);
        let connecting = self.peers.transport.connect(self.to, &urls, Lane::Append);
        let connected = R::timeout(self.peers.connect_timeout(), connecting).await;
        let connected = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let refused = |error: &io::Error| self.peers.told_removed.note(self.to, error);
        let (tx, rx) = connected.inspect_err(refused)?;
        let (answers_tx, answers) = mpsc::channel(APPENDS_MAX);
        spawn::<R>(receive_append_replies(rx, answers_tx));
        Ok(AppendPipe { tx, answers })
    }

    async fn heartbeat<R: Runtime>(
        &self,
        request: AppendEntriesRequest<TypeConfig<R>>,
    ) -> Result<StreamAppendResult<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let prev = request.prev_log_id;
        let body = Body::AppendRequest(peer::AppendRequest {
            vote: Some(codec::vote_to_wire(&request.vote)),
            prev: prev.as_ref().map(codec::log_id_to_wire),
            leader_commit: request.leader_commit.as_ref().map(codec::log_id_to_wire),
            entries: Vec::new(),
        });
        match self.peer.control.call::<R>(body).await.map_err(|error| call_error(&error))? {
            Body::AppendReply(reply) => append_result(reply, prev, prev),
            _ => Err(lost("another answer than to an append")),
        }
    }
}

async fn receive_append_replies(
    mut rx: impl PipeRx,
    answers: mpsc::Sender<(u64, peer::AppendReply)>,
) {
    while let Ok(Some(message)) = rx.receive().await {
        let Ok((id, Body::AppendReply(reply))) = codec::decode(message) else {
            tracing::warn!("a peer's answer to an append cannot be read");
            return;
        };
        if answers.send((id, reply)).await.is_err() {
            return;
        }
    }
}

fn append_result<R: Runtime>(
    reply: peer::AppendReply,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
    use peer::append_reply::Outcome;
    let response = match reply.outcome {
        Some(Outcome::Success(_)) => AppendEntriesResponse::Success,
        // The start of the log cannot conflict.
        Some(Outcome::Conflict(_)) if prev.is_some() => AppendEntriesResponse::Conflict,
        Some(Outcome::HigherVote(vote)) => {
            let vote = codec::vote_from_wire(Some(vote)).map_err(|error| codec_error(&error))?;
            AppendEntriesResponse::HigherVote(vote)
        }
        Some(Outcome::Conflict(_)) | None => return Err(lost("an answer without an outcome")),
    };
    Ok(response.into_stream_result(prev, last))
}

/// An append whose answer has not come.
struct Pending {
    id: u64,
    prev: Option<LogId>,
    last: Option<LogId>,
}

/// One stream of appends to one follower.
struct Session<'a, T: Transport, S> {
    network: &'a mut Network<T>,
    /// None once it has ended.
    input: Option<S>,
    pending: VecDeque<Pending>,
}

type Appended<R> = Result<StreamAppendResult<TypeConfig<R>>, RPCError<TypeConfig<R>>>;

enum Event<R: Runtime> {
    Append(Option<AppendEntriesRequest<TypeConfig<R>>>),
    Answer(Option<(u64, peer::AppendReply)>),
}

impl<T: Transport, S> Session<'_, T, S> {
    /// Sends what the engine gives and receives what the peer answers, until there is one answer for the engine.
    async fn next<R: Runtime>(&mut self) -> Option<Appended<R>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<R>>> + Send + Unpin,
    {
        loop {
            if self.input.is_none() && self.pending.is_empty() {
                return None;
            }
            match self.event::<R>().await {
                Ok(Event::Append(None)) => self.input = None,
                Ok(Event::Append(Some(request))) => {
                    if let Err(error) = self.send(request).await {
                        return Some(Err(self.fail(unreachable(&error))));
                    }
                }
                Ok(Event::Answer(Some((id, reply)))) => {
                    if let Some(result) = self.answered(id, reply) {
                        return Some(result);
                    }
                }
                Ok(Event::Answer(None)) => {
                    return Some(Err(self.fail(lost("the connection was closed"))));
                }
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
    }

    async fn event<R: Runtime>(&mut self) -> Result<Event<R>, RPCError<TypeConfig<R>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<R>>> + Send + Unpin,
    {
        let Some(pipe) = self.network.appends.get_mut() else {
            // Nothing was sent yet, so there is nothing to wait for but the engine.
            let request = match &mut self.input {
                Some(input) => input.next().await,
                None => None,
            };
            if request.is_some() {
                let connected = self.network.connect::<R>().await;
                let pipe = connected.map_err(|error| unreachable(&error))?;
                *self.network.appends.get_mut() = Some(pipe);
            }
            return Ok(Event::Append(request));
        };
        let waiting = self.pending.len();
        let input = &mut self.input;
        let next = async {
            match input {
                Some(input) if waiting < APPENDS_MAX => input.next().await,
                Some(_) | None => std::future::pending().await,
            }
        };
        let answers = &mut pipe.answers;
        let answer = async {
            if waiting == 0 {
                return Ok(answers.recv().await);
            }
            R::timeout(self.network.silence_max, answers.recv()).await
        };
        match R::select2(Box::pin(answer), Box::pin(next)).await {
            Select2::First(Ok(answer)) => Ok(Event::Answer(answer)),
            Select2::First(Err(_)) => Err(lost("no answer in time")),
            Select2::Second(request) => Ok(Event::Append(request)),
        }
    }

    async fn send<R: Runtime>(
        &mut self,
        request: AppendEntriesRequest<TypeConfig<R>>,
    ) -> io::Result<()> {
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        // Taken out while sending: if this is dropped halfway, so is the connection.
        let mut pipe = self.network.appends.get_mut().take().ok_or_else(closed)?;
        self.network.next_id += 1;
        let id = self.network.next_id;
        pipe.tx.send(&codec::encode_append(id, &request, self.network.compress_bytes_min)).await?;
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        self.pending.push_back(Pending { id, prev, last });
        *self.network.appends.get_mut() = Some(pipe);
        Ok(())
    }

    fn answered<R: Runtime>(&mut self, id: u64, reply: peer::AppendReply) -> Option<Appended<R>> {
        // The answer to an append of an earlier stream, which nobody waits for any more.
        if self.pending.front().is_none_or(|pending| id < pending.id) {
            return None;
        }
        let Some(pending) = self.pending.pop_front().filter(|pending| pending.id == id) else {
            return Some(Err(self.fail(lost("an answer out of turn"))));
        };
        let result = append_result(reply, pending.prev, pending.last);
        if !matches!(result, Ok(Ok(_))) {
            // The engine begins a new stream. What is still to be answered of this one is of no use.
            self.input = None;
            self.pending.clear();
        }
        Some(result)
    }

    fn fail<R: Runtime>(&mut self, error: RPCError<TypeConfig<R>>) -> RPCError<TypeConfig<R>> {
        *self.network.appends.get_mut() = None;
        self.input = None;
        self.pending.clear();
        error
    }
}

impl<R: Runtime, T: Transport> NetStreamAppend<TypeConfig<R>> for Network<T> {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended<R>>, RPCError<TypeConfig<R>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<R>>> + Send + Unpin + 'static,
    {
        let stream: BoxStream<'s, Appended<R>> = match self.purpose {
            Purpose::Entries => {
                let session =
                    Session { network: self, input: Some(input), pending: VecDeque::new() };
                Box::pin(stream::unfold(session, async |mut session| {
                    session.next::<R>().await.map(|result| (result, session))
                }))
            }
            Purpose::Heartbeats => {
                Box::pin(stream::unfold((self, input), async |(network, mut input)| {
                    let request = input.next().await?;
                    Some((network.heartbeat(request).await, (network, input)))
                }))
            }
        };
        Box::pin(async move { Ok(stream) })
    }
}

impl<T: Transport> Network<T> {
    async fn ask_vote<R: Runtime>(
        &self,
        request: VoteRequest<TypeConfig<R>>,
        pre_vote: bool,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let body = Body::VoteRequest(codec::vote_request_to_wire(&request, pre_vote));
        match self.peer.control.call::<R>(body).await.map_err(|error| call_error(&error))? {
            Body::VoteReply(reply) => Ok(VoteResponse {
                vote: codec::vote_from_wire(reply.vote).map_err(|error| codec_error(&error))?,
                vote_granted: reply.granted,
                last_log_id: reply.last.map(codec::log_id_from_wire),
            }),
            _ => Err(lost("another answer than to a vote")),
        }
    }
}

impl<R: Runtime, T: Transport> NetVote<TypeConfig<R>> for Network<T> {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig<R>>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        self.ask_vote(request, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig<R>>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        self.ask_vote(request, true).await
    }
}

impl<R: Runtime, T: Transport> NetTransferLeader<TypeConfig<R>> for Network<T> {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig<R>>,
        _option: RPCOption,
    ) -> Result<openraft::raft::TransferLeaderResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>>
    {
        let body = Body::TransferRequest(peer::TransferRequest {
            from_leader: Some(codec::vote_to_wire(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(codec::log_id_to_wire),
        });
        match self.peer.control.call::<R>(body).await.map_err(|error| call_error(&error))? {
            Body::TransferReply(peer::TransferReply { accepted: true }) => Ok(Ok(())),
            _ => Err(lost("the transfer was not accepted")),
        }
    }
}

impl<R: Runtime, T: Transport> NetSnapshot<TypeConfig<R>> for Network<T> {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<
            openraft::vote::leader_id_std::CommittedLeaderId<u64>,
            u64,
            Node,
            SnapshotData,
        >,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let urls = self.peers.addresses.of(self.to);
        let connecting = self.peers.transport.connect(self.to, &urls, Lane::Snapshot);
        let sending = async {
            let connected = R::timeout(self.peers.connect_timeout(), connecting).await;
            let (tx, rx) = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let source = snapshot_send::Source::new(&self.transfers, &snapshot)?;
            snapshot_send::push::<R, T>(tx, rx, source, vote).await
        };
        match R::select2(Box::pin(cancel), Box::pin(sending)).await {
            Select2::First(closed) => Err(StreamingError::Closed(closed)),
            Select2::Second(Ok(vote)) => Ok(SnapshotResponse::new(vote)),
            Select2::Second(Err(error)) => {
                tracing::warn!(%error, to = %self.to, "a snapshot was not delivered");
                Err(StreamingError::Unreachable(Unreachable::new(&error)))
            }
        }
    }
}

impl<R: Runtime, T: Transport> NetBackoff<TypeConfig<R>> for Network<T> {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}
