//! Breaker: hard bounces, complaints and deferrals of one campaign, sending domain or source over the last
//! hour and the last day; warns, slows down, pauses. Pure.
//!
//! A level is reported once, by the record that reaches it. Warning and slowing end by themselves, with
//! some slack, so that a rate at the threshold does not report again and again: once the rate is below four
//! fifths of the threshold, or a minimum is missed by half. A pause ends only when a person resumes: then
//! [`Breaker::rearm`] begins with empty windows.
//!
//! The windows are rings of buckets: the last hour is this minute and the 59 before, the last day this
//! quarter of an hour and the 95 before. Only attempts that reached a server count as sent.

mod ring;

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Tempo;
use crate::config::policy::{Breakers, Share, Thresholds};
use crate::config::units::format_duration;

use ring::{Counts, Ring};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const SHORT_BUCKETS: usize = 60;
const LONG_BUCKETS: usize = 96;

/// What became of an attempt, as far as a breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Accepted,
    /// Answered with a deferral.
    Deferred,
    /// Refused for good at the recipient's address.
    HardBounce,
    /// Refused otherwise: counts as sent, and as nothing else.
    Refused,
    /// A bounce by mail for a message that was accepted, and counted then.
    LateHardBounce,
    /// By mail too.
    Complaint,
}

/// What a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    HardBounce,
    Complaint,
    Deferral,
}

/// What a breaker asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Warn,
    Slow,
    /// Until a person resumes.
    Pause,
}

/// A level that was reached, with its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trip {
    pub level: Level,
    pub kind: Kind,
    /// In the rules' time.
    #[serde(with = "crate::config::units::duration")]
    pub window: Duration,
    pub events: u64,
    pub sends: u64,
    pub threshold: Share,
}

impl Trip {
    /// Events for each attempt; complaints and late bounces can make it more than 1.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.sends as f64
    }
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Warn => "warning",
            Level::Slow => "slowing down",
            Level::Pause => "pausing",
        };
        let kind = match self.kind {
            Kind::HardBounce => "hard bounces",
            Kind::Complaint => "complaints",
            Kind::Deferral => "deferrals",
        };
        let percent = self.rate() * 100.0;
        let window = format_duration(self.window);
        let Self { events, sends, threshold, .. } = self;
        write!(
            f,
            "{level}: {percent:.2}% {kind} in the last {window} ({events} of {sends}), threshold {threshold}"
        )
    }
}

/// One rate over one window.
#[derive(Debug, Clone, Copy)]
struct Watch {
    kind: Kind,
    /// Over the last day; if not, the last hour.
    is_long: bool,
    thresholds: Thresholds,
    level: Option<Level>,
}

/// One for each campaign, sending domain and source.
#[derive(Debug)]
pub struct Breaker {
    settings: Breakers,
    tempo: Tempo,
    short: Ring<SHORT_BUCKETS>,
    long: Ring<LONG_BUCKETS>,
    watches: [Watch; 6],
}

impl Breaker {
    pub fn new(settings: Breakers, tempo: Tempo, now: Instant) -> Self {
        let (short, long) = (Ring::new(HOUR, tempo, now), Ring::new(DAY, tempo, now));
        let watch = |kind, is_long, thresholds| Watch { kind, is_long, thresholds, level: None };
        let watches = [
            watch(Kind::HardBounce, false, settings.hard_bounce.short),
            watch(Kind::HardBounce, true, settings.hard_bounce.long),
            watch(Kind::Complaint, false, settings.complaint.short),
            watch(Kind::Complaint, true, settings.complaint.long),
            watch(Kind::Deferral, false, settings.deferral.short),
            watch(Kind::Deferral, true, settings.deferral.long),
        ];
        Self { settings, tempo, short, long, watches }
    }

    /// Counts what became of an attempt. Of several levels reached at once the highest is reported, and the
    /// others by the next records, if they still hold.
    pub fn record(&mut self, event: Event, now: Instant) -> Option<Trip> {
        let (is_send, kind) = match event {
            Event::Accepted | Event::Refused => (true, None),
            Event::Deferred => (true, Some(Kind::Deferral)),
            Event::HardBounce => (true, Some(Kind::HardBounce)),
            Event::LateHardBounce => (false, Some(Kind::HardBounce)),
            Event::Complaint => (false, Some(Kind::Complaint)),
        };
        self.advance(now);
        self.short.add(is_send, kind);
        self.long.add(is_send, kind);
        let mut highest: Option<(Level, Share, &mut Watch)> = None;
        for watch in &mut self.watches {
            let sum = if watch.is_long { &self.long.sum } else { &self.short.sum };
            let Some((level, at)) = watch.reached(sum) else { continue };
            if Some(level) > watch.level && highest.as_ref().is_none_or(|(highest, ..)| level > *highest) {
                highest = Some((level, at, watch));
            }
        }
        let (level, threshold, watch) = highest?;
        watch.level = Some(level);
        let (window, sum) = if watch.is_long { (DAY, self.long.sum) } else { (HOUR, self.short.sum) };
        let (events, sends) = (sum.events[watch.kind as usize], sum.sends);
        Some(Trip { level, kind: watch.kind, window, events, sends, threshold })
    }

    /// What is asked for now; `None`: nothing. A pause stays until [`Breaker::rearm`].
    pub fn level(&mut self, now: Instant) -> Option<Level> {
        self.advance(now);
        self.watches.iter().filter_map(|watch| watch.level).max()
    }

    /// A person has resumed: empty windows, no level.
    pub fn rearm(&mut self, now: Instant) {
        *self = Self::new(self.settings, self.tempo, now);
    }

    /// Lets go of levels whose rate has fallen.
    fn advance(&mut self, now: Instant) {
        self.short.advance(now);
        self.long.advance(now);
        for watch in &mut self.watches {
            let sum = if watch.is_long { &self.long.sum } else { &self.short.sum };
            while let Some(level @ (Level::Warn | Level::Slow)) = watch.level
                && !watch.keeps(level, sum)
            {
                watch.level = (level == Level::Slow).then_some(Level::Warn);
            }
        }
    }
}

impl Watch {
    /// The highest level whose threshold is met.
    fn reached(&self, sum: &Counts) -> Option<(Level, Share)> {
        let events = sum.events[self.kind as usize];
        let Thresholds { sends_min, events_min, .. } = self.thresholds;
        if events < u64::from(events_min) || sum.sends < u64::from(sends_min) {
            return None;
        }
        [Level::Pause, Level::Slow, Level::Warn].into_iter().find_map(|level| {
            let at = threshold(&self.thresholds, level)?;
            at.is_reached(events, sum.sends).then_some((level, at))
        })
    }

    /// Whether a level that was reached still holds.
    fn keeps(&self, level: Level, sum: &Counts) -> bool {
        let events = sum.events[self.kind as usize];
        threshold(&self.thresholds, level).is_some_and(|at| {
            sum.sends * 2 >= u64::from(self.thresholds.sends_min)
                && events * 2 >= u64::from(self.thresholds.events_min)
                && at.is_reached(events * 5, sum.sends * 4)
        })
    }
}

fn threshold(thresholds: &Thresholds, level: Level) -> Option<Share> {
    match level {
        Level::Warn => thresholds.warn,
        Level::Slow => thresholds.slow,
        Level::Pause => thresholds.pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(now: Instant) -> Breaker {
        Breaker::new(Breakers::default(), Tempo(1.0), now)
    }

    /// Records so many of each; the trips, each with the number of its record.
    fn record(
        breaker: &mut Breaker,
        events: &[(Event, u64)],
        now: Instant,
    ) -> Vec<(u64, Level, Kind, Duration)> {
        let all = events.iter().flat_map(|(event, count)| std::iter::repeat_n(*event, *count as usize));
        let trips = all.zip(1..).filter_map(|(event, number)| Some((number, breaker.record(event, now)?)));
        trips.map(|(number, trip)| (number, trip.level, trip.kind, trip.window)).collect()
    }

    #[test]
    fn hard_bounces_trip_at_the_published_counts() {
        let now = Instant::now();
        // 5% of 200 to warn and 10% to pause within an hour, from 20 bounces on.
        let mut short = breaker(now);
        let trips = record(&mut short, &[(Event::Accepted, 180), (Event::HardBounce, 20)], now);
        assert_eq!(trips, [(200, Level::Pause, Kind::HardBounce, HOUR)]);
        let mut few = breaker(now);
        assert_eq!(record(&mut few, &[(Event::Accepted, 100), (Event::HardBounce, 99)], now), []);
        assert_eq!(
            record(&mut few, &[(Event::Accepted, 1)], now),
            [(1, Level::Pause, Kind::HardBounce, HOUR)]
        );
        // 50 of 2,000 are 2.5%, over the day only: 1,000 at least.
        let mut long = breaker(now);
        let trips = record(&mut long, &[(Event::Accepted, 1_950), (Event::HardBounce, 50)], now);
        assert_eq!(trips, [(2_000, Level::Warn, Kind::HardBounce, DAY)]);
    }

    #[test]
    fn complaints_trip_at_the_published_counts() {
        let now = Instant::now();
        let mut breaker = breaker(now);
        assert_eq!(record(&mut breaker, &[(Event::Accepted, 1_000), (Event::Complaint, 4)], now), []);
        let trips = record(&mut breaker, &[(Event::Complaint, 6)], now);
        // 0.5% of 1,000, 0.75%, 1%, where also ten are 1% of the day, above 0.3%.
        assert_eq!(
            trips,
            [
                (1, Level::Warn, Kind::Complaint, HOUR),
                (4, Level::Slow, Kind::Complaint, HOUR),
                (6, Level::Pause, Kind::Complaint, HOUR)
            ]
        );
        assert_eq!(
            breaker.record(Event::Refused, now).map(|trip| (trip.level, trip.window)),
            Some((Level::Pause, DAY))
        );
        assert_eq!(breaker.record(Event::Refused, now), None);
    }

    #[test]
    fn the_evidence_is_said_in_a_sentence() {
        let now = Instant::now();
        let mut breaker = breaker(now);
        record(&mut breaker, &[(Event::Accepted, 190), (Event::HardBounce, 19)], now);
        let trip = breaker.record(Event::HardBounce, now).unwrap();
        let said = trip.to_string();
        assert_eq!(said, "slowing down: 9.52% hard bounces in the last 1h (20 of 210), threshold 7.5%");
        assert!((trip.rate() - 20.0 / 210.0).abs() < 1e-12);
    }

    #[test]
    fn a_level_ends_with_its_rate_and_a_pause_with_a_person() {
        let now = Instant::now();
        let mut breaker = breaker(now);
        record(&mut breaker, &[(Event::Accepted, 380), (Event::HardBounce, 20)], now);
        assert_eq!(breaker.level(now), Some(Level::Warn));
        // Down to 4.2% and up again to 5%: nothing new.
        assert_eq!(record(&mut breaker, &[(Event::Accepted, 75)], now), []);
        assert_eq!(record(&mut breaker, &[(Event::HardBounce, 4)], now), []);
        assert_eq!(breaker.level(now), Some(Level::Warn));
        // Down to 3.9%.
        record(&mut breaker, &[(Event::Accepted, 140)], now);
        assert_eq!(breaker.level(now), None);
        record(&mut breaker, &[(Event::HardBounce, 80)], now);
        assert_eq!(breaker.level(now), Some(Level::Pause));
        let next_week = now + DAY * 7;
        assert_eq!(breaker.level(next_week), Some(Level::Pause));
        breaker.rearm(next_week);
        assert_eq!(breaker.level(next_week), None);
        assert_eq!(record(&mut breaker, &[(Event::HardBounce, 199)], next_week), []);
        assert_eq!(record(&mut breaker, &[(Event::HardBounce, 1)], next_week).len(), 1);
    }

    #[test]
    fn what_was_long_ago_no_longer_counts() {
        let now = Instant::now();
        let mut breaker = breaker(now);
        record(&mut breaker, &[(Event::HardBounce, 199)], now);
        let later = now + HOUR;
        assert_eq!(record(&mut breaker, &[(Event::HardBounce, 1)], later), []);
        // In a rehearsal an hour passes in a second.
        let mut quick = Breaker::new(Breakers::default(), Tempo(3_600.0), now);
        record(&mut quick, &[(Event::HardBounce, 199)], now);
        assert_eq!(record(&mut quick, &[(Event::HardBounce, 1)], now + Duration::from_secs(1)), []);
    }

    /// What the breaker promises, computed from the whole history each time.
    struct Reference {
        settings: Breakers,
        history: Vec<(u64, Event)>,
        levels: [[Option<Level>; 2]; 3],
    }

    impl Reference {
        fn record(&mut self, event: Event, secs: u64) -> Option<(Level, Kind, Duration)> {
            let mut candidates = Vec::new();
            for is_recorded in [false, true] {
                if is_recorded {
                    self.history.push((secs, event));
                }
                for (k, kind) in [Kind::HardBounce, Kind::Complaint, Kind::Deferral].into_iter().enumerate() {
                    for (w, (window, bucket)) in [(HOUR, 60), (DAY, 900)].into_iter().enumerate() {
                        let windows =
                            [self.settings.hard_bounce, self.settings.complaint, self.settings.deferral][k];
                        let limits = if w == 0 { windows.short } else { windows.long };
                        let buckets = window.as_secs() / bucket;
                        let recent =
                            || self.history.iter().filter(|(at, _)| at / bucket + buckets > secs / bucket);
                        let not_sent = |event| matches!(event, Event::Complaint | Event::LateHardBounce);
                        let sends = recent().filter(|(_, event)| !not_sent(*event)).count() as f64;
                        let is_kind = |event| match kind {
                            Kind::HardBounce => matches!(event, Event::HardBounce | Event::LateHardBounce),
                            Kind::Complaint => event == Event::Complaint,
                            Kind::Deferral => event == Event::Deferred,
                        };
                        let events = recent().filter(|(_, event)| is_kind(*event)).count() as f64;
                        let meets = |level, slack: f64, minimum: f64| {
                            let share = threshold(&limits, level).map_or(f64::INFINITY, Share::fraction);
                            sends >= f64::from(limits.sends_min) * minimum
                                && events >= f64::from(limits.events_min) * minimum
                                && events >= share * slack * sends - 1e-9
                        };
                        let level = &mut self.levels[k][w];
                        if !is_recorded {
                            if *level == Some(Level::Slow) && !meets(Level::Slow, 0.8, 0.5) {
                                *level = Some(Level::Warn);
                            }
                            if *level == Some(Level::Warn) && !meets(Level::Warn, 0.8, 0.5) {
                                *level = None;
                            }
                            continue;
                        }
                        let highest = [Level::Pause, Level::Slow, Level::Warn]
                            .into_iter()
                            .find(|at| meets(*at, 1.0, 1.0));
                        if highest > *level {
                            candidates.push((highest.unwrap(), kind, window, (k, w)));
                        }
                    }
                }
            }
            let best = candidates.iter().map(|candidate| candidate.0).max()?;
            let (level, kind, window, (k, w)) = *candidates.iter().find(|candidate| candidate.0 == best)?;
            self.levels[k][w] = Some(level);
            Some((level, kind, window))
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn it_trips_exactly_when_the_thresholds_are_met(
            steps in proptest::collection::vec((0u64..2_000, 0u8..12, 1u64..12), 1..60),
        ) {
            // Small minima, so that random histories come near every threshold.
            let mut settings = Breakers::default();
            for windows in [&mut settings.hard_bounce, &mut settings.complaint, &mut settings.deferral] {
                (windows.short.sends_min, windows.short.events_min) = (10, 2);
                (windows.long.sends_min, windows.long.events_min) = (30, 3);
            }
            let began = Instant::now();
            let mut breaker = Breaker::new(settings, Tempo(1.0), began);
            let mut reference = Reference { settings, history: Vec::new(), levels: [[None; 2]; 3] };
            let mut secs = 0;
            for (pause, event, count) in steps {
                secs += if pause > 1_900 { pause * 40 } else { pause };
                let event = match event {
                    0 => Event::HardBounce,
                    1 => Event::Deferred,
                    2 => Event::Complaint,
                    3 => Event::LateHardBounce,
                    4 => Event::Refused,
                    _ => Event::Accepted,
                };
                for _ in 0..count {
                    let trip = breaker.record(event, began + Duration::from_secs(secs));
                    let trip = trip.map(|trip| (trip.level, trip.kind, trip.window));
                    assert_eq!(trip, reference.record(event, secs), "after {} records", reference.history.len());
                }
            }
        }
    }
}
