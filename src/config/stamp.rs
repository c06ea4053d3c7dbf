//! What tells one state of a file from another, without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file as it was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    octets: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// `None` where it cannot be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        let modified = (data.mtime(), data.mtime_nsec());
        Some(Self { inode: data.ino(), octets: data.len(), modified })
    }
}
