//! The streams of a client.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::ResponseHeader;

use super::handle::Watch;
use super::mailbox::Mailbox;
use super::options::WatchOptions;
use super::queue::Queue;
use super::stream;
use crate::client::Client;
use crate::error::Error;

/// Streams that a client has at most at a time.
const STREAMS_MAX: usize = 100;

/// The streams of a client and its clones.
#[derive(Default)]
pub(crate) struct Registry {
    streams: Mutex<Vec<Entry>>,
}

/// One stream.
struct Entry {
    /// The metadata of a stream holds for all its watches, so those that want it otherwise have others.
    require_leader: bool,
    mailbox: Arc<Mailbox>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.streams.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Client {
    /// Watches a key, or the range that the options make of it. See the module [`watch`](crate::watch) for what that
    /// promises.
    ///
    /// Returns at once: the server is asked by a task of its own, for as long as it takes; [`Watch::created`] waits for its
    /// answer. A client has at most 100 streams of 1,000 watches each; one more ends with [`Error::TooManyWatches`].
    ///
    /// Must be called within a tokio runtime.
    pub fn watch(&self, key: impl Into<Bytes>, options: WatchOptions) -> Watch {
        let request = options.request(key.into());
        let queue = Arc::new(Queue::new(options.queue_bytes_max));
        let mut streams = self.watches.lock();
        streams.retain(|stream| !stream.mailbox.is_closed());
        for stream in streams.iter().filter(|one| one.require_leader == self.require_leader) {
            if let Some(number) = stream.mailbox.add(&request, &queue) {
                return Watch::new(queue, stream.mailbox.clone(), number);
            }
        }
        let mailbox = Arc::new(Mailbox::default());
        if streams.len() >= STREAMS_MAX {
            queue.finish(Error::TooManyWatches, ResponseHeader::default());
            return Watch::new(queue, mailbox, 0);
        }
        let number = mailbox.add(&request, &queue).unwrap_or_default();
        streams.push(Entry { require_leader: self.require_leader, mailbox: mailbox.clone() });
        drop(streams);
        stream::spawn(self.clone(), mailbox.clone());
        Watch::new(queue, mailbox, number)
    }

    /// Asks the servers how far the watches of this client have come. Each of them gets an update without events when all of
    /// its stream have caught up; one whose queue is full then does not. Does nothing for a client without watches.
    pub fn request_watch_progress(&self) {
        let streams = self.watches.lock();
        for stream in streams.iter().filter(|one| one.require_leader == self.require_leader) {
            stream.mailbox.want_progress();
        }
    }
}
