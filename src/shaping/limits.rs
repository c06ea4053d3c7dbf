//! What one path may do, as the path uses it: every value there, nothing left to be merged.

use std::time::Duration;

use super::key::{Key, Value};
use crate::config::{Rate, Timeouts, TlsPolicy};

/// What one path may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Sessions open at once, at least 1.
    pub sessions: u32,
    /// All of them hold; none: no limit.
    pub messages: Vec<Rate>,
    pub connections: Vec<Rate>,
    /// `None`: as many as the peer takes.
    pub messages_per_session: Option<u32>,
    pub tls: TlsPolicy,
    /// How long a session without work is kept.
    pub idle: Duration,
    pub timeouts: Timeouts,
    /// The waits between attempts, where they are not the campaign's; never empty.
    pub retry: Option<Vec<Duration>>,
    /// When to give up, where that is not the campaign's to say.
    pub expiry: Option<Duration>,
    /// The wait after a greylisting.
    pub greylist: Duration,
}

/// What holds where no file says anything, or what it said was unset.
impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 1,
            messages: Vec::new(),
            connections: Vec::new(),
            messages_per_session: None,
            tls: TlsPolicy::default(),
            idle: Duration::ZERO,
            timeouts: Timeouts::default(),
            retry: None,
            expiry: None,
            // RFC 6647 §5 says a minute to a day; most have forgiven after five minutes.
            greylist: Duration::from_secs(6 * 60),
        }
    }
}

impl Limits {
    /// Messages a second by the slowest of the rates; `None`: no limit.
    pub fn per_second(&self) -> Option<f64> {
        let rates = self.messages.iter().map(|rate| f64::from(rate.count) / rate.per.as_secs_f64());
        rates.min_by(f64::total_cmp)
    }

    pub(super) fn set(&mut self, key: Key, value: &Value) {
        match (key, value) {
            (Key::Sessions, Value::Count(count)) => self.sessions = *count,
            (Key::MessagesPerSession, Value::Count(count)) => self.messages_per_session = Some(*count),
            (Key::Messages, Value::Rates(rates)) => self.messages = limited(rates),
            (Key::Connections, Value::Rates(rates)) => self.connections = limited(rates),
            (Key::Tls, Value::Tls(policy)) => self.tls = *policy,
            (Key::Idle, Value::Time(time)) => self.idle = *time,
            (Key::Timeout(step), Value::Time(time)) => *step.of(&mut self.timeouts) = *time,
            (Key::Retry, Value::Times(times)) => self.retry = Some(times.clone()),
            (Key::Expiry, Value::Time(time)) => self.expiry = Some(*time),
            (Key::Greylist, Value::Time(time)) => self.greylist = *time,
            // A provider's own, which no path has; a key has values of one kind only.
            _ => {}
        }
    }
}

/// The rates that limit anything.
pub(super) fn limited(rates: &[Rate]) -> Vec<Rate> {
    rates.iter().copied().filter(|rate| !rate.is_unlimited()).collect()
}
