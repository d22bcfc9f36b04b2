//! The executable `kvorum`. All it adds to the library is the allocator.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the allocator begins with: a profiler that is off. It costs nothing until it is turned on, and cannot be had later.
/// The variable `_RJEM_MALLOC_CONF` is read after it.
#[expect(unsafe_code, reason = "the allocator looks for its first settings under this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_CONF: &[u8; 28] = b"prof:true,prof_active:false\0";

fn main() -> ExitCode {
    kvorum_server::command::run(std::env::args_os().skip(1), std::env::vars_os())
}
