//! Limits of paths and providers: the defaults, the shipped table of providers, and what a file changes.
//!
//! A limit that is not given falls through: provider, then `[limits]`. The shipped table is
//! `data/providers.toml`, compiled in; a file's `[providers.X]` replaces it key by key, or as a whole
//! with `replace = true`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::{Rate, duration_optional};
use super::{Node, fault};

const SHIPPED: &str = include_str!("../../data/providers.toml");

/// What a path asks of STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsPolicy {
    /// Not even when offered.
    Off,
    /// When offered, with any certificate; in clear if the handshake fails (RFC 7435).
    #[default]
    Opportunistic,
    /// Encrypted or not at all, with any certificate.
    Required,
    /// Encrypted, with a certificate that is valid for the exchange's name.
    Verified,
}

/// Limits of one path; `None`: not said here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsTable {
    /// Sessions at once.
    pub sessions: Option<u32>,
    pub messages: Option<Rate>,
    pub connections: Option<Rate>,
    /// Messages until a session is closed and another opened.
    pub messages_per_session: Option<u32>,
    pub tls: Option<TlsPolicy>,
    /// How long a session without work is kept.
    #[serde(with = "duration_optional")]
    pub idle: Option<Duration>,
}

impl LimitsTable {
    /// For sites of which nothing is known: what a small receiver bears (estimate).
    pub fn defaults() -> Self {
        Self {
            sessions: Some(10),
            messages: Some(Rate { count: 100, per: Duration::from_secs(1), burst: None }),
            connections: Some(Rate { count: 100, per: Duration::from_secs(60), burst: None }),
            messages_per_session: Some(100),
            tls: Some(TlsPolicy::Opportunistic),
            idle: Some(Duration::from_secs(30)),
        }
    }

    /// These limits, and where they say nothing, `below`'s.
    pub fn over(&self, below: &Self) -> Self {
        Self {
            sessions: self.sessions.or(below.sessions),
            messages: self.messages.or(below.messages),
            connections: self.connections.or(below.connections),
            messages_per_session: self.messages_per_session.or(below.messages_per_session),
            tls: self.tls.or(below.tls),
            idle: self.idle.or(below.idle),
        }
    }
}

/// A known operator of sites.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provider {
    /// Suffixes of exchange names in lower case, like `.google.com`; all exchanges of a site must match.
    pub mx: Vec<String>,
    /// Of each path to one of its sites.
    pub limits: LimitsTable,
    /// Over all its sites and all our sources.
    pub sessions_total: Option<u32>,
    pub messages_total: Option<Rate>,
    pub connections_total: Option<Rate>,
}

/// A provider as a file has it.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ProviderText {
    /// Forget what is shipped under this name.
    replace: bool,
    mx: Option<Vec<String>>,
    sessions: Option<u32>,
    messages: Option<Rate>,
    connections: Option<Rate>,
    messages_per_session: Option<u32>,
    tls: Option<TlsPolicy>,
    #[serde(with = "duration_optional")]
    idle: Option<Duration>,
    sessions_total: Option<u32>,
    messages_total: Option<Rate>,
    connections_total: Option<Rate>,
}

impl ProviderText {
    fn over(self, below: &Provider) -> Provider {
        let nothing = Provider::default();
        let below = if self.replace { &nothing } else { below };
        let limits = LimitsTable {
            sessions: self.sessions,
            messages: self.messages,
            connections: self.connections,
            messages_per_session: self.messages_per_session,
            tls: self.tls,
            idle: self.idle,
        };
        Provider {
            mx: self.mx.unwrap_or_else(|| below.mx.clone()),
            limits: limits.over(&below.limits),
            sessions_total: self.sessions_total.or(below.sessions_total),
            messages_total: self.messages_total.or(below.messages_total),
            connections_total: self.connections_total.or(below.connections_total),
        }
    }

    fn whole(provider: &Provider) -> Self {
        let limits = &provider.limits;
        Self {
            replace: true,
            mx: Some(provider.mx.clone()),
            sessions: limits.sessions,
            messages: limits.messages,
            connections: limits.connections,
            messages_per_session: limits.messages_per_session,
            tls: limits.tls,
            idle: limits.idle,
            sessions_total: provider.sessions_total,
            messages_total: provider.messages_total,
            connections_total: provider.connections_total,
        }
    }
}

/// The table that comes with this program.
pub fn shipped() -> BTreeMap<String, Provider> {
    let table: BTreeMap<String, ProviderText> =
        toml::from_str(SHIPPED).expect("the shipped data/providers.toml is read by a test");
    table.into_iter().map(|(name, text)| (name, text.over(&Provider::default()))).collect()
}

pub(super) fn over_shipped<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Provider>, D::Error> {
    let mut providers = shipped();
    for (name, text) in BTreeMap::<String, ProviderText>::deserialize(deserializer)? {
        let merged = text.over(providers.get(&name).unwrap_or(&Provider::default()));
        providers.insert(name, merged);
    }
    Ok(providers)
}

pub(super) fn written_whole<S: Serializer>(
    providers: &BTreeMap<String, Provider>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(providers.iter().map(|(name, provider)| (name, ProviderText::whole(provider))))
}

pub(super) fn over_defaults<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LimitsTable, D::Error> {
    Ok(LimitsTable::deserialize(deserializer)?.over(&LimitsTable::defaults()))
}

/// See [`Node::parse`]: the first mistake in `[limits]` and `[providers]`.
pub(super) fn mistake(node: &Node) -> Option<(Vec<String>, String, String)> {
    let tables =
        node.providers.iter().map(|(name, provider)| (vec!["providers".to_owned(), name.clone()], provider));
    for (keys, provider) in tables {
        if let Some((key, what, advice)) = mistake_of_provider(node, &keys[1], provider) {
            return Some(([keys, vec![key]].concat(), what, advice));
        }
    }
    zero_limit(&node.limits).map(|key| {
        (
            vec!["limits".to_owned(), key.to_owned()],
            format!("{key} is 0"),
            "at least 1 is needed to send".to_owned(),
        )
    })
}

fn zero_limit(limits: &LimitsTable) -> Option<&'static str> {
    let counts = [("sessions", limits.sessions), ("messages_per_session", limits.messages_per_session)];
    counts.into_iter().find(|(_, count)| *count == Some(0)).map(|(key, _)| key)
}

fn mistake_of_provider(node: &Node, name: &str, provider: &Provider) -> Option<(String, String, String)> {
    let zero =
        zero_limit(&provider.limits).or((provider.sessions_total == Some(0)).then_some("sessions_total"));
    if let Some(key) = zero {
        return Some((key.to_owned(), format!("{key} is 0"), "at least 1 is needed to send".to_owned()));
    }
    if provider.mx.is_empty() && !shipped().contains_key(name) {
        let known: Vec<&str> =
            node.providers.keys().map(String::as_str).filter(|known| *known != name).collect();
        let what = format!("the provider `{name}` has no `mx`, so that no site is ever its");
        let advice = format!(
            "add `mx = [\".suffix.example\"]`, or, to change a shipped one: {}",
            fault::suggestion(name, &known)
        );
        return Some(("mx".to_owned(), what, advice));
    }
    for suffix in &provider.mx {
        let labels = suffix.strip_prefix('.').unwrap_or("");
        let well_formed = !labels.is_empty()
            && labels.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            });
        if !well_formed {
            let what = format!("`{suffix}` is no suffix of exchange names");
            let advice =
                "begin it with a dot, end it without one, lower case, like \".google.com\"".to_owned();
            return Some(("mx".to_owned(), what, advice));
        }
        let taken =
            node.providers.iter().find(|(other, provider)| *other != name && provider.mx.contains(suffix));
        if let Some((other, _)) = taken {
            let what = format!("the suffix `{suffix}` belongs to both `{name}` and `{other}`");
            return Some(("mx".to_owned(), what, "leave it to one of them".to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_shipped_providers_pass_the_checks_of_a_file() {
        assert!(shipped().len() > 10);
        assert_eq!(mistake(&Node::default()), None);
        for (name, provider) in shipped() {
            assert!(!provider.mx.is_empty(), "{name} matches nothing");
        }
    }

    #[test]
    fn a_file_changes_a_shipped_provider_key_by_key() {
        let node = Node::parse(Path::new("f"), "[providers.google]\nsessions = 3\n").unwrap();
        let (mine, theirs) = (&node.providers["google"], &shipped()["google"]);
        assert_eq!(mine.limits.sessions, Some(3));
        assert_eq!(
            (&mine.mx, mine.limits.messages_per_session),
            (&theirs.mx, theirs.limits.messages_per_session)
        );
        let text = "[providers.google]\nreplace = true\nmx = [\".google.com\"]\n";
        let node = Node::parse(Path::new("f"), text).unwrap();
        assert_eq!(node.providers["google"].limits, LimitsTable::default());
    }

    #[test]
    fn a_suffix_that_could_never_match_is_refused() {
        for suffix in [".kpnmail.nl.", "google.com", ".", ".Google.com", ""] {
            let text = format!("[providers.x]\nmx = [\"{suffix}\"]\n");
            let message = Node::parse(Path::new("f"), &text).expect_err(suffix).to_string();
            assert!(message.starts_with("f:2:6: "), "{message}");
        }
    }

    #[test]
    fn a_suffix_of_two_providers_is_refused() {
        let message =
            Node::parse(Path::new("f"), "[providers.gmail]\nmx = [\".google.com\"]\n").expect_err("twice");
        assert!(message.to_string().contains("both `gmail` and `google`"), "{message}");
    }
}
