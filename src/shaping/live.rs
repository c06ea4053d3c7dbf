//! Shaping that changes under running paths: files are looked at, read, checked, and swapped in whole.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{Shaping, Tables};
use crate::config::{Fault, Node};

/// What holds now; see the head of the file.
#[derive(Debug)]
pub struct Live {
    current: RwLock<Arc<Shaping>>,
    /// Held while files are looked at, so that two reloads do not cross.
    watched: Mutex<Watched>,
}

/// Files and how they looked before they were read.
#[derive(Debug)]
struct Watched {
    /// The settings, which name the others; `None`: nothing is watched.
    settings: Option<PathBuf>,
    files: Vec<PathBuf>,
    /// Of the settings, then the files.
    stamps: Vec<Option<Stamp>>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    octets: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        let modified = (data.mtime(), data.mtime_nsec());
        Some(Self { inode: data.ino(), octets: data.len(), modified })
    }
}

impl Watched {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.settings.iter().chain(&self.files).map(|file| Stamp::of(file)).collect()
    }
}

impl Live {
    /// `shaping`, made from the tables of `node`, whose files are watched from now on: those it was
    /// read from, none if it was not read from a file.
    pub fn new(shaping: Shaping, node: &Node) -> Self {
        // Without stamps the first look reads them again: they may have changed since they were read.
        let (settings, files) = (node.file.clone(), node.shaping_files.clone());
        Self {
            current: RwLock::new(Arc::new(shaping)),
            watched: Mutex::new(Watched { settings, files, stamps: Vec::new() }),
        }
    }

    pub fn current(&self) -> Arc<Shaping> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads everything again if a file has changed; whether anything else is said now. Blocks for as
    /// long as that takes. Needs a tokio runtime: sessions beyond a lowered total are waited for.
    ///
    /// # Errors
    /// Every mistake; what was said before holds on. Said once, until a file changes again.
    pub fn reload_if_changed(&self) -> Result<bool, Vec<Fault>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = watched.stamps();
        let Some(settings) = watched.settings.clone().filter(|_| watched.stamps != stamps) else {
            return Ok(false);
        };
        watched.stamps = stamps;
        let node = Node::load(Some(&settings)).map_err(|error| error.into_faults(&settings))?;
        if watched.files != node.shaping_files {
            watched.files = node.shaping_files;
            watched.stamps = Vec::new();
        }
        let differs = self.current().tables != node.shaping;
        self.swap(node.shaping);
        Ok(differs)
    }

    /// Other tables from now on.
    fn swap(&self, tables: Tables) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(current.changed(tables));
    }
}
