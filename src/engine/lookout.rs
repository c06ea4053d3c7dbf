//! Looks after what may change while a run is under way: suppression lists, limits, reply rules, and the
//! mark of a cancel. What was read before holds until something new checks out.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::campaign::run::Run;
use crate::classify::Rules;
use crate::config::{Fault, Stamp, fault};
use crate::policy::Policy;
use crate::pull::{Handle, Message};
use crate::shaping;
use crate::site::Resolver;
use crate::suppression::Suppression;

/// How often suppression lists and the cancel mark are looked at: what arrives there stops what has not
/// been sent within a second.
const WATCH: Duration = Duration::from_millis(400);

/// What may change while a run is under way.
#[derive(Clone)]
pub(super) struct Lookout {
    pub(super) suppression: Arc<Suppression>,
    pub(super) shaping: Arc<shaping::Live>,
    pub(super) replies: ReplyFiles,
    pub(super) resolver: Arc<Resolver>,
    pub(super) run: Run,
    /// What is wrong with the files of limits, since they changed.
    pub(super) faults: Arc<Mutex<Option<String>>>,
}

/// Files of reply rules, and how they looked when they were read.
#[derive(Clone)]
pub(super) struct ReplyFiles {
    files: Vec<PathBuf>,
    stamps: Arc<Mutex<Vec<Option<Stamp>>>>,
    policy: Arc<Policy>,
}

impl ReplyFiles {
    /// `policy` has read them a moment ago.
    pub(super) fn new(files: Vec<PathBuf>, policy: &Arc<Policy>) -> Self {
        let stamps = Arc::new(Mutex::new(files.iter().map(|file| Stamp::of(file)).collect()));
        Self { files, stamps, policy: policy.clone() }
    }

    fn reload_if_changed(&self) -> Result<bool, Vec<Fault>> {
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let now: Vec<Option<Stamp>> = self.files.iter().map(|file| Stamp::of(file)).collect();
        if *stamps == now {
            return Ok(false);
        }
        *stamps = now;
        self.policy.replace_rules(Rules::load(&self.files)?);
        Ok(true)
    }
}

impl Lookout {
    /// Reads limits and reply rules again if their files have changed. Blocks.
    ///
    /// # Errors
    /// Every mistake in the files as they are, also if it was told before.
    pub(super) fn reload(&self) -> Result<(), String> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = self.shaping.reload_if_changed();
        if let Ok(true) = limits {
            tracing::info!("the limits have changed");
            self.resolver.regroup(self.shaping.current().tables().grouping());
        }
        let replies = self.replies.reload_if_changed();
        if let Ok(true) = replies {
            tracing::info!("the reply rules have changed");
        }
        let is_news = !matches!((&limits, &replies), (Ok(false), Ok(false)));
        let found: Vec<Fault> = limits.err().into_iter().chain(replies.err()).flatten().collect();
        if !found.is_empty() {
            let said =
                format!("cannot be read again; what was said before holds:\n{}", fault::listed(&found));
            tracing::warn!("{said}");
            *faults = Some(said);
        } else if is_news {
            *faults = None;
        }
        faults.clone().map_or(Ok(()), Err)
    }

    /// Reads again what has changed; whether the run is cancelled. Blocks.
    fn look(&self) -> bool {
        if let Err(error) = self.suppression.reload_if_changed() {
            tracing::warn!(%error, "a suppression list cannot be read; what it said before holds");
        }
        // Said in the log.
        let _ = self.reload();
        self.run.is_cancelled()
    }

    /// Looks now and then until told to stop.
    pub(super) async fn watch(self, scheduler: Handle, stop: CancellationToken) {
        let mut cancelled = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(WATCH) => {}
            }
            let lookout = self.clone();
            let looked = tokio::task::spawn_blocking(move || lookout.look());
            if looked.await.unwrap_or(false) && !cancelled {
                cancelled = true;
                scheduler.send(Message::Cancel).await;
            }
        }
    }
}
