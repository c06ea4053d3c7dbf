//! Delivery policy: what signals change about the limits, for how long, and why.
//!
//! ```text
//! rate, window   of a path: as fast and as wide as the site takes it
//! rest           a suspension, and the probe that ends it
//! breaker        bounce, complaint and deferral rates of campaign, sending domain and source
//! warmup         caps of new sources and sending domains
//! reputation     standing of each with each provider
//! providers      what is known of each, while a path leads there
//! state          all of these for a run, changed by signals; pure
//! terms          what comes of it for a path
//! judge          what an outcome says to breakers, reputation and warm-up
//! store, ledger  what outlives the process; memory: of that, what is in force
//! ```
//!
//! [`Policy`] is what paths, feedback, the scheduler and people ask. Behind it is one lock, under which
//! nobody waits for an inbox, a disk, a peer or a gate. A message is held up by its own path's gate, and that
//! asks policy only where a warm-up's cap has to be counted.

pub mod breaker;
pub mod calendar;
mod event;
mod explain;
mod judge;
pub mod ledger;
mod memory;
pub mod party;
mod person;
mod providers;
pub mod rate;
pub mod reputation;
mod rest;
mod state;
pub mod store;
mod terms;
pub mod warmup;
pub mod window;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use event::Event;
pub use explain::{HoldReport, PathBinding, PathReport, RateReport, RateWord, SessionsReport};
pub use person::{Adjustment, Kind, Paused, Pinned};
pub use state::Entrance;
pub use terms::{Binding, Cause, Hold, Resting, Standing, Terms};

use crate::classify::{self, By, Class, RecipientAction, Rules, Verdict};
use crate::config::Node;
use crate::config::policy::Period;
use crate::outcome::{Finding, Scope, SourceId};
use crate::pull::PathKey;
use crate::retry::Schedule;
use crate::shaping::rate::Meter;
use crate::shaping::{Limits, Live};
use crate::site::Site;
use judge::Judge;
use ledger::{Ledger, Refused};
use reputation::Reputation;
use state::{Heard, State};
use store::{Store, StoreError};

pub use party::Party;

/// How much faster than the clock time passes: 1, but for rehearsals, whose days pass in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tempo(pub f64);

impl Tempo {
    /// A span of the rules' time in the clock's.
    pub fn of(self, span: Duration) -> Duration {
        bounded(span.as_secs_f64() / self.0)
    }

    /// A span of the clock's time in the rules'.
    fn in_rules_time(self, span: Duration) -> Duration {
        bounded(span.as_secs_f64() * self.0)
    }

    /// Limits whose waits between attempts are the clock's; rates are so already.
    fn waits(self, limits: Arc<Limits>) -> Arc<Limits> {
        if self.0 == 1.0 {
            return limits;
        }
        let mut limits = (*limits).clone();
        limits.greylist = self.of(limits.greylist);
        limits.expiry = limits.expiry.map(|expiry| self.of(expiry));
        limits.retry.iter_mut().flatten().for_each(|wait| *wait = self.of(*wait));
        Arc::new(limits)
    }
}

/// So many seconds, a millennium at most: whatever was asked for, a moment so far ahead can be named.
fn bounded(seconds: f64) -> Duration {
    const LONGEST: Duration = Duration::from_secs(1000 * 365 * 86_400);
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |span| span.min(LONGEST))
}

/// How often what grows back is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often what is learned is written down.
const SAVE: Duration = Duration::from_secs(5);
/// When a ledger that could not be written is tried again.
const UNWRITTEN: Duration = Duration::from_secs(10);

/// A source as far as policy cares.
#[derive(Debug, Clone)]
pub struct SourceFacts {
    pub name: String,
    /// Of a relay: the provider that runs it, if that is known. Then its replies are the relay's own.
    pub relay: Option<Option<Arc<str>>>,
}

/// What a policy works with.
pub struct Setup {
    pub tempo: Tempo,
    /// `false`: limits stay as they are written, whatever the replies.
    pub is_adapting: bool,
    pub shaping: Arc<Live>,
    /// By [`SourceId`].
    pub sources: Vec<SourceFacts>,
    /// When a site that could not be reached is tried again.
    pub schedule: Arc<Schedule>,
    pub sending_domain: String,
    /// A person has said that a run is to go on: what breakers have paused is no longer.
    pub is_resumed: bool,
    /// Where what is learned outlives the process.
    pub folder: PathBuf,
}

/// See the head of the file.
pub struct Policy {
    setup: Setup,
    rules: RwLock<Arc<Rules>>,
    state: Mutex<State>,
    /// Apart from the rest, since it may write to the disk before it lets a message go.
    ledger: Arc<Ledger>,
    store: Arc<Store>,
}

/// What is to be done about a recipient.
#[derive(Debug, Clone)]
pub struct Recourse {
    pub action: RecipientAction,
    /// The next attempt has to come from the same source.
    pub is_bound: bool,
    /// The limits of the path, for its retry schedule and expiry.
    pub limits: Option<Arc<Limits>>,
}

/// A deferral that is about the source comes again so soon where another source can take it.
const ELSEWHERE: Duration = Duration::from_secs(1);

impl Policy {
    /// Takes the folder of what was learned for this process, and goes on from it.
    ///
    /// # Errors
    /// Another process has it, or what is there cannot be read.
    pub fn open(setup: Setup, rules: Rules, node: &Node) -> Result<Self, StoreError> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let store = Arc::new(Store::open(&setup.folder)?);
        let stored = store.load()?;
        let ledger = Arc::new(Ledger::open(store.clone(), node, setup.tempo)?);
        let names: Vec<String> = setup.sources.iter().map(|source| source.name.clone()).collect();
        let reputation = Reputation::new(&node.reputation, setup.tempo, stored.reputation.clone());
        let domain = setup.sending_domain.clone();
        let judge =
            Judge::new(node.breakers, setup.tempo, reputation, ledger.clone(), names.clone(), domain, now);
        let mut state = State::new(setup.tempo, setup.is_adapting, names, judge);
        state.remember(stored, setup.is_resumed, now, wall);
        Ok(Self { setup, rules: RwLock::new(Arc::new(rules)), state: Mutex::new(state), ledger, store })
    }

    /// Writes what was learned. Blocks.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self) -> Result<(), StoreError> {
        let synced = self.ledger.sync();
        // One file that cannot be written is no reason to leave out the other.
        let saved = self.save_standing();
        synced.and(saved)
    }

    fn save_standing(&self) -> Result<(), StoreError> {
        let mut stored = self.state().memory(Instant::now(), SystemTime::now());
        stored.fit();
        self.store.save(&stored)
    }

    /// Writes what was learned, and that nothing more will be sent. Blocks.
    ///
    /// # Errors
    /// It cannot be written: what was reserved of warm-up caps counts as spent.
    pub fn end(&self) -> Result<(), StoreError> {
        let ended = self.ledger.end();
        ended.and(self.save_standing())
    }

    /// What has changed since this was last asked.
    pub fn take_events(&self) -> Vec<Event> {
        self.state().take_events()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reply rules that hold now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Other rules from now on; what the former ones had counted is forgotten.
    pub fn replace_rules(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.state().forget_counts();
    }

    /// What a person should have heard of.
    pub fn alerts(&self) -> Vec<String> {
        self.state().alerts()
    }

    /// Who runs what a path leads to, if that is known.
    fn provider<'a>(&'a self, source: SourceId, site: Option<&'a Site>) -> Option<&'a Arc<str>> {
        match &self.setup.sources.get(usize::from(source.0))?.relay {
            Some(provider) => provider.as_ref(),
            None => site?.provider.as_ref(),
        }
    }

    /// A path comes to life; what was in force when it slept still is.
    pub fn enter(self: &Arc<Self>, key: PathKey, site: &Arc<Site>, limits: Arc<Limits>) -> Entrance {
        let provider = match self.provider(key.source, Some(site)) {
            Some(provider) => (provider.clone(), true),
            None => (Arc::from(site.name.as_str()), false),
        };
        let limits = self.setup.tempo.waits(limits);
        let mut entrance = self.state().enter(key, site, provider, limits, Instant::now(), SystemTime::now());
        let warming = std::mem::take(&mut entrance.warming);
        if !warming.is_empty() {
            entrance.warm_up = Some(Arc::new(WarmUp { policy: self.clone(), path: key, accounts: warming }));
        }
        entrance
    }

    /// The limits of a path have been read anew.
    pub fn relimited(&self, key: PathKey, limits: Arc<Limits>) {
        self.state().relimited(key, self.setup.tempo.waits(limits), Instant::now());
    }

    /// A path has ended.
    pub fn leave(&self, key: PathKey) {
        self.state().leave(key, Instant::now());
    }

    /// What a finding means.
    pub fn verdict(
        &self,
        rules: &Rules,
        source: SourceId,
        site: Option<&Site>,
        finding: &Finding,
    ) -> Verdict {
        match finding {
            Finding::Accepted(_) => Verdict::made_here(Class::Accepted, RecipientAction::Delivered),
            Finding::Refused { stage, reply, .. } => {
                let shaping = self.setup.shaping.current();
                let provider = self.provider(source, site).map(|name| shaping.replies_of(name));
                rules.classify(provider, *stage, reply)
            }
            Finding::Failed { stage, failure, .. } => classify::of_failure(*stage, failure),
            Finding::InDoubt { .. } => Verdict::made_here(Class::InDoubt, RecipientAction::Retry),
            Finding::Suppressed | Finding::Unrenderable { .. } => {
                Verdict::made_here(Class::Local, RecipientAction::Bounce)
            }
        }
    }

    /// Takes in what became of a group of attempts, and says of each what to do about its recipient.
    pub fn heard<'a>(
        &self,
        rules: &Rules,
        group: impl Iterator<Item = (PathKey, &'a Finding, &'a Verdict)>,
        mut then: impl FnMut(Recourse),
    ) {
        let (now, wall) = (Instant::now(), Some(SystemTime::now()));
        let mut state = self.state();
        for (path, finding, verdict) in group {
            let cause = || cause_of(finding, verdict, rules);
            state.heard(Heard { path, verdict, cause: &cause, now, wall });
            then(self.recourse(&state, path, verdict));
        }
    }

    fn recourse(&self, state: &State, path: PathKey, verdict: &Verdict) -> Recourse {
        if verdict.class == Class::Accepted {
            return Recourse { action: RecipientAction::Delivered, is_bound: false, limits: None };
        }
        let limits = state.paths.get(&path).map(|path| path.limits.clone());
        let is_bound = verdict.class == Class::Greylisted;
        let action = match verdict.recipient {
            // A rule may know better than the limits how long this greylisting takes.
            action if is_bound && action == Class::Greylisted.defaults().recipient => {
                // A limit, and so in the clock's time already.
                let wait = limits.as_ref().map(|limits| RecipientAction::RetryAfter(limits.greylist));
                // The path is gone: as after any other deferral.
                wait.unwrap_or(RecipientAction::Retry)
            }
            RecipientAction::RetryAfter(wait) => RecipientAction::RetryAfter(self.setup.tempo.of(wait)),
            RecipientAction::Retry if verdict.scope == Scope::Source && self.is_servable(state, path) => {
                RecipientAction::RetryAfter(self.setup.tempo.of(ELSEWHERE))
            }
            action => action,
        };
        Recourse { action, is_bound, limits }
    }

    /// Whether a source other than this path's may send to its site.
    fn is_servable(&self, state: &State, path: PathKey) -> bool {
        let Some(site) = state.paths.get(&path).map(|path| path.site.clone()) else { return false };
        let resting = state.resting(&site, Instant::now());
        let sources = (0..self.setup.sources.len()).filter_map(|source| u16::try_from(source).ok());
        sources.map(SourceId).any(|source| source != path.source && !resting.contains(&source))
    }

    /// No session could be opened on a path, or one ended on the first work it had.
    pub fn unopened(&self, key: PathKey, finding: &Finding, working: usize) {
        let (now, rules) = (Instant::now(), self.rules());
        let mut state = self.state();
        let site = state.paths.get(&key).map(|path| path.site.clone());
        let verdict = self.verdict(&rules, key.source, site.as_deref(), finding);
        let cause = || cause_of(finding, &verdict, &rules);
        state.heard(Heard { path: key, verdict: &verdict, cause: &cause, now, wall: None });
        let working = u32::try_from(working).unwrap_or(u32::MAX);
        state.unreachable(key, working, |failures| self.setup.schedule.delay(failures), cause(), now);
    }

    /// Whether the path may send its probe now.
    ///
    /// # Errors
    /// When to ask again.
    pub fn probe(&self, key: PathKey) -> Result<(), Instant> {
        self.state().probe(key, Instant::now())
    }

    /// Sources that are not to be put to work on a site now.
    pub fn resting(&self, site: &Site) -> Vec<SourceId> {
        self.state().resting(site, Instant::now())
    }

    /// The part of its weight that a source should have at a site now, by its standing there.
    pub fn share(&self, source: SourceId, site: &Site) -> f64 {
        let provider = self.provider(source, Some(site)).map_or(site.name.as_str(), |name| name);
        self.state().judge.share(source, provider, SystemTime::now())
    }

    /// Lets what was slowed grow back, and writes down what is learned, until told to stop.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut saved = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                now = ticks.tick() => {
                    self.state().tick(now);
                    if now >= saved + SAVE {
                        saved = now;
                        let policy = self.clone();
                        let written = tokio::task::spawn_blocking(move || policy.save()).await;
                        if let Ok(Err(error)) = written {
                            tracing::warn!(%error, "what was learned cannot be written; it is tried again");
                        }
                    }
                }
            }
        }
    }
}

/// The caps that a path's messages are counted against.
struct WarmUp {
    policy: Arc<Policy>,
    path: PathKey,
    accounts: Vec<warmup::Slot>,
}

impl fmt::Debug for WarmUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WarmUp").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Meter for WarmUp {
    fn take(&self) -> Result<(), Instant> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let ledger = &self.policy.ledger;
        let (until, overflows, text) = match ledger.take(&self.accounts, wall) {
            Ok(()) => return Ok(()),
            Err(Refused::Full(full)) => {
                let warmup = ledger.warmup();
                let cap = warmup.cap(full.slot, wall);
                let text = cap.map_or_else(String::new, |cap| {
                    let per = match cap.per {
                        Period::Hour => "an hour",
                        Period::Day => "a day",
                    };
                    format!("warm-up: {} messages {per} on sending day {}", cap.cap, cap.day + 1)
                });
                let wait = full.until.duration_since(wall).unwrap_or_default();
                (now + wait.max(Duration::from_millis(1)), warmup.overflows(full.slot), text)
            }
            Err(error @ Refused::Unwritten(_)) => (now + UNWRITTEN, true, error.to_string()),
        };
        let cause = Cause { since: wall, text, reply: None, class: None, rule: None };
        self.policy.state().capped(self.path, until, overflows, cause, now);
        Err(until)
    }

    fn give_back(&self, taken: Instant) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let taken = wall.checked_sub(now.saturating_duration_since(taken)).unwrap_or(wall);
        self.policy.ledger.give_back(&self.accounts, taken, wall);
        self.policy.state().uncapped(self.path, now);
    }
}

/// What a finding said, for people.
fn cause_of(finding: &Finding, verdict: &Verdict, rules: &Rules) -> Cause {
    let (reply, text) = match finding {
        Finding::Accepted(reply) | Finding::Refused { reply, .. } => (Some(reply.to_string()), String::new()),
        Finding::Failed { failure, .. } | Finding::InDoubt { failure } => (None, failure.to_string()),
        Finding::Suppressed => (None, "suppressed".to_owned()),
        Finding::Unrenderable { reason } => (None, reason.clone()),
    };
    let rule = match verdict.by {
        By::Rule(id) => Some(format!("rule {}", rules.rule(id).name)),
        By::Registry => Some("the enhanced status code".to_owned()),
        By::Code => Some("no rule".to_owned()),
        By::Engine => None,
    };
    Cause { since: SystemTime::now(), text, reply, class: Some(verdict.class), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tempo_makes_a_span_that_no_moment_can_be_named_with() {
        let longest = Duration::from_millis(u64::MAX);
        for tempo in [0.0, f64::MIN_POSITIVE, 1e-9, 1.0, 1e12, f64::MAX, f64::INFINITY] {
            for span in [Duration::ZERO, Duration::from_secs(1), longest, Duration::MAX] {
                let (clock, rules) = (Tempo(tempo).of(span), Tempo(tempo).in_rules_time(span));
                assert!(Instant::now().checked_add(clock * 8).is_some(), "{tempo} {span:?}");
                assert!(SystemTime::now().checked_add(rules).is_some(), "{tempo} {span:?}");
            }
        }
        assert_eq!(Tempo(1.0).of(Duration::from_secs(86_400)), Duration::from_secs(86_400));
    }
}
