//! The page: made by one task, asked for through a bounded channel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kvorum_metrics::{Counter, Registry};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Metrics;
use super::readings::{Readings, Sources};

/// How old a page may be that is given out. What is asked for within this time costs one page.
pub(super) const PAGE_AGE_MAX: Duration = Duration::from_millis(100);

/// Scrapes that may wait for the task.
const WAITING_MAX: usize = 64;

/// Why there is no page.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NoPage {
    #[error("too many scrapes wait for a page of metrics, {WAITING_MAX} may")]
    TooMany,
    #[error("the member is stopping")]
    Stopping,
}

/// A page of metrics, shared by all who asked at about the same time.
pub(crate) type Page = Bytes;

type Asked = oneshot::Sender<Page>;

/// Where scrapes ask for the page. A clone asks the same task.
#[derive(Clone)]
pub(crate) struct Pages {
    asking: mpsc::Sender<Asked>,
    metrics: Arc<Metrics>,
}

/// What scrapes come to.
pub(crate) struct ScrapeCounts {
    asked: Counter,
    dropped: Counter,
    rendered: Counter,
}

impl ScrapeCounts {
    pub(super) fn new(registry: &mut Registry) -> ScrapeCounts {
        ScrapeCounts {
            asked: registry.counter("kvorum_metrics_scrapes_total", "Requests for this page"),
            dropped: registry.counter(
                "kvorum_metrics_scrapes_dropped_total",
                "Requests for this page that were answered 503, as too many waited",
            ),
            rendered: registry.counter(
                "kvorum_metrics_pages_total",
                "How often this page was made; requests that come together share one",
            ),
        }
    }
}

/// The task that makes pages.
pub(crate) struct Renderer {
    asked: mpsc::Receiver<Asked>,
    metrics: Arc<Metrics>,
    registry: Registry,
    readings: Readings,
    sources: Sources,
    last: Option<(Instant, Page)>,
}

impl Pages {
    /// Where to ask, and the task to be run.
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        mut registry: Registry,
        sources: Sources,
    ) -> (Pages, Renderer) {
        let (asking, asked) = mpsc::channel(WAITING_MAX);
        let readings = Readings::new(&mut registry, &sources);
        let pages = Pages { asking, metrics: metrics.clone() };
        (pages, Renderer { asked, metrics, registry, readings, sources, last: None })
    }

    /// The page, at most [`PAGE_AGE_MAX`] old.
    pub(crate) async fn page(&self) -> Result<Page, NoPage> {
        self.metrics.scrapes.asked.increment();
        let (answer, page) = oneshot::channel();
        match self.asking.try_send(answer) {
            Ok(()) => page.await.map_err(|_| NoPage::Stopping),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.metrics.scrapes.dropped.increment();
                Err(NoPage::TooMany)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NoPage::Stopping),
        }
    }
}

impl Renderer {
    /// Answers who asks, until `closing`.
    pub(crate) async fn run(mut self, mut closing: watch::Receiver<bool>) {
        loop {
            let asked = tokio::select! {
                asked = self.asked.recv() => asked,
                // Whoever would say so is gone: so is the member.
                _ = closing.wait_for(|is_closing| *is_closing) => return,
            };
            let Some(answer) = asked else { return };
            let page = self.page();
            // Whoever has gone away meanwhile needs none.
            let _ = answer.send(page);
        }
    }

    fn page(&mut self) -> Page {
        if let Some((made, page)) = &self.last
            && made.elapsed() < PAGE_AGE_MAX
        {
            return page.clone();
        }
        self.metrics.scrapes.rendered.increment();
        self.readings.take(&self.sources, &self.metrics);
        let room = self.last.take().map_or(16 << 10, |(_, page)| page.len() + 1024);
        let mut text = String::with_capacity(room);
        self.registry.render(&mut text);
        let page = Bytes::from(text);
        self.last = Some((Instant::now(), page.clone()));
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_the_channel_full_is_told_so_and_counted() {
        let (metrics, _) = Metrics::new();
        let (asking, asked) = mpsc::channel(WAITING_MAX);
        let pages = Pages { asking, metrics: metrics.clone() };
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(pages.page())).collect();
        for page in &mut waiting {
            assert!(futures_util::poll!(page.as_mut()).is_pending());
        }
        assert_eq!(pages.page().await, Err(NoPage::TooMany));
        drop(asked);
        assert_eq!(pages.page().await, Err(NoPage::Stopping));
        for page in waiting {
            assert_eq!(page.await, Err(NoPage::Stopping));
        }
        let counts = &metrics.scrapes;
        let wanted = (WAITING_MAX as u64 + 2, 1);
        assert_eq!((counts.asked.total(), counts.dropped.total()), wanted);
    }
}
