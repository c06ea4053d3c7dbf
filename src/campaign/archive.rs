//! What a segment file looks like on disk: the shapes rkyv archives and the frame around them.
//!
//! ```text
//! preamble, 32 octets   magic, version, number, length and CRC32C of the header
//! header                archived column names
//! block …               archived, about 64 KiB each, 16-aligned
//! rows                  u32 a row: the recipient it became, or none
//! directory             archived totals, blocks (place, CRC32C, rows), spans by domain, place of rows, origins
//! trailer, 32 octets    place, length and CRC32C of the directory, its own CRC32C, magic
//! ```
//!
//! Everything variable is flat (`Vec<u32>` of ends, `Vec<u8>` of text), so that archiving copies memory
//! and reading a recipient touches a few cache lines. Knows no files.

use rkyv::{Archive, Deserialize, Serialize};

/// Octets of text and numbers a block holds before the next one is begun.
pub(crate) const BLOCK_OCTETS: usize = 64 * 1024;
/// Places of archives in the file are multiples of this, as rkyv reads them in place.
pub(crate) const ALIGNMENT: usize = 16;
pub(crate) const PREAMBLE_OCTETS: usize = 32;
pub(crate) const TRAILER_OCTETS: usize = 32;
const VERSION: u32 = 2;
/// In place of a recipient, for a row that became none.
pub(crate) const NO_RECIPIENT: u32 = u32::MAX;
const MAGIC_HEAD: [u8; 8] = *b"POSTROAD";
const MAGIC_TAIL: [u8; 8] = *b"POSTSEAL";

/// Some recipients of a segment, grouped by domain; within a domain those of the test slice come first, and
/// rows ascend within both parts.
#[derive(Debug, Default, Archive, Serialize)]
pub(crate) struct Block {
    /// Row of the list, by recipient.
    pub rows: Vec<u32>,
    /// Per domain of the block: its first recipient, counted within the block.
    pub domain_firsts: Vec<u32>,
    /// Per domain: where its name ends in `domains`.
    pub domain_ends: Vec<u32>,
    pub domains: Vec<u8>,
    /// Per recipient 1 + columns ends in `texts`: the local part, then each column.
    pub ends: Vec<u32>,
    pub texts: Vec<u8>,
}

impl Block {
    pub(crate) fn octets(&self) -> usize {
        self.texts.len() + self.domains.len() + 4 * (self.ends.len() + self.rows.len())
    }

    pub(crate) fn clear(&mut self) {
        let Self { rows, domain_firsts, domain_ends, domains, ends, texts } = self;
        for numbers in [rows, domain_firsts, domain_ends, ends] {
            numbers.clear();
        }
        domains.clear();
        texts.clear();
    }
}

#[derive(Debug, Archive, Serialize, Deserialize)]
pub(crate) struct Header {
    pub columns: Vec<String>,
}

/// Where a block is and what it holds.
#[derive(Debug, Clone, Archive, Serialize, Deserialize)]
pub(crate) struct BlockPlace {
    pub offset: u64,
    pub octets: u32,
    pub crc: u32,
    /// Recipients `first..first + count` of the segment.
    pub first: u32,
    pub count: u32,
    pub row_least: u32,
    pub row_greatest: u32,
}

#[derive(Debug, Archive, Serialize, Deserialize)]
pub(crate) struct Directory {
    pub totals: SegmentTotals,
    pub blocks: Vec<BlockPlace>,
    /// Per domain, in order of name: its first recipient; the next one's is its end.
    pub span_firsts: Vec<u32>,
    pub span_ends: Vec<u32>,
    pub span_names: Vec<u8>,
    /// Per domain, how many of its first recipients are in the test slice; empty without a test.
    pub span_tests: Vec<u32>,
    pub rows: Framed,
    /// From which row on rows came from where; ascending.
    pub origins: Vec<Origin>,
}

/// Rows from `first_row` on, until the next of these, are those of a list from its row `list_row` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub first_row: u64,
    /// The list's place in the campaign; the seeds come after the last.
    pub list: u16,
    /// 1-based.
    pub list_row: u64,
}

/// What became of the rows a segment stands for.
///
/// `last_row - first_row + 1 = invalid + left_out + duplicate + suppressed + accepted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SegmentTotals {
    /// 1-based data rows of the list, both inclusive, without a gap from segment to segment. A segment
    /// of no rows has `last_row = first_row - 1`.
    pub first_row: u64,
    pub last_row: u64,
    pub invalid: u64,
    pub duplicate: u64,
    pub suppressed: u64,
    pub accepted: u64,
    /// Of `accepted`: seeds.
    pub seeds: u64,
    pub left_out: LeftOut,
    /// Of those, the ones in the test slice; all without a test.
    pub tested: u64,
    /// Length of `rejected.csv` after `last_row`.
    pub rejected_bytes: u64,
    /// Octets of the lists, decompressed, up to the end of `last_row`.
    pub input_bytes: u64,
    /// The list ended with this segment.
    pub last: bool,
}

impl SegmentTotals {
    pub fn rows(&self) -> u64 {
        (self.last_row + 1).saturating_sub(self.first_row)
    }

    /// Whether every row has become exactly one thing.
    pub fn adds_up(&self) -> bool {
        let left_out = self.left_out.sum();
        self.rows() == self.invalid + left_out + self.duplicate + self.suppressed + self.accepted
    }

    /// Takes over the counts of rows, not the range of rows nor the lengths.
    pub(crate) fn add_counts(&mut self, more: &Self) {
        let Self { invalid, duplicate, suppressed, accepted, tested, seeds, left_out, .. } = *more;
        self.invalid += invalid;
        self.duplicate += duplicate;
        self.suppressed += suppressed;
        self.accepted += accepted;
        self.tested += tested;
        self.seeds += seeds;
        self.left_out.condition += left_out.condition;
        self.left_out.excluded += left_out.excluded;
        self.left_out.sample += left_out.sample;
        self.left_out.cap += left_out.cap;
    }
}

/// Rows that the selection leaves out, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LeftOut {
    /// A `where` was not true.
    pub condition: u64,
    /// On an exclude list.
    pub excluded: u64,
    /// Not in the sample.
    pub sample: u64,
    /// After the cap was reached.
    pub cap: u64,
}

/// Why a row is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("a `where` is not true of it")]
    Condition,
    #[error("its address is on an exclude list")]
    Excluded,
    #[error("it is not in the sample")]
    Sample,
    #[error("the cap is reached before it")]
    Cap,
}

impl LeftOut {
    pub fn sum(&self) -> u64 {
        let Self { condition, excluded, sample, cap } = self;
        condition + excluded + sample + cap
    }

    /// The count of a reason.
    pub(crate) fn of(&mut self, reason: Reason) -> &mut u64 {
        match reason {
            Reason::Condition => &mut self.condition,
            Reason::Excluded => &mut self.excluded,
            Reason::Sample => &mut self.sample,
            Reason::Cap => &mut self.cap,
        }
    }
}

/// Place and checksum of a part of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(crate) struct Framed {
    pub offset: u64,
    pub octets: u32,
    pub crc: u32,
}

pub(crate) fn preamble(number: u32, header: &[u8]) -> [u8; PREAMBLE_OCTETS] {
    let mut frame = [0; PREAMBLE_OCTETS];
    frame[..8].copy_from_slice(&MAGIC_HEAD);
    frame[8..12].copy_from_slice(&VERSION.to_le_bytes());
    frame[12..16].copy_from_slice(&number.to_le_bytes());
    frame[16..20].copy_from_slice(&(header.len() as u32).to_le_bytes());
    frame[20..24].copy_from_slice(&crc32c::crc32c(header).to_le_bytes());
    let crc = crc32c::crc32c(&frame[..28]);
    frame[28..].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// The segment's number and where its header is.
///
/// # Errors
/// What is wrong with the octets, to print.
pub(crate) fn read_preamble(frame: &[u8]) -> Result<(u32, Framed), &'static str> {
    let frame = frame.get(..PREAMBLE_OCTETS).ok_or("it is shorter than a segment can be")?;
    if frame[..8] != MAGIC_HEAD {
        return Err("it does not begin like a segment");
    }
    if number_at(frame, 8) != VERSION {
        return Err("its version is not one this program reads");
    }
    if crc32c::crc32c(&frame[..28]) != number_at(frame, 28) {
        return Err("the checksum of its first octets is wrong");
    }
    let header =
        Framed { offset: PREAMBLE_OCTETS as u64, octets: number_at(frame, 16), crc: number_at(frame, 20) };
    Ok((number_at(frame, 12), header))
}

pub(crate) fn trailer(directory: Framed) -> [u8; TRAILER_OCTETS] {
    let mut frame = [0; TRAILER_OCTETS];
    frame[..8].copy_from_slice(&directory.offset.to_le_bytes());
    frame[8..12].copy_from_slice(&directory.octets.to_le_bytes());
    frame[12..16].copy_from_slice(&directory.crc.to_le_bytes());
    let crc = crc32c::crc32c(&frame[..20]);
    frame[20..24].copy_from_slice(&crc.to_le_bytes());
    frame[24..].copy_from_slice(&MAGIC_TAIL);
    frame
}

/// Where the directory is.
///
/// # Errors
/// What is wrong with the octets, to print.
pub(crate) fn read_trailer(frame: &[u8]) -> Result<Framed, &'static str> {
    if frame.len() != TRAILER_OCTETS || frame[24..] != MAGIC_TAIL {
        return Err("it does not end like a segment");
    }
    if crc32c::crc32c(&frame[..20]) != number_at(frame, 20) {
        return Err("the checksum of its last octets is wrong");
    }
    let offset = u64::from(number_at(frame, 4)) << 32 | u64::from(number_at(frame, 0));
    Ok(Framed { offset, octets: number_at(frame, 8), crc: number_at(frame, 12) })
}

fn number_at(frame: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_any_flipped_bit_shows() {
        let head = preamble(7, b"columns");
        let header = Framed { offset: 32, octets: 7, crc: crc32c::crc32c(b"columns") };
        assert_eq!(read_preamble(&head), Ok((7, header)));
        let directory = Framed { offset: 1 << 40, octets: 99, crc: 5 };
        let tail = trailer(directory);
        assert_eq!(read_trailer(&tail), Ok(directory));
        for bit in 0..PREAMBLE_OCTETS * 8 {
            let (mut head, mut tail) = (head, tail);
            head[bit / 8] ^= 1 << (bit % 8);
            tail[bit / 8] ^= 1 << (bit % 8);
            assert!(read_preamble(&head).is_err(), "bit {bit}");
            assert!(read_trailer(&tail).is_err(), "bit {bit}");
        }
    }
}
