//! A DMARC policy record taken apart (RFC 9989 §4.7, and what RFC 7489 §6.3 had besides). Pure.

use crate::preflight::dns::tags::{is_version, tag, tags};

/// Tags of RFC 7489 that RFC 9989 has no more.
const OBSOLETE: [&str; 3] = ["pct", "rf", "ri"];

/// What a domain asks to be done with mail that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    None,
    Quarantine,
    Reject,
}

/// Whether a domain is one below which others register theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffix {
    Yes,
    No,
    Unsaid,
}

/// How much of two domains must be alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alignment {
    Relaxed,
    Strict,
}

/// A record whose version is right; tags that are wrong count as if they were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// None where any request is missing or wrong; it counts as `none` then.
    pub request: Option<Request>,
    /// For subdomains, and for those that do not exist.
    pub below: Option<Request>,
    pub below_missing: Option<Request>,
    pub suffix: Suffix,
    pub is_test: bool,
    pub dkim: Alignment,
    pub spf: Alignment,
    /// Where aggregate reports go (rua=), those that are URIs.
    pub reports: Vec<String>,
    /// Receivers act as if there were none: a request is wrong, and nobody wants reports (§4.10.1).
    pub is_void: bool,
    /// What is wrong with it.
    pub faults: Vec<String>,
    pub obsolete: Vec<&'static str>,
}

/// Whether a TXT record is a DMARC record, or means to be one.
pub(super) fn is_meant(text: &str) -> bool {
    text.trim_start().get(..8).is_some_and(|head| head.eq_ignore_ascii_case("v=DMARC1"))
        || is_version(text, "DMARC1")
}

/// Parses a record; `None`: receivers ignore it, as its first tag is not `v=DMARC1`.
pub(super) fn parse(text: &str) -> Option<Record> {
    if !is_version(text, "DMARC1") {
        return None;
    }
    let mut faults = Vec::new();
    // A piece that is wrong is left out, the others count.
    let mut good: Vec<(String, &str)> = Vec::new();
    for piece in text.split(';') {
        match tags(piece) {
            Ok(parsed) => {
                for (name, value) in parsed {
                    if tag(&good, &name).is_some() {
                        faults.push(format!("the tag {name}= comes twice"));
                    } else {
                        good.push((name, value));
                    }
                }
            }
            Err(why) => faults.push(why),
        }
    }
    let mut one_of = |name: &str, words: &[&str]| -> Option<usize> {
        let value = tag(&good, name)?.to_ascii_lowercase();
        let at = words.iter().position(|word| *word == value);
        if at.is_none() {
            faults.push(format!("{name}={value} is none of {}", words.join(", ")));
        }
        at
    };
    let requests = ["none", "quarantine", "reject"];
    let request = |at: usize| [Request::None, Request::Quarantine, Request::Reject][at];
    let strict = |at: Option<usize>| if at == Some(1) { Alignment::Strict } else { Alignment::Relaxed };
    let (own, below) = (one_of("p", &requests).map(request), one_of("sp", &requests).map(request));
    let below_missing = one_of("np", &requests).map(request);
    let suffix = match one_of("psd", &["y", "n", "u"]) {
        Some(0) => Suffix::Yes,
        Some(1) => Suffix::No,
        _ => Suffix::Unsaid,
    };
    let is_test = one_of("t", &["n", "y"]) == Some(1);
    let (dkim, spf) = (strict(one_of("adkim", &["r", "s"])), strict(one_of("aspf", &["r", "s"])));
    let uris = tag(&good, "rua").unwrap_or_default().split(',').map(str::trim).filter(|uri| is_uri(uri));
    let reports: Vec<String> = uris.map(str::to_owned).collect();
    if tag(&good, "rua").is_some() && reports.is_empty() {
        faults.push("rua= has no address like mailto:dmarc@sender.example".to_owned());
    }
    let is_wrong = |name: &str, request: Option<Request>| tag(&good, name).is_some() && request.is_none();
    let is_doubtful = own.is_none() || is_wrong("sp", below) || is_wrong("np", below_missing);
    let obsolete = OBSOLETE.into_iter().filter(|name| tag(&good, name).is_some()).collect();
    Some(Record {
        request: own.filter(|_| !is_doubtful),
        below,
        below_missing,
        suffix,
        is_test,
        dkim,
        spf,
        is_void: is_doubtful && reports.is_empty(),
        reports,
        faults,
        obsolete,
    })
}

/// Roughly RFC 3986: a scheme and something behind it.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let rest_ok = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic());
    let address_ok = !scheme.eq_ignore_ascii_case("mailto") || rest.trim_matches('@').contains('@');
    scheme_ok && rest_ok && address_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_in_any_order_and_with_blanks() {
        let record =
            parse("v = DMARC1 ; rua=mailto:a@b.test,mailto:c@d.test; p = Reject;adkim=s; aspf=r;").unwrap();
        assert_eq!(
            (record.request, record.dkim, record.spf),
            (Some(Request::Reject), Alignment::Strict, Alignment::Relaxed)
        );
        assert_eq!(record.reports, ["mailto:a@b.test", "mailto:c@d.test"]);
        assert!(record.faults.is_empty() && record.obsolete.is_empty());
    }

    #[test]
    fn only_the_exact_version_in_front_counts() {
        for text in ["v=dmarc1; p=none", "p=none; v=DMARC1", "v=DMARC1 p=none", "v=DMARC2; p=none"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(is_meant("v=DMARC1 p=none") && is_meant("v=dmarc1; p=none") && !is_meant("v=spf1 -all"));
    }

    #[test]
    fn what_is_wrong_is_told_and_counts_as_not_there() {
        let record =
            parse("v=DMARC1; p=rejct; sp; aspf=x; rua=dmarc@a.test; pct=50; ri=3600; new=1").unwrap();
        assert_eq!((record.request, record.below, record.spf), (None, None, Alignment::Relaxed));
        assert_eq!((record.faults.len(), record.is_void), (4, true));
        assert_eq!(record.obsolete, ["pct", "ri"], "and unknown tags are no fault");
    }
}
