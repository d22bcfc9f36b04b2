//! The client port's one entry: every request, gRPC or plain HTTP, comes in here.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Version};
use http_body::Body;
use kvorum_proto::api::etcdserverpb::{
    AlarmRequest, DefragmentRequest, DowngradeRequest, HashKvRequest, HashRequest,
    MoveLeaderRequest, SnapshotRequest, StatusRequest,
};
use kvorum_proto::api::v3electionpb::LeaderRequest;
use kvorum_proto::wire::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use prost::Message;
use tonic_health::pb::HealthCheckRequest;

use super::context::{Context, requires_leader};
use super::method::{self, Method};
use super::reflection::Reflection;
use super::reply::{self, Messages, ReplyBody};
use super::{
    alarm, cluster, concurrency, deadline, defragment, downgrade, health, heap, kv, lease,
    maintenance, range_stream, receive, snapshot, watch,
};
use crate::errors::{CallError, MessageError};
use crate::http as plain;
use crate::metrics::OpenCall;

/// What a call is answered with.
enum Answered {
    /// One framed message.
    One(Bytes),
    /// Framed messages, as they become ready.
    Many(Messages),
}

/// Answers what clients send.
#[derive(Clone)]
pub(crate) struct ClientService {
    context: Arc<Context>,
    reflection: Reflection,
}

impl ClientService {
    /// Serves what `context` describes.
    pub(crate) fn new(context: Arc<Context>) -> ClientService {
        ClientService { context, reflection: Reflection::new() }
    }

    /// Answers one request. A panic on the way costs only this request.
    ///
    /// Dropping the future gives the call up; what it has proposed may still be applied.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<ReplyBody>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        if !is_grpc(&head) {
            // What is rare is boxed, so that every call's task is smaller.
            return Box::pin(plain::answer(&self.context, &head.method, &head.uri)).await;
        }
        if Reflection::takes(head.uri.path()) {
            return Box::pin(self.reflection.answer(Request::from_parts(head, body))).await;
        }
        match AssertUnwindSafe(self.call(&head, body)).catch_unwind().await {
            Ok(answered) => answered.unwrap_or_else(reply::with_error),
            Err(_) => reply::with_error(self.context.note_panic()),
        }
    }

    async fn call<B>(&self, head: &Parts, body: B) -> Result<Response<ReplyBody>, CallError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let path = head.uri.path();
        let method = Method::of(path).ok_or_else(|| method::refusal(path))?;
        let open = self.context.begin_call(method, &head.headers);
        let answered = tokio::select! {
            biased;
            answered = self.dispatch(method, &head.headers, body, &open) => answered,
            () = deadline::passed(&head.headers) => Err(CallError::DeadlineExceeded),
        };
        match answered {
            Ok(Answered::One(message)) => {
                open.answered(&message);
                Ok(reply::with_message(message))
            }
            Ok(Answered::Many(messages)) => {
                Ok(reply::with_messages(Box::pin(open.messages(messages))))
            }
            Err(error) => {
                open.failed(&error);
                Err(error)
            }
        }
    }

    async fn dispatch<B>(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: B,
        open: &OpenCall,
    ) -> Result<Answered, CallError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let context = &self.context;
        match method {
            Method::Watch => {
                return watch::watch(context.clone(), headers, body).map(Answered::Many);
            }
            Method::LeaseKeepAlive => {
                return lease::keep_alive(context.clone(), headers, body).map(Answered::Many);
            }
            _ => {}
        }
        let _place = context.enter()?;
        let bytes_max = context.message_bytes_max();
        let encoded = receive::message(body, headers, bytes_max, context.receiving()).await?;
        open.count_received(encoded.len());
        match method {
            Method::RangeStream => {
                let request: RangeRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                let requires_leader = requires_leader(headers);
                let messages =
                    range_stream::range_stream(context.clone(), request, requires_leader).await?;
                Ok(Answered::Many(messages))
            }
            Method::Snapshot => {
                let SnapshotRequest {} = decode(&encoded)?;
                context.admit(headers, true)?;
                snapshot::snapshot(context.clone()).await.map(Answered::Many)
            }
            Method::HealthWatch => {
                let request: HealthCheckRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                Ok(Answered::Many(health::watch(context, &request)?))
            }
            Method::Observe => {
                let request: LeaderRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                concurrency::observe(context.clone(), headers, &request).map(Answered::Many)
            }
            _ => self.unary(method, headers, encoded).await.map(Answered::One),
        }
    }

    /// Answers a call of one message with one.
    async fn unary(
        &self,
        method: Method,
        headers: &HeaderMap,
        encoded: Bytes,
    ) -> Result<Bytes, CallError> {
        let context = &self.context;
        match method {
            Method::Range => {
                let request: RangeRequest = decode(&encoded)?;
                context.admit(headers, request.serializable)?;
                kv::range(context, request).await
            }
            Method::Put => {
                let request: PutRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                kv::put(context, &request, encoded).await
            }
            Method::Txn => {
                let request: TxnRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                kv::txn(context, request, encoded).await
            }
            Method::DeleteRange => {
                let request: DeleteRangeRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                kv::delete_range(context, &request, encoded).await
            }
            Method::Compact => {
                let request: CompactionRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                kv::compact(context, &request, encoded).await
            }
            Method::Lease(method) => lease::unary(context, method, headers, encoded).await,
            // What is rare is boxed, so that every call's task is smaller.
            Method::Concurrency(method) => {
                Box::pin(concurrency::unary(context, method, headers, encoded)).await
            }
            _ => Box::pin(self.rare(method, headers, encoded)).await,
        }
    }

    /// Answers a call that tools make, and other members' operators.
    async fn rare(
        &self,
        method: Method,
        headers: &HeaderMap,
        encoded: Bytes,
    ) -> Result<Bytes, CallError> {
        let context = &self.context;
        match method {
            Method::Member(method) => cluster::unary(context, method, headers, &encoded).await,
            Method::MoveLeader => {
                let request: MoveLeaderRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                maintenance::move_leader(context, &request).await
            }
            Method::Status => {
                let StatusRequest {} = decode(&encoded)?;
                context.admit(headers, true)?;
                maintenance::status(context)
            }
            Method::Hash => {
                let HashRequest {} = decode(&encoded)?;
                context.admit(headers, false)?;
                maintenance::hash(context).await
            }
            Method::Defragment => {
                let DefragmentRequest {} = decode(&encoded)?;
                context.admit(headers, false)?;
                defragment::defragment(context).await
            }
            Method::HashKv => {
                let request: HashKvRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                maintenance::hash_kv(context, request).await
            }
            Method::Alarm => {
                let request: AlarmRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                alarm::alarm(context, &request).await
            }
            Method::Downgrade => {
                let request: DowngradeRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                downgrade::downgrade(context, &request).await
            }
            Method::Heap(method) => heap::unary(context, method, headers, &encoded).await,
            Method::HealthCheck => {
                let request: HealthCheckRequest = decode(&encoded)?;
                context.admit(headers, false)?;
                health::check(&request)
            }
            Method::HealthList => {
                context.admit(headers, false)?;
                health::list()
            }
            // A stream is not answered with one message, and the frequent calls have been.
            _ => Err(CallError::Internal),
        }
    }
}

/// gRPC and plain HTTP share the port and are told apart by version and content type.
fn is_grpc(head: &Parts) -> bool {
    let kind = head.headers.get(CONTENT_TYPE);
    head.version == Version::HTTP_2
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Decodes a request whose keys and values stay slices of what was received.
pub(super) fn decode<M: Message + Default>(encoded: &Bytes) -> Result<M, CallError> {
    M::decode(encoded.clone()).map_err(|error| MessageError::Undecodable(error.to_string()).into())
}
