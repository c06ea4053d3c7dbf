//! The sources a campaign may send from, and whose turn it is by weight. Pure but for one small lock.

use std::sync::Mutex;

use crate::outcome::SourceId;
use crate::policy::SourceFacts;
use crate::smtp::LocalEnd;

/// One local end: its addresses, its EHLO name, its share of the work.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub end: LocalEnd,
    /// At least 1.
    pub weight: u32,
}

/// A weighted group of sources.
#[derive(Debug)]
pub struct Pool {
    sources: Vec<Source>,
    /// Smooth weighted round robin: each turn every source gains its weight and the one that is
    /// furthest ahead goes and pays the sum, so that turns are spread and never random.
    credits: Mutex<Vec<i64>>,
}

impl Pool {
    /// `sources` in the order of their ids.
    pub fn new(sources: Vec<Source>) -> Self {
        let credits = Mutex::new(vec![0; sources.len()]);
        Self { sources, credits }
    }

    pub fn source(&self, id: SourceId) -> &Source {
        &self.sources[usize::from(id.0)]
    }

    pub fn ids(&self) -> impl Iterator<Item = SourceId> + use<> {
        (0..u16::try_from(self.sources.len()).unwrap_or(u16::MAX)).map(SourceId)
    }

    /// What policy has to know of each; the heaviest has all the sessions that limits allow.
    pub fn facts(&self) -> Vec<SourceFacts> {
        let heaviest = self.sources.iter().map(|source| source.weight).max().unwrap_or(1);
        let share = |source: &Source| f64::from(source.weight) / f64::from(heaviest.max(1));
        let facts = |source: &Source| SourceFacts { name: source.name.clone(), share: share(source) };
        self.sources.iter().map(facts).collect()
    }

    /// The source whose turn it is among those not in `used`; `None` when all are.
    pub fn next(&self, used: &[SourceId]) -> Option<SourceId> {
        let mut credits = self.credits.lock().expect("no panic while the credits are held");
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for (index, source) in self.sources.iter().enumerate() {
            if used.iter().any(|id| usize::from(id.0) == index) {
                continue;
            }
            sum += i64::from(source.weight);
            credits[index] += i64::from(source.weight);
            if best.is_none_or(|best| credits[index] > credits[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        credits[best] -= sum;
        Some(SourceId(u16::try_from(best).expect("sources are counted in 16 bits")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(weights: &[u32]) -> Pool {
        let source = |&weight: &u32| Source {
            name: format!("w{weight}"),
            end: LocalEnd { ipv4: None, ipv6: None, ehlo: "mail.test".into() },
            weight,
        };
        Pool::new(weights.iter().map(source).collect())
    }

    #[test]
    fn turns_are_in_proportion_and_spread() {
        let pool = pool(&[5, 1, 1]);
        let turns: Vec<u16> = (0..7).map(|_| pool.next(&[]).unwrap().0).collect();
        // The published example of smooth weighted round robin: a a b a c a a.
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_used_source_has_no_turn() {
        let pool = pool(&[5, 1]);
        assert_eq!(pool.next(&[SourceId(0)]), Some(SourceId(1)));
        assert_eq!(pool.next(&[SourceId(0), SourceId(1)]), None);
    }

    #[test]
    fn sessions_follow_the_weight() {
        let pool = pool(&[4, 1]);
        let shares: Vec<f64> = pool.facts().iter().map(|facts| facts.share).collect();
        assert_eq!(shares, [1.0, 0.25]);
    }
}
