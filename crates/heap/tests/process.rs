//! The allocator of this very process, which is started as the executable is.

use std::hint::black_box;
use std::io::Read;

use flate2::read::GzDecoder;
use kvorum_heap::{Change, Heap, HeapError, Policy, Target, pprof};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the allocator begins with: a profiler that is off.
#[expect(unsafe_code, reason = "the allocator looks for its first settings under this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static CONF: &[u8; 28] = b"prof:true,prof_active:false\0";

const MIB: usize = 1 << 20;

/// One test: they would share one allocator.
#[test]
fn a_heap_is_read_changed_purged_and_profiled() {
    let heap = Heap::of_process().expect("this process allocates from jemalloc");
    readings_count_what_is_held(&heap);
    a_change_is_made_reported_and_kept_for_new_arenas(&heap);
    what_is_refused_changes_nothing(&heap);
    a_purge_gives_back_what_was_freed(&heap);
    a_profile_names_who_holds_what(&heap);
}

fn readings_count_what_is_held(heap: &Heap) {
    let before = heap.readings().unwrap();
    let held = black_box(vec![1_u8; 64 * MIB]);
    let after = heap.readings().unwrap();
    assert!(after.allocated_bytes >= before.allocated_bytes + 64 * MIB as u64);
    assert!(
        after.resident_bytes >= after.active_bytes && after.active_bytes >= after.allocated_bytes
    );
    assert!(after.mapped_bytes > 64 * MIB as u64 && after.metadata_bytes > 0);
    let arenas = after.arenas.iter();
    assert!(arenas.clone().any(|arena| arena.large_bytes >= 64 * MIB as u64));
    assert!(arenas.clone().any(|arena| arena.thread_count > 0 && arena.small_bytes > 0));
    assert!(after.background_threads, "as it is built");
    assert!(after.profiling.available && !after.profiling.active);
    assert_eq!(
        (after.profiling.sample_bytes, after.thread_cache_bytes_max),
        (512 * 1024, 32 * 1024)
    );
    drop(held);
}

fn a_change_is_made_reported_and_kept_for_new_arenas(heap: &Heap) {
    for policy in Policy::ALL {
        let wanted = policy.change();
        let after = heap.change(&wanted).unwrap();
        let decays = after.arenas.iter().map(|arena| (arena.dirty_decay_ms, arena.muzzy_decay_ms));
        let wanted = (wanted.dirty_decay_ms.unwrap(), wanted.muzzy_decay_ms.unwrap());
        assert_eq!((after.dirty_decay_ms, after.muzzy_decay_ms), wanted);
        assert!(decays.into_iter().all(|decays| decays == wanted), "{after:?}");
    }
    let off = Change { background_threads: Some(false), ..Change::default() };
    assert!(!heap.change(&off).unwrap().background_threads);
    let one = Change { arena: Some(0), dirty_decay_ms: Some(77), ..Change::default() };
    let after = heap.change(&one).unwrap();
    let at_77 = after.arenas.iter().filter(|arena| arena.dirty_decay_ms == 77);
    assert_eq!(at_77.map(|arena| arena.index).collect::<Vec<_>>(), [0]);
}

fn what_is_refused_changes_nothing(heap: &Heap) {
    let settings = |heap: &Heap| {
        let now = heap.readings().unwrap();
        let decays = now.arenas.iter().map(|arena| (arena.dirty_decay_ms, arena.muzzy_decay_ms));
        (now.background_threads, now.dirty_decay_ms, now.profiling, decays.collect::<Vec<_>>())
    };
    let before = settings(heap);
    let bad = [
        Change { dirty_decay_ms: Some(5), muzzy_decay_ms: Some(-1), ..Change::default() },
        Change {
            background_threads: Some(true),
            dirty_decay_ms: Some(i64::MAX),
            ..Change::default()
        },
        Change { arena: Some(4095), dirty_decay_ms: Some(5), ..Change::default() },
    ];
    for change in bad {
        assert!(matches!(heap.change(&change), Err(HeapError::Change(_))), "{change:?}");
    }
    let purged = heap.purge(Target::Arena(4095)).unwrap_err().to_string();
    assert!(purged.starts_with("there is no arena 4095: those in use are [0"), "{purged}");
    assert_eq!(settings(heap), before);
}

fn a_purge_gives_back_what_was_freed(heap: &Heap) {
    let keep =
        Change { dirty_decay_ms: Some(3_600_000), muzzy_decay_ms: Some(0), ..Change::default() };
    heap.change(&keep).unwrap();
    // Allocations of a size that is kept for reuse, and not unmapped at once.
    let held: Vec<Vec<u8>> = (0..64).map(|_| black_box(vec![1_u8; MIB])).collect();
    drop(held);
    let before = heap.readings().unwrap();
    assert!(before.purgeable_bytes() >= 32 * MIB as u64, "{}", before.purgeable_bytes());
    heap.purge(Target::All).unwrap();
    let after = heap.readings().unwrap();
    assert!(after.purgeable_bytes() < MIB as u64, "{}", after.purgeable_bytes());
    assert!(after.resident_bytes + 32 * MIB as u64 <= before.resident_bytes);
    assert_eq!(after.dirty_decay_ms, 3_600_000, "a purge changes no setting");
}

fn a_profile_names_who_holds_what(heap: &Heap) {
    let on = |profiling| Change { profiling: Some(profiling), ..Change::default() };
    assert!(heap.change(&on(true)).unwrap().profiling.active);
    let held = black_box(vec![1_u8; 64 * MIB]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump");
    heap.dump_profile(&path).unwrap();
    assert!(!heap.change(&on(false)).unwrap().profiling.active);
    drop(held);
    let packed = pprof(&std::fs::read(&path).unwrap(), 1).unwrap();
    let mut profile = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut profile).unwrap();
    let text = String::from_utf8_lossy(&profile);
    let own = std::env::current_exe().unwrap();
    assert!(text.contains("inuse_space") && text.contains(own.to_str().unwrap()));
    assert!(heap.dump_profile(&dir.path().join("no/such/dir")).is_err());
}
