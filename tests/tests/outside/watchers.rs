//! Watchers of everything, which go on at another member where they lost one.

use std::sync::Arc;
use std::time::Duration;

use kvorum_judges::history::{Heard, Watcher};
use kvorum_proto::api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_testkit::{WAIT_MAX, Watching};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::client::Shared;

/// How long a watcher waits for news before it asks how far it is.
const LOOK: Duration = Duration::from_millis(300);

/// A stream that says nothing for so long, though it was asked, is left for another one.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// A client that watches everything from the beginning on.
pub struct Follower {
    shared: Arc<Shared>,
    number: u64,
    member: usize,
    next: i64,
    /// Up to which revision it is to be told everything before it ends; None: not known yet.
    goal: watch::Receiver<Option<i64>>,
}

impl Follower {
    pub fn new(shared: &Arc<Shared>, number: u64, goal: watch::Receiver<Option<i64>>) -> Follower {
        Follower { shared: shared.clone(), number, member: number as usize, next: 1, goal }
    }

    pub async fn run(mut self) {
        let mut deadline = None;
        while !self.is_done() {
            if self.goal.borrow().is_some() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + WAIT_MAX);
                assert!(Instant::now() < deadline, "a watcher stays behind, at {}", self.next);
            }
            self.follow().await;
            self.member += 1;
        }
    }

    fn is_done(&self) -> bool {
        self.goal.borrow().is_some_and(|goal| self.next > goal)
    }

    /// Watches at one member as long as that goes.
    async fn follow(&mut self) {
        let member = self.member % self.shared.endpoints.len();
        let request = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: self.next,
            prev_kv: self.member.is_multiple_of(2),
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let call = self.shared.moment();
        let mut stream = self.shared.endpoints[member].watch();
        stream.create(request.clone()).await;
        let heard = self.listen(&mut stream).await;
        let (client, member, series) = (self.number, member as u64, self.number);
        let watcher = Watcher { client, member, call, request, series, heard };
        self.shared.note(|history| history.watchers.push(watcher));
    }

    async fn listen(&mut self, stream: &mut Watching) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut last = Instant::now();
        while !self.is_done() && last.elapsed() < SILENCE_MAX {
            match timeout(LOOK, stream.next()).await {
                Ok(Ok(Some(response))) => {
                    last = Instant::now();
                    let is_end = self.hear(&response);
                    heard.push(Heard { at: self.shared.moment(), response });
                    if is_end {
                        return heard;
                    }
                }
                Ok(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    return heard;
                }
                Err(_) => stream.request_progress().await,
            }
        }
        heard
    }

    /// Whether that was the last.
    fn hear(&mut self, response: &WatchResponse) -> bool {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let told = response.events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision));
        if let Some(newest) = told.max() {
            self.next = self.next.max(newest + 1);
        } else if !response.created && !response.canceled {
            self.next = self.next.max(revision + 1);
        }
        if response.compact_revision > 0 {
            self.next = response.compact_revision;
        }
        response.canceled
    }
}
