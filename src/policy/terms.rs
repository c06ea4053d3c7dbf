//! What holds for a path beside its limits, and what it says in return about what binds it.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::classify::Class;
use crate::shaping::rate::{Gate, Limit};

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

impl Resting {
    /// Whether it is one source's, so that another may take over; else all of them rest.
    pub fn is_of_source(self) -> bool {
        match self {
            Self::Path | Self::Unreachable | Self::Source | Self::WholeSource | Self::WarmUp => true,
            Self::DomainAtProvider | Self::SendingDomain | Self::Campaign => false,
        }
    }
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
///
/// A path says what it knows when it has something to do. Its sessions wait at its gate and for permits
/// without a word to it, so these are looked at when somebody asks.
#[derive(Debug, Default)]
pub struct Standing {
    /// Sessions that are open, being opened, or waiting for a permit.
    sessions: AtomicU32,
    /// Entries in its hands.
    pub entries: AtomicU32,
    binding: Mutex<(Binding, Option<Instant>)>,
    /// What messages of the path pass, of its last life. Its meters know policy, which knows this.
    gate: Mutex<Weak<Gate>>,
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
    pub fn binding(&self, now: Instant) -> (Binding, Option<Instant>) {
        let said = *self.binding.lock().expect("no panic while the binding is held");
        let gate = self.gate.lock().expect("no panic while the gate is held").upgrade();
        let closed = |(_, until): &(Limit, Instant)| *until > now;
        let rate = match said.0 {
            Binding::Hold | Binding::Probe => return said,
            // What the limit denied a moment ago has got through, and nothing came after it.
            Binding::Work => gate.and_then(|gate| gate.closed()).filter(closed),
            _ => gate.and_then(|gate| gate.binding(now)),
        };
        if let Some((limit, until)) = rate {
            return (Binding::Rate(limit), Some(until).filter(|until| *until > now));
        }
        match (said.0, self.wanting()) {
            (Binding::Work, _) | (_, None) => said,
            (_, Some(permit)) => (permit, None),
        }
    }

    /// What binds it beside rates and permits, and until when if that is known.
    pub fn binds(&self, binding: Binding, until: Option<Instant>) {
        *self.binding.lock().expect("no panic while the binding is held") = (binding, until);
    }

    /// What the path's messages pass from now on.
    pub fn paced_by(&self, gate: &Arc<Gate>) {
        *self.gate.lock().expect("no panic while the gate is held") = Arc::downgrade(gate);
    }

    /// A session waits for such a permit.
    pub fn wants(&self, permit: Binding) -> Option<Wanting<'_>> {
        let place = PERMITS.iter().position(|binding| *binding == permit)?;
        self.wanted[place].fetch_add(1, Ordering::Relaxed);
        Some(Wanting(&self.wanted[place]))
    }

    /// The permits that sessions wait for, the widest first.
    fn wanting(&self) -> Option<Binding> {
        PERMITS
            .into_iter()
            .zip(&self.wanted)
            .find(|(_, count)| count.load(Ordering::Relaxed) > 0)
            .map(|(binding, _)| binding)
    }

    /// Sessions that are open or being opened.
    pub fn open(&self) -> u32 {
        let waiting: u32 = self.wanted.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        self.sessions.load(Ordering::Relaxed).saturating_sub(waiting)
    }

    /// `sessions`: those that wait for a permit included.
    pub fn count(&self, sessions: usize, entries: usize) {
        self.sessions.store(u32::try_from(sessions).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.entries.store(u32::try_from(entries).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;
    use crate::shaping::rate::{Credit, Meter, Pace};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn what_sessions_wait_for_binds_without_a_word_from_the_path() {
        let (standing, now) = (Standing::default(), Instant::now());
        standing.count(3, 10);
        standing.binds(Binding::Sessions, None);
        {
            let _node = standing.wants(Binding::NodeSessions);
            let _provider = standing.wants(Binding::ProviderSessions);
            assert_eq!(standing.binding(now), (Binding::ProviderSessions, None));
            assert_eq!(standing.open(), 1);
        }
        assert_eq!((standing.binding(now), standing.open()), ((Binding::Sessions, None), 3));

        let rate = Rate { count: 1, per: Duration::from_secs(60), burst: None };
        let pace = Arc::new(Pace::new(&rate, Credit::Full)) as Arc<dyn Meter>;
        let gate = Arc::new(Gate::new([(Limit::AdaptedPath, pace)]));
        standing.paced_by(&gate);
        gate.pass().unwrap();
        assert_eq!(standing.binding(now).0, Binding::Sessions);
        let until = gate.pass().unwrap_err();
        assert_eq!(standing.binding(now), (Binding::Rate(Limit::AdaptedPath), Some(until)));
        let later = until + Duration::from_millis(500);
        assert_eq!(standing.binding(later), (Binding::Rate(Limit::AdaptedPath), None));
        standing.binds(Binding::Work, None);
        assert_eq!(standing.binding(later).0, Binding::Work);
        standing.binds(Binding::Hold, Some(until));
        assert_eq!(standing.binding(now), (Binding::Hold, Some(until)));
        drop(gate);
        standing.binds(Binding::Site, None);
        assert_eq!(standing.binding(now).0, Binding::Site, "the path has ended");
    }
}
