//! The task that keeps a client's leases: connect, send, receive, and after a loss pause and begin again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kvorum_proto::api::etcdserverpb::lease_client::LeaseClient;
use kvorum_proto::api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::Status;

use super::clock::now;
use super::mailbox::{Mailbox, News};
use super::schedule::Schedule;
use crate::client::Client;
use crate::connections::Connection;
use crate::error::Error;
use crate::streaming::{Answers, Broken, Caller, is_permanent};

/// How often it is looked which leases are lost while nothing can be sent.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The longest sleep without a look at the clock, which goes on while the machine and its timers sleep.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Keeps leases until the last one is gone.
pub(super) fn spawn(client: Client, mailbox: Arc<Mailbox>) {
    let endpoint_count = client.connections.endpoint_count();
    let caller = Caller::new(client);
    let schedule = Schedule::new(caller.answer_within(), endpoint_count);
    tokio::spawn(Task { caller, mailbox, schedule }.run());
}

struct Task {
    caller: Caller,
    mailbox: Arc<Mailbox>,
    schedule: Schedule,
}

/// Why a stream is over.
enum Over {
    /// There are no leases.
    Idle,
    /// No server will have this client.
    Unwelcome(Error),
    Broken(Broken),
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
                Over::Broken(Broken::Failed(error)) if is_permanent(error) => {
                    self.schedule.refused(error);
                }
                _ => {}
            }
            self.schedule.lost();
            match over {
                Over::Idle | Over::Unwelcome(_) | Over::Broken(Broken::NeverSent) => {}
                Over::Broken(Broken::NewToken) => self.renew_token().await,
                Over::Broken(Broken::Failed(_)) => self.pause().await,
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
        let connection = match self.unless_idle(self.caller.connect(), false).await {
            None => return Over::Idle,
            Some(Err(error)) if is_permanent(&error) => return Over::Unwelcome(error),
            Some(Err(error)) => return Over::Broken(Broken::Failed(error)),
            Some(Ok(connection)) => connection,
        };
        let (requests, mut answers) = self.open(&connection);
        match self.serve(requests, &mut answers).await {
            Err(status) => Over::Broken(self.caller.broken(&connection, status).await),
            Ok(()) => Over::Idle,
        }
    }

    fn open(
        &self,
        connection: &Connection,
    ) -> (mpsc::Sender<LeaseKeepAliveRequest>, Answers<LeaseKeepAliveResponse>) {
        // Those that wait count as sent: so few may.
        let (sender, request) = self.caller.requests();
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
                        self.caller.succeeded();
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
            if self.schedule.gives_up(now()) {
                return Err(Status::unavailable("the member does not answer"));
            }
        }
    }

    async fn renew_token(&mut self) {
        match self.unless_idle(self.caller.renew_token(), false).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) if is_permanent(&error) => self.schedule.end_all(&error),
            Some(Err(_)) => self.pause().await,
        }
    }

    /// Waits before the next attempt, if it is time to.
    async fn pause(&mut self) {
        let pause = self.caller.pause();
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
