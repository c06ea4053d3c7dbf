//! Each source's address and name: the name of the address leads back to it, and EHLO's leads to it.
//!
//! RFC 5321 §4.1.4 (EHLO), RFC 1912 §2.1 (address and name agree); large receivers refuse without.

use std::net::IpAddr;

use super::lookup::{Answer, Lookup};
use super::sending::{Sending, Source, Way};
use super::{Findings, Severity};
use crate::address::{Domain, is_within};

/// Names of an address that are looked at.
const NAMES_MAX: usize = 10;

/// An address that peers see, with the name they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer<'a> {
    pub source: &'a str,
    pub ehlo: &'a str,
    pub address: IpAddr,
}

/// Checks all sources; gives the addresses whose mail the outside can judge.
pub(super) async fn check<'a>(
    sending: &'a Sending,
    lookup: &Lookup,
    findings: &mut Findings,
) -> Vec<Peer<'a>> {
    if sending.sources.is_empty() {
        let what = "the campaign's pool has no source";
        findings.add(Severity::Error, "source-missing", what, "name a pool of [pools] that has one");
    }
    let mut peers = Vec::new();
    for source in &sending.sources {
        if !tell_unknown(source, findings) {
            continue;
        }
        let name = check_name(source, findings);
        let peer = |address| Peer { source: &source.name, ehlo: &source.ehlo, address };
        let before = peers.len();
        for peer in source.addresses().map(peer) {
            if check_address(&peer, lookup, findings).await {
                peers.push(peer);
            }
        }
        if let Some(name) = name {
            check_name_leads_back(source, &name, &peers[before..], lookup, findings).await;
        }
    }
    peers
}

/// Says that a source's addresses are not known, where they are not; whether its name is its own.
fn tell_unknown(source: &Source, findings: &mut Findings) -> bool {
    let name = &source.name;
    let (what, advice) = match source.way {
        Way::Relay => (
            format!("the source `{name}` hands mail to a relay, whose addresses are not known here"),
            "see to it that SPF of the return path covers the relay and that it has names for its addresses",
        ),
        Way::Proxy => (
            format!("the source `{name}` sends through a proxy, whose address is not known here"),
            "see to it that SPF of the return path covers the proxy and that its address has the EHLO name",
        ),
        Way::Own if source.ipv4.is_none() && source.ipv6.is_none() => (
            format!("the source `{name}` names no address, so SPF and reverse DNS cannot be checked for it"),
            "give it ipv4 or ipv6 in [sources]",
        ),
        Way::Own => return true,
    };
    findings.add(Severity::Note, "source-unknown", what, advice);
    source.way != Way::Relay
}

/// The EHLO name, if it is one that the outside can look up.
fn check_name(source: &Source, findings: &mut Findings) -> Option<Domain> {
    let local = |name: &str| {
        ["localhost", "localdomain", "local", "internal", "lan", "home.arpa"]
            .iter()
            .any(|end| is_within(name, end))
    };
    let why = match Domain::parse(&source.ehlo) {
        Ok(name) if !local(name.as_str()) => return Some(name),
        Ok(_) => "only this machine or network knows it".to_owned(),
        Err(error) => error.to_string(),
    };
    let what =
        format!("the source `{}` says EHLO `{}`, which is no public name: {why}", source.name, source.ehlo);
    let advice = format!("give `ehlo` of [sources.{}] a full name that leads to its addresses", source.name);
    findings.add(Severity::Error, "ehlo-name", what, advice);
    None
}

/// Whether the outside can judge the address.
async fn check_address(peer: &Peer<'_>, lookup: &Lookup, findings: &mut Findings) -> bool {
    let Peer { source, address, .. } = *peer;
    // Of loopback addresses resolvers answer by themselves, whatever the DNS says (RFC 6303 §4.2).
    let answer =
        if address.is_loopback() { Answer::Nothing { no_name: true } } else { lookup.ptr(address).await };
    let names = match answer {
        Answer::Records(names) => names,
        Answer::Unanswered => return !is_private(address),
        Answer::Nothing { .. } if is_private(address) => {
            let what = format!(
                "the address {address} of the source `{source}` is private, and cannot be checked from here"
            );
            let advice = "check SPF, reverse DNS and block lists for the address that the outside sees";
            findings.add(Severity::Note, "source-private", what, advice);
            return false;
        }
        Answer::Nothing { .. } => {
            let what = format!("the address {address} of the source `{source}` has no name (PTR record)");
            let advice = format!("have whoever gave you the address set its reverse DNS to `{}`", peer.ehlo);
            findings.add(Severity::Error, "ptr-missing", what, advice);
            return true;
        }
    };
    let mut confirmed = None;
    let mut unsure = false;
    for name in names.iter().take(NAMES_MAX) {
        match lookup.addresses_like(name, address).await {
            Answer::Records(addresses) if addresses.contains(&address) => {
                confirmed = confirmed.or(Some(name))
            }
            Answer::Unanswered => unsure = true,
            Answer::Records(_) | Answer::Nothing { .. } => {}
        }
    }
    match confirmed {
        None if unsure => {}
        None => {
            let what = format!(
                "the address {address} of the source `{source}` has the name {}, which does not lead back \
                 to it",
                names[0]
            );
            let kind = if address.is_ipv4() { "an A" } else { "an AAAA" };
            let advice = format!("give {} {kind} record {address}, or the address another name", names[0]);
            findings.add(Severity::Error, "ptr-unconfirmed", what, advice);
        }
        Some(name) if is_generic(name, address) => {
            let what = format!(
                "the name {name} of the address {address} (source `{source}`) looks made from the address, \
                 as those of dial-up lines do"
            );
            let advice = format!("set its reverse DNS to a name of your own, like `{}`", peer.ehlo);
            findings.add(Severity::Warning, "ptr-generic", what, advice);
        }
        Some(_) => {}
    }
    true
}

async fn check_name_leads_back(
    source: &Source,
    name: &Domain,
    peers: &[Peer<'_>],
    lookup: &Lookup,
    findings: &mut Findings,
) {
    if source.addresses().next().is_some() && peers.is_empty() {
        return;
    }
    let known = match lookup.addresses(name.as_str()).await {
        Answer::Unanswered => return,
        Answer::Nothing { .. } => {
            let what = format!("the EHLO name {name} of the source `{}` has no address", source.name);
            let advice = format!("give {name} the source's address as A or AAAA record");
            return findings.add(Severity::Error, "ehlo-address", what, advice);
        }
        Answer::Records(known) => known,
    };
    for peer in peers.iter().filter(|peer| !known.contains(&peer.address)) {
        let what = format!(
            "the EHLO name {name} of the source `{}` does not lead to its address {}",
            source.name, peer.address
        );
        let advice = format!("add the address to the records of {name}, or change `ehlo`");
        findings.add(Severity::Warning, "ehlo-address", what, advice);
    }
}

/// Whether the address means something on its own network only.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || is_shared
        }
        IpAddr::V6(address) => {
            let local = address.is_unique_local() || address.is_unicast_link_local();
            address.is_loopback() || address.is_unspecified() || local
        }
    }
}

/// Whether the name has the digits of the address in it.
fn is_generic(name: &str, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let octets = address.octets();
            let numbers: Vec<u64> =
                name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect();
            let forward = octets.map(u64::from);
            let backward = [forward[3], forward[2], forward[1], forward[0]];
            let padded = octets.map(|octet| format!("{octet:03}")).concat();
            let hexadecimal = octets.map(|octet| format!("{octet:02x}")).concat();
            let label = name.split('.').next().unwrap_or_default();
            numbers.windows(4).any(|window| window == forward || window == backward)
                || label.contains(&padded)
                || label.contains(&hexadecimal)
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().map(|octet| format!("{octet:02x}")).concat();
            let digits: String = name.chars().filter(char::is_ascii_hexdigit).collect();
            let groups = address.segments().map(|group| format!("{group:x}"));
            let words: Vec<&str> = name.split(['-', '.']).collect();
            digits.contains(&nibbles[16..]) || words.windows(4).any(|window| window == &groups[4..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_made_from_the_address_are_told_from_chosen_ones() {
        let generic = |name: &str, address: &str| is_generic(name, address.parse().unwrap());
        for name in [
            "192-0-2-10.pool.isp.example",
            "host10.2.0.192.isp.example",
            "192.0.2.10.isp.example",
            "ip192000002010.isp.example",
            "c000020a.dyn.isp.example",
        ] {
            assert!(generic(name, "192.0.2.10"), "{name}");
        }
        for name in ["out10.sender.example", "mta-2-10.sender.example", "m1.eu.2.sender.example"] {
            assert!(!generic(name, "192.0.2.10"), "{name}");
        }
        assert!(generic("2001-db8-0-0-1-2-3-4.isp.example", "2001:db8::1:2:3:4"));
        assert!(generic("x00010002000300044.isp.example", "2001:db8::1:2:3:4"));
        assert!(!generic("out1.sender.example", "2001:db8::1:2:3:4"));
    }

    #[test]
    fn private_addresses_are_those_of_the_registries() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["192.0.2.1", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}
