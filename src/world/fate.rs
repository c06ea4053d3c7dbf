//! What must become of an address, known before anything is sent.
//!
//! The rules an engine is held to:
//! - NXDOMAIN, null MX, neither MX nor address: bounced. SERVFAIL and silence for ever: expired.
//! - No live MX host: expired. One live among dead ones: as if all lived.
//! - 5yz from RCPT TO on, at the first attempt that counts: bounced. Later attempts never come.
//! - 5yz before RCPT TO is about the sender: deferred, so expired if it never ends. At EHLO it leads
//!   to HELO, at STARTTLS to a session in the clear: delivered; there any failure does but 421.
//! - 4yz, 421, garbage, silence and closed connections: delivered if some later attempt is spared,
//!   expired if none is. After acceptance too: the engine cannot know, and sends again.
//! - Greylisting, limits and penalties only delay, whatever the code of their replies.
//! - Blocks of sources are about the sender, whatever the stage and code: they are left out, as if the
//!   recipient would be tried from another source or once the block is over.
//! - A local part beyond ASCII at a host without SMTPUTF8: bounced.
//!
//! This is for opportunistic TLS and the in-doubt policy `resend`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file::{DnsKind, Extension, FaultKind, HostState, ProviderFile, Stage, TroubleFile};
use super::plan::{DomainPlan, Plan};
use crate::address::AddressRef;

/// The disposition a recipient must end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    Delivered,
    Bounced,
    Expired,
}

/// How many recipients must end how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FateCounts {
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
}

impl FateCounts {
    pub fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Delivered => self.delivered += 1,
            Fate::Bounced => self.bounced += 1,
            Fate::Expired => self.expired += 1,
        }
    }

    pub fn total(&self) -> u64 {
        self.delivered + self.bounced + self.expired
    }
}

/// What must come of a list, in all and by provider of the world (`"-"`: domains it does not know).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Expectation {
    pub total: FateCounts,
    pub providers: BTreeMap<String, FateCounts>,
}

impl Plan {
    /// See the head of this file.
    pub fn expect(&self, address: &AddressRef<'_>) -> Fate {
        let Some(domain) = self.domains.get(address.domain()) else { return Fate::Bounced };
        let provider = &self.providers[domain.provider];
        if let Some(fate) = provider.file.expect {
            return fate;
        }
        if let Some(fate) = self.fate_of_domain(domain) {
            return fate;
        }
        if address.needs_smtputf8() && !provider.offers(Extension::SmtpUtf8) {
            return Fate::Bounced;
        }
        self.trouble_of(domain.provider, address.key()).map_or(Fate::Delivered, fate_of_trouble)
    }

    /// The name of the provider that has the domain.
    pub fn provider_of(&self, domain: &str) -> Option<&str> {
        self.domains.get(domain).map(|domain| self.providers[domain.provider].name.as_str())
    }

    /// What all addresses of the domain share, if they do.
    pub(crate) fn fate_of_domain(&self, domain: &DomainPlan) -> Option<Fate> {
        if let Some((kind, queries)) = domain.dns_fault
            && let Some(fate) = fate_of_dns(kind)
            && (fate == Fate::Bounced || queries.is_none())
        {
            return Some(fate);
        }
        if let Some(fate) = fate_of_dns(domain.dns) {
            return Some(fate);
        }
        let provider = &self.providers[domain.provider];
        let alive =
            provider.operators[domain.operator].iter().any(|host| self.hosts[*host].state == HostState::Live);
        (!alive || never_reaches_rcpt(&provider.file)).then_some(Fate::Expired)
    }
}

fn fate_of_dns(kind: DnsKind) -> Option<Fate> {
    match kind {
        DnsKind::Mx | DnsKind::Implicit | DnsKind::Cname => None,
        DnsKind::NullMx | DnsKind::Nxdomain | DnsKind::Nodata => Some(Fate::Bounced),
        DnsKind::Servfail | DnsKind::Silent => Some(Fate::Expired),
    }
}

/// Whether every session fails before RCPT TO, for ever.
fn never_reaches_rcpt(provider: &ProviderFile) -> bool {
    provider.troubles.iter().any(|trouble| {
        let for_ever = trouble.attempts.is_none() && trouble.share >= 1.0;
        let harmless = match trouble.stage() {
            Stage::Connect | Stage::Greeting | Stage::Mail => false,
            Stage::Ehlo => trouble.fault == FaultKind::Permanent || is_reply(trouble, b'5'),
            // 421 ends the session and says nothing about TLS.
            Stage::StartTls => match &trouble.reply {
                Some(reply) => !reply.starts_with("421"),
                None => trouble.fault != FaultKind::Closing421,
            },
            _ => return false,
        };
        for_ever && !harmless && trouble.expect.is_none()
    })
}

fn is_reply(trouble: &TroubleFile, class: u8) -> bool {
    trouble.reply.as_ref().is_some_and(|reply| reply.as_bytes()[0] == class)
}

fn fate_of_trouble(trouble: &TroubleFile) -> Fate {
    if let Some(fate) = trouble.expect {
        return fate;
    }
    let final_refusal = match (&trouble.reply, trouble.fault) {
        (Some(_), _) => is_reply(trouble, b'5'),
        (None, fault) => {
            matches!(fault, FaultKind::Permanent | FaultKind::UnknownUser | FaultKind::ContentRefused)
        }
    };
    let at_first = trouble.strikes(1);
    match (final_refusal, &trouble.attempts) {
        (true, _) if at_first => Fate::Bounced,
        (_, None) => Fate::Expired,
        // Attempt 2 and later are only made if the ones before them failed.
        (true, Some(_)) | (false, Some(_)) => Fate::Delivered,
    }
}
