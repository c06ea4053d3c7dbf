//! Who sends, as the outside sees it: domains, keys and sources, from the manifest and the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::{Address, Domain};
use crate::campaign::manifest::Manifest;
use crate::config::{self, Node};
use crate::message::Signer;

use super::Severity;

/// All that the DNS is asked about.
#[derive(Debug, Clone)]
pub struct Sending {
    /// Of `From:`.
    pub from: Domain,
    pub return_path: Domain,
    pub reply_to: Option<Domain>,
    pub keys: Vec<PublicKey>,
    pub sources: Vec<Source>,
    /// Those that the message's links lead to.
    pub links: Vec<Domain>,
    /// Block lists for addresses, and for domains.
    pub address_lists: Vec<String>,
    pub domain_lists: Vec<String>,
    /// How bad it is to miss what large providers demand of bulk mail, and of no other.
    pub demanded: Severity,
}

/// The public half of a key that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pub domain: Domain,
    /// `selector._domainkey.domain`.
    pub name: String,
    /// The TXT record that publishes it.
    pub record: String,
    /// Of an RSA key.
    pub rsa_bits: Option<usize>,
}

/// A source as peers may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub ehlo: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub way: Way,
}

/// How mail leaves a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From its addresses, also through a proxy that uses them.
    Own,
    /// Through a SOCKS5 proxy, from an address of the proxy's.
    Proxy,
    /// Handed to a relay, which sends from its own addresses under its own name.
    Relay,
}

impl Sending {
    /// The sources are those of the pool that the manifest names; none where there is no such pool.
    /// `links` are the domains of the message's links. All of it is held to what bulk mail is.
    pub fn new(manifest: &Manifest, node: &Node, signers: &[Signer], links: Vec<Domain>) -> Self {
        let pool = node.pools.get(manifest.pool.as_deref().unwrap_or(config::DEFAULT));
        let names = pool.into_iter().flat_map(|weights| weights.keys());
        let reply_to = manifest.reply_to.as_deref().and_then(domain_of);
        Self {
            from: manifest.from_address().domain().clone(),
            return_path: manifest.return_path_domain.clone(),
            reply_to,
            keys: signers.iter().map(PublicKey::from).collect(),
            sources: names.map(|name| Source::of(node, name)).collect(),
            links,
            address_lists: node.check.dnsbl.clone(),
            domain_lists: node.check.domain_dnsbl.clone(),
            demanded: Severity::Error,
        }
    }
}

impl From<&Signer> for PublicKey {
    fn from(signer: &Signer) -> Self {
        Self {
            domain: signer.domain().clone(),
            name: signer.name(),
            record: signer.public_record(),
            rsa_bits: signer.rsa_bits(),
        }
    }
}

impl Source {
    fn of(node: &Node, name: &str) -> Self {
        let (ehlo, settings) = (node.ehlo_of(name), node.sources.get(name));
        let way = match settings {
            Some(source) if source.relay.is_some() => Way::Relay,
            Some(source) if source.socks5.is_some() => Way::Proxy,
            _ => Way::Own,
        };
        let (ipv4, ipv6) = settings.map_or((None, None), |source| (source.ipv4, source.ipv6));
        Self { name: name.to_owned(), ehlo, ipv4, ipv6, way }
    }

    /// The addresses that peers see, as far as they are known.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let known = self.way == Way::Own;
        let v4 = self.ipv4.filter(|_| known).map(IpAddr::V4);
        v4.into_iter().chain(self.ipv6.filter(|_| known).map(IpAddr::V6))
    }
}

/// The domain of `Name <address>` or of an address; a template has none that is known.
fn domain_of(mailbox: &str) -> Option<Domain> {
    let address = mailbox.rsplit_once('<').map_or(mailbox, |(_, rest)| rest.trim_end().trim_end_matches('>'));
    Address::parse(address).ok().map(|address| address.domain().clone())
}
