//! The file, as far as a heap profile needs it: the messages of pprof's `profile.proto`, with its numbers.

use std::collections::BTreeMap;

use prost::Message;

use super::dump::{Dump, Place};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    /// The index of the string that names what is shown first.
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

/// Indexes of strings.
#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
}

/// Strings, each once, the empty one first.
struct Strings(Vec<String>);

impl Strings {
    fn index_of(&mut self, text: &str) -> i64 {
        let found = self.0.iter().position(|known| known == text);
        let index = found.unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        signed(index as u64)
    }
}

/// The profile in a dump.
pub(super) fn profile(dump: &Dump, unix_nanos: i64) -> Profile {
    let mut strings = Strings(vec![String::new()]);
    let mut typed = |kind: &str, unit: &str| ValueType {
        kind: strings.index_of(kind),
        unit: strings.index_of(unit),
    };
    let objects = typed("inuse_objects", "count");
    let space = typed("inuse_space", "bytes");
    let default_sample_type = space.kind;
    let period_type = Some(typed("space", "bytes"));
    let mapping: Vec<Mapping> = (1..)
        .zip(&dump.mappings)
        .map(|(id, mapping)| Mapping {
            id,
            memory_start: mapping.start,
            memory_limit: mapping.end,
            file_offset: mapping.offset,
            filename: strings.index_of(&mapping.file),
        })
        .collect();
    let mut ids = BTreeMap::new();
    let sample = dump
        .places
        .iter()
        .map(|place| Sample {
            location_id: place.stack.iter().map(|address| location(&mut ids, *address)).collect(),
            value: scaled(place, dump.sample_bytes).to_vec(),
        })
        .collect();
    let mut location: Vec<Location> = ids
        .into_iter()
        .map(|(address, id)| Location { id, mapping_id: mapping_of(&mapping, address), address })
        .collect();
    location.sort_by_key(|location| location.id);
    Profile {
        sample_type: vec![objects, space],
        sample,
        mapping,
        location,
        string_table: strings.0,
        time_nanos: unix_nanos,
        period_type,
        period: signed(dump.sample_bytes),
        default_sample_type,
    }
}

/// The id of the call that returns to `address`: the call itself stands just before.
fn location(ids: &mut BTreeMap<u64, u64>, address: u64) -> u64 {
    let next = ids.len() as u64 + 1;
    *ids.entry(address.saturating_sub(1)).or_insert(next)
}

fn mapping_of(mappings: &[Mapping], address: u64) -> u64 {
    let holds =
        |mapping: &&Mapping| (mapping.memory_start..mapping.memory_limit).contains(&address);
    mappings.iter().find(holds).map_or(0, |mapping| mapping.id)
}

/// What is held where so much was seen: an allocation of so many bytes is sampled with a likelihood of
/// 1 - e^(-bytes / sample bytes).
fn scaled(place: &Place, sample_bytes: u64) -> [i64; 2] {
    if place.count == 0 || sample_bytes == 0 {
        return [signed(place.count), signed(place.bytes)];
    }
    let mean_bytes = place.bytes as f64 / place.count as f64;
    let likelihood = 1.0 - (-mean_bytes / sample_bytes as f64).exp();
    let scale = if likelihood > 0.0 { 1.0 / likelihood } else { 1.0 };
    [(place.count as f64 * scale) as i64, (place.bytes as f64 * scale) as i64]
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::dump;
    use super::*;

    #[test]
    fn places_share_what_they_call_and_are_scaled_to_what_they_hold() {
        let file = "/usr/bin/kvorum".to_owned();
        let dump = Dump {
            sample_bytes: 1000,
            places: vec![
                Place { stack: vec![0x55d0, 0x4010], count: 1, bytes: 1_000_000 },
                Place { stack: vec![0x9000, 0x4010], count: 10, bytes: 100 },
            ],
            mappings: vec![dump::Mapping { start: 0x4000, end: 0x6000, offset: 0x1000, file }],
        };
        let profile = profile(&dump, 7);
        let ids: Vec<&[u64]> =
            profile.sample.iter().map(|sample| &sample.location_id[..]).collect();
        assert_eq!(ids, [&[1, 2], &[3, 2]]);
        let location = |id, mapping_id, address| Location { id, mapping_id, address };
        assert_eq!(
            profile.location,
            [location(1, 1, 0x55cf), location(2, 1, 0x400f), location(3, 0, 0x8fff)]
        );
        // Large ones are all seen; of those of ten bytes, one in a hundred.
        assert_eq!(profile.sample[0].value, [1, 1_000_000]);
        assert_eq!(profile.sample[1].value, [1005, 10050]);
        let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
        assert_eq!(text(profile.default_sample_type), "inuse_space");
        assert_eq!(text(profile.mapping[0].filename), "/usr/bin/kvorum");
        assert_eq!((text(0), profile.period), ("", 1000));
    }
}
