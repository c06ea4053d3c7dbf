//! What is in force: of paths, providers, sources, the sending domain and the campaign. Pure over `now`.
//!
//! A signal (a classified reply, a session that could not be opened) changes the rate, the window or a
//! rest of what it is about, as far as its scope reaches; [`Terms`] are what comes of all of these for
//! one path, published to it whenever they change. Nothing here waits, sends or reads a clock.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::breaker::{Level, Trip};
use super::event::Event;
use super::judge::{Accounts, Judge, Whose, weigh};
use super::person::Numbers;
use super::providers::{ProviderId, ProviderState, Providers};
use super::rate::AdaptiveRate;
use super::rest::Rest;
use super::terms::{Cause, Hold, Resting, Standing, Terms};
use super::window::Window;
use super::{Party, Tempo, warmup};
use crate::classify::{By, Class, Measure, RuleId, Verdict};
use crate::config::units::format_duration;
use crate::outcome::{Scope, SourceId};
use crate::pull::PathKey;
use crate::shaping::Limits;
use crate::shaping::rate::{LivePace, Meter};
use crate::site::Site;

/// What is left of a rate that a breaker slows.
const BREAKER_SLOWS: f64 = 0.5;
/// Changes that wait to be written down; more are only in the log of what is in force.
const EVENTS_MAX: usize = 4096;
/// What a path's sessions said last may be heard so long after its end: it waits for the journal.
const HEARD_LATE: Duration = Duration::from_secs(5);

/// Alerts in a report; more say nothing new.
const ALERTS_MAX: usize = 50;

/// What one path's history has made of it.
pub(super) struct PathState {
    pub site: Arc<Site>,
    pub provider: ProviderId,
    pub limits: Arc<Limits>,
    pub rate: AdaptiveRate,
    pub window: Window,
    pub pace: Arc<LivePace>,
    pub standing: Arc<Standing>,
    pub rest: Option<Rest>,
    /// A warm-up's cap is spent.
    pub capped: Option<Rest>,
    pub accounts: Arc<Accounts>,
    /// What last slowed it.
    pub slowed: Option<Arc<Cause>>,
    /// What last took sessions from it.
    pub narrowed: Option<Arc<Cause>>,
    /// The last refusal that was about the sending side.
    pub refused: Option<Arc<Cause>>,
    /// Tasks that serve it; a new one may begin while the old one ends.
    pub lives: u32,
    /// When the last of them ended.
    left: Option<Instant>,
    terms: watch::Sender<Terms>,
    /// Terms hold it: a success is news.
    is_held: bool,
}

/// How often a rule's threshold was met within its time.
struct Seen {
    since: Instant,
    count: u32,
}

/// All of it.
pub(super) struct State {
    pub tempo: Tempo,
    pub is_adapting: bool,
    pub paths: HashMap<PathKey, PathState>,
    pub providers: Providers,
    pub sources: HashMap<SourceId, Rest>,
    pub domain: Option<Rest>,
    pub campaign: Option<Rest>,
    pub judge: Judge,
    /// Rates that were learned before this process, messages a second.
    pub learned: HashMap<(Party, Arc<str>), (f64, SystemTime)>,
    /// Suspensions from before this process, for the paths they were of.
    pub asleep: HashMap<(SourceId, ProviderId), Rest>,
    /// Names of the sources.
    pub names: Vec<String>,
    /// Numbers of what is in force, as people were told them.
    pub numbers: Numbers,
    /// Not yet written down; at most [`EVENTS_MAX`].
    events: Vec<Event>,
    /// What a person should hear of; at most [`ALERTS_MAX`].
    alerts: Vec<String>,
    seen: HashMap<(RuleId, Option<PathKey>), Seen>,
}

/// What a path starts with.
pub struct Entrance {
    pub terms: watch::Receiver<Terms>,
    pub pace: Arc<LivePace>,
    pub domain_pace: Arc<LivePace>,
    pub standing: Arc<Standing>,
    /// Caps that each message is counted against.
    pub(super) warming: Vec<warmup::Slot>,
    pub warm_up: Option<Arc<dyn Meter>>,
}

impl State {
    pub fn new(tempo: Tempo, is_adapting: bool, names: Vec<String>, judge: Judge) -> Self {
        Self {
            tempo,
            is_adapting,
            paths: HashMap::new(),
            providers: Providers::default(),
            sources: HashMap::new(),
            domain: None,
            campaign: None,
            judge,
            learned: HashMap::new(),
            asleep: HashMap::new(),
            names,
            numbers: Numbers::default(),
            events: Vec::new(),
            alerts: Vec::new(),
            seen: HashMap::new(),
        }
    }
}

/// One thing that was heard, as far as it matters here.
pub(super) struct Heard<'a> {
    pub path: PathKey,
    pub verdict: &'a Verdict,
    /// Made only when something changes.
    pub cause: &'a dyn Fn() -> Cause,
    pub now: Instant,
    /// Of an attempt, which counts for breakers and reputation; `None`: of a session that was not opened.
    pub wall: Option<SystemTime>,
}

impl State {
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub fn alerts(&self) -> Vec<String> {
        self.alerts.clone()
    }

    /// Numbers of rules mean others from now on.
    pub fn forget_counts(&mut self) {
        self.seen.clear();
    }

    pub fn changed(&mut self, about: String, what: String, cause: &Arc<Cause>, alert: bool) {
        if alert && self.alerts.len() < ALERTS_MAX {
            self.alerts.push(format!("{about}: {what}; {cause}"));
        }
        if self.events.len() < EVENTS_MAX {
            self.events.push(Event { at: SystemTime::now(), about, what, cause: cause.clone(), alert });
        }
    }

    /// A path as people know it.
    pub fn path_name(&self, key: PathKey) -> String {
        let site = self.paths.get(&key).map_or("?", |path| &path.site.name);
        format!("{} to {site}", self.names[usize::from(key.source.0)])
    }

    /// The number of a site's provider, or of the site where it has none.
    pub fn provider(&mut self, name: Arc<str>, now: Instant, wall: SystemTime) -> ProviderId {
        if let Some(id) = self.providers.named(&name) {
            return id;
        }
        let learned = self.learned_rate(self.judge.domain(), &name, None, wall);
        let mut rate = AdaptiveRate::new(None, learned, self.tempo, now);
        let per_second = rate.per_second(now);
        self.providers.add(ProviderState::new(name, rate, per_second))
    }

    /// What a party learned of a provider before this process, as far as it still holds.
    fn learned_rate(
        &self,
        party: Party,
        provider: &Arc<str>,
        limit: Option<f64>,
        wall: SystemTime,
    ) -> Option<f64> {
        let (ceiling, at) = *self.learned.get(&(party, provider.clone()))?;
        let age = self.tempo.in_rules_time(wall.duration_since(at).unwrap_or_default());
        super::rate::decayed(ceiling, age, limit)
    }

    /// A path comes to life, or back to it: what it was told before still holds.
    pub fn enter(
        &mut self,
        key: PathKey,
        site: &Arc<Site>,
        (provider, is_known): (Arc<str>, bool),
        limits: Arc<Limits>,
        now: Instant,
        wall: SystemTime,
    ) -> Entrance {
        let tempo = self.tempo;
        let limit = limits.per_second();
        let learned = self.learned_rate(self.judge.source(key.source), &provider, limit, wall);
        let accounts = self.judge.accounts(key.source, &provider, is_known, wall);
        let provider = self.provider(provider, now, wall);
        let asleep = self.asleep.get(&(key.source, provider)).cloned();
        let to = &mut self.providers[provider.0];
        let domain_pace = to.pace.clone();
        let path = self.paths.entry(key).or_insert_with(|| {
            to.paths += 1;
            PathState {
                site: site.clone(),
                provider,
                rate: AdaptiveRate::new(limit, learned, tempo, now),
                window: Window::new(limits.sessions, tempo, now),
                pace: Arc::new(LivePace::new(None)),
                standing: Arc::default(),
                rest: asleep,
                capped: None,
                accounts: Arc::new(accounts),
                slowed: None,
                narrowed: None,
                refused: None,
                lives: 0,
                left: None,
                terms: watch::channel(Terms { sessions: 1, hold: None }).0,
                is_held: false,
                limits: limits.clone(),
            }
        });
        path.lives += 1;
        path.limits = limits;
        path.rate.set_limit(limit);
        path.window.set_limit(path.limits.sessions);
        path.pace.set(path.rate.per_second(now).filter(|_| path.rate.is_adjusted()));
        let entrance = Entrance {
            warming: path.accounts.warming.clone(),
            terms: path.terms.subscribe(),
            pace: path.pace.clone(),
            domain_pace,
            standing: path.standing.clone(),
            warm_up: None,
        };
        self.publish(key, now);
        entrance
    }

    /// A path has other limits from now on.
    pub fn relimited(&mut self, key: PathKey, limits: Arc<Limits>, now: Instant) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        path.rate.set_limit(limits.per_second());
        path.window.set_limit(limits.sessions);
        path.limits = limits;
        self.publish(key, now);
    }

    /// A path has ended; what it has been told is kept only where it says more than its limits do, see
    /// [`Self::tick`].
    pub fn leave(&mut self, key: PathKey, now: Instant) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        path.lives = path.lives.saturating_sub(1);
        path.left = Some(now);
        if path.lives == 0 {
            self.rests(key).for_each(|rest| rest.unprobed(key));
        }
    }

    /// All that may rest of what a path depends on, but for a warm-up's cap.
    fn rests(&mut self, key: PathKey) -> impl Iterator<Item = &mut Rest> {
        let path = self.paths.get_mut(&key);
        let provider = path.as_ref().map(|path| path.provider);
        let provider = provider.map(|id| &mut self.providers[id.0]);
        let (out, at_provider) = provider
            .map_or((None, None), |provider| (provider.out.get_mut(&key.source), provider.rest.as_mut()));
        let own = [path.and_then(|path| path.rest.as_mut()), out, at_provider];
        let wide = [self.sources.get_mut(&key.source), self.domain.as_mut(), self.campaign.as_mut()];
        own.into_iter().chain(wide).flatten()
    }

    /// Takes in what a server said. Returns whether anything about the sending side changed.
    pub fn heard(&mut self, heard: Heard<'_>) -> bool {
        let Heard { path: key, verdict, now, wall, .. } = heard;
        let Some(path) = self.paths.get_mut(&key) else { return false };
        if let (Some(weighed), Some(wall)) = (weigh(verdict), wall) {
            let accounts = path.accounts.clone();
            for (whose, trip) in self.judge.record(key.source, &accounts, weighed, now, wall) {
                self.tripped(whose, &trip, now);
            }
        }
        let Some(path) = self.paths.get_mut(&key) else { return false };
        // A session that was not opened has carried nothing, however the reply reads.
        if wall.is_some() && (verdict.class == Class::Accepted || verdict.scope <= Scope::Message) {
            // Whatever it thinks of the recipient, it talks to us.
            path.window.succeeded(1, now);
            path.rate.accepted(1, now);
            self.providers[path.provider.0].rate.accepted(1, now);
            return path.is_held && self.got_through(key, now);
        }
        path.refused = Some(Arc::new((heard.cause)()));
        match verdict.measure {
            Some(measure) if self.is_adapting && self.is_reached(&heard) => self.take(measure, &heard),
            _ => false,
        }
    }

    /// Whether a rule's threshold is reached with this one.
    fn is_reached(&mut self, heard: &Heard<'_>) -> bool {
        let (Some(threshold), By::Rule(rule)) = (heard.verdict.threshold, heard.verdict.by) else {
            return true;
        };
        let of_path = (heard.verdict.scope <= Scope::Path).then_some(heard.path);
        let within = self.tempo.of(threshold.within);
        let seen = self.seen.entry((rule, of_path)).or_insert(Seen { since: heard.now, count: 0 });
        if heard.now >= seen.since + within {
            *seen = Seen { since: heard.now, count: 0 };
        }
        seen.count += 1;
        if seen.count < threshold.count {
            return false;
        }
        self.seen.remove(&(rule, of_path));
        true
    }

    fn take(&mut self, measure: Measure, heard: &Heard<'_>) -> bool {
        let (key, now, alert) = (heard.path, heard.now, heard.verdict.alert);
        let cause = Arc::new((heard.cause)());
        let about_path = self.path_name(key);
        let Some(path) = self.paths.get_mut(&key) else { return false };
        let provider = &mut self.providers[path.provider.0];
        let at_provider = provider.name.clone();
        let source = &self.names[usize::from(key.source.0)];
        let tempo = self.tempo;
        let (about, what) = match measure {
            Measure::Reconnect => return false,
            Measure::Slow(factor) if heard.verdict.scope == Scope::SendingDomain => {
                if !provider.rate.slowed(f64::from(factor), now) {
                    return false;
                }
                provider.slowed = Some(cause.clone());
                provider.pace.set(provider.rate.per_second(now));
                (format!("the sending domain at {at_provider}"), slowed(provider.rate.per_second(now)))
            }
            Measure::Slow(factor) => {
                if !path.rate.slowed(f64::from(factor), now) {
                    return false;
                }
                path.slowed = Some(cause.clone());
                path.pace.set(path.rate.per_second(now));
                (about_path, slowed(path.rate.per_second(now)))
            }
            Measure::Narrow => {
                let open = path.standing.open();
                if !path.window.narrowed(open.saturating_sub(1).max(1), now) {
                    return false;
                }
                path.narrowed = Some(cause.clone());
                let sessions = path.window.sessions(now);
                self.publish(key, now);
                (about_path, format!("{sessions} sessions at once"))
            }
            Measure::Suspend { lasting, resume } if heard.verdict.scope != Scope::SendingDomain => {
                let rest =
                    Rest::lasting(Resting::Path, tempo.of(lasting), f64::from(resume), cause.clone(), now);
                let is_news = Rest::begin(&mut path.rest, rest, now);
                self.publish(key, now);
                if !is_news {
                    return false;
                }
                (about_path, format!("suspended for {}", format_duration(lasting)))
            }
            Measure::TakeOut(lasting) => {
                let rest = Rest::lasting(Resting::Source, tempo.of(lasting), 1.0, cause.clone(), now);
                let mut out = provider.out.remove(&key.source);
                let is_news = Rest::begin(&mut out, rest, now);
                provider.out.extend(out.map(|rest| (key.source, rest)));
                let about = format!("the source {source} at {at_provider}");
                self.publish_all(now);
                if !is_news {
                    return false;
                }
                (about, format!("taken out for {}", format_duration(lasting)))
            }
            Measure::PauseDomain(lasting) | Measure::Suspend { lasting, .. } => {
                let resume =
                    if let Measure::Suspend { resume, .. } = measure { f64::from(resume) } else { 1.0 };
                let rest =
                    Rest::lasting(Resting::DomainAtProvider, tempo.of(lasting), resume, cause.clone(), now);
                let is_news = Rest::begin(&mut provider.rest, rest, now);
                self.publish_all(now);
                if !is_news {
                    return false;
                }
                (
                    format!("the sending domain at {at_provider}"),
                    format!("paused for {}", format_duration(lasting)),
                )
            }
            Measure::PauseCampaign => {
                if self.campaign.is_some() {
                    return false;
                }
                self.campaign = Some(Rest::for_good(Resting::Campaign, cause.clone()));
                self.publish_all(now);
                ("the campaign".to_owned(), "paused until a person resumes it".to_owned())
            }
        };
        self.changed(about, what, &cause, alert);
        true
    }

    /// A breaker has tripped: people hear of it, and it slows or stops what it is about.
    fn tripped(&mut self, whose: Whose, trip: &Trip, now: Instant) {
        let cause = Arc::new(Cause {
            since: SystemTime::now(),
            text: trip.to_string(),
            reply: None,
            class: None,
            rule: Some("breaker".to_owned()),
        });
        let about = match whose {
            Whose::Campaign => "the campaign".to_owned(),
            Whose::SendingDomain => self.judge.domain().to_string(),
            Whose::Source(source) => self.judge.source(source).to_string(),
        };
        let what = match trip.level {
            Level::Warn => "goes on",
            Level::Slow if self.is_adapting => {
                let concerned =
                    |key: &PathKey| !matches!(whose, Whose::Source(source) if source != key.source);
                for (_, path) in self.paths.iter_mut().filter(|(key, _)| concerned(key)) {
                    path.rate.slowed(BREAKER_SLOWS, now);
                    path.slowed = Some(cause.clone());
                    path.pace.set(path.rate.per_second(now));
                }
                "half as fast"
            }
            Level::Slow => return,
            Level::Pause => {
                let rest = |resting| Rest::for_good(resting, cause.clone());
                match whose {
                    Whose::Campaign => self.campaign = Some(rest(Resting::Campaign)),
                    Whose::SendingDomain => self.domain = Some(rest(Resting::SendingDomain)),
                    Whose::Source(source) => {
                        self.sources.insert(source, rest(Resting::WholeSource));
                    }
                }
                self.publish_all(now);
                "paused until a person resumes it"
            }
        };
        self.changed(about, what.to_owned(), &cause, true);
    }

    /// The cap of a warm-up is spent until then.
    pub fn capped(&mut self, key: PathKey, until: Instant, overflows: bool, cause: Cause, now: Instant) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        if path.capped.as_ref().is_none_or(|rest| rest.is_over(now)) {
            path.capped = Some(Rest::until(Resting::WarmUp, until, overflows, Arc::new(cause)));
            self.publish(key, now);
        }
    }

    /// There is room under the cap again.
    pub fn uncapped(&mut self, key: PathKey, now: Instant) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        if path.capped.take().is_some() {
            self.publish(key, now);
        }
    }

    /// No session could be opened, or one ended on the first work it had. With others open that get on, it
    /// takes these and no more: "too many connections" is said in many ways.
    pub fn unreachable(
        &mut self,
        key: PathKey,
        working: u32,
        span: impl Fn(u32) -> Duration,
        cause: Cause,
        now: Instant,
    ) {
        let Some(path) = self.paths.get_mut(&key) else { return };
        let cause = Arc::new(cause);
        path.refused = Some(cause.clone());
        let mut what = None;
        if working > 0 {
            if path.window.narrowed(working, now) {
                path.narrowed = Some(cause.clone());
                what = Some(format!("{} sessions at once", path.window.sessions(now)));
            }
        } else if path.rest.as_ref().is_none_or(|rest| rest.is_over(now)) {
            let rest = Rest::retrying(path.rest.take(), span, cause.clone(), now);
            what = Some(format!("no session; tried again in {}", format_duration(rest.remaining(now))));
            path.rest = Some(rest);
        }
        self.publish(key, now);
        if let Some(what) = what {
            self.changed(self.path_name(key), what, &cause, false);
        }
    }

    /// A message got through where there was a rest: the probe, or one that was on its way before.
    fn got_through(&mut self, key: PathKey, now: Instant) -> bool {
        let Some(path) = self.paths.get_mut(&key) else { return false };
        let provider = &mut self.providers[path.provider.0];
        let mut ended: Option<Arc<Cause>> = None;
        let mut end = |rest: &mut Option<Rest>| {
            // One that still lasts ends in its own time: what got through was sent before it began.
            let over = rest.take_if(|rest| rest.wants_probe(now) || rest.resting == Resting::Unreachable);
            ended = over.as_ref().map(|rest| rest.cause.clone()).or(ended.take());
            over
        };
        let open = path.standing.open();
        if let Some(rest) = end(&mut path.rest) {
            if !rest.is_over(now) {
                // It takes these, and turned another away.
                path.window.narrowed(open.saturating_sub(1).max(1), now);
            }
            if rest.resume < 1.0 {
                path.rate.resumed(rest.resume, now);
                path.slowed = Some(rest.cause.clone());
                path.pace.set(path.rate.per_second(now).filter(|_| path.rate.is_adjusted()));
            }
            self.asleep.remove(&(key.source, path.provider));
        }
        let mut out = provider.out.remove(&key.source);
        if end(&mut out).is_none()
            && let Some(rest) = out
        {
            provider.out.insert(key.source, rest);
        }
        if let Some(rest) = end(&mut provider.rest)
            && rest.resume < 1.0
        {
            provider.rate.resumed(rest.resume, now);
            provider.slowed = Some(rest.cause.clone());
            provider.pace.set(provider.rate.per_second(now));
        }
        if let Some(rest) = self.sources.remove(&key.source)
            && end(&mut Some(rest.clone())).is_none()
        {
            self.sources.insert(key.source, rest);
        }
        end(&mut self.domain);
        if let Some(cause) = ended {
            self.publish_all(now);
            self.changed(self.path_name(key), "a message got through: it goes on".to_owned(), &cause, false);
            return true;
        }
        false
    }

    /// Whether the path may send its probe now, else when to ask again.
    ///
    /// # Errors
    /// Another path probes for the same source or domain, or something still rests.
    pub fn probe(&mut self, key: PathKey, now: Instant) -> Result<(), Instant> {
        for rest in self.rests(key) {
            if let Some(until) = rest.until.filter(|until| *until > now) {
                return Err(until);
            }
            rest.probe(key, now)?;
        }
        Ok(())
    }

    /// Sources that rest at a provider of which something is known; not those that may probe.
    pub fn resting(&self, site: &Site, now: Instant) -> Vec<SourceId> {
        let name = site.provider.as_deref().unwrap_or(&site.name);
        let out = self.providers.named(name).map(|id| &self.providers[id.0].out);
        let rests = out.into_iter().flatten().chain(&self.sources);
        rests.filter(|(_, rest)| !rest.is_over(now)).map(|(source, _)| *source).collect()
    }

    /// Sets the paces of what grows back, and says when to look again.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut changed = Vec::new();
        for (key, path) in &mut self.paths {
            if path.rate.is_adjusted() {
                path.pace.set(path.rate.per_second(now));
                next = next.into_iter().chain(path.rate.next_change(now)).min();
            }
            if path.window.is_adjusted() {
                if path.window.sessions(now) != path.terms.borrow().sessions {
                    changed.push(*key);
                }
                next = next.into_iter().chain(path.window.next_change(now)).min();
            }
        }
        for (_, provider) in self.providers.iter_mut().filter(|(_, provider)| provider.rate.is_adjusted()) {
            provider.pace.set(provider.rate.per_second(now));
            next = next.into_iter().chain(provider.rate.next_change(now)).min();
        }
        changed.into_iter().for_each(|key| self.publish(key, now));
        self.forget_idle(now);
        next
    }

    /// Forgets paths, and what was kept for their sake, that nobody serves and about which nothing is in force.
    fn forget_idle(&mut self, now: Instant) {
        let before = self.paths.len();
        let providers = &mut self.providers;
        self.paths.retain(|_, path| {
            let is_heard = path.lives > 0 || path.left.is_none_or(|left| now < left + HEARD_LATE);
            let stays =
                is_heard || path.rest.is_some() || path.rate.is_adjusted() || path.window.is_adjusted();
            if !stays {
                providers[path.provider.0].paths -= 1;
            }
            stays
        });
        if self.paths.len() < before {
            let asleep: HashSet<ProviderId> = self.asleep.keys().map(|(_, provider)| *provider).collect();
            self.providers.forget_blank(|id| asleep.contains(&id));
            self.seen.retain(|(_, path), _| path.is_none_or(|path| self.paths.contains_key(&path)));
        }
    }

    /// What holds for a path now.
    pub fn hold(&self, key: PathKey, path: &PathState, now: Instant) -> Option<Hold> {
        let provider = &self.providers[path.provider.0];
        let own = [path.rest.as_ref(), path.capped.as_ref()];
        let wide = [provider.out.get(&key.source), provider.rest.as_ref(), self.sources.get(&key.source)];
        let rests =
            own.into_iter().chain(wide).chain([self.domain.as_ref(), self.campaign.as_ref()]).flatten();
        let in_force = rests.filter(|rest| !rest.is_over(now) || rest.wants_probe(now));
        // The one that lasts longest, a person's longest of all.
        in_force.max_by_key(|rest| (rest.until.is_none(), rest.until)).map(Rest::hold)
    }

    pub fn publish_all(&mut self, now: Instant) {
        let keys: Vec<PathKey> = self.paths.keys().copied().collect();
        keys.into_iter().for_each(|key| self.publish(key, now));
    }

    /// Tells a path its terms, if they are new.
    pub fn publish(&mut self, key: PathKey, now: Instant) {
        let Some(path) = self.paths.get(&key) else { return };
        let hold = self.hold(key, path, now);
        let path = self.paths.get_mut(&key).expect("it was there a line ago");
        path.is_held = hold.is_some();
        let terms = Terms { sessions: path.window.sessions(now), hold };
        path.terms.send_if_modified(|old| {
            let is_new = *old != terms;
            *old = terms;
            is_new
        });
    }
}

fn slowed(per_second: Option<f64>) -> String {
    per_second.map_or("no longer slowed".to_owned(), |rate| {
        format!("slowed to {:.1} messages a minute", rate * 60.0)
    })
}
