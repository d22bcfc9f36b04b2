//! Work that many may ask for, and that is done for all of them at once.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// Turns of one kind of work, one after the other.
///
/// - Whoever asks gets what came of a turn that began after that.
/// - However many ask, one turn is at work and one waits.
pub(super) struct Turns<T: Clone> {
    at_work: Arc<tokio::sync::Mutex<()>>,
    /// The turn that has not begun.
    next: Arc<Mutex<Option<Turn<T>>>>,
}

type Turn<T> = Shared<BoxFuture<'static, Option<T>>>;

impl<T: Clone> Default for Turns<T> {
    fn default() -> Turns<T> {
        Turns { at_work: Arc::default(), next: Arc::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Turns<T> {
    /// Does `work`, or shares the turn of somebody who came before. Goes on when who asked gives it up. None if the runtime
    /// has ended, or the work has panicked.
    pub(super) async fn take(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let turn = self.next.lock().get_or_insert_with(|| self.begin(work)).clone();
        turn.await
    }

    fn begin(&self, work: impl Future<Output = T> + Send + 'static) -> Turn<T> {
        let (at_work, next) = (self.at_work.clone(), self.next.clone());
        let running = tokio::spawn(async move {
            let _at_work = at_work.lock_owned().await;
            // Who comes from now on may have changed what this turn has been past already.
            *next.lock() = None;
            work.await
        });
        async move { running.await.ok() }.boxed().shared()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::*;

    /// Lets everybody come as far as they can without the gate.
    async fn settle() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_comes_while_one_is_at_work_shares_the_next_turn() {
        let turns = Arc::new(Turns::default());
        let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (turns, begun, gate) = (turns.clone(), begun.clone(), gate.clone());
            tokio::spawn(async move {
                let work = async move {
                    let number = begun.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    number
                };
                turns.take(work).await
            })
        };
        let first = ask();
        settle().await;
        let others: Vec<_> = (0..50).map(|_| ask()).collect();
        settle().await;
        assert_eq!(begun.load(Ordering::SeqCst), 1, "the others wait");
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Some(0));
        for other in join_all(others).await {
            assert_eq!(other.unwrap(), Some(1));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        gate.add_permits(1);
        assert_eq!(ask().await.unwrap(), Some(2), "and later ones have turns of their own");
    }

    #[tokio::test]
    async fn a_turn_ends_for_the_others_when_who_began_it_is_gone() {
        let turns = Arc::new(Turns::default());
        let gate = Arc::new(Semaphore::new(0));
        let ask = |number: usize| {
            let (turns, gate) = (turns.clone(), gate.clone());
            tokio::spawn(async move {
                let work = async move {
                    gate.acquire().await.unwrap().forget();
                    number
                };
                turns.take(work).await
            })
        };
        let _at_work = ask(0);
        settle().await;
        let gone = ask(1);
        settle().await;
        let stays = ask(2);
        settle().await;
        gone.abort();
        gate.add_permits(2);
        assert_eq!(stays.await.unwrap(), Some(1));
    }
}
