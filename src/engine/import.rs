//! The import of a run: a thread of its own that reads the lists, and what is known of it meanwhile.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::EngineError;
use crate::campaign::audience::Audience;
use crate::campaign::import::{ImportJob, ImportProgress, import};
use crate::campaign::run::Run;
use crate::campaign::segment::{Columns, Segment};
use crate::campaign::spool::Spool;
use crate::suppression::Suppression;

/// Lists that are to be read, and what the fields of their rows are called.
pub(super) struct Opened {
    /// `None` when a former process has read all of them.
    audience: Option<Audience>,
    pub(super) columns: Columns,
    pub(super) warnings: Vec<String>,
}

/// Opens the run's lists as far as their headers; not at all if the spool is complete.
pub(super) async fn open(run: &Run, spool: &Spool) -> Result<Opened, EngineError> {
    if let Some(columns) = spool.columns().filter(|_| spool.is_complete()) {
        return Ok(Opened { audience: None, columns, warnings: Vec::new() });
    }
    let manifest = run.manifest.clone();
    // A pipe may take its time with the header.
    let audience = tokio::task::spawn_blocking(move || Audience::open(&manifest)).await;
    let audience = audience.map_err(|error| EngineError::Import(error.to_string()))?;
    let audience = audience.map_err(|error| {
        EngineError::Import(match run.manifest.reads_stdin() && !spool.is_empty() {
            true => format!(
                "{error}; it came through the standard input and was not read to its end, so give it again: \
                 `postroad resume {} < LIST`",
                run.id
            ),
            false => error.to_string(),
        })
    })?;
    let bad = audience.excluded_rows_bad.iter();
    let warnings =
        bad.map(|(path, rows)| format!("{}: {rows} rows have no address and exclude nobody", path.display()));
    Ok(Opened { columns: audience.columns().clone(), warnings: warnings.collect(), audience: Some(audience) })
}

/// The state of an import, shared with its thread.
#[derive(Debug)]
pub(super) struct Import {
    spool: Arc<Spool>,
    progress: ImportProgress,
    stop: AtomicBool,
    error: Mutex<Option<String>>,
    failed: CancellationToken,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Import {
    /// Gives what is sealed to the scheduler and reads the rest of the lists, on a thread of its own.
    pub(super) fn start(
        opened: Opened,
        run: &Run,
        spool: &Arc<Spool>,
        suppression: &Arc<Suppression>,
        segments: mpsc::Sender<Arc<Segment>>,
    ) -> Result<Arc<Self>, EngineError> {
        let this = Arc::new(Self {
            spool: spool.clone(),
            progress: ImportProgress::default(),
            stop: AtomicBool::new(false),
            error: Mutex::default(),
            failed: CancellationToken::new(),
            thread: Mutex::default(),
        });
        let (shared, suppression) = (this.clone(), suppression.clone());
        let (rejected, rejected_max) = (run.rejected_path(), run.manifest.limits.rejected_max);
        let work = move || {
            for segment in shared.spool.iter() {
                if segments.blocking_send(segment).is_err() {
                    return;
                }
            }
            if let Some(audience) = opened.audience {
                shared.read(audience, &suppression, rejected, rejected_max, &segments);
            }
        };
        let thread = std::thread::Builder::new().name("import".into()).spawn(work);
        let thread = thread.map_err(|error| EngineError::Import(error.to_string()))?;
        *this.thread.lock().expect("no panic while it is held") = Some(thread);
        Ok(this)
    }

    fn read(
        &self,
        audience: Audience,
        suppression: &Suppression,
        rejected: PathBuf,
        rejected_max: Option<u64>,
        segments: &mpsc::Sender<Arc<Segment>>,
    ) {
        let job = ImportJob {
            audience,
            spool: &self.spool,
            rejected,
            suppression,
            rejected_max,
            stop: &self.stop,
            progress: &self.progress,
        };
        // A closed channel means that the run is being stopped: the rest is read on resume.
        let imported = import(job, |segment| match segments.blocking_send(segment) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        if let Err(error) = imported {
            *self.error.lock().expect("no panic while it is held") = Some(error.to_string());
            self.failed.cancel();
        }
    }

    /// Ends the import; `resume` reads on from the last sealed segment.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether the thread has ended with neither the whole list read nor an error.
    pub(super) fn has_died(&self) -> bool {
        let thread = self.thread.lock().expect("no panic while it is held");
        thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished)
            && !self.failed.is_cancelled()
            && !self.spool.is_complete()
    }

    /// Waits for a failure. Cancel safe.
    pub(super) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Waits for the thread; the error it ended with, if any.
    pub(super) async fn join(&self) -> Option<String> {
        let thread = self.thread.lock().expect("no panic while it is held").take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.error.lock().expect("no panic while it is held").clone()
    }
}
