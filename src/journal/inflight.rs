//! The in-doubt map: which recipients' content may have been taken by a server without its reply being
//! in the journal.
//!
//! A file of 16-octet slots, mapped shared, so that what is stored in it outlives the process: recipient
//! id + 1 (0: not armed) and attempt. A slot is armed before the content's end is written to the wire
//! and released after the journal has the outcome. It is allocated on disk in full when created, so a
//! full disk cannot end the process with SIGBUS later.
//!
//! Not synced to the device: after a loss of power the map can be old. Then the recipients of the last
//! moments have no record either and are simply tried again.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use crate::envelope::{Entry, RecipientId};
use crate::mapped::AtomicCells;
use crate::outcome::Slot;

use super::JournalError;

const SLOT_OCTETS: u64 = 16;

/// The slots of one run; shared by its sessions and its journal writer.
#[derive(Debug)]
pub struct Inflight {
    cells: AtomicCells,
    /// One permit a free slot.
    permits: Semaphore,
    free: Mutex<Free>,
    slots: u32,
}

#[derive(Debug)]
struct Free {
    list: Vec<u32>,
    /// By slot: taken by a session, or armed since the map was opened.
    taken: Box<[bool]>,
    armed_at_open: Vec<u32>,
}

impl Inflight {
    /// Opens or creates the map with room for `slots` messages between content and journal.
    ///
    /// Slots that are armed stay so, and stay out of use, until [`Inflight::clear_all`].
    ///
    /// # Errors
    /// No room on the disk, no permission, or a file that is no such map.
    pub fn open(path: &Path, slots: u32) -> Result<Self, JournalError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(JournalError::io("open", path))?;
        let octets = file.metadata().map_err(JournalError::io("open", path))?.len();
        if octets % SLOT_OCTETS != 0 {
            return Err(JournalError::NotAMap(path.to_owned()));
        }
        // A map left by a process with more slots is searched in full.
        let mapped = u64::from(slots).max(octets / SLOT_OCTETS);
        allocate(&file, mapped * SLOT_OCTETS).map_err(JournalError::io("allocate", path))?;
        let cells = AtomicCells::map(&file, mapped as usize * 2).map_err(JournalError::io("map", path))?;
        Ok(Self::over(cells, slots))
    }

    fn over(cells: AtomicCells, slots: u32) -> Self {
        let armed = armed_in(cells.cells());
        let mut taken = vec![false; slots as usize].into_boxed_slice();
        for &(slot, _) in &armed {
            if let Some(taken) = taken.get_mut(slot as usize) {
                *taken = true;
            }
        }
        let list: Vec<u32> = (0..slots).rev().filter(|&slot| !taken[slot as usize]).collect();
        Self {
            cells,
            permits: Semaphore::new(list.len()),
            slots,
            free: Mutex::new(Free {
                list,
                taken,
                armed_at_open: armed.into_iter().map(|(slot, _)| slot).collect(),
            }),
        }
    }

    /// Slots that sessions can hold at once.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Slots taken now, or armed since the map was opened.
    pub fn taken(&self) -> u32 {
        self.slots - self.permits.available_permits() as u32
    }

    /// Takes a free slot; waits until there is one. Not armed yet.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub async fn acquire(&self) -> Slot {
        let permit = self.permits.acquire().await.expect("the semaphore is never closed");
        permit.forget();
        self.pop()
    }

    /// Takes a free slot if there is one.
    pub fn try_acquire(&self) -> Option<Slot> {
        self.permits.try_acquire().ok()?.forget();
        Some(self.pop())
    }

    fn pop(&self) -> Slot {
        let mut free = self.free();
        let slot = free.list.pop().expect("a permit stands for a slot in the list");
        free.taken[slot as usize] = true;
        Slot(slot)
    }

    /// Says that the end of `entry`'s content is about to go out. `slot` must have been acquired.
    pub fn arm(&self, slot: Slot, entry: Entry) {
        let [id, attempt] = self.pair(slot.0);
        // A process that dies between the two stores leaves the slot as it was: not armed.
        attempt.store(u64::from(entry.attempt), Ordering::Release);
        id.store(entry.recipient.to_u64().wrapping_add(1), Ordering::Release);
    }

    /// Gives a slot back, armed or not: the journal has the outcome, or the content's end never went
    /// out.
    pub fn release(&self, slot: Slot) {
        self.release_all([slot]);
    }

    /// As [`Inflight::release`], for many.
    pub fn release_all(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut free = self.free();
        let mut released = 0;
        for Slot(slot) in slots {
            let taken = free.taken.get_mut(slot as usize).is_some_and(std::mem::take);
            debug_assert!(taken, "slot {slot} was released twice");
            if taken {
                self.clear(slot);
                free.list.push(slot);
                released += 1;
            }
        }
        drop(free);
        self.permits.add_permits(released);
    }

    /// All entries that are armed now, in no order.
    pub fn armed(&self) -> Vec<Entry> {
        armed_in(self.cells.cells()).into_iter().map(|(_, entry)| entry).collect()
    }

    /// Clears what was armed when the map was opened and puts those slots into use. Only after the
    /// journal has a record of each: see [`super::Replay::in_doubt`].
    pub fn clear_all(&self) {
        let mut free = self.free();
        let mut released = 0;
        for slot in std::mem::take(&mut free.armed_at_open) {
            self.clear(slot);
            if let Some(taken) = free.taken.get_mut(slot as usize) {
                *taken = false;
                free.list.push(slot);
                released += 1;
            }
        }
        drop(free);
        self.permits.add_permits(released);
    }

    fn clear(&self, slot: u32) {
        self.pair(slot)[0].store(0, Ordering::Release);
    }

    fn pair(&self, slot: u32) -> [&AtomicU64; 2] {
        let at = slot as usize * 2;
        let cells = self.cells.cells();
        [&cells[at], &cells[at + 1]]
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Free> {
        self.free.lock().expect("nothing panics while the list is locked")
    }
}

fn armed_in(cells: &[AtomicU64]) -> Vec<(u32, Entry)> {
    let slots = (0u32..).zip(cells.chunks_exact(2));
    slots
        .filter_map(|(slot, pair)| {
            let id = pair[0].load(Ordering::Acquire).checked_sub(1)?;
            let attempt = pair[1].load(Ordering::Acquire) as u16;
            Some((slot, Entry::new(RecipientId::from_u64(id), attempt)))
        })
        .collect()
}

fn allocate(file: &File, octets: u64) -> std::io::Result<()> {
    if octets == 0 {
        return Ok(());
    }
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, octets)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u32, attempt: u16) -> Entry {
        Entry::new(RecipientId::new(3, index), attempt)
    }

    #[test]
    fn what_was_armed_is_there_when_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inflight.map");
        let map = Inflight::open(&path, 8).unwrap();
        let [first, second, third] = [(); 3].map(|()| map.try_acquire().unwrap());
        map.arm(first, entry(0, 1));
        map.arm(second, entry(1, 2));
        map.arm(third, entry(2, 1));
        map.release(second);
        drop(map);

        // Opened with fewer slots: the rest is searched all the same.
        let map = Inflight::open(&path, 1).unwrap();
        let mut armed = map.armed();
        armed.sort_by_key(|entry| entry.recipient);
        assert_eq!(armed, [entry(0, 1), entry(2, 1)]);
        assert_eq!(map.try_acquire(), None, "an armed slot is not handed out before it is journaled");
        map.clear_all();
        assert_eq!(map.armed(), []);
        let slot = map.try_acquire().unwrap();
        assert_eq!(map.try_acquire(), None);
        map.arm(slot, entry(7, 1));
        map.clear_all();
        assert_eq!(map.armed(), [entry(7, 1)], "what was armed since is left alone");
    }

    #[test]
    fn the_octets_are_as_documented() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inflight.map");
        let map = Inflight::open(&path, 2).unwrap();
        let slot = map.try_acquire().unwrap();
        map.arm(slot, Entry::new(RecipientId::new(0, 4), 9));
        let octets = std::fs::read(&path).unwrap();
        assert_eq!(octets[..16], [5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(octets.len(), 32);
    }

    #[tokio::test]
    async fn one_who_waits_gets_the_slot_that_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let map = Inflight::open(&folder.path().join("inflight.map"), 1).unwrap();
        let slot = map.acquire().await;
        assert_eq!(map.taken(), 1);
        let mut given_up = Box::pin(map.acquire());
        assert!(poll_once(given_up.as_mut()).is_none());
        drop(given_up);
        let mut waiting = Box::pin(map.acquire());
        assert!(poll_once(waiting.as_mut()).is_none());
        map.release(slot);
        assert_eq!(waiting.await, slot);
    }

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn a_file_of_an_odd_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inflight.map");
        std::fs::write(&path, [0; 17]).unwrap();
        assert!(matches!(Inflight::open(&path, 4), Err(JournalError::NotAMap(_))));
    }
}
