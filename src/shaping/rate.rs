//! Rates as ceilings, and the gate that all of a path's together are.
//!
//! A [`Pace`] is fixed: one direct limiter of governor, whose only user this is, over tokio's clock, so
//! that tests can hold time. A [`LivePace`] can be changed while it runs, which governor's cannot. A
//! denied take says when to come back; whoever is denied parks until then and asks nothing in between.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::Rate;

/// How much of a burst a rate without a stated one may have: what it grants in this time.
const BURST_SPAN: Duration = Duration::from_millis(100);

/// A century: governor counts nanoseconds in 64 bits, which are almost six.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

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
        let period = (rate.per / rate.count.max(1)).clamp(Duration::from_nanos(1), LONGEST);
        // Fewer at once where it would take longer than governor can count to earn them.
        let earned = u32::try_from(LONGEST.as_nanos() / period.as_nanos()).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(burst(rate).min(earned)).unwrap_or(NonZeroU32::MIN);
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
}

impl Meter for Pace {
    fn take(&self) -> Result<(), Instant> {
        self.limiter.check().map_err(|denied| {
            let now = TokioClock.now();
            // A millisecond is what tokio's timers can tell apart.
            now.0 + denied.wait_time_from(now).max(Duration::from_millis(1))
        })
    }
}

/// A pace that is changed while it is kept: evenly spaced takes (GCRA), with what a tenth of a second
/// grants as its burst. A change keeps what was spent; it neither gives credit nor takes it.
#[derive(Debug)]
pub struct LivePace {
    state: Mutex<LiveState>,
}

#[derive(Debug)]
struct LiveState {
    /// `None`: no limit.
    period: Option<Duration>,
    /// When the next take is due at an even pace.
    due: Instant,
}

impl LivePace {
    pub fn new(per_second: Option<f64>) -> Self {
        let pace = Self { state: Mutex::new(LiveState { period: None, due: Instant::now() }) };
        pace.set(per_second);
        pace
    }

    /// What it grants now in the long run; `None`: as many as are asked for.
    pub fn per_second(&self) -> Option<f64> {
        let state = self.state.lock().expect("no panic while the pace is held");
        state.period.map(|period| 1.0 / period.as_secs_f64())
    }

    /// From now on so many a second, above 0; `None`: as many as are asked for.
    pub fn set(&self, per_second: Option<f64>) {
        let mut state = self.state.lock().expect("no panic while the pace is held");
        state.period = per_second.map(|rate| Duration::from_secs_f64((1.0 / rate).clamp(1e-9, 1e9)));
        if let Some(period) = state.period {
            // As far ahead as takes can bring it; less would give the burst anew.
            state.due = state.due.min(Instant::now() + period.max(BURST_SPAN));
        }
    }
}

impl Meter for LivePace {
    fn take(&self) -> Result<(), Instant> {
        let mut state = self.state.lock().expect("no panic while the pace is held");
        let Some(period) = state.period else { return Ok(()) };
        let now = Instant::now();
        let tolerance = BURST_SPAN.saturating_sub(period);
        if state.due > now + tolerance {
            return Err((state.due - tolerance).max(now + Duration::from_millis(1)));
        }
        state.due = state.due.max(now) + period;
        Ok(())
    }
}

/// What grants takes one at a time.
pub trait Meter: Send + Sync + fmt::Debug {
    /// Takes one, or says from when on to ask again.
    fn take(&self) -> Result<(), Instant>;

    /// One that was taken at that time was not used. A rate need not mind, as it grants anew all the time;
    /// a cap that is to be used to the last has to.
    fn give_back(&self, _taken: Instant) {}
}

/// Which limit a meter stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The path's own, from shaping.
    Path,
    /// The provider's, over all its sites and all sources.
    Provider,
    /// The campaign's, from its manifest.
    Campaign,
    /// The source's account at its relay.
    Account,
    /// The path's, as adapted to what the site said.
    AdaptedPath,
    /// The sending domain's at this provider, as adapted.
    AdaptedDomain,
    /// The cap of a source or sending domain that is warming up.
    WarmUp,
}

/// Several meters that all have to grant, such as a path's own, its provider's and the campaign's.
///
/// A token taken from one while another denies stays in hand for the next try, so a denial costs
/// nothing; the widest comes last, so that none of its tokens waits in many hands.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    /// There are no paces.
    is_open: AtomicBool,
}

#[derive(Debug, Default)]
struct GateState {
    tolls: Vec<Toll>,
    closed: Option<(Limit, Instant)>,
    /// As `closed`, but not forgotten when something passes.
    denied: Option<(Limit, Instant)>,
}

/// A limit that denied up to this long ago is what binds: between two denials of a quick one messages pass.
const BINDS_STILL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Toll {
    limit: Limit,
    meter: Arc<dyn Meter>,
    in_hand: bool,
}

impl Gate {
    pub fn new(meters: impl IntoIterator<Item = (Limit, Arc<dyn Meter>)>) -> Self {
        let gate = Self::default();
        gate.replace(meters);
        gate
    }

    /// Other meters from now on. A token in hand of one that stays is kept.
    pub fn replace(&self, meters: impl IntoIterator<Item = (Limit, Arc<dyn Meter>)>) {
        let mut state = self.state.lock().expect("no panic while the meters are held");
        let before = std::mem::take(&mut *state);
        let in_hand = |meter: &Arc<dyn Meter>| {
            before.tolls.iter().any(|toll| toll.in_hand && Arc::ptr_eq(&toll.meter, meter))
        };
        let toll = |(limit, meter)| Toll { limit, in_hand: in_hand(&meter), meter };
        state.tolls = meters.into_iter().map(toll).collect();
        self.is_open.store(state.tolls.is_empty(), Ordering::Relaxed);
    }

    /// Passes, or says from when on to try again.
    pub fn pass(&self) -> Result<(), Instant> {
        if self.is_open.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = self.state.lock().expect("no panic while the meters are held");
        let GateState { tolls, closed, denied } = &mut *state;
        for toll in tolls.iter_mut().filter(|toll| !toll.in_hand) {
            if let Err(until) = toll.meter.take() {
                *closed = Some((toll.limit, until));
                *denied = *closed;
                return Err(until);
            }
            toll.in_hand = true;
        }
        *closed = None;
        tolls.iter_mut().for_each(|toll| toll.in_hand = false);
        Ok(())
    }

    /// What a pass granted at that time was not used.
    pub fn unspent(&self, passed: Instant) {
        if !self.is_open.load(Ordering::Relaxed) {
            let state = self.state.lock().expect("no panic while the meters are held");
            state.tolls.iter().for_each(|toll| toll.meter.give_back(passed));
        }
    }

    /// Which limit denied last and until when, unless something has passed since.
    pub fn closed(&self) -> Option<(Limit, Instant)> {
        if self.is_open.load(Ordering::Relaxed) {
            return None;
        }
        self.state.lock().expect("no panic while the meters are held").closed
    }

    /// Which limit keeps those who pass from being more, and until when the next may not; what has passed
    /// since a denial a moment ago does not mean that the limit no longer binds.
    ///
    /// Waits for nobody: a meter that is asked under the gate may wait for a lock that the asker holds. Of a
    /// gate that is being passed at this very moment nothing is said.
    pub fn binding(&self, now: Instant) -> Option<(Limit, Instant)> {
        let denied = self.state.try_lock().ok()?.denied;
        denied.filter(|(_, until)| *until + BINDS_STILL > now)
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

    #[tokio::test]
    async fn a_rate_that_outlasts_governor_is_a_rate_still() {
        for rate in ["1/40000w", "1/day burst 4000000000", "4000000000/ms burst 4000000000"] {
            for credit in [Credit::Full, Credit::Empty] {
                let pace = Pace::new(&rate.parse().unwrap(), credit);
                assert!(credit == Credit::Empty || pace.take().is_ok(), "{rate}");
            }
        }
        let slow = Pace::new(&"1/40000w".parse().unwrap(), Credit::Full);
        assert!(slow.take().is_ok() && slow.take().is_err());
    }

    /// Takes whenever allowed for `span`, sleeping until told otherwise; the times of the takes.
    async fn greedy(pace: &dyn Meter, span: Duration) -> Vec<Instant> {
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
        let gate = Gate::new([(Limit::Path, quick as Arc<dyn Meter>), (Limit::Campaign, slow)]);
        gate.pass().unwrap();
        for _ in 0..5 {
            gate.pass().unwrap_err();
        }
        assert_eq!(gate.closed().map(|(limit, _)| limit), Some(Limit::Campaign));
        tokio::time::sleep(Duration::from_secs(2)).await;
        gate.pass().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_rate_binds_also_between_two_denials() {
        let pace = Arc::new(Pace::new(&rate(10, 1_000, None), Credit::Full));
        let gate = Gate::new([(Limit::Path, pace as Arc<dyn Meter>)]);
        let limit = || gate.binding(Instant::now()).map(|(limit, _)| limit);
        gate.pass().unwrap();
        assert_eq!(limit(), None);
        gate.pass().unwrap_err();
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.pass().unwrap();
        assert_eq!((gate.closed(), limit()), (None, Some(Limit::Path)));
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!(limit(), None, "nobody was denied for a second");
    }

    /// Asks about the gate that it is asked for, as an explanation may while a cap is taken.
    #[derive(Debug, Default)]
    struct Curious(std::sync::OnceLock<std::sync::Weak<Gate>>);

    impl Meter for Curious {
        fn take(&self) -> Result<(), Instant> {
            let gate = self.0.get().and_then(std::sync::Weak::upgrade).unwrap();
            assert_eq!(gate.binding(Instant::now()), None);
            Ok(())
        }
    }

    #[test]
    fn whoever_asks_what_binds_never_waits_for_a_gate() {
        let curious = Arc::new(Curious::default());
        let gate = Arc::new(Gate::new([(Limit::WarmUp, curious.clone() as Arc<dyn Meter>)]));
        curious.0.set(Arc::downgrade(&gate)).unwrap();
        gate.pass().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_pace_keeps_what_was_spent_when_it_changes() {
        let pace = LivePace::new(None);
        (0..1000).for_each(|_| pace.take().unwrap());
        pace.set(Some(1.0));
        assert_eq!(greedy(&pace, Duration::from_secs(60)).await.len(), 61);
        // Set again and again, it is still the same pace: neither starved nor fed.
        let mut taken = 0;
        for _ in 0..100 {
            pace.set(Some(1.0));
            taken += u32::from(pace.take().is_ok());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        // Each take waits for the next look, three in a second.
        assert!((24..=31).contains(&taken), "{taken} in 30 s");
        pace.set(Some(100.0));
        let taken = greedy(&pace, Duration::from_secs(1)).await.len();
        assert!((100..=110).contains(&taken), "{taken}");
        let mut taken = 0;
        for _ in 0..10 {
            pace.set(Some(100.0));
            taken += greedy(&pace, Duration::from_millis(100)).await.len();
        }
        assert!((90..=110).contains(&taken), "{taken} in a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_with_other_paces_holds_those_from_then_on() {
        let pace = |rate: Rate| Arc::new(Pace::new(&rate, Credit::Full)) as Arc<dyn Meter>;
        let kept = pace(rate(2, 60_000, Some(2)));
        let gate = Gate::default();
        (0..100).for_each(|_| gate.pass().unwrap());
        gate.replace([(Limit::Path, kept.clone()), (Limit::Provider, pace(rate(1, 60_000, None)))]);
        gate.pass().unwrap();
        gate.pass().unwrap_err();
        // Its second token is in hand: it is not taken twice.
        gate.replace([(Limit::Path, kept)]);
        gate.pass().unwrap();
        gate.pass().unwrap_err();
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
