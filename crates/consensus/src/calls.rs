//! Questions to a peer and their answers, many at a time over one connection.
//!
//! The connection is made when the first question needs it, and again after it broke. Whoever asks learns, when there is
//! no answer, whether the question can have reached the peer: only one that certainly has not may be asked again by
//! someone who must not ask twice.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kvorum_proto::peer::message::Body;
use kvorum_types::MemberId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::addresses::Addresses;
use crate::codec;
use crate::removal::Told;
use crate::runtime::{Runtime, spawn};
use crate::transport::{Lane, PipeRx, PipeTx, Transport};

/// How many questions wait to be sent on one connection before those who ask have to wait.
const QUESTIONS_MAX: usize = 64;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The peer has certainly not seen it.
    #[error("not sent: {0}")]
    NotSent(Arc<io::Error>),
    /// The connection broke after the question may have been sent.
    #[error("no answer: the connection was lost")]
    Lost,
}

/// Asks one peer over one lane.
pub(crate) struct Calls<T: Transport> {
    transport: Arc<T>,
    addresses: Arc<Addresses>,
    told_removed: Arc<Told>,
    to: MemberId,
    lane: Lane,
    connect_timeout: Duration,
    connection: tokio::sync::Mutex<Option<Connection>>,
    /// How many connections there have been.
    connection_count: AtomicU64,
}

/// A connection in use.
#[derive(Clone)]
struct Connection {
    questions: mpsc::Sender<Question>,
}

struct Question {
    body: Body,
    answer: oneshot::Sender<Result<Body, CallError>>,
}

/// Who waits for which answer on one connection.
#[derive(Default)]
struct Waiting {
    by_id: HashMap<u64, oneshot::Sender<Result<Body, CallError>>>,
    /// The connection is over: no answer comes any more.
    over: bool,
}

type SharedWaiting = Arc<Mutex<Waiting>>;

impl<T: Transport> Calls<T> {
    pub(crate) fn new(
        transport: Arc<T>,
        addresses: Arc<Addresses>,
        told_removed: Arc<Told>,
        (to, lane): (MemberId, Lane),
        connect_timeout: Duration,
    ) -> Calls<T> {
        let connection = tokio::sync::Mutex::new(None);
        Calls {
            transport,
            addresses,
            told_removed,
            to,
            lane,
            connect_timeout,
            connection,
            connection_count: AtomicU64::new(0),
        }
    }

    /// How many connections there have been, the present one included.
    pub(crate) fn connection_count(&self) -> u64 {
        self.connection_count.load(Ordering::Acquire)
    }

    /// Asks, and waits for the answer for as long as the caller does.
    pub(crate) async fn call<R: Runtime>(&self, body: Body) -> Result<Body, CallError> {
        let (answer, answered) = oneshot::channel();
        let connection = self.connection::<R>().await?;
        let question = Question { body, answer };
        if let Err(unsent) = connection.questions.send(question).await {
            // The connection broke since it was last used: the question is still ours, so a new one may be tried.
            let connection = self.reconnect::<R>().await?;
            if connection.questions.send(unsent.0).await.is_err() {
                return Err(not_sent(io::ErrorKind::ConnectionReset));
            }
        }
        // Dropped unanswered: it was taken off the queue, so it may have been sent.
        answered.await.unwrap_or(Err(CallError::Lost))
    }

    async fn connection<R: Runtime>(&self) -> Result<Connection, CallError> {
        let mut slot = self.connection.lock().await;
        match &*slot {
            Some(connection) if !connection.questions.is_closed() => Ok(connection.clone()),
            Some(_) | None => {
                let connection = self.connect::<R>().await?;
                Ok(slot.insert(connection).clone())
            }
        }
    }

    async fn reconnect<R: Runtime>(&self) -> Result<Connection, CallError> {
        let mut slot = self.connection.lock().await;
        let connection = self.connect::<R>().await?;
        Ok(slot.insert(connection).clone())
    }

    async fn connect<R: Runtime>(&self) -> Result<Connection, CallError> {
        let urls = self.addresses.of(self.to);
        let connecting = self.transport.connect(self.to, &urls, self.lane);
        let (tx, rx) = match R::timeout(self.connect_timeout, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => {
                self.told_removed.note(self.to, &error);
                return Err(CallError::NotSent(Arc::new(error)));
            }
            Err(_) => return Err(not_sent(io::ErrorKind::TimedOut)),
        };
        self.connection_count.fetch_add(1, Ordering::AcqRel);
        let (questions, queue) = mpsc::channel(QUESTIONS_MAX);
        let waiting = SharedWaiting::default();
        let (ended_tx, ended_rx) = oneshot::channel();
        // Whichever half ends first ends the other: the queue closes, and with it everyone's next question.
        spawn::<R>(send_questions::<R, T>(tx, queue, waiting.clone(), ended_rx));
        spawn::<R>(async move {
            receive_answers(rx, &waiting).await;
            drop(ended_tx);
        });
        Ok(Connection { questions })
    }

    /// Closes the connection once its last question is answered.
    pub(crate) async fn close(&self) {
        *self.connection.lock().await = None;
    }
}

fn not_sent(kind: io::ErrorKind) -> CallError {
    CallError::NotSent(Arc::new(io::Error::from(kind)))
}

async fn send_questions<R: Runtime, T: Transport>(
    mut tx: T::Tx,
    mut queue: mpsc::Receiver<Question>,
    waiting: SharedWaiting,
    ended: oneshot::Receiver<()>,
) {
    let sending = async {
        let mut id = 0;
        while let Some(Question { body, answer }) = queue.recv().await {
            if answer.is_closed() {
                continue;
            }
            id += 1;
            if !wait_for_answer(&waiting, id, answer) {
                break;
            }
            if tx.send(&[codec::encode(id, body)]).await.is_err() {
                break;
            }
        }
    };
    let ended = async { drop(ended.await) };
    R::select2(Box::pin(sending), Box::pin(ended)).await;
    queue.close();
    while let Ok(question) = queue.try_recv() {
        let _ = question.answer.send(Err(not_sent(io::ErrorKind::ConnectionReset)));
    }
    end(&waiting);
}

/// Whether the answer can still come.
fn wait_for_answer(
    waiting: &SharedWaiting,
    id: u64,
    answer: oneshot::Sender<Result<Body, CallError>>,
) -> bool {
    let mut waiting = waiting.lock();
    if waiting.over {
        let _ = answer.send(Err(not_sent(io::ErrorKind::ConnectionReset)));
        return false;
    }
    // Those who gave up waiting leave their place when the next question comes.
    waiting.by_id.retain(|_, answer| !answer.is_closed());
    waiting.by_id.insert(id, answer);
    true
}

async fn receive_answers(mut rx: impl PipeRx, waiting: &SharedWaiting) {
    while let Ok(Some(message)) = rx.receive().await {
        match codec::decode(message) {
            Ok((id, body)) => {
                let answer = waiting.lock().by_id.remove(&id);
                if let Some(answer) = answer {
                    let _ = answer.send(Ok(body));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a peer's answer cannot be read");
                break;
            }
        }
    }
    end(waiting);
}

fn end(waiting: &SharedWaiting) {
    let mut waiting = waiting.lock();
    waiting.over = true;
    for answer in std::mem::take(&mut waiting.by_id).into_values() {
        let _ = answer.send(Err(CallError::Lost));
    }
}
