//! The Heap service: the allocator and the limits of memory, for an operator of this one member. Needs no leader.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use kvorum_heap::{ArenaReading, Settings, Target};
use kvorum_proto::admin as wire;
use tokio::task::spawn_blocking;

use super::context::Context;
use super::method::HeapMethod;
use super::reply::frame;
use super::service::decode;
use crate::errors::CallError;
use crate::memory::{Memory, MemoryError, State, Wish};

/// Answers a call. The allocator takes locks and the settings wait for a disk, so that all of it is done elsewhere.
pub(super) async fn unary(
    context: &Arc<Context>,
    method: HeapMethod,
    headers: &HeaderMap,
    encoded: &Bytes,
) -> Result<Bytes, CallError> {
    context.admit(headers, true)?;
    let memory = context.memory()?.clone();
    match method {
        HeapMethod::Stats => {
            let wire::StatsRequest { arenas } = decode(encoded)?;
            frame(&stats(run(context, move || memory.state()).await?, arenas))
        }
        HeapMethod::GetPolicy => {
            let wire::GetPolicyRequest {} = decode(encoded)?;
            frame(&policy(&run(context, move || memory.state()).await?))
        }
        HeapMethod::SetPolicy => {
            let wire::SetPolicyRequest { policy, persist } = decode(encoded)?;
            let policy = policy.parse().map_err(|error| CallError::bad_setting(&error))?;
            let settings = Settings { policy: Some(policy), ..Settings::default() };
            set(context, memory, Wish { settings, arena: None, persist }).await
        }
        HeapMethod::Set => {
            let wire::SetRequest { settings, arena, persist } = decode(encoded)?;
            let settings = settings_of(settings.unwrap_or_default())?;
            set(context, memory, Wish { settings, arena, persist }).await
        }
        HeapMethod::Purge => {
            let wire::PurgeRequest { arena } = decode(encoded)?;
            let target = arena.map_or(Target::All, Target::Arena);
            let (before, after) = run(context, move || memory.purge(target)).await?;
            frame(&wire::PurgeResponse {
                resident_bytes_before: before,
                resident_bytes_after: after,
            })
        }
        HeapMethod::Profile => {
            let wire::ProfileRequest {} = decode(encoded)?;
            let pprof = run(context, move || memory.profile()).await?.into();
            frame(&wire::ProfileResponse { pprof })
        }
    }
}

async fn set(context: &Context, memory: Memory, wish: Wish) -> Result<Bytes, CallError> {
    frame(&policy(&run(context, move || memory.set(&wish)).await?))
}

/// Runs `work` on a thread of its own. It goes on when its call is given up.
async fn run<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce() -> Result<T, MemoryError> + Send + 'static,
) -> Result<T, CallError> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(CallError::from),
        Err(_) => Err(context.note_panic()),
    }
}

fn settings_of(settings: wire::Settings) -> Result<Settings, CallError> {
    let policy = settings.policy.map(|policy| policy.parse()).transpose();
    Ok(Settings {
        policy: policy.map_err(|error| CallError::bad_setting(&error))?,
        background_threads: settings.background_threads,
        dirty_decay_ms: settings.dirty_decay_ms,
        muzzy_decay_ms: settings.muzzy_decay_ms,
        profiling: settings.profiling,
        arenas: settings.arenas,
        thread_cache_bytes: settings.thread_cache_bytes,
        quiet_purge_ms: settings.quiet_purge_ms,
        soft_limit_bytes: settings.soft_limit_bytes,
        hard_limit_bytes: settings.hard_limit_bytes,
    })
}

fn shown(settings: &Settings) -> wire::Settings {
    wire::Settings {
        policy: settings.policy.map(|policy| policy.to_string()),
        background_threads: settings.background_threads,
        dirty_decay_ms: settings.dirty_decay_ms,
        muzzy_decay_ms: settings.muzzy_decay_ms,
        profiling: settings.profiling,
        arenas: settings.arenas,
        thread_cache_bytes: settings.thread_cache_bytes,
        quiet_purge_ms: settings.quiet_purge_ms,
        soft_limit_bytes: settings.soft_limit_bytes,
        hard_limit_bytes: settings.hard_limit_bytes,
    }
}

fn policy(state: &State) -> wire::PolicyResponse {
    let (rules, readings) = (&state.rules, &state.readings);
    let in_force = Settings {
        policy: Some(rules.policy),
        background_threads: Some(readings.background_threads),
        dirty_decay_ms: Some(readings.dirty_decay_ms),
        muzzy_decay_ms: Some(readings.muzzy_decay_ms),
        profiling: Some(readings.profiling.active),
        arenas: state.settings.arenas,
        thread_cache_bytes: state.settings.thread_cache_bytes,
        quiet_purge_ms: Some(rules.quiet_purge.map_or(0, |time| time.as_millis() as u64)),
        soft_limit_bytes: Some(rules.soft_limit_bytes.unwrap_or(0)),
        hard_limit_bytes: Some(rules.hard_limit_bytes.unwrap_or(0)),
    };
    wire::PolicyResponse {
        in_force: Some(shown(&in_force)),
        persisted: Some(shown(&state.persisted.unwrap_or_default())),
        memory_bytes: state.memory_bytes.unwrap_or(0),
    }
}

fn stats(state: State, with_arenas: bool) -> wire::StatsResponse {
    let State { readings, ceiling, purges, .. } = state;
    wire::StatsResponse {
        allocated_bytes: readings.allocated_bytes,
        active_bytes: readings.active_bytes,
        metadata_bytes: readings.metadata_bytes,
        resident_bytes: readings.resident_bytes,
        mapped_bytes: readings.mapped_bytes,
        retained_bytes: readings.retained_bytes,
        purgeable_bytes: readings.purgeable_bytes(),
        background_threads: readings.background_threads,
        background_thread_count: readings.background_thread_count,
        dirty_decay_ms: readings.dirty_decay_ms,
        muzzy_decay_ms: readings.muzzy_decay_ms,
        arena_limit: readings.arena_limit,
        thread_cache_bytes_max: readings.thread_cache_bytes_max,
        profiling_available: readings.profiling.available,
        profiling_active: readings.profiling.active,
        profiling_sample_bytes: readings.profiling.sample_bytes,
        process_resident_bytes: ceiling.resident_bytes,
        promised_bytes: ceiling.promised_bytes,
        at_hard_limit: ceiling.is_at_limit,
        refused_count: ceiling.refused_count,
        purges: Some(wire::Purges {
            quiet: purges.quiet,
            soft_limit: purges.soft_limit,
            hard_limit: purges.hard_limit,
            asked_for: purges.asked_for,
            failed: purges.failed,
            given_back_bytes: purges.given_back_bytes,
        }),
        arenas: with_arenas.then_some(readings.arenas).into_iter().flatten().map(arena).collect(),
    }
}

fn arena(arena: ArenaReading) -> wire::Arena {
    wire::Arena {
        index: arena.index,
        thread_count: arena.thread_count,
        small_bytes: arena.small_bytes,
        large_bytes: arena.large_bytes,
        active_bytes: arena.active_bytes,
        dirty_bytes: arena.dirty_bytes,
        muzzy_bytes: arena.muzzy_bytes,
        resident_bytes: arena.resident_bytes,
        mapped_bytes: arena.mapped_bytes,
        retained_bytes: arena.retained_bytes,
        dirty_decay_ms: arena.dirty_decay_ms,
        muzzy_decay_ms: arena.muzzy_decay_ms,
    }
}
