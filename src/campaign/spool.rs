//! The spool of a run: its sealed segments in order, read by many threads while more are added.
//!
//! Segment `n` is `NNNNNN.seg` in the folder, beginning with 0; their rows follow each other without a
//! gap. However many there are, together they keep about `RESIDENT_OCTETS` of what was read in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::campaign::segment::{Columns, Segment, SegmentError, SegmentTotals};
use crate::campaign::variants::Slice;

/// Octets of all segments that may stay resident: a good part of what sessions go back and forth in,
/// little beside the rest of the process.
const RESIDENT_OCTETS: u64 = 32 << 20;
/// Four blocks: below, a segment would give back what it is being read from.
const RESIDENT_OCTETS_MIN: u64 = 256 * 1024;

/// Why the segments of a folder are no spool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("cannot read the spool folder {}: {source}", folder.display())]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error("{} does not follow the segment before it: {what}", path.display())]
    OutOfOrder { path: PathBuf, what: &'static str },
    #[error("the spool has {} but segment {number} is missing", found.display())]
    Missing { number: u32, found: PathBuf },
}

/// The sealed segments of one run.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    segments: RwLock<Vec<Arc<Segment>>>,
    slice: Option<Slice>,
}

impl Spool {
    /// Opens every sealed segment of the folder, which is created if it is not there.
    ///
    /// # Errors
    /// A segment that cannot be opened, is missing among the others, or does not follow the one before.
    pub fn open(folder: &Path) -> Result<Self, SpoolError> {
        let unreadable = |source| SpoolError::Folder { folder: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(unreadable)?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if path.extension().is_some_and(|extension| extension == "seg")
                && let Some(number) = stem.and_then(|stem| stem.parse::<u32>().ok())
            {
                files.push((number, path));
            }
        }
        files.sort();
        let spool = Self { folder: folder.into(), segments: RwLock::default(), slice: None };
        for (expected, (number, path)) in (0..).zip(files) {
            if number != expected {
                return Err(SpoolError::Missing { number: expected, found: path });
            }
            spool.add(Arc::new(Segment::open(&path)?))?;
        }
        Ok(spool)
    }

    /// Segments that are added have the recipients of `slice` first in their domains.
    pub fn with_slice(self, slice: Option<Slice>) -> Self {
        Self { slice, ..self }
    }

    pub fn slice(&self) -> Option<Slice> {
        self.slice
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds the next segment.
    ///
    /// # Errors
    /// Its number, columns or rows do not follow those of the last.
    pub fn add(&self, segment: Arc<Segment>) -> Result<(), SpoolError> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = discontinuity(&segments, &segment) {
            return Err(SpoolError::OutOfOrder { path: segment.path().into(), what });
        }
        segments.push(segment);
        let share = (RESIDENT_OCTETS / segments.len() as u64).max(RESIDENT_OCTETS_MIN);
        segments.iter().for_each(|segment| segment.set_resident_max(share));
        Ok(())
    }

    pub fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.read().get(number as usize).cloned()
    }

    /// Segments.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The segments sealed so far.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Segment>> + use<> {
        self.read().clone().into_iter()
    }

    /// The columns every segment has; `None` before the first.
    pub fn columns(&self) -> Option<Columns> {
        self.read().first().map(|segment| segment.columns().clone())
    }

    /// Whether the whole list is in the spool.
    pub fn is_complete(&self) -> bool {
        self.read().last().is_some_and(|segment| segment.totals().last)
    }

    /// The sums over all segments; rows 1 to 0 when there is none.
    pub fn totals(&self) -> SegmentTotals {
        let mut sum = SegmentTotals { first_row: 1, ..SegmentTotals::default() };
        for totals in self.read().iter().map(|segment| segment.totals()) {
            sum.add_counts(totals);
            let SegmentTotals { last_row, rejected_bytes, input_bytes, last, .. } = *totals;
            sum = SegmentTotals { last_row, rejected_bytes, input_bytes, last, ..sum };
        }
        sum
    }

    /// The segment that stands for a row of the list.
    pub fn segment_of_row(&self, row: u64) -> Option<Arc<Segment>> {
        let segments = self.read();
        let at = segments.partition_point(|segment| segment.totals().last_row < row);
        segments.get(at).filter(|segment| segment.totals().first_row <= row).cloned()
    }

    /// Gives the memory of everything read back to the system.
    pub fn drop_resident(&self) {
        self.read().iter().for_each(|segment| segment.drop_resident());
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        // A push is whole or has not happened, so a panic elsewhere leaves nothing half done.
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn discontinuity(segments: &[Arc<Segment>], next: &Segment) -> Option<&'static str> {
    if next.number() as usize != segments.len() {
        return Some("its number is not the next");
    }
    let first_row = next.totals().first_row;
    let Some(last) = segments.last() else {
        return (first_row != 1).then_some("it does not begin with row 1");
    };
    if last.totals().last {
        return Some("the list ended with the one before");
    }
    if first_row != last.totals().last_row + 1 {
        return Some("rows are missing between them");
    }
    (next.columns() != last.columns()).then_some("its columns are others")
}
