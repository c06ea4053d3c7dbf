//! What a provider allows a source, counted exactly: no more than N events in any interval T.
//!
//! Pure over `now`; the hosts of an operator, or of a provider if it says so, share one [`Gate`].

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use tokio::time::Instant;

use super::counts::Limit;
use super::file::LimitsFile;
use super::measure::Rate;

/// A log of the last `count` events; the oldest tells whether another fits.
#[derive(Default)]
struct Window(VecDeque<Instant>);

impl Window {
    /// Takes room for one event, or says that there is none. Refused events use no room.
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        while self.0.front().is_some_and(|oldest| now >= *oldest + rate.per) {
            self.0.pop_front();
        }
        let fits = self.0.len() < rate.count as usize;
        if fits {
            self.0.push_back(now);
        }
        fits
    }
}

#[derive(Default)]
struct Source {
    open: u32,
    connections: Window,
    messages: Window,
}

/// One set of limits and who has used how much of them.
pub(crate) struct Gate {
    limits: LimitsFile,
    messages: Option<Rate>,
    connection_rate: Option<Rate>,
    open: u32,
    sources: HashMap<IpAddr, Source>,
}

impl Gate {
    /// Rates in real time.
    pub fn new(limits: LimitsFile, messages: Option<Rate>, connection_rate: Option<Rate>) -> Self {
        Self { limits, messages, connection_rate, open: 0, sources: HashMap::new() }
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
        let Some(rate) = self.connection_rate else { return true };
        self.sources.entry(source).or_default().connections.take(rate, now)
    }

    /// Whether another message is within the rate of messages.
    pub fn take_message(&mut self, source: IpAddr, now: Instant) -> bool {
        let Some(rate) = self.messages else { return true };
        self.sources.entry(source).or_default().messages.take(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_interval_of_the_period_holds_more_than_the_count() {
        let rate = Rate { count: 3, per: Duration::from_secs(10) };
        let mut gate = Gate::new(LimitsFile::default(), Some(rate), None);
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let start = Instant::now();
        let taken: Vec<u64> = (0..40)
            .filter(|second| gate.take_message(source, start + Duration::from_secs(*second)))
            .collect();
        assert_eq!(taken, [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]);
    }

    #[test]
    fn connections_at_once_are_counted_by_source_and_in_total() {
        let limits =
            LimitsFile { connections_per_source: Some(1), connections: Some(2), ..LimitsFile::default() };
        let mut gate = Gate::new(limits, None, None);
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
