//! Questions to the DNS: MX, A and AAAA of a full name, and what the answer means.
//!
//! Makes the resolver library's client, which checks of our own domains use for further types. Its own
//! cache, the hosts file and search domains are off: a question goes to the servers it is told, as a full
//! name. Keeping answers is [`super::cache`]'s work. The number of questions under way is bounded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::Semaphore;

use crate::address::Domain;

use super::{ResolverError, ResolverSettings};

const SYSTEM_SERVERS: &str = "/etc/resolv.conf";

/// A client of the servers in the settings that neither keeps answers nor knows search domains and hosts.
///
/// # Errors
/// No servers are given and the system names none.
pub(crate) fn client(settings: &ResolverSettings) -> Result<TokioResolver, ResolverError> {
    let servers = match settings.servers.as_slice() {
        [] => system_servers(Path::new(SYSTEM_SERVERS))?,
        servers => servers.to_vec(),
    };
    let config = ResolverConfig::from_name_servers(servers.into_iter().map(name_server).collect());
    let mut options = ResolverOpts::default();
    options.timeout = settings.timeout;
    options.attempts = settings.attempts.saturating_sub(1);
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.max_active_requests = settings.lookups_max.max(1);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(|error| ResolverError::Start(error.to_string()))
}

/// What the DNS says of a name and a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// At least one; `ttl` is the shortest on the way.
    Records { records: Vec<T>, ttl: Duration },
    /// The name is there and has none of this type.
    NoData { ttl: Option<Duration> },
    /// The name is not there (NXDOMAIN).
    NoName { ttl: Option<Duration> },
    /// No answer, or a server failure: nothing is known.
    Unknown { reason: String },
}

/// Target of an MX record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Host(Domain),
    /// `.`: the domain takes no mail (RFC 7505).
    Null,
    /// An address, a single label or some such.
    Unusable,
}

/// The questioner.
pub(super) struct Dns {
    resolver: TokioResolver,
    permits: Semaphore,
}

impl Dns {
    pub(super) fn new(settings: &ResolverSettings) -> Result<Self, ResolverError> {
        let permits = Semaphore::new(settings.lookups_max.max(1));
        Ok(Self { resolver: client(settings)?, permits })
    }

    pub(super) async fn mx(&self, domain: &Domain) -> Answer<(u16, Target)> {
        self.ask(domain, RecordType::MX, |data| match data {
            RData::MX(mx) => Some((mx.preference, target(&mx.exchange))),
            _ => None,
        })
        .await
    }

    pub(super) async fn v4(&self, host: &Domain) -> Answer<Ipv4Addr> {
        self.ask(host, RecordType::A, |data| match data {
            RData::A(address) => Some(address.0),
            _ => None,
        })
        .await
    }

    pub(super) async fn v6(&self, host: &Domain) -> Answer<Ipv6Addr> {
        self.ask(host, RecordType::AAAA, |data| match data {
            RData::AAAA(address) => Some(address.0),
            _ => None,
        })
        .await
    }

    async fn ask<T>(
        &self,
        domain: &Domain,
        kind: RecordType,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Answer<T> {
        let Ok(mut name) = Name::from_ascii(domain.as_str()) else {
            return Answer::Unknown { reason: format!("{domain} cannot be asked for") };
        };
        name.set_fqdn(true);
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        match self.resolver.lookup(name, kind).await {
            Ok(lookup) => from_records(lookup.answers(), pick),
            Err(error) => from_error(domain, kind, error),
        }
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

fn from_records<T>(answers: &[Record], pick: impl Fn(&RData) -> Option<T>) -> Answer<T> {
    let records: Vec<T> = answers.iter().filter_map(|record| pick(&record.data)).collect();
    // Aliases on the way count: the answer holds no longer than they do.
    let ttl = answers.iter().map(|record| Duration::from_secs(u64::from(record.ttl))).min();
    match ttl {
        Some(ttl) if !records.is_empty() => Answer::Records { records, ttl },
        ttl => Answer::NoData { ttl },
    }
}

fn from_error<T>(domain: &Domain, kind: RecordType, error: NetError) -> Answer<T> {
    if let NetError::Dns(DnsError::NoRecordsFound(none)) = &error {
        let ttl = none.negative_ttl.map(|secs| Duration::from_secs(u64::from(secs)));
        match none.response_code {
            ResponseCode::NXDomain => return Answer::NoName { ttl },
            ResponseCode::NoError => return Answer::NoData { ttl },
            _ => {}
        }
    }
    Answer::Unknown { reason: format!("DNS, {kind} of {domain}: {error}") }
}

fn target(exchange: &Name) -> Target {
    if exchange.is_root() {
        return Target::Null;
    }
    Domain::parse(&exchange.to_ascii()).map_or(Target::Unusable, Target::Host)
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

/// The `nameserver` lines of `resolv.conf(5)`.
fn system_servers(path: &Path) -> Result<Vec<SocketAddr>, ResolverError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ResolverError::SystemServers { path: path.to_owned(), error: Arc::new(error) })?;
    let servers: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = (words.next()? == "nameserver").then(|| words.next())??;
            // A zone (`fe80::1%eth0`) is not followed.
            address.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))
        })
        .collect();
    if servers.is_empty() { Err(ResolverError::NoServers(path.to_owned())) } else { Ok(servers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_servers_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "# x\nsearch a.test\nnameserver 127.0.0.9\n nameserver ::1 \noptions ndots:5\n",
        )
        .unwrap();
        let expected: [SocketAddr; 2] = ["127.0.0.9:53".parse().unwrap(), "[::1]:53".parse().unwrap()];
        assert_eq!(system_servers(file.path()).unwrap(), expected);
        std::fs::write(file.path(), "search a.test\n").unwrap();
        assert!(matches!(system_servers(file.path()), Err(ResolverError::NoServers(_))));
    }

    #[test]
    fn targets_that_are_no_host_are_told_apart() {
        let target = |text: &str| target(&Name::from_ascii(text).unwrap());
        assert_eq!(target("."), Target::Null);
        assert_eq!(target("MX1.Example.test."), Target::Host(Domain::parse("mx1.example.test").unwrap()));
        assert_eq!(target("192.0.2.1."), Target::Unusable);
        assert_eq!(target("localhost."), Target::Unusable);
    }
}
