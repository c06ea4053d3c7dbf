//! A rate as a ceiling: the only user of governor.
//!
//! One direct limiter a rate, over tokio's clock, so that tests can hold time. A denied take says
//! when to come back; whoever is denied parks until then and asks nothing in between.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::config::Rate;

/// How much of a burst a rate without a stated one may have: what it grants in this time.
const BURST_SPAN: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, span: Nanos) -> Self {
        Self(self.0 + Duration::from(span))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, span: Nanos) -> Self {
        Self(self.0.checked_sub(span.into()).unwrap_or(self.0))
    }
}

#[derive(Debug, Clone)]
struct TokioClock;

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

/// Whether a pace may spend its burst at once or must earn it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    Full,
    /// After a restart: what was spent before it is not known, so nothing is given on credit.
    Empty,
}

/// A limiter that grants `rate.count` takes each `rate.per`, evenly, with a small stated burst.
#[derive(Debug)]
pub struct Pace {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>,
    per_second: f64,
}

impl Pace {
    pub fn new(rate: &Rate, credit: Credit) -> Self {
        let count = rate.count.max(1);
        let period = (rate.per / count).max(Duration::from_nanos(1));
        let burst = NonZeroU32::new(burst(rate)).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period).expect("a period of at least a nanosecond").allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(quota, TokioClock);
        if credit == Credit::Empty {
            let _ = limiter.check_n(burst);
        }
        Self { limiter, per_second: 1.0 / period.as_secs_f64() }
    }

    /// What it grants in the long run.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Takes one, or says from when on one may be had.
    pub fn take(&self) -> Result<(), Instant> {
        self.limiter.check().map_err(|denied| {
            let now = TokioClock.now();
            // A millisecond is what tokio's timers can tell apart.
            now.0 + denied.wait_time_from(now).max(Duration::from_millis(1))
        })
    }
}

/// Several paces that all have to grant, such as a path's own, its provider's and the campaign's.
///
/// A token taken from one while another denies stays in hand for the next try, so a denial costs
/// nothing; the widest pace comes last, so that none of its tokens waits in many hands.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    is_open: bool,
}

#[derive(Debug, Default)]
struct GateState {
    /// Each with a token in hand or not.
    paces: Vec<(Arc<Pace>, bool)>,
    closed_until: Option<Instant>,
}

impl Gate {
    pub fn new(paces: impl IntoIterator<Item = Arc<Pace>>) -> Self {
        let paces: Vec<_> = paces.into_iter().map(|pace| (pace, false)).collect();
        Self { is_open: paces.is_empty(), state: Mutex::new(GateState { paces, closed_until: None }) }
    }

    /// Passes, or says from when on to try again.
    pub fn pass(&self) -> Result<(), Instant> {
        if self.is_open {
            return Ok(());
        }
        let mut state = self.state.lock().expect("no panic while the paces are held");
        let GateState { paces, closed_until } = &mut *state;
        for (pace, in_hand) in paces.iter_mut().filter(|(_, in_hand)| !in_hand) {
            if let Err(until) = pace.take() {
                *closed_until = Some(until);
                return Err(until);
            }
            *in_hand = true;
        }
        *closed_until = None;
        paces.iter_mut().for_each(|(_, in_hand)| *in_hand = false);
        Ok(())
    }

    /// The time given with the last denial, unless something has passed since.
    pub fn closed_until(&self) -> Option<Instant> {
        if self.is_open {
            return None;
        }
        self.state.lock().expect("no panic while the paces are held").closed_until
    }
}

/// The burst of a rate: as stated, or what it grants in a tenth of a second, at least one.
pub fn burst(rate: &Rate) -> u32 {
    rate.burst.unwrap_or_else(|| {
        let granted = u128::from(rate.count) * BURST_SPAN.as_nanos() / rate.per.as_nanos().max(1);
        u32::try_from(granted).unwrap_or(u32::MAX).max(1)
    })
}

/// How long after its last take a pace is as good as new.
pub fn recovery(rate: &Rate) -> Duration {
    (rate.per / rate.count.max(1)).saturating_mul(burst(rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(count: u32, per_ms: u64, burst: Option<u32>) -> Rate {
        Rate { count, per: Duration::from_millis(per_ms), burst }
    }

    /// Takes whenever allowed for `span`, sleeping until told otherwise; the times of the takes.
    async fn greedy(pace: &Pace, span: Duration) -> Vec<Instant> {
        let end = Instant::now() + span;
        let mut taken = Vec::new();
        loop {
            match pace.take() {
                Ok(()) => taken.push(Instant::now()),
                Err(until) if until > end => return taken,
                Err(until) => tokio::time::sleep_until(until).await,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_rate_is_spread_over_the_minute() {
        let pace = Pace::new(&rate(100, 60_000, None), Credit::Full);
        let taken = greedy(&pace, Duration::from_secs(60)).await;
        assert!((100..=101).contains(&taken.len()), "{}", taken.len());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_given_on_credit_after_a_restart() {
        let pace = Pace::new(&rate(60, 60_000, Some(10)), Credit::Empty);
        let until = pace.take().unwrap_err();
        assert!(until >= Instant::now() + Duration::from_millis(900));
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_by_one_pace_costs_nothing_at_the_other() {
        let quick = Arc::new(Pace::new(&rate(2, 60_000, Some(2)), Credit::Full));
        let slow = Arc::new(Pace::new(&rate(1, 1_000, None), Credit::Full));
        let gate = Gate::new([quick, slow]);
        gate.pass().unwrap();
        for _ in 0..5 {
            gate.pass().unwrap_err();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        gate.pass().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_window_grants_more_than_rate_and_burst(count in 1u32..500, per_ms in 100u64..5_000, burst_of in proptest::option::of(1u32..20)) {
            let rate = rate(count, per_ms, burst_of);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let taken = runtime.block_on(async {
                let pace = Pace::new(&rate, Credit::Full);
                greedy(&pace, Duration::from_millis(per_ms * 3)).await
            });
            let window = Duration::from_millis(per_ms);
            for (first, start) in taken.iter().enumerate() {
                let within = taken[first..].iter().take_while(|at| **at < *start + window).count();
                prop_assert!(within as u32 <= count + burst(&rate), "{within} in one window");
            }
        }
    }
}
