//! The window: how many sessions one path may have open now.
//!
//! Pure over `now`. It starts at the shaping limit, which is careful already.
//!
//! ```text
//! success          + 1/window, up to the sessions seen to work, else the limit: a round of results moves it by one
//! no connection    − 1/window
//! too many         to the sessions that were open and worked, at most down to half: at once in a burst, not
//!                  all of those that work are open yet. Once per REACTION; what is left is believed
//! belief over      one session more (2, 4, … after each success); held for PROBE, it is believed
//! probe refused    back, and believed twice as long
//! ```
//!
//! So a server that takes K sessions sees K, and one more each hour.

use std::time::Duration;

use tokio::time::Instant;

use super::Tempo;

/// Refusals of sessions that were opened together count once.
const REACTION: Duration = Duration::from_secs(30);
/// How long sessions seen are believed at first, and at most after failed probes.
const BELIEF: Duration = Duration::from_secs(10 * 60);
const BELIEF_LONGEST: Duration = Duration::from_secs(60 * 60);
/// How long one session more has to work.
const PROBE: Duration = Duration::from_secs(2 * 60);
/// An unused path forgets what it has seen.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// See the file's head.
#[derive(Debug, Clone)]
pub struct Window {
    tempo: Tempo,
    limit: u32,
    /// Invariant: 1 ≤ window ≤ limit.
    window: f64,
    seen: Option<Seen>,
    reacts_from: Instant,
    pin: Option<(u32, Instant)>,
}

/// The most sessions that were seen to work.
#[derive(Debug, Clone)]
struct Seen {
    sessions: u32,
    believed_until: Instant,
    belief: Duration,
    more: u32,
    probed_since: Option<Instant>,
    confirmed: Instant,
}

impl Window {
    pub fn new(limit: u32, tempo: Tempo, now: Instant) -> Self {
        let limit = limit.max(1);
        Self { tempo, limit, window: f64::from(limit), seen: None, reacts_from: now, pin: None }
    }

    /// Messages taken over the path's sessions.
    pub fn succeeded(&mut self, count: u32, now: Instant) {
        self.forget_if_old(now);
        if let Some(seen) = &mut self.seen
            && seen.probed_since.is_some_and(|since| now >= since + self.tempo.of(PROBE))
        {
            seen.sessions = (self.window as u32).max(seen.sessions);
            seen.more = (seen.more * 2).min(seen.sessions);
            seen.belief = BELIEF;
            seen.believed_until = now + self.tempo.of(PROBE);
            seen.probed_since = None;
            seen.confirmed = now;
        }
        let top = self.top(now);
        self.window = (self.window + f64::from(count) / self.window).min(f64::from(top)).max(1.0);
        match &mut self.seen {
            Some(seen) if seen.sessions >= self.limit => self.seen = None,
            Some(seen) if seen.probed_since.is_none() && self.window >= f64::from(seen.sessions) + 1.0 => {
                seen.probed_since = Some(now);
            }
            Some(seen) => seen.confirmed = now,
            None => {}
        }
    }

    /// Connections that were not made, or broke before the greeting.
    pub fn failed(&mut self, count: u32) {
        self.window = (self.window - f64::from(count) / self.window).max(1.0);
    }

    /// The server takes no session more (`421 too many connections`), with `open_now` that work. Whether
    /// it changed anything.
    pub fn narrowed(&mut self, open_now: u32, now: Instant) -> bool {
        if self.pin.is_some_and(|(_, until)| now < until) || now < self.reacts_from {
            return false;
        }
        let sessions = self.window as u32;
        let left = if open_now >= sessions { sessions - 1 } else { open_now.max(sessions / 2) }.max(1);
        let belief = match &self.seen {
            Some(seen) if seen.probed_since.is_some() || left >= seen.sessions => {
                (seen.belief * 2).min(BELIEF_LONGEST)
            }
            _ => BELIEF,
        };
        self.seen = Some(Seen {
            sessions: left,
            believed_until: now + self.tempo.of(belief),
            belief,
            more: 1,
            probed_since: None,
            confirmed: now,
        });
        self.window = f64::from(left);
        self.reacts_from = now + self.tempo.of(REACTION);
        true
    }

    /// How many may be open now.
    pub fn sessions(&mut self, now: Instant) -> u32 {
        self.forget_if_old(now);
        match self.pin {
            Some((pinned, _)) => pinned.clamp(1, self.limit),
            None => self.window as u32,
        }
    }

    /// When [`sessions`](Self::sessions) may next differ for another reason than a result.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        let until = match (&self.pin, &self.seen) {
            (Some((_, until)), _) => *until,
            (None, Some(seen)) => seen.confirmed + self.tempo.of(MEMORY),
            (None, None) => return None,
        };
        Some(until.max(now))
    }

    /// The sessions that are believed to be all the server takes.
    pub fn seen(&self) -> Option<u32> {
        self.seen.as_ref().map(|seen| seen.sessions)
    }

    pub fn set_limit(&mut self, limit: u32) {
        let was_open = !self.is_adjusted();
        self.limit = limit.max(1);
        self.window = if was_open { f64::from(self.limit) } else { self.window.min(f64::from(self.limit)) };
        if self.seen.as_ref().is_some_and(|seen| seen.sessions >= self.limit) {
            self.seen = None;
        }
    }

    /// So many until then, whatever happens, but never above the limit.
    pub fn pin(&mut self, sessions: u32, until: Instant) {
        self.pin = Some((sessions.max(1), until));
    }

    pub fn unpin(&mut self) {
        self.pin = None;
    }

    /// What a person said, and until when.
    pub fn pinned(&self) -> Option<(u32, Instant)> {
        self.pin
    }

    /// Whether results have narrowed it; a pin has not.
    pub fn is_narrowed(&self) -> bool {
        (self.window as u32) < self.limit
    }

    /// Cancels what results have changed; a pin stays.
    pub fn forget(&mut self) {
        self.seen = None;
        self.window = f64::from(self.limit);
    }

    /// Whether something else than the shaping limit holds.
    pub fn is_adjusted(&self) -> bool {
        self.pin.is_some() || self.is_narrowed()
    }

    /// How far successes may take it now.
    fn top(&self, now: Instant) -> u32 {
        match &self.seen {
            Some(seen) if now < seen.believed_until => seen.sessions.min(self.limit),
            Some(seen) => seen.sessions.saturating_add(seen.more).min(self.limit),
            None => self.limit,
        }
    }

    fn forget_if_old(&mut self, now: Instant) {
        if self.pin.is_some_and(|(_, until)| now >= until) {
            self.pin = None;
        }
        if self.seen.as_ref().is_some_and(|seen| now >= seen.confirmed + self.tempo.of(MEMORY)) {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REAL: Tempo = Tempo(1.0);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A path that opens as many sessions as it may to a server that takes `most`, each for `lasting`
    /// seconds and a message a second; a refused one is tried again when a session may be opened.
    struct Run {
        window: Window,
        start: Instant,
        second: u64,
        /// When each open session ends.
        open: Vec<u64>,
        opened: u32,
        refused: u32,
        lasting: u64,
    }

    impl Run {
        fn new(limit: u32, lasting: u64) -> Self {
            let start = Instant::now();
            Self {
                window: Window::new(limit, REAL, start),
                start,
                second: 0,
                open: Vec::new(),
                opened: 0,
                refused: 0,
                lasting,
            }
        }

        fn seconds(&mut self, most: usize, seconds: u64) {
            for _ in 0..seconds {
                self.second += 1;
                let now = self.start + Duration::from_secs(self.second);
                let second = self.second;
                self.open.retain(|ends| *ends > second);
                self.window.succeeded(self.open.len() as u32, now);
                let may = self.window.sessions(now) as usize;
                for _ in self.open.len()..may {
                    if self.open.len() < most {
                        self.opened += 1;
                        self.open.push(second + self.lasting + u64::from(self.opened) * 7 % self.lasting);
                    } else {
                        self.refused += 1;
                        self.window.narrowed(self.open.len() as u32, now);
                    }
                }
            }
        }
    }

    #[test]
    fn settles_at_what_the_server_takes_and_seldom_asks_for_more() {
        for most in 1..=20 {
            let mut run = Run::new(20, 30);
            run.seconds(most, 15 * 60);
            assert_eq!(run.window.sessions(run.start + seconds(run.second)), most as u32);
            (run.opened, run.refused) = (0, 0);
            for _ in 0..8 * 60 {
                run.seconds(most, 60);
                let sessions = run.window.sessions(run.start + seconds(run.second)) as usize;
                assert!((most..=most + 1).contains(&sessions), "{sessions} for {most}");
            }
            assert!(run.refused <= 12, "{} refused in eight hours at {most}", run.refused);
        }
    }

    #[test]
    fn a_server_that_takes_more_again_gets_it() {
        let mut run = Run::new(20, 30);
        run.seconds(2, 3 * 3600);
        // The belief of an hour, and then 1, 2, 4, … more, four minutes each.
        run.seconds(100, 90 * 60);
        assert!(!run.window.is_adjusted(), "{:?}", run.window);
    }

    #[test]
    fn refusals_of_one_burst_count_once() {
        let start = Instant::now();
        let mut window = Window::new(10, REAL, start);
        assert!(window.narrowed(1, start));
        assert!((0..8).all(|_| !window.narrowed(2, start)));
        assert_eq!(window.sessions(start), 5);
        assert!(window.narrowed(3, start + REACTION));
        assert_eq!((window.sessions(start + REACTION), window.seen()), (3, Some(3)));
    }

    #[test]
    fn failed_connections_narrow_it_and_successes_open_it_again() {
        let start = Instant::now();
        let mut window = Window::new(4, REAL, start);
        (0..4).for_each(|_| window.failed(1));
        assert_eq!(window.sessions(start), 2);
        (0..100).for_each(|_| window.failed(1));
        assert_eq!(window.sessions(start), 1);
        (0..10).for_each(|_| window.succeeded(1, start));
        assert_eq!(window.sessions(start), 4);
        assert_eq!(window.seen(), None);
    }

    #[test]
    fn sessions_seen_are_believed_for_ten_minutes_then_one_more_is_tried() {
        let start = Instant::now();
        let mut window = Window::new(10, REAL, start);
        window.narrowed(6, start);
        for second in 0..600 {
            window.succeeded(6, start + seconds(second));
            assert_eq!(window.sessions(start + seconds(second)), 6);
        }
        window.succeeded(6, start + seconds(600));
        assert_eq!(window.sessions(start + seconds(600)), 7);
        assert!(window.narrowed(6, start + seconds(601)));
        for second in 602..1800 {
            window.succeeded(6, start + seconds(second));
            assert_eq!(window.sessions(start + seconds(second)), 6);
        }
    }

    #[test]
    fn a_day_without_use_is_forgotten() {
        let start = Instant::now();
        let mut window = Window::new(10, REAL, start);
        window.narrowed(3, start);
        assert_eq!(window.next_change(start), Some(start + MEMORY));
        assert_eq!(window.sessions(start + MEMORY), 10);
        assert!(!window.is_adjusted());
    }

    #[derive(Debug, Clone)]
    enum Event {
        Succeeded(u32),
        Failed(u32),
        Narrowed(u32),
        Limit(u32),
        Pin(u32, u64),
        Unpin,
        Forget,
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            4 => (0u32..1000).prop_map(Event::Succeeded),
            2 => (0u32..20).prop_map(Event::Failed),
            4 => (0u32..60).prop_map(Event::Narrowed),
            1 => (0u32..60).prop_map(Event::Limit),
            1 => (0u32..60, 0u64..10_000).prop_map(|(sessions, lasting)| Event::Pin(sessions, lasting)),
            1 => Just(Event::Unpin),
            1 => Just(Event::Forget),
        ];
        let wait = prop_oneof![4 => 0u64..10, 2 => 30u64..600, 1 => 600u64..100_000];
        proptest::collection::vec((wait, event), 0..60)
    }

    proptest! {
        #[test]
        fn between_one_and_the_limit_and_always_back(first in 0u32..60, events in events()) {
            let mut now = Instant::now();
            let mut limit = first.max(1);
            let mut window = Window::new(first, REAL, now);
            for (wait, event) in events {
                let until = now + seconds(wait);
                if window.next_change(now).is_none_or(|change| change > until) {
                    prop_assert_eq!(window.sessions(now), window.clone().sessions(until));
                }
                now = until;
                match event {
                    Event::Succeeded(count) => window.succeeded(count, now),
                    Event::Failed(count) => window.failed(count),
                    Event::Narrowed(open) => {
                        let before = window.sessions(now);
                        window.narrowed(open, now);
                        prop_assert!(window.sessions(now) <= before);
                    }
                    Event::Limit(new) => {
                        limit = new.max(1);
                        window.set_limit(new);
                    }
                    Event::Pin(sessions, lasting) => window.pin(sessions, now + seconds(lasting)),
                    Event::Unpin => window.unpin(),
                    Event::Forget => window.forget(),
                }
                prop_assert!((1..=limit).contains(&window.sessions(now)));
                prop_assert!(window.window >= 1.0 && window.window <= f64::from(limit));
                prop_assert!(window.is_adjusted() || window.sessions(now) == limit);
            }
            for _ in 0..60 * 24 {
                now += seconds(60);
                window.succeeded(60, now);
            }
            prop_assert_eq!(window.sessions(now), limit);
            prop_assert!(!window.is_adjusted());
        }
    }
}
