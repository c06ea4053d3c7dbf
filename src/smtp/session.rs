//! One connection: from the first endpoint that answers to the last reply.
//!
//! [`open`] tries endpoints in order: connect, greeting, EHLO, STARTTLS as the policy asks, EHLO
//! again; towards a relay perhaps TLS before all that, and AUTH behind it. Dialling and the handshake
//! are mail-send's client, which only [`super::dialer`] and this file import; its `cmd()` and `send()`
//! are not used, since they drop octets that come behind a reply and cannot pipeline. What happens once
//! the session is open is [`super::carrier`]'s work. What goes wrong here is about a host, or, with a
//! proxy or a login, about the source; no message has been touched.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mail_send::SmtpClient;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::auth::{Exchange, Login};
use super::carrier::{Terms, run_on};
use super::dialer;
use super::replies::{Answer, ReplyReader};
use super::{
    Capabilities, ComposeFailure, Composed, Dial, Endpoint, Link, OpenFailure, Quirk, RelayTls, SessionEnd,
    TlsPolicy,
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
        let bind = match dial.submission {
            Some(_) => dial.source.bind_towards(endpoint.address),
            None => dial.source.bind_for(endpoint.address),
        };
        let Some(bind) = bind else { continue };
        let mut hops = dial.via.proxy().into_iter().chain([endpoint.address]);
        if let Some(outside) = hops.find(|address| !dial.reach.allows(*address)) {
            tried.push((endpoint.clone(), failed(Stage::Connect, Failure::Escape(outside))));
            break;
        }
        match try_endpoint(&dial, endpoint, bind, &mut learned).await {
            Ok(Opened { road, capabilities }) => {
                let (stream, replies) = road.into_parts();
                let terms = Terms {
                    capabilities,
                    trust: dial.trust,
                    timeouts: dial.timeouts.clone(),
                    learned,
                    replies,
                };
                return Ok(Session { endpoint: endpoint.clone(), stream, terms });
            }
            Err(finding) => {
                let is_ours = scope_of(&finding) == Scope::Source;
                tried.push((endpoint.clone(), finding));
                if is_ours {
                    // The next address would hear no other proxy and no other password.
                    break;
                }
            }
        }
    }
    let finding = tried.last().map_or_else(
        || {
            let host = dial.endpoints.first().map_or_else(String::new, |endpoint| endpoint.host.to_string());
            failed(Stage::Connect, Failure::NoAddress(host))
        },
        |(_, finding)| finding.clone(),
    );
    let scope = scope_of(&finding);
    Err(OpenFailure { tried, finding, scope, learned })
}

fn scope_of(finding: &Finding) -> Scope {
    match finding {
        Finding::Refused { scope, .. } | Finding::Failed { scope, .. } => *scope,
        _ => Scope::Path,
    }
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

/// A connection that has been greeted, and what the host can do.
struct Opened {
    road: Road,
    capabilities: Capabilities,
}

enum Road {
    Clear(Talk<TcpStream>),
    Encrypted(Box<Talk<TlsStream<TcpStream>>>),
}

impl Road {
    fn into_parts(self) -> (Stream, ReplyReader) {
        match self {
            Self::Clear(talk) => (Stream::Clear(talk.stream), talk.replies),
            Self::Encrypted(talk) => (Stream::Encrypted(Box::new(talk.stream)), talk.replies),
        }
    }
}

impl Opened {
    fn clear((talk, capabilities): (Talk<TcpStream>, Capabilities)) -> Self {
        Self { road: Road::Clear(talk), capabilities }
    }

    fn encrypted((talk, capabilities): (Talk<TlsStream<TcpStream>>, Capabilities)) -> Self {
        Self { road: Road::Encrypted(Box::new(talk)), capabilities }
    }
}

async fn try_endpoint(
    dial: &Dial<'_>,
    endpoint: &Endpoint,
    bind: Option<IpAddr>,
    learned: &mut Vec<Quirk>,
) -> Result<Opened, Finding> {
    let submission = dial.submission;
    let mut opened = match submission.map(|submission| submission.tls) {
        Some(RelayTls::Implicit) => wrapped(dial, endpoint, bind).await?,
        Some(RelayTls::Starttls) => secured(dial, TlsPolicy::Verified, endpoint, bind, learned).await?,
        Some(RelayTls::Off) => secured(dial, TlsPolicy::Off, endpoint, bind, learned).await?,
        None => secured(dial, dial.tls, endpoint, bind, learned).await?,
    };
    if let Some(login) = submission.and_then(|submission| submission.login.as_ref()) {
        let capabilities = &opened.capabilities;
        match &mut opened.road {
            Road::Encrypted(talk) => talk.log_in(dial, endpoint, login, capabilities).await?,
            Road::Clear(talk) if endpoint.address.ip().is_loopback() => {
                talk.log_in(dial, endpoint, login, capabilities).await?;
            }
            Road::Clear(talk) => {
                talk.leave(dial.timeouts.quit).await;
                return Err(no_login("the connection is not encrypted, and leaves this machine"));
            }
        }
    }
    Ok(opened)
}

/// TLS from the first octet (RFC 8314 §3.3).
async fn wrapped(dial: &Dial<'_>, endpoint: &Endpoint, bind: Option<IpAddr>) -> Result<Opened, Finding> {
    let stream = dialer::connect(dial.via, bind, endpoint.address, dial.timeouts.connect).await?;
    let talk = Talk { stream, replies: ReplyReader::default() };
    let connector = dial.connectors.verified();
    let mut talk = handshaken(endpoint, talk, connector, dial.timeouts.starttls).await?;
    let capabilities = talk.welcome(dial).await?;
    Ok(Opened::encrypted((talk, capabilities)))
}

/// STARTTLS as `policy` asks.
async fn secured(
    dial: &Dial<'_>,
    policy: TlsPolicy,
    endpoint: &Endpoint,
    bind: Option<IpAddr>,
    learned: &mut Vec<Quirk>,
) -> Result<Opened, Finding> {
    let (mut talk, capabilities) = greeted(dial, endpoint, bind).await?;
    let is_opportunistic = policy == TlsPolicy::Opportunistic;
    let connector = match dial.connectors.for_policy(policy) {
        Some(connector) if capabilities.starttls => connector,
        Some(_) if !is_opportunistic => {
            talk.leave(dial.timeouts.quit).await;
            return Err(failed(Stage::StartTls, Failure::NotOffered("STARTTLS")));
        }
        _ => return Ok(Opened::clear((talk, capabilities))),
    };
    let wait = dial.timeouts.starttls;
    let asked = talk.command(b"STARTTLS\r\n", wait).await.map(|answer| (answer.code(), answer.to_reply()));
    let finding = match asked {
        Ok((220, _)) => match encrypted(dial, endpoint, talk, connector).await {
            Ok(opened) => return Ok(Opened::encrypted(opened)),
            // Under protection and understood: the host would say the same in clear.
            Err(finding @ Finding::Refused { .. }) => return Err(finding),
            Err(finding) => finding,
        },
        Ok((code, reply)) => {
            if is_opportunistic && code != 421 {
                return Ok(Opened::clear((talk, capabilities)));
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
    Ok(Opened::clear(greeted(dial, endpoint, bind).await?))
}

/// Connects, hears the greeting and says EHLO.
async fn greeted(
    dial: &Dial<'_>,
    endpoint: &Endpoint,
    bind: Option<IpAddr>,
) -> Result<(Talk<TcpStream>, Capabilities), Finding> {
    let stream = dialer::connect(dial.via, bind, endpoint.address, dial.timeouts.connect).await?;
    let mut talk = Talk { stream, replies: ReplyReader::default() };
    let capabilities = talk.welcome(dial).await?;
    Ok((talk, capabilities))
}

/// The handshake, and EHLO under its protection.
async fn encrypted(
    dial: &Dial<'_>,
    endpoint: &Endpoint,
    talk: Talk<TcpStream>,
    connector: &TlsConnector,
) -> Result<(Talk<TlsStream<TcpStream>>, Capabilities), Finding> {
    let mut talk = handshaken(endpoint, talk, connector, dial.timeouts.starttls).await?;
    let capabilities = talk.hello(&dial.source.ehlo, dial.timeouts.ehlo, dial.timeouts.quit).await?;
    Ok((talk, capabilities))
}

/// What came in clear is forgotten.
async fn handshaken(
    endpoint: &Endpoint,
    talk: Talk<TcpStream>,
    connector: &TlsConnector,
    wait: Duration,
) -> Result<Talk<TlsStream<TcpStream>>, Finding> {
    let Talk { stream, mut replies } = talk;
    replies.clear();
    let client = SmtpClient { stream, timeout: wait }.into_tls(connector, &endpoint.host).await;
    let stream = client.map_err(|error| failed(Stage::StartTls, transport_failure(error, wait)))?.stream;
    Ok(Talk { stream, replies })
}

/// A stream on which one command at a time is said and answered.
struct Talk<S> {
    stream: S,
    replies: ReplyReader,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// The greeting, and EHLO.
    async fn welcome(&mut self, dial: &Dial<'_>) -> Result<Capabilities, Finding> {
        let wait = dial.timeouts.greeting;
        let greeting = self.answer(wait).await.map_err(|failure| failed(Stage::Greeting, failure))?;
        if greeting.code() != 220 {
            let reply = greeting.to_reply();
            self.leave(dial.timeouts.quit).await;
            return Err(Finding::Refused { stage: Stage::Greeting, scope: Scope::Path, reply });
        }
        self.hello(&dial.source.ehlo, dial.timeouts.ehlo, dial.timeouts.quit).await
    }

    /// Says who we are (RFC 4954). Whatever the relay does not like about that is about the source.
    async fn log_in(
        &mut self,
        dial: &Dial<'_>,
        endpoint: &Endpoint,
        login: &Login,
        capabilities: &Capabilities,
    ) -> Result<(), Finding> {
        let (wait, quit) = (dial.timeouts.ehlo, dial.timeouts.quit);
        let mut exchange = match begin(endpoint, login, capabilities) {
            Ok(exchange) => exchange,
            Err(finding) => {
                self.leave(quit).await;
                return Err(finding);
            }
        };
        let at_auth = |failure| failed(Stage::Auth, failure);
        let mut line = exchange.command();
        loop {
            let answer = self.command(line.as_bytes(), wait).await.map_err(at_auth)?;
            let code = answer.code();
            let next = match code {
                235 => exchange.accepted().map(|()| None),
                334 => exchange.respond(answer.lines().next().unwrap_or_default()).map(Some),
                _ => {
                    let scope = if code == 421 { Scope::Path } else { Scope::Source };
                    let reply = answer.to_reply();
                    self.leave(quit).await;
                    return Err(Finding::Refused { stage: Stage::Auth, scope, reply });
                }
            };
            match next {
                Ok(Some(response)) => line = response,
                Ok(None) => return Ok(()),
                Err(fault) => {
                    if code == 334 {
                        // So an exchange is given up (RFC 4954 §4); that it is refused then is no news.
                        let _ = self.command(b"*\r\n", wait).await;
                    }
                    self.leave(quit).await;
                    return Err(no_login(fault));
                }
            }
        }
    }

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

fn begin(endpoint: &Endpoint, login: &Login, capabilities: &Capabilities) -> Result<Exchange, Finding> {
    let mechanism = login.choose(capabilities.auth).map_err(|missing| Finding::Failed {
        stage: Stage::Auth,
        scope: Scope::Source,
        failure: Failure::NotOffered(missing),
    })?;
    let secret = login.secret.read().map_err(no_login)?;
    let port = endpoint.address.port();
    Exchange::new(mechanism, &login.user, secret, &endpoint.host, port).map_err(no_login)
}

fn no_login(why: impl std::fmt::Display) -> Finding {
    Finding::Failed { stage: Stage::Auth, scope: Scope::Source, failure: Failure::Login(why.to_string()) }
}

fn failed(stage: Stage, failure: Failure) -> Finding {
    Finding::Failed { stage, scope: Scope::Path, failure }
}

/// What an error of mail-send's client means.
pub(super) fn transport_failure(error: mail_send::Error, wait: Duration) -> Failure {
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
    use crate::smtp::auth::{Mechanism, SecretPlace};
    use crate::smtp::{LocalEnd, Reach, Submission, Timeouts, TlsConnectors, Trust, Via};

    /// A server that goes by a script: each step waits for a line that starts so (the first for none),
    /// then says its reply. A reply of `TLS` is 220 and a handshake; of `WRAPPED`, the handshake alone.
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
                if script[0].1 == "WRAPPED" {
                    steps.next();
                    if let Ok(stream) = acceptor.accept(stream).await {
                        follow(stream, &mut steps).await;
                    }
                    continue;
                }
                let Some(stream) = follow(stream, &mut steps).await else { continue };
                let Ok(stream) = acceptor.accept(stream).await else { continue };
                follow(stream, &mut steps).await;
            }
        });
        Host { endpoint: Endpoint { host: NAME.into(), address }, ca_pem: issued.cert.pem() }
    }

    async fn dial(hosts: &[&Host], tls: TlsPolicy, reach: Reach) -> Result<Session, OpenFailure> {
        submit(hosts, tls, reach, None).await
    }

    async fn submit(
        hosts: &[&Host],
        tls: TlsPolicy,
        reach: Reach,
        submission: Option<&Submission>,
    ) -> Result<Session, OpenFailure> {
        let endpoints: Vec<Endpoint> = hosts.iter().map(|host| host.endpoint.clone()).collect();
        let connectors = TlsConnectors::new(hosts.first().map(|host| host.ca_pem.as_bytes())).unwrap();
        let timeouts = Timeouts { greeting: Duration::from_secs(10), ..Timeouts::default() };
        open(Dial {
            source: &LocalEnd { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: None, ehlo: "mta.example".into() },
            via: &Via::Direct,
            submission,
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
        assert_eq!(said, ["Greeting Path 554", "Greeting Path 421"]);
        assert_eq!((failure.scope, what(&failure.finding)), (Scope::Path, "Greeting Path 421".into()));
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
        assert_eq!(what(&failure.finding), "StartTls Path 454");
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
            endpoint: Endpoint { host: NAME.into(), address: six },
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

    /// A relay's submission with the password `secret` of `me`.
    fn submission(tls: RelayTls, method: Option<Mechanism>, file: &std::path::Path) -> Submission {
        std::fs::write(file, "secret\n").unwrap();
        let secret = SecretPlace::File(file.to_owned());
        Submission { tls, login: Some(Login { user: "me".into(), secret, is_token: false, method }) }
    }

    async fn relayed(
        script: Script,
        tls: RelayTls,
        method: Option<Mechanism>,
    ) -> Result<Session, OpenFailure> {
        let folder = tempfile::tempdir().unwrap();
        let submission = submission(tls, method, &folder.path().join("secret"));
        let relay = host(vec![script], NAME).await;
        // What paths ask of exchanges does not count.
        submit(&[&relay], TlsPolicy::Opportunistic, Reach::Internet, Some(&submission)).await
    }

    const OFFERS_AUTH: &str = "250-x\r\n250-PIPELINING\r\n250 AUTH LOGIN PLAIN\r\n";

    #[tokio::test]
    async fn a_relay_is_told_who_we_are_behind_tls_of_either_kind() {
        let wrapped: Script = &[
            ("", "WRAPPED"),
            ("", "220 hi\r\n"),
            ("EHLO", OFFERS_AUTH),
            ("AUTH PLAIN AG1lAHNlY3JldA==", "235 2.7.0 welcome\r\n"),
        ];
        let session = relayed(wrapped, RelayTls::Implicit, None).await.unwrap();
        assert!(session.is_encrypted() && session.capabilities().pipelining);
        let upgraded: Script = &[
            ("", "220 hi\r\n"),
            ("EHLO", OFFERS),
            ("STARTTLS", "TLS"),
            ("EHLO", OFFERS_AUTH),
            ("AUTH LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"),
            ("bWU=\r\n", "334 UGFzc3dvcmQ6\r\n"),
            ("c2VjcmV0\r\n", "235 2.7.0 welcome\r\n"),
        ];
        assert!(relayed(upgraded, RelayTls::Starttls, Some(Mechanism::Login)).await.unwrap().is_encrypted());
        // In clear to this machine, and only where that was asked for.
        let clear: Script =
            &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "235 2.7.0 welcome\r\n")];
        assert!(!relayed(clear, RelayTls::Off, None).await.unwrap().is_encrypted());
        let failure = relayed(clear, RelayTls::Starttls, None).await.err().unwrap();
        assert_eq!(failure.finding, failed(Stage::StartTls, Failure::NotOffered("STARTTLS")));
    }

    #[tokio::test]
    async fn a_relay_that_does_not_know_us_is_the_sources_trouble() {
        let refusing: Script =
            &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "535 5.7.8 who?\r\n"), ("QUIT", "")];
        let later: Script =
            &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "454 4.7.0 later\r\n"), ("QUIT", "")];
        let busy: Script =
            &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("AUTH PLAIN", "421 4.3.2 busy\r\n"), ("QUIT", "")];
        for (script, scope, said) in [
            (refusing, Scope::Source, "Auth Source 535"),
            (later, Scope::Source, "Auth Source 454"),
            (busy, Scope::Path, "Auth Path 421"),
        ] {
            let failure = relayed(script, RelayTls::Off, None).await.err().unwrap();
            assert_eq!((failure.scope, what(&failure.finding).as_str()), (scope, said));
            assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
        }
        let without: Script = &[("", "220 hi\r\n"), ("EHLO", "250 x\r\n"), ("QUIT", "")];
        let failure = relayed(without, RelayTls::Off, None).await.err().unwrap();
        assert_eq!(
            (failure.scope, what(&failure.finding)),
            (Scope::Source, "Auth the peer does not offer AUTH for passwords".into())
        );
        let failure = relayed(
            &[("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH), ("QUIT", "")],
            RelayTls::Off,
            Some(Mechanism::CramMd5),
        )
        .await
        .err()
        .unwrap();
        assert_eq!(what(&failure.finding), "Auth the peer does not offer CRAM-MD5");
    }

    #[tokio::test]
    async fn an_exchange_that_leads_nowhere_is_given_up() {
        let curious: Script = &[
            ("", "220 hi\r\n"),
            ("EHLO", OFFERS_AUTH),
            ("AUTH PLAIN", "334 bW9yZQ==\r\n"),
            ("*", "501 5.7.0 as you wish\r\n"),
            ("QUIT", ""),
        ];
        let failure = relayed(curious, RelayTls::Off, None).await.err().unwrap();
        assert_eq!(
            (failure.scope, what(&failure.finding)),
            (Scope::Source, "Auth no login: the relay asked for more than PLAIN has to say".into())
        );
        // 235 without the proof that SCRAM wants of the server.
        let impostor: Script = &[
            ("", "220 hi\r\n"),
            ("EHLO", "250-x\r\n250 AUTH SCRAM-SHA-256\r\n"),
            ("AUTH SCRAM-SHA-256 ", "235 2.7.0 welcome\r\n"),
            ("QUIT", ""),
        ];
        let failure = relayed(impostor, RelayTls::Off, None).await.err().unwrap();
        assert!(what(&failure.finding).contains("has not shown that it knows the password"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_certificate_for_another_host_is_never_good_enough_for_a_relay() {
        let folder = tempfile::tempdir().unwrap();
        let upgraded: Script =
            &[("", "220 hi\r\n"), ("EHLO", OFFERS), ("STARTTLS", "TLS"), ("EHLO", OFFERS_AUTH)];
        let wrapped: Script = &[("", "WRAPPED"), ("", "220 hi\r\n"), ("EHLO", OFFERS_AUTH)];
        for (script, tls) in [(upgraded, RelayTls::Starttls), (wrapped, RelayTls::Implicit)] {
            let other = host(vec![script], "other.example.test").await;
            let submission = submission(tls, None, &folder.path().join("secret"));
            let submitted = submit(&[&other], TlsPolicy::Off, Reach::Internet, Some(&submission)).await;
            let failure = submitted.err().unwrap();
            assert!(what(&failure.finding).starts_with("StartTls TLS failed"), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn a_proxy_outside_the_world_is_not_connected_to() {
        let inside = host(vec![PLAIN], NAME).await;
        let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let reach = Reach::World(Arc::new(HashSet::from([inside.endpoint.address])));
        let connectors = TlsConnectors::new(None).unwrap();
        let failure = open(Dial {
            source: &LocalEnd { ipv4: None, ipv6: None, ehlo: "mta.example".into() },
            via: &Via::ProxyProtocol(proxy),
            submission: None,
            endpoints: std::slice::from_ref(&inside.endpoint),
            tls: TlsPolicy::Off,
            connectors: &connectors,
            timeouts: &Timeouts::default(),
            trust: Trust::Window,
            reach: &reach,
        })
        .await
        .err()
        .unwrap();
        assert_eq!(failure.finding, failed(Stage::Connect, Failure::Escape(proxy)));
    }
}
