//! A provider in the file: domains, DNS, hosts, extensions, TLS, delays; what it refuses stands beside.

use std::net::Ipv4Addr;

use serde::Deserialize;
use toml::Spanned;

use super::block::BlockFile;
use super::limits::{Greylist, LimitsFile};
use super::trouble::TroubleFile;
use crate::world::fate::Fate;
use crate::world::measure::Span;
use crate::world::phrases::Style;

/// Who operates some domains, and how their servers behave.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderFile {
    pub name: Spanned<String>,
    /// Its part of a sample list; absent = one for each domain.
    pub weight: Option<u32>,
    #[serde(default)]
    pub domains: Vec<String>,
    pub generate: Option<Generate>,
    #[serde(default)]
    pub dns: DnsKind,
    /// Of all records, in real seconds.
    #[serde(default = "ttl_default")]
    pub ttl: Span,
    /// By hash of (seed, domain): so many of the domains have this trouble in the DNS.
    #[serde(default)]
    pub dns_faults: Vec<DnsFault>,
    #[serde(default)]
    pub mx: Vec<MxFile>,
    /// Whose wording the replies have.
    #[serde(default)]
    pub style: Style,
    #[serde(default = "extensions_default")]
    pub extensions: Vec<Extension>,
    /// Octets a message may have; announced with the `size` extension.
    #[serde(default = "size_default")]
    pub size: usize,
    /// `false`: EHLO is unknown here, only HELO is understood.
    #[serde(default = "yes")]
    pub ehlo: bool,
    #[serde(default)]
    pub tls: TlsKind,
    /// Each way; the round trip is twice this. Real time.
    #[serde(default)]
    pub latency: Span,
    #[serde(default)]
    pub replies: ReplyFlow,
    /// Every reply that may have several lines has them.
    #[serde(default)]
    pub multiline: bool,
    /// DATA is answered with 354 although no recipient was taken; the content is refused then.
    #[serde(default)]
    pub lenient_data: bool,
    pub slow: Option<Slow>,
    #[serde(default)]
    pub limits: LimitsFile,
    pub greylist: Option<Greylist>,
    #[serde(default, rename = "trouble")]
    pub troubles: Vec<TroubleFile>,
    /// Sources that are not welcome here, or not for a while; the first that fits answers.
    #[serde(default, rename = "block")]
    pub blocks: Vec<BlockFile>,
    /// Overrides what is worked out for every address here.
    pub expect: Option<Fate>,
}

fn ttl_default() -> Span {
    Span(std::time::Duration::from_secs(300))
}

fn size_default() -> usize {
    36_700_160
}

fn yes() -> bool {
    true
}

fn extensions_default() -> Vec<Extension> {
    use Extension::*;
    vec![Size, EightBitMime, EnhancedStatusCodes, Pipelining, StartTls]
}

/// Domains by number: `{n}` counts from 1 to `count`; `{o}` in MX names is the operator's number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    pub count: u32,
    pub pattern: String,
    /// How many MX sets share the domains, in turn.
    #[serde(default = "one_operator")]
    pub operators: u32,
}

fn one_operator() -> u32 {
    1
}

/// What the DNS says about the domains of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsKind {
    #[default]
    Mx,
    /// No MX, but addresses at the domain itself (RFC 5321 §5.1).
    Implicit,
    /// RFC 7505.
    NullMx,
    Nxdomain,
    /// The name exists and has neither MX nor address.
    Nodata,
    Servfail,
    /// Queries are never answered.
    Silent,
    /// The domain is an alias of a name that has the MX records.
    Cname,
}

/// Trouble in the DNS for a share of the domains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsFault {
    pub kind: DnsKind,
    pub share: f64,
    /// Only the first so many queries for MX or address have it; absent = for ever.
    pub queries: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MxFile {
    pub host: String,
    #[serde(default = "preference_default")]
    pub preference: u16,
    #[serde(default)]
    pub state: HostState,
    /// Has `::1` besides its 127.x address; one host in a world can.
    #[serde(default)]
    pub ipv6: bool,
    /// The name in the MX record is an alias of this one, which has the address.
    pub alias_of: Option<String>,
    /// Another program serves this host, at this loopback address; the world only names it in the DNS.
    pub served_at: Option<Ipv4Addr>,
}

fn preference_default() -> u16 {
    10
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    #[default]
    Live,
    /// Nothing listens: connection refused.
    Dead,
    /// SYNs are dropped: connecting times out.
    Silent,
    /// The name has no address.
    Unresolvable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extension {
    Pipelining,
    Chunking,
    Size,
    #[serde(rename = "8bitmime")]
    EightBitMime,
    SmtpUtf8,
    StartTls,
    EnhancedStatusCodes,
    /// RFC 9422 MAILMAX, from `limits.messages_per_connection`.
    Limits,
    Dsn,
}

/// What is behind STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsKind {
    /// A certificate of the world's own CA for the MX host's name.
    #[default]
    Good,
    Expired,
    WrongName,
    /// 220, then a fatal alert.
    HandshakeFails,
    /// 220, then the connection closes.
    HandshakeCloses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplyFlow {
    /// The replies to all commands that came together leave together.
    #[default]
    Joined,
    /// A write for each reply.
    Single,
    /// A write for each octet.
    Octets,
}

/// A share of the connections is read slowly.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    #[serde(default = "one")]
    pub share: f64,
    pub octets_per_second: u32,
}

impl ProviderFile {
    pub(super) fn check(&self) -> Result<(), String> {
        let in_share = |share: f64| (0.0..=1.0).contains(&share);
        let served = matches!(self.dns, DnsKind::Mx | DnsKind::Implicit | DnsKind::Cname);
        if served && self.mx.is_empty() {
            return Err("domains with mail servers need at least one [[provider.mx]]".to_owned());
        }
        if self.mx.iter().any(|mx| mx.served_at.is_some_and(|address| !address.is_loopback())) {
            return Err("served_at must be a loopback address: a world has nothing outside".to_owned());
        }
        if self.generate.as_ref().is_some_and(|g| g.operators == 0 || !g.pattern.contains("{n}")) {
            return Err("generate needs {n} in its pattern and at least one operator".to_owned());
        }
        let dns_share: f64 = self.dns_faults.iter().map(|fault| fault.share).sum();
        let address_share: f64 = self.troubles.iter().filter(|t| t.scope_is_address()).map(|t| t.share).sum();
        if !in_share(dns_share) || address_share > 1.0 + 1e-9 {
            return Err("the shares of its troubles add up to more than 1".to_owned());
        }
        if self.slow.as_ref().is_some_and(|slow| !in_share(slow.share) || slow.octets_per_second == 0) {
            return Err("slow needs a share from 0 to 1 and octets_per_second above 0".to_owned());
        }
        self.limits.check()?;
        self.greylist.iter().try_for_each(Greylist::check)?;
        self.blocks.iter().try_for_each(BlockFile::check)?;
        self.troubles.iter().try_for_each(TroubleFile::check)
    }
}

fn one() -> f64 {
    1.0
}
