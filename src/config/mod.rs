//! The node's settings: `postroad.toml` made into checked, typed values. Every default is in this module.
//!
//! A file says only what differs from the defaults; `postroad config` prints the merged whole, which
//! reads back to the same settings. Unknown keys are mistakes and say so with file, line and column.
//! What a campaign sends, and to whom, is not here: that is `campaign::manifest`.

pub mod fault;
pub mod limits;
pub mod units;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::Domain;

pub use fault::Fault;
pub use limits::{LimitsTable, Provider, TlsPolicy};
pub use units::{Rate, duration};

/// The file that is read when none is named.
pub const FILE: &str = "postroad.toml";
/// The source and the pool that exist when the file names none.
pub const DEFAULT: &str = "default";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read the settings {}: {error}; name another file with --config", .file.display())]
    Read { file: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Fault(Box<Fault>),
}

/// Settings of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default = "Node::bare")]
pub struct Node {
    /// Where runs live. In a file: relative to the file's folder.
    pub state: PathBuf,
    /// The port of every exchange. Other than 25 only towards a world or a test server.
    pub smtp_port: u16,
    /// EHLO name of sources that have none of their own; `None`: the host's name.
    pub ehlo_name: Option<String>,
    /// Sessions at once on this node.
    pub sessions_total: usize,
    /// Sessions at once from one source.
    pub sessions_per_source: usize,
    /// The journal is on the disk at most this long after an outcome was written; zero: with each group.
    /// What this bounds is lost by a power failure only, never by the end of the process.
    #[serde(with = "duration")]
    pub sync: Duration,
    /// Certificates trusted besides the public roots, PEM. In a file: relative to the file's folder.
    pub tls_ca_file: Option<PathBuf>,
    pub dns: Dns,
    pub timeouts: Timeouts,
    /// Limits of a path (source, site) where no provider's says otherwise.
    #[serde(deserialize_with = "limits::over_defaults")]
    pub limits: LimitsTable,
    /// Never empty once read: without any, `default` binds no address.
    pub sources: BTreeMap<String, Source>,
    /// Weights of sources by pool. Once read there is a `default`: all sources alike if not given.
    pub pools: BTreeMap<String, BTreeMap<String, u32>>,
    /// The shipped providers with the file's on top, key by key.
    #[serde(deserialize_with = "limits::over_shipped", serialize_with = "limits::written_whole")]
    pub providers: BTreeMap<String, Provider>,
}

impl Default for Node {
    fn default() -> Self {
        let mut node = Self::bare();
        node.complete();
        node
    }
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// `address:port`; empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// For one question to one server.
    #[serde(with = "duration")]
    pub timeout: Duration,
    pub attempts: u8,
    /// Look-ups under way at once.
    pub lookups_max: usize,
    /// Answers live at least so long, whatever their TTL.
    #[serde(with = "duration")]
    pub ttl_min: Duration,
    #[serde(with = "duration")]
    pub ttl_max: Duration,
    /// How long "there is no such name" is believed where the answer does not say.
    #[serde(with = "duration")]
    pub negative_ttl: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            lookups_max: 64,
            ttl_min: Duration::from_secs(30),
            ttl_max: Duration::from_secs(86_400),
            negative_ttl: Duration::from_secs(300),
        }
    }
}

/// A local address to send from. Without either address the system chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// The name in EHLO; should resolve to the addresses and back.
    pub ehlo: Option<String>,
}

/// How long each step of a session may take (RFC 5321 §4.5.3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    #[serde(with = "duration")]
    pub connect: Duration,
    #[serde(with = "duration")]
    pub greeting: Duration,
    #[serde(with = "duration")]
    pub ehlo: Duration,
    #[serde(with = "duration")]
    pub starttls: Duration,
    #[serde(with = "duration")]
    pub mail: Duration,
    #[serde(with = "duration")]
    pub rcpt: Duration,
    #[serde(with = "duration")]
    pub data_start: Duration,
    /// Without any octet taken by the peer.
    #[serde(with = "duration")]
    pub content_write: Duration,
    /// The wait for the reply to the end of the content. Shorter makes duplicates (RFC 1047).
    #[serde(with = "duration")]
    pub content_end: Duration,
    #[serde(with = "duration")]
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            connect: minutes(1),
            greeting: minutes(5),
            ehlo: minutes(5),
            starttls: minutes(2),
            mail: minutes(5),
            rcpt: minutes(5),
            data_start: minutes(2),
            content_write: minutes(3),
            content_end: minutes(10),
            quit: Duration::from_secs(5),
        }
    }
}

impl Node {
    /// Reads `path`, or `postroad.toml` of the working folder if it is there, or nothing but defaults.
    ///
    /// # Errors
    /// A file that cannot be read (one that was named must be there) or that has a mistake in it.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(FILE));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(ConfigError::Read { file: file.to_owned(), error }),
        };
        let mut node = Self::parse(file, &text)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        node.state = folder.join(&node.state);
        node.tls_ca_file = node.tls_ca_file.map(|ca| folder.join(ca));
        Ok(node)
    }

    /// Reads and checks the text of a settings file; `file` is for messages only.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let fault = |fault| ConfigError::Fault(Box::new(fault));
        let mut node: Self =
            toml::from_str(text).map_err(|error| fault(Fault::from_toml(file, text, &error)))?;
        node.complete();
        match node.mistake() {
            None => Ok(node),
            Some((keys, what, advice)) => {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                Err(fault(Fault::about(file, text, &keys, what, advice)))
            }
        }
    }

    /// Everything as it will be used; [`Node::parse`] of it gives the same settings.
    pub fn merged_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings hold only strings, numbers, lists and tables")
    }

    /// The EHLO name of `source`: its own, the node's, or the host's.
    pub fn ehlo_of(&self, source: &str) -> String {
        let own = self.sources.get(source).and_then(|source| source.ehlo.clone());
        own.or_else(|| self.ehlo_name.clone()).unwrap_or_else(host_name)
    }

    /// The defaults, without the source and the pool that stand in for none.
    fn bare() -> Self {
        Self {
            state: "state".into(),
            smtp_port: 25,
            ehlo_name: None,
            sessions_total: 1_000,
            sessions_per_source: 500,
            sync: Duration::from_millis(100),
            tls_ca_file: None,
            dns: Dns::default(),
            timeouts: Timeouts::default(),
            limits: LimitsTable::defaults(),
            sources: BTreeMap::new(),
            pools: BTreeMap::new(),
            providers: limits::shipped(),
        }
    }

    fn complete(&mut self) {
        if self.sources.is_empty() {
            self.sources.insert(DEFAULT.to_owned(), Source::default());
        }
        if !self.pools.contains_key(DEFAULT) {
            let all = self.sources.keys().map(|name| (name.clone(), 1)).collect();
            self.pools.insert(DEFAULT.to_owned(), all);
        }
    }

    /// The first thing that types cannot rule out: keys, what is wrong, what to do.
    fn mistake(&self) -> Option<(Vec<String>, String, String)> {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        for (key, zero) in [
            ("smtp_port", self.smtp_port == 0),
            ("sessions_total", self.sessions_total == 0),
            ("sessions_per_source", self.sessions_per_source == 0),
        ] {
            if zero {
                return Some((keys(&[key]), format!("{key} is 0"), "at least 1 is needed to send".into()));
            }
        }
        if self.dns.lookups_max == 0 || self.dns.attempts == 0 {
            let key = if self.dns.attempts == 0 { "attempts" } else { "lookups_max" };
            return Some((keys(&["dns", key]), format!("{key} is 0"), "at least 1 is needed".into()));
        }
        let times = [
            ("dns", "timeout", self.dns.timeout),
            ("timeouts", "connect", self.timeouts.connect),
            ("timeouts", "greeting", self.timeouts.greeting),
            ("timeouts", "ehlo", self.timeouts.ehlo),
            ("timeouts", "starttls", self.timeouts.starttls),
            ("timeouts", "mail", self.timeouts.mail),
            ("timeouts", "rcpt", self.timeouts.rcpt),
            ("timeouts", "data_start", self.timeouts.data_start),
            ("timeouts", "content_write", self.timeouts.content_write),
            ("timeouts", "content_end", self.timeouts.content_end),
        ];
        if let Some((table, key, _)) = times.iter().find(|(.., time)| time.is_zero()) {
            let advice = "nothing answers in no time; give a time like \"5m\", or leave it out";
            return Some((keys(&[table, key]), format!("{key} is 0"), advice.into()));
        }
        let names =
            self.sources.iter().filter_map(|(name, source)| Some((Some(name), source.ehlo.as_ref()?)));
        for (source, ehlo) in names.chain(self.ehlo_name.iter().map(|ehlo| (None, ehlo))) {
            if let Err(error) = Domain::parse(ehlo) {
                let place =
                    source.map_or_else(|| keys(&["ehlo_name"]), |name| keys(&["sources", name, "ehlo"]));
                let what = format!("`{ehlo}` is no host name for EHLO: {error}");
                return Some((place, what, "give a full name like mail.sender.example".into()));
            }
        }
        for (pool, weights) in &self.pools {
            if weights.values().all(|weight| *weight == 0) {
                let what = format!("the pool `{pool}` has no source with a weight above zero");
                return Some((keys(&["pools", pool]), what, "give it one, like `name = 1`".into()));
            }
            if let Some(unknown) = weights.keys().find(|name| !self.sources.contains_key(*name)) {
                let known: Vec<&str> = self.sources.keys().map(String::as_str).collect();
                let what =
                    format!("the pool `{pool}` uses the source `{unknown}`, which is not in [sources]");
                return Some((keys(&["pools", pool, unknown]), what, fault::suggestion(unknown, &known)));
            }
        }
        limits::mistake(self)
    }
}

/// This host's name, as the kernel knows it.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if Domain::parse(&name).is_ok() { name } else { "localhost.localdomain".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Node::parse(Path::new("postroad.toml"), text).expect_err("a mistake").to_string()
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let node = Node::parse(Path::new("f"), "").unwrap();
        assert_eq!(node, Node::default());
        assert_eq!(node.timeouts.content_end, Duration::from_secs(600));
        assert_eq!(node.sources.keys().collect::<Vec<_>>(), ["default"]);
        assert_eq!(node.pools["default"]["default"], 1);
    }

    #[test]
    fn sources_alone_make_the_default_pool() {
        let node = Node::parse(Path::new("f"), "[sources.a]\n[sources.b]\n").unwrap();
        assert_eq!(node.pools["default"], BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1)]));
    }

    #[test]
    fn the_merged_settings_read_back_as_they_are() {
        let text = r#"
            ehlo_name = "out.sender.example"
            [sources.a]
            ipv4 = "192.0.2.1"
            [sources.b]
            ipv6 = "2001:db8::1"
            ehlo = "b.sender.example"
            [pools.bulk]
            a = 3
            [limits]
            sessions = 3
            [providers.google]
            sessions = 2
            [providers.mine]
            mx = [".mine.example"]
            messages = "10/s burst 5"
        "#;
        let node = Node::parse(Path::new("f"), text).unwrap();
        assert_eq!(Node::parse(Path::new("f"), &node.merged_toml()).unwrap(), node);
        let node = Node::default();
        assert_eq!(Node::parse(Path::new("f"), &node.merged_toml()).unwrap(), node);
    }

    #[test]
    fn an_unknown_key_is_told_with_line_and_column_and_what_would_do() {
        let message = fault("state = \"s\"\n\n[dns]\n  timout = \"5s\"\n");
        assert!(
            message.starts_with("postroad.toml:4:3: unknown key `timout`; did you mean `timeout`?"),
            "{message}"
        );
    }

    #[test]
    fn a_value_of_the_wrong_shape_is_told_with_its_place() {
        let message = fault("[limits]\nmessages = \"fast\"\n");
        assert!(message.starts_with("postroad.toml:2:12: `fast` is no rate"), "{message}");
        let message = fault("sessions_total = \"many\"\n");
        assert!(message.starts_with("postroad.toml:1:18: "), "{message}");
        let message = fault("[providers.x]\nmx = [\".x.example\"]\nsessions_totl = 3\n");
        assert!(
            message.starts_with(
                "postroad.toml:3:1: unknown key `sessions_totl`; did you mean `sessions_total`?"
            ),
            "{message}"
        );
    }

    #[test]
    fn what_could_never_work_is_refused_with_what_would() {
        let message = fault("[dns]\nservers = [\"192.0.2.53\"]\n");
        assert!(message.starts_with("postroad.toml:2:") && message.contains(":53\""), "{message}");
        let message = fault("[sources.a]\nipv4 = \"mail.example\"\n");
        assert!(message.contains("like \"192.0.2.1\""), "{message}");
        let message = fault("[timeouts]\nmail = \"0s\"\n");
        assert!(message.starts_with("postroad.toml:2:8: mail is 0; "), "{message}");
    }

    #[test]
    fn a_pool_of_an_unknown_source_is_refused() {
        let message = fault("[sources.a]\n[pools.p]\nb = 1\n");
        assert!(message.starts_with("postroad.toml:3:5: the pool `p` uses the source `b`"), "{message}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(&file, "state = \"here\"\ntls_ca_file = \"ca.pem\"\n").unwrap();
        let node = Node::load(Some(&file)).unwrap();
        assert_eq!(node.state, folder.path().join("here"));
        assert_eq!(node.tls_ca_file, Some(folder.path().join("ca.pem")));
        assert!(Node::load(Some(&folder.path().join("gone.toml"))).is_err());
    }
}
