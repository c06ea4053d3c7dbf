//! The check_host() function of SPF (RFC 7208 §4 to §6) over [`Lookup`].
//!
//! Ten look-ups and two that find nothing end it, as receivers do. Explanations are not fetched.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;

use super::macros::{DomainSpec, Values};
use super::record::{Bits, Mechanism, Qualifier, Record, is_spf};
use crate::address::is_within;
use crate::preflight::dns::lookup::{Answer, Lookup};

/// Terms that ask the DNS, at most (§4.6.4).
pub(super) const LOOKUPS_MAX: u32 = 10;
/// Terms whose question finds nothing, at most (§4.6.4).
const VOID_LOOKUPS_MAX: u32 = 2;
/// Hosts of one `mx` and names of one `ptr`, at most (§4.6.4).
const HOSTS_MAX: usize = 10;

/// What comes of an evaluation (§2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is no record, or no domain to have one.
    None,
    Neutral,
    Pass,
    Fail,
    SoftFail,
    /// The DNS could not be asked.
    TempError,
    PermError(Trouble),
}

/// Why an evaluation cannot come to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    Lookups,
    Other(String),
}

/// Who sends.
pub(super) struct Client<'a> {
    pub address: IpAddr,
    /// Of the return path; of the EHLO identity "postmaster" (§2.3).
    pub local: &'a str,
    pub domain: &'a str,
    pub ehlo: &'a str,
}

/// A domain's one SPF record.
pub(super) enum Published {
    None,
    One(String),
    Several(usize),
    Unanswered,
}

/// The SPF record of a domain (§4.4, §4.5).
pub(super) async fn published(lookup: &Lookup, domain: &str) -> Published {
    let Some(texts) = lookup.txt(domain).await.known() else { return Published::Unanswered };
    let mut records: Vec<String> = texts.into_iter().filter(|text| is_spf(text)).collect();
    match records.len() {
        0 => Published::None,
        1 => Published::One(records.remove(0)),
        several => Published::Several(several),
    }
}

/// What receivers make of mail from `client`.
pub(super) async fn check_host(lookup: &Lookup, client: &Client<'_>) -> Verdict {
    let mut evaluation = Evaluation { lookup, client, lookups: 0, void_lookups: 0, validated: None };
    match evaluation.domain(client.domain).await {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

struct Evaluation<'a> {
    lookup: &'a Lookup,
    client: &'a Client<'a>,
    lookups: u32,
    void_lookups: u32,
    /// The confirmed name of the address, once it was asked for.
    validated: Option<Option<String>>,
}

/// `Err` ends the whole evaluation.
type Step<T> = Result<T, Verdict>;

fn wrong(what: impl Into<String>) -> Verdict {
    Verdict::PermError(Trouble::Other(what.into()))
}

impl Evaluation<'_> {
    async fn domain(&mut self, domain: &str) -> Step<Verdict> {
        if !is_fit(domain) {
            return Ok(Verdict::None);
        }
        let text = match published(self.lookup, domain).await {
            Published::None => return Ok(Verdict::None),
            Published::Unanswered => return Err(Verdict::TempError),
            Published::Several(_) => return Err(wrong(format!("{domain} has several SPF records"))),
            Published::One(text) => text,
        };
        let record = Record::parse(&text).map_err(|why| wrong(format!("the record of {domain}: {why}")))?;
        for (qualifier, mechanism) in &record.directives {
            if self.matches(mechanism, domain).await? {
                return Ok(match qualifier {
                    Qualifier::Pass => Verdict::Pass,
                    Qualifier::Fail => Verdict::Fail,
                    Qualifier::SoftFail => Verdict::SoftFail,
                    Qualifier::Neutral => Verdict::Neutral,
                });
            }
        }
        let Some(redirect) = &record.redirect else { return Ok(Verdict::Neutral) };
        self.count()?;
        let target = self.expand(redirect, domain).await;
        match self.descend(&target).await? {
            Verdict::None => Err(wrong(format!("redirect={target} leads to no SPF record"))),
            verdict => Ok(verdict),
        }
    }

    /// [`Self::domain`], whose future cannot hold itself.
    fn descend<'b>(
        &'b mut self,
        domain: &'b str,
    ) -> Pin<Box<dyn Future<Output = Step<Verdict>> + Send + 'b>> {
        Box::pin(self.domain(domain))
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Step<bool> {
        if mechanism.asks() {
            self.count()?;
        }
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4(network, bits) => Ok(match self.client.address {
                IpAddr::V4(address) => is_within_v4(address, *network, *bits),
                IpAddr::V6(_) => false,
            }),
            Mechanism::Ip6(network, bits) => Ok(match self.client.address {
                IpAddr::V6(address) => is_within_v6(address, *network, *bits),
                IpAddr::V4(_) => false,
            }),
            Mechanism::Include(spec) => {
                let target = self.expand(spec, domain).await;
                match self.descend(&target).await? {
                    Verdict::Pass => Ok(true),
                    Verdict::None => Err(wrong(format!("include:{target} leads to no SPF record"))),
                    _ => Ok(false),
                }
            }
            Mechanism::A(spec, bits) => {
                let target = self.target(spec.as_ref(), domain).await;
                let answer = self.lookup.addresses_like(&target, self.client.address).await;
                let addresses = self.found(answer)?;
                Ok(addresses.into_iter().any(|address| self.is_near(address, *bits)))
            }
            Mechanism::Mx(spec, bits) => {
                let target = self.target(spec.as_ref(), domain).await;
                self.mx(&target, *bits).await
            }
            Mechanism::Exists(spec) => {
                let target = self.expand(spec, domain).await;
                let answer = self.lookup.v4(&target).await;
                Ok(!self.found(answer)?.is_empty())
            }
            Mechanism::Ptr(spec) => {
                let target = self.target(spec.as_ref(), domain).await;
                let answer = self.lookup.ptr(self.client.address).await;
                // A failure here is no match (§5.5).
                let names = self.found(answer).or_else(|verdict| match verdict {
                    Verdict::TempError => Ok(Vec::new()),
                    verdict => Err(verdict),
                })?;
                Ok(self.confirmed(names).await.iter().any(|name| is_at_or_below(name, &target)))
            }
        }
    }

    async fn mx(&mut self, target: &str, bits: Bits) -> Step<bool> {
        let answer = self.lookup.mx(target).await;
        let exchanges = self.found(answer)?;
        if exchanges.len() > HOSTS_MAX {
            return Err(wrong(format!("mx: {target} has more than {HOSTS_MAX} MX records")));
        }
        for exchange in exchanges.iter().filter(|exchange| !exchange.host.is_empty()) {
            let answer = self.lookup.addresses_like(&exchange.host, self.client.address).await;
            let addresses = answer.known().ok_or(Verdict::TempError)?;
            if addresses.into_iter().any(|address| self.is_near(address, bits)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count(&mut self) -> Step<()> {
        self.lookups += 1;
        if self.lookups > LOOKUPS_MAX { Err(Verdict::PermError(Trouble::Lookups)) } else { Ok(()) }
    }

    /// What a term's question found; counts those that found nothing.
    fn found<T>(&mut self, answer: Answer<T>) -> Step<Vec<T>> {
        match answer {
            Answer::Records(records) => Ok(records),
            Answer::Unanswered => Err(Verdict::TempError),
            Answer::Nothing { .. } => {
                self.void_lookups += 1;
                if self.void_lookups > VOID_LOOKUPS_MAX {
                    let most = VOID_LOOKUPS_MAX;
                    return Err(wrong(format!("more than {most} of its look-ups find nothing")));
                }
                Ok(Vec::new())
            }
        }
    }

    async fn target(&mut self, spec: Option<&DomainSpec>, domain: &str) -> String {
        match spec {
            Some(spec) => self.expand(spec, domain).await,
            None => domain.to_owned(),
        }
    }

    async fn expand(&mut self, spec: &DomainSpec, domain: &str) -> String {
        if spec.needs_validated() && self.validated.is_none() {
            let names = self.lookup.ptr(self.client.address).await.known().unwrap_or_default();
            let confirmed = self.confirmed(names).await;
            // The domain's own name is preferred, then one below it (§7.3).
            let best = confirmed.iter().find(|name| *name == domain);
            let best = best.or_else(|| confirmed.iter().find(|name| is_at_or_below(name, domain)));
            self.validated = Some(best.or(confirmed.first()).cloned());
        }
        let values = Values {
            address: self.client.address,
            local: self.client.local,
            sender_domain: self.client.domain,
            domain,
            ehlo: self.client.ehlo,
            validated: self.validated.as_ref().and_then(Option::as_deref),
        };
        spec.expand(&values)
    }

    /// Those of the address's names that lead back to it (§5.5).
    async fn confirmed(&self, names: Vec<String>) -> Vec<String> {
        let mut confirmed = Vec::new();
        for name in names.into_iter().take(HOSTS_MAX) {
            let addresses = self.lookup.addresses_like(&name, self.client.address).await;
            if addresses.known().unwrap_or_default().contains(&self.client.address) {
                confirmed.push(name);
            }
        }
        confirmed
    }

    fn is_near(&self, address: IpAddr, bits: Bits) -> bool {
        match (self.client.address, address) {
            (IpAddr::V4(client), IpAddr::V4(address)) => is_within_v4(client, address, bits.v4),
            (IpAddr::V6(client), IpAddr::V6(address)) => is_within_v6(client, address, bits.v6),
            _ => false,
        }
    }
}

fn is_within_v4(address: Ipv4Addr, network: Ipv4Addr, bits: u8) -> bool {
    let differing = u32::from(address) ^ u32::from(network);
    differing.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
}

fn is_within_v6(address: Ipv6Addr, network: Ipv6Addr, bits: u8) -> bool {
    let differing = u128::from(address) ^ u128::from(network);
    differing.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    is_within(name, &domain.to_ascii_lowercase())
}

/// Whether it can be asked for at all: labels of 1 to 63 octets, at least two (§4.3).
fn is_fit(domain: &str) -> bool {
    let fits = |label: &str| !label.is_empty() && label.len() <= 63;
    domain.len() <= 253 && domain.contains('.') && domain.split('.').all(fits)
}
