//! A rate with its burst, spent in portions of time: what [`crate::shaping::rate::Pace`] grants, as a fluid.

use crate::config::Rate;
use crate::shaping::rate::burst;

/// Invariant: 0 ≤ level ≤ burst, but for rounding.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    level: f64,
}

impl Bucket {
    /// Full: the burst may be spent at once.
    pub fn new(rate: &Rate) -> Self {
        let burst = f64::from(burst(rate));
        Self { per_second: per_second(rate), burst, level: burst }
    }

    /// Without a burst.
    pub fn steady(per_second: f64) -> Self {
        Self { per_second, burst: 0.0, level: 0.0 }
    }

    /// What may be taken within the next `seconds`.
    pub fn available(&self, seconds: f64) -> f64 {
        self.level + self.per_second * seconds
    }

    /// `seconds` pass, in which so much is taken, at most what was available.
    pub fn pass(&mut self, seconds: f64, taken: f64) {
        self.level = (self.level + self.per_second * seconds - taken).clamp(0.0, self.burst);
    }
}

/// What a rate grants in the long run.
pub(super) fn per_second(rate: &Rate) -> f64 {
    f64::from(rate.count) / rate.per.as_secs_f64()
}

/// The least that several grant; without any, all there is.
pub(super) fn least(buckets: &[Bucket], seconds: f64) -> f64 {
    buckets.iter().map(|bucket| bucket.available(seconds)).fold(f64::INFINITY, f64::min)
}

pub(super) fn buckets(rates: &[Rate]) -> Vec<Bucket> {
    rates.iter().map(Bucket::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spent_once_and_earned_again() {
        let mut bucket = Bucket::new(&"60/min burst 5".parse().unwrap());
        assert_eq!(bucket.available(10.0), 15.0);
        bucket.pass(10.0, 15.0);
        assert_eq!(bucket.available(1.0), 1.0);
        bucket.pass(3.0, 0.0);
        assert_eq!(bucket.available(0.0), 3.0);
        bucket.pass(100.0, 0.0);
        assert_eq!(bucket.available(0.0), 5.0, "no more than the burst is saved up");
    }

    #[test]
    fn of_several_the_tightest_counts() {
        let both = buckets(&["10/s".parse().unwrap(), "120/min burst 60".parse().unwrap()]);
        // The first grants 1 at once and 10 each second, the second 60 at once and 2 each second.
        assert_eq!(least(&both, 1.0), 11.0);
        assert_eq!(least(&both, 100.0), 260.0);
        assert_eq!(least(&[], 1.0), f64::INFINITY);
    }
}
