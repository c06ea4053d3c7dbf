//! How often an address comes before it is settled: for whoever plans a rehearsal.
//!
//! As [`super::fate`], from the same hashes: limits, blocks and troubles of sessions are left out, for they
//! are about the sender.

use std::time::Duration;

use super::World;
use super::fate::Fate;
use super::file::Extension;
use super::plan::Plan;
use crate::address::AddressRef;

/// What whoever mails an address has to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// The DNS is sure that nothing can be delivered there.
    Nowhere,
    /// Neither is it sure, nor does a server ever answer.
    Unreachable,
    /// A server answers.
    Answered {
        /// Besides a greylisting; `None`: each attempt is deferred.
        deferrals: Option<u32>,
        is_greylisted: bool,
    },
}

impl World {
    /// See [`Outlook`].
    pub fn outlook(&self, address: &AddressRef<'_>) -> Outlook {
        self.shared.plan.outlook(address)
    }

    /// The round trip to the servers of a domain, in real time; `None` for domains of no one.
    pub fn round_trip(&self, domain: &str) -> Option<Duration> {
        let plan = &self.shared.plan;
        let domain = plan.domains.get(domain)?;
        Some(plan.providers[domain.provider].file.latency.0 * 2)
    }
}

impl Plan {
    fn outlook(&self, address: &AddressRef<'_>) -> Outlook {
        let Some(domain) = self.domains.get(address.domain()) else { return Outlook::Nowhere };
        match self.fate_of_domain(domain) {
            Some(Fate::Bounced) => return Outlook::Nowhere,
            Some(_) => return Outlook::Unreachable,
            None => {}
        }
        let provider = &self.providers[domain.provider];
        let is_greylisted = self.is_greylisted(domain.provider, address.key());
        if address.needs_smtputf8() && !provider.offers(Extension::SmtpUtf8) {
            return Outlook::Answered { deferrals: Some(0), is_greylisted: false };
        }
        let trouble = self.trouble_of(domain.provider, address.key());
        let deferrals = trouble.map_or(Some(0), |trouble| match self.expect(address) {
            Fate::Bounced => Some(0),
            Fate::Expired => None,
            Fate::Delivered => {
                (1..=u32::MAX).find(|attempt| !trouble.strikes(*attempt)).map(|first| first - 1)
            }
        });
        Outlook::Answered { deferrals, is_greylisted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Options, WorldFile};

    fn outlook(provider: &str, address: &str) -> Outlook {
        let text = format!(
            "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nmx = [{{ host = \"mx.a.test\" }}]\n{provider}\n\
             [[provider]]\nname = \"n\"\ndomains = [\"n.test\"]\ndns = \"nxdomain\"\n\
             [[provider]]\nname = \"s\"\ndomains = [\"s.test\"]\ndns = \"servfail\"\n"
        );
        let world = World::start(&WorldFile::parse("w", &text).unwrap(), Options::default()).unwrap();
        world.outlook(&AddressRef::parse(address).unwrap())
    }

    #[test]
    fn an_address_is_deferred_as_often_in_a_row_as_its_trouble_says() {
        let answered = |deferrals, is_greylisted| Outlook::Answered { deferrals, is_greylisted };
        let trouble = |keys: &str| format!("trouble = [{{ stage = \"rcpt\", {keys} }}]");
        assert_eq!(outlook("", "x@a.test"), answered(Some(0), false));
        assert_eq!(outlook("greylist = { delay = \"5m\" }", "x@a.test"), answered(Some(0), true));
        let twice = trouble("fault = \"4yz\", attempts = [1, 2, 4]");
        assert_eq!(outlook(&twice, "x@a.test"), answered(Some(2), false));
        assert_eq!(outlook(&trouble("fault = \"4yz\""), "x@a.test"), answered(None, false));
        assert_eq!(outlook(&trouble("fault = \"5yz\""), "x@a.test"), answered(Some(0), false));
        assert_eq!(
            outlook(&trouble("fault = \"4yz\", attempts = [3]"), "x@a.test"),
            answered(Some(0), false)
        );
        assert_eq!(outlook("", "ü@a.test"), answered(Some(0), false), "refused at once");
    }

    #[test]
    fn domains_without_a_server_are_settled_at_once_or_not_at_all() {
        assert_eq!(outlook("", "x@n.test"), Outlook::Nowhere);
        assert_eq!(outlook("", "x@nobody.test"), Outlook::Nowhere);
        assert_eq!(outlook("", "x@s.test"), Outlook::Unreachable);
    }
}
