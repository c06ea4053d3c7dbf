//! What a person does about what is in force: looks at it, cancels it, pins a value, lets things go on.
//! Pure over `now`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::explain::on_the_wall;
use super::judge::Whose;
use super::rate::RateState;
use super::rest::Rest;
use super::state::State;
use super::{Cause, Policy};
use crate::outcome::SourceId;
use crate::pull::PathKey;
use crate::site::Site;

/// What kind of adjustment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Rate,
    Sessions,
    /// Nothing goes: suspended or not to be reached.
    Rest,
    SourceOut,
    SendingDomainAtProvider,
    SendingDomain,
    Source,
    Campaign,
    PinnedRate,
    PinnedSessions,
}

/// Something in force beside what files say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adjustment {
    /// Its number for as long as it lives.
    pub id: u32,
    pub kind: Kind,
    /// What it is about, and what holds.
    pub about: String,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// `None`: until it has grown back, or a person ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// What a path is pinned to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pinned {
    /// Messages a second, above 0.
    Rate(f64),
    /// At once, at least 1.
    Sessions(u32),
}

impl Pinned {
    /// Whether it is within its bounds, wherever it came from.
    pub fn is_some_value(self) -> bool {
        match self {
            Self::Rate(per_second) => per_second.is_finite() && per_second > 0.0,
            Self::Sessions(sessions) => sessions > 0,
        }
    }
}

/// What is to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paused {
    Campaign,
    SendingDomain,
    Source(String),
    /// Whatever waits for a person.
    All,
}

/// What an adjustment is, by where it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Target {
    Campaign,
    SendingDomain,
    Source(u16),
    ProviderRate(usize),
    ProviderRest(usize),
    SourceOut(usize, u16),
    // Of a path: site, source.
    PathRest(u32, u16),
    PathRate(u32, u16),
    PathSessions(u32, u16),
    RatePin(u32, u16),
    SessionsPin(u32, u16),
}

/// Numbers that adjustments were given; never given again within a run's process.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    given: HashMap<Target, u32>,
    last: u32,
}

impl Numbers {
    fn of(&mut self, target: Target) -> u32 {
        *self.given.entry(target).or_insert_with(|| {
            self.last += 1;
            self.last
        })
    }
}

/// An adjustment before it has its number.
struct Found {
    target: Target,
    kind: Kind,
    about: String,
    what: String,
    until: Option<Instant>,
    cause: Option<Arc<Cause>>,
}

impl State {
    /// Everything in force beside what files say, the widest first.
    pub fn adjustments(&mut self, now: Instant) -> Vec<Adjustment> {
        let mut found = self.found(now);
        found.sort_by_key(|found| found.target);
        self.numbers
            .given
            .retain(|target, _| found.binary_search_by_key(target, |found| found.target).is_ok());
        let adjustments = found.into_iter().map(|found| Adjustment {
            id: self.numbers.of(found.target),
            kind: found.kind,
            about: found.about,
            what: found.what,
            since: found.cause.as_ref().and_then(|cause| Timestamp::try_from(cause.since).ok()),
            until: found.until.map(|until| on_the_wall(until, now)),
            cause: found.cause.map(|cause| (*cause).clone()),
        });
        adjustments.collect()
    }

    fn found(&mut self, now: Instant) -> Vec<Found> {
        let mut found = Vec::new();
        let mut rest = |target, kind, about: String, rest: Option<&Rest>| {
            let Some(rest) = rest.filter(|rest| !rest.is_over(now) || rest.wants_probe(now)) else { return };
            let what = match rest.until {
                None => "paused until a person resumes it",
                Some(_) if rest.is_over(now) => "one message at a time, until one gets through",
                Some(_) => "nothing is sent",
            };
            let (what, until) = (what.to_owned(), rest.until.filter(|until| *until > now));
            found.push(Found { target, kind, about, what, until, cause: Some(rest.cause.clone()) });
        };
        rest(Target::Campaign, Kind::Campaign, "the campaign".to_owned(), self.campaign.as_ref());
        rest(
            Target::SendingDomain,
            Kind::SendingDomain,
            "the sending domain".to_owned(),
            self.domain.as_ref(),
        );
        for (source, held) in &self.sources {
            let about = format!("the source {}", self.names[usize::from(source.0)]);
            rest(Target::Source(source.0), Kind::Source, about, Some(held));
        }
        for (id, provider) in self.providers.iter() {
            let at = &provider.name;
            let about = format!("the sending domain at {at}");
            rest(Target::ProviderRest(id), Kind::SendingDomainAtProvider, about, provider.rest.as_ref());
            for (source, held) in &provider.out {
                let about = format!("{} at {at}", self.names[usize::from(source.0)]);
                rest(Target::SourceOut(id, source.0), Kind::SourceOut, about, Some(held));
            }
        }
        for (key, path) in &self.paths {
            rest(
                Target::PathRest(key.site.0, key.source.0),
                Kind::Rest,
                self.path_name(*key),
                path.rest.as_ref(),
            );
        }
        self.found_rates(now, &mut found);
        found
    }

    fn found_rates(&mut self, now: Instant, found: &mut Vec<Found>) {
        for (id, provider) in self.providers.iter_mut() {
            if provider.rate.is_cut() {
                let about = format!("the sending domain at {}", provider.name);
                let what = per_minute(provider.rate.per_second(now));
                let (target, kind, cause) = (Target::ProviderRate(id), Kind::Rate, provider.slowed.clone());
                found.push(Found { target, kind, about, what, until: None, cause });
            }
        }
        let names: Vec<(PathKey, String)> =
            self.paths.keys().map(|key| (*key, self.path_name(*key))).collect();
        for (key, about) in names {
            let Some(path) = self.paths.get_mut(&key) else { continue };
            let place = |target: fn(u32, u16) -> Target| target(key.site.0, key.source.0);
            let mut add = |target, kind, what: String, until, cause| {
                found.push(Found { target, kind, about: about.clone(), what, until, cause });
            };
            if let RateState::Pinned { until } = path.rate.state(now) {
                let what = format!("pinned to {}", per_minute(path.rate.per_second(now)));
                add(place(Target::RatePin), Kind::PinnedRate, what, Some(until), None);
            }
            if path.rate.is_cut() {
                let what = per_minute(path.rate.per_second(now));
                add(place(Target::PathRate), Kind::Rate, what, None, path.slowed.clone());
            }
            let sessions = path.window.sessions(now);
            if let Some((_, until)) = path.window.pinned() {
                let what = format!("pinned to {} at once", count_of(sessions, "session"));
                add(place(Target::SessionsPin), Kind::PinnedSessions, what, Some(until), None);
            } else if path.window.is_narrowed() {
                let what = format!("{} at once, not {}", count_of(sessions, "session"), path.limits.sessions);
                add(place(Target::PathSessions), Kind::Sessions, what, None, path.narrowed.clone());
            }
        }
    }

    /// Ends an adjustment; what it was. `None` where no such one is in force.
    pub fn cancel(&mut self, id: u32, now: Instant) -> Option<Adjustment> {
        let adjustment = self.adjustments(now).into_iter().find(|adjustment| adjustment.id == id)?;
        let (&target, _) = self.numbers.given.iter().find(|(_, number)| **number == id)?;
        match target {
            Target::Campaign => drop(self.resume(&Paused::Campaign, now)),
            Target::SendingDomain => drop(self.resume(&Paused::SendingDomain, now)),
            Target::Source(source) => {
                let name = self.names[usize::from(source)].clone();
                drop(self.resume(&Paused::Source(name), now));
            }
            _ => {
                self.end(target, now);
                self.publish_all(now);
                self.say(adjustment.about.clone(), "an adjustment was cancelled");
            }
        }
        self.numbers.given.remove(&target);
        Some(adjustment)
    }

    fn end(&mut self, target: Target, now: Instant) {
        match target {
            Target::Campaign | Target::SendingDomain | Target::Source(_) => {}
            Target::ProviderRest(id) => {
                if let Some(provider) = self.providers.get_mut(id) {
                    provider.rest = None;
                }
            }
            Target::SourceOut(id, source) => {
                if let Some(provider) = self.providers.get_mut(id) {
                    provider.out.remove(&SourceId(source));
                }
            }
            Target::ProviderRate(id) => {
                let Some(provider) = self.providers.get_mut(id) else { return };
                provider.rate.forget();
                provider.slowed = None;
                provider.pace.set(provider.rate.per_second(now));
            }
            Target::PathRest(site, source)
            | Target::PathRate(site, source)
            | Target::PathSessions(site, source)
            | Target::RatePin(site, source)
            | Target::SessionsPin(site, source) => {
                let key = PathKey { site: crate::outcome::SiteId(site), source: SourceId(source) };
                let Some(path) = self.paths.get_mut(&key) else { return };
                match target {
                    Target::PathRest(..) => {
                        path.rest = None;
                        // Or its next life would begin with it.
                        self.asleep.remove(&(key.source, path.provider));
                    }
                    Target::PathSessions(..) => path.window.forget(),
                    Target::SessionsPin(..) => path.window.unpin(),
                    Target::RatePin(..) => path.rate.unpin(now),
                    _ => {
                        path.rate.forget();
                        path.slowed = None;
                    }
                }
                path.pace.set(path.rate.per_second(now).filter(|_| path.rate.is_adjusted()));
            }
        }
    }

    /// Holds a path to a value until then, whatever is heard, but never above what files allow.
    pub fn pin(&mut self, key: PathKey, to: Pinned, until: Instant, now: Instant) -> Option<String> {
        let path = self.paths.get_mut(&key)?;
        let what = match to {
            Pinned::Rate(per_second) => {
                path.rate.pin(per_second, until);
                path.pace.set(path.rate.per_second(now));
                format!("pinned to {}", per_minute(path.rate.per_second(now)))
            }
            Pinned::Sessions(sessions) => {
                path.window.pin(sessions, until);
                format!("pinned to {} at once", count_of(path.window.sessions(now), "session"))
            }
        };
        self.publish(key, now);
        let name = self.path_name(key);
        self.say(name.clone(), &what);
        Some(format!("{name}: {what}"))
    }

    /// Lets go on what is paused, with breakers that have seen nothing yet; what that was.
    pub fn resume(&mut self, what: &Paused, now: Instant) -> Vec<String> {
        let mut resumed = Vec::new();
        let is_all = *what == Paused::All;
        let is_wanted = |rest: &mut Rest, named: bool| named || is_all && rest.until.is_none();
        if self.campaign.take_if(|rest| is_wanted(rest, *what == Paused::Campaign)).is_some() {
            resumed.push("the campaign".to_owned());
            self.judge.rearm(Whose::Campaign, now);
        }
        if self.domain.take_if(|rest| is_wanted(rest, *what == Paused::SendingDomain)).is_some() {
            resumed.push("the sending domain".to_owned());
            self.judge.rearm(Whose::SendingDomain, now);
        }
        let (names, judge) = (&self.names, &mut self.judge);
        self.sources.retain(|source, rest| {
            let name = &names[usize::from(source.0)];
            let is_over = is_wanted(rest, matches!(what, Paused::Source(named) if named == name));
            if is_over {
                resumed.push(format!("the source {name}"));
                judge.rearm(Whose::Source(*source), now);
            }
            !is_over
        });
        if !resumed.is_empty() {
            self.publish_all(now);
            resumed.iter().for_each(|about| self.say(about.clone(), "goes on"));
        }
        resumed
    }

    fn say(&mut self, about: String, what: &str) {
        let text = "a person said so".to_owned();
        let cause = Cause { since: SystemTime::now(), text, reply: None, class: None, rule: None };
        self.changed(about, what.to_owned(), &Arc::new(cause), false);
    }
}

fn per_minute(per_second: Option<f64>) -> String {
    match per_second.map(|rate| rate * 60.0) {
        None => "no limit".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1} messages a minute"),
        Some(rate) => format!("{rate:.0} messages a minute"),
    }
}

fn count_of(count: u32, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

impl Policy {
    /// Everything in force beside what files say, the widest first.
    pub fn adjustments(&self) -> Vec<Adjustment> {
        self.state().adjustments(Instant::now())
    }

    /// Ends the adjustment of that number; what it was, if there is one.
    pub fn cancel(&self, id: u32) -> Option<Adjustment> {
        self.state().cancel(id, Instant::now())
    }

    /// Holds the paths that are wanted to a value for so long; what holds of each now.
    pub fn pin(&self, wanted: impl Fn(&str, &Site) -> bool, to: Pinned, lasting: Duration) -> Vec<String> {
        let now = Instant::now();
        let mut state = self.state();
        let keys = state.paths_where(wanted);
        keys.into_iter().filter_map(|key| state.pin(key, to, now + lasting, now)).collect()
    }

    /// Lets go on what is paused; what that was.
    pub fn resume(&self, what: &Paused) -> Vec<String> {
        self.state().resume(what, Instant::now())
    }

    /// Names of the sources, by their numbers.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.setup.sources.iter().map(|source| source.name.as_str())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::judge::Judge;
    use super::super::ledger::Ledger;
    use super::super::reputation::Reputation;
    use super::super::store::Store;
    use super::super::{Resting, Tempo};
    use super::*;
    use crate::config::Node;
    use crate::outcome::SiteId;
    use crate::shaping::Limits;

    const HOUR: Duration = Duration::from_secs(3600);

    pub fn cause() -> Cause {
        Cause {
            since: SystemTime::UNIX_EPOCH,
            text: String::new(),
            reply: Some("421 no".into()),
            class: Some(crate::classify::Class::RateLimited),
            rule: Some("rule r".into()),
        }
    }

    pub fn state() -> State {
        let (node, tempo, now) = (Node::default(), Tempo(1.0), Instant::now());
        // Nothing here is warming up: the folder is not written to.
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let ledger = Arc::new(Ledger::open(store, &node, tempo).unwrap());
        let names = vec!["a".to_owned(), "b".to_owned()];
        let reputation = Reputation::new(&node.reputation, tempo, Vec::new());
        let domain = "sender.test".to_owned();
        let judge = Judge::new(node.breakers, tempo, reputation, ledger, names.clone(), domain, now);
        State::new(tempo, true, names, judge)
    }

    /// A path with 10 sessions to the site `mx{site}.test` of `provider`.
    pub fn path(state: &mut State, site: u32, source: u16, provider: &str, now: Instant) -> PathKey {
        let key = PathKey { site: SiteId(site), source: SourceId(source) };
        let known = (Arc::from(provider), true);
        let site = Arc::new(Site {
            name: format!("mx{site}.test"),
            exchanges: Vec::new(),
            provider: Some(provider.into()),
            implicit: false,
            own_limits_of: None,
        });
        let limits = Arc::new(Limits { sessions: 10, ..Limits::default() });
        // Whoever listened has gone: nothing here depends on it.
        let _ = state.enter(key, &site, known, limits, now, SystemTime::now());
        key
    }

    #[test]
    fn what_is_kept_for_a_path_goes_with_it_unless_something_is_in_force() {
        let now = Instant::now();
        let mut state = state();
        let keys = [path(&mut state, 0, 0, "p", now), path(&mut state, 1, 0, "q", now)];
        let held = state.paths[&keys[1]].provider;
        let rest = Rest::lasting(Resting::Source, HOUR, 1.0, Arc::new(cause()), now);
        state.providers[held.0].out.insert(SourceId(0), rest);
        keys.iter().for_each(|key| state.leave(*key, now));
        state.tick(now + HOUR);
        assert!(state.paths.is_empty());
        assert_eq!((state.providers.named("p"), state.providers.named("q")), (None, Some(held)));
        let again = path(&mut state, 2, 0, "p", now);
        assert_ne!(state.paths[&again].provider.0, 0, "a number is never given again");
    }

    fn ids(adjustments: &[Adjustment]) -> Vec<u32> {
        adjustments.iter().map(|adjustment| adjustment.id).collect()
    }

    fn adjusted() -> (State, PathKey, Instant) {
        let now = Instant::now();
        let mut state = state();
        let key = path(&mut state, 0, 0, "p", now);
        let provider = state.paths[&key].provider;
        let path = state.paths.get_mut(&key).unwrap();
        path.rate.accepted(600, now);
        assert!(path.rate.slowed(0.5, now + Duration::from_secs(1)));
        path.slowed = Some(Arc::new(cause()));
        assert!(path.window.narrowed(3, now + Duration::from_secs(1)));
        path.narrowed = Some(Arc::new(cause()));
        path.rest = Some(Rest::lasting(Resting::Path, HOUR, 0.25, Arc::new(cause()), now));
        let lasting = |resting| Rest::lasting(resting, HOUR, 1.0, Arc::new(cause()), now);
        let at = &mut state.providers[provider.0];
        at.rest = Some(lasting(Resting::DomainAtProvider));
        at.out.insert(SourceId(0), lasting(Resting::Source));
        let for_good = |resting| Rest::for_good(resting, Arc::new(cause()));
        state.sources.insert(SourceId(1), for_good(Resting::WholeSource));
        state.domain = Some(for_good(Resting::SendingDomain));
        state.campaign = Some(for_good(Resting::Campaign));
        (state, key, now + Duration::from_secs(2))
    }

    #[tokio::test]
    async fn everything_in_force_is_listed_with_its_cause_and_ends_when_cancelled() {
        let (mut state, key, now) = adjusted();
        let listed = state.adjustments(now);
        let kinds: Vec<Kind> = listed.iter().map(|adjustment| adjustment.kind).collect();
        use Kind::{
            Campaign, Rate, Rest, SendingDomain, SendingDomainAtProvider, Sessions, Source, SourceOut,
        };
        assert_eq!(
            kinds,
            [Campaign, SendingDomain, Source, SendingDomainAtProvider, SourceOut, Rest, Rate, Sessions]
        );
        assert!(listed.iter().all(|adjustment| adjustment.cause == Some(cause())));
        assert!(listed[..3].iter().all(|adjustment| adjustment.until.is_none()));
        assert!(listed[3..6].iter().all(|adjustment| adjustment.until.is_some()));
        assert_eq!(listed[5].about, "a to mx0.test");
        // A window is narrowed to half at most.
        assert_eq!(listed[7].what, "5 sessions at once, not 10");
        for (gone, adjustment) in (1..).zip(&listed) {
            let cancelled = state.cancel(adjustment.id, now).unwrap();
            assert_eq!((cancelled.id, &cancelled.what), (adjustment.id, &adjustment.what));
            assert_eq!(state.cancel(adjustment.id, now), None, "it is gone");
            let left = state.adjustments(now);
            assert_eq!(ids(&left), ids(&listed[gone..]), "the others stay, and so do their numbers");
        }
        let path = &state.paths[&key];
        assert!(!path.rate.is_adjusted() && !path.window.is_adjusted());
        assert!(state.hold(key, path, now).is_none());
    }

    #[tokio::test]
    async fn numbers_are_not_given_twice() {
        let (mut state, _, now) = adjusted();
        let first = state.adjustments(now);
        state.cancel(first[0].id, now).unwrap();
        state.campaign = Some(Rest::for_good(Resting::Campaign, Arc::new(cause())));
        let again = state.adjustments(now);
        let highest = first.iter().map(|adjustment| adjustment.id).max().unwrap();
        assert!(again[0].id > highest, "another pause of the same campaign");
        assert_eq!(ids(&again[1..]), ids(&first[1..]));
    }

    #[tokio::test]
    async fn what_is_paused_goes_on_and_nothing_else() {
        let (mut state, key, now) = adjusted();
        assert_eq!(state.resume(&Paused::Source("a".into()), now), [""; 0]);
        assert_eq!(state.resume(&Paused::Source("b".into()), now), ["the source b"]);
        assert_eq!(state.resume(&Paused::All, now), ["the campaign", "the sending domain"]);
        assert_eq!(state.resume(&Paused::All, now), [""; 0]);
        let hold = state.hold(key, &state.paths[&key], now).unwrap();
        assert!(hold.until.is_some(), "what ends by itself was left alone");
        let about: Vec<String> = state.take_events().into_iter().map(|event| event.about).collect();
        assert_eq!(about, ["the source b", "the campaign", "the sending domain"]);
    }

    #[tokio::test]
    async fn a_pin_holds_until_its_time_and_never_beyond_what_files_allow() {
        let now = Instant::now();
        let mut state = state();
        let key = path(&mut state, 0, 0, "p", now);
        state.pin(key, Pinned::Rate(0.5), now + HOUR, now).unwrap();
        let said = state.pin(key, Pinned::Sessions(99), now + HOUR, now).unwrap();
        assert_eq!(said, "a to mx0.test: pinned to 10 sessions at once");
        let listed = state.adjustments(now);
        let what: Vec<&str> = listed.iter().map(|adjustment| adjustment.what.as_str()).collect();
        assert_eq!(what, ["pinned to 30 messages a minute", "pinned to 10 sessions at once"]);
        assert!(listed.iter().all(|adjustment| adjustment.until.is_some()));
        state.leave(key, now);
        assert!(state.paths.contains_key(&key), "a pin outlives the path's sleep");
        state.tick(now + HOUR + Duration::from_secs(1));
        assert_eq!(state.adjustments(now + HOUR + Duration::from_secs(1)), []);
    }
}
