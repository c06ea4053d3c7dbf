//! What the DNS says of the sending side: SPF, DKIM, DMARC, names of sources, mail to us, block lists.
//!
//! [`check`] looks at domains, keys and sources, and needs neither list nor templates; [`domains`] looks
//! at those of the list. A question that nobody answers makes one finding that says so, and nothing that
//! depends on it is called missing.
//!
//! `lookup` asks the DNS, `https` fetches a policy; every other file judges one thing.

mod blocklists;
mod dkim;
mod dmarc;
pub mod domains;
mod https;
mod lookup;
mod mail;
mod mta_sts;
mod reverse;
mod sending;
mod spf;
mod tags;
mod tls_rpt;

use super::{Findings, Severity};

pub use lookup::{Answer, Lookup, Mx};
pub use sending::{PublicKey, Sending, Source, Way};

/// Checks all that receivers look up about us. Needs a tokio runtime.
///
/// # Cancel safety
/// Dropping the future loses the findings so far, and nothing else.
pub async fn check(sending: &Sending, lookup: &Lookup, findings: &mut Findings) {
    let peers = reverse::check(sending, lookup, findings).await;
    let [mut spf, mut dkim, mut dmarc, mut mail, mut lists] = std::array::from_fn(|_| Findings::default());
    tokio::join!(
        async {
            spf::check_return_path(sending, &peers, lookup, &mut spf).await;
            spf::check_ehlo(&peers, lookup, &mut spf).await;
        },
        dkim::check(sending, lookup, &mut dkim),
        dmarc::check(sending, lookup, &mut dmarc),
        async {
            let service = mail::check(sending, lookup, &mut mail).await;
            mta_sts::check(&sending.return_path, &service, lookup, &mut mail).await;
            tls_rpt::check(&sending.return_path, lookup, &mut mail).await;
        },
        blocklists::check(sending, &peers, lookup, &mut lists),
    );
    for part in [spf, dkim, dmarc, mail, lists] {
        findings.extend(part);
    }
    lookup.tell_unanswered(findings);
}
