//! The connections to every other member that are shared by all who ask something of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kvorum_types::MemberId;
use parking_lot::Mutex;

use crate::addresses::Addresses;
use crate::calls::Calls;
use crate::removal::Told;
use crate::transport::{Lane, Transport};

/// One other member.
pub(crate) struct Peer<T: Transport> {
    /// Votes, heartbeats, transfers, probes.
    pub(crate) control: Calls<T>,
    /// Writes, read barriers, leases.
    pub(crate) forward: Calls<T>,
}

/// Every other member that was ever spoken to.
pub(crate) struct Peers<T: Transport> {
    pub(crate) transport: Arc<T>,
    pub(crate) addresses: Arc<Addresses>,
    /// Whether another member has said that this one was removed.
    pub(crate) told_removed: Arc<Told>,
    connect_timeout: Duration,
    known: Mutex<BTreeMap<MemberId, Arc<Peer<T>>>>,
}

impl<T: Transport> Peers<T> {
    pub(crate) fn new(
        transport: Arc<T>,
        addresses: Arc<Addresses>,
        connect_timeout: Duration,
    ) -> Peers<T> {
        let told_removed = Arc::default();
        Peers { transport, addresses, told_removed, connect_timeout, known: Mutex::default() }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn get(&self, id: MemberId) -> Arc<Peer<T>> {
        let mut known = self.known.lock();
        known.entry(id).or_insert_with(|| Arc::new(self.new_peer(id))).clone()
    }

    fn new_peer(&self, id: MemberId) -> Peer<T> {
        let calls = |lane| {
            let (transport, addresses) = (self.transport.clone(), self.addresses.clone());
            let told_removed = self.told_removed.clone();
            Calls::new(transport, addresses, told_removed, (id, lane), self.connect_timeout)
        };
        Peer { control: calls(Lane::Control), forward: calls(Lane::Forward) }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        let known = std::mem::take(&mut *self.known.lock());
        for peer in known.into_values() {
            peer.control.close().await;
            peer.forward.close().await;
        }
    }
}
