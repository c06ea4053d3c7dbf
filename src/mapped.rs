//! Files mapped into memory: the only `unsafe` code of the crate.
//!
//! Whoever maps a file promises that nobody shortens it while it is mapped. Sealed segments are
//! written under another name, synced and renamed, and never touched again; the in-doubt map is
//! allocated in full before it is mapped and belongs to the one engine that holds the run's lock.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use memmap2::{Advice, Mmap, MmapMut, MmapOptions, UncheckedAdvice};

/// Maps a whole sealed file for reading.
///
/// # Errors
/// Those of `mmap(2)`.
pub fn map_read(file: &File) -> io::Result<Mmap> {
    // SAFETY: see the head of the file: a sealed segment is never written or shortened again.
    let map = unsafe { MmapOptions::new().map(file) }?;
    map.advise(Advice::Random)?;
    Ok(map)
}

/// Gives the resident pages of a read-only map back; reading faults them in again from the file.
///
/// # Errors
/// Those of `madvise(2)`.
pub fn drop_resident(map: &Mmap) -> io::Result<()> {
    // SAFETY: the map is shared, file-backed and read-only, so a dropped page comes back the same.
    unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) }
}

/// A file of 64-bit cells, mapped shared: what is stored survives the death of the process.
#[derive(Debug)]
pub struct AtomicCells {
    map: MmapMut,
}

impl AtomicCells {
    /// Maps the first `cells` × 8 octets of `file`, which must be allocated on disk already: a store
    /// to a page that the disk has no room for would end the process with SIGBUS.
    ///
    /// # Errors
    /// Those of `mmap(2)`, and `InvalidInput` when the file is shorter.
    pub fn map(file: &File, cells: usize) -> io::Result<Self> {
        let octets = cells * size_of::<u64>();
        if file.metadata()?.len() < octets as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is shorter than its cells"));
        }
        // SAFETY: see the head of the file: the engine that holds the run's lock alone maps it.
        let map = unsafe { MmapOptions::new().len(octets).map_mut(file) }?;
        Ok(Self { map })
    }

    pub fn cells(&self) -> &[AtomicU64] {
        let octets: &[u8] = &self.map;
        // SAFETY: the map is writable, page-aligned, `len` octets long and lives as long as `self`;
        // every access to it goes through these atomics.
        unsafe {
            std::slice::from_raw_parts(octets.as_ptr().cast::<AtomicU64>(), octets.len() / size_of::<u64>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_a_cell_holds_is_in_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let cells = AtomicCells::map(&file, 512).unwrap();
        cells.cells()[511].store(7, Ordering::Release);
        drop(cells);
        let map = map_read(&file).unwrap();
        assert_eq!(map[4088..], 7u64.to_le_bytes());
        drop_resident(&map).unwrap();
        assert_eq!(map[4088..], 7u64.to_le_bytes());
    }

    #[test]
    fn a_short_file_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8).unwrap();
        assert!(AtomicCells::map(&file, 2).is_err());
    }
}
