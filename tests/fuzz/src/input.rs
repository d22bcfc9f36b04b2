//! How a target takes its input apart: a few numbers, and sections that say how long they are.
//!
//! Nothing here fails. What is missing reads as zero or as empty, so that every input means something.

use std::mem::take;

/// An input that is read from its front.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// The next bit, which takes a whole byte.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// The next eight bytes, signed.
    pub fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    /// A length of four bytes and as many bytes as it says, or as there are.
    pub fn section(&mut self) -> &'a [u8] {
        let wanted = u32::from_le_bytes(self.array()) as usize;
        let (section, rest) = self.rest.split_at(wanted.min(self.rest.len()));
        self.rest = rest;
        section
    }

    /// Up to `count_max` sections.
    pub fn sections(&mut self, count_max: usize) -> Vec<&'a [u8]> {
        let mut sections = Vec::new();
        while !self.is_at_end() && sections.len() < count_max {
            sections.push(self.section());
        }
        sections
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        take(&mut self.rest)
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let (taken, rest) = self.rest.split_at(N.min(self.rest.len()));
        array[..taken.len()].copy_from_slice(taken);
        self.rest = rest;
        array
    }
}

/// An input that is being written, for seeds.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty one.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// Adds bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Writer {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Adds what [`Input::flag`] or [`Input::byte`] reads.
    #[must_use]
    pub fn byte(self, byte: u8) -> Writer {
        self.raw(&[byte])
    }

    /// Adds what [`Input::u64`] reads.
    #[must_use]
    pub fn u64(self, number: u64) -> Writer {
        self.raw(&number.to_le_bytes())
    }

    /// Adds what [`Input::i64`] reads.
    #[must_use]
    pub fn i64(self, number: i64) -> Writer {
        self.raw(&number.to_le_bytes())
    }

    /// Adds what [`Input::section`] reads.
    #[must_use]
    pub fn section(self, bytes: &[u8]) -> Writer {
        let length = u32::try_from(bytes.len()).expect("a seed is short");
        self.raw(&length.to_le_bytes()).raw(bytes)
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The same input with its first byte 0 and 1: checksums as they come, and set right.
pub fn raw_and_sealed(rest: &Writer) -> [Vec<u8>; 2] {
    [0, 1].map(|flag| Writer::new().byte(flag).raw(&rest.bytes).finish())
}
