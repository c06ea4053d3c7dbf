//! Reputation: how well a provider takes mail from a source, or from a sending domain, lately: 0 to 100.
//! Pure.
//!
//! ```text
//! score = 100 · (A + 50) / (A + H + 62.5)
//! A = accepted         H = 1 · deferred + 10 · bounced + 20 · (blocked + spam-refused) + 300 · complained
//! ```
//!
//! Each count halves with every half-life. Nothing known is 80: fifty messages taken and harm to match,
//! which what is really learned soon outweighs. With enough mail, half the score (50) is left at 0.33 %
//! complaints (above the 0.3 % that Gmail never wants to see), at 10 % hard bounces, at 5 % blocked or
//! refused as spam, or with every other attempt deferred; 0.1 % complaints leave 77. The weights are
//! (estimate).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Tempo;
use super::party::{OTHER, Party};
use crate::config::policy::Reputation as Settings;

/// What is thought of who is not known: accepted messages and harm.
const PRIOR: (f64, f64) = (50.0, 12.5);
/// The least part of its weight that a source keeps, so that it can show that it is better now.
const SHARE_MIN: f64 = 0.05;
/// Below: a warm-up does not grow today (estimate).
const HOLD_BELOW: f64 = 60.0;
/// Below: a warm-up goes a stage back (estimate).
const STEP_BACK_BELOW: f64 = 40.0;
/// Accounts kept by name; later ones are counted with their party's [`OTHER`]. Bounds memory: a list has as
/// many sites as it likes.
const ACCOUNTS_MAX: usize = 65_536;

/// What a provider did with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Accepted = 0,
    Deferred = 1,
    /// For who we are: block lists, reputation, authentication.
    Blocked = 2,
    /// For what the message is.
    SpamRefused = 3,
    /// No such recipient.
    Bounced = 4,
    /// Reported as spam by the recipient.
    Complained = 5,
}

impl Signal {
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Deferred, Self::Blocked, Self::SpamRefused, Self::Bounced, Self::Complained];

    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Blocked => "blocked",
            Self::SpamRefused => "spam-refused",
            Self::Bounced => "bounced",
            Self::Complained => "complained",
        }
    }

    /// Messages that must be accepted to make up for one.
    fn harm(self) -> f64 {
        match self {
            Self::Accepted => 0.0,
            Self::Deferred => 1.0,
            Self::Bounced => 10.0,
            Self::Blocked | Self::SpamRefused => 20.0,
            Self::Complained => 300.0,
        }
    }
}

/// What a score means for a warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    Go,
    /// Today does not count as a sending day.
    Hold,
    StepBack,
}

/// Counts that fade.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// By [`Signal`]; each finite and at least 0.
    pub counts: [f64; 6],
    /// The moment the counts are of.
    pub at: jiff::Timestamp,
}

impl Counts {
    /// What is left of the counts at `now`.
    pub fn faded(mut self, half_life: Duration, now: SystemTime) -> Self {
        let then = SystemTime::from(self.at);
        let passed = now.duration_since(then).unwrap_or_default().as_secs_f64() / half_life.as_secs_f64();
        // A millionth of a half-life changes nothing that could be seen: most records come this way.
        if passed > 1e-6 {
            let left = (-passed).exp2();
            self.counts = self.counts.map(|count| count * left);
            self.at = jiff::Timestamp::try_from(now).unwrap_or(self.at);
        }
        self
    }

    /// From 0 to 100.
    pub fn score(&self) -> f64 {
        let accepted = self.counts[Signal::Accepted as usize] + PRIOR.0;
        let harm: f64 = Signal::ALL.iter().map(|signal| signal.harm() * self.counts[*signal as usize]).sum();
        100.0 * accepted / (accepted + harm + PRIOR.1)
    }
}

/// The part of its weight that a source of this score has in a pool: the square, so that mail moves away
/// before a source is lost, and never nothing.
pub fn share(score: f64) -> f64 {
    (score / 100.0).powi(2).clamp(SHARE_MIN, 1.0)
}

/// What a score means for a warm-up.
pub fn growth(score: f64) -> Growth {
    if score < STEP_BACK_BELOW {
        Growth::StepBack
    } else if score < HOLD_BELOW {
        Growth::Hold
    } else {
        Growth::Go
    }
}

/// One account: a party and a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot(u32);

/// An account as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub party: Party,
    pub provider: String,
    #[serde(flatten)]
    pub counts: Counts,
}

/// Every account of this machine.
#[derive(Debug)]
pub struct Reputation {
    /// In the clock's time.
    half_life: Duration,
    accounts: Vec<Account>,
    index: HashMap<(Party, String), Slot>,
}

impl Reputation {
    pub fn new(settings: &Settings, tempo: Tempo, accounts: Vec<Account>) -> Self {
        let half_life = tempo.of(settings.half_life).max(Duration::from_nanos(1));
        let mut reputation = Self { half_life, accounts: Vec::new(), index: HashMap::new() };
        for account in accounts {
            let slot = reputation.slot(account.party, &account.provider, account.counts.at.into());
            reputation.accounts[slot.0 as usize].counts = account.counts;
        }
        reputation
    }

    /// The account of `party` with a provider or, where there is none, a site, by its name.
    pub fn slot(&mut self, party: Party, provider: &str, now: SystemTime) -> Slot {
        let mut key = (party, provider.to_owned());
        if let Some(slot) = self.index.get(&key) {
            return *slot;
        }
        if self.accounts.len() >= ACCOUNTS_MAX && provider != OTHER {
            key.1 = OTHER.to_owned();
            if let Some(slot) = self.index.get(&key) {
                return *slot;
            }
        }
        let slot = Slot(u32::try_from(self.accounts.len()).expect("accounts are bounded"));
        let counts = Counts { counts: [0.0; 6], at: jiff::Timestamp::try_from(now).unwrap_or_default() };
        self.accounts.push(Account { party: key.0.clone(), provider: key.1.clone(), counts });
        self.index.insert(key, slot);
        slot
    }

    pub fn record(&mut self, slot: Slot, signal: Signal, now: SystemTime) {
        let counts = &mut self.accounts[slot.0 as usize].counts;
        *counts = counts.faded(self.half_life, now);
        counts.counts[signal as usize] += 1.0;
    }

    /// From 0 to 100.
    pub fn score(&self, slot: Slot, now: SystemTime) -> f64 {
        self.accounts[slot.0 as usize].counts.faded(self.half_life, now).score()
    }

    /// Every account as it is at `now`, for the store; those of which less than a message is left are not
    /// worth keeping.
    pub fn accounts(&self, now: SystemTime) -> Vec<Account> {
        let faded = self
            .accounts
            .iter()
            .map(|account| Account { counts: account.counts.faded(self.half_life, now), ..account.clone() });
        faded.filter(|account| account.counts.counts.iter().sum::<f64>() >= 1.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_000)
    }

    fn score(signals: &[(Signal, u32)]) -> f64 {
        let mut reputation = Reputation::new(&Settings::default(), Tempo(1.0), Vec::new());
        let slot = reputation.slot(Party::Source("a".to_owned()), "google", now());
        for (signal, count) in signals {
            for _ in 0..*count {
                reputation.record(slot, *signal, now());
            }
        }
        reputation.score(slot, now())
    }

    #[test]
    fn scores_are_where_the_formula_puts_them() {
        use Signal::{Accepted, Blocked, Bounced, Complained, Deferred, SpamRefused};
        assert_eq!(score(&[]), 80.0);
        // (1000 + 50) / (1000 + 62.5)
        assert!((score(&[(Accepted, 1_000)]) - 98.82).abs() < 0.01);
        // 50 / (62.5 + 20 * 10)
        assert!((score(&[(Blocked, 10)]) - 19.05).abs() < 0.01);
        for (signal, of_ten_thousand) in
            [(Complained, 33), (Bounced, 910), (SpamRefused, 476), (Blocked, 476), (Deferred, 5_000)]
        {
            let score = score(&[(Accepted, 10_000 - of_ten_thousand), (signal, of_ten_thousand)]);
            assert!((score - 50.0).abs() < 0.5, "{} leaves {score}", signal.name());
        }
        assert!((score(&[(Accepted, 10_000), (Complained, 10)]) - 77.0).abs() < 0.5);
    }

    #[test]
    fn what_happened_a_half_life_ago_counts_half() {
        let mut reputation = Reputation::new(&Settings::default(), Tempo(1.0), Vec::new());
        let slot = reputation.slot(Party::Source("a".to_owned()), "google", now());
        for _ in 0..100 {
            reputation.record(slot, Signal::Blocked, now());
        }
        // 50 / (62.5 + 20 * 50)
        assert!((reputation.score(slot, now() + DAY * 7) - 4.706).abs() < 0.001);
        assert!((reputation.score(slot, now() + DAY * 700) - 80.0).abs() < 0.001);
        // A clock set back changes nothing.
        assert_eq!(reputation.score(slot, now() - DAY), reputation.score(slot, now()));
        let mut quick = Reputation::new(&Settings::default(), Tempo(86_400.0), Vec::new());
        let slot = quick.slot(Party::Source("a".to_owned()), "google", now());
        for _ in 0..100 {
            quick.record(slot, Signal::Blocked, now());
        }
        assert!((quick.score(slot, now() + Duration::from_secs(7)) - 4.706).abs() < 0.001);
    }

    #[test]
    fn many_small_steps_fade_as_one_large_one() {
        let mut small = Reputation::new(&Settings::default(), Tempo(1.0), Vec::new());
        let slot = small.slot(Party::Source("a".to_owned()), "google", now());
        // One each second for an hour, all but no time: 3,600 accepted, less 0.2 %.
        for secs in 0..3_600 {
            small.record(slot, Signal::Accepted, now() + Duration::from_secs(secs));
        }
        let left = small.accounts(now() + Duration::from_secs(3_600))[0].counts.counts[0];
        let expected: f64 = (1..=3_600).map(|age| (-f64::from(age) / 604_800.0).exp2()).sum();
        assert!((left - expected).abs() < 0.01, "{left} for {expected}");
    }

    #[test]
    fn a_better_score_sends_more_and_the_worst_still_something() {
        assert_eq!(share(100.0), 1.0);
        assert!((share(80.0) - 0.64).abs() < 1e-9);
        assert_eq!(share(0.0), SHARE_MIN);
        assert_eq!([80.0, 59.0, 39.0].map(growth), [Growth::Go, Growth::Hold, Growth::StepBack]);
    }

    #[test]
    fn accounts_are_bounded_and_survive_storage() {
        let mut reputation = Reputation::new(&Settings::default(), Tempo(1.0), Vec::new());
        let party = Party::Domain("news.sender.example".to_owned());
        for site in 0..ACCOUNTS_MAX + 10 {
            let slot = reputation.slot(party.clone(), &format!("mx{site}.example"), now());
            reputation.record(slot, Signal::Accepted, now());
        }
        let accounts = reputation.accounts(now());
        assert_eq!(accounts.len(), ACCOUNTS_MAX + 1);
        assert_eq!(accounts[ACCOUNTS_MAX].provider, OTHER);
        assert_eq!(accounts[ACCOUNTS_MAX].counts.counts[0], 10.0);
        let again = Reputation::new(&Settings::default(), Tempo(1.0), accounts.clone());
        assert_eq!(again.accounts(now()), accounts);
        assert_eq!(again.accounts(now() + DAY * 8).len(), 1, "nearly nothing is left of the others");
    }

    proptest::proptest! {
        #[test]
        fn a_score_is_a_score(counts: [u32; 6], days in 0u32..10_000) {
            let counts = Counts { counts: counts.map(f64::from), at: jiff::Timestamp::UNIX_EPOCH };
            let later = counts.faded(DAY, SystemTime::UNIX_EPOCH + DAY * days);
            for score in [counts.score(), later.score()] {
                assert!((0.0..=100.0).contains(&score));
                assert!((SHARE_MIN..=1.0).contains(&share(score)));
            }
        }
    }
}
