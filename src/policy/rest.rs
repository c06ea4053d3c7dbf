//! A rest: for a time nothing goes, then one message at a time as a probe, until one gets through. Pure.
//!
//! The same news heard again while it rests changes nothing but, perhaps, the end. A probe that is turned
//! away lengthens the next rest, twofold each time up to eightfold.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::terms::{Cause, Hold, Resting};
use crate::pull::PathKey;

/// A rest grows at most to this many times its first length.
const LEVEL_MAX: u32 = 3;
/// A probe that has not been heard of for so long may be made again.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);

/// How often a path asks whether another still probes.
const PROBE_ASKED: Duration = Duration::from_secs(1);

/// How long something rests, and how it comes back.
#[derive(Debug, Clone)]
pub struct Rest {
    pub resting: Resting,
    /// `None`: a person has to end it.
    pub until: Option<Instant>,
    /// Afterwards the rate is this part of the former.
    pub resume: f64,
    pub overflows: bool,
    pub cause: Arc<Cause>,
    then_probe: bool,
    /// How often a probe was turned away.
    level: u32,
    /// Who probes, and since when.
    prober: Option<(PathKey, Instant)>,
}

impl Rest {
    /// For a time; then a probe.
    pub fn lasting(resting: Resting, span: Duration, resume: f64, cause: Arc<Cause>, now: Instant) -> Self {
        let until = Some(now + span);
        Self { until, resume, then_probe: true, ..Self::for_good(resting, cause) }
    }

    /// Until a time, when all goes on as before.
    pub fn until(resting: Resting, until: Instant, overflows: bool, cause: Arc<Cause>) -> Self {
        Self { until: Some(until), overflows, ..Self::for_good(resting, cause) }
    }

    /// Until a person ends it.
    pub fn for_good(resting: Resting, cause: Arc<Cause>) -> Self {
        Self {
            resting,
            until: None,
            resume: 1.0,
            overflows: resting.is_of_source(),
            cause,
            then_probe: false,
            level: 0,
            prober: None,
        }
    }

    /// Lets something rest; whether it did not rest before.
    pub fn begin(rest: &mut Option<Self>, next: Self, now: Instant) -> bool {
        let is_news = rest.as_ref().is_none_or(|rest| rest.is_over(now));
        *rest = Some(Self::joined(rest.take(), next, now));
        is_news
    }

    /// What the rest is now that `next` was heard of.
    pub fn joined(before: Option<Self>, mut next: Self, now: Instant) -> Self {
        let Some(before) = before else { return next };
        let (Some(old), Some(new)) = (before.until, next.until) else {
            return if before.until.is_none() { before } else { next };
        };
        if old > now {
            // Sent before the rest began: the same news again.
            return if new > old { Self { level: before.level, ..next } } else { before };
        }
        // A site that could not be reached has not turned a probe away.
        let failed = before.resting != Resting::Unreachable || next.resting == Resting::Unreachable;
        next.level = (before.level + u32::from(failed)).min(LEVEL_MAX);
        next.until = Some(now + (new - now) * (1 << next.level));
        next
    }

    /// For as long as `span` says of the number of failures in a row; the same news again changes nothing.
    pub fn retrying(
        before: Option<Self>,
        span: impl Fn(u32) -> Duration,
        cause: Arc<Cause>,
        now: Instant,
    ) -> Self {
        let (failures, resume) = match before {
            Some(before) if !before.is_over(now) => return before,
            // A suspension is not forgotten because its probe did not get as far.
            Some(before) if before.resting == Resting::Unreachable => (before.failures() + 1, before.resume),
            Some(before) => (1, before.resume),
            None => (1, 1.0),
        };
        let rest = Self::lasting(Resting::Unreachable, span(failures), resume, cause, now);
        Self { level: failures - 1, ..rest }
    }

    /// How often in a row it was turned away, the first time included.
    pub fn failures(&self) -> u32 {
        self.level + 1
    }

    pub fn remaining(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(now))
    }

    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether it is over and only a probe may go.
    pub fn wants_probe(&self, now: Instant) -> bool {
        self.then_probe && self.is_over(now)
    }

    /// Whoever probed does no longer.
    pub fn unprobed(&mut self, path: PathKey) {
        self.prober = self.prober.filter(|(prober, _)| *prober != path);
    }

    /// Lets one path probe, or says when to ask again.
    pub fn probe(&mut self, path: PathKey, now: Instant) -> Result<(), Instant> {
        match self.prober {
            Some((other, since)) if other != path && now < since + PROBE_PATIENCE => {
                // It may turn out to have nothing to probe with.
                Err((since + PROBE_PATIENCE).min(now + PROBE_ASKED))
            }
            _ => {
                self.prober = Some((path, now));
                Ok(())
            }
        }
    }

    pub fn hold(&self) -> Hold {
        Hold {
            resting: self.resting,
            until: self.until,
            then_probe: self.then_probe,
            overflows: self.overflows,
            cause: self.cause.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::outcome::{SiteId, SourceId};

    const HOUR: Duration = Duration::from_secs(3600);

    fn rest(now: Instant) -> Rest {
        let cause =
            Cause { since: SystemTime::UNIX_EPOCH, text: "t".into(), reply: None, class: None, rule: None };
        Rest::lasting(Resting::Path, HOUR, 0.25, Arc::new(cause), now)
    }

    #[test]
    fn the_same_news_again_does_not_lengthen_it() {
        let now = Instant::now();
        let first = rest(now);
        let later = now + Duration::from_secs(1);
        let joined = Rest::joined(Some(first), rest(later), later);
        assert_eq!((joined.until, joined.failures()), (Some(later + HOUR), 1));
    }

    #[test]
    fn a_probe_turned_away_doubles_it_up_to_eightfold() {
        let mut now = Instant::now();
        let mut held = rest(now);
        let mut spans = Vec::new();
        for _ in 0..5 {
            now = held.until.unwrap() + Duration::from_secs(1);
            assert!(held.wants_probe(now));
            held = Rest::joined(Some(held), rest(now), now);
            spans.push((held.until.unwrap() - now).as_secs() / 3600);
        }
        assert_eq!(spans, [2, 4, 8, 8, 8]);
    }

    #[test]
    fn a_site_out_of_reach_does_not_forget_how_slowly_to_return() {
        let now = Instant::now();
        let suspended = rest(now);
        let (cause, later) = (suspended.cause.clone(), suspended.until.unwrap());
        let away = Rest::retrying(Some(suspended), |_| HOUR, cause, later);
        assert_eq!((away.resting, away.resume, away.failures()), (Resting::Unreachable, 0.25, 1));
        let again = Rest::joined(Some(away), rest(later + HOUR), later + HOUR);
        assert_eq!(again.until, Some(later + 2 * HOUR), "no probe was turned away");
    }

    #[test]
    fn only_what_is_about_a_source_goes_over_others() {
        let cause = rest(Instant::now()).cause;
        let overflows = |resting| Rest::for_good(resting, cause.clone()).overflows;
        assert!(
            [Resting::Path, Resting::Unreachable, Resting::Source, Resting::WholeSource]
                .map(overflows)
                .iter()
                .all(|is| *is)
        );
        let of_all = [Resting::DomainAtProvider, Resting::SendingDomain, Resting::Campaign];
        assert_eq!(of_all.map(overflows), [false; 3]);
    }

    #[test]
    fn one_path_probes_at_a_time() {
        let now = Instant::now();
        let path = |site| PathKey { site: SiteId(site), source: SourceId(0) };
        let mut rest = rest(now);
        assert_eq!(rest.probe(path(1), now), Ok(()));
        assert_eq!(rest.probe(path(2), now), Err(now + PROBE_ASKED));
        assert_eq!(rest.probe(path(1), now), Ok(()));
        assert_eq!(rest.probe(path(2), now + PROBE_PATIENCE), Ok(()));
        rest.unprobed(path(1));
        assert!(rest.probe(path(1), now + PROBE_PATIENCE).is_err());
        rest.unprobed(path(2));
        assert_eq!(rest.probe(path(1), now + PROBE_PATIENCE), Ok(()));
    }

    #[test]
    fn what_a_person_has_to_end_is_not_ended_by_news() {
        let now = Instant::now();
        let paused = Rest::for_good(Resting::Campaign, rest(now).cause);
        assert_eq!(Rest::joined(Some(paused), rest(now), now).until, None);
    }
}
