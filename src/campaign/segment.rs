//! A sealed segment of the spool: one file, mapped read-only, recipients grouped by domain.
//!
//! Opening checks the frame, the header and the directory; a block is checked (CRC32C, rkyv, ends, UTF-8)
//! when a recipient of it is first asked for, so that a damaged block costs only its own recipients.
//! Pages read pile up in memory until a bound and are then given back to the system. Knows nothing of
//! how the file came to be (`builder`) or which segments belong together (`spool`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memmap2::Mmap;
use rkyv::rancor::Failure;
use rkyv::rend::u32_le;

use crate::address::AddressRef;
use crate::campaign::archive::{
    ArchivedBlock, ArchivedDirectory, ArchivedHeader, ArchivedOrigin, BlockPlace, Directory, Framed, Header,
    NO_RECIPIENT, Origin, TRAILER_OCTETS, read_preamble, read_trailer,
};
use crate::envelope::RecipientId;
use crate::mapped;

pub use crate::campaign::archive::{LeftOut, SegmentTotals};

/// Octets of blocks that stay resident per segment unless the spool says otherwise.
const RESIDENT_OCTETS_MAX: u64 = 8 << 20;
/// What one page fault maps around the page it is for (Linux's fault_around_bytes).
const WINDOW_OCTETS: usize = 64 * 1024;

/// Why a segment, or a recipient of it, cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    #[error("cannot read segment {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write segment {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} cannot be used as a segment: {what}", path.display())]
    Unusable { path: PathBuf, what: &'static str },
    #[error(
        "segment {} is damaged at offset {offset} ({what}): recipients {first} to {} of it, which are \
         among rows {row_least} to {row_greatest} of the list, cannot be read; the others can",
        path.display(), first + count - 1
    )]
    Damaged {
        path: PathBuf,
        /// Where the damaged block begins in the file.
        offset: u64,
        first: u32,
        count: u32,
        row_least: u32,
        row_greatest: u32,
        what: &'static str,
    },
    #[error("segment {} has {len} recipients, none with the index {index}", path.display())]
    NoSuchRecipient { path: PathBuf, index: u32, len: u32 },
}

impl SegmentError {
    /// Whether other recipients of the segment can still be read.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::NoSuchRecipient { .. })
    }
}

/// Names of the template variables a recipient's fields stand for, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Columns(Vec<String>);

impl Columns {
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    pub fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name)
    }

    pub fn names(&self) -> &[String] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The recipients of one domain in one segment: `first..first + count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<'a> {
    pub domain: &'a str,
    pub first: u32,
    pub count: u32,
    /// So many of the first are in the test slice; all without a test.
    pub tested: u32,
}

/// One recipient, read in place.
#[derive(Debug, Clone)]
pub struct Recipient<'a> {
    pub id: RecipientId,
    /// 1-based data row, over all lists of the campaign.
    pub row: u64,
    pub address: AddressRef<'a>,
    text: &'a str,
    base: usize,
    ends: &'a [Number],
}

impl<'a> Recipient<'a> {
    /// The field of a column of [`Columns`], as it stood in the list; empty when there is no such column.
    pub fn field(&self, column: usize) -> &'a str {
        let Some([from, to]) = self.ends.get(column..column + 2) else { return "" };
        self.text.get(number(from) - self.base..number(to) - self.base).unwrap_or_default()
    }

    pub fn fields(&self) -> impl ExactSizeIterator<Item = &'a str> {
        let recipient = self.clone();
        (0..self.ends.len() - 1).map(move |column| recipient.field(column))
    }
}

struct Block {
    place: BlockPlace,
    /// Set when the block has been checked.
    parts: OnceLock<Parts>,
    /// Counted in `reached` since pages were last given back.
    resident: AtomicBool,
}

/// Where the parts of a block's archive are in it, so that only the first reading asks rkyv.
struct Parts {
    rows: Range<u32>,
    domain_firsts: Range<u32>,
    domain_ends: Range<u32>,
    domains: Range<u32>,
    ends: Range<u32>,
    texts: Range<u32>,
}

/// A little-endian number as it lies in the file.
type Number = [u8; 4];

/// A checked block.
struct View<'a> {
    octets: &'a [u8],
    parts: &'a Parts,
}

impl<'a> View<'a> {
    fn octets(&self, part: &Range<u32>) -> &'a [u8] {
        self.octets.get(part.start as usize..part.end as usize).unwrap_or_default()
    }

    fn numbers(&self, part: &Range<u32>) -> &'a [Number] {
        self.octets(part).as_chunks().0
    }
}

fn number(octets: &Number) -> usize {
    u32::from_le_bytes(*octets) as usize
}

/// One sealed file of recipients, mapped read-only; shared by all who read it.
pub struct Segment {
    path: PathBuf,
    map: Mmap,
    number: u32,
    columns: Columns,
    totals: SegmentTotals,
    directory: Range<usize>,
    /// A recipient's index by row.
    rows: Range<usize>,
    rows_resident: Box<[AtomicBool]>,
    blocks: Box<[Block]>,
    reached: AtomicU64,
    resident_max: AtomicU64,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.path)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Maps a sealed file and checks all of it but the blocks.
    ///
    /// # Errors
    /// A file that cannot be read, is not a whole segment, or whose header or directory is damaged.
    pub fn open(path: &Path) -> Result<Self, SegmentError> {
        let unreadable = |source| SegmentError::Read { path: path.into(), source };
        let unusable = |what| SegmentError::Unusable { path: path.into(), what };
        let map = mapped::map_read(&File::open(path).map_err(unreadable)?).map_err(unreadable)?;
        let (number, header) = read_preamble(&map).map_err(unusable)?;
        let tail = map.len().checked_sub(TRAILER_OCTETS).ok_or(unusable("it is cut short"))?;
        let directory = read_trailer(&map[tail..]).map_err(unusable)?;
        let header = framed(&map, header).ok_or(unusable("the checksum of its header is wrong"))?;
        let directory = framed(&map, directory).ok_or(unusable("the checksum of its directory is wrong"))?;
        let Header { columns } = rkyv::access::<ArchivedHeader, Failure>(&map[header])
            .and_then(rkyv::deserialize)
            .map_err(|_| unusable("its header is malformed"))?;
        let Directory { totals, blocks, rows, .. } =
            rkyv::access::<ArchivedDirectory, Failure>(&map[directory.clone()])
                .and_then(rkyv::deserialize)
                .map_err(|_| unusable("its directory is malformed"))?;
        let rows = framed(&map, rows).ok_or(unusable("the checksum of its rows is wrong"))?;
        if !is_consistent(&totals, &blocks, rows.start) || rows.len() as u64 != totals.rows() * 4 {
            return Err(unusable("its directory contradicts itself"));
        }
        mapped::drop_resident(&map).map_err(unreadable)?;
        let blocks = blocks
            .into_iter()
            .map(|place| Block { place, parts: OnceLock::new(), resident: AtomicBool::new(false) })
            .collect();
        Ok(Self {
            path: path.into(),
            map,
            number,
            columns: Columns(columns),
            totals,
            directory,
            rows_resident: (0..rows.len().div_ceil(WINDOW_OCTETS)).map(|_| AtomicBool::new(false)).collect(),
            rows,
            blocks,
            reached: AtomicU64::new(0),
            resident_max: AtomicU64::new(RESIDENT_OCTETS_MAX),
        })
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    /// Recipients; those of rows that were rejected, left out, duplicate or suppressed are not among them.
    pub fn len(&self) -> u32 {
        self.totals.accepted as u32
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    pub fn totals(&self) -> &SegmentTotals {
        &self.totals
    }

    /// The domains of the segment in order of name, each with its recipients.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span<'_>> {
        let directory = self.directory();
        let spans = directory.map_or(0, |directory| directory.span_firsts.len());
        (0..spans).map(move |at| directory.and_then(|directory| self.span(directory, at)).unwrap_or(NO_SPAN))
    }

    /// The recipient at `index`, checking its block if it is the first of it to be asked for.
    ///
    /// # Errors
    /// A damaged block (which leaves the others readable), an index past the end.
    pub fn recipient(&self, index: u32) -> Result<Recipient<'_>, SegmentError> {
        let no_such = || SegmentError::NoSuchRecipient { path: self.path.clone(), index, len: self.len() };
        let at = self.block_of(index).ok_or_else(no_such)?;
        let block = self.block(at)?;
        let within = index - self.blocks[at].place.first;
        self.read(&block, within as usize, index)
            .ok_or_else(|| self.damage(&self.blocks[at].place, "it does not hold what its directory says"))
    }

    /// The recipient a row of the list became; `None` when it was refused or is not of this segment.
    ///
    /// # Errors
    /// As [`Self::recipient`].
    pub fn recipient_of_row(&self, row: u64) -> Result<Option<Recipient<'_>>, SegmentError> {
        let found = row.checked_sub(self.totals.first_row).and_then(|at| {
            let at = self.rows.start + usize::try_from(at).ok()? * size_of::<u32>();
            let octets = self.map.get(at..at + size_of::<u32>()).filter(|_| at < self.rows.end)?;
            self.touch(&self.rows_resident[(at - self.rows.start) / WINDOW_OCTETS], WINDOW_OCTETS as u64);
            Some(u32::from_le_bytes(octets.try_into().ok()?))
        });
        found.filter(|&index| index != NO_RECIPIENT).map(|index| self.recipient(index)).transpose()
    }

    /// From which list a row is, by its place in the campaign (the seeds come after the last), and which row
    /// of it; `None` when the row is not of this segment.
    pub fn origin_of_row(&self, row: u64) -> Option<(u16, u64)> {
        if !(self.totals.first_row..=self.totals.last_row).contains(&row) {
            return None;
        }
        let origins = &self.directory()?.origins;
        let after = origins.partition_point(|origin| origin.first_row.to_native() <= row);
        let origin = origins.get(after.checked_sub(1)?)?;
        Some((origin.list.to_native(), origin.list_row.to_native() + row - origin.first_row.to_native()))
    }

    /// Where its rows are from, and how many each time, in order; nothing where whoever filled it did not say.
    pub(crate) fn origins(&self) -> Vec<(Origin, u64)> {
        let archived = self.directory().map_or(&[][..], |directory| directory.origins.as_slice());
        let native = |origin: &ArchivedOrigin| Origin {
            first_row: origin.first_row.to_native(),
            list: origin.list.to_native(),
            list_row: origin.list_row.to_native(),
        };
        let ends = archived.iter().skip(1).map(|next| next.first_row.to_native());
        let ends = ends.chain([self.totals.last_row + 1]);
        let origins = archived.iter().map(native).zip(ends);
        origins.map(|(origin, end)| (origin, end.saturating_sub(origin.first_row))).collect()
    }

    /// Pages of about so many octets may stay in memory before they are given back.
    pub(crate) fn set_resident_max(&self, octets: u64) {
        self.resident_max.store(octets, Ordering::Relaxed);
    }

    /// Gives the memory of what was read back to the system; reading again is a page fault.
    pub fn drop_resident(&self) {
        self.reached.store(0, Ordering::Relaxed);
        let blocks = self.blocks.iter().map(|block| &block.resident);
        blocks.chain(&self.rows_resident).for_each(|resident| resident.store(false, Ordering::Relaxed));
        // It is only advice: were it refused, the pages would stay until memory is short.
        let _ = mapped::drop_resident(&self.map);
    }

    /// The directory, which `open` has checked; only the file shrinking under us could lose it.
    fn directory(&self) -> Option<&ArchivedDirectory> {
        rkyv::access::<ArchivedDirectory, Failure>(self.map.get(self.directory.clone())?).ok()
    }

    /// The domain of the recipient at `index`.
    pub fn domain_of(&self, index: u32) -> Option<&str> {
        let directory = self.directory()?;
        let after = directory.span_firsts.partition_point(|first| first.to_native() <= index);
        let span = self.span(directory, after.checked_sub(1)?)?;
        (index - span.first < span.count).then_some(span.domain)
    }

    fn span<'a>(&self, directory: &'a ArchivedDirectory, at: usize) -> Option<Span<'a>> {
        let from = if at == 0 { 0 } else { directory.span_ends.get(at - 1)?.to_native() };
        let to = directory.span_ends.get(at)?.to_native();
        let name = directory.span_names.get(from as usize..to as usize)?;
        let first = directory.span_firsts.get(at)?.to_native();
        let next = directory.span_firsts.get(at + 1).map_or(self.len(), |next| next.to_native());
        let count = next.checked_sub(first)?;
        let tested = directory.span_tests.get(at).map_or(count, |tested| tested.to_native()).min(count);
        Some(Span { domain: std::str::from_utf8(name).ok()?, first, count, tested })
    }

    fn block_of(&self, index: u32) -> Option<usize> {
        if index >= self.len() {
            return None;
        }
        self.blocks.partition_point(|block| block.place.first <= index).checked_sub(1)
    }

    fn block(&self, at: usize) -> Result<View<'_>, SegmentError> {
        let Block { place, parts, resident } = &self.blocks[at];
        self.touch(resident, place.octets.into());
        let octets = &self.map[place.offset as usize..place.offset as usize + place.octets as usize];
        let parts = match parts.get() {
            Some(parts) => parts,
            None => {
                let checked = check_block(octets, place, self.columns.len());
                let checked = checked.map_err(|what| self.damage(place, what))?;
                parts.get_or_init(|| checked)
            }
        };
        Ok(View { octets, parts })
    }

    /// Counts what is about to be read as resident, giving everything back first when it is too much.
    fn touch(&self, resident: &AtomicBool, octets: u64) {
        if resident.load(Ordering::Relaxed) {
            return;
        }
        if self.reached.fetch_add(octets, Ordering::Relaxed) + octets
            > self.resident_max.load(Ordering::Relaxed)
        {
            self.drop_resident();
            self.reached.fetch_add(octets, Ordering::Relaxed);
        }
        resident.store(true, Ordering::Relaxed);
    }

    fn read<'a>(&self, block: &View<'a>, within: usize, index: u32) -> Option<Recipient<'a>> {
        let parts = block.parts;
        let per = self.columns.len() + 1;
        let ends = block.numbers(&parts.ends);
        let base = if within == 0 { 0 } else { number(ends.get(within * per - 1)?) };
        let ends = ends.get(within * per..(within + 1) * per)?;
        let text = block.octets(&parts.texts).get(base..number(ends.last()?))?;
        let text = std::str::from_utf8(text).ok()?;
        let firsts = block.numbers(&parts.domain_firsts);
        let domain = firsts.partition_point(|first| number(first) <= within).checked_sub(1)?;
        let domain_ends = block.numbers(&parts.domain_ends);
        let from = if domain == 0 { 0 } else { number(domain_ends.get(domain - 1)?) };
        let name = block.octets(&parts.domains).get(from..number(domain_ends.get(domain)?))?;
        let local = text.get(..number(ends.first()?) - base)?;
        Some(Recipient {
            id: RecipientId::new(self.number, index),
            row: number(block.numbers(&parts.rows).get(within)?) as u64,
            address: AddressRef::from_stored(local, std::str::from_utf8(name).ok()?).ok()?,
            text,
            base,
            ends,
        })
    }

    fn damage(&self, place: &BlockPlace, what: &'static str) -> SegmentError {
        SegmentError::Damaged {
            path: self.path.clone(),
            offset: place.offset,
            first: place.first,
            count: place.count,
            row_least: place.row_least,
            row_greatest: place.row_greatest,
            what,
        }
    }
}

const NO_SPAN: Span<'static> = Span { domain: "", first: 0, count: 0, tested: 0 };

fn framed(map: &Mmap, Framed { offset, octets, crc }: Framed) -> Option<Range<usize>> {
    let from = usize::try_from(offset).ok()?;
    let place = from..from.checked_add(octets as usize)?;
    (crc32c::crc32c(map.get(place.clone())?) == crc).then_some(place)
}

/// Blocks follow each other in the file and in their recipients, before `end`.
fn is_consistent(totals: &SegmentTotals, blocks: &[BlockPlace], end: usize) -> bool {
    let (mut recipients, mut octets) = (0u64, 0u64);
    for block in blocks {
        if u64::from(block.first) != recipients || block.count == 0 || block.offset < octets {
            return false;
        }
        recipients += u64::from(block.count);
        octets = block.offset.saturating_add(block.octets.into());
    }
    recipients == totals.accepted && octets <= end as u64 && totals.adds_up()
}

/// Checks the octets of a block and finds its parts.
fn check_block(octets: &[u8], place: &BlockPlace, columns: usize) -> Result<Parts, &'static str> {
    if crc32c::crc32c(octets) != place.crc {
        return Err("wrong checksum");
    }
    let block = rkyv::access::<ArchivedBlock, Failure>(octets).map_err(|_| "not a block")?;
    check_shape(block, place, columns)?;
    // An empty part may be said to be anywhere.
    let part = |first: usize, len: usize| {
        let from = first.wrapping_sub(octets.as_ptr() as usize) as u32;
        if len == 0 { 0..0 } else { from..from + len as u32 }
    };
    let numbers = |numbers: &[u32_le]| part(numbers.as_ptr() as usize, size_of_val(numbers));
    let text = |text: &[u8]| part(text.as_ptr() as usize, text.len());
    Ok(Parts {
        rows: numbers(&block.rows),
        domain_firsts: numbers(&block.domain_firsts),
        domain_ends: numbers(&block.domain_ends),
        domains: text(&block.domains),
        ends: numbers(&block.ends),
        texts: text(&block.texts),
    })
}

/// What reading relies on: ends ascend and stay within the text, and all of it is UTF-8.
fn check_shape(block: &ArchivedBlock, place: &BlockPlace, columns: usize) -> Result<(), &'static str> {
    let recipients = place.count as usize;
    let ascends = |ends: &[u32_le], octets: usize| {
        ends.is_sorted() && ends.last().is_none_or(|end| end.to_native() as usize == octets)
    };
    if block.rows.len() != recipients || block.ends.len() != recipients * (columns + 1) {
        return Err("not as many recipients as its directory says");
    }
    if !ascends(&block.ends, block.texts.len()) || !ascends(&block.domain_ends, block.domains.len()) {
        return Err("a text ends before it begins");
    }
    let starts_at_0 = block.domain_firsts.first().is_some_and(|first| first.to_native() == 0);
    if !starts_at_0 || block.domain_firsts.len() != block.domain_ends.len() {
        return Err("a recipient without a domain");
    }
    let (texts, domains) = (std::str::from_utf8(&block.texts), std::str::from_utf8(&block.domains));
    let (Ok(texts), Ok(_)) = (texts, domains) else { return Err("a text that is not UTF-8") };
    if block.ends.iter().any(|end| !texts.is_char_boundary(end.to_native() as usize)) {
        return Err("a text that ends within a character");
    }
    Ok(())
}
