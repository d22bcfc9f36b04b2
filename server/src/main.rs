//! The executable `kvorum`. All it adds to the library is the allocator.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    kvorum_server::command::run(std::env::args_os().skip(1), std::env::vars_os())
}
