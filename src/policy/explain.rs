//! What is in force, in words that machines and people read. Looks, and changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::rate::{AdaptiveRate, RateState};
use super::state::State;
use super::{Binding, Cause, Hold, Policy, Resting};
use crate::outcome::SiteId;
use crate::pull::PathKey;
use crate::shaping::rate::Limit;
use crate::site::Site;

/// One path at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathReport {
    pub source: String,
    pub site: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// A task serves it. Without one, what is in force waits for the next.
    pub is_awake: bool,
    /// What keeps it from going faster, and until when if that is known.
    pub binding: Binding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReport>,
    pub sessions: SessionsReport,
    pub rate: RateReport,
    /// Of the sending domain at the provider, over all sources, where it is adapted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_rate: Option<RateReport>,
    /// Entries in its hands.
    pub in_hand: u32,
    /// Entries at the site that could go now, over any source.
    pub waiting: u64,
    /// The last refusal that was about the sending side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Cause>,
    /// What files say: limit, value, and where that is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<[String; 3]>,
}

/// What holds something, why, and how it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldReport {
    pub resting: Resting,
    /// `None`: a person has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Afterwards one message goes alone first.
    pub then_probe: bool,
    /// Other sources take over meanwhile.
    pub overflows: bool,
    pub cause: Cause,
}

/// Sessions of a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionsReport {
    pub open: u32,
    /// At once, now.
    pub allowed: u32,
    /// By shaping.
    pub limit: u32,
    /// What took some away, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// When what a person has pinned them to ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_until: Option<Timestamp>,
}

/// Where an adapted rate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateWord {
    /// The limit of shaping holds, if there is one.
    Free,
    Cut,
    Growing,
    AtCeiling,
    Probing,
    Pinned,
}

/// A rate, and what it is on its way to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateReport {
    pub state: RateWord,
    /// `None`: as fast as it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<f64>,
    /// What it grows to, or what the site was seen to take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling_per_minute: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// A moment of the engine's clock on the wall, to the millisecond: the two are not read at once, and who
/// asks twice should read the same.
pub(super) fn on_the_wall(at: Instant, now: Instant) -> Timestamp {
    let wall = match at.checked_duration_since(now) {
        Some(ahead) => SystemTime::now().checked_add(ahead),
        None => SystemTime::now().checked_sub(now - at),
    };
    let wall = wall.and_then(|wall| Timestamp::try_from(wall).ok());
    wall.and_then(|wall| wall.round(Unit::Millisecond).ok()).unwrap_or(Timestamp::MAX)
}

impl HoldReport {
    pub(super) fn of(hold: &Hold, now: Instant) -> Self {
        Self {
            resting: hold.resting,
            until: hold.until.map(|until| on_the_wall(until, now)),
            then_probe: hold.then_probe,
            overflows: hold.overflows,
            cause: (*hold.cause).clone(),
        }
    }
}

impl RateReport {
    fn of(rate: &mut AdaptiveRate, cause: Option<&Cause>, now: Instant) -> Self {
        let (state, ceiling, until) = match rate.state(now) {
            RateState::Free => (RateWord::Free, None, None),
            RateState::Cut { until } => (RateWord::Cut, rate.ceiling(), Some(until)),
            RateState::Growing { to } => (RateWord::Growing, Some(to), None),
            RateState::AtCeiling { ceiling, until } => (RateWord::AtCeiling, Some(ceiling), Some(until)),
            RateState::Probing { ceiling, until } => (RateWord::Probing, Some(ceiling), Some(until)),
            RateState::Pinned { until } => (RateWord::Pinned, None, Some(until)),
        };
        Self {
            state,
            per_minute: rate.per_second(now).map(|rate| rate * 60.0),
            ceiling_per_minute: ceiling.map(|rate| rate * 60.0),
            until: until.map(|until| on_the_wall(until, now)),
            cause: cause.filter(|_| rate.is_cut()).cloned(),
        }
    }
}

impl PathReport {
    /// Of what binds, if that has one: what was said, and by which rule it counts.
    pub fn cause(&self) -> Option<&Cause> {
        match self.binding {
            Binding::Hold | Binding::Probe => self.hold.as_ref().map(|hold| &hold.cause),
            Binding::Rate(Limit::AdaptedPath) => self.rate.cause.as_ref(),
            Binding::Rate(Limit::AdaptedDomain) => self.domain_rate.as_ref()?.cause.as_ref(),
            Binding::Window => self.sessions.cause.as_ref(),
            _ => None,
        }
    }
}

impl State {
    /// Of every path whose source and site are wanted, in the order of their numbers.
    pub fn paths_where(&self, wanted: impl Fn(&str, &Site) -> bool) -> Vec<PathKey> {
        let is_wanted = |key: &PathKey| {
            let source = &self.names[usize::from(key.source.0)];
            self.paths.get(key).is_some_and(|path| wanted(source, &path.site))
        };
        let mut keys: Vec<PathKey> = self.paths.keys().copied().filter(is_wanted).collect();
        keys.sort_unstable_by_key(|key| (key.site.0, key.source.0));
        keys
    }

    pub fn path_report(&mut self, key: PathKey, now: Instant) -> Option<PathReport> {
        let hold = self.hold(key, self.paths.get(&key)?, now);
        let (binding, until) = self.binding(key, hold.as_ref(), now)?;
        let hold = hold.map(|hold| HoldReport::of(&hold, now));
        let until = match &hold {
            Some(hold) if binding == Binding::Hold => hold.until,
            _ => until.map(|until| on_the_wall(until, now)),
        };
        let source = self.names[usize::from(key.source.0)].clone();
        let has_others = self.names.len() > 1;
        let path = self.paths.get_mut(&key)?;
        let provider = &mut self.providers[path.provider.0];
        let domain_cause = provider.slowed.clone();
        let domain_rate = provider.rate.is_adjusted();
        let domain_rate =
            domain_rate.then(|| RateReport::of(&mut provider.rate, domain_cause.as_deref(), now));
        let standing = &path.standing;
        Some(PathReport {
            source,
            site: path.site.name.clone(),
            provider: path.site.provider.as_deref().map(str::to_owned),
            is_awake: path.lives > 0,
            binding,
            until,
            hold: hold.map(|hold| HoldReport { overflows: hold.overflows && has_others, ..hold }),
            sessions: SessionsReport {
                open: standing.open(),
                allowed: path.window.sessions(now),
                limit: path.limits.sessions,
                cause: path.narrowed.as_deref().filter(|_| path.window.is_narrowed()).cloned(),
                pinned_until: path.window.pinned().map(|(_, until)| on_the_wall(until, now)),
            },
            rate: RateReport::of(&mut path.rate, path.slowed.as_deref(), now),
            domain_rate,
            in_hand: standing.entries.load(Ordering::Relaxed),
            waiting: 0,
            refused: path.refused.as_deref().cloned(),
            limits: Vec::new(),
        })
    }

    /// What the path said last, unless a hold has been decided that it has not come to yet.
    fn binding(&self, key: PathKey, hold: Option<&Hold>, now: Instant) -> Option<(Binding, Option<Instant>)> {
        let path = self.paths.get(&key)?;
        Some(match (hold, path.standing.binding(now)) {
            (Some(hold), _) if !hold.is_over(now) => (Binding::Hold, hold.until),
            (Some(_), _) => (Binding::Probe, None),
            (None, _) if path.lives == 0 => (Binding::Work, None),
            // Let go of a moment ago.
            (None, (Binding::Hold | Binding::Probe, _)) => (Binding::Opening, None),
            (None, said) => said,
        })
    }

    /// What holds the whole campaign, the sending domain included.
    pub fn campaign_hold(&self, now: Instant) -> Option<HoldReport> {
        let holds = [self.campaign.as_ref(), self.domain.as_ref()];
        let hold = holds.into_iter().flatten().find(|rest| !rest.is_over(now))?;
        Some(HoldReport::of(&hold.hold(), now))
    }

    /// What holds mail, in one line; `None` where nothing does.
    pub fn held_line(&self, now: Instant) -> Option<String> {
        let mut parts = Vec::new();
        for (rest, whom) in [(&self.campaign, "the campaign"), (&self.domain, "the sending domain")] {
            if let Some(rest) = rest.as_ref().filter(|rest| !rest.is_over(now)) {
                parts.push(format!("{whom} is paused: {}", rest.cause));
            }
        }
        if parts.is_empty() {
            let mut resting: Vec<(Resting, usize)> = Vec::new();
            for (key, path) in &self.paths {
                let Some(hold) = self.hold(*key, path, now) else { continue };
                match resting.iter_mut().find(|(other, _)| *other == hold.resting) {
                    Some((_, count)) => *count += 1,
                    None => resting.push((hold.resting, 1)),
                }
            }
            let all: usize = resting.iter().map(|(_, count)| count).sum();
            if all > 0 {
                resting.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
                let named = resting.iter().map(|(resting, count)| format!("{count} {}", resting.briefly()));
                let named = named.collect::<Vec<_>>().join(", ");
                parts.push(format!("{all} of {} paths rest: {named}", self.paths.len()));
            }
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Resting {
    /// Of paths that rest, a word or two for each kind.
    fn briefly(self) -> &'static str {
        match self {
            Self::Path => "suspended",
            Self::Unreachable => "unreachable",
            Self::Source => "with a source that is taken out",
            Self::WholeSource => "with a source that is paused",
            Self::DomainAtProvider => "at a provider where the sending domain is paused",
            Self::SendingDomain => "with a paused sending domain",
            Self::Campaign => "of a paused campaign",
            Self::WarmUp => "for warm-up",
        }
    }
}

impl Policy {
    /// Every path that is wanted, `most` at most, and how many there are.
    pub fn paths(
        &self,
        most: usize,
        wanted: impl Fn(&str, &Site) -> bool,
    ) -> (Vec<(PathKey, Arc<Site>, PathReport)>, usize) {
        let now = Instant::now();
        let mut state = self.state();
        let keys = state.paths_where(wanted);
        let count = keys.len();
        let keys = keys.into_iter().take(most);
        let reports = keys.filter_map(|key| {
            let site = state.paths.get(&key)?.site.clone();
            Some((key, site, state.path_report(key, now)?))
        });
        let reports = reports.collect();
        drop(state);
        (reports, count)
    }

    /// What keeps each path that is known from going faster.
    pub fn bindings(&self) -> Vec<(SiteId, PathBinding)> {
        let now = Instant::now();
        let state = self.state();
        let mut all = Vec::with_capacity(state.paths.len());
        for (key, path) in &state.paths {
            let hold = state.hold(*key, path, now);
            let Some((binding, until)) = state.binding(*key, hold.as_ref(), now) else { continue };
            all.push((
                key.site,
                PathBinding {
                    key: *key,
                    binding,
                    resting: hold.map(|hold| hold.resting),
                    until: until.map(|until| on_the_wall(until, now)),
                    in_hand: path.standing.entries.load(Ordering::Relaxed),
                },
            ));
        }
        all
    }

    pub fn path_report(&self, key: PathKey) -> Option<PathReport> {
        self.state().path_report(key, Instant::now())
    }

    /// What holds the whole campaign.
    pub fn campaign_hold(&self) -> Option<HoldReport> {
        self.state().campaign_hold(Instant::now())
    }

    /// What holds mail, in one line; `None` where nothing does.
    pub fn held_line(&self) -> Option<String> {
        self.state().held_line(Instant::now())
    }

    /// What files say of the path from a source to a site.
    pub fn limit_lines(&self, source: &str, site: &Site) -> Vec<[String; 3]> {
        let lines = self.setup.shaping.current().explain(site, source);
        let said = lines.into_iter().filter_map(|line| {
            Some([line.key.to_string(), line.value?.to_string(), line.origin.to_string()])
        });
        said.collect()
    }
}

/// What binds a path, without the rest of its report.
#[derive(Debug, Clone)]
pub struct PathBinding {
    pub key: PathKey,
    pub binding: Binding,
    pub resting: Option<Resting>,
    pub until: Option<Timestamp>,
    pub in_hand: u32,
}

#[cfg(test)]
mod tests {
    use super::super::person::tests::{cause, path, state};
    use super::super::rest::Rest;
    use super::*;
    use crate::outcome::SourceId;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_hold_binds_before_the_path_has_come_to_it_and_is_named_with_its_reply() {
        let now = Instant::now();
        let mut state = state();
        let key = path(&mut state, 0, 0, "p", now);
        let standing = state.paths[&key].standing.clone();
        standing.binds(Binding::Connections, Some(now + HOUR));
        let report = state.path_report(key, now).unwrap();
        assert_eq!(report.binding, Binding::Connections);
        assert!(report.hold.is_none() && report.until.is_some());

        let rest = Rest::lasting(Resting::Path, HOUR, 0.25, Arc::new(cause()), now);
        state.paths.get_mut(&key).unwrap().rest = Some(rest);
        let report = state.path_report(key, now).unwrap();
        assert_eq!((report.source.as_str(), report.site.as_str()), ("a", "mx0.test"));
        assert_eq!(serde_json::to_value(report.binding).unwrap(), "hold");
        let hold = serde_json::to_value(report.hold.unwrap()).unwrap();
        assert_eq!((&hold["resting"], &hold["then_probe"]), (&"path".into(), &true.into()));
        assert_eq!(hold["cause"]["rule"], "rule r");
        assert_eq!(hold["cause"]["since"], "1970-01-01T00:00:00Z");
        let later = state.path_report(key, now + HOUR).unwrap();
        assert_eq!(later.binding, Binding::Probe);
    }

    #[tokio::test]
    async fn a_path_that_sleeps_waits_for_work_unless_something_holds_it() {
        let now = Instant::now();
        let mut state = state();
        let key = path(&mut state, 0, 0, "p", now);
        state.paths[&key].standing.binds(Binding::Sessions, None);
        state.paths.get_mut(&key).unwrap().lives = 0;
        let report = state.path_report(key, now).unwrap();
        assert_eq!((report.binding, report.is_awake), (Binding::Work, false));
    }

    #[tokio::test]
    async fn what_holds_mail_is_one_line() {
        let now = Instant::now();
        let mut state = state();
        let keys: Vec<PathKey> = (0..3).map(|site| path(&mut state, site, 0, "p", now)).collect();
        assert_eq!(state.held_line(now), None);
        for (key, resting) in keys.iter().zip([Resting::Path, Resting::Unreachable]) {
            let rest = Rest::lasting(resting, HOUR, 1.0, Arc::new(cause()), now);
            state.paths.get_mut(key).unwrap().rest = Some(rest);
        }
        let line = state.held_line(now).unwrap();
        assert!(line.starts_with("2 of 3 paths rest: 1 ") && line.contains("1 unreachable"), "{line}");
        let provider = state.paths[&keys[2]].provider;
        let out = Rest::lasting(Resting::Source, HOUR, 1.0, Arc::new(cause()), now);
        state.providers[provider.0].out.insert(SourceId(0), out);
        assert!(state.held_line(now).unwrap().starts_with("3 of 3 paths rest"));
        state.campaign = Some(Rest::for_good(Resting::Campaign, Arc::new(cause())));
        assert_eq!(state.held_line(now).unwrap(), "the campaign is paused: `421 no` (rule r)");
    }
}
