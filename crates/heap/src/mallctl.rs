//! The allocator's own names and values, each behind a function of its type.
#![expect(
    unsafe_code,
    reason = "the allocator is called through C, with types that it checks by their size only"
)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr;

use tikv_jemalloc_ctl::raw;
use tikv_jemalloc_sys as sys;

/// The index that stands for all arenas.
pub(crate) const ALL_ARENAS: usize = 4096;

/// The allocator did not take a value, or has no such name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the allocator refuses {name}: {reason}")]
pub struct MallctlError {
    /// What was read or written.
    pub(crate) name: String,
    /// What it said.
    pub(crate) reason: String,
}

/// A value that can be read and written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Value {
    /// On or off.
    Switch(bool),
    /// A signed number of the machine's width.
    Signed(isize),
}

/// What reads and writes the allocator. There is one that does, and one in tests that fails when told to.
pub(crate) trait Knobs {
    /// Reads a value of the kind of `like`.
    fn read(&self, name: &str, like: Value) -> Result<Value, MallctlError>;
    /// Writes a value.
    fn write(&self, name: &str, value: Value) -> Result<(), MallctlError>;
}

/// The allocator that is linked into the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jemalloc;

impl Knobs for Jemalloc {
    fn read(&self, name: &str, like: Value) -> Result<Value, MallctlError> {
        Ok(match like {
            Value::Switch(_) => Value::Switch(read_switch(name)?),
            Value::Signed(_) => Value::Signed(read_signed(name)?),
        })
    }

    fn write(&self, name: &str, value: Value) -> Result<(), MallctlError> {
        match value {
            Value::Switch(value) => write_plain(name, u8::from(value)),
            Value::Signed(value) => write_plain(name, value),
        }
    }
}

/// Numbers of any bits, so that whatever the allocator writes is one.
trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for usize {}
impl Plain for isize {}

fn named(name: &str) -> CString {
    CString::new(name).expect("names have no zero bytes")
}

fn failed(name: &str) -> impl Fn(tikv_jemalloc_ctl::Error) -> MallctlError {
    move |error| MallctlError { name: name.to_owned(), reason: error.to_string() }
}

fn read_plain<T: Plain>(name: &str) -> Result<T, MallctlError> {
    // SAFETY: every bit pattern is a number, and the allocator refuses a value of another size.
    unsafe { raw::read::<T>(named(name).as_bytes_with_nul()) }.map_err(failed(name))
}

fn write_plain<T: Plain>(name: &str, value: T) -> Result<(), MallctlError> {
    // SAFETY: only numbers are passed, the allocator refuses a value of another size, and its switches get 0 or 1.
    unsafe { raw::write::<T>(named(name).as_bytes_with_nul(), value) }.map_err(failed(name))
}

pub(crate) fn read_switch(name: &str) -> Result<bool, MallctlError> {
    Ok(read_plain::<u8>(name)? != 0)
}

pub(crate) fn read_signed(name: &str) -> Result<isize, MallctlError> {
    read_plain(name)
}

/// A size in bytes or pages.
pub(crate) fn read_size(name: &str) -> Result<u64, MallctlError> {
    Ok(read_plain::<usize>(name)? as u64)
}

/// A C `unsigned`.
pub(crate) fn read_count(name: &str) -> Result<u32, MallctlError> {
    read_plain(name)
}

/// A number of 64 bits on any machine.
pub(crate) fn read_wide(name: &str) -> Result<u64, MallctlError> {
    read_plain(name)
}

/// Has the allocator gather its figures anew.
pub(crate) fn refresh() -> Result<(), MallctlError> {
    write_plain("epoch", 1_u64)
}

/// Has the allocator do what has neither a value nor a result.
pub(crate) fn call(name: &str) -> Result<(), MallctlError> {
    with_argument(name, ptr::null_mut(), 0)
}

/// Has the profiler write what it knows to a file.
pub(crate) fn dump_profile(path: &Path) -> Result<(), MallctlError> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| MallctlError {
        name: "prof.dump".to_owned(),
        reason: "the file's name has a zero byte".to_owned(),
    })?;
    let mut text: *const c_char = path.as_ptr();
    with_argument("prof.dump", (&raw mut text).cast(), size_of::<*const c_char>())
}

fn with_argument(name: &str, argument: *mut c_void, bytes: usize) -> Result<(), MallctlError> {
    let c_name: &CStr = &named(name);
    // SAFETY: the name ends with a zero byte; the argument is null, or points to that many bytes that live until the call
    // returns, of which the allocator keeps nothing.
    let code =
        unsafe { sys::mallctl(c_name.as_ptr(), ptr::null_mut(), ptr::null_mut(), argument, bytes) };
    if code == 0 {
        return Ok(());
    }
    let reason = std::io::Error::from_raw_os_error(code).to_string();
    Err(MallctlError { name: name.to_owned(), reason })
}
