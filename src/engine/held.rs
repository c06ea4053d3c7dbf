//! What holds mail, in a line, looked at once a second however often it is asked for: the live progress is
//! drawn more often than thousands of paths should be gone through.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::Policy;

/// How old the line may be.
const FRESH: Duration = Duration::from_secs(1);

pub(super) struct Held {
    /// Whoever looks on may do so after the end, when what was learned is another process's to go on with.
    policy: Weak<Policy>,
    last: Mutex<Option<(Instant, Option<String>)>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Held {
    pub(super) fn new(policy: &Arc<Policy>) -> Self {
        Self { policy: Arc::downgrade(policy), last: Mutex::default() }
    }

    /// What holds mail; `None` where nothing does.
    pub(super) fn line(&self) -> Option<String> {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(looked, _)| now >= *looked + FRESH) {
            *last = Some((now, self.policy.upgrade().and_then(|policy| policy.held_line())));
        }
        last.as_ref().and_then(|(_, line)| line.clone())
    }
}
