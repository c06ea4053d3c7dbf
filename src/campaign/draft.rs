//! A campaign's lists before there is a run: read, selected and cleared exactly as a run would, into a spool
//! that goes when the draft is dropped.
//!
//! Checks, plans and previews work on it, so that what they say of a list is what a run makes of it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::campaign::audience::{Audience, AudienceError};
use crate::campaign::import::{ImportError, ImportJob, ImportProgress, ImportTotals, import};
use crate::campaign::manifest::Manifest;
use crate::campaign::segment::Columns;
use crate::campaign::spool::{Spool, SpoolError};
use crate::campaign::variants::Slice;
use crate::suppression::Suppression;

/// Why a draft cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    #[error(transparent)]
    Audience(#[from] AudienceError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("cannot make the folder {}: {error}", .folder.display())]
    Folder { folder: PathBuf, error: std::io::Error },
}

/// The lists read to their end.
#[derive(Debug)]
pub struct Draft {
    pub spool: Spool,
    pub columns: Columns,
    pub totals: ImportTotals,
    /// As a run has it: row number, address and reason of each row that cannot be mailed.
    pub rejected: PathBuf,
    _folder: Folder,
}

impl Draft {
    /// Reads the manifest's lists to their end; some 17 octets of memory a recipient, and the spool on disk
    /// below `state` meanwhile. Blocks.
    ///
    /// # Errors
    /// What ends an import. A list on the standard input is gone afterwards.
    pub fn read(state: &Path, manifest: &Manifest, suppression: &Suppression) -> Result<Self, DraftError> {
        let audience = Audience::open(manifest)?;
        let columns = audience.columns().clone();
        let folder = Folder::make(&state.join("drafts"))?;
        let spool = Spool::open(&folder.0.join("spool"))?.with_slice(Slice::of(manifest));
        let rejected = folder.0.join("rejected.csv");
        let job = ImportJob {
            audience,
            spool: &spool,
            rejected: rejected.clone(),
            suppression,
            rejected_max: None,
            stop: &AtomicBool::new(false),
            progress: &ImportProgress::default(),
        };
        let totals = import(job, |_| ControlFlow::Continue(()))?;
        Ok(Self { spool, columns, totals, rejected, _folder: folder })
    }
}

/// Removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make(drafts: &Path) -> Result<Self, DraftError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        remove_abandoned(drafts);
        let folder = drafts.join(format!("{}-{number}", std::process::id()));
        // Left behind by a process of this number that was killed.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("spool"))
            .map_err(|error| DraftError::Folder { folder: folder.clone(), error })?;
        Ok(Self(folder))
    }
}

/// Removes what processes left behind that are no more: a draft takes as much disk as its list.
fn remove_abandoned(drafts: &Path) {
    for entry in std::fs::read_dir(drafts).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process =
            name.to_str().and_then(|name| name.split('-').next()?.parse().ok()).and_then(Pid::from_raw);
        let is_gone = process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH));
        if is_gone {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_a_run_would_be_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.txt"), "Hello\n").unwrap();
        std::fs::write(
            folder.path().join("l.csv"),
            "email\na@one.test\nb@two.test\nA@one.test\nnone\nc@three.test\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("s.txt"), "b@two.test\n").unwrap();
        let text = r#"
            name = "draft"
            from = "us@sender.test"
            return_path_domain = "bounce.sender.test"
            subject = "Hello"
            text = "m.txt"
            suppression = ["s.txt"]
            [list]
            file = "l.csv"
        "#;
        std::fs::write(folder.path().join("campaign.toml"), text).unwrap();
        let manifest = Manifest::open(folder.path()).unwrap();
        let suppression = Suppression::load(&manifest.suppression).unwrap();
        let state = folder.path().join("state");
        // No process has the greatest number there is.
        let abandoned = state.join(format!("drafts/{}-0", i32::MAX));
        std::fs::create_dir_all(&abandoned).unwrap();
        let draft = Draft::read(&state, &manifest, &suppression).unwrap();
        let ImportTotals { rows, invalid, duplicate, suppressed, accepted, complete, .. } = draft.totals;
        assert_eq!((rows, invalid, duplicate, suppressed, accepted, complete), (5, 1, 1, 1, 2, true));
        assert!(std::fs::read_to_string(&draft.rejected).unwrap().contains("none"));
        drop(draft);
        assert_eq!(std::fs::read_dir(state.join("drafts")).unwrap().count(), 0);
    }
}
