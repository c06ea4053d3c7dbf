//! From here to the first octet of a host: directly, through a SOCKS5 proxy, or through HAProxy.
//!
//! The connect timeout covers all of it. What is wrong with a proxy, or with our own address, is about the
//! source and never about the host. A HAProxy that cannot reach the host just closes, so that this shows
//! in the greeting and is the host's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mail_send::SmtpClient;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::auth::SecretPlace;
use super::session::transport_failure;
use super::socks5;
use crate::outcome::{Failure, Finding, Scope, Stage};

/// How a source's connections leave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Via {
    #[default]
    Direct,
    Socks5(Socks5),
    /// A HAProxy that listens here with `accept-proxy` and connects to the address it is told.
    ProxyProtocol(SocketAddr),
}

/// A SOCKS5 proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socks5 {
    pub address: SocketAddr,
    /// A user name, and where the password is.
    pub login: Option<(String, SecretPlace)>,
}

impl Via {
    /// Where it connects to first, if that is not the host itself.
    pub fn proxy(&self) -> Option<SocketAddr> {
        match self {
            Self::Direct => None,
            Self::Socks5(proxy) => Some(proxy.address),
            Self::ProxyProtocol(address) => Some(*address),
        }
    }
}

/// Connects to `host` as `from`, an address of this machine or, with the PROXY protocol, of the proxy's.
pub(super) async fn connect(
    via: &Via,
    from: Option<IpAddr>,
    host: SocketAddr,
    wait: Duration,
) -> Result<TcpStream, Finding> {
    let stream = match via {
        Via::Direct => tcp(from, host, wait).await.map_err(|error| by_address(error, wait))?,
        Via::Socks5(proxy) => through_socks5(proxy, from, host, wait).await?,
        Via::ProxyProtocol(proxy) => {
            let begun = async {
                let mut stream = tcp(None, *proxy, wait).await.map_err(|error| reason(error, wait))?;
                stream.write_all(&header(from, host)).await.map_err(|error| error.to_string())?;
                Ok(stream)
            };
            let begun = timeout(wait, begun).await.unwrap_or_else(|_| Err(unanswered(wait)));
            begun.map_err(|reason| blamed_on_proxy(*proxy, reason))?
        }
    };
    // One write a group, so Nagle could only delay: 44 ms a message against delayed ACKs.
    stream.set_nodelay(true).map_err(|error| failed(Scope::Path, Failure::Io(error.to_string())))?;
    Ok(stream)
}

async fn through_socks5(
    proxy: &Socks5,
    from: Option<IpAddr>,
    host: SocketAddr,
    wait: Duration,
) -> Result<TcpStream, Finding> {
    let blamed = |reason| blamed_on_proxy(proxy.address, reason);
    // An address of the other family cannot be used towards this proxy.
    let from = from.filter(|from| from.is_ipv4() == proxy.address.is_ipv4());
    let mut is_agreed = false;
    let connected = timeout(wait, async {
        let mut stream = tcp(from, proxy.address, wait).await.map_err(|error| blamed(reason(error, wait)))?;
        let login = match &proxy.login {
            Some((user, place)) => Some((user, place.read().map_err(|error| blamed(error.to_string()))?)),
            None => None,
        };
        let login = login.as_ref().map(|(user, password)| (user.as_str(), password.expose()));
        socks5::greet(&mut stream, login).await.map_err(|error| blamed(error.to_string()))?;
        is_agreed = true;
        socks5::connect(&mut stream, host).await.map_err(|error| match error.is_about_host() {
            true => failed(Scope::Path, Failure::Io(format!("the SOCKS5 proxy could not connect: {error}"))),
            false => blamed(error.to_string()),
        })?;
        Ok(stream)
    })
    .await;
    connected.unwrap_or_else(|_| {
        // The proxy works and waits for the host, which does not answer.
        let of_host = failed(Scope::Path, Failure::Timeout(wait));
        Err(if is_agreed { of_host } else { blamed(unanswered(wait)) })
    })
}

async fn tcp(from: Option<IpAddr>, to: SocketAddr, wait: Duration) -> Result<TcpStream, mail_send::Error> {
    let client = match from {
        Some(local) => SmtpClient::connect_using(local, to, wait).await,
        None => SmtpClient::connect(to, wait).await,
    };
    client.map(|client| client.stream)
}

/// An address that is not, or no longer, ours is no fault of the host.
fn by_address(error: mail_send::Error, wait: Duration) -> Finding {
    let scope = match &error {
        mail_send::Error::Io(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Scope::Source,
        _ => Scope::Path,
    };
    failed(scope, transport_failure(error, wait))
}

fn reason(error: mail_send::Error, wait: Duration) -> String {
    transport_failure(error, wait).to_string()
}

fn unanswered(wait: Duration) -> String {
    Failure::Timeout(wait).to_string()
}

fn blamed_on_proxy(proxy: SocketAddr, reason: String) -> Finding {
    failed(Scope::Source, Failure::Proxy { proxy, reason })
}

fn failed(scope: Scope, failure: Failure) -> Finding {
    Finding::Failed { stage: Stage::Connect, scope, failure }
}

/// The header of the PROXY protocol, version 2, of a TCP connection from `from` (any port) to `host`
/// (HAProxy's proxy-protocol.txt, §2.2).
fn header(from: Option<IpAddr>, host: SocketAddr) -> Vec<u8> {
    const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
    const VERSION_2_PROXY: u8 = 0x21;
    const TCP_OVER_IPV4: u8 = 0x11;
    const TCP_OVER_IPV6: u8 = 0x21;
    let (family, addresses): (u8, Vec<u8>) = match (from, host.ip()) {
        (Some(IpAddr::V4(from)), IpAddr::V4(to)) => (TCP_OVER_IPV4, [from.octets(), to.octets()].concat()),
        (Some(IpAddr::V6(from)), IpAddr::V6(to)) => (TCP_OVER_IPV6, [from.octets(), to.octets()].concat()),
        // Settings rule out a source without an address, and sessions pass over hosts of other families.
        (_, IpAddr::V4(to)) => (TCP_OVER_IPV4, [[0; 4], to.octets()].concat()),
        (_, IpAddr::V6(to)) => (TCP_OVER_IPV6, [[0; 16], to.octets()].concat()),
    };
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[VERSION_2_PROXY, family]);
    let octets = u16::try_from(addresses.len() + 4).expect("two addresses and two ports");
    header.extend_from_slice(&octets.to_be_bytes());
    header.extend_from_slice(&addresses);
    header.extend_from_slice(&0u16.to_be_bytes());
    header.extend_from_slice(&host.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    #[test]
    fn the_header_is_that_of_the_protocols_description() {
        let header4 = header(Some("192.0.2.1".parse().unwrap()), "198.51.100.2:25".parse().unwrap());
        let expected: &[u8] = b"\x0d\x0a\x0d\x0a\x00\x0d\x0aQUIT\x0a\x21\x11\x00\x0c\
            \xc0\x00\x02\x01\xc6\x33\x64\x02\x00\x00\x00\x19";
        assert_eq!(header4, expected);
        let header6 = header(Some("2001:db8::1".parse().unwrap()), "[2001:db8::2]:2525".parse().unwrap());
        assert_eq!(header6.len(), 16 + 36);
        assert_eq!(header6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(header6[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(header6[48..], [0, 0, 0x09, 0xdd]);
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn scope(result: Result<TcpStream, Finding>) -> (Scope, Failure) {
        match result {
            Err(Finding::Failed { stage: Stage::Connect, scope, failure }) => (scope, failure),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_the_sources_trouble() {
        let (listener, proxy) = listener().await;
        drop(listener);
        let host = "127.0.0.1:2525".parse().unwrap();
        for via in [Via::ProxyProtocol(proxy), Via::Socks5(Socks5 { address: proxy, login: None })] {
            let from = Some(Ipv4Addr::LOCALHOST.into());
            let (scope, failure) = scope(connect(&via, from, host, WAIT).await);
            assert_eq!(scope, Scope::Source);
            assert!(matches!(failure, Failure::Proxy { proxy: named, .. } if named == proxy), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_host_behind_a_proxy_is_the_hosts_trouble() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0").await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
        });
        let via = Via::Socks5(Socks5 { address, login: None });
        let (scope, failure) = scope(connect(&via, None, "127.0.0.1:2525".parse().unwrap(), WAIT).await);
        assert_eq!(scope, Scope::Path);
        assert!(failure.to_string().contains("connection refused"), "{failure}");
    }

    #[tokio::test]
    async fn a_proxy_that_waits_for_the_host_too_long_is_the_hosts_trouble() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\x05\x00").await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
        });
        let via = Via::Socks5(Socks5 { address, login: None });
        let wait = Duration::from_millis(300);
        let (scope, failure) = scope(connect(&via, None, "127.0.0.1:2525".parse().unwrap(), wait).await);
        assert_eq!((scope, failure), (Scope::Path, Failure::Timeout(wait)));
    }

    #[tokio::test]
    async fn an_address_that_is_not_ours_is_the_sources_trouble() {
        let (_listener, address) = listener().await;
        // Reserved for documentation (RFC 5737): no machine has it.
        let from = Some("192.0.2.1".parse().unwrap());
        let (scope, _) = scope(connect(&Via::Direct, from, address, WAIT).await);
        assert_eq!(scope, Scope::Source);
    }
}
