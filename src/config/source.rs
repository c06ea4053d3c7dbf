//! What a source is: an address of this machine, a proxy to go out through, or a relay to hand mail to.
//!
//! Secrets are named, by environment variable or by file, and never stand in the settings themselves; so
//! settings can be shown to anybody. Reading them is [`SecretPlace::read`], done when they are used.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::Rate;
use crate::address::Domain;

/// Octets of a SOCKS5 user name or password at most (RFC 1929 §2).
const SOCKS5_OCTETS_MAX: usize = 255;

/// A way for mail to leave. Without either address the system chooses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// An address of this machine to connect from; with `proxy_protocol` one of the proxy's machine.
    /// Once an address is given, exchanges of a family without one are passed over.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// The name in EHLO; should resolve to the addresses that peers see, and back.
    pub ehlo: Option<String>,
    /// Connections go out through this SOCKS5 proxy (RFC 1928).
    pub socks5: Option<Socks5>,
    /// Connections go out through this HAProxy, which is told from where to where.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// All mail goes to this relay, whatever the recipient's domain.
    pub relay: Option<Relay>,
    /// Planned growth of what it sends; `None`: it is warm.
    pub warmup: Option<super::policy::WarmupUse>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socks5 {
    pub address: SocketAddr,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub password_env: Option<String>,
    /// In a file: relative to the file's folder.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    pub address: SocketAddr,
}

/// A smart host: a server that takes mail for anybody from those it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// A host name or an IP address. The certificate must be valid for it.
    pub host: String,
    /// Absent: 587 for `starttls`, 465 for `implicit`, 25 for `off`.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: RelayTls,
    /// Says that `tls = "off"` towards another machine is meant.
    #[serde(default)]
    pub insecure: bool,
    #[serde(default)]
    pub auth: Option<Auth>,
    /// What the account allows, over all recipients' domains: `"14/s"`, or a list of which all hold.
    #[serde(default, with = "rates")]
    pub messages: Vec<Rate>,
    /// Sessions at once over all domains.
    #[serde(default)]
    pub sessions: Option<u32>,
    #[serde(default)]
    pub messages_per_session: Option<u32>,
}

/// How a session with a relay is protected. Certificates are always verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayTls {
    /// From the first octet (RFC 8314 §3.3).
    Implicit,
    /// After STARTTLS, or no session at all.
    #[default]
    Starttls,
    Off,
}

/// Who we are to a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub user: String,
    /// Absent: the best that the relay offers.
    #[serde(default)]
    pub method: Option<Mechanism>,
    #[serde(default)]
    pub password_env: Option<String>,
    /// In a file: relative to the file's folder. Read anew for each session.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// An OAuth 2.0 bearer token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// As `password_file`, so that whoever renews the token only writes the file.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// A SASL mechanism that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// RFC 4616
    Plain,
    /// Never standardised (draft-murchison-sasl-login), offered everywhere.
    Login,
    /// RFC 2195
    CramMd5,
    /// RFC 7677
    ScramSha256,
    /// Google's and Microsoft's forerunner of OAUTHBEARER.
    Xoauth2,
    /// RFC 7628
    Oauthbearer,
}

impl Mechanism {
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::Login, Self::CramMd5, Self::ScramSha256, Self::Xoauth2, Self::Oauthbearer];

    /// Whether it shows a token instead of a password.
    pub fn is_for_tokens(self) -> bool {
        matches!(self, Self::Xoauth2 | Self::Oauthbearer)
    }
}

/// Where a password or a token is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// An environment variable.
    Env(String),
    File(PathBuf),
}

/// A password or a token; not shown by `Debug`, and by nothing else either.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the wire and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret cannot be had; never says what is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    #[error("the environment variable {0}, which should hold a secret, is not set or is no text")]
    Env(String),
    #[error("the secret in {} cannot be read: {error}", .file.display())]
    File { file: PathBuf, error: std::io::Error },
    #[error("{0} is empty or has a control character in it, and so is no secret")]
    Unusable(String),
}

impl SecretPlace {
    /// Reads it, without the line end that editors leave.
    ///
    /// # Errors
    /// It is not there, empty, or has characters that no mechanism takes.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let (text, place) = match self {
            Self::Env(name) => {
                (std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?, name.clone())
            }
            Self::File(file) => {
                let read = std::fs::read_to_string(file);
                let text = read.map_err(|error| SecretError::File { file: file.clone(), error })?;
                (text, file.display().to_string())
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(SecretError::Unusable(place));
        }
        Ok(Secret(text.to_owned()))
    }

    fn of(env: Option<&String>, file: Option<&PathBuf>) -> Option<Self> {
        env.cloned().map(Self::Env).or_else(|| file.cloned().map(Self::File))
    }
}

/// The machine of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayHost {
    Name(Domain),
    Address(IpAddr),
    /// RFC 6761 §6.3: no look-up is needed.
    Localhost,
}

impl Socks5 {
    /// Where the password is; `None` without a user name.
    pub fn password(&self) -> Option<SecretPlace> {
        SecretPlace::of(self.password_env.as_ref(), self.password_file.as_ref())
    }
}

impl Relay {
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            RelayTls::Implicit => 465,
            RelayTls::Starttls => 587,
            RelayTls::Off => 25,
        })
    }

    /// `None` where `host` is neither a name nor an address, which is not so in settings that were read.
    pub fn machine(&self) -> Option<RelayHost> {
        if self.host.eq_ignore_ascii_case("localhost") {
            return Some(RelayHost::Localhost);
        }
        let address = self.host.parse().map(RelayHost::Address);
        address.ok().or_else(|| Domain::parse(&self.host).ok().map(RelayHost::Name))
    }
}

impl Auth {
    /// Where the password or token is.
    pub fn secret(&self) -> Option<SecretPlace> {
        SecretPlace::of(self.password_env.as_ref(), self.password_file.as_ref())
            .or_else(|| SecretPlace::of(self.token_env.as_ref(), self.token_file.as_ref()))
    }

    pub fn is_token(&self) -> bool {
        self.token_env.is_some() || self.token_file.is_some()
    }
}

impl Source {
    /// Makes paths relative to `folder`.
    pub(super) fn relate(&mut self, folder: &Path) {
        let auth = self.relay.as_mut().and_then(|relay| relay.auth.as_mut());
        let files = [
            self.socks5.as_mut().and_then(|socks5| socks5.password_file.as_mut()),
            auth.and_then(|auth| auth.password_file.as_mut().or(auth.token_file.as_mut())),
        ];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }

    /// What types cannot rule out: keys below the source's, what is wrong, what to do.
    pub(super) fn mistake(&self) -> Option<(Vec<&'static str>, String, &'static str)> {
        if let Some(ehlo) = &self.ehlo
            && let Err(error) = Domain::parse(ehlo)
        {
            let what = format!("`{ehlo}` is no host name for EHLO: {error}");
            return Some((vec!["ehlo"], what, "give a full name like mail.sender.example"));
        }
        if self.proxy_protocol.is_some() {
            if self.socks5.is_some() {
                let what = "a source goes out through one proxy, and this has two".to_owned();
                return Some((vec!["socks5"], what, "leave out `socks5` or `proxy_protocol`"));
            }
            if self.ipv4.is_none() && self.ipv6.is_none() {
                let what = "the PROXY protocol says from which address to connect, and there is none";
                let advice = "give `ipv4` or `ipv6`, an address of the proxy's machine";
                return Some((vec!["proxy_protocol"], what.to_owned(), advice));
            }
        }
        let of_socks5 = self.socks5.as_ref().and_then(Socks5::mistake);
        if let Some((key, what, advice)) = of_socks5 {
            return Some((vec!["socks5", key], what, advice));
        }
        let (keys, what, advice) = self.relay.as_ref()?.mistake()?;
        Some(([vec!["relay"], keys].concat(), what, advice))
    }
}

impl Socks5 {
    fn mistake(&self) -> Option<(&'static str, String, &'static str)> {
        let passwords = usize::from(self.password_env.is_some()) + usize::from(self.password_file.is_some());
        match (&self.user, passwords) {
            (None, 0) => None,
            (Some(user), 1) => (user.is_empty() || user.len() > SOCKS5_OCTETS_MAX).then(|| {
                let what = format!("a SOCKS5 user name has 1 to {SOCKS5_OCTETS_MAX} octets");
                ("user", what, "give the name that the proxy knows")
            }),
            _ => Some((
                "user",
                "a user name and one place of its password go together".to_owned(),
                "give `user` and either `password_env` or `password_file`, or none of them",
            )),
        }
    }
}

impl Relay {
    fn mistake(&self) -> Option<(Vec<&'static str>, String, &'static str)> {
        let Some(machine) = self.machine() else {
            let what = format!("`{}` is neither a host name nor an IP address", self.host);
            return Some((vec!["host"], what, "give a full name like smtp.relay.example"));
        };
        for (key, zero) in [
            ("port", self.port == Some(0)),
            ("sessions", self.sessions == Some(0)),
            ("messages_per_session", self.messages_per_session == Some(0)),
        ] {
            if zero {
                return Some((vec![key], format!("{key} is 0"), "at least 1 is needed to send"));
            }
        }
        let is_here = match machine {
            RelayHost::Localhost => true,
            RelayHost::Address(address) => address.is_loopback(),
            RelayHost::Name(_) => false,
        };
        if self.tls == RelayTls::Off && !is_here {
            if self.auth.is_some() {
                let what = "without TLS the user's secret could be had by anybody on the way".to_owned();
                return Some((vec!["tls"], what, "use \"starttls\" or \"implicit\""));
            }
            if !self.insecure {
                let what = "without TLS anybody on the way can read the mail".to_owned();
                let advice = "use \"starttls\" or \"implicit\", or say `insecure = true` if it is meant";
                return Some((vec!["tls"], what, advice));
            }
        }
        let (key, what, advice) = self.auth.as_ref()?.mistake()?;
        Some((vec!["auth", key], what, advice))
    }
}

impl Auth {
    fn mistake(&self) -> Option<(&'static str, String, &'static str)> {
        if self.user.is_empty() || self.user.chars().any(char::is_control) {
            let what = "the user name is empty or has a control character in it".to_owned();
            return Some(("user", what, "give the name that the relay knows"));
        }
        let places = [self.password_env.is_some(), self.password_file.is_some()];
        let places = places.into_iter().chain([self.token_env.is_some(), self.token_file.is_some()]);
        if places.filter(|is_there| *is_there).count() != 1 {
            let what = "one place of a password or a token is needed".to_owned();
            let advice = "give one of `password_env`, `password_file`, `token_env`, `token_file`";
            return Some(("user", what, advice));
        }
        match self.method {
            Some(method) if method.is_for_tokens() != self.is_token() => {
                let (what, advice) = match self.is_token() {
                    true => ("takes a password, not a token", "use \"xoauth2\" or \"oauthbearer\""),
                    false => ("takes a token, not a password", "give `token_env` or `token_file`"),
                };
                Some(("method", format!("{} {what}", written(method)), advice))
            }
            _ => None,
        }
    }
}

/// As it stands in settings.
fn written(method: Mechanism) -> &'static str {
    match method {
        Mechanism::Plain => "plain",
        Mechanism::Login => "login",
        Mechanism::CramMd5 => "cram-md5",
        Mechanism::ScramSha256 => "scram-sha-256",
        Mechanism::Xoauth2 => "xoauth2",
        Mechanism::Oauthbearer => "oauthbearer",
    }
}

/// One rate, or a list of them.
mod rates {
    use super::*;

    pub fn serialize<S: Serializer>(rates: &[Rate], serializer: S) -> Result<S::Ok, S::Error> {
        match rates {
            [rate] => rate.serialize(serializer),
            rates => serializer.collect_seq(rates),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rate>, D::Error> {
        struct Rates;

        impl<'de> Visitor<'de> for Rates {
            type Value = Vec<Rate>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate like \"14/s\", or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(|rate| vec![rate]).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut rates = Vec::new();
                while let Some(rate) = list.next_element()? {
                    rates.push(rate);
                }
                Ok(rates)
            }
        }

        deserializer.deserialize_any(Rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Node;

    fn parse(text: &str) -> Result<Node, String> {
        Node::parse(Path::new("f"), text).map_err(|error| error.to_string())
    }

    fn fault(text: &str) -> String {
        parse(text).expect_err(text)
    }

    #[test]
    fn the_shipped_examples_are_settings() {
        let node = parse(include_str!("../../data/relays.toml")).unwrap();
        for name in ["ses", "sendgrid", "mailgun", "emaillabs", "mailslurp", "company"] {
            let relay = node.sources[name].relay.as_ref().unwrap_or_else(|| panic!("{name} is no relay"));
            assert!(matches!(relay.machine(), Some(RelayHost::Name(_))), "{name}");
            assert_ne!(relay.tls, RelayTls::Off, "{name}");
            assert!(relay.auth.is_some(), "{name}");
        }
        assert_eq!(parse(&node.merged_toml()).unwrap(), node);
    }

    #[test]
    fn a_relay_needs_next_to_nothing() {
        let node = parse("[sources.a.relay]\nhost = \"smtp.relay.example\"\n").unwrap();
        let relay = node.sources["a"].relay.clone().unwrap();
        assert_eq!((relay.tls, relay.port(), relay.auth), (RelayTls::Starttls, 587, None));
        let of = |tls: &str| {
            let text = format!("[sources.a.relay]\nhost = \"127.0.0.1\"\ntls = \"{tls}\"\n");
            parse(&text).unwrap().sources["a"].relay.as_ref().unwrap().port()
        };
        assert_eq!((of("implicit"), of("off")), (465, 25));
    }

    #[test]
    fn account_limits_are_one_rate_or_several() {
        let rates = |messages: &str| {
            let text = format!("[sources.a.relay]\nhost = \"smtp.relay.example\"\nmessages = {messages}\n");
            let node = parse(&text)?;
            assert_eq!(parse(&node.merged_toml()).unwrap(), node);
            Ok::<_, String>(node.sources["a"].relay.clone().unwrap().messages)
        };
        assert_eq!(rates("\"14/s\"").unwrap(), ["14/s".parse().unwrap()]);
        let both: [Rate; 2] = ["14/s".parse().unwrap(), "50,000/day".parse().unwrap()];
        assert_eq!(rates("[\"14/s\", \"50,000/day\"]").unwrap(), both);
        assert!(rates("14").unwrap_err().contains("a rate like"));
        assert!(rates("[\"fast\"]").unwrap_err().contains("is no rate"));
    }

    #[test]
    fn what_cannot_work_or_would_show_a_secret_is_refused() {
        const RELAY: &str = "[sources.a.relay]\nhost = \"smtp.relay.example\"\n";
        const AUTH: &str = "auth = { user = \"me\", password_env = \"P\" }\n";
        for (text, wanted) in [
            ("[sources.a.relay]\nhost = \"not a name\"\n".into(), "neither a host name"),
            (format!("{RELAY}port = 0\n"), "port is 0"),
            (format!("{RELAY}sessions = 0\n"), "sessions is 0"),
            (format!("{RELAY}tls = \"off\"\n"), "insecure = true"),
            (format!("{RELAY}tls = \"off\"\ninsecure = true\n{AUTH}"), "secret could be had"),
            (format!("{RELAY}auth = {{ user = \"me\" }}\n"), "one place of a password"),
            (format!("{RELAY}auth = {{ user = \"me\", password = \"x\" }}\n"), "unknown key `password`"),
            (
                format!("{RELAY}auth = {{ user = \"m\", password_env = \"P\", token_file = \"t\" }}\n"),
                "one place",
            ),
            (
                format!("{RELAY}auth = {{ user = \"m\", password_env = \"P\", method = \"xoauth2\" }}\n"),
                "takes a token",
            ),
            (
                format!("{RELAY}auth = {{ user = \"m\", token_env = \"T\", method = \"plain\" }}\n"),
                "takes a password",
            ),
            ("[sources.a]\nproxy_protocol = { address = \"127.0.0.1:1\" }\n".into(), "there is none"),
            (
                "[sources.a]\nipv4 = \"127.0.0.1\"\nproxy_protocol = { address = \"127.0.0.1:1\" }\n\
                 socks5 = { address = \"127.0.0.1:1\" }\n"
                    .into(),
                "has two",
            ),
            ("[sources.a]\nsocks5 = { address = \"127.0.0.1:1\", user = \"u\" }\n".into(), "go together"),
            ("[sources.a]\nehlo = \"nodots\"\n".into(), "no host name for EHLO"),
        ] {
            let said = fault(&text);
            assert!(said.contains(wanted), "{text}\n{said}");
        }
        let meant = format!("{RELAY}tls = \"off\"\ninsecure = true\n");
        assert!(parse(&meant).is_ok());
        assert!(parse(&format!("[sources.a.relay]\nhost = \"localhost\"\ntls = \"off\"\n{AUTH}")).is_ok());
    }

    #[test]
    fn secrets_are_read_without_their_line_end_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "päss word\r\n").unwrap();
        let place = SecretPlace::File(file.clone());
        let secret = place.read().unwrap();
        assert_eq!(secret.expose(), "päss word");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for bad in ["", "\n", "two\nlines", "nul\0"] {
            std::fs::write(&file, bad).unwrap();
            let error = place.read().unwrap_err();
            assert!(matches!(error, SecretError::Unusable(_)), "{bad:?}: {error}");
        }
        assert!(SecretPlace::File(folder.path().join("gone")).read().is_err());
        assert!(SecretPlace::Env("POSTROAD_NO_SUCH_VARIABLE".into()).read().is_err());
    }

    #[test]
    fn files_of_secrets_are_relative_to_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        let text = "[sources.a]\nsocks5 = { address = \"127.0.0.1:1\", user = \"u\", password_file = \"s\" }\n\
                    [sources.a.relay]\nhost = \"smtp.relay.example\"\n\
                    auth = { user = \"m\", token_file = \"t\" }\n";
        std::fs::write(&file, text).unwrap();
        let source = &Node::load(Some(&file)).unwrap().sources["a"];
        assert_eq!(source.socks5.as_ref().unwrap().password_file, Some(folder.path().join("s")));
        let auth = source.relay.as_ref().unwrap().auth.as_ref().unwrap();
        assert_eq!(auth.secret(), Some(SecretPlace::File(folder.path().join("t"))));
    }
}
