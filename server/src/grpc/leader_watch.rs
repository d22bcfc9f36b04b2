//! Streams that require a leader (`hasleader: true`) end when there has been none for too long.

use std::future::pending;
use std::task::{self, Poll};
use std::time::Duration;

use kvorum_consensus::Leadership;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::context::Context;

/// After so many election timeouts without a leader, a stream that requires one ends.
const LEADERLESS_ELECTIONS_MAX: u32 = 3;

/// Tells when a stream that requires a leader has been without one for too long, however long its client takes to read.
pub(super) struct LeaderWatch {
    /// Holds a task that ends when that is so, until it is told. Empty where no leader is required.
    watching: JoinSet<()>,
}

impl LeaderWatch {
    /// Watches from now on, if a leader `is_required`.
    pub(super) fn begin(context: &Context, is_required: bool) -> LeaderWatch {
        let mut watching = JoinSet::new();
        if is_required {
            let patience = context.election_timeout() * LEADERLESS_ELECTIONS_MAX;
            watching.spawn(leader_lost(context.watch_leadership(), patience));
        }
        LeaderWatch { watching }
    }

    /// Whether the stream is to end. Told once.
    pub(super) fn is_lost(&mut self) -> bool {
        self.watching.try_join_next().is_some()
    }

    /// The same, for a stream that waits for other things too: its task is woken when it is to end.
    pub(super) fn poll_lost(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match self.watching.poll_join_next(cx) {
            Poll::Ready(Some(_)) => Poll::Ready(()),
            // Nothing is watched.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Returns once there has been no leader for as long as `patience`.
async fn leader_lost(mut leadership: watch::Receiver<Leadership>, patience: Duration) {
    while leadership.wait_for(|now| now.leader.is_none()).await.is_ok() {
        let found = async { leadership.wait_for(|now| now.leader.is_some()).await.is_ok() };
        match timeout(patience, found).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return,
        }
    }
    // The member is gone, and the stream with it.
    pending().await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use kvorum_types::MemberId;

    use super::*;

    /// Longer than any test.
    const FOR_EVER: Duration = Duration::from_secs(60 * 60);

    fn led_by(leader: Option<u64>) -> Leadership {
        Leadership { leader: leader.map(MemberId), term: 1 }
    }

    #[tokio::test]
    async fn a_leader_is_lost_when_none_is_found_in_time() {
        let (board, seen) = watch::channel(led_by(Some(1)));
        let mut kept = Box::pin(leader_lost(seen.clone(), FOR_EVER));
        let mut lost = Box::pin(leader_lost(seen, Duration::ZERO));
        for leader in [Some(1), None, Some(2), None] {
            board.send_replace(led_by(leader));
            assert!(kept.as_mut().now_or_never().is_none(), "{leader:?}");
        }
        lost.as_mut().await;
        // Who asks after a member that is gone is not told anything, and does not ask on and on.
        let seen = board.subscribe();
        drop(board);
        for patience in [Duration::ZERO, FOR_EVER] {
            assert!(leader_lost(seen.clone(), patience).now_or_never().is_none());
        }
    }
}
