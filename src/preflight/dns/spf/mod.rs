//! SPF of the return path, evaluated as receivers do for every source, and of the EHLO names (RFC 7208).

mod evaluate;
mod macros;
mod record;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use super::lookup::Lookup;
use super::reverse::Peer;
use super::sending::Sending;
use super::{Findings, Severity};
use crate::address::Domain;
use evaluate::{Client, LOOKUPS_MAX, Published, Trouble, Verdict, check_host, published};
use record::{Mechanism, Qualifier, Record};

/// Terms that are followed to see how many there are.
const TERMS_FOLLOWED_MAX: u32 = 50;
/// The local part where there is none (RFC 7208 §4.3); ours differs from message to message.
const LOCAL: &str = "postmaster";

/// Checks the record of the return path's domain for each peer.
pub(super) async fn check_return_path(
    sending: &Sending,
    peers: &[Peer<'_>],
    lookup: &Lookup,
    findings: &mut Findings,
) {
    let domain = &sending.return_path;
    let text = match published(lookup, domain.as_str()).await {
        Published::Unanswered => return,
        Published::None => return missing(sending, peers, findings),
        Published::Several(count) => {
            let what = format!(
                "the return path's domain {domain} has {count} SPF records, which counts as a mistake"
            );
            let advice = "leave one TXT record that begins with v=spf1, with the mechanisms of all";
            return findings.add(Severity::Error, "spf-several", what, advice);
        }
        Published::One(text) => text,
    };
    let record = match Record::parse(&text) {
        Ok(record) => record,
        Err(why) => return broken(domain, &why, findings),
    };
    let mut tally = Tally::default();
    tally.follow(&record, lookup).await;
    tally.tell(domain, findings);
    let mut outcomes = Vec::new();
    for peer in peers {
        let client = Client { address: peer.address, local: LOCAL, domain: domain.as_str(), ehlo: peer.ehlo };
        outcomes.push((peer, check_host(lookup, &client).await));
    }
    let exceeded = outcomes.iter().any(|(_, verdict)| *verdict == Verdict::PermError(Trouble::Lookups));
    if exceeded || tally.lookups > LOOKUPS_MAX {
        let severity = if exceeded { Severity::Error } else { Severity::Warning };
        let what =
            format!("the SPF record of {domain} needs more than {LOOKUPS_MAX} look-ups ({})", tally.shown());
        let advice = "take out what no longer sends, or write its addresses as ip4: and ip6:";
        findings.add(severity, "spf-lookups", what, advice);
    }
    tell_outcomes(domain, &outcomes, findings);
}

/// Checks the records of the names in EHLO; having none is usual and says nothing.
pub(super) async fn check_ehlo(peers: &[Peer<'_>], lookup: &Lookup, findings: &mut Findings) {
    for peer in peers {
        let Ok(name) = Domain::parse(peer.ehlo) else { continue };
        let client = Client { address: peer.address, local: LOCAL, domain: name.as_str(), ehlo: peer.ehlo };
        let verdict = match check_host(lookup, &client).await {
            Verdict::Fail => "says fail",
            Verdict::SoftFail => "says softfail",
            Verdict::PermError(_) => "cannot be evaluated",
            Verdict::None | Verdict::Neutral | Verdict::Pass | Verdict::TempError => continue,
        };
        let what = format!(
            "the SPF record of the EHLO name {name} {verdict} for {} (source `{}`)",
            peer.address, peer.source
        );
        let advice = format!("publish `v=spf1 {} -all` at {name}", mechanism_of(peer.address));
        findings.add(Severity::Warning, "spf-ehlo", what, advice);
    }
}

fn missing(sending: &Sending, peers: &[Peer<'_>], findings: &mut Findings) {
    let domain = &sending.return_path;
    let what = format!("the return path's domain {domain} has no SPF record");
    let sources = mechanisms(peers.iter().map(|peer| peer.address));
    let sources = if sources.is_empty() { "ip4:<address of each source>".to_owned() } else { sources };
    let advice = format!("publish the TXT record `v=spf1 {sources} -all` at {domain}");
    // Of little mail the large providers want SPF or DKIM, of bulk mail both.
    let severity = if sending.keys.is_empty() { Severity::Error } else { sending.demanded };
    findings.add(severity, "spf-missing", what, advice);
}

fn broken(domain: &Domain, why: &str, findings: &mut Findings) {
    let what = format!("the SPF record of {domain} ends in a permanent error: {why}");
    findings.add(Severity::Error, "spf-broken", what, "correct the record; until then it counts as none");
}

fn tell_outcomes(domain: &Domain, outcomes: &[(&Peer<'_>, Verdict)], findings: &mut Findings) {
    for (refusal, word) in
        [(Verdict::Fail, "fail"), (Verdict::SoftFail, "softfail"), (Verdict::Neutral, "neutral")]
    {
        let refused: Vec<&Peer<'_>> =
            outcomes.iter().filter(|(_, verdict)| *verdict == refusal).map(|(peer, _)| *peer).collect();
        let names: Vec<String> =
            refused.iter().map(|peer| format!("{} (source `{}`)", peer.address, peer.source)).collect();
        let what = format!("the SPF record of {domain} says {word} for addresses that we send from");
        let mechanisms = mechanisms(refused.iter().map(|peer| peer.address));
        let advice = format!("add `{mechanisms}` to it, before its last mechanism");
        findings.add_many(Severity::Error, "spf-source", (names.len() as u64, &names), what, advice);
    }
    let trouble = outcomes.iter().find_map(|(_, verdict)| match verdict {
        Verdict::PermError(Trouble::Other(why)) => Some(why),
        _ => None,
    });
    if let Some(why) = trouble {
        broken(domain, why, findings);
    }
}

fn mechanisms(addresses: impl Iterator<Item = IpAddr>) -> String {
    addresses.map(mechanism_of).collect::<Vec<_>>().join(" ")
}

fn mechanism_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("ip4:{address}"),
        IpAddr::V6(address) => format!("ip6:{address}"),
    }
}

/// What a record and those it leads to have in them, whoever sends.
#[derive(Default)]
struct Tally {
    lookups: u32,
    lets_all_through: bool,
    has_ptr: bool,
}

impl Tally {
    fn follow<'a>(
        &'a mut self,
        record: &'a Record,
        lookup: &'a Lookup,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let mut has_all = false;
            for (qualifier, mechanism) in &record.directives {
                self.lookups += u32::from(mechanism.asks());
                match mechanism {
                    Mechanism::All => {
                        has_all = true;
                        self.lets_all_through |= *qualifier == Qualifier::Pass;
                        break;
                    }
                    Mechanism::Ptr(_) => self.has_ptr = true,
                    // That of an `-include:` that lets all through would refuse all, which outcomes show.
                    Mechanism::Include(spec) if *qualifier == Qualifier::Pass => {
                        self.follow_name(spec.fixed(), lookup).await;
                    }
                    _ => {}
                }
            }
            if let Some(redirect) = record.redirect.as_ref().filter(|_| !has_all) {
                self.lookups += 1;
                self.follow_name(redirect.fixed(), lookup).await;
            }
        })
    }

    async fn follow_name(&mut self, name: Option<String>, lookup: &Lookup) {
        let Some(name) = name else { return };
        if self.lookups > TERMS_FOLLOWED_MAX {
            return;
        }
        if let Published::One(text) = published(lookup, &name).await
            && let Ok(record) = Record::parse(&text)
        {
            self.follow(&record, lookup).await;
        }
    }

    fn shown(&self) -> String {
        let many = self.lookups > TERMS_FOLLOWED_MAX;
        if many { format!("over {TERMS_FOLLOWED_MAX}") } else { self.lookups.to_string() }
    }

    fn tell(&self, domain: &Domain, findings: &mut Findings) {
        if self.lets_all_through {
            let what = format!("the SPF record of {domain} lets everybody send in its name (+all)");
            let advice = "end the record with -all or ~all";
            findings.add(Severity::Warning, "spf-all", what, advice);
        }
        if self.has_ptr {
            let what = format!(
                "the SPF record of {domain} uses ptr, which is slow and not to be used (RFC 7208 §5.5)"
            );
            let advice = "write the addresses as ip4: and ip6: instead";
            findings.add(Severity::Warning, "spf-ptr", what, advice);
        }
    }
}
