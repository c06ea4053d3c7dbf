//! Import: lists become sealed segments, the first of them within a moment.
//!
//! ```text
//! lists (reading, decompressing) → import (parsing, selection, duplicates) → seal (sorting, writing)
//! ```
//!
//! One thread each, and never more than two segments in memory, one being filled while one is sealed;
//! whoever takes the sealed segments slowly slows all of it down to the file cursor. Segments stand for
//! contiguous ranges of rows and record which rows of which list they are and how long `rejected.csv` and
//! the lists were at their end, so that a stopped import goes on from the last sealed segment. Knows nothing
//! of what is done with recipients.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::campaign::archive::LeftOut;
use crate::campaign::audience::Audience;
use crate::campaign::builder::{RowTooFar, SEGMENT_OCTETS_MAX, SegmentBuilder};
use crate::campaign::duplicates::Duplicates;
use crate::campaign::list::{ListError, Step};
use crate::campaign::lists::Lists;
use crate::campaign::rejected::RejectedRows;
use crate::campaign::row::{Row, RowError};
use crate::campaign::segment::{Segment, SegmentError, SegmentTotals};
use crate::campaign::selection::{Decision, Selection};
use crate::campaign::spool::{Spool, SpoolError};
use crate::suppression::{Entries, Suppression};

use ledger::{Earlier, Known};

mod ledger;
mod resume;

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
    pub audience: Audience,
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

/// How far an import is, for those who watch; rows count from the beginning of the first list.
#[derive(Debug, Default)]
pub struct ImportProgress {
    pub rows: AtomicU64,
    pub invalid: AtomicU64,
    pub left_out: AtomicU64,
    pub duplicate: AtomicU64,
    pub suppressed: AtomicU64,
    pub accepted: AtomicU64,
    /// Octets read of the files as they are on disk, and their number; 0 when that is not known.
    pub read_octets: AtomicU64,
    pub file_octets: AtomicU64,
}

/// What became of the lists. `rows = invalid + left_out.sum() + duplicate + suppressed + accepted`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportTotals {
    pub rows: u64,
    pub invalid: u64,
    pub left_out: LeftOut,
    pub duplicate: u64,
    pub suppressed: u64,
    pub accepted: u64,
    /// Of `accepted`: seeds.
    pub seeds: u64,
    /// The lists were read to their end; otherwise the import was stopped.
    pub complete: bool,
}

/// Why an import ended before the lists did.
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

/// Reads the lists to their end, sealing segments into the spool and giving each to `on_segment`.
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
    let ImportJob { audience, spool, rejected: rejected_path, suppression, rejected_max, stop, progress } =
        job;
    if spool.is_complete() {
        progress.show(&spool.totals(), &audience.lists);
        return Ok(ImportTotals::of(&spool.totals(), true));
    }
    let unwritable = |source| ImportError::Rejected { path: rejected_path.clone(), source };
    let called = |list| audience.called(list).map(|path| path.display().to_string());
    let names = (0..=audience.lists.len()).filter_map(called).collect();
    let rejected =
        RejectedRows::open(&rejected_path, spool.totals().rejected_bytes, names).map_err(unwritable)?;
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
            builder: SegmentBuilder::new(audience.columns(), spool.totals().last_row + 1)
                .with_slice(spool.slice()),
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
        let read = import.resume(audience).and_then(|audience| match audience {
            Some(audience) => import.run(audience),
            None => Ok(false),
        });
        // Without the sender of orders the sealer ends, after the last segment is in the spool.
        drop(import);
        sealing.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        // Told to break, the sealer leaves what was read after that unsealed, the end of the lists perhaps.
        Ok(ImportTotals::of(&spool.totals(), read? && spool.is_complete()))
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
    /// Reads to the end of the lists. Returns whether it got there.
    fn run(&mut self, mut audience: Audience) -> Result<bool, ImportError> {
        loop {
            let next = audience.advance(self.recipients(), self.seeds(), WAIT)?;
            match audience.lists.step(next) {
                Step::Row(row) => {
                    let number = row.number;
                    self.take(&row, &audience.selection)?;
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
            self.builder.totals.input_bytes = audience.lists.position();
            self.show(&audience.lists);
            self.suppressed = self.suppression.entries();
            if self.is_full() || self.opened.is_some_and(|opened| opened.elapsed() >= self.size.patience) {
                self.seal(false)?;
            }
        }
        self.builder.totals.input_bytes = audience.lists.position();
        self.show(&audience.lists);
        self.seal(true)?;
        Ok(true)
    }

    /// Makes of a row exactly one thing.
    fn take(&mut self, row: &Row<'_>, selection: &Selection) -> Result<(), ImportError> {
        if self.opened.is_none() {
            self.opened = Some(Instant::now());
        }
        self.builder.begin_row(row.number, row.list, row.list_row);
        let recipients = self.recipients();
        let mut known = Known {
            duplicates: &mut self.duplicates,
            unread: &self.unread,
            suppressed: &self.suppressed,
            earlier: Earlier { builder: &self.builder, sealing: self.sealing.as_deref(), spool: self.spool },
            recipients,
        };
        match selection.decide(row, &mut known)? {
            Decision::Invalid(reason) => return self.reject(row, &reason),
            Decision::LeftOut(reason) => *self.builder.totals.left_out.of(reason) += 1,
            Decision::Suppressed(_) => self.builder.totals.suppressed += 1,
            Decision::Duplicate => self.builder.totals.duplicate += 1,
            Decision::Accepted(address, fields) => {
                self.builder.push(row.number, &address, fields.iter())?;
                self.builder.totals.seeds += u64::from(selection.is_seed(row));
            }
        }
        Ok(())
    }

    fn seeds(&self) -> u64 {
        self.before.seeds + self.builder.totals.seeds
    }

    /// Accepted rows that are no seeds.
    fn recipients(&self) -> u64 {
        self.before.accepted + self.builder.totals.accepted - self.seeds()
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
        let next =
            SegmentBuilder::new(self.builder.columns(), totals.last_row + 1).with_slice(self.spool.slice());
        let full = Arc::new(std::mem::replace(&mut self.builder, next));
        let order = Order { builder: Arc::clone(&full), number: self.next_number };
        if self.orders.send(order).is_err() {
            // The sealer has ended, and its result says why.
            return Ok(());
        }
        self.next_number += 1;
        self.before.add_counts(&totals);
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

    fn show(&self, lists: &Lists) {
        let mut sum = self.before;
        sum.add_counts(&self.builder.totals);
        sum.last_row = self.builder.totals.last_row;
        self.progress.show(&sum, lists);
    }

    fn unwritable(&self, source: io::Error) -> ImportError {
        ImportError::Rejected { path: self.rejected_path.clone(), source }
    }
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
    fn show(&self, totals: &SegmentTotals, lists: &Lists) {
        self.rows.store(totals.last_row, Ordering::Relaxed);
        self.invalid.store(totals.invalid, Ordering::Relaxed);
        self.left_out.store(totals.left_out.sum(), Ordering::Relaxed);
        self.duplicate.store(totals.duplicate, Ordering::Relaxed);
        self.suppressed.store(totals.suppressed, Ordering::Relaxed);
        self.accepted.store(totals.accepted, Ordering::Relaxed);
        let (read, all) = lists.progress();
        self.read_octets.store(read, Ordering::Relaxed);
        self.file_octets.store(all.unwrap_or_default(), Ordering::Relaxed);
    }
}

impl ImportTotals {
    fn of(totals: &SegmentTotals, complete: bool) -> Self {
        let SegmentTotals { last_row, invalid, left_out, duplicate, suppressed, accepted, seeds, .. } =
            *totals;
        Self { rows: last_row, invalid, left_out, duplicate, suppressed, accepted, seeds, complete }
    }
}
