//! Which of several variants did best. Pure: counts in, a place out.
//!
//! Shares are compared exactly, as fractions; of equals the first wins. Nobody wins before every variant
//! has as many results as asked for, nor by openings or clicks of which nobody has reported any.

use super::manifest::Winner;

/// Results of each variant at least before a winner is taken by itself: with fewer, chance decides.
pub const RESULTS_MIN: u64 = 20;

/// What is known of the recipients of one variant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VariantCounts {
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
    /// Recipients who opened the message, each once.
    pub opens: u64,
    /// Recipients who followed a link of it, each once.
    pub clicks: u64,
    /// Recipients who complained of it, each once.
    pub complaints: u64,
}

impl VariantCounts {
    /// What counts for a variant, and of how many.
    fn share(&self, metric: Winner) -> (u64, u64) {
        match metric {
            Winner::Opens => (self.opens, self.delivered),
            Winner::Clicks => (self.clicks, self.delivered),
            Winner::Manual | Winner::Delivered => {
                (self.delivered, self.delivered + self.bounced + self.expired)
            }
        }
    }
}

/// The place of the best by `metric`: the share of the settled who were delivered, or of the delivered who
/// opened or clicked.
///
/// `None` where it is left to a person, where a variant has fewer than `minimum` to take a share of, or
/// where there is no opening or click at all.
pub fn decide(counts: &[VariantCounts], metric: Winner, minimum: u64) -> Option<usize> {
    let shares: Vec<(u64, u64)> = counts.iter().map(|counts| counts.share(metric)).collect();
    let is_told = match metric {
        Winner::Manual => false,
        Winner::Delivered => true,
        Winner::Opens | Winner::Clicks => shares.iter().any(|(good, _)| *good > 0),
    };
    if !is_told || shares.iter().any(|(_, of)| *of < minimum.max(1)) {
        return None;
    }
    let is_better = |one: (u64, u64), other: (u64, u64)| {
        u128::from(one.0) * u128::from(other.1) > u128::from(other.0) * u128::from(one.1)
    };
    let mut best = None;
    for (place, &share) in shares.iter().enumerate() {
        if best.is_none_or(|best: usize| is_better(share, shares[best])) {
            best = Some(place);
        }
    }
    best
}

/// The same in words: what each of `names` has come to.
pub fn shares(names: &[&str], counts: &[VariantCounts], metric: Winner) -> String {
    let verb = match metric {
        Winner::Opens => "opened",
        Winner::Clicks => "clicked",
        Winner::Manual | Winner::Delivered => "delivered",
    };
    let said = names.iter().zip(counts).map(|(name, counts)| {
        let (good, of) = counts.share(metric);
        format!("{name} {good} of {of}")
    });
    format!("{verb}: {}", said.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(delivered: u64, bounced: u64, expired: u64) -> VariantCounts {
        VariantCounts { delivered, bounced, expired, ..VariantCounts::default() }
    }

    #[test]
    fn the_greatest_share_wins_and_not_the_greatest_count() {
        let counts = [settled(900, 100, 0), settled(46, 2, 2), settled(24, 1, 0)];
        assert_eq!(decide(&counts, Winner::Delivered, 20), Some(2));
        assert_eq!(decide(&counts, Winner::Delivered, 26), None, "25 are too few to tell");
        assert_eq!(decide(&counts, Winner::Manual, 1), None);
        assert_eq!(decide(&[], Winner::Delivered, 0), None);
    }

    #[test]
    fn of_equals_the_first_wins_to_the_last_recipient() {
        assert_eq!(decide(&[settled(2, 1, 0), settled(4, 1, 1)], Winner::Delivered, 1), Some(0));
        let large = u64::from(u32::MAX);
        let counts = [settled(large, 1, 0), settled(large + 1, 1, 0)];
        assert_eq!(decide(&counts, Winner::Delivered, 1), Some(1), "a float would not tell them apart");
        assert_eq!(decide(&[settled(0, 0, 0); 2], Winner::Delivered, 0), None);
    }

    #[test]
    fn without_a_single_click_nobody_wins_by_clicks() {
        let mut counts = [settled(100, 0, 0), settled(100, 0, 0)];
        assert_eq!(decide(&counts, Winner::Clicks, 20), None);
        counts[1].clicks = 1;
        counts[0].opens = 3;
        assert_eq!(decide(&counts, Winner::Clicks, 20), Some(1));
        assert_eq!(decide(&counts, Winner::Opens, 20), Some(0));
        assert_eq!(shares(&["A", "B"], &counts, Winner::Opens), "opened: A 3 of 100, B 0 of 100");
    }
}
