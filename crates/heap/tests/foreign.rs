//! A process that allocates from somewhere else has no heap to be driven, though jemalloc is linked into it.

use kvorum_heap::Heap;

#[test]
fn a_foreign_allocator_is_left_alone() {
    assert!(Heap::of_process().is_none());
}
