//! Counts over the last while, as a ring of buckets. Pure, and without allocation.

use std::time::Duration;

use tokio::time::Instant;

use super::Kind;
use crate::policy::Tempo;

/// Of one bucket, or the sum of a ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub sends: u64,
    /// By [`Kind`].
    pub events: [u64; 3],
}

/// A window as a ring of buckets.
#[derive(Debug)]
pub(super) struct Ring<const N: usize> {
    buckets: [Counts; N],
    pub sum: Counts,
    /// The bucket that is filled now, counted from the first.
    at: u64,
    /// In nanoseconds of the clock, above 0.
    window: u128,
    began: Instant,
    /// When the bucket that is filled now ends: most calls come before.
    ends: Instant,
}

impl<const N: usize> Ring<N> {
    pub(super) fn new(window: Duration, tempo: Tempo, now: Instant) -> Self {
        let window = tempo.of(window).as_nanos().max(1);
        let buckets = [Counts::default(); N];
        let mut ring = Self { buckets, sum: Counts::default(), at: 0, window, began: now, ends: now };
        ring.ends = ring.end();
        ring
    }

    fn end(&self) -> Instant {
        let nanos = ((u128::from(self.at) + 1) * self.window).div_ceil(N as u128);
        let passed = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.began.checked_add(passed).unwrap_or(self.ends)
    }

    /// Empties the buckets that are older than the window: at most all of them, whatever the time.
    pub(super) fn advance(&mut self, now: Instant) {
        if now < self.ends {
            return;
        }
        let passed = now.saturating_duration_since(self.began).as_nanos() * N as u128 / self.window;
        let to = u64::try_from(passed).unwrap_or(u64::MAX).max(self.at);
        for at in (self.at + 1..=to).take(N) {
            let old = std::mem::take(&mut self.buckets[(at % N as u64) as usize]);
            self.sum.sends -= old.sends;
            for (sum, old) in self.sum.events.iter_mut().zip(old.events) {
                *sum -= old;
            }
        }
        self.at = to;
        self.ends = self.end();
    }

    pub(super) fn add(&mut self, is_send: bool, kind: Option<Kind>) {
        let bucket = &mut self.buckets[(self.at % N as u64) as usize];
        for counts in [bucket, &mut self.sum] {
            counts.sends += u64::from(is_send);
            if let Some(kind) = kind {
                counts.events[kind as usize] += 1;
            }
        }
    }
}
