//! A share of each attempt is deferred: how many come how often.

use crate::plan::Cohort;

/// How often somebody of so many is deferred in a row, if a share is each time.
pub(super) fn rounds(recipients: u64, share: f64) -> u32 {
    let mut left = recipients as f64 * share;
    let mut rounds = 0;
    while left >= 0.5 && rounds < 100 {
        (left, rounds) = (left * share, rounds + 1);
    }
    rounds
}

/// So many, of whom a share is deferred each time, up to so often.
pub(super) fn by_share(count: u64, share: f64, rounds: u32) -> impl Iterator<Item = Cohort> {
    let mut left = count as f64;
    (0..=rounds).map(move |round| {
        let deferred = if round == rounds { 0.0 } else { left * share };
        let settled = left - deferred;
        left = deferred;
        Cohort::fresh(settled, Some(round), false)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_deferred_again_until_it_is_nobody() {
        // 20,000, then 400, 8, and 0.16.
        assert_eq!(rounds(1_000_000, 0.02), 3);
        assert_eq!(rounds(24, 0.02), 0);
        assert_eq!(rounds(1_000, 0.0), 0);
        let cohorts: Vec<(f64, Option<u32>)> =
            by_share(1_000, 0.1, 2).map(|cohort| (cohort.count.round(), cohort.to_come)).collect();
        assert_eq!(cohorts, [(900.0, Some(0)), (90.0, Some(1)), (10.0, Some(2))]);
    }
}
