//! Import: a list becomes sealed segments, the first of them within a moment.
//!
//! ```text
//! list (reading, decompressing) → import (parsing, suppression, duplicates) → seal (sorting, writing)
//! ```
//!
//! One thread each, and never more than two segments in memory, one being filled while one is sealed;
//! whoever takes the sealed segments slowly slows all of it down to the file cursor. Segments stand for
//! contiguous ranges of rows and record how long `rejected.csv` and the list were at their end, so
//! that a stopped import goes on from the last sealed segment. Knows nothing of what is done with
//! recipients.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::address::AddressRef;
use crate::campaign::builder::{RowTooFar, SEGMENT_OCTETS_MAX, SegmentBuilder};
use crate::campaign::duplicates::Duplicates;
use crate::campaign::list::{List, ListError, Step};
use crate::campaign::rejected::RejectedRows;
use crate::campaign::row::{Row, RowError};
use crate::campaign::segment::{Segment, SegmentError, SegmentTotals};
use crate::campaign::spool::{Spool, SpoolError};
use crate::suppression::{Entries, Suppression};

/// Rows of the first segment: what is parsed in some ten milliseconds.
const FIRST_ROWS: u64 = 4_096;
/// Rows of the largest segments, and with [`SEGMENT_OCTETS_MAX`] the memory of an import.
const ROWS_MAX: u64 = 262_144;
/// How long the first row of the first segment waits for others in a slow pipe.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// The same for later segments, lest a trickle of rows become a flood of files.
const PATIENCE_MAX: Duration = Duration::from_secs(64);
const GROWTH: u32 = 4;
/// Rows between two looks at the clock, the stop flag and the suppression list.
const ROWS_A_LOOK: u64 = 1_024;
/// How long a wait for rows may keep a stop from being seen.
const WAIT: Duration = Duration::from_millis(50);

/// What an import works with.
#[derive(Debug)]
pub struct ImportJob<'a> {
    /// Opened, no row read yet.
    pub list: List,
    /// Receives the segments; those it holds already are not imported again.
    pub spool: &'a Spool,
    /// Where refused rows go.
    pub rejected: PathBuf,
    pub suppression: &'a Suppression,
    /// More refused rows than this stop the import.
    pub rejected_max: Option<u64>,
    /// Set to stop: what is not sealed yet is given up and read again when the run is resumed.
    pub stop: &'a AtomicBool,
    pub progress: &'a ImportProgress,
}

/// How far an import is, for those who watch; rows count from the beginning of the list.
#[derive(Debug, Default)]
pub struct ImportProgress {
    pub rows: AtomicU64,
    pub invalid: AtomicU64,
    pub duplicate: AtomicU64,
    pub suppressed: AtomicU64,
    pub accepted: AtomicU64,
    /// Octets read of the file as it is on disk, and their number; 0 when that is not known.
    pub read_octets: AtomicU64,
    pub file_octets: AtomicU64,
}

/// What became of a list. `rows = invalid + duplicate + suppressed + accepted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportTotals {
    pub rows: u64,
    pub invalid: u64,
    pub duplicate: u64,
    pub suppressed: u64,
    pub accepted: u64,
    /// The list was read to its end; otherwise the import was stopped.
    pub complete: bool,
}

/// Why an import ended before the list did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("cannot write {}: {source}", path.display())]
    Rejected { path: PathBuf, source: io::Error },
    #[error("{rejected} rows were refused, the campaign allows {max}; see {}", path.display())]
    TooManyRejected { rejected: u64, max: u64, path: PathBuf },
    #[error(
        "the list has changed since the run began ({what}): the run goes on with the list as it was, or \
         a new run takes the new list"
    )]
    ListChanged { what: String },
    #[error(transparent)]
    TooLong(#[from] RowTooFar),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Reads the list to its end, sealing segments into the spool and giving each to `on_segment`.
///
/// Blocks, so it needs a thread of its own. `on_segment` runs on the sealing thread; while it waits,
/// sealing waits, and soon reading. Breaking from it stops the import. Not cancel safe but by
/// `stop`, which is seen within 50 ms unless `on_segment` waits.
///
/// # Errors
/// What ended it early; sealed segments stay good and the import can be resumed from them.
pub fn import(
    job: ImportJob<'_>,
    on_segment: impl FnMut(Arc<Segment>) -> ControlFlow<()> + Send,
) -> Result<ImportTotals, ImportError> {
    let ImportJob { list, spool, rejected: rejected_path, suppression, rejected_max, stop, progress } = job;
    if spool.is_complete() {
        progress.show(&spool.totals(), &list);
        return Ok(ImportTotals::of(&spool.totals(), true));
    }
    let unwritable = |source| ImportError::Rejected { path: rejected_path.clone(), source };
    let rejected = RejectedRows::open(&rejected_path, spool.totals().rejected_bytes).map_err(unwritable)?;
    let rejected_file = rejected.file().map_err(unwritable)?;
    let halt = AtomicBool::new(false);
    let (orders, order_queue) = sync_channel(0);
    thread::scope(|scope| {
        let sealer = Sealer { spool, rejected: rejected_file, halt: &halt, on_segment };
        let sealing = thread::Builder::new()
            .name("seal".into())
            .spawn_scoped(scope, || sealer.run(order_queue))
            .map_err(ImportError::Thread)?;
        let mut import = Import {
            builder: SegmentBuilder::new(list.columns(), spool.totals().last_row + 1),
            sealing: None,
            before: spool.totals(),
            duplicates: Duplicates::new(),
            unread: HashSet::new(),
            size: SegmentSize::default(),
            opened: None,
            suppressed: suppression.entries(),
            rejected,
            rejected_path,
            rejected_max,
            orders,
            next_number: spool.len() as u32,
            spool,
            suppression,
            halts: [stop, &halt],
            progress,
        };
        let read = import.resume(list).and_then(|list| match list {
            Some(list) => import.run(list),
            None => Ok(false),
        });
        // Without the sender of orders the sealer ends, after the last segment is in the spool.
        drop(import);
        sealing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(ImportTotals::of(&spool.totals(), read?))
    })
}

/// The parsing side of an import.
struct Import<'a> {
    builder: SegmentBuilder,
    /// The segment in the sealer's hands.
    sealing: Option<Arc<SegmentBuilder>>,
    /// Sums of all segments before `builder`.
    before: SegmentTotals,
    duplicates: Duplicates,
    /// Keys of the rows that damaged blocks may have held: they stand in no duplicates, since nobody
    /// could look them up.
    unread: HashSet<u128>,
    size: SegmentSize,
    /// When the first row of `builder` came.
    opened: Option<Instant>,
    suppressed: Arc<Entries>,
    rejected: RejectedRows,
    rejected_path: PathBuf,
    rejected_max: Option<u64>,
    orders: SyncSender<Order>,
    next_number: u32,
    spool: &'a Spool,
    suppression: &'a Suppression,
    halts: [&'a AtomicBool; 2],
    progress: &'a ImportProgress,
}

impl Import<'_> {
    /// Passes the rows that are sealed already and learns their addresses. `None` when told to stop.
    fn resume(&mut self, mut list: List) -> Result<Option<List>, ImportError> {
        let SegmentTotals { last_row, input_bytes, .. } = self.before;
        if last_row == 0 {
            return Ok(Some(list));
        }
        if self.spool.columns().is_some_and(|columns| columns != *list.columns()) {
            return Err(ImportError::ListChanged { what: "its columns are others".into() });
        }
        let mut damaged = Vec::new();
        for segment in self.spool.iter() {
            self.learn(&segment, &mut damaged)?;
            if self.is_halted() {
                return Ok(None);
            }
        }
        while list.rows() < last_row {
            match list.next(WAIT)? {
                Step::Row(row) => {
                    if damaged.iter().any(|rows| rows.contains(&row.number))
                        && let Ok((address, _)) = row.read()
                    {
                        self.unread.insert(address.key());
                    }
                    if !row.number.is_multiple_of(ROWS_A_LOOK) {
                        continue;
                    }
                }
                Step::End => {
                    let what = format!("it has {} rows, {last_row} were imported", list.rows());
                    return Err(ImportError::ListChanged { what });
                }
                Step::Waiting => {}
            }
            if self.is_halted() {
                return Ok(None);
            }
        }
        if list.position() != input_bytes {
            let what = format!(
                "its first {last_row} rows are {} octets long, they were {input_bytes}",
                list.position()
            );
            return Err(ImportError::ListChanged { what });
        }
        Ok(Some(list))
    }

    /// Rows that a damaged block may have held are added to `damaged`.
    fn learn(
        &mut self,
        segment: &Segment,
        damaged: &mut Vec<RangeInclusive<u64>>,
    ) -> Result<(), SegmentError> {
        let mut index = 0;
        while index < segment.len() {
            let recipient = match segment.recipient(index) {
                Ok(recipient) => recipient,
                Err(SegmentError::Damaged { first, count, row_least, row_greatest, .. }) => {
                    damaged.push(u64::from(row_least)..=u64::from(row_greatest));
                    index = first + count;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // They were told apart when they were accepted.
            self.duplicates
                .add(recipient.address.key(), recipient.row as u32, |_| Ok::<_, SegmentError>(false))?;
            index += 1;
        }
        segment.drop_resident();
        Ok(())
    }

    /// Reads to the end of the list. Returns whether it got there.
    fn run(&mut self, mut list: List) -> Result<bool, ImportError> {
        loop {
            match list.next(WAIT)? {
                Step::Row(row) => {
                    let number = row.number;
                    self.take(&row)?;
                    if !number.is_multiple_of(ROWS_A_LOOK) && !self.is_full() {
                        continue;
                    }
                }
                Step::Waiting => {}
                Step::End => break,
            }
            if self.is_halted() {
                return Ok(false);
            }
            self.builder.totals.input_bytes = list.position();
            self.show(&list);
            self.suppressed = self.suppression.entries();
            if self.is_full() || self.opened.is_some_and(|opened| opened.elapsed() >= self.size.patience) {
                self.seal(false)?;
            }
        }
        self.builder.totals.input_bytes = list.position();
        self.show(&list);
        self.seal(true)?;
        Ok(true)
    }

    /// Makes of a row exactly one thing: invalid, suppressed, duplicate or accepted.
    fn take(&mut self, row: &Row<'_>) -> Result<(), ImportError> {
        if self.opened.is_none() {
            self.opened = Some(Instant::now());
        }
        self.builder.totals.last_row = row.number;
        let (address, fields) = match row.read() {
            Ok(read) => read,
            Err(reason) => return self.reject(row, &reason),
        };
        let key = address.key();
        if self.suppressed.covers(key, address.domain()).is_some() {
            self.builder.totals.suppressed += 1;
            return Ok(());
        }
        let number = u32::try_from(row.number).map_err(|_| RowTooFar(row.number))?;
        let earlier = Earlier { builder: &self.builder, sealing: self.sealing.as_deref(), spool: self.spool };
        let is_new = !self.unread.contains(&key)
            && self.duplicates.add(key, number, |row| earlier.holds(row, &address))?;
        if is_new {
            self.builder.push(row.number, &address, fields.iter())?;
        } else {
            self.builder.totals.duplicate += 1;
        }
        Ok(())
    }

    fn reject(&mut self, row: &Row<'_>, reason: &RowError) -> Result<(), ImportError> {
        self.builder.totals.invalid += 1;
        self.rejected.add(row, reason).map_err(|source| self.unwritable(source))?;
        let rejected = self.before.invalid + self.builder.totals.invalid;
        match self.rejected_max {
            Some(max) if rejected > max => {
                self.rejected.flush().map_err(|source| self.unwritable(source))?;
                Err(ImportError::TooManyRejected { rejected, max, path: self.rejected_path.clone() })
            }
            _ => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        self.builder.totals.rows() >= self.size.rows || self.builder.octets() >= SEGMENT_OCTETS_MAX
    }

    /// Hands what is there to the sealer, waiting until it is done with the segment before.
    fn seal(&mut self, last: bool) -> Result<(), ImportError> {
        self.builder.totals.last = last;
        self.builder.totals.rejected_bytes =
            self.rejected.flush().map_err(|source| self.unwritable(source))?;
        let totals = self.builder.totals;
        let next = SegmentBuilder::new(self.builder.columns(), totals.last_row + 1);
        let full = Arc::new(std::mem::replace(&mut self.builder, next));
        let order = Order { builder: Arc::clone(&full), number: self.next_number };
        if self.orders.send(order).is_err() {
            // The sealer has ended, and its result says why.
            return Ok(());
        }
        self.next_number += 1;
        self.before.invalid += totals.invalid;
        self.before.duplicate += totals.duplicate;
        self.before.suppressed += totals.suppressed;
        self.before.accepted += totals.accepted;
        self.before.last_row = totals.last_row;
        self.size.grow();
        self.opened = None;
        let octets = full.octets_expected(self.size.rows);
        if let Some(done) = self.sealing.replace(full).and_then(Arc::into_inner) {
            self.builder = done;
        }
        self.builder.restart(totals.last_row + 1, self.size.rows as usize, octets);
        Ok(())
    }

    fn is_halted(&self) -> bool {
        self.halts.iter().any(|halt| halt.load(Ordering::Relaxed))
    }

    fn show(&self, list: &List) {
        let mut sum = self.before;
        let totals = &self.builder.totals;
        sum.invalid += totals.invalid;
        sum.duplicate += totals.duplicate;
        sum.suppressed += totals.suppressed;
        sum.accepted += totals.accepted;
        sum.last_row = totals.last_row;
        self.progress.show(&sum, list);
    }

    fn unwritable(&self, source: io::Error) -> ImportError {
        ImportError::Rejected { path: self.rejected_path.clone(), source }
    }
}

/// Where an accepted row is looked up again: being filled, being sealed, or sealed.
struct Earlier<'a> {
    builder: &'a SegmentBuilder,
    sealing: Option<&'a SegmentBuilder>,
    spool: &'a Spool,
}

impl Earlier<'_> {
    fn holds(&self, row: u32, address: &AddressRef<'_>) -> Result<bool, SegmentError> {
        let number = u64::from(row);
        if number >= self.builder.totals.first_row {
            return Ok(self.builder.holds(row, address));
        }
        if let Some(sealing) = self.sealing.filter(|sealing| number >= sealing.totals.first_row) {
            return Ok(sealing.holds(row, address));
        }
        let Some(segment) = self.spool.segment_of_row(number) else { return Ok(false) };
        let recipient = segment.recipient_of_row(number)?;
        Ok(recipient.is_some_and(|known| is_same(&known.address, address)))
    }
}

/// As [`AddressRef::key`] has it: the local part counts without regard to case.
fn is_same(one: &AddressRef<'_>, other: &AddressRef<'_>) -> bool {
    one.domain() == other.domain() && one.local().eq_ignore_ascii_case(other.local())
}

/// How large the next segment gets, and how long it may take.
#[derive(Debug, Clone, Copy)]
struct SegmentSize {
    rows: u64,
    patience: Duration,
}

impl Default for SegmentSize {
    fn default() -> Self {
        Self { rows: FIRST_ROWS, patience: FIRST_PATIENCE }
    }
}

impl SegmentSize {
    fn grow(&mut self) {
        self.rows = (self.rows * u64::from(GROWTH)).min(ROWS_MAX);
        self.patience = (self.patience * GROWTH).min(PATIENCE_MAX);
    }
}

struct Order {
    builder: Arc<SegmentBuilder>,
    number: u32,
}

/// The sealing side.
struct Sealer<'a, F> {
    spool: &'a Spool,
    rejected: File,
    halt: &'a AtomicBool,
    on_segment: F,
}

impl<F: FnMut(Arc<Segment>) -> ControlFlow<()>> Sealer<'_, F> {
    fn run(mut self, orders: Receiver<Order>) -> Result<(), ImportError> {
        for order in orders {
            let sealed = self.seal(order);
            let onward = sealed.map(|segment| (self.on_segment)(segment));
            if !matches!(onward, Ok(ControlFlow::Continue(()))) {
                self.halt.store(true, Ordering::Relaxed);
                return onward.map(|_| ());
            }
        }
        Ok(())
    }

    fn seal(&mut self, order: Order) -> Result<Arc<Segment>, ImportError> {
        // What a segment says of rejected.csv must be on disk before the segment is.
        let Order { builder, number } = order;
        let sealed = self.rejected.sync_data();
        let segment = sealed
            .map_err(|source| SegmentError::Write { path: "rejected.csv".into(), source })
            .and_then(|()| builder.seal(self.spool.folder(), number))?;
        let segment = Arc::new(segment);
        self.spool.add(Arc::clone(&segment))?;
        Ok(segment)
    }
}

impl ImportProgress {
    fn show(&self, totals: &SegmentTotals, list: &List) {
        self.rows.store(totals.last_row, Ordering::Relaxed);
        self.invalid.store(totals.invalid, Ordering::Relaxed);
        self.duplicate.store(totals.duplicate, Ordering::Relaxed);
        self.suppressed.store(totals.suppressed, Ordering::Relaxed);
        self.accepted.store(totals.accepted, Ordering::Relaxed);
        let (read, all) = list.progress();
        self.read_octets.store(read, Ordering::Relaxed);
        self.file_octets.store(all.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl ImportTotals {
    fn of(totals: &SegmentTotals, complete: bool) -> Self {
        let SegmentTotals { last_row, invalid, duplicate, suppressed, accepted, .. } = *totals;
        Self { rows: last_row, invalid, duplicate, suppressed, accepted, complete }
    }
}
