//! The protobuf format: the answer's own bytes, and nothing else.

use std::io::{Result, Write};

use prost::Message;

pub fn write(out: &mut dyn Write, answer: &impl Message) -> Result<()> {
    out.write_all(&answer.encode_to_vec())
}
