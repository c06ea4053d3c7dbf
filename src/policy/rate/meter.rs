//! What was taken in the last minute. Pure over `now`; knows nothing of limits.

use std::time::Duration;

use tokio::time::Instant;

use crate::policy::Tempo;

const MINUTE: Duration = Duration::from_secs(60);
/// The base of a cut where nothing limits and nothing was measured yet (estimate).
const UNMEASURED: f64 = 10.0;

/// Slots of a minute, and one that is being filled.
const SLOTS: usize = 13;

/// What was taken in the last minute, in slots of 5 s: two comparisons and two additions a call.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    slots: [u32; SLOTS],
    head: usize,
    head_ends: Instant,
    slot: Duration,
    /// Since when something is in the slots.
    since: Instant,
    last: Instant,
    /// Ever.
    pub(super) total: u64,
}

impl Meter {
    pub(super) fn new(tempo: Tempo, now: Instant) -> Self {
        let slot = tempo.of(MINUTE / (SLOTS as u32 - 1)).max(Duration::from_nanos(1));
        Self { slots: [0; SLOTS], head: 0, head_ends: now + slot, slot, since: now, last: now, total: 0 }
    }

    pub(super) fn add(&mut self, count: u32, now: Instant) {
        if now >= self.head_ends {
            self.roll(now);
        }
        if self.total == 0 {
            self.since = now;
        }
        self.slots[self.head] = self.slots[self.head].saturating_add(count);
        self.total += u64::from(count);
        self.last = now;
    }

    #[cold]
    fn roll(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.head_ends);
        let slots = (late.as_nanos() / self.slot.as_nanos()).saturating_add(1);
        if slots >= SLOTS as u128 {
            self.slots = [0; SLOTS];
            self.since = now;
            self.head_ends = now + self.slot;
            return;
        }
        for _ in 0..slots {
            self.head = (self.head + 1) % SLOTS;
            self.slots[self.head] = 0;
            self.head_ends += self.slot;
        }
    }

    /// The most of the twelve slots that are full and the twelve that end now: a server that counts
    /// by the minute takes its limit in each.
    pub(super) fn last_minute(&mut self, now: Instant) -> u32 {
        if now >= self.head_ends {
            self.roll(now);
        }
        let all = self.slots.iter().fold(0u32, |sum, slot| sum.saturating_add(*slot));
        let oldest = self.slots[(self.head + 1) % SLOTS];
        all - oldest.min(self.slots[self.head])
    }

    pub(super) fn spans_a_minute(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.slot * (SLOTS as u32 - 1)
    }

    pub(super) fn per_second(&self, in_a_minute: f64) -> f64 {
        in_a_minute / (self.slot.as_secs_f64() * (SLOTS - 1) as f64)
    }

    /// How fast it goes, by what is in the slots.
    pub(super) fn throughput(&self, now: Instant) -> f64 {
        let span =
            now.saturating_duration_since(self.since).clamp(self.slot / 5, self.slot * (SLOTS as u32 - 1));
        let all: u64 = self.slots.iter().copied().map(u64::from).sum();
        if all == 0 { UNMEASURED } else { all as f64 / span.as_secs_f64() }
    }

    /// How fast it went when something was last taken.
    pub(super) fn before_pause(&self) -> f64 {
        self.throughput(self.last)
    }
}
