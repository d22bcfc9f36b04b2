//! Opening a store from its backend.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use kvorum_types::KeyRange;

use crate::backend::{Backend, BlockKey};
use crate::block::{Block, BlockInfo};
use crate::engine::Engine;
use crate::error::{BackendError, OpenError};
use crate::index::History;
use crate::loader::Loader;
use crate::maintainer::{Core, Dead, Maintainer};
use crate::meta::{NEVER_COMPACTED, StoredMeta};
use crate::options::Options;
use crate::source::Source;
use crate::state::State;
use crate::store::{Hub, Store};
use crate::tail::Tail;
use crate::writer::Writer;

/// The revision of a store that was never written to.
const FIRST_REVISION: i64 = 1;

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// The writer.
    pub store: Store,
    /// Its background work.
    pub maintainer: Maintainer,
    /// What the last publish that reached the backend said; `None` in a new store.
    pub meta: Option<Meta>,
    /// The live keys that name a lease, and which: what the store does not know of, but its caller must.
    pub leased: HashMap<Bytes, i64>,
}

/// What the caller publishes together with its changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// The log index applied.
    pub index: u64,
    /// The caller's own small state at that index.
    pub bytes: Bytes,
}

/// What the maintainer learns from opening.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub meta: StoredMeta,
    pub replacing_start: u64,
    pub tombstone_start: u64,
    pub dead: HashMap<u64, Dead>,
}

/// Opens the store that `backend` holds: rebuilds the index from the blocks, checks every block and the set of them, and
/// removes what was written after the last commit.
///
/// An error says that what the backend holds cannot be trusted: the caller rebuilds it.
pub fn open(backend: Arc<dyn Backend>, options: Options) -> Result<Opened, OpenError> {
    let meta = backend.meta()?.ok_or(OpenError::Empty)?;
    let mut meta = StoredMeta::decode(&meta)?;
    let (keys, mut removed): (Vec<BlockKey>, Vec<BlockKey>) =
        backend.keys()?.into_iter().partition(|key| key.serial < meta.next_serial);
    let (loader, replaced) = load(backend.as_ref(), &meta, &keys)?;
    for info in &replaced {
        meta.set_hash = meta.set_hash.wrapping_sub(info.set_hash());
        meta.block_count -= 1;
        removed.push(info.key());
    }
    if !removed.is_empty() {
        backend.commit(&meta.encode(), &removed)?;
    }
    Ok(start(backend, options, meta, loader))
}

/// Empties `backend` and begins a new store in it, at revision 1.
pub fn create(backend: Arc<dyn Backend>, options: Options) -> Result<Opened, BackendError> {
    backend.clear()?;
    let meta = StoredMeta {
        revision: FIRST_REVISION,
        compact_revision: NEVER_COMPACTED,
        next_change: 0,
        next_serial: 1,
        block_count: 0,
        set_hash: 0,
        published: None,
    };
    backend.commit(&meta.encode(), &[])?;
    let loader = Loader::new(&meta);
    Ok(start(backend, options, meta, loader))
}

/// Reads all blocks, checks them against the meta, and builds the index. Returns also the blocks that others replaced.
fn load(
    backend: &dyn Backend,
    meta: &StoredMeta,
    keys: &[BlockKey],
) -> Result<(Loader, Vec<BlockInfo>), BackendError> {
    let mut loader = Loader::new(meta);
    let mut infos = Vec::with_capacity(keys.len());
    let (mut set_hash, mut is_overlapping) = (0u64, false);
    for key in keys {
        let block = read(backend, *key)?;
        let info = *block.info();
        set_hash = set_hash.wrapping_add(info.set_hash());
        is_overlapping |= info.span_start < loader.span_end();
        if !is_overlapping {
            loader.add(&block)?;
        }
        infos.push(info);
    }
    if set_hash != meta.set_hash || infos.len() as u64 != meta.block_count {
        let what = format!(
            "the set of {} blocks is not the one of {} blocks that was committed",
            infos.len(),
            meta.block_count
        );
        return Err(BackendError::corrupt(what));
    }
    if !is_overlapping {
        loader.end()?;
        return Ok((loader, Vec::new()));
    }
    // Blocks that were replaced had not been removed yet.
    let (present, replaced) = tell_apart(infos);
    let mut loader = Loader::new(meta);
    for info in present {
        loader.add(&read(backend, info.key())?)?;
    }
    loader.end()?;
    Ok((loader, replaced))
}

fn read(backend: &dyn Backend, key: BlockKey) -> Result<Block, BackendError> {
    let missing = || BackendError::corrupt(format!("block {key:?} is cut off"));
    let block = Block::parse(backend.read(key)?.ok_or_else(missing)?)?;
    if block.info().key() != key {
        let what = format!("block {key:?} holds {:?}", block.info());
        return Err(BackendError::corrupt(what));
    }
    Ok(block)
}

/// Tells the blocks that count from those they replaced: where spans overlap, the one written last counts. Those that
/// count come in the order of their spans.
fn tell_apart(mut infos: Vec<BlockInfo>) -> (Vec<BlockInfo>, Vec<BlockInfo>) {
    infos.sort_unstable_by_key(|info| std::cmp::Reverse(info.serial));
    let mut present: BTreeMap<u64, BlockInfo> = BTreeMap::new();
    let mut replaced = Vec::new();
    for info in infos {
        let before = present.range(..info.span_end).next_back();
        match before {
            Some((_, newer)) if newer.span_end > info.span_start => replaced.push(info),
            _ => {
                present.insert(info.span_start, info);
            }
        }
    }
    (present.into_values().collect(), replaced)
}

fn start(
    backend: Arc<dyn Backend>,
    options: Options,
    meta: StoredMeta,
    mut loader: Loader,
) -> Opened {
    let next = meta.next_change;
    let blocks = Arc::new(loader.take_blocks());
    let loaded = Loaded {
        replacing_start: loader.replacing_start.unwrap_or(next),
        tombstone_start: loader.tombstone_start.unwrap_or(next),
        dead: loader.dead,
        meta,
    };
    let leased = loader.leased;
    let history = loader.history.unwrap_or_else(|| History::starting_at(next));
    let (mut revision, compact_revision) = (loaded.meta.revision, loaded.meta.compact_revision);
    if kvorum_types::mutants::is_on("etcd-17780") {
        revision = FIRST_REVISION;
        loader.tree.visit(&KeyRange::all(), |_, head| {
            revision = if head.is_tombstone() { revision } else { revision.max(head.main) };
            ControlFlow::Continue(())
        });
    }
    let state = State {
        source: Arc::new(Source::new(backend, &options)),
        tree: loader.tree.clone(),
        history: history.clone(),
        blocks,
        tail: Tail::new(next),
        revision,
        compact_revision,
    };
    let writer = Writer::new(loader.tree, history, revision, compact_revision, next);
    let published = loaded.meta.published.clone();
    let engine = Arc::new(Engine::new(options, state, writer));
    let hub = Arc::new(Hub::new(engine.clone()));
    Opened {
        store: Store::new(hub.clone(), engine.clone()),
        maintainer: Maintainer::new(hub, Core::new(engine, loaded)),
        meta: published.map(|published| Meta { index: published.index, bytes: published.meta }),
        leased,
    }
}
