//! SMTP as a client speaks it: one session, many transactions, one outcome a recipient.
//!
//! ```text
//! session     opening a connection: endpoints, greeting, EHLO, STARTTLS, AUTH
//! dialer      the connection itself, directly or through a proxy
//! socks5      what is said to a SOCKS5 proxy
//! auth        SASL: who we are to a relay (no I/O)
//! hello       EHLO's answer → Capabilities
//! tls         the two kinds of trust a handshake can have
//! carrier     the loop of an open session: octets, timeouts, orders, QUIT
//! transaction messages in → octets out; answers in → outcomes (no I/O, no clock)
//! replies     octets in → answers, split or joined anywhere
//! outbox      commands and contents as octets
//! ```
//!
//! What is said here is vocabulary: what a path hands to a session and what it hears back. Knows
//! nothing of campaigns, schedules or providers: messages come from a closure, orders and outcomes
//! go through channels.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::envelope::{Entry, Envelope};
use crate::journal::Inflight;
use crate::outcome::{Finding, Outcome, Scope, SiteId, SourceId};
use crate::reply::Reply;

pub mod auth;
pub mod carrier;
pub mod dialer;
#[cfg(test)]
mod dialogs;
pub mod hello;
#[cfg(test)]
mod model;
pub mod outbox;
pub mod replies;
pub mod session;
mod socks5;
pub mod tls;
pub mod transaction;

pub use crate::config::{RelayTls, Timeouts, TlsPolicy};
pub use auth::Login;
pub use carrier::{Terms, run_on};
pub use dialer::{Socks5, Via};
pub use hello::Capabilities;
pub use session::{Session, open};
pub use tls::TlsConnectors;

/// Which addresses this process may connect to.
#[derive(Debug, Clone)]
pub enum Reach {
    Internet,
    /// Only these: a rehearsal cannot escape.
    World(Arc<HashSet<SocketAddr>>),
}

impl Reach {
    pub fn allows(&self, address: SocketAddr) -> bool {
        match self {
            Self::Internet => true,
            Self::World(addresses) => addresses.contains(&address),
        }
    }
}

/// An exchange or a relay, and one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name; of a relay that is named so, an IP address. What its certificate must be valid for.
    pub host: Box<str>,
    pub address: SocketAddr,
}

/// How a session with a relay differs from one with an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub tls: RelayTls,
    pub login: Option<Login>,
}

/// Our end of a connection. With neither address given nothing is bound and both families are used;
/// else only the families that have an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEnd {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// What EHLO says: a host name, checked when the settings were read.
    pub ehlo: String,
}

impl LocalEnd {
    /// `None` where this end cannot reach `peer`, an exchange; else the address to bind, if any.
    pub fn bind_for(&self, peer: SocketAddr) -> Option<Option<IpAddr>> {
        if is_own_server(peer) { None } else { self.bind_towards(peer) }
    }

    /// As [`LocalEnd::bind_for`], for a relay, which may well be this machine's own server.
    pub fn bind_towards(&self, peer: SocketAddr) -> Option<Option<IpAddr>> {
        match (self.ipv4, self.ipv6, peer) {
            (None, None, _) => Some(None),
            (Some(address), _, SocketAddr::V4(_)) => Some(Some(address.into())),
            (_, Some(address), SocketAddr::V6(_)) => Some(Some(address.into())),
            _ => None,
        }
    }
}

/// Whether a peer is the mail server of this very machine, or no single machine. Domains that want no
/// mail point their MX there, and a server of ours would take their mail as ours to relay.
/// Other ports are where worlds and tests listen.
fn is_own_server(peer: SocketAddr) -> bool {
    let ip = peer.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    peer.port() == 25 && (ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_broadcast)
}

/// How much pipelining a site is trusted with; a path remembers it and asks again another day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Trust {
    /// One command, one reply.
    Lockstep,
    /// Commands in groups, the content first in the next group (RFC 2920 §3.1).
    RoundTrip,
    /// Whole transactions, several unanswered (RFC 3030).
    #[default]
    Window,
}

impl Trust {
    /// The next lower trust; lockstep has none.
    pub fn lower(self) -> Self {
        match self {
            Self::Window => Self::RoundTrip,
            Self::RoundTrip | Self::Lockstep => Self::Lockstep,
        }
    }
}

/// What a session found out about its site, to be remembered by the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// Not to be trusted with more than this.
    Trust(Trust),
    /// Refuses more than this many messages in a session.
    MessagesMax(u32),
    /// Offers STARTTLS and cannot do it.
    TlsBroken,
}

/// What a session tells its path while it runs; a few events a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Room for so many entries, sent before the session runs dry. Stands until a batch that is not
    /// empty has been received; the path may send more or fewer.
    Wants(usize),
    /// Not attempted; nothing of them reached the server that it could have kept.
    Returned(Vec<Entry>),
    Learned(Quirk),
}

/// Why a session ended. Everything it was given has been settled or returned by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The orders ended.
    Quit,
    /// Told to stop: what had not been started was returned.
    Stopped,
    /// Nothing to do for as long as `Link::idle`.
    Idle,
    /// As many messages as this session may carry.
    Full,
    /// The server closed while nothing was under way: no harm done.
    Gone,
    /// The server said 421.
    Closing(Reply),
    /// Timeout, close, or replies that make no sense.
    Broken(Finding),
    /// Nobody takes outcomes any more; what was in flight stays armed in the in-doubt map.
    Abandoned,
}

/// One message, made for one recipient; its buffers are reused.
#[derive(Debug, Default, Clone)]
pub struct Composed {
    pub envelope: Envelope,
    /// The whole message: CRLF line ends, 7-bit, not dot-stuffed.
    pub content: Vec<u8>,
}

/// Why there is no message for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComposeFailure {
    Suppressed,
    Unrenderable(String),
}

/// What ties a running session to its path, the journal and the campaigns.
pub struct Link<C, A, U> {
    /// Work from the path; closed = finish what was given, then QUIT.
    pub orders: mpsc::Receiver<Vec<Entry>>,
    pub events: mpsc::UnboundedSender<(u32, SessionEvent)>,
    /// Exactly one for each entry taken that is not returned.
    pub outcomes: mpsc::Sender<Outcome>,
    pub inflight: Arc<Inflight>,
    pub site: SiteId,
    pub source: SourceId,
    /// This session's number, sent along with its events.
    pub session: u32,
    /// Fills in a message (both fields written over); runs on the session's task, for microseconds.
    pub compose: C,
    /// Asked before each message: may it go now, and if not, when to ask again. What it grants is spent.
    pub admit: A,
    /// What was granted at that time was not used after all: the message was never begun.
    pub unspent: U,
    pub messages_max: Option<u32>,
    /// How long to wait for work before QUIT.
    pub idle: Duration,
    /// Unanswered messages at most where the server takes whole transactions; 0 counts as 1.
    pub window: usize,
    /// Start no further transaction, return what was not started, finish the rest, QUIT.
    pub stop: CancellationToken,
}

/// How and where to open a session.
pub struct Dial<'a> {
    pub source: &'a LocalEnd,
    pub via: &'a Via,
    /// When the endpoints are a relay's; then its `tls` counts, and not the one below.
    pub submission: Option<&'a Submission>,
    /// In order of attempt; those of a family that the source lacks are passed over.
    pub endpoints: &'a [Endpoint],
    pub tls: TlsPolicy,
    pub connectors: &'a TlsConnectors,
    pub timeouts: &'a Timeouts,
    pub trust: Trust,
    pub reach: &'a Reach,
}

/// No session could be opened: no connection, greeting, EHLO, TLS or login on any endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no session could be opened ({} endpoints tried)", tried.len())]
pub struct OpenFailure {
    /// What each endpoint said, in order of attempt.
    pub tried: Vec<(Endpoint, Finding)>,
    /// The last of them, or `Failure::NoAddress` when there was nothing to try.
    pub finding: Finding,
    pub scope: Scope,
    pub learned: Vec<Quirk>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_source_reaches_only_its_families() {
        let any = LocalEnd { ipv4: None, ipv6: None, ehlo: "mta.example".into() };
        let v4 = LocalEnd { ipv4: Some(Ipv4Addr::LOCALHOST), ..any.clone() };
        let peer4: SocketAddr = "192.0.2.1:25".parse().unwrap();
        let peer6: SocketAddr = "[2001:db8::1]:25".parse().unwrap();
        assert_eq!(any.bind_for(peer6), Some(None));
        assert_eq!(v4.bind_for(peer4), Some(Some(Ipv4Addr::LOCALHOST.into())));
        assert_eq!(v4.bind_for(peer6), None);
    }

    #[test]
    fn the_mail_server_of_this_machine_is_nobodys_exchange() {
        let any = LocalEnd { ipv4: None, ipv6: None, ehlo: "mta.example".into() };
        for address in ["127.0.0.1", "127.8.8.8", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "224.0.0.1"] {
            let peer = |port: u16| format!("{address}:{port}").parse().unwrap();
            assert_eq!(any.bind_for(peer(25)), None, "{address}");
            assert_eq!(any.bind_for(peer(2525)), Some(None), "{address}");
        }
    }

    #[test]
    fn the_world_is_all_that_a_rehearsal_reaches() {
        let inside: SocketAddr = "127.0.0.2:2525".parse().unwrap();
        let reach = Reach::World(Arc::new(HashSet::from([inside])));
        assert!(reach.allows(inside));
        assert!(!reach.allows("127.0.0.2:25".parse().unwrap()));
        assert!(Reach::Internet.allows("192.0.2.1:25".parse().unwrap()));
    }
}
