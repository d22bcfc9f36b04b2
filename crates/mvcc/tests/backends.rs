//! One suite for every backend, and what is done when a sled directory is damaged.

mod support;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kvorum_mvcc::{
    Backend, BackendError, BlockKey, OpenError, Opened, Options, RangeOptions, Read, SledBackend,
};
use kvorum_types::KeyRange;
use support::{Kept, Random, settle, small_options};

fn key(first_change: u64, serial: u64) -> BlockKey {
    BlockKey { first_change, serial }
}

/// What every backend promises.
fn conform(kept: &Kept) {
    let sizes = [1, 100, 65_535, 65_536, 65_537, 131_072, 1 << 20];
    let blocks: Vec<(BlockKey, Bytes)> = sizes
        .iter()
        .zip(1..)
        // The last change number is larger than one byte, so that the order of the bytes matters.
        .map(|(size, serial)| {
            (key(serial * 100, 50 - serial), Bytes::from(vec![serial as u8; *size]))
        })
        .collect();
    {
        let backend = kept.backend();
        assert_eq!(backend.meta().unwrap(), None);
        assert_eq!(backend.keys().unwrap(), []);
        backend.write(&blocks).unwrap();
        backend.commit(b"first", &[]).unwrap();
    }
    // What was written is there for the next user.
    let backend = kept.backend();
    assert_eq!(backend.meta().unwrap().unwrap(), "first");
    assert_eq!(backend.keys().unwrap(), blocks.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    for (key, bytes) in &blocks {
        assert_eq!(backend.read(*key).unwrap().as_ref(), Some(bytes), "{key:?}");
    }
    assert_eq!(backend.read(key(100, 1)).unwrap(), None, "another serial");
    assert!(backend.disk_bytes() > 0);
    // A meta of several parts, and one that is short again.
    for meta in [vec![7; 200_000], vec![8; 65_536], b"second".to_vec()] {
        backend.commit(&meta, &[blocks[0].0, blocks[6].0]).unwrap();
        assert_eq!(backend.meta().unwrap().unwrap(), meta);
    }
    assert_eq!(backend.keys().unwrap().len(), 5);
    assert_eq!(backend.read(blocks[6].0).unwrap(), None);
    backend.clear().unwrap();
    assert_eq!((backend.meta().unwrap(), backend.keys().unwrap()), (None, vec![]));
}

#[test]
fn the_backend_in_memory_conforms() {
    conform(&Kept::memory());
}

#[test]
fn the_backend_in_sled_conforms() {
    conform(&Kept::sled());
}

#[test]
fn an_empty_backend_is_no_store() {
    for kept in [Kept::memory(), Kept::sled()] {
        let opened = kvorum_mvcc::open(kept.backend(), Options::default());
        assert!(matches!(opened, Err(OpenError::Empty)), "{opened:?}");
    }
}

#[test]
fn a_missing_or_foreign_block_is_noticed_when_the_store_is_opened() {
    for kept in [Kept::memory(), Kept::sled()] {
        fill(&kept, 200);
        let (meta, first) = {
            let backend = kept.backend();
            let meta = backend.meta().unwrap().unwrap();
            let first = backend.keys().unwrap()[0];
            let bytes = backend.read(first).unwrap().unwrap();
            backend.commit(&meta, &[first]).unwrap();
            (meta, (first, bytes))
        };
        assert!(kvorum_mvcc::open(kept.backend(), small_options()).is_err(), "a block is missing");
        let (first, bytes) = first;
        kept.backend().write(&[(first, bytes.clone())]).unwrap();
        assert!(kvorum_mvcc::open(kept.backend(), small_options()).is_ok());
        // A block of an earlier life, under a serial that counts.
        let foreign = BlockKey { first_change: first.first_change, serial: 0 };
        kept.backend().write(&[(foreign, bytes)]).unwrap();
        assert!(kvorum_mvcc::open(kept.backend(), small_options()).is_err(), "one too many");
        kept.backend().commit(&meta, &[foreign]).unwrap();
        assert!(kvorum_mvcc::open(kept.backend(), small_options()).is_ok());
    }
}

/// Puts keys and writes all of them behind.
fn fill(kept: &Kept, count: u64) {
    let Opened { mut store, mut maintainer, .. } = kept.create(small_options());
    for n in 0..count {
        let mut txn = store.begin();
        txn.put(format!("key-{n:04}").as_bytes(), &[b'v'; 50], 0);
        txn.commit();
        store.publish(n, Bytes::new());
        if n % 16 == 0 {
            settle(&mut maintainer);
        }
    }
    maintainer.flush_all(Some(u64::MAX)).unwrap();
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

fn copy_dir(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
    std::fs::create_dir_all(to.join("blobs")).unwrap();
}

/// Opens a damaged directory: either an error, or a store that holds everything it claims.
fn open_damaged(dir: &Path) -> Result<i64, String> {
    let backend = SledBackend::open(dir).map_err(|error: BackendError| error.to_string())?;
    let backend: std::sync::Arc<dyn Backend> = std::sync::Arc::new(backend);
    let opened = kvorum_mvcc::open(backend, small_options()).map_err(|error| error.to_string())?;
    let view = opened.store.reader().view();
    let result = view.range(&KeyRange::all(), 0, &RangeOptions::default());
    let records = result.map_err(|error| error.to_string())?.records;
    assert_eq!(records.len() as i64, view.revision() - 1, "as many keys as revisions");
    Ok(view.revision())
}

#[test]
fn a_damaged_sled_directory_is_an_error_or_whole_and_never_a_panic() {
    let whole = tempfile::tempdir().unwrap();
    let kept = Kept::Sled(whole);
    fill(&kept, 300);
    let Kept::Sled(whole) = &kept else { unreachable!() };
    assert_eq!(open_damaged(whole.path()), Ok(301));
    let mut random = Random::new(5);
    let (mut refused, mut opened) = (0, 0);
    let rounds = std::env::var("KVORUM_MVCC_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: u32 = rounds.unwrap_or(60);
    for round in 0..rounds {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(whole.path(), copy.path());
        let files = files_below(copy.path());
        let file = &files[random.below(files.len() as u64) as usize];
        let mut bytes = std::fs::read(file).unwrap();
        match round % 3 {
            0 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
            1 if !bytes.is_empty() => {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << random.below(8);
            }
            _ => {
                let start = random.below(bytes.len() as u64 + 1) as usize;
                let end = (start + 4096).min(bytes.len());
                bytes[start..end].fill(0);
            }
        }
        std::fs::write(file, bytes).unwrap();
        match open_damaged(copy.path()) {
            Ok(_) => opened += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0 && opened + refused == rounds, "{opened} opened, {refused} refused");
}

#[test]
fn a_sled_directory_whose_files_are_gone_is_an_error() {
    let whole = tempfile::tempdir().unwrap();
    let kept = Kept::Sled(whole);
    fill(&kept, 100);
    let Kept::Sled(whole) = &kept else { unreachable!() };
    for file in files_below(whole.path()) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(whole.path(), copy.path());
        let name = file.strip_prefix(whole.path()).unwrap();
        std::fs::remove_file(copy.path().join(name)).unwrap();
        if name.ends_with("db") {
            assert!(open_damaged(copy.path()).is_err(), "without {name:?}");
        } else {
            // sled rebuilds its other files from the log.
            let _ = open_damaged(copy.path());
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(SledBackend::open(file.path()).is_err(), "a file is no directory");
}
