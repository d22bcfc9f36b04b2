//! The task of a stream: connect, send, receive, and after a loss pause and begin again.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use kvorum_proto::api::etcdserverpb::watch_client::WatchClient;
use kvorum_proto::api::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use kvorum_proto::errors::EtcdError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Response, Status, Streaming};

use super::mailbox::{Mailbox, News};
use super::multiplexer::{Multiplexer, Verdict};
use crate::client::Client;
use crate::connections::Connection;
use crate::error::{Error, was_never_sent};
use crate::retry::{PAUSE, PAUSE_JITTER, asks_for_new_token};

/// Requests handed to the connection that it has not taken yet.
const REQUESTS_WAITING_MAX: usize = 64;
/// How long a member may at least take to answer a create, however impatient the client is with calls.
const ANSWER_WITHIN_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two rounds of attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Runs a stream until its last watch is gone.
pub(super) fn spawn(client: Client, mailbox: Arc<Mailbox>) {
    let answer_within = client.config().request_timeout.max(ANSWER_WITHIN_MIN);
    let task = Task {
        client,
        answer_within,
        mailbox,
        watches: Multiplexer::new(),
        attempts: Attempts::default(),
    };
    tokio::spawn(task.run());
}

struct Task {
    client: Client,
    /// How long a member may leave a create unanswered, or the client without a token, before another is tried.
    answer_within: Duration,
    mailbox: Arc<Mailbox>,
    watches: Multiplexer,
    attempts: Attempts,
}

/// Why a stream is over.
enum Over {
    /// It has no watches.
    Idle,
    Failed(Error),
    /// There was no connection to send on.
    NeverSent,
    /// The server does not accept the token.
    NewToken,
}

impl Task {
    async fn run(mut self) {
        loop {
            self.read_mail();
            if self.watches.is_empty() {
                if self.mailbox.close_if_quiet() {
                    return;
                }
                continue;
            }
            let over = self.one_stream().await;
            self.watches.lost();
            match over {
                Over::Idle => {}
                Over::NewToken => self.renew_token().await,
                Over::NeverSent => {}
                Over::Failed(error) if is_permanent(&error) => self.watches.end_all(&error),
                Over::Failed(_) => self.pause().await,
            }
        }
    }

    /// Takes what has come from readers.
    fn read_mail(&mut self) {
        let news = self.mailbox.take();
        for (number, cursor, queue) in news.added {
            self.watches.add(number, cursor, queue);
        }
        for number in news.moved {
            self.watches.reader_moved(number);
        }
        if news.progress_wanted {
            self.watches.request_progress();
        }
    }

    /// Does something that may take long, or returns `None` when the last watch is gone.
    async fn unless_idle<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            let mailbox = self.mailbox.clone();
            tokio::select! {
                done = &mut work => return Some(done),
                () = mailbox.rung() => self.read_mail(),
            }
            if self.watches.is_empty() {
                return None;
            }
        }
    }

    /// Opens a stream and serves the watches on it until it is over.
    async fn one_stream(&mut self) -> Over {
        let (client, limit) = (self.client.clone(), self.answer_within);
        let connect = async {
            let signed_in = timeout(limit, client.session.start(&client)).await;
            signed_in.unwrap_or(Err(Error::DeadlineExceeded))?;
            Ok(client.connections.next().await)
        };
        let connection = match self.unless_idle(connect).await {
            None => return Over::Idle,
            Some(Err(error)) => return Over::Failed(error),
            Some(Ok(connection)) => connection,
        };
        let (requests, mut answers) = self.open(&connection);
        self.watches.opened();
        match self.serve(requests, &mut answers).await {
            Err(status) if was_never_sent(&status) => {
                self.client.connections.lost(&connection).await;
                Over::NeverSent
            }
            Err(status) => self.failed(status.into()),
            Ok(over) => over,
        }
    }

    fn open(&self, connection: &Connection) -> (mpsc::Sender<WatchRequest>, Answers) {
        let (sender, receiver) = mpsc::channel(REQUESTS_WAITING_MAX);
        let token = self.client.session.token();
        let request = self.client.request_without_end(Requests(receiver), token);
        let bytes_max = self.client.config().response_bytes_max;
        let mut service =
            WatchClient::new(connection.channel.clone()).max_decoding_message_size(bytes_max);
        (sender, Answers::Opening(Box::pin(async move { service.watch(request).await })))
    }

    /// Sends and receives until there is no watch left or something is wrong.
    async fn serve(
        &mut self,
        requests: mpsc::Sender<WatchRequest>,
        answers: &mut Answers,
    ) -> Result<Over, Status> {
        let mut answer_due: Option<Instant> = None;
        loop {
            let overdue = answer_due.unwrap_or_else(Instant::now);
            tokio::select! {
                answer = answers.next() => {
                    let response = answer?.ok_or_else(|| Status::unavailable("the stream ended"))?;
                    answer_due = None;
                    if let Some(over) = self.received(response) {
                        return Ok(over);
                    }
                }
                permit = requests.reserve(), if self.watches.has_outgoing() => {
                    // A closed channel means that the call is over, which its answer tells of.
                    if let (Ok(permit), Some(request)) = (permit, self.watches.next_request()) {
                        permit.send(request);
                    }
                }
                () = self.mailbox.rung() => self.read_mail(),
                () = sleep_until(overdue), if answer_due.is_some() => {
                    return Err(Status::unavailable("the member does not answer"));
                }
            }
            if self.watches.is_empty() {
                return Ok(Over::Idle);
            }
            answer_due = match answer_due {
                _ if !self.watches.awaits_answer() => None,
                None => Some(Instant::now() + self.answer_within),
                due => due,
            };
        }
    }

    fn received(&mut self, response: WatchResponse) -> Option<Over> {
        let is_served = response.created && !response.canceled;
        match self.watches.received(response, self.client.session.can_sign_in()) {
            Verdict::Fine => {
                if is_served {
                    self.attempts.succeeded();
                }
                None
            }
            Verdict::NewToken => Some(Over::NewToken),
            Verdict::Lost => {
                Some(Over::Failed(Error::Status(Status::unavailable("the member does not serve"))))
            }
        }
    }

    /// Whether a new token is what a failed stream needs.
    fn failed(&mut self, error: Error) -> Over {
        match error.etcd() {
            Some(name) if self.client.session.can_sign_in() && asks_for_new_token(name) => {
                if self.attempts.token_refused() { Over::NewToken } else { Over::Failed(error) }
            }
            _ => Over::Failed(error),
        }
    }

    async fn renew_token(&mut self) {
        let (client, limit) = (self.client.clone(), self.answer_within);
        let renew = async {
            let deadline = Instant::now() + limit;
            let refused = client.session.token();
            let renewed = timeout(limit, client.session.replace(&client, refused, deadline));
            renewed.await.unwrap_or(Err(Error::DeadlineExceeded))
        };
        match self.unless_idle(renew).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) if is_permanent(&error) => self.watches.end_all(&error),
            Some(Err(_)) => self.pause().await,
        }
    }

    /// Waits before the next attempt, if it is time to.
    async fn pause(&mut self) {
        let endpoint_count = self.client.connections.endpoint_count();
        let pause = self.attempts.failed(endpoint_count, rand::random());
        self.unless_idle(tokio::time::sleep(pause)).await;
    }
}

impl Drop for Task {
    /// However the task ends, also with its runtime or by a panic, no reader waits for ever.
    fn drop(&mut self) {
        let News { added, .. } = self.mailbox.close();
        let error = Error::Status(Status::cancelled("the client's runtime has ended"));
        for (_, _, queue) in added {
            queue.finish(error.clone(), ResponseHeader::default());
        }
        self.watches.end_all(&error);
    }
}

/// Attempts in a row that failed.
#[derive(Debug, Default)]
struct Attempts {
    failed: u32,
    tokens_refused: u32,
}

impl Attempts {
    fn succeeded(&mut self) {
        *self = Attempts::default();
    }

    /// Whether it makes sense to get another token.
    fn token_refused(&mut self) -> bool {
        self.tokens_refused += 1;
        self.tokens_refused <= 3
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
fn is_permanent(error: &Error) -> bool {
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
struct Requests(mpsc::Receiver<WatchRequest>);

impl Stream for Requests {
    type Item = WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchRequest>> {
        self.0.poll_recv(cx)
    }
}

type Opening =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<WatchResponse>>, Status>> + Send>>;

/// What the server sends. A server may begin its answer only with the first response, so requests must flow before the
/// call has one.
enum Answers {
    Opening(Opening),
    Open(Box<Streaming<WatchResponse>>),
}

impl Answers {
    /// The next response. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
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

    use super::{Attempts, is_permanent};
    use crate::error::Error;

    #[test]
    fn every_endpoint_is_tried_before_a_pause_and_pauses_grow() {
        let mut attempts = Attempts::default();
        let pauses: Vec<u128> = (0..9).map(|_| attempts.failed(3, 0.5).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 25, 0, 0, 50, 0, 0, 100]);
        let longest = (0..100).map(|_| attempts.failed(3, 1.0)).max().unwrap();
        assert_eq!(longest, Duration::from_millis(1100));
        attempts.succeeded();
        assert_eq!(attempts.failed(1, 0.5).as_millis(), 25);
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
