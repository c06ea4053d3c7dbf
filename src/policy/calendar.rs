//! Hours and days of the rules' time: UTC's, but in rehearsals, where they pass in seconds. Pure.
//!
//! Everything is counted in whole hours since 1970, so that a day has 24 of them at any tempo and a moment
//! that is computed lies in the hour it was computed for.

use std::time::{Duration, SystemTime};

use super::Tempo;

/// Hours of a day.
pub const DAY: u64 = 24;

/// Which hour it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// A day in nanoseconds of the clock, at least 1.
    day: u128,
}

impl Calendar {
    pub fn new(tempo: Tempo) -> Self {
        Self { day: tempo.of(Duration::from_secs(86_400)).as_nanos().max(1) }
    }

    /// The number of the hour, from 0 in 1970; of its day: a 24th.
    pub fn hour(self, now: SystemTime) -> u64 {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos() * u128::from(DAY) / self.day).unwrap_or(u64::MAX)
    }

    /// When an hour begins; one beyond what the clock can say: its end.
    pub fn start(self, hour: u64) -> SystemTime {
        const LAST: Duration = Duration::from_secs(253_402_300_799); // 9999-12-31T23:59:59Z
        let nanos = u128::from(hour).saturating_mul(self.day).div_ceil(u128::from(DAY));
        let secs = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        let since = Duration::new(secs, (nanos % 1_000_000_000) as u32);
        SystemTime::UNIX_EPOCH + since.min(LAST)
    }

    /// Whole days, rounded up, in a span of the rules' time.
    pub fn days(span: Duration) -> u64 {
        span.as_secs().div_ceil(DAY * 3_600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_begin_as_in_utc() {
        let calendar = Calendar::new(Tempo(1.0));
        // date -u -d '2026-11-23 08:59:59' +%s
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_424_399);
        let hour = calendar.hour(at);
        assert_eq!(hour % DAY, 8);
        assert_eq!(calendar.start(hour + 1), at + Duration::from_secs(1));
        assert_eq!(Calendar::days(Duration::from_secs(30 * 86_400)), 30);
    }

    proptest::proptest! {
        #[test]
        fn an_hour_begins_in_itself_at_any_tempo(factor in 1.0f64..1e9, secs in 0u64..4_000_000_000) {
            let calendar = Calendar::new(Tempo(factor));
            let hour = calendar.hour(SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
            assert_eq!(calendar.hour(calendar.start(hour)), hour);
            assert_eq!(calendar.hour(calendar.start(hour) - Duration::from_nanos(u64::from(hour > 0))), hour.saturating_sub(1));
        }
    }
}
