//! What the journal believes, as numbers: totals by disposition, and what writing them took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::outcome::{Disposition, InDoubtPolicy};

/// How many recipients ended how, and what else was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
    pub suppressed: u64,
    pub cancelled: u64,
    pub invalid: u64,
    /// Final ones only: policy `skip` or `hold`.
    pub in_doubt: u64,
    /// Attempts that ended in a deferral; not recipients.
    pub deferrals: u64,
    /// Attempts in doubt that are made again; not recipients.
    pub resends: u64,
}

impl Totals {
    /// Recipients for whom no attempt will follow.
    pub fn settled(&self) -> u64 {
        self.delivered
            + self.bounced
            + self.expired
            + self.suppressed
            + self.cancelled
            + self.invalid
            + self.in_doubt
    }

    pub(super) fn count(&mut self, disposition: Disposition) {
        *match disposition {
            Disposition::Delivered => &mut self.delivered,
            Disposition::Deferred { .. } => &mut self.deferrals,
            Disposition::Bounced => &mut self.bounced,
            Disposition::Expired => &mut self.expired,
            Disposition::Suppressed => &mut self.suppressed,
            Disposition::Cancelled => &mut self.cancelled,
            Disposition::Invalid => &mut self.invalid,
            Disposition::InDoubt(InDoubtPolicy::Resend) => &mut self.resends,
            Disposition::InDoubt(InDoubtPolicy::Skip | InDoubtPolicy::Hold) => &mut self.in_doubt,
        } += 1;
    }
}

/// What is believed so far, over all processes of the run; moves only after a write returned.
#[derive(Debug, Default)]
pub struct Counters {
    pub delivered: AtomicU64,
    pub bounced: AtomicU64,
    pub expired: AtomicU64,
    pub suppressed: AtomicU64,
    pub cancelled: AtomicU64,
    pub invalid: AtomicU64,
    pub in_doubt: AtomicU64,
    pub deferrals: AtomicU64,
    pub resends: AtomicU64,
    /// Octets written by this process.
    pub octets: AtomicU64,
    /// `write(2)` calls for groups by this process.
    pub writes: AtomicU64,
    /// `fdatasync(2)` calls by this process.
    pub syncs: AtomicU64,
}

impl Counters {
    pub fn totals(&self) -> Totals {
        Totals {
            delivered: self.delivered.load(Relaxed),
            bounced: self.bounced.load(Relaxed),
            expired: self.expired.load(Relaxed),
            suppressed: self.suppressed.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            invalid: self.invalid.load(Relaxed),
            in_doubt: self.in_doubt.load(Relaxed),
            deferrals: self.deferrals.load(Relaxed),
            resends: self.resends.load(Relaxed),
        }
    }

    pub(super) fn add(&self, more: &Totals) {
        self.delivered.fetch_add(more.delivered, Relaxed);
        self.bounced.fetch_add(more.bounced, Relaxed);
        self.expired.fetch_add(more.expired, Relaxed);
        self.suppressed.fetch_add(more.suppressed, Relaxed);
        self.cancelled.fetch_add(more.cancelled, Relaxed);
        self.invalid.fetch_add(more.invalid, Relaxed);
        self.in_doubt.fetch_add(more.in_doubt, Relaxed);
        self.deferrals.fetch_add(more.deferrals, Relaxed);
        self.resends.fetch_add(more.resends, Relaxed);
    }
}
