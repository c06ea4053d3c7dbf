//! One connection: from the first endpoint that answers to the last reply.
//!
//! [`open`] tries endpoints in order: connect, greeting, EHLO, STARTTLS as the policy asks, EHLO
//! again; towards a relay perhaps TLS before all that, and AUTH behind it. Dialling and the handshake
//! are mail-send's client, which only [`super::dialer`] and this file import; its `cmd()` and `send()`
//! are not used, since they drop octets that come behind a reply and cannot pipeline. What happens once
//! the session is open is [`super::carrier`]'s work. What goes wrong here is about a host, or, with a
//! proxy or a login, about the source; no message has been touched.

mod login;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mail_send::SmtpClient;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::carrier::{Terms, run_on};
use super::dialer;
use super::replies::{Answer, ReplyReader};
use super::{
    Capabilities, ComposeFailure, Composed, Dial, Endpoint, Link, OpenFailure, Quirk, RelayTls, SessionEnd,
    TlsPolicy, Via,
};
use crate::envelope::Entry;
use crate::outcome::{Failure, Finding, Scope, Stage};
use crate::reply::Severity;
use login::no_login;

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
        if let Some(outside) = hops(&dial, endpoint).find(|hop| !dial.reach.allows(*hop)) {
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
                // The next address would have no other proxy and no other password; but if it is of the
                // other family, another address of ours, where it is that which cannot be used.
                let is_same_for_all = scope_of(&finding) == Scope::Source
                    && (*dial.via != Via::Direct || stage_of(&finding) == Some(Stage::Auth));
                tried.push((endpoint.clone(), finding));
                if is_same_for_all {
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

/// What is connected to on the way, the endpoint last.
fn hops(dial: &Dial<'_>, endpoint: &Endpoint) -> impl Iterator<Item = SocketAddr> + use<> {
    dial.via.proxy().into_iter().chain([endpoint.address])
}

fn scope_of(finding: &Finding) -> Scope {
    match finding {
        Finding::Refused { scope, .. } | Finding::Failed { scope, .. } => *scope,
        _ => Scope::Path,
    }
}

fn stage_of(finding: &Finding) -> Option<Stage> {
    match finding {
        Finding::Refused { stage, .. } | Finding::Failed { stage, .. } => Some(*stage),
        _ => None,
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
    pub async fn run<C, A, U>(self, link: Link<C, A, U>) -> SessionEnd
    where
        C: FnMut(Entry, &mut Composed) -> Result<(), ComposeFailure> + Send,
        A: Fn() -> Result<(), Instant> + Send,
        U: Fn(Instant) + Send,
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
            Road::Clear(talk) if hops(dial, endpoint).all(|hop| hop.ip().is_loopback()) => {
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
