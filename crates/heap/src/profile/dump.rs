//! The allocator's own format, `heap_v2`.

use super::ProfileError;

const HEADER: &str = "heap_v2/";
const MAPPINGS: &str = "MAPPED_LIBRARIES:";
/// How much of a line is shown.
const SHOWN_CHARS: usize = 80;

/// A dump, as it was written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Dump {
    /// Bytes between two samples, on average.
    pub(super) sample_bytes: u64,
    pub(super) places: Vec<Place>,
    pub(super) mappings: Vec<Mapping>,
}

/// What was seen of one call stack.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Place {
    /// Where each function returns to, the innermost first.
    pub(super) stack: Vec<u64>,
    /// Allocations that are held.
    pub(super) count: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// A part of a file in memory.
#[derive(Debug, PartialEq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    /// The first address after it.
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) file: String,
}

impl Dump {
    pub(super) fn parse(text: &str) -> Result<Dump, ProfileError> {
        let mut lines = text.lines().enumerate();
        let header = lines.next().and_then(|(_, line)| line.strip_prefix(HEADER));
        let sample_bytes =
            header.and_then(|bytes| bytes.trim().parse().ok()).ok_or(ProfileError::Format)?;
        let mut dump = Dump { sample_bytes, ..Dump::default() };
        let mut is_in_place = false;
        for (number, line) in lines.by_ref() {
            let bad = || ProfileError::Line {
                line: number + 1,
                text: line.chars().take(SHOWN_CHARS).collect(),
            };
            let trimmed = line.trim_start();
            if trimmed == MAPPINGS {
                break;
            }
            if let Some(stack) = trimmed.strip_prefix('@') {
                let stack = stack.split_whitespace().map(address).collect::<Option<_>>();
                dump.places.push(Place { stack: stack.ok_or_else(bad)?, ..Place::default() });
                is_in_place = true;
            } else if let Some(held) = trimmed.strip_prefix("t*:") {
                // The first such line, before any stack, has the sums.
                let (count, bytes) = held_of(held).ok_or_else(bad)?;
                if let Some(place) = dump.places.last_mut().filter(|_| is_in_place) {
                    (place.count, place.bytes) = (count, bytes);
                }
            } else if !(trimmed.is_empty() || trimmed.starts_with('t')) {
                return Err(bad());
            }
        }
        dump.mappings = lines.filter_map(|(_, line)| mapping(line)).collect();
        Ok(dump)
    }
}

fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// `count: bytes [all: allbytes]`.
fn held_of(text: &str) -> Option<(u64, u64)> {
    let (count, rest) = text.split_once(':')?;
    let bytes = rest.split_whitespace().next()?;
    Some((count.trim().parse().ok()?, bytes.parse().ok()?))
}

/// A line of `/proc/self/maps`, if it is of code in a file.
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let is_code = fields.next()?.contains('x');
    let offset = hex(fields.next()?)?;
    let file = fields.nth(2)?.to_owned();
    (is_code && file.starts_with('/')).then_some(())?;
    Some(Mapping { start: hex(start)?, end: hex(end)?, offset, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "heap_v2/524288
  t*: 3: 1200000 [0: 0]
  t0: 3: 1200000 [0: 0]
@ 0x55d0 0x4010
  t*: 2: 1100000 [0: 0]
  t0: 2: 1100000 [0: 0]
@ 0x55d1
  t*: 1: 100000 [0: 0]

MAPPED_LIBRARIES:
4000-6000 r-xp 00001000 fe:00 123                        /usr/bin/kvorum
6000-7000 r--p 00003000 fe:00 123                        /usr/bin/kvorum
7000-8000 rw-p 00000000 00:00 0
8000-9000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn a_dump_is_read() {
        let dump = Dump::parse(DUMP).unwrap();
        let place = |stack: &[u64], count, bytes| Place { stack: stack.to_vec(), count, bytes };
        assert_eq!(dump.sample_bytes, 524_288);
        assert_eq!(
            dump.places,
            [place(&[0x55d0, 0x4010], 2, 1_100_000), place(&[0x55d1], 1, 100_000)]
        );
        let file = "/usr/bin/kvorum".to_owned();
        assert_eq!(dump.mappings, [Mapping { start: 0x4000, end: 0x6000, offset: 0x1000, file }]);
    }

    #[test]
    fn what_is_no_dump_is_refused_by_its_line() {
        assert_eq!(Dump::parse("heap profile: 1"), Err(ProfileError::Format));
        let error = Dump::parse("heap_v2/1\n  t*: 0: 0 [0: 0]\n@ 0xzz\n").unwrap_err();
        assert_eq!(error.to_string(), "line 3 of the dump is not understood: \"@ 0xzz\"");
        let error = Dump::parse("heap_v2/1\nwhat\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2 of the dump is not understood: \"what\"");
        assert!(
            Dump::parse(DUMP.get(..60).unwrap()).is_ok(),
            "a dump may end anywhere between lines"
        );
    }
}
