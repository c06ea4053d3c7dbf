//! The adaptive rate: how many messages a second one path (or sending domain at a provider) may send now.
//!
//! Pure over `now`; it paces nothing itself. Free until the first signal. A signal is answered once per
//! `REACTION`, with `A` = messages taken in the last minute, as a rate (a saturated server takes its own
//! limit, whatever it is asked, so `A` *is* the limit of one that counts by the minute or less):
//!
//! ```text
//! ceiling = min(ceiling, A held between rate × factor and rate)    the first signal: A may be half a story
//! ceiling = min(ceiling, A held between rate × 0.1 and rate)       again after a reaction: A is all of it
//! rate    = rate × factor                                          again, and nothing was taken since: `A` says nothing
//! rate    = 0.97 ceiling                                           else: a small cut near the limit, a large one far off
//! ```
//!
//! So no burst, whose refusals last until the server's window moves, is punished twice. While everything is
//! refused, a tenth of the rate asks whether the window has moved. Without signals:
//!
//! ```text
//! below 0.97 ceiling   + 5 % of the ceiling (at most the rate again) each 5 min: 10 % in 10 min is the careful standard
//! at 0.97 ceiling      stays for 10 min, after each failed probe twice as long, up to 1 h
//! then a probe         ceiling × 1.03; held 10 min without a signal it is the new ceiling, and on: by 3 % to a tenth
//!                      above where signals came (stocks of tokens drain slowly), then by 6, 12, 25 %
//!                      (from 10 % on where the ceiling is not measured, only the rule's factor)
//! unused               nothing is proved: the ceiling doubles in 12 h instead, until it no longer binds
//! ```
//!
//! A suspension ends in a part of the former rate and grows back to it; a second one within a day says that
//! it grew too far: half of what it had grown to is the ceiling then, and a day passes before a probe.
//!
//! A probe 3 % too high costs 3 % of a minute, at most each 10 min. Rates are by the clock's second, spans
//! are the rules' time ([`Tempo`]).

mod meter;

use std::time::Duration;

use tokio::time::Instant;

use super::Tempo;
use meter::Meter;

/// From a cut until its effect can be seen: the messages of a whole minute and those on their way.
const REACTION: Duration = Duration::from_secs(70);
/// A signal within this after a cut says that the cut was not enough.
const EPISODE: Duration = Duration::from_secs(210);
/// What is sent at a known ceiling: servers count more exactly than networks deliver.
pub const PLATEAU: f64 = 0.97;
/// The least part that a measured rate may leave of the former one at once.
const DEEPEST: f64 = 0.1;
const GROWTH_EVERY: Duration = Duration::from_secs(5 * 60);
/// Of the ceiling, each `GROWTH_EVERY`.
const GROWTH: f64 = 0.05;
/// A step is judged after so many messages, also where that takes longer than its time.
const GROWTH_MESSAGES: f64 = 10.0;
const GROWTH_LONGEST: Duration = Duration::from_secs(10 * 60);
const PROBE_EVERY: Duration = Duration::from_secs(10 * 60);
/// 3 % too much is one message too many in 33.
const PROBE_MESSAGES: f64 = 60.0;
const PROBE_RAREST: Duration = Duration::from_secs(60 * 60);
const PROBE_SMALLEST: f64 = 0.03;
/// Where the ceiling is nothing but the rule's factor: the careful standard.
const PROBE_UNMEASURED: f64 = 0.1;
const PROBE_LARGEST: f64 = 0.25;
/// Up to here above the last ceiling that signals taught, the smallest steps.
const NEAR: f64 = 1.1;
/// So many signals and not one message taken between them: all is refused now.
const STREAK: u32 = 10;
/// What is still tried then, until this long after the last signal.
const TRICKLE: f64 = 0.1;
const TRICKLE_LASTS: Duration = Duration::from_secs(5);
/// A step proves something if at least this part of it was sent.
const USED: f64 = 0.5;
/// The ceiling of an unused path doubles in this time: a day makes four of it, a week 16,000.
const CEILING_DOUBLES: Duration = Duration::from_secs(12 * 3600);
/// After this nothing is left of what was learned.
const CEILING_LASTS: Duration = Duration::from_secs(7 * 24 * 3600);
/// A suspension so soon after another is no accident; and so long passes before its ceiling is tried.
const SUSPENDED_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// What it leaves of the rate that led to it (estimate).
const SUSPENDED_LEAVES: f64 = 0.5;
/// One a minute: enough to see that the limit has gone.
const FLOOR: f64 = 1.0 / 60.0;

/// Why a rate is what it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RateState {
    /// The shaping limit holds, if any.
    Free,
    /// A signal was answered; further ones count only from `until` on.
    Cut { until: Instant },
    /// On the way back, to this.
    Growing { to: f64 },
    /// Just below what the server takes; `until` then a probe if the path is in use.
    AtCeiling { ceiling: f64, until: Instant },
    /// Above the ceiling, to see whether it still holds.
    Probing { ceiling: f64, until: Instant },
    /// A person said so.
    Pinned { until: Instant },
}

/// See the file's head.
#[derive(Debug, Clone)]
pub struct AdaptiveRate {
    tempo: Tempo,
    /// By shaping; none: as fast as it goes.
    limit: Option<f64>,
    /// None: free.
    held: Option<Held>,
    pin: Option<(f64, Instant)>,
    meter: Meter,
    /// When a suspension last ended.
    resumed_at: Option<Instant>,
}

/// A rate that was cut.
#[derive(Debug, Clone)]
struct Held {
    rate: f64,
    /// None: no signal taught one, as after a suspension.
    ceiling: Option<f64>,
    /// Growth without a ceiling, and probing without a limit, end here: then it is free again.
    free_at: f64,
    cut_at: Option<Instant>,
    /// The ceiling that the last signal left.
    taught: f64,
    /// Signals since the meter's total was this.
    streak: (u32, u64),
    trickle_until: Option<Instant>,
    step_began: Instant,
    step_ends: Instant,
    /// The meter's total when the step began.
    taken_before: u64,
    probe_step: f64,
    probe_wait: Duration,
}

impl AdaptiveRate {
    /// `limit`: messages a second by shaping. `learned`: the ceiling of a former life, already [`decayed`].
    pub fn new(limit: Option<f64>, learned: Option<f64>, tempo: Tempo, now: Instant) -> Self {
        let mut rate =
            Self { tempo, limit, held: None, pin: None, meter: Meter::new(tempo, now), resumed_at: None };
        if let Some(ceiling) = learned.filter(|ceiling| *ceiling > 0.0) {
            let free_at = ceiling * 16.0;
            rate.held = Some(Held::new(PLATEAU * ceiling, Some(ceiling), free_at, now));
            rate.begin_step(now);
            rate.free_if_unbound();
        }
        rate
    }

    /// Messages that the server took, or refused for reasons of their own (an unknown mailbox): all that
    /// brought no signal.
    pub fn accepted(&mut self, count: u32, now: Instant) {
        self.meter.add(count, now);
    }

    /// A signal to slow down, `factor` being what the rule leaves of the rate where nothing better is
    /// known. Whether it changed anything: signals of messages sent before a cut took effect do not.
    pub fn slowed(&mut self, factor: f64, now: Instant) -> bool {
        self.advance(now);
        if self.pin.is_some() {
            return false;
        }
        let reaction = self.tempo.of(REACTION);
        let last_cut = self.held.as_ref().and_then(|held| held.cut_at);
        if last_cut.is_some_and(|at| now < at + reaction) {
            return self.trickle(now);
        }
        let factor = factor.clamp(DEEPEST, PLATEAU);
        let is_again = last_cut.is_some_and(|at| now < at + self.tempo.of(EPISODE));
        let taken = self.meter.last_minute(now);
        let rate = self.base(now);
        let free_at = self.held.as_ref().map_or(2.0 * rate, |held| held.free_at);
        let mut held = self.held.take().unwrap_or_else(|| Held::new(rate, None, free_at, now));
        if is_again && taken == 0 {
            held.rate = rate * factor;
        } else {
            let least = rate * if is_again { DEEPEST } else { factor };
            // One more than was counted: what a minute's edge may have cut off.
            let borne = self.meter.per_second(f64::from(taken) + 1.0).clamp(least, rate);
            let former = held.ceiling.unwrap_or(f64::INFINITY);
            if rate > former {
                held.probe_wait = (held.probe_wait * 2).min(PROBE_RAREST);
            }
            // A probe that went too far may still have shown that more is borne: as far as the count is sure.
            let sure = self.meter.per_second(f64::from(taken) - 2.0 * f64::from(taken).sqrt());
            let ceiling = if sure > former { sure.min(rate) } else { borne.min(former) };
            held.ceiling = Some(ceiling);
            held.rate = PLATEAU * ceiling;
            let is_measured = borne > least && self.meter.spans_a_minute(now);
            held.taught = if is_measured { ceiling } else { 0.0 };
            held.probe_step = if is_measured { PROBE_SMALLEST } else { PROBE_UNMEASURED };
        }
        held.rate = held.rate.max(FLOOR);
        held.ceiling = held.ceiling.map(|ceiling| ceiling.max(FLOOR / PLATEAU));
        held.cut_at = Some(now);
        self.held = Some(held);
        self.begin_step(now);
        true
    }

    /// After a suspension: on with this part of the former rate, less than 1, and from there back to it, or
    /// to half of it if it was not the first for a day. A whole part changes nothing.
    pub fn resumed(&mut self, factor: f64, now: Instant) {
        self.advance(now);
        if factor >= 1.0 {
            return;
        }
        let former = self.per_second_unpinned().unwrap_or_else(|| self.meter.before_pause());
        let again = self.tempo.of(SUSPENDED_AGAIN);
        let is_again = self.resumed_at.is_some_and(|at| now < at + again);
        let held = self.held.get_or_insert_with(|| Held::new(former, None, former, now));
        held.rate = (former * factor.max(0.0)).max(FLOOR);
        held.cut_at = None;
        held.probe_step = PROBE_SMALLEST;
        if is_again {
            let ceiling = (former * SUSPENDED_LEAVES).max(FLOOR / PLATEAU);
            held.ceiling = Some(held.ceiling.map_or(ceiling, |former| former.min(ceiling)));
            held.rate = held.rate.min(held.top());
            (held.taught, held.probe_step, held.probe_wait) = (0.0, PROBE_UNMEASURED, SUSPENDED_AGAIN);
        }
        self.resumed_at = Some(now);
        self.begin_step(now);
    }

    /// What holds now, messages a second; `None`: no limit at all.
    pub fn per_second(&mut self, now: Instant) -> Option<f64> {
        self.advance(now);
        match self.pin {
            Some((pinned, _)) => Some(self.limit.map_or(pinned, |limit| limit.min(pinned))),
            None => {
                let is_trickle = self.held.as_ref().is_some_and(|held| held.trickles_until(now).is_some());
                self.per_second_unpinned()
                    .map(|rate| if is_trickle { (rate * TRICKLE).max(FLOOR.min(rate)) } else { rate })
            }
        }
    }

    /// When [`per_second`](Self::per_second) may next differ, if nothing happens until then.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        match (&self.pin, &self.held) {
            (Some((_, until)), _) => Some((*until).max(now)),
            (None, Some(held)) => Some(held.trickles_until(now).unwrap_or(held.step_ends).max(now)),
            (None, None) => None,
        }
    }

    /// What the server was seen to take, to be stored; see [`decayed`].
    pub fn ceiling(&self) -> Option<f64> {
        self.held.as_ref().and_then(|held| held.ceiling)
    }

    pub fn set_limit(&mut self, limit: Option<f64>) {
        self.limit = limit;
        self.free_if_unbound();
    }

    /// This rate until then, whatever the signals, but never above the limit; at least one a minute.
    pub fn pin(&mut self, per_second: f64, until: Instant) {
        self.pin = Some((per_second.max(FLOOR), until));
    }

    /// On as before the pin.
    pub fn unpin(&mut self, now: Instant) {
        if self.pin.take().is_some() {
            self.begin_step(now);
        }
    }

    /// Cancels what signals have changed; a pin stays.
    pub fn forget(&mut self) {
        (self.held, self.resumed_at) = (None, None);
    }

    /// Whether signals have changed it; a pin has not.
    pub fn is_cut(&self) -> bool {
        self.held.is_some()
    }

    /// Whether something else than the shaping limit holds.
    pub fn is_adjusted(&self) -> bool {
        self.held.is_some() || self.pin.is_some()
    }

    pub fn state(&mut self, now: Instant) -> RateState {
        self.advance(now);
        if let Some((_, until)) = self.pin {
            return RateState::Pinned { until };
        }
        let Some(held) = &self.held else { return RateState::Free };
        let cut_until = held.cut_at.map(|at| at + self.tempo.of(REACTION)).filter(|until| now < *until);
        if let Some(until) = cut_until {
            return RateState::Cut { until };
        }
        match held.ceiling {
            Some(ceiling) if held.rate > ceiling => RateState::Probing { ceiling, until: held.step_ends },
            Some(ceiling) if held.is_at_top() => RateState::AtCeiling { ceiling, until: held.step_ends },
            _ => RateState::Growing { to: held.top() },
        }
    }
}

impl AdaptiveRate {
    fn per_second_unpinned(&self) -> Option<f64> {
        match (&self.held, self.limit) {
            (Some(held), Some(limit)) => Some(held.rate.min(limit)),
            (Some(held), None) => Some(held.rate),
            (None, limit) => limit,
        }
    }

    /// What a cut is a cut of: what holds, or where nothing does, what was measured.
    fn base(&self, now: Instant) -> f64 {
        self.per_second_unpinned().unwrap_or_else(|| self.meter.throughput(now))
    }

    /// A signal that the last cut may explain: no reason for another, but when nothing is taken at all, for
    /// less. Whether that begins.
    fn trickle(&mut self, now: Instant) -> bool {
        let (tempo, total) = (self.tempo, self.meter.total);
        let Some(held) = &mut self.held else { return false };
        let before = if held.streak.1 == total { held.streak.0 } else { 0 };
        held.streak = (before.saturating_add(1), total);
        if held.streak.0 < STREAK {
            return false;
        }
        let is_new = held.trickles_until(now).is_none();
        held.trickle_until = Some(now + tempo.of(TRICKLE_LASTS));
        is_new
    }

    /// Takes the steps whose time has come.
    fn advance(&mut self, now: Instant) {
        if let Some((_, until)) = self.pin {
            if now < until {
                return;
            }
            self.pin = None;
            self.begin_step(until);
        }
        while self.held.as_ref().is_some_and(|held| held.step_ends <= now) {
            self.step();
        }
    }

    fn step(&mut self) {
        let Some(held) = &mut self.held else { return };
        let ended = held.step_ends;
        let lasted = ended.saturating_duration_since(held.step_began).as_secs_f64();
        let is_used = (self.meter.total - held.taken_before) as f64 >= USED * held.rate * lasted;
        let top = held.top();
        match held.ceiling {
            _ if !held.is_at_top() => held.rate = (held.rate + (GROWTH * top).min(held.rate)).min(top),
            Some(ceiling) if is_used => {
                if held.rate > ceiling {
                    held.ceiling = Some(held.rate);
                    if held.rate > NEAR * held.taught {
                        held.probe_step = (held.probe_step * 2.0).min(PROBE_LARGEST);
                    }
                    held.probe_wait = PROBE_EVERY;
                }
                held.rate = held.rate.max(ceiling) * (1.0 + held.probe_step);
            }
            Some(ceiling) => {
                let halves = lasted / self.tempo.of(CEILING_DOUBLES).as_secs_f64();
                held.ceiling = Some(ceiling * halves.exp2());
                held.rate = held.top();
            }
            None => {}
        }
        self.free_if_unbound();
        self.begin_step(ended);
    }

    /// An adjustment that no longer binds is none.
    fn free_if_unbound(&mut self) {
        let Some(held) = &self.held else { return };
        let ends = match held.ceiling {
            Some(_) => self.limit.unwrap_or(held.free_at),
            None => self.limit.map_or(held.free_at, |limit| limit.min(held.free_at)),
        };
        if held.top() >= ends && held.rate >= ends {
            self.held = None;
        }
    }

    fn begin_step(&mut self, now: Instant) {
        let tempo = self.tempo;
        let Some(held) = &mut self.held else { return };
        let (least, messages, longest) = if held.is_at_top() {
            let least = if held.ceiling.is_some_and(|ceiling| held.rate > ceiling) {
                PROBE_EVERY
            } else {
                held.probe_wait
            };
            (least, PROBE_MESSAGES, PROBE_RAREST)
        } else {
            (GROWTH_EVERY, GROWTH_MESSAGES, GROWTH_LONGEST)
        };
        let judged = Duration::from_secs_f64((messages / held.rate).min(tempo.of(longest).as_secs_f64()));
        held.step_began = now;
        held.step_ends = now + tempo.of(least).max(judged).max(Duration::from_nanos(1));
        held.taken_before = self.meter.total;
    }
}

impl Held {
    fn new(rate: f64, ceiling: Option<f64>, free_at: f64, now: Instant) -> Self {
        Self {
            rate,
            ceiling,
            free_at,
            cut_at: None,
            taught: 0.0,
            streak: (0, 0),
            trickle_until: None,
            step_began: now,
            step_ends: now,
            taken_before: 0,
            probe_step: PROBE_SMALLEST,
            probe_wait: PROBE_EVERY,
        }
    }

    fn trickles_until(&self, now: Instant) -> Option<Instant> {
        self.trickle_until.filter(|until| now < *until)
    }

    /// Where growth ends.
    fn top(&self) -> f64 {
        self.ceiling.map_or(self.free_at, |ceiling| PLATEAU * ceiling)
    }

    fn is_at_top(&self) -> bool {
        self.rate >= self.top()
    }
}

/// A stored ceiling after this time: doubled each half day, none once it no longer binds.
pub fn decayed(ceiling: f64, age: Duration, limit: Option<f64>) -> Option<f64> {
    if ceiling <= 0.0 || age >= CEILING_LASTS {
        return None;
    }
    let ceiling = ceiling * age.div_duration_f64(CEILING_DOUBLES).exp2();
    limit.is_none_or(|limit| PLATEAU * ceiling < limit).then_some(ceiling)
}

#[cfg(test)]
mod tests;
