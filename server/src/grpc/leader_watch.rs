//! Streams that require a leader (`hasleader: true`) end when there has been none for too long.

use std::future::{Future, pending};
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
            watching.spawn(leader_lost(context, true));
        }
        LeaderWatch { watching }
    }

    /// Whether the stream is to end. Told once.
    pub(super) fn is_lost(&mut self) -> bool {
        self.watching.try_join_next().is_some()
    }
}

/// How long a stream that requires a leader goes on without one.
pub(super) fn patience(context: &Context) -> Duration {
    context.election_timeout() * LEADERLESS_ELECTIONS_MAX
}

/// Returns once a stream that requires a leader, if it does, is to end.
pub(super) fn leader_lost(
    context: &Context,
    is_required: bool,
) -> impl Future<Output = ()> + Send + use<> {
    let leadership = is_required.then(|| context.watch_leadership());
    let patience = patience(context);
    async move {
        match leadership {
            Some(leadership) => lost_for(leadership, patience).await,
            None => pending().await,
        }
    }
}

/// Returns once there has been no leader for as long as `patience`.
async fn lost_for(mut leadership: watch::Receiver<Leadership>, patience: Duration) {
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
        let mut kept = Box::pin(lost_for(seen.clone(), FOR_EVER));
        let mut lost = Box::pin(lost_for(seen, Duration::ZERO));
        for leader in [Some(1), None, Some(2), None] {
            board.send_replace(led_by(leader));
            assert!(kept.as_mut().now_or_never().is_none(), "{leader:?}");
        }
        lost.as_mut().await;
        // Who asks after a member that is gone is not told anything, and does not ask on and on.
        let seen = board.subscribe();
        drop(board);
        for patience in [Duration::ZERO, FOR_EVER] {
            assert!(lost_for(seen.clone(), patience).now_or_never().is_none());
        }
    }
}
