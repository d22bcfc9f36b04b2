//! A gRPC stream with many watchers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kvorum_client::api::etcdserverpb::watch_request::RequestUnion;
use kvorum_client::api::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use kvorum_client::{Error, prefix_end};
use prost::Message;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tonic::Status;

use super::watcher::Tally;
use crate::bench::plan::WatchPlan;
use crate::bench::transport::{CallError, Lane, next_message};
use crate::bench::work::{Method, frame};

/// The pause before a stream that broke is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(10);

/// A stream and its share of the watchers.
pub struct Stream {
    lane: Rc<Lane>,
    tally: Rc<RefCell<Tally>>,
    prefix: Bytes,
    /// Watchers of the prefix, by their number over all streams.
    watchers: Range<usize>,
    /// Watchers of keys of their own.
    idle: Range<usize>,
    /// For each watcher, the revision of its first creation; watchers before idle ones.
    created: Vec<i64>,
    /// Which watcher an id names on the present connection.
    ids: HashMap<i64, usize>,
}

impl Stream {
    /// Stream number `number` of the plan.
    pub fn new(
        plan: &WatchPlan,
        number: usize,
        lane: Rc<Lane>,
        tally: Rc<RefCell<Tally>>,
    ) -> Stream {
        let share = |count: usize| {
            let at = |number: usize| count * number / plan.streams;
            at(number)..at(number + 1)
        };
        Stream {
            lane,
            tally,
            prefix: Bytes::copy_from_slice(plan.prefix.as_bytes()),
            watchers: share(plan.watchers),
            idle: share(plan.idle_watchers),
            created: Vec::new(),
            ids: HashMap::new(),
        }
    }

    /// Watches until it is dropped. One that breaks is opened again after the last event. Adds a permit to `served` when all
    /// its watchers are served for the first time.
    pub async fn run(mut self, served: Rc<Semaphore>) {
        loop {
            let error = match self.watch(&served).await {
                Ok(status) => Error::from(status).to_string(),
                Err(error) => error,
            };
            self.tally.borrow_mut().failure(format!("stream: {error}"));
            sleep(REOPEN_PAUSE).await;
        }
    }

    /// Opens the stream once and reads it to its end.
    async fn watch(&mut self, served: &Semaphore) -> Result<Status, String> {
        let mut sender = self.lane.sender().await?;
        match self.watch_on(&mut sender, served).await {
            Ok(status) => Ok(status),
            Err(error) => {
                if error.is_broken() {
                    self.lane.broken(&sender).await;
                }
                Err(error.to_string())
            }
        }
    }

    async fn watch_on(
        &mut self,
        sender: &mut crate::bench::transport::Sender,
        served: &Semaphore,
    ) -> Result<Status, CallError> {
        let (mut requests, answer) = self.lane.open(sender, Method::Watch).await?;
        for watcher in 0..self.watcher_count() {
            requests.send_data(self.create(watcher), false)?;
        }
        let (head, mut body) = answer.await?.into_parts();
        self.ids.clear();
        let mut creating = 0;
        let mut received = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            received.extend_from_slice(&chunk);
            let now = Instant::now();
            while let Some(message) = next_message(&mut received) {
                let response = WatchResponse::decode(message)
                    .map_err(|error| CallError::Refused(error.to_string()))?;
                self.take(response, &mut creating, served, now)?;
            }
        }
        let trailers = body.trailers().await?;
        let status = trailers.as_ref().and_then(Status::from_header_map);
        let status = status.or_else(|| Status::from_header_map(&head.headers));
        Ok(status.unwrap_or_else(|| Status::unknown("the stream ended without a status")))
    }

    fn watcher_count(&self) -> usize {
        self.watchers.len() + self.idle.len()
    }

    /// The request for one of the watchers: from now on, or from where it was.
    fn create(&self, watcher: usize) -> Bytes {
        let (key, range_end) = match watcher.checked_sub(self.watchers.len()) {
            None => (self.prefix.clone(), prefix_end(&self.prefix)),
            // No key that is written can be below this one's.
            Some(idle) => (format!("idle-watcher/{}", self.idle.start + idle).into(), Bytes::new()),
        };
        let start_revision = match self.created.get(watcher) {
            None => 0,
            Some(created) if watcher < self.watchers.len() => {
                created.max(&self.tally.borrow().revision(self.watchers.start + watcher)) + 1
            }
            Some(created) => created + 1,
        };
        let create = WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
        let request = RequestUnion::CreateRequest(create);
        frame(&WatchRequest { request_union: Some(request) })
    }

    /// Takes a response. Creates are answered in the order they were sent; `creating` is the first without an answer.
    fn take(
        &mut self,
        response: WatchResponse,
        creating: &mut usize,
        served: &Semaphore,
        now: Instant,
    ) -> Result<(), CallError> {
        if response.canceled {
            let reason = format!(
                "watch canceled: {} (compacted at {})",
                response.cancel_reason, response.compact_revision
            );
            return Err(CallError::Refused(reason));
        }
        if response.created {
            let watcher = *creating;
            *creating += 1;
            self.ids.insert(response.watch_id, watcher);
            if self.created.len() <= watcher {
                self.created.push(response.header.unwrap_or_default().revision);
                if self.created.len() == self.watcher_count() {
                    served.add_permits(1);
                }
            }
        }
        let Some(watcher) = self.ids.get(&response.watch_id) else { return Ok(()) };
        if *watcher < self.watchers.len() {
            let mut tally = self.tally.borrow_mut();
            for event in &response.events {
                tally.event(self.watchers.start + watcher, event, now);
            }
        }
        Ok(())
    }
}
