//! Whether our own domains take mail: bounces must come back, replies should (RFC 5321 §5.1, RFC 7505).

use super::lookup::{Answer, Lookup};
use super::sending::Sending;
use super::{Findings, Severity};
use crate::address::Domain;

/// Where a domain's mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Service {
    /// The hosts of its MX records, at least one with an address; itself where it has no MX record.
    Hosts(Vec<String>),
    /// It says that it takes none.
    NullMx,
    /// Nowhere, and why.
    Nothing(&'static str),
    Unanswered,
}

/// Where mail of `domain` goes.
pub(super) async fn service(domain: &Domain, lookup: &Lookup) -> Service {
    let mut exchanges = match lookup.mx(domain.as_str()).await {
        Answer::Unanswered => return Service::Unanswered,
        Answer::Nothing { no_name: true } => return Service::Nothing("the domain does not exist"),
        Answer::Nothing { no_name: false } => {
            return match lookup.addresses(domain.as_str()).await {
                Answer::Records(_) => Service::Hosts(vec![domain.to_string()]),
                Answer::Nothing { .. } => Service::Nothing("it has neither MX nor address"),
                Answer::Unanswered => Service::Unanswered,
            };
        }
        Answer::Records(exchanges) => exchanges,
    };
    exchanges.sort_by_key(|exchange| exchange.preference);
    let hosts: Vec<String> =
        exchanges.into_iter().map(|exchange| exchange.host).filter(|host| !host.is_empty()).collect();
    if hosts.is_empty() {
        return Service::NullMx;
    }
    let mut is_unsure = false;
    for host in &hosts {
        match lookup.addresses(host).await {
            Answer::Records(_) => return Service::Hosts(hosts),
            Answer::Unanswered => is_unsure = true,
            Answer::Nothing { .. } => {}
        }
    }
    if is_unsure { Service::Unanswered } else { Service::Nothing("no host of its MX records has an address") }
}

/// Checks the domains that mail comes back to; gives where that of the return path goes.
pub(super) async fn check(sending: &Sending, lookup: &Lookup, findings: &mut Findings) -> Service {
    let back = service(&sending.return_path, lookup).await;
    if let Some(why) = refusal(&back) {
        let domain = &sending.return_path;
        let what = format!(
            "the return path's domain {domain} takes no mail ({why}), so bounces are lost and receivers refuse"
        );
        let advice = format!("give {domain} an MX record that leads to where bounces are read");
        findings.add(Severity::Error, "return-path-mx", what, advice);
    }
    if sending.from != sending.return_path {
        let service = service(&sending.from, lookup).await;
        if let Some(why) = refusal(&service) {
            let domain = &sending.from;
            let what = format!("the From domain {domain} takes no mail ({why})");
            let advice =
                format!("give {domain} an MX record: receivers refuse mail that cannot be answered (5.7.27)");
            let severity = if service == Service::NullMx { Severity::Error } else { Severity::Warning };
            findings.add(severity, "from-mx", what, advice);
        }
    }
    if let Some(domain) = &sending.reply_to
        && ![&sending.return_path, &sending.from].contains(&domain)
        && let Some(why) = refusal(&service(domain, lookup).await)
    {
        let what = format!("the Reply-To domain {domain} takes no mail ({why}), so answers are lost");
        findings.add(Severity::Warning, "reply-to-mx", what, "name an address in reply_to that takes mail");
    }
    back
}

fn refusal(service: &Service) -> Option<&'static str> {
    match service {
        Service::Hosts(_) | Service::Unanswered => None,
        Service::NullMx => Some("null MX"),
        Service::Nothing(why) => Some(why),
    }
}
