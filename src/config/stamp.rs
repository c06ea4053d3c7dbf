//! What tells one state of a file from another, without reading it.

use std::fs::Metadata;
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
        Some(Self::new(&std::fs::metadata(path).ok()?))
    }

    pub fn new(data: &Metadata) -> Self {
        Self { inode: data.ino(), octets: data.len(), modified: (data.mtime(), data.mtime_nsec()) }
    }
}
