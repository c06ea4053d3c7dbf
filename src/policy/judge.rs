//! What an outcome says about us: to breakers, to reputation, and so to a warm-up. Pure.
//!
//! Only what a server said counts: a connection that failed or a recipient that was never asked for says
//! nothing about anybody's mail, and greylisting is said to everybody.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::breaker::{Breaker, Event as Outcome, Trip};
use super::ledger::Ledger;
use super::reputation::{self, Growth, Reputation, Signal};
use super::{Party, Tempo, warmup};
use crate::classify::{By, Class, RecipientAction, Verdict};
use crate::config::policy::Breakers;
use crate::outcome::SourceId;

/// What an attempt counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weighed {
    pub outcome: Outcome,
    pub signal: Option<Signal>,
}

/// What a verdict counts as; `None`: as nothing.
pub(super) fn weigh(verdict: &Verdict) -> Option<Weighed> {
    let is_final = matches!(verdict.recipient, RecipientAction::Bounce | RecipientAction::Suppress);
    let (outcome, signal) = match verdict.class {
        Class::Accepted => (Outcome::Accepted, Some(Signal::Accepted)),
        _ if verdict.by == By::Engine => return None,
        Class::Greylisted => return None,
        class if class.is_hard_bounce() && is_final => (Outcome::HardBounce, Some(Signal::Bounced)),
        Class::SpamContent => (refused(is_final), Some(Signal::SpamRefused)),
        Class::PoorReputation
        | Class::SourceBlocked
        | Class::SourceListed
        | Class::DomainReputation
        | Class::Authentication
        | Class::ReverseDns
        | Class::BadHelo
        | Class::Policy => (refused(is_final), Some(Signal::Blocked)),
        _ if is_final => (Outcome::Refused, None),
        _ => (Outcome::Deferred, Some(Signal::Deferred)),
    };
    Some(Weighed { outcome, signal })
}

fn refused(is_final: bool) -> Outcome {
    if is_final { Outcome::Refused } else { Outcome::Deferred }
}

/// Where one path's outcomes are counted.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    source: reputation::Slot,
    domain: reputation::Slot,
    /// Of those that are warming up.
    pub warming: Vec<warmup::Slot>,
}

/// Whose breaker it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Campaign,
    SendingDomain,
    Source(SourceId),
}

/// Breakers and reputation of a run.
pub(super) struct Judge {
    campaign: Breaker,
    domain: Breaker,
    sources: Vec<Breaker>,
    pub reputation: Reputation,
    ledger: Arc<Ledger>,
    names: Vec<String>,
    sending_domain: String,
}

impl Judge {
    /// `names` of the sources, by number.
    pub fn new(
        breakers: Breakers,
        tempo: Tempo,
        reputation: Reputation,
        ledger: Arc<Ledger>,
        names: Vec<String>,
        sending_domain: String,
        now: Instant,
    ) -> Self {
        let breaker = || Breaker::new(breakers, tempo, now);
        let sources = names.iter().map(|_| breaker()).collect();
        let (campaign, domain) = (breaker(), breaker());
        Self { campaign, domain, sources, reputation, ledger, names, sending_domain }
    }

    pub fn source(&self, source: SourceId) -> Party {
        Party::Source(self.names[usize::from(source.0)].clone())
    }

    pub fn domain(&self) -> Party {
        Party::Domain(self.sending_domain.clone())
    }

    /// The accounts of a path from `source` to `provider`, a known one or the site of none.
    pub fn accounts(
        &mut self,
        source: SourceId,
        provider: &str,
        is_known: bool,
        now: SystemTime,
    ) -> Accounts {
        let (by_source, by_domain) = (self.source(source), self.domain());
        let mut warmup = self.ledger.warmup();
        let towards = is_known.then_some(provider);
        let warming = [&by_source, &by_domain].into_iter();
        let warming = warming.filter_map(|party| warmup.slot(party, towards)).collect();
        drop(warmup);
        Accounts {
            source: self.reputation.slot(by_source, provider, now),
            domain: self.reputation.slot(by_domain, provider, now),
            warming,
        }
    }

    /// Counts an outcome; which breakers it trips, and how.
    pub fn record(
        &mut self,
        source: SourceId,
        accounts: &Accounts,
        weighed: Weighed,
        now: Instant,
        wall: SystemTime,
    ) -> impl Iterator<Item = (Whose, Trip)> + use<> {
        if let Some(signal) = weighed.signal {
            self.reputation.record(accounts.source, signal, wall);
            self.reputation.record(accounts.domain, signal, wall);
            if signal != Signal::Accepted && !accounts.warming.is_empty() {
                self.mind(accounts, wall);
            }
        }
        let trips = [
            self.campaign.record(weighed.outcome, now).map(|trip| (Whose::Campaign, trip)),
            self.domain.record(weighed.outcome, now).map(|trip| (Whose::SendingDomain, trip)),
            self.sources[usize::from(source.0)]
                .record(weighed.outcome, now)
                .map(|trip| (Whose::Source(source), trip)),
        ];
        trips.into_iter().flatten()
    }

    /// A party that does badly grows no further today, or goes back a stage.
    fn mind(&mut self, accounts: &Accounts, wall: SystemTime) {
        let worst = [accounts.source, accounts.domain].map(|slot| self.reputation.score(slot, wall));
        let worst = worst.into_iter().fold(f64::INFINITY, f64::min);
        let growth = reputation::growth(worst);
        if growth == Growth::Go {
            return;
        }
        let mut warmup = self.ledger.warmup();
        for slot in &accounts.warming {
            let changed = match growth {
                Growth::StepBack => warmup.step_back(*slot, wall),
                Growth::Hold | Growth::Go => warmup.hold(*slot, wall),
            };
            if changed {
                tracing::info!(score = worst, ?growth, "the warm-up does not grow today");
            }
        }
    }

    /// The score of a source at a provider: the part of its weight that it should have there.
    pub fn share(&mut self, source: SourceId, provider: &str, wall: SystemTime) -> f64 {
        let slot = self.reputation.slot(self.source(source), provider, wall);
        reputation::share(self.reputation.score(slot, wall))
    }

    /// A person has resumed: empty windows.
    pub fn rearm(&mut self, whose: Whose, now: Instant) {
        match whose {
            Whose::Campaign => self.campaign.rearm(now),
            Whose::SendingDomain => self.domain.rearm(now),
            Whose::Source(source) => self.sources[usize::from(source.0)].rearm(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Rules;
    use crate::outcome::Stage;
    use crate::reply::Reply;

    fn weighed(stage: Stage, code: u16, text: &str) -> Option<Weighed> {
        weigh(&Rules::shipped().classify(None, stage, &Reply::new(code, text).unwrap()))
    }

    #[test]
    fn only_what_a_server_said_of_us_counts() {
        let hard = Weighed { outcome: Outcome::HardBounce, signal: Some(Signal::Bounced) };
        assert_eq!(weighed(Stage::Rcpt, 550, "5.1.1 no such user"), Some(hard));
        let later = Weighed { outcome: Outcome::Deferred, signal: Some(Signal::Deferred) };
        assert_eq!(weighed(Stage::Rcpt, 452, "4.2.2 mailbox full"), Some(later));
        assert_eq!(weigh(&Verdict::made_here(Class::InDoubt, RecipientAction::Retry)), None);
        assert_eq!(weigh(&Verdict::made_here(Class::Local, RecipientAction::Bounce)), None);
    }

    #[test]
    fn a_refusal_of_the_source_is_no_bounce_of_the_recipient() {
        let weighed = weighed(Stage::Mail, 550, "5.7.1 refused, your network is on our block list").unwrap();
        assert_eq!(weighed.outcome, Outcome::Deferred);
    }
}
