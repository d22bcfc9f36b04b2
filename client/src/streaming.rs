//! What streams that outlive their connections have in common: how they are made again, requests as the transport takes them,
//! answers that may begin late, when to give up, and how long to pause.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use kvorum_proto::errors::EtcdError;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::client::Client;
use crate::connections::Connection;
use crate::error::{Error, was_never_sent};
use crate::retry::{PAUSE, PAUSE_JITTER, asks_for_new_token};

/// Requests handed to a connection that it has not taken yet.
const REQUESTS_WAITING_MAX: usize = 64;
/// How long a member may at least take to answer, however impatient the client is with calls.
const ANSWER_WITHIN_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two rounds of attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often in a row it makes sense to get another token.
const TOKENS_MAX: u32 = 3;

/// Makes a stream again and again.
pub(crate) struct Caller {
    client: Client,
    answer_within: Duration,
    failures: Failures,
}

/// What a stream that broke needs.
pub(crate) enum Broken {
    /// Nothing: there was no connection to send on, and now there is known to be none.
    NeverSent,
    /// Another token: the server does not accept this one.
    NewToken,
    /// Another attempt, if that can help at all.
    Failed(Error),
}

impl Caller {
    pub(crate) fn new(client: Client) -> Caller {
        let answer_within = client.config().request_timeout.max(ANSWER_WITHIN_MIN);
        Caller { client, answer_within, failures: Failures::default() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// How long a member may leave a request unanswered, or the client be without a token, before another is tried.
    pub(crate) fn answer_within(&self) -> Duration {
        self.answer_within
    }

    /// Signs in, if that is needed, and connects to whose turn it is.
    pub(crate) fn connect(&self) -> impl Future<Output = Result<Connection, Error>> + 'static {
        let (client, limit) = (self.client.clone(), self.answer_within);
        async move {
            let signed_in = timeout(limit, client.session.start(&client)).await;
            signed_in.unwrap_or(Err(Error::DeadlineExceeded))?;
            Ok(client.connections.next().await)
        }
    }

    /// What is to be sent, and the way to send it.
    pub(crate) fn requests<T>(&self) -> (mpsc::Sender<T>, Request<Requests<T>>) {
        let (sender, receiver) = mpsc::channel(REQUESTS_WAITING_MAX);
        let token = self.client.session.token();
        (sender, self.client.request_without_end(Requests(receiver), token))
    }

    /// The stream is served.
    pub(crate) fn succeeded(&mut self) {
        self.failures.succeeded();
    }

    /// A stream on this connection broke.
    pub(crate) async fn broken(&mut self, connection: &Connection, status: Status) -> Broken {
        if was_never_sent(&status) {
            self.client.connections.lost(connection).await;
            return Broken::NeverSent;
        }
        let error = Error::from(status);
        let refuses_token = error.etcd().is_some_and(asks_for_new_token);
        if refuses_token && self.client.session.can_sign_in() && self.failures.token_refused() {
            Broken::NewToken
        } else {
            Broken::Failed(error)
        }
    }

    /// Gets another token than the one that was refused.
    pub(crate) fn renew_token(&self) -> impl Future<Output = Result<(), Error>> + 'static {
        let (client, limit) = (self.client.clone(), self.answer_within);
        async move {
            let deadline = Instant::now() + limit;
            let refused = client.session.token();
            let renewed = timeout(limit, client.session.replace(&client, refused, deadline));
            renewed.await.unwrap_or(Err(Error::DeadlineExceeded))
        }
    }

    /// How long to wait after a failure before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        self.failures.failed(self.client.connections.endpoint_count(), rand::random())
    }
}

/// Attempts in a row that failed.
#[derive(Debug, Default)]
struct Failures {
    failed: u32,
    tokens_refused: u32,
}

impl Failures {
    fn succeeded(&mut self) {
        *self = Failures::default();
    }

    /// Whether it makes sense to get another token.
    fn token_refused(&mut self) -> bool {
        self.tokens_refused += 1;
        self.tokens_refused <= TOKENS_MAX
    }

    /// How long to wait after a failure: not at all until every endpoint had its turn, then longer each round.
    fn failed(&mut self, endpoint_count: usize, random: f64) -> Duration {
        self.failed = self.failed.saturating_add(1);
        let endpoint_count = u32::try_from(endpoint_count.max(1)).unwrap_or(u32::MAX);
        if !self.failed.is_multiple_of(endpoint_count) {
            return Duration::ZERO;
        }
        let round = (self.failed / endpoint_count - 1).min(16);
        let pause = PAUSE.saturating_mul(1 << round).min(PAUSE_MAX);
        pause.mul_f64(1.0 + PAUSE_JITTER * (random * 2.0 - 1.0))
    }
}

/// Whether no other member and no later time will change the answer.
pub(crate) fn is_permanent(error: &Error) -> bool {
    match error {
        Error::Etcd(EtcdError::NotSupportedForLearner | EtcdError::RequestTooManyRequests) => false,
        Error::Etcd(name) => name.code() != Code::Unavailable,
        Error::Status(status) => matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Unauthenticated
        ),
        Error::DeadlineExceeded => false,
        _ => true,
    }
}

/// What is to be sent, as the transport takes it.
pub(crate) struct Requests<T>(mpsc::Receiver<T>);

impl<T> Stream for Requests<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

type Opening<T> = Pin<Box<dyn Future<Output = Result<Response<Streaming<T>>, Status>> + Send>>;

/// What the server sends. A server may begin its answer only with the first response, so requests must flow before the
/// call has one.
pub(crate) enum Answers<T> {
    Opening(Opening<T>),
    Open(Box<Streaming<T>>),
}

impl<T> Answers<T> {
    /// The answers of a call that is being made.
    pub(crate) fn of(
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>> + Send + 'static,
    ) -> Answers<T> {
        Answers::Opening(Box::pin(call))
    }

    /// The next response. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Status> {
        loop {
            match self {
                Answers::Opening(call) => {
                    let answers = call.await?.into_inner();
                    *self = Answers::Open(Box::new(answers));
                }
                Answers::Open(answers) => return answers.message().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvorum_proto::errors::EtcdError;
    use tonic::Status;

    use super::{Failures, is_permanent};
    use crate::error::Error;

    #[test]
    fn every_endpoint_is_tried_before_a_pause_and_pauses_grow() {
        let mut failures = Failures::default();
        let pauses: Vec<u128> = (0..9).map(|_| failures.failed(3, 0.5).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 25, 0, 0, 50, 0, 0, 100]);
        let longest = (0..100).map(|_| failures.failed(3, 1.0)).max().unwrap();
        assert_eq!(longest, Duration::from_millis(1100));
        failures.succeeded();
        assert_eq!(failures.failed(1, 0.5).as_millis(), 25);
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let passes = [
            EtcdError::NoLeader.into(),
            EtcdError::Stopped.into(),
            EtcdError::NotSupportedForLearner.into(),
            EtcdError::WatchCanceled.into(),
            EtcdError::RequestTooManyRequests.into(),
            Status::unknown("transport error"),
            Status::internal("h2 protocol error"),
            Status::cancelled(""),
        ];
        for status in passes {
            assert!(!is_permanent(&Error::from(status.clone())), "{status}");
        }
        let stays: [Status; 5] = [
            EtcdError::PermissionDenied.into(),
            EtcdError::AuthFailed.into(),
            EtcdError::InvalidAuthToken.into(),
            Status::unimplemented(""),
            Status::out_of_range("decoded message length too large"),
        ];
        for status in stays {
            assert!(is_permanent(&Error::from(status.clone())), "{status}");
        }
    }
}
