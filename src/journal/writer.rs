//! The writer: one thread that appends many records with one write and syncs them in turn.
//!
//! Sessions' outcomes come in groups over a bounded channel. The thread takes what is queued, encodes
//! it into one buffer, hands it to the kernel with one `write(2)`, and only then believes it: counters
//! move, in-doubt slots are released, those who wait are told. At a trickle a record is on its way at
//! once; under load the thread waits until a millisecond has passed since the last write, so that
//! twenty records share a write at 20,000 records a second. `fdatasync` follows at the latest when the
//! setting's time has passed since the first unsynced write, idle or not, at a change of files and at
//! the end.
//!
//! After a write or a sync that failed nothing more is believed: the torn end is cut off, the error
//! published once, every later append answered with it. The group that failed stays unbelieved and its
//! slots stay armed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::outcome::Slot;

use super::record::encode_attempt;
use super::{
    ByVariant, Counters, FILE_HEADER_OCTETS, Inflight, JournalError, Line, MAGIC, NameKind, Record, Totals,
    encode, file_path,
};

/// Groups that may wait for the thread: enough to ride out a sync of some 20 ms while small groups come
/// in by the tens of thousands a second, and small beside the outcomes the sessions hold.
const GROUPS_WAITING_MAX: usize = 1024;
/// A write is not made larger than about this, so that belief does not wait for long.
const GROUP_OCTETS: usize = 256 * 1024;
/// A file that has this many octets is followed by the next.
const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;
/// Writes under load are at least so far apart.
const LINGER: Duration = Duration::from_millis(1);

/// Where a writer goes on: the default for a new run, else [`super::Replay::position`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub next_file: u32,
    pub next_sequence: u64,
    pub totals: Totals,
    pub by_variant: ByVariant,
}

impl Default for Position {
    fn default() -> Self {
        Self { next_file: 1, next_sequence: 1, totals: Totals::default(), by_variant: ByVariant::default() }
    }
}

/// Why the journal takes nothing more.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WriteFailure {
    #[error("cannot {what} the journal {}: {error}; nothing that came after is counted", file.display())]
    Io { what: &'static str, file: PathBuf, error: Arc<io::Error> },
    #[error("the journal is closed")]
    Closed,
}

impl WriteFailure {
    /// Whether the device, or the user's quota, is full: a person can make room and resume.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { error, .. }
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// A handle on the journal's thread; share it in an `Arc`.
///
/// Dropping it lets the thread write and sync what is queued, without waiting; [`Writer::close`] waits.
#[derive(Debug)]
pub struct Writer {
    orders: mpsc::Sender<Order>,
    counters: Arc<Counters>,
    failure: watch::Receiver<Option<WriteFailure>>,
    written: watch::Receiver<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Order {
    Records(Vec<Record>),
    Line(Line),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts a new file in `folder` (made if it is not there) and the thread that owns it.
    ///
    /// `sync` is the longest time that a written record stays unsynced; zero syncs each group before it
    /// is believed. Slots of the records are released in `inflight`.
    ///
    /// # Errors
    /// The folder or file cannot be made.
    pub fn start(
        folder: &Path,
        position: Position,
        sync: Duration,
        inflight: Arc<Inflight>,
    ) -> Result<Self, JournalError> {
        Self::start_with(folder, position, sync, inflight, FILE_OCTETS_MAX)
    }

    fn start_with(
        folder: &Path,
        position: Position,
        sync: Duration,
        inflight: Arc<Inflight>,
        file_octets_max: u64,
    ) -> Result<Self, JournalError> {
        std::fs::create_dir_all(folder).map_err(JournalError::io("make", folder))?;
        let path = file_path(folder, position.next_file);
        let file =
            LogFile::create(path.clone(), position.next_sequence).map_err(JournalError::io("make", &path))?;
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(JournalError::io("make a clock for", folder))?;
        let counters = Arc::new(Counters::default());
        counters.add(&position.totals);
        counters.add_by_variant(&position.by_variant);
        let (orders, taken) = mpsc::channel(GROUPS_WAITING_MAX);
        let (fail, failure) = watch::channel(None);
        let (wrote, written) = watch::channel(0);
        let thread = WriterThread {
            folder: folder.to_owned(),
            file_octets_max,
            file,
            file_number: position.next_file,
            next_sequence: position.next_sequence,
            sync,
            clock,
            inflight,
            counters: Arc::clone(&counters),
            fail,
            wrote,
            group: Group::default(),
            last_write: None,
            unsynced_since: None,
            mark_due: false,
        };
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || thread.run(taken))
            .map_err(JournalError::io("start the thread of", folder))?;
        Ok(Self { orders, counters, failure, written, thread: Mutex::new(Some(thread)) })
    }

    /// Hands records over; waits while the thread has 1,024 groups before it. They are believed later:
    /// see [`Writer::counters`] and [`Writer::written`]. A group of some hundred records is good; one
    /// of more than some thousand delays the others.
    ///
    /// # Cancel safety
    /// The group is either taken whole or not at all; dropping the future drops a group not yet taken.
    ///
    /// # Errors
    /// The journal failed or was closed.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), WriteFailure> {
        self.order(Order::Records(records)).await
    }

    /// Says what a number stands for in the lines that follow. To be said again by each process.
    ///
    /// # Errors
    /// As for [`Writer::append`].
    pub async fn name(&self, kind: NameKind, id: u32, name: &str) -> Result<(), WriteFailure> {
        self.order(Order::Line(Line::Name { kind, id, name: name.into() })).await
    }

    /// Notes something about the run as a whole.
    ///
    /// # Errors
    /// As for [`Writer::append`].
    pub async fn event(&self, text: &str) -> Result<(), WriteFailure> {
        self.order(Order::Line(Line::Event { at: SystemTime::now(), text: text.into() })).await
    }

    /// Waits until all that was appended before is written, and so believed; not for the sync.
    ///
    /// # Errors
    /// The journal failed before, or was closed.
    pub async fn flush(&self) -> Result<(), WriteFailure> {
        let (done, flushed) = oneshot::channel();
        self.order(Order::Flush(done)).await?;
        flushed.await.map_err(|_| self.reason())
    }

    /// Writes and syncs what is queued and ends the thread. Later appends fail.
    ///
    /// # Errors
    /// The journal failed, now or before.
    pub async fn close(&self) -> Result<(), WriteFailure> {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(done)).await?;
        let result = closed.await.map_err(|_| self.reason());
        let thread = self.thread.lock().expect("nothing panics while it is locked").take();
        if let Some(thread) = thread {
            // It has answered, or dropped the answer, with nothing left to do.
            let _ = thread.join();
        }
        result
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Records believed by this process; changes after each write, when counters have moved and slots
    /// are free.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Waits until the journal fails or is closed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn failed(&self) -> WriteFailure {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            Ok(None) | Err(_) => WriteFailure::Closed,
        }
    }

    /// The failure, if there was one.
    pub fn failure(&self) -> Option<WriteFailure> {
        self.failure.borrow().clone()
    }

    async fn order(&self, order: Order) -> Result<(), WriteFailure> {
        self.orders.send(order).await.map_err(|_| self.reason())
    }

    fn reason(&self) -> WriteFailure {
        self.failure().unwrap_or(WriteFailure::Closed)
    }
}

/// What is encoded and not yet written.
#[derive(Debug, Default)]
struct Group {
    buffer: Vec<u8>,
    records: u64,
    totals: Totals,
    by_variant: ByVariant,
    slots: Vec<Slot>,
    flushed: Vec<oneshot::Sender<()>>,
    closing: Option<oneshot::Sender<()>>,
}

/// A journal file under way.
#[derive(Debug)]
struct LogFile {
    file: File,
    path: PathBuf,
    /// All of them good.
    octets: u64,
}

impl LogFile {
    /// The file is named in its folder for good when this returns.
    fn create(path: PathBuf, first_sequence: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let mut header = [0; FILE_HEADER_OCTETS];
        header[..8].copy_from_slice(&MAGIC);
        header[8..].copy_from_slice(&first_sequence.to_le_bytes());
        file.write_all(&header)?;
        file.sync_data()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file, path, octets: FILE_HEADER_OCTETS as u64 })
    }

    fn append(&mut self, octets: &[u8]) -> io::Result<()> {
        let result = self.file.write_all(octets);
        match &result {
            Ok(()) => self.octets += octets.len() as u64,
            // Should this fail too, the next replay finds and cuts the torn end.
            Err(_) => drop(self.file.set_len(self.octets).and_then(|()| self.file.sync_data())),
        }
        result
    }
}

struct WriterThread {
    folder: PathBuf,
    file_octets_max: u64,
    file: LogFile,
    file_number: u32,
    next_sequence: u64,
    sync: Duration,
    clock: Runtime,
    inflight: Arc<Inflight>,
    counters: Arc<Counters>,
    fail: watch::Sender<Option<WriteFailure>>,
    wrote: watch::Sender<u64>,
    group: Group,
    last_write: Option<Instant>,
    unsynced_since: Option<Instant>,
    /// A sync has succeeded that no line in the file tells of.
    mark_due: bool,
}

impl WriterThread {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        // The failure is published before the channel closes, so that whoever finds it closed can say why.
        if let Err(failure) = self.work(&mut orders) {
            tracing::error!(%failure, "the journal stops");
            self.fail.send_replace(Some(failure));
        }
    }

    fn work(&mut self, orders: &mut mpsc::Receiver<Order>) -> Result<(), WriteFailure> {
        loop {
            match self.next_order(orders) {
                Next::SyncDue => {
                    self.sync_file()?;
                    continue;
                }
                Next::Ended => return self.finish(),
                Next::Order(order) => {
                    self.linger();
                    self.gather(order, orders);
                }
            }
            self.write_group()?;
            if let Some(closing) = self.group.closing.take() {
                orders.close();
                self.finish()?;
                // Whoever asked may be gone.
                let _ = closing.send(());
                return Ok(());
            }
        }
    }

    fn next_order(&self, orders: &mut mpsc::Receiver<Order>) -> Next {
        let Some(since) = self.unsynced_since else {
            return orders.blocking_recv().map_or(Next::Ended, Next::Order);
        };
        let due = since + self.sync;
        if Instant::now() >= due {
            return Next::SyncDue;
        }
        match orders.try_recv() {
            Ok(order) => Next::Order(order),
            Err(TryRecvError::Disconnected) => Next::Ended,
            Err(TryRecvError::Empty) => {
                match self.clock.block_on(async { tokio::time::timeout_at(due, orders.recv()).await }) {
                    Ok(Some(order)) => Next::Order(order),
                    Ok(None) => Next::Ended,
                    Err(_) => Next::SyncDue,
                }
            }
        }
    }

    /// Under load, lets records gather.
    fn linger(&self) {
        if let Some(rest) = self.last_write.and_then(|at| LINGER.checked_sub(at.elapsed())) {
            std::thread::sleep(rest);
        }
    }

    /// Encodes `first` and what else is queued.
    fn gather(&mut self, first: Order, orders: &mut mpsc::Receiver<Order>) {
        if std::mem::take(&mut self.mark_due) {
            self.encode(&Line::Synced);
        }
        let mut order = Some(first);
        while let Some(taken) = order {
            match taken {
                Order::Records(records) => self.take(&records),
                Order::Line(line) => self.encode(&line),
                Order::Flush(done) => self.group.flushed.push(done),
                Order::Close(done) => {
                    self.group.closing = Some(done);
                    return;
                }
            }
            if self.group.buffer.len() >= GROUP_OCTETS {
                return;
            }
            order = orders.try_recv().ok();
        }
    }

    fn take(&mut self, records: &[Record]) {
        for record in records {
            encode_attempt(record, self.next_sequence, &mut self.group.buffer);
            self.next_sequence += 1;
            self.group.totals.count(record.disposition);
            self.group.by_variant.count(record.variant, record.disposition);
            self.group.slots.extend(record.slot);
        }
        self.group.records += records.len() as u64;
    }

    fn encode(&mut self, line: &Line) {
        encode(line, self.next_sequence, &mut self.group.buffer);
        self.next_sequence += 1;
    }

    /// Writes the group, then believes it.
    fn write_group(&mut self) -> Result<(), WriteFailure> {
        if !self.group.buffer.is_empty() {
            self.write_buffer()?;
        }
        let group = &mut self.group;
        self.counters.add(&std::mem::take(&mut group.totals));
        self.counters.add_by_variant(&group.by_variant);
        group.by_variant.clear();
        self.inflight.release_all(group.slots.drain(..));
        let records = std::mem::take(&mut group.records);
        if records > 0 {
            self.wrote.send_modify(|written| *written += records);
        }
        for done in group.flushed.drain(..) {
            // Whoever waited may be gone.
            let _ = done.send(());
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), WriteFailure> {
        let octets = self.group.buffer.len() as u64;
        if self.file.octets + octets > self.file_octets_max && self.file.octets > FILE_HEADER_OCTETS as u64 {
            self.next_file()?;
        }
        self.file.append(&self.group.buffer).map_err(|error| self.failure("write", error))?;
        self.group.buffer.clear();
        self.counters.octets.fetch_add(octets, Relaxed);
        self.counters.writes.fetch_add(1, Relaxed);
        let now = Instant::now();
        self.last_write = Some(now);
        self.unsynced_since.get_or_insert(now);
        if self.sync.is_zero() { self.sync_file() } else { Ok(()) }
    }

    fn next_file(&mut self) -> Result<(), WriteFailure> {
        self.sync_file()?;
        let number = self.file_number + 1;
        let path = file_path(&self.folder, number);
        let first_sequence = first_sequence(&self.group.buffer).unwrap_or(self.next_sequence);
        self.file = LogFile::create(path.clone(), first_sequence).map_err(|error| WriteFailure::Io {
            what: "begin",
            file: path,
            error: Arc::new(error),
        })?;
        self.file_number = number;
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), WriteFailure> {
        if self.unsynced_since.is_some() {
            self.file.file.sync_data().map_err(|error| self.failure("sync", error))?;
            self.counters.syncs.fetch_add(1, Relaxed);
            self.unsynced_since = None;
            self.mark_due = true;
        }
        Ok(())
    }

    /// Syncs, and says in the file that it was: damage found later is then known to be damage.
    fn finish(&mut self) -> Result<(), WriteFailure> {
        self.sync_file()?;
        if std::mem::take(&mut self.mark_due) {
            self.encode(&Line::Synced);
            self.write_buffer()?;
            self.sync_file()?;
        }
        Ok(())
    }

    fn failure(&self, what: &'static str, error: io::Error) -> WriteFailure {
        WriteFailure::Io { what, file: self.file.path.clone(), error: Arc::new(error) }
    }
}

enum Next {
    Order(Order),
    SyncDue,
    Ended,
}

fn first_sequence(lines: &[u8]) -> Option<u64> {
    lines.get(8..16)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{read, replay};
    use super::*;

    #[tokio::test]
    async fn a_full_file_is_followed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let inflight = Arc::new(Inflight::open(&folder.path().join("inflight.map"), 1).unwrap());
        let journal = folder.path().join("journal");
        let writer =
            Writer::start_with(&journal, Position::default(), Duration::ZERO, inflight, 100).unwrap();
        for number in 0..6 {
            writer.event(&format!("event {number}")).await.unwrap();
            writer.flush().await.unwrap();
        }
        writer.close().await.unwrap();
        let files =
            std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        let files: Vec<u64> = files.collect();
        assert!(files.len() > 2 && files.iter().all(|&octets| octets <= 100), "{files:?}");
        let events: Vec<Line> = read(&journal).unwrap().map(Result::unwrap).collect();
        assert_eq!(events.iter().filter(|line| matches!(line, Line::Event { .. })).count(), 6);
        let position = replay(&journal).unwrap().position();
        assert_eq!(position.next_file as usize, files.len() + 1);
        assert_eq!(position.next_sequence, events.len() as u64 + 1);
    }
}
