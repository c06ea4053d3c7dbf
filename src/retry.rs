//! When a deferred recipient's next attempt is due. Pure: `now` is an argument.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::envelope::{Entry, RecipientId};
use crate::shaping::Limits;

/// The retry schedule of a run.
#[derive(Debug, Clone)]
pub struct Schedule {
    delays: Vec<Duration>,
    jitter: f64,
    starts: SystemTime,
    expiry: Duration,
    /// Expiries count from here instead.
    starts_anew: OnceLock<SystemTime>,
}

impl Schedule {
    /// `delays` by attempt, the last one repeating (none given: an hour); `jitter` from 0 to 1 is the
    /// part of a delay by which it may be longer; nothing is attempted `expiry` after `starts`.
    pub fn new(delays: Vec<Duration>, jitter: f64, starts: SystemTime, expiry: Duration) -> Self {
        let delays = if delays.is_empty() { vec![Duration::from_secs(3600)] } else { delays };
        Self { delays, jitter: jitter.clamp(0.0, 1.0), starts, expiry, starts_anew: OnceLock::new() }
    }

    pub fn expires(&self) -> SystemTime {
        self.starts() + self.expiry
    }

    /// Lets the expiry of whoever still waits count from `at` on, if that is later; once.
    pub fn start_anew(&self, at: SystemTime) {
        let _ = self.starts_anew.set(at.max(self.starts));
    }

    fn starts(&self) -> SystemTime {
        self.starts_anew.get().copied().unwrap_or(self.starts)
    }

    /// The wait after failure number `failures` (the first is 1), without jitter.
    pub fn delay(&self, failures: u32) -> Duration {
        nth(&self.delays, failures)
    }

    /// When the attempt after `entry`'s is due, or `None` when that is after the expiry. `limits` of the
    /// path may have waits of their own.
    pub fn due(&self, entry: Entry, now: SystemTime, limits: Option<&Limits>) -> Option<SystemTime> {
        let failures = u32::from(entry.attempt);
        let delay = match limits.and_then(|limits| limits.retry.as_deref()) {
            Some(delays) => nth(delays, failures),
            None => self.delay(failures),
        };
        self.due_after(entry, now, delay, limits)
    }

    /// As [`Self::due`], for a wait that somebody has named.
    ///
    /// The jitter is a hash of recipient and attempt: repeatable, and spread so that a thousand
    /// recipients deferred in one second do not return in one.
    pub fn due_after(
        &self,
        entry: Entry,
        now: SystemTime,
        delay: Duration,
        limits: Option<&Limits>,
    ) -> Option<SystemTime> {
        let due = now + delay + delay.mul_f64(self.jitter * share(entry.recipient, entry.attempt));
        let own = limits.and_then(|limits| limits.expiry).map(|expiry| self.starts() + expiry);
        let expires = self.expires();
        (due < own.map_or(expires, |own| own.min(expires))).then_some(due)
    }
}

/// The `failures`th of some delays, the last one repeating.
fn nth(delays: &[Duration], failures: u32) -> Duration {
    delays[(failures.max(1) as usize - 1).min(delays.len() - 1)]
}

/// A number from 0 to 1 that stands for a recipient's attempt.
fn share(recipient: RecipientId, attempt: u16) -> f64 {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&recipient.to_u64().to_le_bytes(), u64::from(attempt));
    hash as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u32, attempt: u16) -> Entry {
        Entry::new(RecipientId::new(0, index), attempt)
    }

    #[test]
    fn delays_follow_the_schedule_and_the_last_repeats() {
        let now = SystemTime::UNIX_EPOCH;
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let schedule = Schedule::new(vec![minutes(5), minutes(15)], 0.0, now, minutes(1000));
        for (attempt, expected) in [(1, 5), (2, 15), (3, 15), (900, 15)] {
            assert_eq!(schedule.due(entry(0, attempt), now, None), Some(now + minutes(expected)));
        }
    }

    #[test]
    fn an_attempt_past_the_expiry_is_none() {
        let now = SystemTime::UNIX_EPOCH;
        let schedule = Schedule::new(vec![Duration::from_secs(60)], 0.0, now, Duration::from_secs(60));
        assert_eq!(schedule.due(entry(0, 1), now, None), None);
    }

    #[test]
    fn an_expiry_can_start_anew_once_and_never_earlier() {
        let (start, second) = (SystemTime::UNIX_EPOCH + Duration::from_secs(100), Duration::from_secs(1));
        let schedule = || Schedule::new(vec![second], 0.0, start, 10 * second);
        let (early, late) = (schedule(), schedule());
        early.start_anew(start - 50 * second);
        assert_eq!(early.expires(), start + 10 * second);
        late.start_anew(start + 8 * second);
        late.start_anew(start + 90 * second);
        assert_eq!(late.expires(), start + 18 * second);
        assert_eq!(late.due(entry(0, 1), start + 16 * second, None), Some(start + 17 * second));
        assert_eq!(late.due(entry(0, 1), start + 17 * second, None), None);
    }

    #[test]
    fn jitter_spreads_and_only_lengthens() {
        let now = SystemTime::UNIX_EPOCH;
        let schedule = Schedule::new(vec![Duration::from_secs(100)], 0.1, now, Duration::from_secs(1000));
        let waits: Vec<f64> = (0..1000)
            .map(|i| schedule.due(entry(i, 1), now, None).unwrap().duration_since(now).unwrap().as_secs_f64())
            .collect();
        assert!(waits.iter().all(|wait| (100.0..=110.0).contains(wait)));
        let mean = waits.iter().sum::<f64>() / 1000.0;
        assert!((104.5..=105.5).contains(&mean), "{mean}");
    }
}
