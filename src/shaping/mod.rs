//! Shaping: what each path may do, who says so, and the ceilings a provider has over all paths.
//!
//! ```text
//! file      the grammar: text → sections, every value with its place     key    the words of it
//! tables    all sections; files over files, sections over sections       check  what cannot be meant
//! live      swapped in whole when a file changes and checks out
//! rate      limiters
//! ```
//!
//! A pure merge of what files say, plus the limiters that several paths share. Paths own their own
//! limiters; what is shared here is lock-free. Does not know who sends what, nor what replies mean.

mod check;
mod file;
mod key;
mod live;
pub mod rate;
mod tables;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::{Fault, Rate, Timeouts};
use crate::site::Site;
use crate::smtp::TlsPolicy;
pub use key::{Key, Origin, Said, Section, Step, Value};
pub use live::Live;
use rate::{Credit, Pace};
pub use tables::{Layer, Tables};

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

impl Limits {
    /// Messages a second by the slowest of the rates; `None`: no limit.
    pub fn per_second(&self) -> Option<f64> {
        let rates = self.messages.iter().map(|rate| f64::from(rate.count) / rate.per.as_secs_f64());
        rates.min_by(f64::total_cmp)
    }
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
            // RFC 6647 §4.4: most have forgiven after five minutes.
            greylist: Duration::from_secs(6 * 60),
        }
    }
}

impl Limits {
    fn set(&mut self, key: Key, value: &Value) {
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
fn limited(rates: &[Rate]) -> Vec<Rate> {
    rates.iter().copied().filter(|rate| !rate.is_unlimited()).collect()
}

/// What holds for a provider over all its sites and all our sources.
#[derive(Debug, Default)]
pub struct Ceilings {
    pub sessions: Option<Arc<Semaphore>>,
    /// All of them hold.
    pub messages: Vec<Arc<Pace>>,
    pub connections: Vec<Arc<Pace>>,
    said: Totals,
}

/// What ceilings were made from.
#[derive(Debug, Clone, Default, PartialEq)]
struct Totals {
    sessions: Option<u32>,
    messages: Vec<Rate>,
    connections: Vec<Rate>,
}

impl Totals {
    fn of(layer: &Layer) -> Self {
        let rates = |key| match layer.value(key) {
            Some(Value::Rates(rates)) => limited(rates),
            _ => Vec::new(),
        };
        let sessions = match layer.value(Key::SessionsTotal) {
            Some(Value::Count(count)) => Some(*count),
            _ => None,
        };
        Self { sessions, messages: rates(Key::MessagesTotal), connections: rates(Key::ConnectionsTotal) }
    }
}

impl Ceilings {
    fn new(said: Totals, credit: Credit) -> Self {
        Self::default().changed(said, credit)
    }

    /// These with other totals. What was spent of a rate that stays is spent; a new one gives nothing on
    /// credit unless `credit` says so; sessions that are open count against the new number.
    fn changed(&self, said: Totals, credit: Credit) -> Self {
        let paces = |rates: &[Rate], before: &[Rate], paces: &[Arc<Pace>]| {
            let pace = |rate: &Rate| match before.iter().position(|other| other == rate) {
                Some(at) => paces[at].clone(),
                None => Arc::new(Pace::new(rate, credit)),
            };
            rates.iter().map(pace).collect()
        };
        Self {
            sessions: said.sessions.map(|count| match (&self.sessions, self.said.sessions) {
                (Some(permits), Some(before)) => resized(permits, before, count),
                _ => Arc::new(Semaphore::new(count as usize)),
            }),
            messages: paces(&said.messages, &self.said.messages, &self.messages),
            connections: paces(&said.connections, &self.said.connections, &self.connections),
            said,
        }
    }
}

/// The same permits, more or fewer of them. Those that are out and too many are taken back as they come.
fn resized(permits: &Arc<Semaphore>, before: u32, count: u32) -> Arc<Semaphore> {
    if count > before {
        permits.add_permits((count - before) as usize);
    }
    let surplus = before.saturating_sub(count) as usize;
    let owed = surplus - permits.forget_permits(surplus);
    if let (1.., Ok(owed)) = (owed, u32::try_from(owed)) {
        let permits = permits.clone();
        tokio::spawn(async move {
            if let Ok(returned) = permits.acquire_many_owned(owed).await {
                returned.forget();
            }
        });
    }
    permits.clone()
}

/// Every limit of the node, ready to be asked by path.
#[derive(Debug)]
pub struct Shaping {
    tables: Tables,
    /// What the campaign asks for; it wins where it is stricter.
    campaign_tls: Option<TlsPolicy>,
    ceilings: HashMap<Arc<str>, Arc<Ceilings>>,
    none: Arc<Ceilings>,
    /// Limits that were asked for, by the sections they come from.
    merged: Mutex<HashMap<Vec<Section>, Arc<Limits>>>,
}

/// A line of what holds for a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub key: Key,
    /// `None`: there is no such limit.
    pub value: Option<Value>,
    pub section: Section,
    pub origin: Origin,
}

impl Shaping {
    pub fn new(tables: Tables, campaign_tls: Option<TlsPolicy>, credit: Credit) -> Self {
        let ceilings = tables
            .providers()
            .map(|(name, layer)| (name.into(), Arc::new(Ceilings::new(Totals::of(layer), credit))))
            .collect();
        Self { tables, campaign_tls, ceilings, none: Arc::default(), merged: Mutex::default() }
    }

    /// What comes after this: other tables, and the ceilings as far as they stay what they are.
    fn changed(&self, tables: Tables) -> Self {
        let ceilings = tables.providers().map(|(name, layer)| {
            let said = Totals::of(layer);
            let ceilings = match self.ceilings.get(name) {
                Some(before) if before.said == said => before.clone(),
                Some(before) => Arc::new(before.changed(said, Credit::Empty)),
                None => Arc::new(Ceilings::new(said, Credit::Empty)),
            };
            (name.into(), ceilings)
        });
        Self {
            ceilings: ceilings.collect(),
            tables,
            campaign_tls: self.campaign_tls,
            none: self.none.clone(),
            merged: Mutex::default(),
        }
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The limits of the path from `source` to `site`.
    pub fn limits(&self, site: &Site, source: &str) -> Arc<Limits> {
        let sections = self.tables.on_path(site, source);
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        merged.entry(sections).or_insert_with_key(|sections| Arc::new(self.merge(sections))).clone()
    }

    fn merge(&self, sections: &[Section]) -> Limits {
        let mut limits = Limits::default();
        for (key, (_, said)) in self.tables.merged(sections) {
            if let Some(value) = &said.value {
                limits.set(key, value);
            }
        }
        limits.tls = limits.tls.max(self.campaign_tls.unwrap_or(limits.tls));
        limits
    }

    /// What `provider` bears over all paths; nothing limits a site of none.
    pub fn ceilings(&self, provider: Option<&str>) -> Arc<Ceilings> {
        provider.and_then(|name| self.ceilings.get(name)).unwrap_or(&self.none).clone()
    }

    /// Whose reply rules hold for `provider`: another's, or its own.
    pub fn replies_of<'a>(&'a self, provider: &'a str) -> &'a str {
        match self.tables.provider(provider).and_then(|layer| layer.value(Key::Replies)) {
            Some(Value::Name(other)) => other,
            _ => provider,
        }
    }

    /// What files say about the path from `source` to `site`, and which line of which file does.
    pub fn explain(&self, site: &Site, source: &str) -> Vec<Line> {
        let sections = self.tables.on_path(site, source);
        let lines = self.tables.merged(&sections).into_iter().map(|(key, (section, said))| Line {
            key,
            value: said.value.clone(),
            section: section.clone(),
            origin: said.origin.clone(),
        });
        lines.collect()
    }
}

impl Tables {
    /// # Errors
    /// Everything that they say together and cannot mean; `sources` are those there are, if known.
    pub fn check(&self, sources: Option<&[&str]>) -> Result<(), Vec<Fault>> {
        let faults = check::check(self, sources);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Every mistake of a shaping file, by itself and laid over what is shipped.
pub fn check_file(path: &Path) -> Vec<Fault> {
    let gathered = Tables::gathered(&[PathBuf::from(path)], Tables::default());
    gathered.and_then(|tables| tables.check(None)).err().unwrap_or_default()
}
