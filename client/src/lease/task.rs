//! The task that keeps a client's leases: connect, send, receive, and after a loss pause and begin again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kvorum_proto::api::etcdserverpb::lease_client::LeaseClient;
use kvorum_proto::api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::clock::now;
use super::mailbox::{Mailbox, News};
use super::schedule::Schedule;
use crate::client::Client;
use crate::connections::Connection;
use crate::error::{Error, was_never_sent};
use crate::retry::asks_for_new_token;
use crate::streaming::{Answers, Failures, Requests, is_permanent};

/// Requests handed to the connection that it has not taken yet. They count as sent, so few may wait.
const REQUESTS_WAITING_MAX: usize = 64;
/// How long a member may at least take to answer when nothing is known of the TTL, however impatient the client is with
/// calls.
const ANSWER_WITHIN_MIN: Duration = Duration::from_secs(1);
/// How often it is looked which leases are lost while nothing can be sent.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The longest sleep without a look at the clock, which goes on while the machine and its timers sleep.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Keeps leases until the last one is gone.
pub(super) fn spawn(client: Client, mailbox: Arc<Mailbox>) {
    let answer_within = client.config().request_timeout.max(ANSWER_WITHIN_MIN);
    let schedule = Schedule::new(answer_within, client.connections.endpoint_count());
    let failures = Failures::default();
    tokio::spawn(Task { client, answer_within, mailbox, schedule, failures }.run());
}

struct Task {
    client: Client,
    /// How long a member may take to answer, or the client may be without a token, before another is tried.
    answer_within: Duration,
    mailbox: Arc<Mailbox>,
    schedule: Schedule,
    failures: Failures,
}

/// Why a stream is over.
enum Over {
    /// There are no leases.
    Idle,
    /// No server will have this client.
    Unwelcome(Error),
    Failed(Error),
    /// There was no connection to send on.
    NeverSent,
    /// The server does not accept the token.
    NewToken,
}

impl Task {
    async fn run(mut self) {
        loop {
            self.look();
            if self.schedule.is_empty() {
                if self.mailbox.close_if_quiet() {
                    return;
                }
                continue;
            }
            if !self.schedule.may_send(now()) {
                self.unless_idle(std::future::pending::<()>(), true).await;
                continue;
            }
            let over = self.one_stream().await;
            match &over {
                Over::Unwelcome(error) => self.schedule.end_all(error),
                Over::Failed(error) if is_permanent(error) => self.schedule.refused(error),
                _ => {}
            }
            self.schedule.lost();
            match over {
                Over::Idle | Over::NeverSent | Over::Unwelcome(_) => {}
                Over::NewToken => self.renew_token().await,
                Over::Failed(_) => self.pause().await,
            }
        }
    }

    /// Takes what has come from readers, and ends what is lost.
    fn look(&mut self) {
        let News { added, released } = self.mailbox.take();
        let now = now();
        for added in added {
            self.schedule.add(added, now);
        }
        for id in released {
            self.schedule.released(id);
        }
        self.schedule.expire(now);
    }

    /// How long nothing is to be done.
    fn quiet(&self) -> Duration {
        let wakes_at = self.schedule.wakes_at().unwrap_or(Duration::MAX);
        wakes_at.saturating_sub(now()).min(SLEEP_MAX)
    }

    /// Does something that may take long, or returns `None` when the last lease is gone, and also, if `or_due`, when there
    /// is something to send.
    async fn unless_idle<T>(&mut self, work: impl Future<Output = T>, or_due: bool) -> Option<T> {
        tokio::pin!(work);
        loop {
            let mailbox = self.mailbox.clone();
            // What is due cannot be sent now: only ends matter.
            let quiet = if or_due { self.quiet() } else { self.quiet().max(LOOK_INTERVAL) };
            tokio::select! {
                done = &mut work => return Some(done),
                () = mailbox.rung() => {}
                () = sleep(quiet) => {}
            }
            self.look();
            if self.schedule.is_empty() || or_due && self.schedule.may_send(now()) {
                return None;
            }
        }
    }

    /// Opens a stream and keeps the leases on it until it is over.
    async fn one_stream(&mut self) -> Over {
        let (client, limit) = (self.client.clone(), self.answer_within);
        let connect = async {
            let signed_in = timeout(limit, client.session.start(&client)).await;
            signed_in.unwrap_or(Err(Error::DeadlineExceeded))?;
            Ok(client.connections.next().await)
        };
        let connection = match self.unless_idle(connect, false).await {
            None => return Over::Idle,
            Some(Err(error)) if is_permanent(&error) => return Over::Unwelcome(error),
            Some(Err(error)) => return Over::Failed(error),
            Some(Ok(connection)) => connection,
        };
        let (requests, mut answers) = self.open(&connection);
        match self.serve(requests, &mut answers).await {
            Err(status) if was_never_sent(&status) => {
                self.client.connections.lost(&connection).await;
                Over::NeverSent
            }
            Err(status) => self.failed(status.into()),
            Ok(()) => Over::Idle,
        }
    }

    fn open(
        &self,
        connection: &Connection,
    ) -> (mpsc::Sender<LeaseKeepAliveRequest>, Answers<LeaseKeepAliveResponse>) {
        let (sender, receiver) = mpsc::channel(REQUESTS_WAITING_MAX);
        let token = self.client.session.token();
        let request = self.client.request_without_end(Requests(receiver), token);
        let mut service = LeaseClient::new(connection.channel.clone());
        (sender, Answers::of(async move { service.lease_keep_alive(request).await }))
    }

    /// Sends and receives until there is no lease left or something is wrong.
    async fn serve(
        &mut self,
        requests: mpsc::Sender<LeaseKeepAliveRequest>,
        answers: &mut Answers<LeaseKeepAliveResponse>,
    ) -> Result<(), Status> {
        loop {
            tokio::select! {
                answer = answers.next() => {
                    let answer = answer?.ok_or_else(|| Status::unavailable("the stream ended"))?;
                    if self.schedule.answered(&answer, now()) {
                        self.failures.succeeded();
                    }
                }
                permit = requests.reserve(), if self.schedule.may_send(now()) => {
                    // A closed channel means that the call is over, which its answer tells of.
                    if let (Ok(permit), Some(id)) = (permit, self.schedule.next_request(now())) {
                        permit.send(LeaseKeepAliveRequest { id });
                    }
                }
                () = self.mailbox.rung() => {}
                () = sleep(self.quiet()) => {}
            }
            self.look();
            if self.schedule.is_empty() {
                return Ok(());
            }
            if self.schedule.is_overdue(now()) {
                return Err(Status::unavailable("the member does not answer"));
            }
        }
    }

    /// Whether a new token is what a failed stream needs.
    fn failed(&mut self, error: Error) -> Over {
        match error.etcd() {
            Some(name) if self.client.session.can_sign_in() && asks_for_new_token(name) => {
                if self.failures.token_refused() { Over::NewToken } else { Over::Failed(error) }
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
        match self.unless_idle(renew, false).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) if is_permanent(&error) => self.schedule.end_all(&error),
            Some(Err(_)) => self.pause().await,
        }
    }

    /// Waits before the next attempt, if it is time to.
    async fn pause(&mut self) {
        let endpoint_count = self.client.connections.endpoint_count();
        let pause = self.failures.failed(endpoint_count, rand::random());
        self.unless_idle(sleep(pause), false).await;
    }
}

impl Drop for Task {
    /// However the task ends, also with its runtime or by a panic, no reader waits for ever.
    fn drop(&mut self) {
        let error = Error::Status(Status::cancelled("the client's runtime has ended"));
        for added in self.mailbox.close().added {
            added.listener.finish(error.clone());
        }
        self.schedule.end_all(&error);
    }
}
