//! Between [`State`] and what is stored of it: names instead of numbers, times of the wall instead of the
//! clock's. What paused a campaign is not kept: starting or resuming a run is a person's word. Resuming one is
//! such a word on what breakers have paused besides, its sending domain and its sources, for these trip
//! together; starting another is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use super::Party;
use super::providers::ProviderId;
use super::rest::Rest;
use super::state::State;
use super::store::{Adjustment, By, Ceiling, Change, Stored, Target};
use super::terms::{Cause, Resting};
use crate::outcome::SourceId;

/// A suspension that ended so long ago, in the rules' time, is over without a probe.
const FORGOTTEN: Duration = Duration::from_secs(86_400);

impl State {
    /// Goes on from what a former process knew.
    pub(super) fn remember(&mut self, stored: Stored, is_resumed: bool, now: Instant, wall: SystemTime) {
        for Ceiling { party, provider, rate, learned } in stored.ceilings {
            self.learned.insert((party, Arc::from(provider)), (rate, learned.into()));
        }
        let forgotten = self.tempo.of(FORGOTTEN);
        for adjustment in stored.adjustments {
            let is_lifted = is_resumed && adjustment.by == By::Breaker;
            let is_old = adjustment.until.is_some_and(|until| SystemTime::from(until) + forgotten < wall);
            if !is_lifted && !is_old {
                self.recall(adjustment, now, wall);
            }
        }
    }

    fn recall(&mut self, adjustment: Adjustment, now: Instant, wall: SystemTime) {
        let cause = Arc::new(Cause {
            since: adjustment.since.into(),
            text: adjustment.cause,
            reply: None,
            class: None,
            rule: match adjustment.by {
                By::Rule(name) => Some(name),
                By::Breaker => Some("breaker".to_owned()),
                By::Person => Some("a person".to_owned()),
            },
        });
        let rest = |resting, resume| match adjustment.until {
            Some(until) => {
                let left = SystemTime::from(until).duration_since(wall).unwrap_or(Duration::ZERO);
                Rest::lasting(resting, left, resume, cause.clone(), now)
            }
            None => Rest::for_good(resting, cause.clone()),
        };
        match (adjustment.target, adjustment.change) {
            (Target::Path { party: Party::Source(name), provider }, change) => {
                let Some(source) = self.source_named(&name) else { return };
                let provider = self.provider(Arc::from(provider), now, wall);
                match change {
                    Change::TakenOut => {
                        self.providers[provider.0].out.insert(source, rest(Resting::Source, 1.0));
                    }
                    Change::Suspended { resume } => {
                        self.asleep.insert((source, provider), rest(Resting::Path, resume));
                    }
                    Change::Slowed(_) | Change::Paused | Change::Pinned { .. } => {}
                }
            }
            (Target::Path { party: Party::Domain(name), provider }, change)
                if self.judge.domain() == Party::Domain(name.clone()) =>
            {
                let resume = match change {
                    Change::Paused => 1.0,
                    Change::Suspended { resume } => resume,
                    Change::TakenOut | Change::Slowed(_) | Change::Pinned { .. } => return,
                };
                let provider = self.provider(Arc::from(provider), now, wall);
                self.providers[provider.0].rest = Some(rest(Resting::DomainAtProvider, resume));
            }
            (Target::Party(Party::Source(name)), Change::Paused) => {
                if let Some(source) = self.source_named(&name) {
                    self.sources.insert(source, rest(Resting::WholeSource, 1.0));
                }
            }
            (Target::Party(domain), Change::Paused) if domain == self.judge.domain() => {
                self.domain = Some(rest(Resting::SendingDomain, 1.0));
            }
            _ => {}
        }
    }

    fn source_named(&self, name: &str) -> Option<SourceId> {
        let place = self.names.iter().position(|known| known == name)?;
        u16::try_from(place).ok().map(SourceId)
    }

    /// What the next process is to know.
    pub(super) fn memory(&mut self, now: Instant, wall: SystemTime) -> Stored {
        let mut adjustments = Vec::new();
        let mut note = |target, change, rest: &Rest| {
            let until = rest.until.map(|until| wall + until.saturating_duration_since(now));
            adjustments.push(Adjustment {
                id: adjustments.len() as u64 + 1,
                target,
                change,
                since: stamp(rest.cause.since),
                until: until.map(stamp),
                by: match &rest.cause.rule {
                    Some(rule) if rule == "breaker" => By::Breaker,
                    Some(rule) => By::Rule(rule.clone()),
                    None => By::Person,
                },
                cause: rest.cause.to_string(),
            });
        };
        let (domain, judge) = (self.judge.domain(), &self.judge);
        let at = |party: Party, provider: &Arc<str>| Target::Path { party, provider: provider.to_string() };
        // Of several paths to one provider the one that rests longest, and those that have not come to life.
        let mut suspended: HashMap<(SourceId, ProviderId), &Rest> = HashMap::new();
        let of_paths = self.paths.iter().filter_map(|(key, path)| {
            let rest = path.rest.as_ref().filter(|rest| rest.resting == Resting::Path)?;
            Some(((key.source, path.provider), rest))
        });
        for (whose, rest) in of_paths.chain(self.asleep.iter().map(|(whose, rest)| (*whose, rest))) {
            let longest = suspended.entry(whose).or_insert(rest);
            if longest.until < rest.until {
                *longest = rest;
            }
        }
        for ((source, provider), rest) in suspended {
            let provider = &self.providers[provider.0].name;
            note(at(judge.source(source), provider), Change::Suspended { resume: rest.resume }, rest);
        }
        for (_, provider) in self.providers.iter() {
            for (source, rest) in &provider.out {
                note(at(judge.source(*source), &provider.name), Change::TakenOut, rest);
            }
            if let Some(rest) = &provider.rest {
                let change = match rest.resume {
                    1.0 => Change::Paused,
                    resume => Change::Suspended { resume },
                };
                note(at(domain.clone(), &provider.name), change, rest);
            }
        }
        for (source, rest) in &self.sources {
            note(Target::Party(judge.source(*source)), Change::Paused, rest);
        }
        if let Some(rest) = &self.domain {
            note(Target::Party(domain.clone()), Change::Paused, rest);
        }
        self.note_ceilings(wall);
        let ceilings = self.learned.iter().map(|((party, provider), (rate, at))| Ceiling {
            party: party.clone(),
            provider: provider.to_string(),
            rate: *rate,
            learned: stamp(*at),
        });
        let ceilings = ceilings.collect();
        Stored { ceilings, adjustments, reputation: self.judge.reputation.accounts(wall) }
    }

    /// Takes in the ceilings that paths know now.
    pub(super) fn note_ceilings(&mut self, wall: SystemTime) {
        let of_paths = self.paths.iter().filter_map(|(key, path)| {
            let provider = self.providers[path.provider.0].name.clone();
            Some(((self.judge.source(key.source), provider), path.rate.ceiling()?))
        });
        let of_domain = self.providers.iter().filter_map(|(_, provider)| {
            Some(((self.judge.domain(), provider.name.clone()), provider.rate.ceiling()?))
        });
        let known: Vec<_> = of_paths.chain(of_domain).collect();
        self.learned.extend(known.into_iter().map(|(whose, rate)| (whose, (rate, wall))));
    }
}

fn stamp(at: SystemTime) -> Timestamp {
    Timestamp::try_from(at).unwrap_or(Timestamp::MAX)
}
