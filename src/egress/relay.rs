//! A relay as the paths of its source see it: where it is, what its account allows, who runs it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::config::source::RelayHost;
use crate::outcome::Failure;
use crate::shaping::Limits;
use crate::shaping::rate::Pace;
use crate::site::Resolver;
use crate::smtp::{Endpoint, Submission};

/// The smart host of a source.
#[derive(Debug, Clone)]
pub struct Relay {
    pub host: RelayHost,
    pub port: u16,
    pub submission: Submission,
    /// Whose rules its replies are read by: the provider that the host's name is one of.
    pub provider: Option<Arc<str>>,
    /// What the account allows, shared by all paths of the source.
    pub messages: Vec<Arc<Pace>>,
    pub sessions: Option<u32>,
    pub messages_per_session: Option<u32>,
}

impl Relay {
    /// All its addresses.
    ///
    /// # Errors
    /// It has none, or they cannot be learned now.
    pub async fn endpoints(&self, resolver: &Resolver) -> Result<Vec<Endpoint>, Failure> {
        let (host, addresses): (&str, Vec<IpAddr>) = match &self.host {
            RelayHost::Name(name) => {
                let found = resolver.addresses(name).await?;
                let v4 = found.v4.iter().copied().map(IpAddr::V4);
                (name.as_str(), found.v6.iter().copied().map(IpAddr::V6).chain(v4).collect())
            }
            RelayHost::Address(address) => (&address.to_string(), vec![*address]),
            RelayHost::Localhost => {
                ("localhost", vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
            }
        };
        let endpoint = |address| Endpoint { host: host.into(), address: SocketAddr::new(address, self.port) };
        Ok(addresses.into_iter().map(endpoint).collect())
    }

    /// The limits of a path to this relay: what shaping says, and over it what the source says of its
    /// account. Rates of the account are paces of the source and none of the path.
    pub fn limits(&self, shaped: Limits) -> Limits {
        Limits {
            sessions: self.sessions.unwrap_or(shaped.sessions),
            messages: if self.messages.is_empty() { shaped.messages } else { Vec::new() },
            messages_per_session: self.messages_per_session.or(shaped.messages_per_session),
            ..shaped
        }
    }
}
