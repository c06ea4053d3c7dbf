//! What a source is: an address of this machine, a proxy to go out through, or a relay to hand mail to.
//!
//! Secrets are named, by environment variable or by file, and never stand in the settings themselves; so
//! settings can be shown to anybody. Reading them is [`SecretPlace::read`], done when they are used.

mod check;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::units::Rate;
use crate::address::Domain;

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

/// A SOCKS5 proxy. The protocol shows user name and password in clear to whoever is on the way to it.
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

/// A HAProxy that listens with `accept-proxy` and connects from and to what the header says:
/// `source 0.0.0.0 usesrc clientip` and `server any 0.0.0.0`.
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
