//! What the clients of a member are served with.

use std::sync::Arc;

use kvorum_consensus::{Clock, LeastRate};
use kvorum_metrics::Registry;
use kvorum_pool::BufferPool;

use crate::builder::Builder;
use crate::clock;
use crate::config::Config;
use crate::listen::ClientPortLimits;
use crate::memory::Memory;
use crate::metrics::Metrics;

/// The threads that answer clients.
pub(crate) struct ClientThreads {
    pub(crate) count: usize,
    pub(crate) name: String,
}

/// All that is known of it before the member has started.
pub(crate) struct Serving {
    pub(crate) config: Config,
    pub(crate) threads: ClientThreads,
    pub(crate) limits: ClientPortLimits,
    pub(crate) clock: Clock,
    pub(crate) backup_rate: LeastRate,
    pub(crate) is_joining: bool,
    pub(crate) memory: Option<Memory>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) registry: Registry,
    pub(crate) pool: BufferPool,
}

impl Serving {
    /// As `builder` has it.
    pub(crate) fn of(
        builder: &Builder,
        is_joining: bool,
        memory: Option<Memory>,
        (metrics, registry): (Arc<Metrics>, Registry),
        pool: BufferPool,
    ) -> Serving {
        let name = format!("{}client", builder.thread_name_prefix);
        Serving {
            config: builder.config.clone(),
            threads: ClientThreads { count: builder.client_thread_count, name },
            limits: ClientPortLimits {
                connections_max: builder.connections_max,
                max_concurrent_streams: builder.config.limits.max_concurrent_streams,
            },
            clock: builder.clock.clone().unwrap_or_else(clock::machine),
            backup_rate: builder.backup_rate,
            is_joining,
            memory,
            metrics,
            registry,
            pool,
        }
    }
}
