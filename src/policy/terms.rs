//! What holds for a path beside its limits, and what it says in return about what binds it.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::classify::Class;
use crate::shaping::rate::Limit;

/// What rests, and so why a path does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resting {
    /// The site said so, to this source.
    Path,
    /// No session could be opened.
    Unreachable,
    /// The source, for this provider.
    Source,
    /// The source, for everyone: its breaker.
    WholeSource,
    /// The sending domain, at this provider.
    DomainAtProvider,
    /// The sending domain: its breaker.
    SendingDomain,
    Campaign,
    /// The cap of a source or sending domain that is warming up is spent.
    WarmUp,
}

/// What brought a rest or a slower rate about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(with = "timestamp")]
    pub since: SystemTime,
    /// In words: the breaker's evidence, the cap.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The reply, codes and all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The rule's name, or who else knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(reply) = &self.reply {
            write!(f, "{}`{reply}`", if self.text.is_empty() { "" } else { ": " })?;
        }
        match &self.rule {
            Some(rule) => write!(f, " ({rule})"),
            None => Ok(()),
        }
    }
}

/// A moment as RFC 3339 writes it.
mod timestamp {
    use std::time::SystemTime;

    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        Timestamp::try_from(*at).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        Timestamp::deserialize(deserializer).map(SystemTime::from)
    }
}

/// Nothing goes before `until`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub resting: Resting,
    /// `None`: a person has to end it.
    pub until: Option<Instant>,
    /// Afterwards one message goes alone, and the rest only once that got through.
    pub then_probe: bool,
    /// Whether other sources should take over meanwhile.
    pub overflows: bool,
    pub cause: Arc<Cause>,
}

impl Hold {
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What holds for a path now.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// At once, at least 1: the limit's or fewer.
    pub sessions: u32,
    pub hold: Option<Hold>,
}

/// What keeps a path from going faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// Nothing waits.
    #[default]
    Work,
    /// As fast as the site takes it.
    Site,
    /// A session is being opened.
    Opening,
    /// A rate.
    Rate(Limit),
    /// The rate of new connections.
    Connections,
    /// As many sessions as its limits allow are open.
    Sessions,
    /// As many as the window of what the site seems to bear.
    Window,
    /// All sessions of the provider, of the source, or of the node are taken.
    ProviderSessions,
    SourceSessions,
    NodeSessions,
    /// A single message is under way, to see whether it gets through.
    Probe,
    /// See [`Hold`].
    Hold,
}

/// What a path says of itself; read by whoever explains it.
#[derive(Debug, Default)]
pub struct Standing {
    /// Sessions that are open or being opened.
    pub sessions: AtomicU32,
    /// Entries in its hands.
    pub entries: AtomicU32,
    binding: Mutex<(Binding, Option<Instant>)>,
    /// Permits that sessions of the path wait for, by binding.
    wanted: [AtomicU32; 3],
}

/// A permit that is waited for, for as long as this lives.
pub struct Wanting<'a>(&'a AtomicU32);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const PERMITS: [Binding; 3] = [Binding::ProviderSessions, Binding::SourceSessions, Binding::NodeSessions];

impl Standing {
    /// What binds the path, and until when if that is known.
    pub fn binding(&self) -> (Binding, Option<Instant>) {
        *self.binding.lock().expect("no panic while the binding is held")
    }

    pub fn binds(&self, binding: Binding, until: Option<Instant>) {
        *self.binding.lock().expect("no panic while the binding is held") = (binding, until);
    }

    /// A session waits for such a permit.
    pub fn wants(&self, permit: Binding) -> Option<Wanting<'_>> {
        let place = PERMITS.iter().position(|binding| *binding == permit)?;
        self.wanted[place].fetch_add(1, Ordering::Relaxed);
        Some(Wanting(&self.wanted[place]))
    }

    /// The permits that sessions wait for, the widest first.
    pub fn wanting(&self) -> Option<Binding> {
        PERMITS
            .into_iter()
            .zip(&self.wanted)
            .find(|(_, count)| count.load(Ordering::Relaxed) > 0)
            .map(|(binding, _)| binding)
    }

    pub fn count(&self, sessions: usize, entries: usize) {
        self.sessions.store(u32::try_from(sessions).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.entries.store(u32::try_from(entries).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}
