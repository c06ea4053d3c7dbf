//! DMARC of the From domain: the policy that applies, and who aligns with it.
//!
//! RFC 9989, and records written for RFC 7489. Large receivers ask bulk senders for a policy, `none` at
//! least, and for an aligned SPF or DKIM domain; one alone fails whenever it breaks.

mod record;
mod walk;

use super::lookup::Lookup;
use super::sending::Sending;
use super::tags::is_version;
use super::{Findings, Severity};
use crate::address::Domain;
use record::{Alignment, Record, Request};
use walk::{Found, Walk, walk};

pub(super) async fn check(sending: &Sending, lookup: &Lookup, findings: &mut Findings) {
    let from = &sending.from;
    let Some(walked) = walk(from.as_str(), lookup).await else { return };
    let mut is_told = false;
    match walked.at_start() {
        Some(Found::Several(count)) => {
            is_told = true;
            let what = format!("there are {count} DMARC records at _dmarc.{from}, which count as none");
            findings.add(Severity::Error, "dmarc-several", what, "leave one");
        }
        Some(Found::Ignored(text)) => {
            is_told = true;
            let what = format!(
                "the DMARC record at _dmarc.{from} is ignored, as it does not begin with `v=DMARC1;`: `{text}`"
            );
            findings.add(Severity::Error, "dmarc-malformed", what, "begin it with `v=DMARC1; p=`");
        }
        Some(Found::Record(_)) | None => {}
    }
    let Some((place, record)) = walked.applied() else {
        if !is_told {
            missing(sending, &walked, findings);
        }
        return;
    };
    tell_record(from, place, record, lookup, findings).await;
    if record.is_void {
        return;
    }
    tell_refused_reports(&walked, place, record, lookup, findings).await;
    tell_alignment(sending, &walked, record, lookup, findings).await;
}

fn missing(sending: &Sending, walked: &Walk, findings: &mut Findings) {
    let from = &sending.from;
    let what = format!(
        "there is no DMARC record for the From domain {from}, and large receivers refuse bulk mail without"
    );
    let organisation = walked.organisation();
    let advice = format!(
        "publish the TXT record `v=DMARC1; p=none; rua=mailto:dmarc@{from}` at _dmarc.{organisation}"
    );
    findings.add(sending.demanded, "dmarc-missing", what, advice);
}

async fn tell_record(from: &Domain, place: &str, record: &Record, lookup: &Lookup, findings: &mut Findings) {
    let mut faults = record.faults.clone();
    if record.request.is_none() && faults.is_empty() {
        faults.push("it has no p=, which older receivers need".to_owned());
    }
    if !faults.is_empty() {
        let severity = if record.is_void { Severity::Error } else { Severity::Warning };
        let what = format!("the DMARC record at _dmarc.{place} is wrong: {}", faults.join("; "));
        findings.add(severity, "dmarc-malformed", what, "correct it; what is wrong counts as not there");
    }
    if record.request.is_some() {
        let request = requested(from, place, record, lookup).await;
        if request == Request::None {
            let what =
                format!("the DMARC policy of {from} asks for nothing (none), so anybody can use the name");
            let advice = "once the reports show that all your mail passes, go on to quarantine and reject";
            findings.add(Severity::Note, "dmarc-none", what, advice);
        } else if record.is_test {
            let what =
                format!("the DMARC policy at _dmarc.{place} is a test (t=y), and is applied one step weaker");
            findings.add(Severity::Note, "dmarc-testing", what, "take t=y out once the reports are good");
        }
        if record.reports.is_empty() && record.faults.is_empty() {
            let what = format!("the DMARC record at _dmarc.{place} asks for no reports (rua=)");
            let advice = format!("add rua=mailto:dmarc@{place}, and see in the reports what fails");
            findings.add(Severity::Note, "dmarc-reports", what, advice);
        }
    }
    if !record.obsolete.is_empty() {
        let obsolete = record.obsolete.join(", ");
        let what =
            format!("the DMARC record at _dmarc.{place} has tags that RFC 9989 has no more: {obsolete}");
        findings.add(Severity::Note, "dmarc-obsolete", what, "take them out; to test a policy there is t=y");
    }
}

/// What the record asks for mail of `from` (§4.10.1); for a domain below it that is sp or, if it is not in
/// the DNS, np.
async fn requested(from: &Domain, place: &str, record: &Record, lookup: &Lookup) -> Request {
    let own = record.request.unwrap_or(Request::None);
    if from.as_str() == place {
        return own;
    }
    let below = record.below.unwrap_or(own);
    let Some(below_missing) = record.below_missing.filter(|missing| *missing != below) else { return below };
    let gone = matches!(lookup.v4(from.as_str()).await, super::lookup::Answer::Nothing { no_name: true });
    if gone { below_missing } else { below }
}

/// Reports go to another organisation only if it says that it wants them (RFC 9990 §4, RFC 7489 §7.1).
async fn tell_refused_reports(
    walked: &Walk,
    place: &str,
    record: &Record,
    lookup: &Lookup,
    findings: &mut Findings,
) {
    for uri in &record.reports {
        let Some((_, address)) =
            uri.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("mailto"))
        else {
            continue;
        };
        // `!10m` is RFC 7489's size limit.
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let domain = domain.split(['!', '?']).next().unwrap_or_default().to_ascii_lowercase();
        let Some(other) = walk(&domain, lookup).await else { continue };
        if other.organisation() == walked.organisation() {
            continue;
        }
        let name = format!("{place}._report._dmarc.{domain}");
        let Some(texts) = lookup.txt(&name).await.known() else { continue };
        if !texts.iter().any(|text| is_version(text, "DMARC1")) {
            let what = format!(
                "{domain} does not say that it wants DMARC reports about {place}, so none are sent there"
            );
            let advice = format!("have the TXT record `v=DMARC1` published at {name}, or change rua=");
            findings.add(Severity::Warning, "dmarc-reports-refused", what, advice);
        }
    }
}

async fn tell_alignment(
    sending: &Sending,
    walked: &Walk,
    record: &Record,
    lookup: &Lookup,
    findings: &mut Findings,
) {
    let from = &sending.from;
    let Some(spf) = is_aligned(walked, from, &sending.return_path, record.spf, lookup).await else { return };
    let mut dkim = false;
    for key in &sending.keys {
        let Some(aligned) = is_aligned(walked, from, &key.domain, record.dkim, lookup).await else { return };
        dkim |= aligned;
    }
    let organisation = walked.organisation();
    let return_path = &sending.return_path;
    let mut signers: Vec<&str> = sending.keys.iter().map(|key| key.domain.as_str()).collect();
    signers.sort_unstable();
    signers.dedup();
    let signers = signers.join(", ");
    let wanted = |alignment| match alignment {
        Alignment::Strict => format!("{from} itself"),
        Alignment::Relaxed => format!("{organisation} or a domain below it"),
    };
    match (spf, dkim) {
        (true, true) => {}
        (false, false) => {
            let what = format!(
                "nothing aligns with the From domain {from}, so DMARC fails: the return path is of \
                 {return_path}, DKIM signs for {}",
                if signers.is_empty() { "nobody" } else { &signers }
            );
            let advice = format!(
                "sign with a key of {}, and take a return path of {}",
                wanted(record.dkim),
                wanted(record.spf)
            );
            let asked = [record.request, record.below, record.below_missing];
            let is_enforced = asked.iter().flatten().any(|request| *request != Request::None);
            // Without a policy only the providers that demand it of bulk mail refuse what fails.
            let severity = if is_enforced { Severity::Error } else { sending.demanded };
            findings.add(severity, "dmarc-unaligned", what, advice);
        }
        (false, true) => {
            let what = format!(
                "the return path's domain {return_path} does not align with the From domain {from}: \
                 DMARC hangs on DKIM alone"
            );
            let advice = format!("take a return_path_domain of {}", wanted(record.spf));
            findings.add(Severity::Warning, "dmarc-half-aligned", what, advice);
        }
        // That nobody signs was told.
        (true, false) if sending.keys.is_empty() => {}
        (true, false) => {
            let what = format!(
                "no DKIM domain ({signers}) aligns with the From domain {from}: DMARC hangs on SPF alone, \
                 which forwarding breaks"
            );
            let advice = format!("sign with a key of {}", wanted(record.dkim));
            findings.add(Severity::Warning, "dmarc-half-aligned", what, advice);
        }
    }
}

/// Whether `domain` aligns with the From domain (§4.4); `None` where a name server failed.
async fn is_aligned(
    walked: &Walk,
    from: &Domain,
    domain: &Domain,
    alignment: Alignment,
    lookup: &Lookup,
) -> Option<bool> {
    if domain == from {
        return Some(true);
    }
    match alignment {
        Alignment::Strict => Some(false),
        Alignment::Relaxed => {
            let other = walk(domain.as_str(), lookup).await?;
            Some(other.organisation() == walked.organisation())
        }
    }
}
