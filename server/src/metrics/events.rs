//! What is counted as it happens, calls aside.

use kvorum_consensus::Leadership;
use kvorum_metrics::{Counter, Family, Gauge, Histogram, Registry, doubling};
use kvorum_types::MemberId;
use tokio::sync::watch;

/// Peers that are told apart. A cluster has a handful.
const PEERS_MAX: usize = 64;

/// Handles of single events.
pub(crate) struct Events {
    /// Requests between being accepted and being answered.
    pub(crate) proposals_pending: Gauge,
    pub(crate) proposals_failed: Counter,
    pub(crate) reads_failed: Counter,
    pub(crate) ranges: Counter,
    pub(crate) health_successes: Counter,
    pub(crate) health_failures: Counter,
    pub(crate) leader_changes: Counter,
    pub(crate) wal_sync: Histogram,
    pub(crate) wal_write: Histogram,
    pub(crate) wal_write_bytes: Counter,
}

impl Events {
    pub(super) fn new(registry: &mut Registry) -> Events {
        Events {
            proposals_pending: registry.gauge(
                "etcd_server_proposals_pending",
                "Requests of this member's clients that wait to be applied",
            ),
            proposals_failed: registry.counter(
                "etcd_server_proposals_failed_total",
                "Requests of this member's clients that were not applied, or not in time",
            ),
            reads_failed: registry
                .counter("etcd_server_read_indexes_failed_total", "Read barriers that failed"),
            ranges: registry.counter(
                "etcd_mvcc_range_total",
                "Ranges that clients asked this member for, those within transactions aside",
            ),
            health_successes: registry
                .counter("etcd_server_health_success", "Answers to /health that were true"),
            health_failures: registry
                .counter("etcd_server_health_failures", "Answers to /health that were false"),
            leader_changes: registry.counter(
                "etcd_server_leader_changes_seen_total",
                "How often this member saw another leader than before",
            ),
            wal_sync: registry.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "How long syncs of the log took",
                &doubling(0.001, 14),
            ),
            wal_write: registry.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "How long writes to the log took",
                &doubling(0.001, 14),
            ),
            wal_write_bytes: registry
                .counter("etcd_disk_wal_write_bytes_total", "Bytes written to the log"),
        }
    }

    /// Counts a request on its way to being applied.
    pub(crate) fn propose(&self) -> Pending<'_> {
        self.proposals_pending.add(1);
        Pending(self)
    }
}

/// A request under way. Dropped, it is so no more.
pub(crate) struct Pending<'a>(&'a Events);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.proposals_pending.add(-1);
    }
}

/// Counts leaders as they change, until the member ends.
pub(crate) async fn follow_leaders(mut leadership: watch::Receiver<Leadership>, changes: Counter) {
    let mut last = None;
    loop {
        let leader = leadership.borrow_and_update().leader;
        if leader.is_some() && leader != last {
            changes.increment();
            last = leader;
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Bytes of messages to and from other members.
#[derive(Clone)]
pub(crate) struct Traffic {
    sent: Family<Counter>,
    received: Family<Counter>,
}

/// The same of one peer.
#[derive(Clone, Default)]
pub(crate) struct TrafficOf {
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
}

impl Traffic {
    pub(crate) fn new(registry: &mut Registry) -> Traffic {
        Traffic {
            sent: registry.counters(
                "etcd_network_peer_sent_bytes_total",
                "Bytes of messages sent to another member",
                &["To"],
                PEERS_MAX,
            ),
            received: registry.counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes of messages received from another member",
                &["From"],
                PEERS_MAX,
            ),
        }
    }

    /// The handles for one peer.
    pub(crate) fn of(&self, peer: MemberId) -> TrafficOf {
        let id = format!("{:x}", peer.0);
        TrafficOf { sent: self.sent.with(&[&id]), received: self.received.with(&[&id]) }
    }

    pub(super) fn overflowed(&self) -> u64 {
        self.sent.overflowed() + self.received.overflowed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leader_that_comes_back_is_no_other_leader() {
        let (tx, rx) = watch::channel(Leadership::default());
        let changes = Counter::default();
        let task = tokio::spawn(follow_leaders(rx, changes.clone()));
        for leader in [1, 0, 1, 2, 2, 1] {
            let leader = (leader > 0).then_some(MemberId(leader));
            tx.send_replace(Leadership { leader, term: 1 });
            tokio::task::yield_now().await;
        }
        drop(tx);
        task.await.unwrap();
        assert_eq!(changes.total(), 3);
    }
}
