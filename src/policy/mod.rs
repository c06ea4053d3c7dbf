//! Delivery policy: what signals change about the limits, for how long, and why.
//!
//! ```text
//! rate, window   of a path: as fast and as wide as the site takes it
//! rest           a suspension, and the probe that ends it
//! breaker        bounce, complaint and deferral rates of campaign, sending domain and source
//! warmup         caps of new sources and sending domains
//! reputation     standing of each with each provider
//! state          all of these for a run, changed by signals; pure
//! terms          what comes of it for a path
//! store          what outlives the process
//! ```
//!
//! [`Policy`] is what paths, feedback, the scheduler and people ask. Behind it is one lock, held for
//! microseconds: none of these may wait for another's inbox, and a message is only ever held up by its
//! own path's gate, which knows no lock of policy.

mod event;
pub mod rate;
mod rest;
mod state;
mod terms;
pub mod window;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use event::Event;
pub use state::Entrance;
pub use terms::{Binding, Cause, Hold, Resting, Standing, Terms};

use crate::classify::{self, By, Class, RecipientAction, Rules, Verdict};
use crate::outcome::{Finding, Scope, SourceId};
use crate::pull::PathKey;
use crate::retry::Schedule;
use crate::shaping::{Limits, Live};
use crate::site::Site;
use state::{Heard, State};

pub mod breaker;
pub mod calendar;
pub mod party;
pub mod reputation;
pub mod warmup;

pub use party::Party;

/// How much faster than the clock time passes: 1, but for rehearsals, whose days pass in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tempo(pub f64);

impl Tempo {
    /// A span of the rules' time in the clock's.
    pub fn of(self, span: Duration) -> Duration {
        span.div_f64(self.0.max(f64::MIN_POSITIVE))
    }
}

/// How often what grows back is looked at.
const TICK: Duration = Duration::from_millis(100);

/// A source as far as policy cares.
#[derive(Debug, Clone)]
pub struct SourceFacts {
    pub name: String,
    /// Of the heaviest source's weight, above 0 and at most 1: its share of a limit on sessions.
    pub share: f64,
}

/// What a policy works with.
pub struct Setup {
    pub tempo: Tempo,
    /// `false`: limits stay as they are written, whatever the replies.
    pub is_adapting: bool,
    pub shaping: Arc<Live>,
    /// By [`SourceId`].
    pub sources: Vec<SourceFacts>,
    pub sending_domain: String,
    /// When a site that could not be reached is tried again.
    pub schedule: Arc<Schedule>,
}

/// See the head of the file.
pub struct Policy {
    setup: Setup,
    rules: RwLock<Arc<Rules>>,
    state: Mutex<State>,
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
    pub fn new(setup: Setup, rules: Rules) -> Self {
        let names = setup.sources.iter().map(|source| source.name.clone()).collect();
        let state = Mutex::new(State::new(setup.tempo, setup.is_adapting, names));
        Self { setup, rules: RwLock::new(Arc::new(rules)), state }
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

    fn limits_of(&self, key: PathKey, site: &Site) -> Arc<Limits> {
        let source = &self.setup.sources[usize::from(key.source.0)];
        let limits = self.setup.shaping.current().limits(site, &source.name);
        if source.share >= 1.0 {
            return limits;
        }
        let sessions = ((f64::from(limits.sessions) * source.share) as u32).max(1);
        Arc::new(Limits { sessions, ..(*limits).clone() })
    }

    /// A path comes to life; what was in force when it slept still is.
    pub fn enter(&self, key: PathKey, site: &Arc<Site>) -> Entrance {
        let limits = self.limits_of(key, site);
        self.state().enter(key, site, limits, None, Instant::now())
    }

    /// A path has ended.
    pub fn leave(&self, key: PathKey) {
        self.state().leave(key);
    }

    /// What a finding means.
    pub fn verdict(&self, rules: &Rules, site: Option<&Site>, finding: &Finding) -> Verdict {
        match finding {
            Finding::Accepted(_) => Verdict::made_here(Class::Accepted, RecipientAction::Delivered),
            Finding::Refused { stage, reply, .. } => {
                let shaping = self.setup.shaping.current();
                let provider = site.and_then(|site| site.provider.as_deref());
                rules.classify(provider.map(|name| shaping.replies_of(name)), *stage, reply)
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
        let now = Instant::now();
        let mut state = self.state();
        for (path, finding, verdict) in group {
            let cause = || cause_of(finding, verdict, rules);
            state.heard(Heard { path, verdict, cause: &cause, now });
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
            RecipientAction::Retry if is_bound => {
                let wait = limits.as_ref().map_or(Duration::ZERO, |limits| limits.greylist);
                RecipientAction::RetryAfter(self.setup.tempo.of(wait))
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
        let resting = state.resting(&site);
        let sources = (0..self.setup.sources.len()).filter_map(|source| u16::try_from(source).ok());
        sources.map(SourceId).any(|source| source != path.source && !resting.contains(&source))
    }

    /// No session could be opened on a path, or one ended on the first work it had.
    pub fn unopened(&self, key: PathKey, finding: &Finding, working: usize) {
        let (now, rules) = (Instant::now(), self.rules());
        let mut state = self.state();
        let site = state.paths.get(&key).map(|path| path.site.clone());
        let verdict = self.verdict(&rules, site.as_deref(), finding);
        let cause = || cause_of(finding, &verdict, &rules);
        state.heard(Heard { path: key, verdict: &verdict, cause: &cause, now });
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
        self.state().resting(site)
    }

    /// Lets what was slowed grow back, until told to stop.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                now = ticks.tick() => {
                    self.state().tick(now);
                }
            }
        }
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
