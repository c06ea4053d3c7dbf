//! What changed about the limits, when, and why: for logs, the journal, and whoever asks later.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::terms::Cause;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub at: SystemTime,
    /// Whom it is about: a path, a source at a provider, the campaign.
    pub about: String,
    /// What is so from now on.
    pub what: String,
    pub cause: Arc<Cause>,
    /// A person should hear of it.
    pub alert: bool,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.about, self.what, self.cause)
    }
}
