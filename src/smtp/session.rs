//! One connection: from the first endpoint that answers to the last reply.
//!
//! [`open`] tries endpoints in order: connect, greeting, EHLO, STARTTLS as the policy asks, EHLO
//! again. Dialling and the handshake are mail-send's client, which only this file imports; its
//! `cmd()` and `send()` are not used, since they drop octets that come behind a reply and cannot
//! pipeline. What happens once the session is open is [`super::carrier`]'s work. Whatever goes wrong
//! here is about a host, so its scope is the site, and no message has been touched.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mail_send::SmtpClient;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::carrier::{Terms, run_on};
use super::replies::{Answer, ReplyReader};
use super::{
    Capabilities, ComposeFailure, Composed, Dial, Endpoint, Link, OpenFailure, Quirk, SessionEnd, TlsPolicy,
};
use crate::envelope::Entry;
use crate::outcome::{Failure, Finding, Scope, Stage};
use crate::reply::Severity;

/// An open session, greeted and ready for its first transaction.
pub struct Session {
    endpoint: Endpoint,
    stream: Stream,
    terms: Terms,
}

enum Stream {
    Clear(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Opens a session on the first endpoint that will have one.
///
/// # Errors
/// No endpoint would; what each said. An endpoint out of reach ends the search at once.
///
/// # Cancel safety
/// Dropping the future closes the connection; no message is involved yet.
pub async fn open(dial: Dial<'_>) -> Result<Session, OpenFailure> {
    let mut tried = Vec::new();
    let mut learned = Vec::new();
    for endpoint in dial.endpoints {
        let Some(bind) = dial.source.bind_for(endpoint.address) else { continue };
        if !dial.reach.allows(endpoint.address) {
            tried.push((endpoint.clone(), failed(Stage::Connect, Failure::Escape(endpoint.address))));
            break;
        }
        match try_endpoint(&dial, endpoint, bind, &mut learned).await {
            Ok((stream, replies, capabilities)) => {
                let terms = Terms {
                    capabilities,
                    trust: dial.trust,
                    timeouts: dial.timeouts.clone(),
                    learned,
                    replies,
                };
                return Ok(Session { endpoint: endpoint.clone(), stream, terms });
            }
            Err(finding) => tried.push((endpoint.clone(), finding)),
        }
    }
    let finding = tried.last().map_or_else(
        || {
            let host = dial.endpoints.first().map_or_else(String::new, |endpoint| endpoint.host.to_string());
            failed(Stage::Connect, Failure::NoAddress(host))
        },
        |(_, finding)| finding.clone(),
    );
    Err(OpenFailure { tried, finding, scope: Scope::Path, learned })
}

impl Session {
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn capabilities(&self) -> &Capabilities {
        &self.terms.capabilities
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Encrypted(_))
    }

    /// Carries messages until the orders end, the session is full or idle, or the server ends it.
    /// Every entry taken from the orders ends in one outcome or is returned.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection: entries that were queued are lost to their path
    /// and those in flight keep their slots armed. Use `Link::stop` to end it in good order.
    pub async fn run<C, A>(self, link: Link<C, A>) -> SessionEnd
    where
        C: FnMut(Entry, &mut Composed) -> Result<(), ComposeFailure> + Send,
        A: Fn() -> Result<(), Instant> + Send,
    {
        match self.stream {
            Stream::Clear(stream) => run_on(stream, self.terms, link).await,
            Stream::Encrypted(stream) => run_on(*stream, self.terms, link).await,
        }
    }
}

async fn try_endpoint(
    dial: &Dial<'_>,
    endpoint: &Endpoint,
    bind: Option<IpAddr>,
    learned: &mut Vec<Quirk>,
) -> Result<(Stream, ReplyReader, Capabilities), Finding> {
    let (mut talk, capabilities) = greeted(dial, endpoint, bind).await?;
    let is_opportunistic = dial.tls == TlsPolicy::Opportunistic;
    let connector = match dial.connectors.for_policy(dial.tls) {
        Some(connector) if capabilities.starttls => connector,
        Some(_) if !is_opportunistic => {
            talk.leave(dial.timeouts.quit).await;
            return Err(failed(Stage::StartTls, Failure::NotOffered("STARTTLS")));
        }
        _ => return Ok((Stream::Clear(talk.stream), talk.replies, capabilities)),
    };
    let wait = dial.timeouts.starttls;
    let asked = talk.command(b"STARTTLS\r\n", wait).await.map(|answer| (answer.code(), answer.to_reply()));
    let finding = match asked {
        Ok((220, _)) => match encrypted(dial, endpoint, talk, connector).await {
            Ok((talk, capabilities)) => {
                return Ok((Stream::Encrypted(Box::new(talk.stream)), talk.replies, capabilities));
            }
            // Under protection and understood: the host would say the same in clear.
            Err(finding @ Finding::Refused { .. }) => return Err(finding),
            Err(finding) => finding,
        },
        Ok((code, reply)) => {
            if is_opportunistic && code != 421 {
                return Ok((Stream::Clear(talk.stream), talk.replies, capabilities));
            }
            talk.leave(dial.timeouts.quit).await;
            return Err(Finding::Refused { stage: Stage::StartTls, scope: Scope::Path, reply });
        }
        Err(failure) => failed(Stage::StartTls, failure),
    };
    if !is_opportunistic {
        return Err(finding);
    }
    tracing::debug!(host = %endpoint.host, ?finding, "STARTTLS is offered and fails: in clear");
    learned.push(Quirk::TlsBroken);
    let (talk, capabilities) = greeted(dial, endpoint, bind).await?;
    Ok((Stream::Clear(talk.stream), talk.replies, capabilities))
}

/// Connects, hears the greeting and says EHLO.
async fn greeted(
    dial: &Dial<'_>,
    endpoint: &Endpoint,
    bind: Option<IpAddr>,
) -> Result<(Talk<TcpStream>, Capabilities), Finding> {
    let wait = dial.timeouts.connect;
    let client = match bind {
        Some(local) => SmtpClient::connect_using(local, endpoint.address, wait).await,
        None => SmtpClient::connect(endpoint.address, wait).await,
    };
    let stream = client.map_err(|error| failed(Stage::Connect, transport_failure(error, wait)))?.stream;
    // One write a group, so Nagle could only delay: 44 ms a message against delayed ACKs.
    stream.set_nodelay(true).map_err(|error| failed(Stage::Connect, io_failure(&error)))?;
    let mut talk = Talk { stream, replies: ReplyReader::default() };
    let wait = dial.timeouts.greeting;
    let greeting = talk.answer(wait).await.map_err(|failure| failed(Stage::Greeting, failure))?;
    if greeting.code() != 220 {
        let reply = greeting.to_reply();
        talk.leave(dial.timeouts.quit).await;
        return Err(Finding::Refused { stage: Stage::Greeting, scope: Scope::Path, reply });
    }
    let capabilities = talk.hello(&dial.source.ehlo, dial.timeouts.ehlo, dial.timeouts.quit).await?;
    Ok((talk, capabilities))
}

/// The handshake, and EHLO under its protection.
async fn encrypted(
    dial: &Dial<'_>,
    endpoint: &Endpoint,
    talk: Talk<TcpStream>,
    connector: &TlsConnector,
) -> Result<(Talk<TlsStream<TcpStream>>, Capabilities), Finding> {
    let wait = dial.timeouts.starttls;
    let Talk { stream, mut replies } = talk;
    replies.clear();
    let client = SmtpClient { stream, timeout: wait }.into_tls(connector, endpoint.host.as_str()).await;
    let stream = client.map_err(|error| failed(Stage::StartTls, transport_failure(error, wait)))?.stream;
    let mut talk = Talk { stream, replies };
    let capabilities = talk.hello(&dial.source.ehlo, dial.timeouts.ehlo, dial.timeouts.quit).await?;
    Ok((talk, capabilities))
}

/// A stream on which one command at a time is said and answered.
struct Talk<S> {
    stream: S,
    replies: ReplyReader,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// EHLO, or HELO where EHLO is not known (RFC 5321 §3.2).
    async fn hello(&mut self, name: &str, wait: Duration, quit: Duration) -> Result<Capabilities, Finding> {
        // A name comes from the operator; whatever it holds, it stays one word on one line.
        let name: String = name.chars().filter(char::is_ascii_graphic).collect();
        let at_ehlo = |failure| failed(Stage::Ehlo, failure);
        let answer = self.command(format!("EHLO {name}\r\n").as_bytes(), wait).await.map_err(at_ehlo)?;
        if answer.is_success() {
            return Ok(Capabilities::read(answer.lines()));
        }
        let mut reply = answer.to_reply();
        if answer.severity() == Severity::Permanent {
            let answer = self.command(format!("HELO {name}\r\n").as_bytes(), wait).await.map_err(at_ehlo)?;
            if answer.is_success() {
                return Ok(Capabilities::default());
            }
            reply = answer.to_reply();
        }
        self.leave(quit).await;
        Err(Finding::Refused { stage: Stage::Ehlo, scope: Scope::Path, reply })
    }

    async fn command(&mut self, line: &[u8], wait: Duration) -> Result<Answer<'_>, Failure> {
        let write = async {
            self.stream.write_all(line).await?;
            self.stream.flush().await
        };
        match timeout(wait, write).await {
            Ok(Ok(())) => self.answer(wait).await,
            Ok(Err(error)) => Err(io_failure(&error)),
            Err(_) => Err(Failure::Timeout(wait)),
        }
    }

    /// The next answer, all of it within `wait`.
    async fn answer(&mut self, wait: Duration) -> Result<Answer<'_>, Failure> {
        let Self { stream, replies } = self;
        let read = async {
            while !replies.has_answer().map_err(|garbage| Failure::Garbage(garbage.0))? {
                match stream.read(replies.spare()).await {
                    Ok(0) => return Err(Failure::Closed),
                    Ok(octets) => replies.filled(octets),
                    Err(error) => return Err(io_failure(&error)),
                }
            }
            Ok(())
        };
        timeout(wait, read).await.map_err(|_| Failure::Timeout(wait))??;
        replies.next().ok().flatten().ok_or(Failure::Closed)
    }

    /// Says QUIT and does not wait for an answer.
    async fn leave(&mut self, wait: Duration) {
        // The connection is given up: whether the word arrives changes nothing.
        let _ = timeout(wait, async {
            self.stream.write_all(b"QUIT\r\n").await?;
            self.stream.shutdown().await
        })
        .await;
    }
}

fn failed(stage: Stage, failure: Failure) -> Finding {
    Finding::Failed { stage, scope: Scope::Path, failure }
}

fn transport_failure(error: mail_send::Error, wait: Duration) -> Failure {
    match error {
        mail_send::Error::Timeout => Failure::Timeout(wait),
        mail_send::Error::Tls(error) => Failure::Tls(error.to_string()),
        mail_send::Error::InvalidTLSName => Failure::Tls("the host's name cannot be verified".into()),
        mail_send::Error::Io(error) => io_failure(&error),
        other => Failure::Io(other.to_string()),
    }
}

/// What an error of the stream means.
pub(super) fn io_failure(error: &io::Error) -> Failure {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Failure::Tls(error.to_string());
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::address::Domain;
    use crate::smtp::{LocalEnd, Reach, Timeouts, TlsConnectors, Trust};

    /// A server that goes by a script: each step waits for a line that starts so (the first for none),
    /// then says its reply. A reply of `TLS` is 220 and a handshake.
    type Script = &'static [(&'static str, &'static str)];

    const NAME: &str = "mx.example.test";

    async fn follow<S: AsyncRead + AsyncWrite + Unpin>(
        stream: S,
        steps: &mut std::slice::Iter<'_, (&str, &str)>,
    ) -> Option<S> {
        let mut stream = BufReader::new(stream);
        for (awaited, reply) in steps.by_ref() {
            let mut line = String::new();
            if !awaited.is_empty() {
                stream.read_line(&mut line).await.unwrap();
                assert!(line.starts_with(awaited), "{line:?} where {awaited:?} was due");
            }
            let reply = if *reply == "TLS" { "220 go ahead\r\n250 injected in clear\r\n" } else { reply };
            stream.write_all(reply.as_bytes()).await.unwrap();
            if reply.contains("injected") {
                return Some(stream.into_inner());
            }
        }
        None
    }

    struct Host {
        endpoint: Endpoint,
        ca_pem: String,
    }

    /// A host that serves one connection with each of `scripts`.
    async fn host(scripts: Vec<Script>, name: &str) -> Host {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let issued = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            for script in scripts {
                let (stream, _) = listener.accept().await.unwrap();
                let mut steps = script.iter();
                let Some(stream) = follow(stream, &mut steps).await else { continue };
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                follow(stream, &mut steps).await;
            }
        });
        let host = Domain::parse(NAME).unwrap();
        Host { endpoint: Endpoint { host, address }, ca_pem: issued.cert.pem() }
    }

    async fn dial(hosts: &[&Host], tls: TlsPolicy, reach: Reach) -> Result<Session, OpenFailure> {
        let endpoints: Vec<Endpoint> = hosts.iter().map(|host| host.endpoint.clone()).collect();
        let connectors = TlsConnectors::new(hosts.first().map(|host| host.ca_pem.as_bytes())).unwrap();
        let timeouts = Timeouts { greeting: Duration::from_secs(10), ..Timeouts::default() };
        open(Dial {
            source: &LocalEnd { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: None, ehlo: "mta.example".into() },
            endpoints: &endpoints,
            tls,
            connectors: &connectors,
            timeouts: &timeouts,
            trust: Trust::Window,
            reach: &reach,
        })
        .await
    }

    fn what(finding: &Finding) -> String {
        match finding {
            Finding::Refused { stage, scope, reply } => format!("{stage:?} {scope:?} {}", reply.code()),
            Finding::Failed { stage, failure, .. } => format!("{stage:?} {failure}"),
            other => format!("{other:?}"),
        }
    }

    const PLAIN: Script = &[("", "220 hi\r\n"), ("EHLO mta.example", "250-x\r\n250 PIPELINING\r\n")];
    const OFFERS: &str = "250-x\r\n250-PIPELINING\r\n250 STARTTLS\r\n";

    #[tokio::test]
    async fn the_next_host_is_tried_when_one_will_not_talk() {
        let refusing = host(vec![&[("", "554 5.7.1 go away\r\n"), ("QUIT", "")]], NAME).await;
        let busy = host(vec![&[("", "421 4.3.2 too busy\r\n")]], NAME).await;
        let mute = host(vec![&[("", "hello?\r\n")]], NAME).await;
        let gone = host(vec![&[("", "220 hi\r\n"), ("EHLO", "450 not now\r\n"), ("QUIT", "")]], NAME).await;
        let good = host(vec![PLAIN], NAME).await;
        let hosts = [&refusing, &busy, &mute, &gone, &good];
        let session = dial(&hosts, TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
        assert_eq!(session.endpoint(), &good.endpoint);
        assert!(session.capabilities().pipelining && !session.is_encrypted());

        let refusing = host(vec![&[("", "554 5.7.1 go away\r\n"), ("QUIT", "")]], NAME).await;
        let busy = host(vec![&[("", "421 4.3.2 too busy\r\n")]], NAME).await;
        let failure = dial(&[&refusing, &busy], TlsPolicy::Off, Reach::Internet).await.err().unwrap();
        let said: Vec<String> = failure.tried.iter().map(|(_, finding)| what(finding)).collect();
        assert_eq!(said, ["Greeting Site 554", "Greeting Site 421"]);
        assert_eq!((failure.scope, what(&failure.finding)), (Scope::Path, "Greeting Site 421".into()));
    }

    #[tokio::test]
    async fn helo_is_said_where_ehlo_is_not_known() {
        let old = host(
            vec![&[("", "220 hi\r\n"), ("EHLO", "502 what?\r\n"), ("HELO mta.example", "250 hello\r\n")]],
            NAME,
        )
        .await;
        let session = dial(&[&old], TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
        assert_eq!(*session.capabilities(), Capabilities::default());
    }

    #[tokio::test]
    async fn what_came_in_clear_is_not_believed_behind_the_handshake() {
        // The host says "250 injected in clear" behind its 220: were it believed, it would be the
        // answer to the second EHLO and hide what that offers (RFC 3207 §6).
        let script: Script = &[
            ("", "220 hi\r\n"),
            ("EHLO", OFFERS),
            ("STARTTLS", "TLS"),
            ("EHLO mta.example", "250-x\r\n250 CHUNKING\r\n"),
        ];
        for policy in [TlsPolicy::Opportunistic, TlsPolicy::Required, TlsPolicy::Verified] {
            let good = host(vec![script], NAME).await;
            let session = dial(&[&good], policy, Reach::Internet).await.unwrap();
            assert!(session.is_encrypted(), "{policy:?}");
            // Those of the first EHLO are forgotten.
            assert!(session.capabilities().chunking && !session.capabilities().pipelining);
        }
    }

    #[tokio::test]
    async fn a_certificate_for_another_host_is_good_enough_unless_it_must_be_verified() {
        let script: Script =
            &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "TLS"), ("EHLO", "250 x\r\n")];
        let other = host(vec![script, script], "other.example.test").await;
        assert!(dial(&[&other], TlsPolicy::Required, Reach::Internet).await.unwrap().is_encrypted());
        let failure = dial(&[&other], TlsPolicy::Verified, Reach::Internet).await.err().unwrap();
        assert!(what(&failure.finding).starts_with("StartTls TLS failed"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_broken_handshake_is_got_round_in_clear_and_remembered() {
        let broken: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "220 go\r\nnonsense\r\n")];
        let closing: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "")];
        for script in [broken, closing] {
            let odd = host(vec![script, PLAIN], NAME).await;
            let session = dial(&[&odd], TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
            assert!(!session.is_encrypted());
            assert_eq!(session.terms.learned, [Quirk::TlsBroken]);
            let odd = host(vec![script], NAME).await;
            assert!(dial(&[&odd], TlsPolicy::Required, Reach::Internet).await.is_err());
        }
    }

    #[tokio::test]
    async fn required_tls_does_without_a_host_that_has_none() {
        let plain = host(vec![PLAIN], NAME).await;
        let failure = dial(&[&plain], TlsPolicy::Required, Reach::Internet).await.err().unwrap();
        assert_eq!(failure.finding, failed(Stage::StartTls, Failure::NotOffered("STARTTLS")));
        let refusing: Script = &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "454 4.7.0 no\r\n")];
        let later = host(vec![refusing, refusing], NAME).await;
        let session = dial(&[&later], TlsPolicy::Opportunistic, Reach::Internet).await.unwrap();
        assert!(!session.is_encrypted() && session.terms.learned.is_empty());
        let failure = dial(&[&later], TlsPolicy::Required, Reach::Internet).await.err().unwrap();
        assert_eq!(what(&failure.finding), "StartTls Site 454");
    }

    #[tokio::test]
    async fn a_rehearsal_does_not_connect_outside_its_world() {
        let outside = host(vec![PLAIN], NAME).await;
        let world = Reach::World(Arc::new(HashSet::new()));
        let failure = dial(&[&outside], TlsPolicy::Off, world).await.err().unwrap();
        let expected = failed(Stage::Connect, Failure::Escape(outside.endpoint.address));
        assert_eq!(failure.finding, expected);
    }

    #[tokio::test]
    async fn endpoints_of_a_family_that_the_source_lacks_are_passed_over() {
        let six: SocketAddr = "[::1]:2525".parse().unwrap();
        let host = Host {
            endpoint: Endpoint { host: Domain::parse(NAME).unwrap(), address: six },
            ca_pem: rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap().cert.pem(),
        };
        let failure = dial(&[&host], TlsPolicy::Off, Reach::Internet).await.err().unwrap();
        assert!(failure.tried.is_empty());
        assert_eq!(failure.finding, failed(Stage::Connect, Failure::NoAddress(NAME.into())));
    }

    #[tokio::test]
    async fn nobody_at_home_is_a_failure_to_connect() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut host = host(vec![PLAIN], NAME).await;
        host.endpoint.address = listener.local_addr().unwrap();
        drop(listener);
        let failure = dial(&[&host], TlsPolicy::Off, Reach::Internet).await.err().unwrap();
        assert!(what(&failure.finding).starts_with("Connect the connection failed"), "{failure:?}");
    }
}
