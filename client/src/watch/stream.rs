//! The task of a stream: connect, send, receive, and after a loss pause and begin again.

use std::future::Future;
use std::sync::Arc;

use kvorum_proto::api::etcdserverpb::watch_client::WatchClient;
use kvorum_proto::api::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;

use super::mailbox::{Mailbox, News};
use super::multiplexer::{Multiplexer, Verdict};
use crate::client::Client;
use crate::connections::Connection;
use crate::error::Error;
use crate::streaming::{Answers, Broken, Caller, is_permanent};

/// Runs a stream until its last watch is gone.
pub(super) fn spawn(client: Client, mailbox: Arc<Mailbox>) {
    tokio::spawn(Task { caller: Caller::new(client), mailbox, watches: Multiplexer::new() }.run());
}

struct Task {
    caller: Caller,
    mailbox: Arc<Mailbox>,
    watches: Multiplexer,
}

/// Why a stream is over.
enum Over {
    /// It has no watches.
    Idle,
    Broken(Broken),
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
                Over::Idle | Over::Broken(Broken::NeverSent) => {}
                Over::Broken(Broken::NewToken) => self.renew_token().await,
                Over::Broken(Broken::Failed(error)) if is_permanent(&error) => {
                    self.watches.end_all(&error);
                }
                Over::Broken(Broken::Failed(_)) => self.pause().await,
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
        let connection = match self.unless_idle(self.caller.connect()).await {
            None => return Over::Idle,
            Some(Err(error)) => return Over::Broken(Broken::Failed(error)),
            Some(Ok(connection)) => connection,
        };
        let (requests, mut answers) = self.open(&connection);
        self.watches.opened();
        match self.serve(requests, &mut answers).await {
            Err(status) => Over::Broken(self.caller.broken(&connection, status).await),
            Ok(over) => over,
        }
    }

    fn open(
        &self,
        connection: &Connection,
    ) -> (mpsc::Sender<WatchRequest>, Answers<WatchResponse>) {
        let (sender, request) = self.caller.requests();
        let bytes_max = self.caller.client().config().response_bytes_max;
        let mut service =
            WatchClient::new(connection.channel.clone()).max_decoding_message_size(bytes_max);
        (sender, Answers::of(async move { service.watch(request).await }))
    }

    /// Sends and receives until there is no watch left or something is wrong.
    async fn serve(
        &mut self,
        requests: mpsc::Sender<WatchRequest>,
        answers: &mut Answers<WatchResponse>,
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
                None => Some(Instant::now() + self.caller.answer_within()),
                due => due,
            };
        }
    }

    fn received(&mut self, response: WatchResponse) -> Option<Over> {
        let is_served = response.created && !response.canceled;
        match self.watches.received(response, self.caller.client().session.can_sign_in()) {
            Verdict::Fine => {
                if is_served {
                    self.caller.succeeded();
                }
                None
            }
            Verdict::NewToken => Some(Over::Broken(Broken::NewToken)),
            Verdict::Lost => {
                let error = Error::Status(Status::unavailable("the member does not serve"));
                Some(Over::Broken(Broken::Failed(error)))
            }
        }
    }

    async fn renew_token(&mut self) {
        match self.unless_idle(self.caller.renew_token()).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) if is_permanent(&error) => self.watches.end_all(&error),
            Some(Err(_)) => self.pause().await,
        }
    }

    /// Waits before the next attempt, if it is time to.
    async fn pause(&mut self) {
        let pause = self.caller.pause();
        self.unless_idle(sleep(pause)).await;
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
