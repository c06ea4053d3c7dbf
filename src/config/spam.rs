//! Which spam filters the check before sending asks, and where they listen.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// None of them by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spam {
    /// SpamAssassin's daemon.
    pub spamd: Option<Place>,
    /// A worker of Rspamd that scans: `normal`, or `controller` with a password.
    pub rspamd: Option<Place>,
    /// The environment variable that holds the password; none for a worker that asks for none.
    pub rspamd_password_env: Option<String>,
}

/// Where a daemon of this machine or another listens: `host:port`, or the path of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Host and port; the host is a name, an IPv4 address or an IPv6 address in brackets.
    Tcp(String),
    /// Absolute.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let is_host = |host: &str| match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
            None => !host.is_empty() && !host.contains([':', '/', '@', ' ']),
        };
        match text.rsplit_once(':') {
            Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(format!(
                "`{text}` is no place of a daemon: write it like \"127.0.0.1:783\", \"[::1]:783\" or \
                 \"/run/spamd.sock\""
            )),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(place) => f.write_str(place),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_port_or_a_path_and_reads_back() {
        for text in ["127.0.0.1:783", "[::1]:11333", "scorer.sender.test:783", "/run/spamd.sock"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["127.0.0.1", ":783", "::1:783", "a:0", "a:65536", "http://a:1/x", "run/spamd.sock", ""] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_settings_read_back_as_they_are() {
        let text = "spamd = \"/run/spamd.sock\"\nrspamd = \"[::1]:11333\"\nrspamd_password_env = \"P\"\n";
        let spam: Spam = toml::from_str(text).unwrap();
        assert_eq!(toml::from_str::<Spam>(&toml::to_string(&spam).unwrap()).unwrap(), spam);
        assert_eq!(toml::from_str::<Spam>("").unwrap(), Spam::default());
        let mistake = toml::from_str::<Spam>("spamd = \"783\"\n").unwrap_err().to_string();
        assert!(mistake.contains("write it like \"127.0.0.1:783\""), "{mistake}");
    }
}
