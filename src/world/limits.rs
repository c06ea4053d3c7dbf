//! What a provider allows a source, counted exactly: no more than N events in any interval T, or in
//! each T since the start; and the penalty for asking for more.
//!
//! Pure over `now`; the hosts of an operator, or of a provider if it says so, share one [`Gate`].

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::counts::Limit;
use super::file::{LimitsFile, WindowKind};
use super::measure::Rate;

/// The rates of a provider, in real time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub messages: Option<Rate>,
    pub connections: Option<Rate>,
    pub window: WindowKind,
    pub penalty: Option<Duration>,
}

/// Events taken so far, as far as they still matter. Refused events use no room.
#[derive(Default)]
struct Window {
    /// Sliding: the last `count` events; the oldest tells whether another fits.
    log: VecDeque<Instant>,
    /// Fixed: the number of the window, and what it holds.
    number: u128,
    taken: u32,
}

impl Window {
    /// Takes room for one event, or says that there is none.
    fn take(&mut self, kind: WindowKind, rate: Rate, started: Instant, now: Instant) -> bool {
        match kind {
            WindowKind::Sliding => {
                while self.log.front().is_some_and(|oldest| now >= *oldest + rate.per) {
                    self.log.pop_front();
                }
                let fits = self.log.len() < rate.count as usize;
                if fits {
                    self.log.push_back(now);
                }
                fits
            }
            WindowKind::Fixed => {
                let number = (now - started).as_nanos() / rate.per.as_nanos();
                if number != self.number {
                    (self.number, self.taken) = (number, 0);
                }
                let fits = self.taken < rate.count;
                self.taken += u32::from(fits);
                fits
            }
        }
    }
}

#[derive(Default)]
struct Source {
    open: u32,
    connections: Window,
    messages: Window,
    penalized_until: Option<Instant>,
}

/// One set of limits and who has used how much of them.
pub(crate) struct Gate {
    limits: LimitsFile,
    rates: Rates,
    /// Fixed windows are counted from here.
    started: Instant,
    open: u32,
    sources: HashMap<IpAddr, Source>,
}

impl Gate {
    pub fn new(limits: LimitsFile, rates: Rates, started: Instant) -> Self {
        Self { limits, rates, started, open: 0, sources: HashMap::new() }
    }

    /// Whether a connection more would be one too many at once, and by which limit.
    pub fn is_full(&self, source: IpAddr) -> Option<Limit> {
        let open = self.sources.get(&source).map_or(0, |source| source.open);
        if self.limits.connections_per_source.is_some_and(|max| open >= max) {
            return Some(Limit::ConnectionsPerSource);
        }
        self.limits.connections.is_some_and(|max| self.open >= max).then_some(Limit::Connections)
    }

    /// Counts a connection whatever the limits say; `release` must follow.
    pub fn enter(&mut self, source: IpAddr) {
        self.open += 1;
        self.sources.entry(source).or_default().open += 1;
    }

    pub fn release(&mut self, source: IpAddr) {
        self.open -= 1;
        if let Some(source) = self.sources.get_mut(&source) {
            source.open -= 1;
        }
    }

    /// Whether a new connection is within the rate of connections.
    pub fn take_connection(&mut self, source: IpAddr, now: Instant) -> bool {
        let Some(rate) = self.rates.connections else { return true };
        let source = self.sources.entry(source).or_default();
        source.connections.take(self.rates.window, rate, self.started, now)
    }

    /// Takes room for another message, or says why there is none: the rate of messages, or the penalty
    /// for having exceeded it.
    pub fn take_message(&mut self, source: IpAddr, now: Instant) -> Result<(), Limit> {
        let Some(rate) = self.rates.messages else { return Ok(()) };
        let source = self.sources.entry(source).or_default();
        if source.penalized_until.is_some_and(|end| now < end) {
            return Err(Limit::Penalty);
        }
        if source.messages.take(self.rates.window, rate, self.started, now) {
            return Ok(());
        }
        source.penalized_until = self.rates.penalty.map(|penalty| now + penalty);
        Err(Limit::MessageRate)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn gate(window: WindowKind, penalty: Option<Duration>, started: Instant) -> Gate {
        let messages = Some(Rate { count: 3, per: seconds(10) });
        Gate::new(LimitsFile::default(), Rates { messages, connections: None, window, penalty }, started)
    }

    /// The seconds of a range at which a message is let through, one being tried in each.
    fn taken(gate: &mut Gate, started: Instant, range: std::ops::Range<u64>) -> Vec<u64> {
        range.filter(|second| gate.take_message(HERE, started + seconds(*second)).is_ok()).collect()
    }

    #[test]
    fn no_interval_of_the_period_holds_more_than_the_count() {
        let start = Instant::now();
        let mut gate = gate(WindowKind::Sliding, None, start);
        assert_eq!(taken(&mut gate, start, 8..40), [8, 9, 10, 18, 19, 20, 28, 29, 30, 38, 39]);
    }

    #[test]
    fn fixed_windows_begin_with_the_world_whenever_the_first_message_comes() {
        let start = Instant::now();
        let mut gate = gate(WindowKind::Fixed, None, start);
        assert_eq!(taken(&mut gate, start, 8..32), [8, 9, 10, 11, 12, 20, 21, 22, 30, 31]);
    }

    #[test]
    fn sources_have_a_rate_each() {
        let start = Instant::now();
        let mut gate = gate(WindowKind::Sliding, None, start);
        assert_eq!(taken(&mut gate, start, 0..5).len(), 3);
        assert_eq!(gate.take_message(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), start), Ok(()));
    }

    #[test]
    fn a_penalty_lasts_from_the_first_refusal_and_trying_does_not_prolong_it() {
        let start = Instant::now();
        let mut gate = gate(WindowKind::Sliding, Some(seconds(60)), start);
        assert_eq!(taken(&mut gate, start, 0..3), [0, 1, 2]);
        assert_eq!(gate.take_message(HERE, start + seconds(3)), Err(Limit::MessageRate));
        assert_eq!(gate.take_message(HERE, start + seconds(20)), Err(Limit::Penalty));
        assert_eq!(taken(&mut gate, start, 21..63), [] as [u64; 0]);
        assert_eq!(taken(&mut gate, start, 63..66), [63, 64, 65]);
        assert_eq!(gate.take_message(HERE, start + seconds(66)), Err(Limit::MessageRate), "and again");
        assert_eq!(gate.take_message(HERE, start + seconds(125)), Err(Limit::Penalty));
    }

    #[test]
    fn connections_at_once_are_counted_by_source_and_in_total() {
        let limits =
            LimitsFile { connections_per_source: Some(1), connections: Some(2), ..LimitsFile::default() };
        let mut gate = Gate::new(limits, Rates::default(), Instant::now());
        let source = |n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n));
        gate.enter(source(1));
        assert_eq!(gate.is_full(source(1)), Some(Limit::ConnectionsPerSource));
        assert_eq!(gate.is_full(source(2)), None);
        gate.enter(source(2));
        assert_eq!(gate.is_full(source(3)), Some(Limit::Connections));
        gate.release(source(1));
        assert_eq!(gate.is_full(source(3)), None);
    }
}
