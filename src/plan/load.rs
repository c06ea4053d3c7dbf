//! Who of a site is ready to be mailed, and who waits for another attempt.

use std::time::Duration;

/// Recipients who fare alike. Counts are no whole numbers once limits have divided them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cohort {
    pub count: f64,
    /// Deferrals so far, as far as that makes a difference.
    pub failures: u32,
    /// Deferrals still to come before the last attempt; `None`: each attempt is deferred.
    pub to_come: Option<u32>,
    /// The next deferral is a greylisting.
    pub is_greylisted: bool,
}

impl Cohort {
    /// Nobody has been tried; each will be deferred so often.
    pub fn fresh(count: f64, deferrals: Option<u32>, is_greylisted: bool) -> Self {
        let to_come = deferrals.map(|deferrals| deferrals + u32::from(is_greylisted));
        Self { count, failures: 0, to_come, is_greylisted }
    }

    /// Whether the next attempt is the last.
    fn is_last(&self) -> bool {
        self.to_come == Some(0)
    }

    /// After another deferral; from the last of the `waits` on all are alike.
    fn deferred(self, waits: usize) -> Self {
        Self {
            failures: (self.failures + 1).min(u32::try_from(waits).unwrap_or(u32::MAX)),
            to_come: self.to_come.map(|left| left.saturating_sub(1)),
            is_greylisted: false,
            ..self
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        Self { count: other.count, ..*self } == *other
    }
}

/// Waits between attempts at one site.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    /// The last one repeats; never empty.
    pub retry: Vec<Duration>,
    pub greylist: Duration,
}

impl Waits {
    /// Seconds after this deferral, without jitter.
    fn after(&self, cohort: &Cohort) -> f64 {
        let nth = (cohort.failures as usize).min(self.retry.len() - 1);
        if cohort.is_greylisted { self.greylist.as_secs_f64() } else { self.retry[nth].as_secs_f64() }
    }
}

/// Who is ready at a site.
#[derive(Debug, Clone, Default)]
pub(super) struct Ready {
    cohorts: Vec<Cohort>,
    total: f64,
}

/// Too few to be anybody: what rounding leaves.
const NOBODY: f64 = 1e-6;

impl Ready {
    pub fn add(&mut self, cohort: Cohort) {
        if cohort.count <= 0.0 {
            return;
        }
        self.total += cohort.count;
        match self.cohorts.iter_mut().find(|other| other.is_like(&cohort)) {
            Some(other) => other.count += cohort.count,
            None => self.cohorts.push(cohort),
        }
    }

    pub fn total(&self) -> f64 {
        self.total
    }

    /// Whether any of them was never tried.
    pub fn has_fresh(&self) -> bool {
        self.cohorts.iter().any(|cohort| cohort.failures == 0)
    }

    /// Takes so many, the same part of each cohort; all where hardly any would be left.
    pub fn take(&mut self, count: f64) -> Vec<Cohort> {
        if count >= self.total - NOBODY {
            self.total = 0.0;
            return std::mem::take(&mut self.cohorts);
        }
        let part = count / self.total;
        self.total -= count;
        let taken = self.cohorts.iter_mut().map(|cohort| {
            let count = cohort.count * part;
            cohort.count -= count;
            Cohort { count, ..*cohort }
        });
        taken.collect()
    }
}

/// What an attempt leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum After {
    Settled,
    /// Due at these seconds after the attempt.
    Again(f64, Cohort),
}

/// Into how many a cohort is spread by jitter.
const SPREAD: u32 = 4;

/// What becomes of a cohort that was attempted. `jitter` spreads those that come again evenly; the last of
/// them comes as late as the last of so many can be expected to.
pub(super) fn attempted(cohort: Cohort, waits: &Waits, jitter: f64) -> impl Iterator<Item = After> {
    let parts = if cohort.is_last() { 1 } else { SPREAD };
    let wait = waits.after(&cohort);
    // Of n numbers spread evenly between 0 and 1 the largest is n / (n + 1) on average.
    let latest = cohort.count.max(1.0) / (cohort.count.max(1.0) + 1.0);
    (1..=parts).map(move |part| {
        if cohort.is_last() {
            return After::Settled;
        }
        let share = latest * f64::from(part) / f64::from(parts);
        let again = Cohort { count: cohort.count / f64::from(parts), ..cohort.deferred(waits.retry.len()) };
        After::Again(wait * (1.0 + jitter * share), again)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits() -> Waits {
        Waits {
            retry: vec![Duration::from_secs(300), Duration::from_secs(900)],
            greylist: Duration::from_secs(60),
        }
    }

    fn dues(cohort: Cohort, jitter: f64) -> Vec<f64> {
        let due = |after| match after {
            After::Again(due, _) => due,
            After::Settled => 0.0,
        };
        attempted(cohort, &waits(), jitter).map(due).collect()
    }

    #[test]
    fn waits_follow_the_schedule_and_a_greylisting_has_its_own() {
        assert_eq!(dues(Cohort::fresh(3.0, Some(0), false), 0.0), [0.0]);
        assert_eq!(dues(Cohort::fresh(3.0, Some(1), false), 0.0), [300.0; 4]);
        assert_eq!(dues(Cohort::fresh(3.0, Some(1), true), 0.0), [60.0; 4]);
        let third = Cohort { failures: 2, ..Cohort::fresh(3.0, None, false) };
        assert_eq!(dues(third, 0.0), [900.0; 4], "the last wait repeats");
    }

    #[test]
    fn jitter_spreads_a_cohort_up_to_the_last_that_can_be_expected() {
        // Of one the last is half way, of 99 at 99 %.
        assert_eq!(dues(Cohort::fresh(1.0, Some(1), false), 0.1)[3], 300.0 * 1.05);
        let dues = dues(Cohort::fresh(99.0, Some(1), false), 0.1);
        assert!((dues[3] - 300.0 * 1.099).abs() < 1e-9, "{dues:?}");
        assert!((dues[0] - 300.0 * (1.0 + 0.099 / 4.0)).abs() < 1e-9, "{dues:?}");
    }

    #[test]
    fn cohorts_are_taken_in_proportion_and_to_the_last() {
        let mut ready = Ready::default();
        ready.add(Cohort::fresh(90.0, Some(0), false));
        ready.add(Cohort::fresh(5.0, Some(1), false));
        ready.add(Cohort::fresh(5.0, Some(1), false));
        let taken = ready.take(50.0);
        assert_eq!((taken.len(), taken[0].count, taken[1].count, ready.total()), (2, 45.0, 5.0, 50.0));
        assert_eq!(ready.take(50.0).len(), 2);
        assert_eq!(ready.total(), 0.0);
    }
}
