//! A segment while it is being filled, in the order rows come, and the sealing of it into a file.
//!
//! Sealing groups the recipients by domain (a counting sort; within a domain the test slice, if there is
//! one, comes first, and rows keep their order within both parts),
//! archives them block by block into a file of another name, syncs it, renames it and syncs the folder:
//! under its final name a segment is whole or absent. Knows nothing of lists.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hashbrown::HashTable;
use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::address::AddressRef;
use crate::campaign::archive::{
    ALIGNMENT, BLOCK_OCTETS, Block, BlockPlace, Directory, Framed, Header, NO_RECIPIENT, Origin,
    PREAMBLE_OCTETS, SegmentTotals, preamble, trailer,
};
use crate::campaign::row::ROW_OCTETS_MAX;
use crate::campaign::segment::{Columns, Segment, SegmentError};
use crate::campaign::variants::Slice;

/// Octets of text and of its ends after which a segment is sealed however few its rows, so that a list
/// of wide rows or of many columns takes no more memory than one of many rows; two of these exist at a time.
pub(crate) const SEGMENT_OCTETS_MAX: usize = 24 << 20;

/// Recipients on their way into a segment.
///
/// Every row of the list is told to it once, as a recipient or by `totals`.
#[derive(Debug)]
pub struct SegmentBuilder {
    columns: Columns,
    /// Kept by whoever fills the builder; `accepted` and `last_row` follow `push`.
    pub totals: SegmentTotals,
    texts: Vec<u8>,
    /// 1 + columns ends in `texts` a recipient, as in a block.
    ends: Vec<u32>,
    rows: Vec<u32>,
    domain_of: Vec<u32>,
    domains: DomainNames,
    origins: Vec<Origin>,
    slice: Option<Slice>,
    /// Whether a recipient is outside the slice; empty without one.
    outside: Vec<bool>,
}

/// Why a builder takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("row {0} is past the last a spool can number (4,294,967,295)")]
pub struct RowTooFar(pub u64);

impl SegmentBuilder {
    pub fn new(columns: &Columns, first_row: u64) -> Self {
        let totals = SegmentTotals { first_row, last_row: first_row - 1, ..SegmentTotals::default() };
        Self {
            columns: columns.clone(),
            totals,
            texts: Vec::new(),
            ends: Vec::new(),
            rows: Vec::new(),
            domain_of: Vec::new(),
            domains: DomainNames::default(),
            origins: Vec::new(),
            slice: None,
            outside: Vec::new(),
        }
    }

    /// Puts the recipients of a test slice before the others of their domains.
    pub fn with_slice(self, slice: Option<Slice>) -> Self {
        Self { slice, ..self }
    }

    /// Empties it for the rows from `first_row` on, and takes the memory that `rows` of them with so many
    /// octets of text will need: growing step by step leaves behind what was outgrown.
    pub(crate) fn restart(&mut self, first_row: u64, rows: usize, octets: usize) {
        self.totals = SegmentTotals { first_row, last_row: first_row - 1, ..SegmentTotals::default() };
        self.texts.clear();
        self.texts.reserve_exact(octets);
        self.ends.clear();
        let ends = rows.saturating_mul(self.columns.len() + 1);
        self.ends.reserve_exact(ends.min(SEGMENT_OCTETS_MAX / size_of::<u32>()));
        for numbers in [&mut self.rows, &mut self.domain_of] {
            numbers.clear();
            numbers.reserve_exact(rows);
        }
        self.outside.clear();
        self.domains.clear();
        self.origins.clear();
    }

    /// Says from where the next row is: before [`Self::push`] or what `totals` says of it.
    pub(crate) fn begin_row(&mut self, row: u64, list: u16, list_row: u64) {
        let follows = self.origins.last().is_some_and(|origin| {
            origin.list == list && row - origin.first_row == list_row - origin.list_row
        });
        if !follows {
            self.origins.push(Origin { first_row: row, list, list_row });
        }
        self.totals.last_row = row;
    }

    /// Adds a recipient with a field for each column, fewer being filled up with empty ones.
    ///
    /// # Errors
    /// A row number that 32 bits do not hold.
    pub fn push<'f>(
        &mut self,
        row: u64,
        address: &AddressRef<'_>,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> Result<(), RowTooFar> {
        let number = u32::try_from(row).map_err(|_| RowTooFar(row))?;
        self.texts.extend_from_slice(address.local().as_bytes());
        self.ends.push(self.texts.len() as u32);
        let mut fields = fields.into_iter();
        for _ in 0..self.columns.len() {
            self.texts.extend_from_slice(fields.next().unwrap_or_default().as_bytes());
            self.ends.push(self.texts.len() as u32);
        }
        self.rows.push(number);
        self.domain_of.push(self.domains.intern(address.domain()));
        let is_outside = self.slice.is_some_and(|slice| !slice.holds(address.key()));
        if self.slice.is_some() {
            self.outside.push(is_outside);
        }
        self.totals.accepted += 1;
        self.totals.tested += u64::from(!is_outside);
        self.totals.last_row = row;
        Ok(())
    }

    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn octets(&self) -> usize {
        self.texts.len() + self.ends.len() * size_of::<u32>()
    }

    /// Octets of text of `rows` rows such as these, an eighth more to be on the safe side.
    pub(crate) fn octets_expected(&self, rows: u64) -> usize {
        let octets = self.texts.len() as u64 * rows / self.totals.rows().max(1);
        ((octets + octets / 8) as usize).min(SEGMENT_OCTETS_MAX + ROW_OCTETS_MAX)
    }

    /// Whether the recipient who came from `row` is `address` (the local part without regard to case).
    pub(crate) fn holds(&self, row: u32, address: &AddressRef<'_>) -> bool {
        let Ok(at) = self.rows.binary_search(&row) else { return false };
        let local = self.local_place(at);
        self.domains.name(self.domain_of[at]) == address.domain().as_bytes()
            && self.texts[local].eq_ignore_ascii_case(address.local().as_bytes())
    }

    /// Writes the segment and opens it.
    ///
    /// # Errors
    /// Whatever kept it from being written and synced (a full disk, say); nothing is left of it then,
    /// unless the folder alone could not be synced.
    pub fn seal(&self, folder: &Path, number: u32) -> Result<Segment, SegmentError> {
        let path = segment_path(folder, number);
        let temporary = path.with_extension("seg.tmp");
        let written = self.write(&temporary, number).and_then(|()| {
            std::fs::rename(&temporary, &path)?;
            File::open(folder)?.sync_all()
        });
        if let Err(source) = written {
            // Should it stay, the next segment of this number overwrites it.
            let _ = std::fs::remove_file(&temporary);
            return Err(SegmentError::Write { path, source });
        }
        Segment::open(&path)
    }

    fn write(&self, path: &Path, number: u32) -> io::Result<()> {
        let header = rkyv::to_bytes::<rkyv::rancor::Error>(&Header { columns: self.columns.names().into() })
            .map_err(io::Error::other)?;
        let mut out = Out { file: File::create(path)?, offset: 0, scratch: AlignedVec::new() };
        out.write(&preamble(number, &header))?;
        out.write(&header)?;
        let directory = self.write_blocks(&mut out)?;
        let directory = out.archive(&directory)?;
        out.write(&trailer(directory))?;
        out.file.sync_all()
    }

    fn write_blocks(&self, out: &mut Out) -> io::Result<Directory> {
        let (domains, order) = self.by_domain();
        let mut recipients = vec![NO_RECIPIENT; self.totals.rows() as usize];
        let mut directory = Directory {
            totals: self.totals,
            blocks: Vec::new(),
            span_firsts: Vec::with_capacity(domains.len()),
            span_ends: Vec::with_capacity(domains.len()),
            span_names: Vec::new(),
            span_tests: Vec::new(),
            rows: Framed::default(),
            origins: self.origins.clone(),
        };
        let mut block = Block::default();
        let mut written = 0;
        let mut span_domain = None;
        let mut block_domain = None;
        for (index, &recipient) in order.iter().enumerate() {
            let at = recipient as usize;
            let domain = self.domain_of[at];
            if span_domain.replace(domain) != Some(domain) {
                directory.span_names.extend_from_slice(self.domains.name(domain));
                directory.span_ends.push(directory.span_names.len() as u32);
                directory.span_firsts.push(index as u32);
                if self.slice.is_some() {
                    directory.span_tests.push(0);
                }
            }
            if let Some(tested) = directory.span_tests.last_mut() {
                *tested += u32::from(!self.outside[at]);
            }
            if block_domain.replace(domain) != Some(domain) {
                block.domain_firsts.push(block.rows.len() as u32);
                block.domains.extend_from_slice(self.domains.name(domain));
                block.domain_ends.push(block.domains.len() as u32);
            }
            self.copy_recipient(at, &mut block);
            recipients[self.rows[at] as usize - self.totals.first_row as usize] = index as u32;
            if block.octets() >= BLOCK_OCTETS || index + 1 == order.len() {
                directory.blocks.push(out.block(&block, written)?);
                written = index as u32 + 1;
                block.clear();
                block_domain = None;
            }
        }
        directory.rows = out.numbers(&recipients)?;
        Ok(directory)
    }

    /// Domain numbers in order of name, and recipients in that order, those of the slice first, rows
    /// ascending within.
    fn by_domain(&self) -> (Vec<u32>, Vec<u32>) {
        let mut domains: Vec<u32> = (0..self.domains.len() as u32).collect();
        domains.sort_unstable_by_key(|&domain| self.domains.name(domain));
        let parts = if self.slice.is_some() { 2 } else { 1 };
        let part = |recipient: usize, domain: u32| {
            let is_outside = self.outside.get(recipient).copied().unwrap_or(false);
            domain as usize * parts + usize::from(is_outside)
        };
        let mut next = vec![0u32; domains.len() * parts];
        for (recipient, &domain) in self.domain_of.iter().enumerate() {
            next[part(recipient, domain)] += 1;
        }
        let mut first = 0;
        for &domain in &domains {
            for count in &mut next[domain as usize * parts..(domain as usize + 1) * parts] {
                first += std::mem::replace(count, first);
            }
        }
        let mut order = vec![0; self.rows.len()];
        for (recipient, &domain) in self.domain_of.iter().enumerate() {
            let place = &mut next[part(recipient, domain)];
            order[*place as usize] = recipient as u32;
            *place += 1;
        }
        (domains, order)
    }

    fn copy_recipient(&self, at: usize, block: &mut Block) {
        let per = self.columns.len() + 1;
        let begin = self.local_place(at).start;
        let ends = &self.ends[at * per..(at + 1) * per];
        let shift = block.texts.len() as u32;
        block.ends.extend(ends.iter().map(|end| end - begin as u32 + shift));
        block.texts.extend_from_slice(&self.texts[begin..ends[per - 1] as usize]);
        block.rows.push(self.rows[at]);
    }

    /// Where the local part of a recipient stands in `texts`.
    fn local_place(&self, at: usize) -> std::ops::Range<usize> {
        let per = self.columns.len() + 1;
        let begin = if at == 0 { 0 } else { self.ends[at * per - 1] };
        begin as usize..self.ends[at * per] as usize
    }
}

/// The file name of a segment: six digits, or more from a million on.
pub(crate) fn segment_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:06}.seg"))
}

/// The file being written, and memory to archive in.
struct Out {
    file: File,
    offset: u64,
    scratch: AlignedVec<ALIGNMENT>,
}

impl Out {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.file.write_all(octets)?;
        self.offset += octets.len() as u64;
        Ok(())
    }

    /// Numbers one after the other, to be found by their place alone.
    fn numbers(&mut self, numbers: &[u32]) -> io::Result<Framed> {
        let octets: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let place = Framed { offset: self.offset, octets: octets.len() as u32, crc: crc32c::crc32c(&octets) };
        self.write(&octets)?;
        Ok(place)
    }

    fn archive<T>(&mut self, value: &T) -> io::Result<Framed>
    where
        T: for<'a> rkyv::Serialize<Archiving<'a>>,
    {
        const _: () = assert!(PREAMBLE_OCTETS.is_multiple_of(ALIGNMENT));
        let padding = (self.offset as usize).next_multiple_of(ALIGNMENT) - self.offset as usize;
        self.write(&[0; ALIGNMENT][..padding])?;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let archive = rkyv::api::high::to_bytes_in::<_, Failure>(value, scratch)
            .map_err(|_| io::Error::other("archiving failed"))?;
        let (offset, octets) = (self.offset, archive.len() as u32);
        let crc = crc32c::crc32c(&archive);
        let written = self.write(&archive);
        self.scratch = archive;
        written.map(|()| Framed { offset, octets, crc })
    }

    fn block(&mut self, block: &Block, first: u32) -> io::Result<BlockPlace> {
        let Framed { offset, octets, crc } = self.archive(block)?;
        let (mut row_least, mut row_greatest) = (u32::MAX, 0);
        for &row in &block.rows {
            row_least = row_least.min(row);
            row_greatest = row_greatest.max(row);
        }
        Ok(BlockPlace { offset, octets, crc, first, count: block.rows.len() as u32, row_least, row_greatest })
    }
}

type Archiving<'a> =
    rkyv::api::high::HighSerializer<AlignedVec<ALIGNMENT>, rkyv::ser::allocator::ArenaHandle<'a>, Failure>;

/// The domain names of a segment, each once, numbered as they came.
#[derive(Debug, Default)]
struct DomainNames {
    names: Vec<u8>,
    ends: Vec<u32>,
    numbers: HashTable<u32>,
}

impl DomainNames {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn clear(&mut self) {
        self.names.clear();
        self.ends.clear();
        self.numbers.clear();
    }

    fn name(&self, number: u32) -> &[u8] {
        name_at(&self.names, &self.ends, number)
    }

    fn intern(&mut self, name: &str) -> u32 {
        let Self { names, ends, numbers } = self;
        let hash = xxh3_64(name.as_bytes());
        let known = numbers.find(hash, |&number| name_at(names, ends, number) == name.as_bytes());
        if let Some(&number) = known {
            return number;
        }
        let number = ends.len() as u32;
        names.extend_from_slice(name.as_bytes());
        ends.push(names.len() as u32);
        numbers.insert_unique(hash, number, |&number| xxh3_64(name_at(names, ends, number)));
        number
    }
}

fn name_at<'a>(names: &'a [u8], ends: &[u32], number: u32) -> &'a [u8] {
    let from = if number == 0 { 0 } else { ends[number as usize - 1] };
    &names[from as usize..ends[number as usize] as usize]
}
