//! How far a check is, for whoever waits for it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::dns::domains;

/// Counts that the check raises while it works.
#[derive(Debug, Default)]
pub struct Progress {
    /// Recipients of the list, once it is read.
    pub(super) recipients: AtomicU64,
    /// Those whose message was made and looked at.
    pub(super) looked_at: AtomicU64,
    /// Messages are done, and others are asked.
    pub(super) is_asking: AtomicBool,
    pub(super) domains: domains::Progress,
}

impl fmt::Display for Progress {
    /// What it does now, without a full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (recipients, looked_at) = (self.recipients.load(Relaxed), self.looked_at.load(Relaxed));
        match (self.is_asking.load(Relaxed), self.domains.settled.load(Relaxed)) {
            (true, 0) => f.write_str("asking the DNS and spam filters"),
            (true, settled) => write!(f, "{settled} domains of the list looked up"),
            (false, _) if recipients == 0 => f.write_str("reading the list"),
            (false, _) => write!(f, "{looked_at} of {recipients} messages made and looked at"),
        }
    }
}
