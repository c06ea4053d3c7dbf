//! Sites: which servers take the mail of a domain, and which domains share them.
//!
//! [`Resolver`] answers two questions, for a domain its [`Route`] and for a server its addresses, from a
//! cache that honours times to live. However many ask, one question a name is under way. Domains with the
//! same servers in the same order get the same [`Site`], but for those that a [`Grouping`] keeps apart. A DNS failure is [`Route::Unresolved`]: it
//! defers a domain and never bounces it.
//!
//! RFC 5321 §5.1 (MX, implicit MX), RFC 7505 (null MX), RFC 2308 (negative answers), RFC 8767 (stale
//! ones). Knows nothing of limits, sessions or recipients.

pub mod bulk;
mod cache;
mod grouping;
mod mx;
mod provider;
mod resolver;
mod sites;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::time::Instant;

use crate::address::Domain;
use crate::outcome::Failure;

pub use grouping::Grouping;
pub(crate) use mx::client as dns_client;
pub use provider::Providers;
pub use resolver::{Resolver, ResolverError, ResolverSettings};

/// One mail server of a site.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exchange {
    /// Lower is tried first.
    pub preference: u16,
    pub host: Domain,
}

/// All domains with the same servers in the same order of preference; the unit of limits.
#[derive(Debug, PartialEq, Eq)]
pub struct Site {
    /// For people: `(alt1|alt2)?.gmail-smtp-in.l.google.test`, or the first host and how many more. Two
    /// sites with the same servers in another order may share it.
    pub name: String,
    /// At least one, by preference, then name. Numbers are those of the domain seen first. None where
    /// all mail goes to relays.
    pub exchanges: Vec<Exchange>,
    pub provider: Option<Arc<str>>,
    /// No MX record: the domain's own address takes its mail (RFC 5321 §5.1).
    pub implicit: bool,
    /// The one domain of the site, where it has limits of its own and so shares none with others.
    pub own_limits_of: Option<Domain>,
}

/// Where a domain's mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Site(Arc<Site>),
    /// The domain says that it takes no mail (RFC 7505).
    NullMx,
    /// There is nowhere to deliver to, and the DNS is sure of it.
    NoDomain {
        reason: &'static str,
    },
    /// Nothing could be learned now: defer.
    Unresolved {
        reason: Arc<str>,
    },
}

/// A route and when to ask again. Asking earlier is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    pub route: Route,
    pub expires: Instant,
}

/// Addresses of a server; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
}

/// Why a server's addresses are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressFailure {
    /// The DNS is sure that there are none: skip this server.
    #[error("{0} has no address")]
    NoAddress(Domain),
    #[error("{0}")]
    Unresolved(Arc<str>),
}

impl From<AddressFailure> for Failure {
    fn from(failure: AddressFailure) -> Self {
        match failure {
            AddressFailure::NoAddress(host) => Self::NoAddress(host.to_string()),
            AddressFailure::Unresolved(reason) => Self::Io(reason.to_string()),
        }
    }
}
