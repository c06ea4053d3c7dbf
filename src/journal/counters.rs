//! What the journal believes, as numbers: totals by disposition, the same by variant, and what writing them
//! took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

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

    fn add(&mut self, more: &Self) {
        self.delivered += more.delivered;
        self.bounced += more.bounced;
        self.expired += more.expired;
        self.suppressed += more.suppressed;
        self.cancelled += more.cancelled;
        self.invalid += more.invalid;
        self.in_doubt += more.in_doubt;
        self.deferrals += more.deferrals;
        self.resends += more.resends;
    }

    /// Counts a record.
    pub fn count(&mut self, disposition: Disposition) {
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

/// Totals by variant, of those records alone that have one; those without are what is missing of all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ByVariant(Vec<Totals>);

impl ByVariant {
    /// Of the variant at `place` in the manifest.
    pub fn of(&self, place: usize) -> Totals {
        self.0.get(place).copied().unwrap_or_default()
    }

    /// Counts a record; `variant` is 0 for none.
    pub fn count(&mut self, variant: u8, disposition: Disposition) {
        let Some(place) = usize::from(variant).checked_sub(1) else { return };
        self.reach(place + 1);
        self.0[place].count(disposition);
    }

    fn reach(&mut self, len: usize) {
        if self.0.len() < len {
            self.0.resize(len, Totals::default());
        }
    }

    fn add(&mut self, more: &Self) {
        self.reach(more.0.len());
        self.0.iter_mut().zip(&more.0).for_each(|(totals, more)| totals.add(more));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
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
    by_variant: Mutex<ByVariant>,
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

    pub fn by_variant(&self) -> ByVariant {
        self.by_variant.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add_by_variant(&self, more: &ByVariant) {
        if !more.0.is_empty() {
            self.by_variant.lock().unwrap_or_else(PoisonError::into_inner).add(more);
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
