//! The sources a campaign may send from, and whose turn it is by weight. Pure but for one small lock.

use std::sync::Mutex;

use super::relay::Relay;
use crate::outcome::SourceId;
use crate::policy::SourceFacts;
use crate::smtp::{LocalEnd, Via};

/// One way out: our end of it, what lies between, and its share of the work.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    pub end: LocalEnd,
    pub via: Via,
    /// Where all its mail goes; `None`: to the recipients' exchanges.
    pub relay: Option<Relay>,
    /// At least 1.
    pub weight: u32,
}

/// Parts of a weight that are told apart.
const WEIGHT_UNIT: f64 = 1000.0;

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

    /// Whether every source hands its mail to a relay, so that nobody's exchanges matter.
    pub fn is_all_relays(&self) -> bool {
        !self.sources.is_empty() && self.sources.iter().all(|source| source.relay.is_some())
    }

    pub fn ids(&self) -> impl Iterator<Item = SourceId> + use<> {
        (0..u16::try_from(self.sources.len()).unwrap_or(u16::MAX)).map(SourceId)
    }

    /// What policy has to know of each.
    pub fn facts(&self) -> Vec<SourceFacts> {
        let relay = |source: &Source| source.relay.as_ref().map(|relay| relay.provider.clone());
        let facts = |source: &Source| SourceFacts { name: source.name.clone(), relay: relay(source) };
        self.sources.iter().map(facts).collect()
    }

    /// Sessions of `limit` that a source's share allows, at least one: the heaviest has all of them.
    pub fn share(&self, id: SourceId, limit: u32) -> u32 {
        let heaviest = self.sources.iter().map(|source| source.weight).max().unwrap_or(1);
        let share = u64::from(limit) * u64::from(self.source(id).weight) / u64::from(heaviest.max(1));
        u32::try_from(share).unwrap_or(limit).max(1)
    }

    /// The source whose turn it is among those not in `used`, each with such a `part` of its weight, above 0
    /// and at most 1; `None` when all are used.
    pub fn next(&self, used: &[SourceId], part: impl Fn(SourceId) -> f64) -> Option<SourceId> {
        let mut credits = self.credits.lock().expect("no panic while the credits are held");
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for (index, source) in self.sources.iter().enumerate() {
            if used.iter().any(|id| usize::from(id.0) == index) {
                continue;
            }
            let part = part(SourceId(u16::try_from(index).expect("sources are counted in 16 bits")));
            let weight = (f64::from(source.weight) * part * WEIGHT_UNIT) as i64;
            sum += weight;
            credits[index] += weight;
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
            via: Via::Direct,
            relay: None,
            weight,
        };
        Pool::new(weights.iter().map(source).collect())
    }

    fn whole(_: SourceId) -> f64 {
        1.0
    }

    #[test]
    fn turns_are_in_proportion_and_spread() {
        let pool = pool(&[5, 1, 1]);
        let turns: Vec<u16> = (0..7).map(|_| pool.next(&[], whole).unwrap().0).collect();
        // The published example of smooth weighted round robin: a a b a c a a.
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_used_source_has_no_turn() {
        let pool = pool(&[5, 1]);
        assert_eq!(pool.next(&[SourceId(0)], whole), Some(SourceId(1)));
        assert_eq!(pool.next(&[SourceId(0), SourceId(1)], whole), None);
    }

    #[test]
    fn sessions_follow_the_weight() {
        let pool = pool(&[4, 1]);
        assert_eq!((pool.share(SourceId(0), 10), pool.share(SourceId(1), 10)), (10, 2));
        assert_eq!(pool.share(SourceId(1), 1), 1);
    }
}
