//! The node's settings: `postroad.toml` made into checked, typed values. Every default is in this module.
//!
//! A file says only what differs from the defaults; `postroad config` prints the merged whole, which
//! reads back to the same settings. Unknown keys are mistakes and say so with file, line and column.
//! What a campaign sends, and to whom, is not here: that is `campaign::manifest`.

pub mod check;
pub mod dkim;
pub mod fault;
pub mod limits;
pub mod policy;
pub mod source;
pub mod spam;
pub mod stamp;
pub mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::address::Domain;
use crate::shaping::Tables;

pub use check::Check;
pub use dkim::DkimKey;
pub use fault::Fault;
pub use limits::{Timeouts, TlsPolicy};
pub use source::{Mechanism, RelayTls, Source};
pub use stamp::Stamp;
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
    #[error("{}", fault::listed(.0))]
    Faults(Vec<Fault>),
}

impl ConfigError {
    /// Mistakes with their places; of a `file` that cannot be read, its first line.
    pub fn into_faults(self, file: &Path) -> Vec<Fault> {
        match self {
            Self::Faults(faults) => faults,
            Self::Fault(fault) => vec![*fault],
            error @ Self::Read { .. } => {
                let (what, advice) = (error.to_string(), String::new());
                vec![Fault { file: file.to_owned(), line: 1, column: 1, what, advice }]
            }
        }
    }
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
    /// Never empty once read: without any, `default` binds no address.
    pub sources: BTreeMap<String, Source>,
    /// Weights of sources by pool. Once read there is a `default`: all sources alike if not given.
    pub pools: BTreeMap<String, BTreeMap<String, u32>>,
    /// Files of reply rules, over the shipped ones. In a file: relative to the file's folder.
    pub reply_files: Vec<PathBuf>,
    /// Whether replies change rates, sessions and sources; if not, limits stay as they are written.
    pub adapt: bool,
    /// Schedules, and the sending domains that are warmed up; a source names its own.
    pub warmup: policy::Warmups,
    /// When bounces, complaints and deferrals warn, slow down and pause.
    pub breakers: policy::Breakers,
    pub reputation: policy::Reputation,
    pub check: Check,
    /// Files of limits, a later one over an earlier. In a file: relative to the file's folder.
    pub shaping_files: Vec<PathBuf>,
    /// Everything that is said about limits: what is shipped, the files over it, `[shaping]` over them.
    #[serde(deserialize_with = "read_later")]
    pub shaping: Tables,
    /// Keys that sign campaigns which have none of their own, chosen by the From domain.
    pub dkim: Vec<DkimKey>,
    /// What these settings were read from, and are read from again when it changes.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// `[shaping]` is read apart, with the places of its values.
fn read_later<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tables, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| Tables::shipped())
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
        let (mut node, inline) = Self::read(file, &text)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        node.state = folder.join(&node.state);
        node.tls_ca_file = node.tls_ca_file.map(|ca| folder.join(ca));
        let files = node.shaping_files.iter_mut().chain(&mut node.reply_files);
        files.for_each(|file| *file = folder.join(&*file));
        node.sources.values_mut().for_each(|source| source.relate(folder));
        node.dkim.iter_mut().for_each(|key| key.relate(folder));
        node.file = Some(file.to_owned());
        node.shape(inline)?;
        Ok(node)
    }

    /// Reads and checks the text of a settings file, without the shaping files it names; `file` is for
    /// messages only.
    ///
    /// # Errors
    /// The first mistake found, or all there are in what is said about limits.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let (mut node, inline) = Self::read(file, text)?;
        let files = std::mem::take(&mut node.shaping_files);
        node.shape(inline)?;
        node.shaping_files = files;
        Ok(node)
    }

    /// The settings, and what their `[shaping]` says.
    fn read(file: &Path, text: &str) -> Result<(Self, Tables), ConfigError> {
        let fault = |fault| ConfigError::Fault(Box::new(fault));
        let mut node: Self =
            toml::from_str(text).map_err(|error| fault(Fault::from_toml(file, text, &error)))?;
        node.complete();
        if let Some((keys, what, advice)) = node.mistake() {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            return Err(fault(Fault::about(file, text, &keys, what, advice)));
        }
        Ok((node, Tables::read(file, text, Some("shaping")).map_err(ConfigError::Faults)?))
    }

    /// Lays what is shipped, the shaping files and `inline` over each other.
    fn shape(&mut self, inline: Tables) -> Result<(), ConfigError> {
        self.shaping = Tables::gathered(&self.shaping_files, inline).map_err(ConfigError::Faults)?;
        let sources: Vec<&str> = self.sources.keys().map(String::as_str).collect();
        self.shaping.check(Some(&sources)).map_err(ConfigError::Faults)
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
            sources: BTreeMap::new(),
            pools: BTreeMap::new(),
            reply_files: Vec::new(),
            adapt: true,
            warmup: policy::Warmups::default(),
            breakers: policy::Breakers::default(),
            reputation: policy::Reputation::default(),
            check: Check::default(),
            shaping_files: Vec::new(),
            shaping: Tables::shipped(),
            dkim: Vec::new(),
            file: None,
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
        if self.dns.timeout.is_zero() {
            let advice = "nothing answers in no time; give a time like \"5s\", or leave it out";
            return Some((keys(&["dns", "timeout"]), "timeout is 0".into(), advice.into()));
        }
        if let Some(ehlo) = &self.ehlo_name
            && let Err(error) = Domain::parse(ehlo)
        {
            let what = format!("`{ehlo}` is no host name for EHLO: {error}");
            return Some((keys(&["ehlo_name"]), what, "give a full name like mail.sender.example".into()));
        }
        if let Some((below, what, advice)) = self.check.mistake() {
            return Some(([keys(&["check"]), below].concat(), what, advice));
        }
        for (name, source) in &self.sources {
            if let Some((below, what, advice)) = source.mistake() {
                let place = [vec!["sources", name], below].concat();
                return Some((keys(&place), what, advice.into()));
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
        if let Some(([at, key], what, advice)) = dkim::mistake(&self.dkim) {
            return Some((vec!["dkim".to_owned(), at, key], what, advice.into()));
        }
        policy::mistake(self)
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
            [shaping.default]
            sessions = 3
            [shaping.provider.google]
            sessions = 2
            unset = ["messages_per_session", "timeouts.mail"]
            [shaping.provider.mine]
            mx = [".mine.example"]
            messages = ["10/s burst 5", "1,000/day"]
            [shaping.provider.mine.timeouts]
            connect = "3s"
            [shaping.domain."own.example"]
            retry = ["5m", "1h"]
            [shaping.source.a]
            idle = "0s"
        "#;
        let node = Node::parse(Path::new("f"), text).unwrap();
        assert_eq!(Node::parse(Path::new("f"), &node.merged_toml()).unwrap(), node);
        let node = Node::default();
        assert_eq!(Node::parse(Path::new("f"), &node.merged_toml()).unwrap(), node);
    }

    #[test]
    fn a_block_list_that_is_no_name_is_told_where_it_stands() {
        let message = fault("[check]\ndnsbl = [\"zen.blocklist.example\", \"192.0.2.1\"]\n");
        assert!(message.starts_with("postroad.toml:2:") && message.contains("`192.0.2.1`"), "{message}");
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
        let message = fault("[shaping.default]\nmessages = \"fast\"\n");
        assert!(message.starts_with("postroad.toml:2:12: `fast` is no rate"), "{message}");
        let message = fault("sessions_total = \"many\"\n");
        assert!(message.starts_with("postroad.toml:1:18: "), "{message}");
        let message = fault("[shaping.provider.x]\nmx = [\".x.example\"]\nsessions_totl = 3\n");
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
        let message = fault("[shaping.default.timeouts]\nmail = \"0s\"\n");
        assert!(message.starts_with("postroad.toml:2:8: mail is 0; "), "{message}");
    }

    #[test]
    fn a_pool_of_an_unknown_source_is_refused() {
        let message = fault("[sources.a]\n[pools.p]\nb = 1\n");
        assert!(message.starts_with("postroad.toml:3:5: the pool `p` uses the source `b`"), "{message}");
    }

    #[test]
    fn keys_are_shown_by_name_and_mistakes_in_them_told_with_their_place() {
        let key = "[[dkim]]\ndomain = \"sender.test\"\nselector = \"s1\"\n";
        let text = format!("{key}key_env = \"KEY\"\nsince = 2026-12-01\n[sources.a]\n");
        let node = Node::parse(Path::new("f"), &text).unwrap();
        assert_eq!(Node::parse(Path::new("f"), &node.merged_toml()).unwrap(), node);
        assert!(node.merged_toml().contains("key_env = \"KEY\""), "{}", node.merged_toml());
        let message = fault(&format!("{key}key_env = \"A\"\n{key}key_env = \"B\"\n"));
        assert!(message.starts_with("postroad.toml:7:12: there are two keys"), "{message}");
        let message = fault(key);
        assert!(message.starts_with("postroad.toml:3:12: the key `s1` has no place"), "{message}");
        let message = fault(&key.replace("sender.test", "sender"));
        assert!(message.starts_with("postroad.toml:2:10: `sender` is no mail domain"), "{message}");
        let message = fault(&format!("{key}keyfile = \"x\"\n"));
        assert!(message.starts_with("postroad.toml:4:1: unknown key `keyfile`"), "{message}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        let key = "[[dkim]]\ndomain = \"a.test\"\nselector = \"s\"\nkey_file = \"k.pem\"\n";
        std::fs::write(&file, format!("state = \"here\"\ntls_ca_file = \"ca.pem\"\n{key}")).unwrap();
        let node = Node::load(Some(&file)).unwrap();
        assert_eq!(node.dkim[0].key_file, Some(folder.path().join("k.pem")));
        assert_eq!(node.state, folder.path().join("here"));
        assert_eq!(node.tls_ca_file, Some(folder.path().join("ca.pem")));
        assert!(Node::load(Some(&folder.path().join("gone.toml"))).is_err());
    }
}
