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
        if now < self.reacts_from {
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

    /// Cancels what results have changed; a pin stays.
    pub fn forget(&mut self) {
        self.seen = None;
        self.window = f64::from(self.limit);
    }

    /// Whether something else than the shaping limit holds.
    pub fn is_adjusted(&self) -> bool {
        self.pin.is_some() || (self.window as u32) < self.limit
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
