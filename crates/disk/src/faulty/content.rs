//! One file's bytes: what is seen, what is durable, and what a power loss makes of the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::random::Random;

/// The unit that the medium writes as a whole: a torn write is torn between two of them.
pub const SECTOR_BYTES: u64 = 512;

/// Bytes are kept in pages, so that a large file of zeroes costs nothing and a copy shares what is equal.
const PAGE_BYTES: u64 = 4096;

const _: () = assert!(PAGE_BYTES.is_multiple_of(SECTOR_BYTES));

/// Bytes in pages. A page that is missing is zero.
#[derive(Clone, Debug, Default)]
struct Image {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES as usize]>>,
    len: u64,
}

/// A file of a [`super::FaultyDisk`].
///
/// - After a sync that succeeds, `live` and `durable` differ only in pages that an earlier, failed sync lost.
#[derive(Clone, Debug, Default)]
pub struct Content {
    live: Image,
    durable: Image,
    /// What was done since the last sync, in order.
    unsynced: Vec<Change>,
    /// The pages that the next sync copies.
    dirty: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Resize { len: u64 },
}

/// What a power loss makes of what was not synced.
#[derive(Debug)]
pub enum Loss {
    /// It takes everything.
    Everything,
    /// It takes, keeps and tears as the generator says.
    Chosen(Random),
}

impl Content {
    /// A file that holds `bytes`, durably.
    pub fn durable(bytes: &[u8]) -> Content {
        let mut image = Image::default();
        image.write(0, bytes);
        Content { live: image.clone(), durable: image, ..Content::default() }
    }

    pub fn len(&self) -> u64 {
        self.live.len
    }

    pub fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        self.live.read(offset, into)
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.live.write(offset, bytes);
        self.dirty.extend(offset / PAGE_BYTES..=(offset + bytes.len() as u64 - 1) / PAGE_BYTES);
        self.unsynced.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub fn resize(&mut self, len: u64) {
        let first_changed = len.min(self.live.len) / PAGE_BYTES;
        self.dirty.extend(self.live.pages.range(first_changed..).map(|(page, _)| *page));
        self.live.resize(len);
        self.unsynced.push(Change::Resize { len });
    }

    pub fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            match self.live.pages.get(&page) {
                Some(bytes) => drop(self.durable.pages.insert(page, bytes.clone())),
                None => drop(self.durable.pages.remove(&page)),
            }
        }
        self.durable.len = self.live.len;
        self.unsynced.clear();
    }

    /// A sync that failed: as on Linux, the pages count as clean from now on, and are still only in memory.
    pub fn fail_sync(&mut self) {
        self.dirty.clear();
        self.unsynced.clear();
    }

    /// Changes the bits of `mask` in one byte, wherever it is kept.
    pub fn flip(&mut self, offset: u64, mask: u8) {
        for image in [&mut self.live, &mut self.durable] {
            let mut byte = [0];
            if image.read(offset, &mut byte) == 1 {
                image.write(offset, &[byte[0] ^ mask]);
            }
        }
    }

    /// The content after the power was lost and came back.
    pub fn lose(&mut self, loss: &mut Loss) {
        let unsynced = std::mem::take(&mut self.unsynced);
        if let Loss::Chosen(random) = loss {
            for change in unsynced {
                match change {
                    Change::Write { offset, bytes } => self.keep_some(offset, &bytes, random),
                    Change::Resize { len } if random.coin() => self.durable.resize(len),
                    Change::Resize { .. } => {}
                }
            }
        }
        self.live = self.durable.clone();
        self.dirty.clear();
    }

    /// Makes durable what the generator lets through of one write.
    fn keep_some(&mut self, offset: u64, bytes: &[u8], random: &mut Random) {
        let sector_count =
            (offset + bytes.len() as u64 - 1) / SECTOR_BYTES - offset / SECTOR_BYTES + 1;
        let fate = random.below(4);
        let kept_up_to = match fate {
            0 => 0,
            1 => sector_count,
            _ => random.below(sector_count + 1),
        };
        let mut start = 0;
        for sector in 0..sector_count {
            let end = (offset / SECTOR_BYTES + sector + 1) * SECTOR_BYTES - offset;
            let end = (end as usize).min(bytes.len());
            let kept = if fate == 3 { random.coin() } else { sector < kept_up_to };
            if kept {
                self.durable.write(offset + start as u64, &bytes[start..end]);
            }
            start = end;
        }
    }
}

impl Image {
    fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        let available = self.len.saturating_sub(offset).min(into.len() as u64) as usize;
        for (page, in_page, range) in pieces(offset, available) {
            let target = &mut into[range];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[in_page..in_page + target.len()]),
                None => target.fill(0),
            }
        }
        available
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, in_page, range) in pieces(offset, bytes.len()) {
            let source = &bytes[range];
            let target = self.pages.entry(page).or_insert_with(|| Arc::new([0; _]));
            Arc::make_mut(target)[in_page..in_page + source.len()].copy_from_slice(source);
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    fn resize(&mut self, len: u64) {
        if len < self.len {
            // Bytes beyond the length are zero, so that growing again shows none of the old ones.
            drop(self.pages.split_off(&len.div_ceil(PAGE_BYTES)));
            if let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES)) {
                Arc::make_mut(page)[(len % PAGE_BYTES) as usize..].fill(0);
            }
        }
        self.len = len;
    }
}

/// The pages that `count` bytes from `offset` on touch: page number, where in the page, which of the bytes.
fn pieces(offset: u64, count: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let in_page = (at % PAGE_BYTES) as usize;
        let taken = (count - done).min(PAGE_BYTES as usize - in_page);
        let range = done..done + taken;
        done += taken;
        (taken > 0).then_some((at / PAGE_BYTES, in_page, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0; content.len() as usize];
        assert_eq!(content.read(0, &mut bytes), bytes.len());
        bytes
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_is_lost() {
        let mut content = Content::default();
        content.write(4090, b"0123456789");
        content.sync();
        content.write(4094, b"lost");
        content.resize(9000);
        content.lose(&mut Loss::Everything);
        assert_eq!(content.len(), 4100);
        assert_eq!(bytes(&content)[4090..], *b"0123456789");
    }

    #[test]
    fn a_failed_sync_loses_bytes_that_a_later_one_does_not_bring_back() {
        let mut content = Content::default();
        content.resize(8192);
        content.sync();
        content.write(0, b"lost");
        content.fail_sync();
        assert_eq!(bytes(&content)[..4], *b"lost");
        content.write(4096, b"kept");
        content.sync();
        content.lose(&mut Loss::Everything);
        assert_eq!(bytes(&content)[..4], [0; 4]);
        assert_eq!(bytes(&content)[4096..4100], *b"kept");
    }

    #[test]
    fn a_write_is_torn_between_sectors_only_and_every_fate_occurs() {
        let (mut whole, mut none, mut holes) = (0, 0, 0);
        for seed in 0..200 {
            let mut content = Content::default();
            content.resize(4096);
            content.sync();
            content.write(500, &[1; 2000]);
            content.lose(&mut Loss::Chosen(Random::new(seed)));
            let bytes = bytes(&content);
            let mut kept = Vec::new();
            for (start, end) in [(500, 512), (512, 1024), (1024, 1536), (1536, 2048), (2048, 2500)]
            {
                let sector = &bytes[start..end];
                assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}");
                kept.push(sector[0] == 1);
            }
            whole += usize::from(kept.iter().all(|kept| *kept));
            none += usize::from(!kept.contains(&true));
            holes += usize::from(!kept.is_sorted_by(|left, right| left >= right));
        }
        assert!(whole > 20 && none > 20 && holes > 20, "{whole} {none} {holes}");
    }

    #[test]
    fn shrinking_and_growing_again_shows_zeroes() {
        let mut content = Content::default();
        content.write(0, &[7; 5000]);
        content.sync();
        content.resize(10);
        content.resize(6000);
        content.sync();
        content.lose(&mut Loss::Everything);
        let bytes = bytes(&content);
        assert_eq!(bytes[..10], [7; 10]);
        assert!(bytes[10..].iter().all(|byte| *byte == 0));
    }
}
