//! The thread of metrics, and the port of `--listen-metrics-urls`.

use std::io;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::runtime::{self, EnterGuard, Runtime};

use crate::grpc::{Context, ReplyBody};
use crate::http as plain;
use crate::listen::Answer;

/// A runtime on a thread of its own, so that no page is made where requests are answered or consensus is at work.
pub(crate) struct MetricsThread(Option<Runtime>);

impl MetricsThread {
    pub(crate) fn start(prefix: &str) -> io::Result<MetricsThread> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(format!("{prefix}metrics"))
            .enable_all()
            .build()?;
        Ok(MetricsThread(Some(runtime)))
    }

    /// Runs a task on the thread.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }

    /// Makes what is opened from here on belong to the thread.
    pub(crate) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }

    /// Ends it, waiting as long as `time_max`.
    pub(crate) fn end(mut self, time_max: std::time::Duration) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(time_max);
        }
    }
}

impl Drop for MetricsThread {
    fn drop(&mut self) {
        // This may be within a runtime, where nothing may be waited for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers `/metrics` and health, and nothing else.
#[derive(Clone)]
pub(crate) struct Scrapes(Arc<Context>);

impl Scrapes {
    pub(crate) fn new(context: Arc<Context>) -> Scrapes {
        Scrapes(context)
    }
}

impl Answer for Scrapes {
    type Body = ReplyBody;

    async fn answer(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        plain::answer_scrape(&self.0, request.method(), request.uri()).await
    }
}
