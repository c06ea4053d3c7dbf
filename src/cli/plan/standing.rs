//! What policy remembers, as far as a plan minds: learned ceilings and rests. Read, never written.

use std::time::SystemTime;

use crate::plan::Rest;
use crate::policy::Party;
use crate::policy::rate::{PLATEAU, decayed};
use crate::policy::store::{Change, Stored, Target};

/// What was stored when the plan was made.
#[derive(Debug, Default)]
pub(super) struct Standing(Stored);

impl Standing {
    pub fn new(stored: Stored) -> Self {
        Self(stored)
    }

    /// Messages a second that a party begins with, where that is less than `limit`.
    pub fn learned(&self, party: &Party, provider: &str, limit: Option<f64>, now: SystemTime) -> Option<f64> {
        let known = |ceiling: &&crate::policy::store::Ceiling| {
            ceiling.party == *party && ceiling.provider == provider
        };
        let ceiling = self.0.ceilings.iter().find(known)?;
        let age = now.duration_since(ceiling.learned.into()).unwrap_or_default();
        decayed(ceiling.rate, age, limit).map(|ceiling| PLATEAU * ceiling)
    }

    /// What keeps a source from sending to a provider now: of itself, or of the sending domain.
    pub fn rest(&self, source: &str, from: &str, provider: &str, now: SystemTime) -> Option<Rest> {
        let parties = [Party::Source(source.to_owned()), Party::Domain(from.to_owned())];
        let is_meant = |target: &Target| match target {
            Target::Path { party, provider: other } => parties.contains(party) && other == provider,
            Target::Party(party) => parties.contains(party),
            Target::Campaign(_) => false,
        };
        let stops =
            |change: &Change| matches!(change, Change::Suspended { .. } | Change::TakenOut | Change::Paused);
        let meant = self
            .0
            .adjustments
            .iter()
            .filter(|adjustment| is_meant(&adjustment.target) && stops(&adjustment.change));
        meant.fold(None, |longest, adjustment| match (longest, adjustment.until.map(SystemTime::from)) {
            (Some(Rest::ForGood), _) | (_, None) => Some(Rest::ForGood),
            (longest, Some(until)) if until <= now => longest,
            (Some(Rest::Until(longest)), Some(until)) => Some(Rest::Until(longest.max(until))),
            (None, Some(until)) => Some(Rest::Until(until)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::policy::store::{Adjustment, By, Ceiling};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::try_from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap()
    }

    fn adjustment(target: Target, change: Change, until: Option<u64>) -> Adjustment {
        let until = until.map(at);
        Adjustment { id: 1, target, change, since: at(0), until, by: By::Person, cause: String::new() }
    }

    #[test]
    fn what_was_learned_is_believed_and_forgotten_as_the_engine_does() {
        let ceiling = Ceiling {
            party: Party::Source("a".into()),
            provider: "google".into(),
            rate: 10.0,
            learned: at(0),
        };
        let standing = Standing::new(Stored { ceilings: vec![ceiling], ..Stored::default() });
        let learned = |source: &str, hours: u64, limit| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600);
            standing.learned(&Party::Source(source.into()), "google", limit, now)
        };
        assert!((learned("a", 0, Some(100.0)).unwrap() - 9.7).abs() < 1e-9);
        assert!((learned("a", 12, Some(100.0)).unwrap() - 19.4).abs() < 1e-9, "it doubles in half a day");
        assert_eq!(learned("a", 0, Some(5.0)), None, "the limit is tighter");
        assert_eq!(learned("b", 0, None), None);
    }

    #[test]
    fn the_longest_rest_of_source_and_domain_counts() {
        let path = |party, provider: &str| Target::Path { party, provider: provider.into() };
        let (source, domain) = (Party::Source("a".into()), Party::Domain("news.test".into()));
        let standing = Standing::new(Stored {
            adjustments: vec![
                adjustment(path(source.clone(), "google"), Change::TakenOut, Some(100)),
                adjustment(path(domain, "google"), Change::Suspended { resume: 0.5 }, Some(200)),
                adjustment(Target::Party(Party::Source("b".into())), Change::Paused, None),
                adjustment(path(source, "yahoo"), Change::Slowed(0.5), Some(900)),
            ],
            ..Stored::default()
        });
        let rest = |source, provider, now| {
            standing.rest(source, "news.test", provider, SystemTime::UNIX_EPOCH + Duration::from_secs(now))
        };
        assert_eq!(rest("a", "google", 0), Some(Rest::Until(at(200).into())));
        assert_eq!(rest("a", "google", 200), None);
        assert_eq!(rest("a", "yahoo", 0), None, "slow is no rest");
        assert_eq!(rest("b", "yahoo", 0), Some(Rest::ForGood));
    }
}
