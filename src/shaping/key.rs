//! The words of shaping files: keys, their values, the sections they stand in, and where each was said.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Domain;
use crate::config::units::format_duration;
use crate::config::{Fault, Rate, Timeouts, TlsPolicy};

/// A key of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Which exchanges are a provider's.
    Mx,
    /// Whose reply rules hold for a provider, besides those for any.
    Replies,
    Sessions,
    /// Over all sites of a provider and all our sources, as all that end in `_total`.
    SessionsTotal,
    Messages,
    MessagesTotal,
    Connections,
    ConnectionsTotal,
    MessagesPerSession,
    Tls,
    Idle,
    Timeout(Step),
    /// The waits between attempts.
    Retry,
    /// After this time nothing is attempted.
    Expiry,
    /// The wait after a greylisting.
    Greylist,
}

/// A step of a session that has a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Connect,
    Greeting,
    Ehlo,
    Starttls,
    Mail,
    Rcpt,
    DataStart,
    ContentWrite,
    ContentEnd,
    Quit,
}

/// What kind of value a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Names,
    Name,
    Count,
    Rates,
    Tls,
    Time,
    Times,
}

impl Key {
    /// All but the timeouts, in the order in which they are shown.
    pub const ALL: [Self; 14] = [
        Self::Mx,
        Self::Replies,
        Self::Sessions,
        Self::SessionsTotal,
        Self::Messages,
        Self::MessagesTotal,
        Self::Connections,
        Self::ConnectionsTotal,
        Self::MessagesPerSession,
        Self::Tls,
        Self::Idle,
        Self::Retry,
        Self::Expiry,
        Self::Greylist,
    ];

    /// As files write it; of a timeout, within `timeouts`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::Replies => "replies",
            Self::Sessions => "sessions",
            Self::SessionsTotal => "sessions_total",
            Self::Messages => "messages",
            Self::MessagesTotal => "messages_total",
            Self::Connections => "connections",
            Self::ConnectionsTotal => "connections_total",
            Self::MessagesPerSession => "messages_per_session",
            Self::Tls => "tls",
            Self::Idle => "idle",
            Self::Timeout(step) => step.name(),
            Self::Retry => "retry",
            Self::Expiry => "expiry",
            Self::Greylist => "greylist",
        }
    }

    /// Whether it makes sense for a provider only.
    pub fn is_of_providers(self) -> bool {
        matches!(
            self,
            Self::Mx | Self::Replies | Self::SessionsTotal | Self::MessagesTotal | Self::ConnectionsTotal
        )
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Mx => Kind::Names,
            Self::Replies => Kind::Name,
            Self::Sessions | Self::SessionsTotal | Self::MessagesPerSession => Kind::Count,
            Self::Messages | Self::MessagesTotal | Self::Connections | Self::ConnectionsTotal => Kind::Rates,
            Self::Tls => Kind::Tls,
            Self::Idle | Self::Timeout(_) | Self::Expiry | Self::Greylist => Kind::Time,
            Self::Retry => Kind::Times,
        }
    }

    /// Whether a time of zero says something.
    pub(super) fn may_be_zero(self) -> bool {
        matches!(self, Self::Idle | Self::Timeout(Step::Quit))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(step) => write!(f, "timeouts.{}", step.name()),
            _ => f.write_str(self.name()),
        }
    }
}

impl Step {
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Greeting,
        Self::Ehlo,
        Self::Starttls,
        Self::Mail,
        Self::Rcpt,
        Self::DataStart,
        Self::ContentWrite,
        Self::ContentEnd,
        Self::Quit,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::Starttls => "starttls",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::DataStart => "data_start",
            Self::ContentWrite => "content_write",
            Self::ContentEnd => "content_end",
            Self::Quit => "quit",
        }
    }

    pub(super) fn of(self, timeouts: &mut Timeouts) -> &mut Duration {
        match self {
            Self::Connect => &mut timeouts.connect,
            Self::Greeting => &mut timeouts.greeting,
            Self::Ehlo => &mut timeouts.ehlo,
            Self::Starttls => &mut timeouts.starttls,
            Self::Mail => &mut timeouts.mail,
            Self::Rcpt => &mut timeouts.rcpt,
            Self::DataStart => &mut timeouts.data_start,
            Self::ContentWrite => &mut timeouts.content_write,
            Self::ContentEnd => &mut timeouts.content_end,
            Self::Quit => &mut timeouts.quit,
        }
    }
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Names(Vec<String>),
    Name(String),
    /// At least 1.
    Count(u32),
    /// At least one; all of them hold.
    Rates(Vec<Rate>),
    Tls(TlsPolicy),
    Time(Duration),
    /// At least one.
    Times(Vec<Duration>),
}

impl Value {
    /// As a file would write it.
    pub(super) fn to_toml(&self) -> toml::Value {
        let list = |items: Vec<String>| toml::Value::Array(items.into_iter().map(Into::into).collect());
        match self {
            Self::Names(names) => list(names.clone()),
            Self::Name(name) => name.clone().into(),
            Self::Count(count) => i64::from(*count).into(),
            Self::Rates(rates) => match &rates[..] {
                [rate] => rate.to_string().into(),
                rates => list(rates.iter().map(ToString::to_string).collect()),
            },
            Self::Tls(policy) => policy.name().into(),
            Self::Time(time) => format_duration(*time).into(),
            Self::Times(times) => list(times.iter().copied().map(format_duration).collect()),
        }
    }
}

/// For people: lists with commas, nothing in quotes.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_toml() {
            toml::Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(toml::Value::as_str).collect();
                f.write_str(&items.join(", "))
            }
            toml::Value::String(text) => f.write_str(&text),
            other => write!(f, "{other}"),
        }
    }
}

/// What a section is about, in the order in which they are laid over each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    Default,
    Provider(String),
    /// Of the sites that have this exchange.
    Site(Domain),
    /// Of this domain alone, which is a site of its own then.
    Domain(Domain),
    Source(String),
}

impl Section {
    /// The table it stands in, and its name there.
    pub(super) fn keys(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Default => ("default", None),
            Self::Provider(name) => ("provider", Some(name)),
            Self::Site(host) => ("site", Some(host.as_str())),
            Self::Domain(domain) => ("domain", Some(domain.as_str())),
            Self::Source(name) => ("source", Some(name)),
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keys() {
            (table, None) => write!(f, "[{table}]"),
            (table, Some(name)) if name.contains('.') => write!(f, "[{table}.\"{name}\"]"),
            (table, Some(name)) => write!(f, "[{table}.{name}]"),
        }
    }
}

/// Where something was said. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub file: Arc<Path>,
    pub line: usize,
    pub column: usize,
}

impl Origin {
    pub(super) fn fault(&self, what: impl Into<String>, advice: impl Into<String>) -> Fault {
        Fault {
            file: self.file.to_path_buf(),
            line: self.line,
            column: self.column,
            what: what.into(),
            advice: advice.into(),
        }
    }
}

/// `file:line`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What a section says about a key.
#[derive(Debug, Clone)]
pub struct Said {
    /// `None`: unset, what was said before or below does not hold.
    pub value: Option<Value>,
    pub origin: Origin,
}

/// Where it was said makes no difference.
impl PartialEq for Said {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
