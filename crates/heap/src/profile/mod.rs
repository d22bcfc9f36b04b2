//! From a dump of the profiler to a file that pprof reads.
//!
//! The dump is text: how many bytes lie between two samples, then for each place that was sampled its call stack and what
//! it holds, then what is mapped where. The file is a gzipped protocol buffer with the same in it, scaled up: a place that
//! is sampled once in so many bytes holds that much more than was seen of it.

mod dump;
mod file;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use self::dump::Dump;

/// Why a dump is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// It does not begin as the allocator's do.
    #[error("the dump is not of the format heap_v2")]
    Format,
    /// A line that is not understood.
    #[error("line {line} of the dump is not understood: {text:?}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
}

/// Makes a pprof file of a dump that was written `unix_nanos` after the beginning of 1970.
pub fn pprof(dump: &[u8], unix_nanos: i64) -> Result<Vec<u8>, ProfileError> {
    let dump = Dump::parse(&String::from_utf8_lossy(dump))?;
    let encoded = file::profile(&dump, unix_nanos).encode_to_vec();
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    let written = packed.write_all(&encoded).and_then(|()| packed.finish());
    Ok(written.expect("writing to memory does not fail"))
}
