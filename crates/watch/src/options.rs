//! The hub's limits.

use std::time::Duration;

/// The limits of one hub. The defaults are the ones to run with; tests make them small.
#[derive(Clone, Debug)]
pub struct Options {
    /// Chosen at random where clients are not trusted: who knows it could choose ranges that are slow to search.
    pub seed: u64,
    /// How many bytes may be queued for a stream before its watchers are blocked. What is queued last may exceed it, so
    /// that a stream holds at most this much and one response more. Events that it shares with others are counted as it has
    /// them, and may keep up to four times as much, which is what was encoded together.
    pub queue_bytes_max: usize,
    /// How many bytes may be queued for all streams together: when there are so many streams that it comes to less, each
    /// has an equal share of this instead. Requests that wait have as much again.
    pub queues_bytes_max: usize,
    /// How many revisions one response tells of at most.
    pub revisions_per_response_max: usize,
    /// A response that tells of more than one revision is not larger than this.
    pub response_bytes_max: usize,
    /// About how many bytes of changes one step reads: more only where a single revision is larger.
    pub step_bytes_max: usize,
    /// About how often one step finds that a range holds a change: 2,000 ranges that all hold the same 100 changes come to
    /// 200,000. More only where a single revision comes to more.
    pub step_matches_max: usize,
    /// How many requests one step answers.
    pub step_requests_max: usize,
    /// How many watchers one step tells progress.
    pub step_progress_max: usize,
    /// How many watchers catch up together in one step.
    pub catch_up_watchers_max: usize,
    /// How long a watcher that wants progress notifications hears nothing before it gets one. Up to a tenth is added, by
    /// the stream's number, so that streams do not have theirs all at once.
    pub progress_interval: Duration,
    /// A response larger than this is split for a watcher that allows it.
    pub fragment_bytes: usize,
    /// How many streams there may be; more are refused.
    pub streams_max: usize,
    /// How many watchers a stream may have; a further one is refused by its reply.
    pub watchers_per_stream_max: usize,
    /// How many bytes the watchers of one stream may take, keys and all; a further one is refused by its reply.
    pub stream_watchers_bytes_max: usize,
    /// The same for all watchers together.
    pub watchers_bytes_max: usize,
    /// How many requests of a stream may wait to be answered: see [`Stream::has_room`](crate::Stream::has_room). At
    /// twice as many the stream is ended.
    pub requests_max: usize,
    /// The same in bytes. What came last may exceed it.
    pub requests_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 0,
            queue_bytes_max: 1 << 20,
            queues_bytes_max: 1 << 30,
            revisions_per_response_max: 1000,
            response_bytes_max: 512 << 10,
            step_bytes_max: 256 << 10,
            step_matches_max: 256 << 10,
            step_requests_max: 256,
            step_progress_max: 1024,
            catch_up_watchers_max: 512,
            progress_interval: Duration::from_secs(600),
            fragment_bytes: 2 << 20,
            streams_max: 100_000,
            watchers_per_stream_max: 500_000,
            stream_watchers_bytes_max: 128 << 20,
            watchers_bytes_max: 512 << 20,
            requests_max: 4096,
            requests_bytes_max: 1 << 20,
        }
    }
}
