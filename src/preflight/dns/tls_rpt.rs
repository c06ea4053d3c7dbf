//! TLS reporting of the domain that bounces come back to (RFC 8460 §3).

use super::lookup::Lookup;
use super::tags::{tag, tags};
use super::{Findings, Severity};
use crate::address::{Address, Domain};

pub(super) async fn check(domain: &Domain, lookup: &Lookup, findings: &mut Findings) {
    let name = format!("_smtp._tls.{domain}");
    let Some(texts) = lookup.txt(&name).await.known() else { return };
    let meant = |text: &&String| text.get(..10).is_some_and(|head| head.eq_ignore_ascii_case("v=TLSRPTv1"));
    let records: Vec<&String> = texts.iter().filter(meant).collect();
    let why = match records.as_slice() {
        [] => {
            let what = format!("{domain}, where bounces come back to, asks for no TLS reports");
            let advice =
                format!("publish the TXT record `v=TLSRPTv1; rua=mailto:tls-reports@{domain}` at {name}");
            return findings.add(Severity::Note, "tls-rpt-missing", what, advice);
        }
        [record] => check_record(record),
        several => Err(format!("it is there {} times", several.len())),
    };
    if let Err(why) = why {
        let what = format!("the TLS reporting record at {name} counts as none: {why}");
        let advice = format!("publish one TXT record like `v=TLSRPTv1; rua=mailto:tls-reports@{domain}`");
        findings.add(Severity::Warning, "tls-rpt-record", what, advice);
    }
}

fn check_record(text: &str) -> Result<(), String> {
    let tags = tags(text)?;
    if tags.first().is_none_or(|(name, value)| name != "v" || *value != "TLSRPTv1") {
        return Err("it does not begin with `v=TLSRPTv1;`".to_owned());
    }
    let places = tag(&tags, "rua").filter(|places| !places.is_empty()).ok_or("it has no rua=")?;
    for place in places.split(',').map(str::trim) {
        let is_mail = place
            .strip_prefix("mailto:")
            .is_some_and(|address| Address::parse(address.split('?').next().unwrap_or_default()).is_ok());
        let is_web = place.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
        if !is_mail && !is_web {
            return Err(format!("`{place}` is neither mailto: with an address nor https:"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 8460 §3.1.
    #[test]
    fn the_examples_of_the_rfc_are_right() {
        for text in [
            "v=TLSRPTv1;rua=mailto:reports@example.com",
            "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt",
            "v=TLSRPTv1; rua=mailto:a@example.com, https://b.example.com/x;",
        ] {
            assert_eq!(check_record(text), Ok(()), "{text}");
        }
        for text in [
            "v=TLSRPTv1",
            "v=TLSRPTv1; rua=",
            "v=TLSRPTv1; rua=reports@example.com",
            "v=TLSRPTv1 rua=x",
            "v=TLSRPTv1; rua=http://example.com/x",
        ] {
            assert!(check_record(text).is_err(), "{text}");
        }
    }
}
