//! Block lists in the DNS: whether our addresses and domains are on one that the settings name.
//!
//! RFC 5782. A list is first asked for its test entries, so that one that says nothing, or yes to all, is
//! not believed. Nobody is asked unless named.

use std::net::{IpAddr, Ipv4Addr};

use hickory_resolver::proto::rr::Name;

use super::lookup::{Answer, Lookup};
use super::reverse::Peer;
use super::sending::Sending;
use super::{Findings, Severity};
use crate::address::Domain;

/// A name and those above it, of this many at most, are asked for.
const NAMES_MAX: usize = 4;

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Says {
    Listed(Ipv4Addr),
    NotListed,
    /// It answers what is no answer.
    Nonsense(String),
    /// Nobody answered, which the look-ups tell.
    Nothing,
}

/// What is asked for, and how a finding names it.
struct Entry {
    name: String,
    shown: String,
}

pub(super) async fn check(sending: &Sending, peers: &[Peer<'_>], lookup: &Lookup, findings: &mut Findings) {
    let addresses: Vec<Entry> = peers.iter().map(Entry::of_peer).collect();
    for list in &sending.address_lists {
        let advice = "find out why, have it taken off, and send from another source until then";
        if works(list, "2.0.0.127", "1.0.0.127", Severity::Warning, lookup, findings).await {
            ask_all(list, &addresses, ("source-listed", advice), lookup, findings).await;
        }
    }
    let domains = domains(sending);
    for list in &sending.domain_lists {
        let advice = "find out why and have it taken off, or use another domain";
        if works(list, "test", "invalid", Severity::Note, lookup, findings).await {
            ask_all(list, &domains, ("domain-listed", advice), lookup, findings).await;
        }
    }
}

async fn ask_all(
    list: &str,
    entries: &[Entry],
    (check, advice): (&'static str, &str),
    lookup: &Lookup,
    findings: &mut Findings,
) {
    for entry in entries {
        match ask(list, &entry.name, lookup).await {
            Says::NotListed | Says::Nothing => {}
            Says::Nonsense(why) => return tell_silent(list, &why, findings),
            Says::Listed(code) => {
                let texts = lookup.txt(&format!("{}.{list}", entry.name)).await.known();
                let reason = texts.and_then(|texts| texts.into_iter().next());
                let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                let what = format!("{} is on the block list {list} ({code}){reason}", entry.shown);
                findings.add(Severity::Error, check, what, advice);
            }
        }
    }
}

/// Whether the list can be believed: it lists what it must, and does not what it must not (RFC 5782 §5).
/// Some lists of domains leave out what they must; that is a note, and they are asked.
async fn works(
    list: &str,
    listed: &str,
    unlisted: &str,
    severity: Severity,
    lookup: &Lookup,
    findings: &mut Findings,
) -> bool {
    match ask(list, unlisted, lookup).await {
        Says::NotListed => {}
        Says::Nothing => return false,
        Says::Nonsense(why) => {
            tell_silent(list, &why, findings);
            return false;
        }
        Says::Listed(_) => {
            let why = format!("it lists {unlisted}.{list}, as no list that works does");
            tell_silent(list, &why, findings);
            return false;
        }
    }
    match ask(list, listed, lookup).await {
        Says::Listed(_) => true,
        Says::Nothing => false,
        Says::Nonsense(why) => {
            tell_silent(list, &why, findings);
            false
        }
        Says::NotListed => {
            let what = format!(
                "the block list {list} does not list its test entry {listed}.{list}, so it may not work"
            );
            findings.add(
                severity,
                "blocklist-untested",
                what,
                "see whether the name is right and the list still there",
            );
            severity == Severity::Note
        }
    }
}

fn tell_silent(list: &str, why: &str, findings: &mut Findings) {
    let what = format!("the block list {list} could not be asked: {why}");
    let advice =
        "see to [check] dnsbl and domain_dnsbl; many lists answer neither public resolvers nor heavy users";
    findings.add(Severity::Warning, "blocklist-silent", what, advice);
}

async fn ask(list: &str, entry: &str, lookup: &Lookup) -> Says {
    let codes = match lookup.v4(&format!("{entry}.{list}")).await {
        Answer::Nothing { .. } => return Says::NotListed,
        Answer::Unanswered => return Says::Nothing,
        Answer::Records(codes) => codes,
    };
    for code in &codes {
        let [first, second, third, _] = code.octets();
        // 127.255.255.0/24 of Spamhaus, 127.0.0.1 of URIBL: the question was refused.
        if (first, second, third) == (127, 255, 255) || *code == Ipv4Addr::LOCALHOST {
            return Says::Nonsense(format!("it refuses the question ({code})"));
        }
        if first != 127 {
            return Says::Nonsense(format!("it answers {code}, which is no code of a list (RFC 5782 §2.1)"));
        }
    }
    Says::Listed(codes[0])
}

impl Entry {
    fn of_peer(peer: &Peer<'_>) -> Self {
        let shown = format!("the address {} of the source `{}`", peer.address, peer.source);
        Self { name: reversed(peer.address), shown }
    }
}

/// The labels of its place below `arpa`, without that (§2.1, §2.4).
fn reversed(address: IpAddr) -> String {
    let name = Name::from(address).to_ascii();
    let name = name.trim_end_matches('.');
    let name = name.strip_suffix(".in-addr.arpa").or_else(|| name.strip_suffix(".ip6.arpa"));
    name.unwrap_or_default().to_owned()
}

/// All names to ask for, each once. A list has what was registered, which is the name or one above it.
fn domains(sending: &Sending) -> Vec<Entry> {
    let own = [(&sending.from, "From domain"), (&sending.return_path, "return path")];
    let keys = sending.keys.iter().map(|key| (&key.domain, "DKIM domain"));
    let links = sending.links.iter().map(|link| (link, "domain of a link"));
    let ehlo: Vec<Domain> =
        sending.sources.iter().filter_map(|source| Domain::parse(&source.ehlo).ok()).collect();
    let ehlo = ehlo.iter().map(|name| (name, "EHLO name"));
    let mut entries: Vec<Entry> = Vec::new();
    for (domain, role) in own.into_iter().chain(keys).chain(links).chain(ehlo) {
        for name in upwards(domain.as_str()) {
            if !entries.iter().any(|entry| entry.name == name) {
                entries.push(Entry { name: name.to_owned(), shown: format!("{name} ({role})") });
            }
        }
    }
    entries
}

/// The name and those above it with two labels at least, the shortest first.
fn upwards(domain: &str) -> Vec<&str> {
    let parents = domain.match_indices('.').map(|(dot, _)| &domain[dot + 1..]);
    let all: Vec<&str> = std::iter::once(domain).chain(parents).filter(|name| name.contains('.')).collect();
    all.into_iter().rev().take(NAMES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 5782 §2.1 and §2.4.
    #[test]
    fn addresses_are_asked_for_in_reverse() {
        assert_eq!(reversed("192.0.2.99".parse().unwrap()), "99.2.0.192");
        let expected = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2";
        assert_eq!(reversed("2001:db8::cb01".parse().unwrap()), expected);
    }

    #[test]
    fn a_name_is_asked_for_with_those_above_it() {
        assert_eq!(
            upwards("click.mail.sender.test"),
            ["sender.test", "mail.sender.test", "click.mail.sender.test"]
        );
        assert_eq!(upwards("a.b.c.d.e.test").len(), NAMES_MAX);
    }
}
