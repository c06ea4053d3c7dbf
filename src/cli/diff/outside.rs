//! Files that a run reads where they are: lists and suppression files. It keeps no copy of them, so that all
//! that is known is when they were written and how many rows of the list the run has read.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use crate::campaign::list::{List, ListError, Step};
use crate::campaign::manifest::{self, Manifest};
use crate::campaign::run::Run;
use crate::campaign::spool::Spool;

/// How long a slow disk is waited for at a time.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
pub struct Outside {
    pub role: &'static str,
    pub path: PathBuf,
    #[serde(flatten)]
    pub state: State,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum State {
    Missing,
    Unwritten,
    /// Since the run was made.
    Written {
        at: Timestamp,
        /// Of the run, and of the file now, where both are known.
        rows: Option<(u64, u64)>,
    },
}

impl Outside {
    pub fn differs(&self) -> bool {
        !matches!(self.state, State::Unwritten)
    }
}

/// The files that both manifests name; that others came or went, their keys say.
///
/// # Errors
/// A list that was written since and cannot be read.
pub fn looked_at(run: &Run, now: &Manifest) -> anyhow::Result<Vec<Outside>> {
    let then = named(&run.manifest);
    let mut all = Vec::new();
    for (role, path) in named(now) {
        if !then.contains(&(role, path.clone())) {
            continue;
        }
        let mut state = written(&path, run.created);
        // Of several lists together the run knows the rows, not of each.
        if let (State::Written { rows, .. }, "list", [list], None) =
            (&mut state, role, now.lists.as_slice(), &now.seeds)
        {
            *rows = read_by(run).map(|then| anyhow::Ok((then, rows_of(list)?))).transpose()?;
        }
        all.push(Outside { role, path, state });
    }
    Ok(all)
}

fn named(manifest: &Manifest) -> Vec<(&'static str, PathBuf)> {
    let lists = manifest.lists.iter().map(|list| ("list", list));
    let lists = lists.chain(manifest.exclude.iter().map(|list| ("list of those left out", list)));
    let lists = lists.chain(manifest.seeds.iter().map(|seeds| ("list of seeds", &seeds.list)));
    let lists = lists.filter(|(_, list)| !list.is_stdin()).map(|(role, list)| (role, &list.file));
    let suppression = manifest.suppression.iter().map(|path| ("suppression file", path));
    lists.chain(suppression).map(|(role, path)| (role, path.clone())).collect()
}

fn written(path: &Path, since: SystemTime) -> State {
    let Ok(written) = std::fs::metadata(path).and_then(|file| file.modified()) else {
        return State::Missing;
    };
    match Timestamp::try_from(written) {
        Ok(at) if written > since => State::Written { at, rows: None },
        _ => State::Unwritten,
    }
}

/// Rows that the run has read, if it has read them all.
fn read_by(run: &Run) -> Option<u64> {
    // Looking must not make the folder of a run that has not begun.
    let spool = run.spool_folder().is_dir().then(|| Spool::open(&run.spool_folder()).ok())??;
    spool.is_complete().then(|| spool.totals().last_row)
}

fn rows_of(list: &manifest::List) -> Result<u64, ListError> {
    let mut list = List::open(&list.source(), None)?;
    while !matches!(list.next(PATIENCE)?, Step::End) {}
    Ok(list.rows())
}
