//! The rate against simulated servers, and its properties.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use proptest::prelude::*;

use super::*;

const REAL: Tempo = Tempo(1.0);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// How a server counts, with N messages a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Counting {
    /// N in each minute of its clock, which is so many seconds ahead.
    Fixed { ahead: f64 },
    /// N in any minute.
    Sliding,
    /// As `Sliding`, but what it refuses counts too.
    SlidingAttempts,
    /// Tokens that come evenly, as many in stock as come in so many seconds.
    Bucket { stock: f64 },
}

struct Server {
    counting: Counting,
    per_minute: f64,
    taken: VecDeque<f64>,
    /// Taken in this minute, or tokens left.
    count: f64,
    at: f64,
}

impl Server {
    fn new(counting: Counting, per_minute: f64) -> Self {
        let stock = if let Counting::Bucket { stock } = counting { per_minute / 60.0 * stock } else { 0.0 };
        Self { counting, per_minute, taken: VecDeque::new(), count: stock, at: 0.0 }
    }

    fn takes(&mut self, t: f64) -> bool {
        match self.counting {
            Counting::Fixed { ahead } => {
                let minute = ((t + ahead) / 60.0).floor();
                if minute > self.at {
                    (self.at, self.count) = (minute, 0.0);
                }
                self.count += 1.0;
                self.count <= self.per_minute
            }
            Counting::Sliding | Counting::SlidingAttempts => {
                while self.taken.front().is_some_and(|at| *at <= t - 60.0) {
                    self.taken.pop_front();
                }
                let takes = (self.taken.len() as f64) < self.per_minute;
                if takes || self.counting == Counting::SlidingAttempts {
                    self.taken.push_back(t);
                }
                takes
            }
            Counting::Bucket { stock } => {
                let per_second = self.per_minute / 60.0;
                self.count = (self.count + (t - self.at) * per_second).min((per_second * stock).max(2.0));
                self.at = t;
                let takes = self.count >= 1.0;
                if takes {
                    self.count -= 1.0;
                }
                takes
            }
        }
    }
}

/// One minute of a run.
#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    attempts: f64,
    refused: f64,
    /// The highest in it, messages a minute.
    rate: f64,
}

/// A sender with so many messages, as fast as `rate` lets it and at most 500/s; what is refused comes back 5 to 15 minutes later.
struct Run {
    rate: AdaptiveRate,
    start: Instant,
    t: f64,
    fresh: u64,
    deferred: BinaryHeap<Reverse<u64>>,
    /// On their way back: when, and whether taken.
    replies: VecDeque<(f64, bool)>,
    minutes: Vec<Minute>,
    /// From sending to the reply, in seconds.
    latency: f64,
    seed: u64,
}

impl Run {
    fn new(limit: Option<f64>, messages: u64) -> Self {
        let start = Instant::now();
        Self {
            rate: AdaptiveRate::new(limit, None, REAL, start),
            start,
            t: 0.0,
            fresh: messages,
            deferred: BinaryHeap::new(),
            replies: VecDeque::new(),
            minutes: Vec::new(),
            latency: 0.5,
            seed: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// In [0, 1).
    fn chance(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }

    fn now(&self) -> Instant {
        self.start + seconds(self.t)
    }

    /// On for so many minutes, or until all is delivered.
    fn minutes(&mut self, server: &mut Server, minutes: usize) {
        let end = self.t + 60.0 * minutes as f64;
        while self.t < end {
            while let Some((at, is_taken)) = self.replies.front().copied().filter(|(at, _)| *at <= self.t) {
                self.replies.pop_front();
                let at = self.start + seconds(at);
                if is_taken {
                    self.rate.accepted(1, at);
                } else {
                    self.rate.slowed(0.5, at);
                }
            }
            let now = self.now();
            let per_second = self.rate.per_second(now).unwrap_or(500.0);
            let minute = (self.t / 60.0) as usize;
            if self.minutes.len() <= minute {
                self.minutes.resize(minute + 1, Minute::default());
            }
            self.minutes[minute].rate = self.minutes[minute].rate.max(per_second * 60.0);
            let due = (self.t * 1e3) as u64;
            if self.deferred.peek().is_some_and(|Reverse(at)| *at <= due) {
                self.deferred.pop();
            } else if self.fresh > 0 {
                self.fresh -= 1;
            } else if self.deferred.is_empty() && self.replies.is_empty() {
                return;
            } else {
                self.t += 1.0;
                continue;
            }
            let is_taken = server.takes(self.t);
            self.minutes[minute].attempts += 1.0;
            if !is_taken {
                self.minutes[minute].refused += 1.0;
                let back = self.t + 300.0 + 600.0 * self.chance();
                self.deferred.push(Reverse((back * 1e3) as u64));
            }
            self.replies.push_back((self.t + self.latency, is_taken));
            let jitter = 0.9 + 0.2 * self.chance();
            self.t += jitter / per_second.min(500.0);
        }
    }

    /// From this minute on: accepted a minute, and the refused part of the attempts.
    fn from(&self, minute: usize) -> (f64, f64) {
        let minutes = &self.minutes[minute..];
        let attempts: f64 = minutes.iter().map(|minute| minute.attempts).sum();
        let refused: f64 = minutes.iter().map(|minute| minute.refused).sum();
        ((attempts - refused) / minutes.len() as f64, refused / attempts)
    }

    /// The lowest and the highest rate from this minute on, as parts of `per_minute`.
    fn rates(&self, minute: usize, per_minute: f64) -> (f64, f64) {
        let rates = self.minutes[minute..].iter().map(|minute| minute.rate / per_minute);
        rates.fold((f64::INFINITY, 0.0), |(low, high), rate| (low.min(rate), high.max(rate)))
    }

    /// Settled from this minute on; a stock of tokens may be drawn on, at up to `highest`.
    fn assert_settled(&self, minute: usize, per_minute: f64, highest: f64) {
        let (accepted, refused) = self.from(minute);
        let accepted = accepted / per_minute;
        let (low, high) = self.rates(minute, per_minute);
        assert!((0.9..1.1).contains(&accepted), "{accepted} of {per_minute} accepted");
        assert!(refused < 0.02, "{refused} refused at {per_minute}");
        assert!(low > 0.87 && high < highest, "{low} to {high} of {per_minute}");
    }
}

const LIMITS: [Option<f64>; 2] = [Some(100.0), None];

fn settles(counting: Counting, highest: f64) {
    for per_minute in [6.0, 20.0, 60.0, 200.0, 1000.0, 5500.0] {
        for limit in LIMITS {
            let mut run = Run::new(limit, u64::MAX);
            let minutes = if per_minute > 500.0 { 120 } else { 480 };
            run.minutes(&mut Server::new(counting, per_minute), minutes);
            run.assert_settled(20, per_minute, highest);
            assert!(run.from(20).1 < 0.01, "{:?}", run.from(20));
        }
    }
}

#[test]
fn settles_at_fixed_minutes() {
    settles(Counting::Fixed { ahead: 0.0 }, 1.1);
    settles(Counting::Fixed { ahead: 25.0 }, 1.1);
}

#[test]
fn settles_at_a_sliding_minute() {
    settles(Counting::Sliding, 1.1);
}

#[test]
fn settles_at_a_small_and_a_full_bucket() {
    settles(Counting::Bucket { stock: 5.0 }, 1.1);
    settles(Counting::Bucket { stock: 60.0 }, 1.1);
}

#[test]
fn a_large_stock_of_tokens_is_drawn_on_and_no_more() {
    settles(Counting::Bucket { stock: 300.0 }, 1.25);
}

/// The signal comes after seconds, when nothing can have been measured: the rule's half is all there is.
#[test]
fn a_blind_cut_is_made_good_within_the_hour() {
    for per_minute in [3200.0, 4400.0, 5700.0] {
        let mut run = Run::new(Some(100.0), u64::MAX);
        run.minutes(&mut Server::new(Counting::Bucket { stock: 2.0 }, per_minute), 180);
        run.assert_settled(50, per_minute, 1.1);
    }
}

#[test]
fn a_limit_at_the_shaping_limit_hardly_shows() {
    let mut run = Run::new(Some(100.0), u64::MAX);
    run.minutes(&mut Server::new(Counting::Sliding, 6000.0), 90);
    run.assert_settled(0, 6000.0, 1.1);
}

#[test]
fn slow_replies_change_nothing() {
    for counting in [Counting::Fixed { ahead: 25.0 }, Counting::Sliding] {
        let mut run = Run::new(Some(100.0), u64::MAX);
        run.latency = 9.0;
        run.minutes(&mut Server::new(counting, 600.0), 180);
        run.assert_settled(20, 600.0, 1.1);
    }
}

/// Where even refused attempts count, any excess stops everything: no share tells how far to go down.
#[test]
fn a_server_that_counts_refusals_is_used_well_and_refuses_little() {
    for per_minute in [60.0, 1000.0] {
        for limit in LIMITS {
            let mut run = Run::new(limit, u64::MAX);
            run.minutes(&mut Server::new(Counting::SlidingAttempts, per_minute), 240);
            let (accepted, refused) = run.from(60);
            assert!(accepted > 0.8 * per_minute && refused < 0.02, "{accepted} of {per_minute}, {refused}");
        }
    }
}

#[test]
fn a_limit_that_drops_is_found_within_minutes() {
    let counting = Counting::Fixed { ahead: 25.0 };
    let mut run = Run::new(Some(100.0), u64::MAX);
    run.minutes(&mut Server::new(counting, 3000.0), 60);
    run.minutes(&mut Server::new(counting, 200.0), 120);
    run.assert_settled(70, 200.0, 1.1);
}

#[test]
fn a_limit_that_goes_away_is_forgotten() {
    let mut run = Run::new(Some(100.0), u64::MAX);
    run.minutes(&mut Server::new(Counting::Sliding, 60.0), 60);
    run.minutes(&mut Server::new(Counting::Sliding, f64::INFINITY), 6 * 60);
    assert!(!run.rate.is_adjusted(), "{:?}", run.rate);
    assert_eq!(run.from(60).1, 0.0);
}

#[test]
fn an_hour_of_refusals_costs_few_attempts_and_the_ceiling_is_still_known() {
    let counting = Counting::Fixed { ahead: 0.0 };
    let mut run = Run::new(Some(100.0), u64::MAX);
    run.minutes(&mut Server::new(counting, 1000.0), 60);
    run.minutes(&mut Server::new(counting, 0.0), 60);
    let attempts: f64 = run.minutes[60..120].iter().map(|minute| minute.attempts).sum();
    assert!(attempts < 500.0, "{attempts}");
    run.minutes(&mut Server::new(counting, 1000.0), 240);
    run.assert_settled(270, 1000.0, 1.1);
}

#[test]
fn a_campaign_takes_little_longer_than_the_server_needs() {
    for counting in [Counting::Fixed { ahead: 25.0 }, Counting::Sliding, Counting::Bucket { stock: 60.0 }] {
        let mut run = Run::new(Some(100.0), 60_000);
        run.minutes(&mut Server::new(counting, 600.0), 1_000);
        assert!(run.fresh == 0 && run.deferred.is_empty());
        assert!(run.minutes.len() < 115, "{} minutes for 100", run.minutes.len());
    }
}

#[test]
fn signals_of_one_burst_count_once() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(Some(100.0), None, REAL, start);
    assert!(rate.slowed(0.5, start));
    let cut = rate.per_second(start).unwrap();
    assert!((48.0..50.0).contains(&cut), "{cut}");
    assert!(!rate.slowed(0.5, start + seconds(1.0)));
    assert_eq!(rate.per_second(start + seconds(69.0)), Some(cut));
    assert_eq!(rate.state(start), RateState::Cut { until: start + REACTION });
    assert!(rate.slowed(0.5, start + seconds(70.0)));
}

#[test]
fn while_all_is_refused_a_tenth_is_tried() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(Some(100.0), None, REAL, start);
    rate.slowed(0.5, start);
    let cut = rate.per_second(start).unwrap();
    let now = start + seconds(1.0);
    let changes = (0..50).filter(|_| rate.slowed(0.5, now)).count();
    assert_eq!(changes, 1);
    assert_eq!(rate.per_second(now), Some(cut * TRICKLE));
    assert_eq!(rate.next_change(now), Some(now + TRICKLE_LASTS));
    assert_eq!(rate.per_second(now + TRICKLE_LASTS), Some(cut));
}

#[test]
fn without_a_limit_the_cut_is_one_of_the_throughput() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(None, None, REAL, start);
    for second in 0..20 {
        rate.accepted(300, start + seconds(f64::from(second)));
    }
    assert_eq!(rate.per_second(start), None);
    rate.slowed(0.5, start + seconds(20.0));
    let cut = rate.per_second(start + seconds(20.0)).unwrap();
    assert!((145.0..150.0).contains(&cut), "{cut}");
}

#[test]
fn after_a_suspension_it_grows_back_by_a_tenth_in_ten_minutes() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(Some(100.0), None, REAL, start);
    rate.resumed(0.1, start);
    assert_eq!(rate.per_second(start), Some(10.0));
    assert_eq!(rate.state(start), RateState::Growing { to: 100.0 });
    let later = rate.per_second(start + seconds(600.0)).unwrap();
    assert!((later - 20.0).abs() < 1e-9, "{later}");
    assert_eq!(rate.per_second(start + seconds(90.0 * 60.0)), Some(100.0));
    assert!(!rate.is_adjusted());
}

#[test]
fn a_second_suspension_within_a_day_halves_what_it_grows_back_to() {
    let start = Instant::now();
    let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
    let mut rate = AdaptiveRate::new(Some(100.0), None, REAL, start);
    rate.resumed(0.25, start);
    assert_eq!(rate.per_second(minutes(51)), Some(75.0));
    rate.resumed(0.25, minutes(51));
    assert_eq!(rate.ceiling(), Some(37.5));
    assert_eq!(rate.per_second(minutes(51)), Some(18.75));
    let held = rate.per_second(minutes(300)).unwrap();
    assert!((held - PLATEAU * 37.5).abs() < 1e-9, "{held}");
    // Used all the while, it is tried after a day whether more is taken.
    rate.accepted(10_000_000, minutes(301));
    assert!(rate.per_second(minutes(23 * 60)).unwrap() <= held);
    assert!(rate.per_second(minutes(28 * 60)).unwrap() > held);
    // Days later it is an accident again.
    let mut rate = AdaptiveRate::new(Some(100.0), None, REAL, start);
    rate.resumed(0.25, start);
    rate.resumed(0.25, minutes(25 * 60));
    assert_eq!(rate.ceiling(), None);
}

#[test]
fn a_rest_that_leaves_the_whole_rate_changes_nothing() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(None, None, REAL, start);
    rate.resumed(1.0, start);
    assert!(!rate.is_adjusted());
}

#[test]
fn a_learned_ceiling_is_kept_to_and_decays() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(Some(100.0), Some(10.0), REAL, start);
    assert!((rate.per_second(start).unwrap() - 9.7).abs() < 1e-9);
    assert_eq!(rate.ceiling(), Some(10.0));
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    assert!((decayed(10.0, hours(12), Some(100.0)).unwrap() - 20.0).abs() < 1e-9);
    assert_eq!(decayed(10.0, hours(48), Some(100.0)), None);
    assert_eq!(decayed(10.0, hours(7 * 24), None), None);
    // Unused, it decays in a running engine as well.
    assert_eq!(rate.per_second(start + hours(48)), Some(100.0));
}

#[test]
fn a_pin_holds_against_signals_and_ends_by_itself() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(Some(100.0), None, REAL, start);
    let until = start + seconds(3600.0);
    rate.pin(7.0, until);
    assert!(!rate.slowed(0.5, start));
    assert_eq!(rate.per_second(start), Some(7.0));
    assert_eq!(rate.state(start), RateState::Pinned { until });
    assert_eq!(rate.next_change(start), Some(until));
    assert_eq!(rate.per_second(until), Some(100.0));
    assert!(!rate.is_adjusted());
}

#[test]
fn a_rehearsal_runs_through_the_same_in_less_time() {
    let start = Instant::now();
    let mut rate = AdaptiveRate::new(Some(100.0), None, Tempo(60.0), start);
    rate.resumed(0.1, start);
    let later = rate.per_second(start + seconds(10.0)).unwrap();
    assert!((later - 20.0).abs() < 1e-9, "{later}");
}

#[derive(Debug, Clone)]
enum Event {
    Accepted(u32),
    Slowed(f64),
    Resumed(f64),
    Limit(Option<f64>),
    Pin(f64, f64),
    Unpin,
    Forget,
}

fn limit() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![Just(None), (0.001f64..1000.0).prop_map(Some)]
}

fn events() -> impl Strategy<Value = Vec<(f64, Event)>> {
    let event = prop_oneof![
        4 => (1u32..10_000).prop_map(Event::Accepted),
        8 => (0.0f64..1.0).prop_map(Event::Slowed),
        1 => (0.0f64..1.0).prop_map(Event::Resumed),
        1 => limit().prop_map(Event::Limit),
        1 => (0.0f64..1000.0, 0.0f64..10_000.0).prop_map(|(rate, lasting)| Event::Pin(rate, lasting)),
        1 => Just(Event::Unpin),
        1 => Just(Event::Forget),
    ];
    let wait = prop_oneof![4 => 0.0f64..10.0, 2 => 60.0f64..600.0, 1 => 600.0f64..100_000.0];
    proptest::collection::vec((wait, event), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn never_above_limit_or_pin_and_always_back(
        mut limit in limit(), learned in proptest::option::of(0.001f64..1000.0), events in events()
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut rate = AdaptiveRate::new(limit, learned, REAL, now);
        let mut pin: Option<(f64, Instant)> = None;
        for (wait, event) in events {
            let until = now + seconds(wait);
            if let Some(change) = rate.next_change(now).filter(|change| *change > until) {
                prop_assert_eq!(rate.per_second(now), rate.clone().per_second(until), "no change before {:?}", change);
            }
            now = until;
            match event {
                Event::Accepted(count) => rate.accepted(count, now),
                Event::Slowed(factor) => {
                    let before = rate.per_second(now);
                    let changed = rate.slowed(factor, now);
                    let after = rate.per_second(now);
                    prop_assert!(changed || before == after);
                    prop_assert!(after.unwrap_or(f64::INFINITY) <= before.unwrap_or(f64::INFINITY));
                }
                Event::Resumed(factor) => rate.resumed(factor, now),
                Event::Limit(new) => {
                    limit = new;
                    rate.set_limit(new);
                }
                Event::Pin(pinned, lasting) => {
                    pin = Some((pinned.max(FLOOR), now + seconds(lasting)));
                    rate.pin(pinned, now + seconds(lasting));
                }
                Event::Unpin => {
                    pin = None;
                    rate.unpin(now);
                }
                Event::Forget => rate.forget(),
            }
            let holds = rate.per_second(now);
            pin = pin.filter(|(_, until)| now < *until);
            let most = [limit, pin.map(|(pinned, _)| pinned)].into_iter().flatten().reduce(f64::min);
            if let Some(most) = most {
                prop_assert!(holds.is_some_and(|holds| holds <= most), "{:?} above {}", holds, most);
            }
            prop_assert!(holds.is_none_or(|holds| holds.is_finite() && holds >= FLOOR.min(limit.unwrap_or(FLOOR))));
            prop_assert!(rate.next_change(now).is_none_or(|change| change >= now));
            prop_assert!(rate.ceiling().is_none_or(|ceiling| ceiling.is_finite() && ceiling > 0.0));
            prop_assert!(rate.is_adjusted() || holds == limit);
        }
        now += Duration::from_secs(60 * 24 * 3600);
        prop_assert_eq!(rate.per_second(now), limit);
        prop_assert!(!rate.is_adjusted());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn settles_at_any_limit(
        magnitude in 6f64.ln()..6000f64.ln(), ahead in 0.0f64..60.0, stock in 2.0f64..60.0, kind in 0..3, limit in limit_of_runs(), seed in 1u64..
    ) {
        let counting = match kind {
            0 => Counting::Fixed { ahead },
            1 => Counting::Sliding,
            _ => Counting::Bucket { stock },
        };
        let per_minute = magnitude.exp().round();
        let mut run = Run::new(limit, u64::MAX);
        run.seed = seed;
        run.minutes(&mut Server::new(counting, per_minute), 120);
        run.assert_settled(60, per_minute, 1.1);
    }
}

fn limit_of_runs() -> impl Strategy<Value = Option<f64>> {
    proptest::sample::select(LIMITS.to_vec())
}
