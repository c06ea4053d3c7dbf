//! SOCKS5 as a client that wants one connection to one address (RFC 1928), with or without a user name
//! (RFC 1929). Written here since no crate at hand tells what is about the proxy from what is about the
//! host behind it, which decides who is blamed.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Socks5Error {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it does not speak SOCKS5")]
    NotSocks5,
    #[error("it wants a user name and a password, or takes no such login as ours")]
    NoMethod,
    #[error("it does not take our user name and password")]
    Login,
    #[error("a SOCKS5 password has 1 to 255 octets")]
    Password,
    /// The code of a reply (RFC 1928 §6).
    #[error("it says: {}", meaning(*.0))]
    Refused(u8),
}

impl Socks5Error {
    /// Whether the proxy did its part and it was the host behind it that could not be had.
    pub(super) fn is_about_host(&self) -> bool {
        matches!(self, Self::Refused(3..=6 | 8))
    }
}

fn meaning(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "no answer in time",
        7 => "it cannot connect for others",
        8 => "no addresses of this family",
        _ => "a failure without a name",
    }
}

/// Agrees with the proxy on who we are.
pub(super) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    login: Option<(&str, &str)>,
) -> Result<(), Socks5Error> {
    let method = if login.is_some() { USER_AND_PASSWORD } else { NO_AUTHENTICATION };
    stream.write_all(&[VERSION, 1, method]).await?;
    let [version, chosen] = read(stream).await?;
    match (version, login) {
        (VERSION, _) if chosen == NONE_ACCEPTABLE => Err(Socks5Error::NoMethod),
        (VERSION, None) if chosen == NO_AUTHENTICATION => Ok(()),
        (VERSION, Some((user, password))) if chosen == USER_AND_PASSWORD => {
            stream.write_all(&login_request(user, password)?).await?;
            // Some say the version of SOCKS here; what counts is the status.
            let [_, status] = read(stream).await?;
            if status == 0 { Ok(()) } else { Err(Socks5Error::Login) }
        }
        _ => Err(Socks5Error::NotSocks5),
    }
}

/// Has the proxy connect to `host`. What comes behind its reply is the host's, and is not read.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    host: SocketAddr,
) -> Result<(), Socks5Error> {
    stream.write_all(&connect_request(host)).await?;
    let [version, code, _, kind] = read(stream).await?;
    if version != VERSION {
        return Err(Socks5Error::NotSocks5);
    }
    if code != 0 {
        return Err(Socks5Error::Refused(code));
    }
    // The proxy's own address and port, of no use here, but the host's octets come behind them.
    let octets = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => {
            let [octets] = read(stream).await?;
            usize::from(octets)
        }
        _ => return Err(Socks5Error::NotSocks5),
    };
    let mut bound = [0u8; u8::MAX as usize + 2];
    read_into(stream, &mut bound[..octets + 2]).await
}

fn login_request(user: &str, password: &str) -> Result<Vec<u8>, Socks5Error> {
    let mut request = vec![LOGIN_VERSION];
    for text in [user, password] {
        let octets = u8::try_from(text.len()).ok().filter(|octets| *octets > 0);
        request.push(octets.ok_or(Socks5Error::Password)?);
        request.extend_from_slice(text.as_bytes());
    }
    Ok(request)
}

fn connect_request(host: SocketAddr) -> Vec<u8> {
    let mut request = vec![VERSION, CONNECT, 0];
    match host.ip() {
        IpAddr::V4(ip) => {
            request.push(IPV4);
            request.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(IPV6);
            request.extend_from_slice(&ip.octets());
        }
    }
    request.extend_from_slice(&host.port().to_be_bytes());
    request
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], Socks5Error> {
    let mut octets = [0u8; N];
    read_into(stream, &mut octets).await?;
    Ok(octets)
}

async fn read_into(stream: &mut (impl AsyncRead + Unpin), octets: &mut [u8]) -> Result<(), Socks5Error> {
    match stream.read_exact(octets).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Socks5Error::Closed),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client says to a proxy that says `replies`, whatever it hears; what is left of them.
    async fn against(
        replies: &[u8],
        login: Option<(&str, &str)>,
    ) -> (Result<(), Socks5Error>, Vec<u8>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(replies).await.unwrap();
        theirs.shutdown().await.unwrap();
        let host = "192.0.2.7:25".parse().unwrap();
        let result = match greet(&mut ours, login).await {
            Ok(()) => connect(&mut ours, host).await,
            Err(error) => Err(error),
        };
        let mut left = Vec::new();
        ours.read_to_end(&mut left).await.unwrap();
        drop(ours);
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        (result, said, left)
    }

    #[tokio::test]
    async fn what_comes_behind_the_reply_is_left_to_the_session() {
        let (result, said, left) =
            against(b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90220 hi\r\n", None).await;
        result.unwrap();
        assert_eq!(said, b"\x05\x01\x00\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x19");
        assert_eq!(left, b"220 hi\r\n");
        // The proxy may name itself, or have an IPv6 address.
        let (result, _, left) = against(b"\x05\x00\x05\x00\x00\x03\x02px\x1f\x90220 hi\r\n", None).await;
        assert!(result.is_ok() && left == b"220 hi\r\n");
        let long = [&b"\x05\x00\x05\x00\x00\x04"[..], &[9; 18], b"220 hi\r\n"].concat();
        let (result, _, left) = against(&long, None).await;
        assert!(result.is_ok() && left == b"220 hi\r\n");
    }

    #[tokio::test]
    async fn a_user_name_and_a_password_are_shown_as_rfc_1929_says() {
        let replies = b"\x05\x02\x01\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";
        let (result, said, _) = against(replies, Some(("me", "word"))).await;
        result.unwrap();
        assert_eq!(&said[..13], b"\x05\x01\x02\x01\x02me\x04word\x05");
        let (result, ..) = against(b"\x05\x02\x01\x01", Some(("me", "word"))).await;
        assert!(matches!(result, Err(Socks5Error::Login)));
        assert!(matches!(login_request("me", &"x".repeat(256)), Err(Socks5Error::Password)));
        assert!(matches!(login_request("me", ""), Err(Socks5Error::Password)));
    }

    #[tokio::test]
    async fn replies_that_no_proxy_should_say_are_no_connection() {
        for (replies, login) in [
            (&b"\x04\x00"[..], None),
            (b"HTTP/1.1 400 Bad Request\r\n", None),
            (b"\x05\x02", None),
            (b"\x05\x00", Some(("me", "word"))),
            (b"\x05\x00\x04\x00\x00\x01", None),
            (b"\x05\x00\x05\x00\x00\x09\x00\x00\x00\x00\x00\x00", None),
        ] {
            let (result, ..) = against(replies, login).await;
            assert!(matches!(result, Err(Socks5Error::NotSocks5)), "{replies:?}: {result:?}");
        }
        let (result, ..) = against(b"\x05\xff", None).await;
        assert!(matches!(result, Err(Socks5Error::NoMethod)));
        for cut in ["", "\x05", "\x05\x00", "\x05\x00\x05\x00\x00\x01\x7f", "\x05\x00\x05\x00\x00\x03\x09px"]
        {
            let (result, ..) = against(cut.as_bytes(), None).await;
            assert!(matches!(result, Err(Socks5Error::Closed)), "{cut:?}: {result:?}");
        }
    }

    #[tokio::test]
    async fn the_host_is_told_from_the_proxy() {
        for (code, is_about_host) in [
            (1, false),
            (2, false),
            (3, true),
            (4, true),
            (5, true),
            (6, true),
            (7, false),
            (8, true),
            (99, false),
        ] {
            let (result, ..) = against(&[5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0], None).await;
            let error = result.unwrap_err();
            assert!(matches!(error, Socks5Error::Refused(said) if said == code));
            assert_eq!(error.is_about_host(), is_about_host, "{code}");
        }
    }

    #[test]
    fn addresses_of_both_families_are_asked_for() {
        let six = connect_request("[2001:db8::1]:2525".parse().unwrap());
        assert_eq!(six[..4], [5, 1, 0, 4]);
        assert_eq!(six[4..8], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(six[19..], [1, 0x09, 0xdd]);
    }
}
