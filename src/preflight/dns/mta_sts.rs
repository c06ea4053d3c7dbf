//! MTA-STS of the domain that bounces come back to: record, policy, and whether they fit its MX.
//!
//! RFC 8461. Having none is a note; a policy that does not fit keeps bounces away.

use super::lookup::{Answer, Lookup};
use super::mail::Service;
use super::tags::{tag, tags};
use super::{Findings, Severity};
use crate::address::Domain;

/// Seconds that a policy may hold at most (§3.2).
const MAX_AGE_MAX: u64 = 31_557_600;
/// Less is hardly ever remembered until the next message; a week is the usual least.
const MAX_AGE_GOOD: u64 = 86_400;

pub(super) async fn check(domain: &Domain, service: &Service, lookup: &Lookup, findings: &mut Findings) {
    let Service::Hosts(hosts) = service else { return };
    let Some(texts) = lookup.txt(&format!("_mta-sts.{domain}")).await.known() else { return };
    let records: Vec<&String> = texts.iter().filter(|text| is_meant(text)).collect();
    let wrong_record =
        |why: &str| format!("the MTA-STS record at _mta-sts.{domain} {why}, and counts as none");
    match records.as_slice() {
        [] => {
            let what = format!("{domain}, where bounces come back to, has no MTA-STS policy");
            let advice = "RFC 8461 says how to publish one: it keeps others from reading along";
            return findings.add(Severity::Note, "mta-sts-missing", what, advice);
        }
        [record] => {
            if let Err(why) = check_record(record) {
                let what = wrong_record(&why);
                return findings.add(
                    Severity::Warning,
                    "mta-sts-record",
                    what,
                    "publish `v=STSv1; id=1;`, with another id at each change",
                );
            }
        }
        several => {
            let what = wrong_record(&format!("is there {} times", several.len()));
            return findings.add(Severity::Warning, "mta-sts-record", what, "leave one");
        }
    }
    let host = format!("mta-sts.{domain}");
    let addresses = match lookup.addresses(&host).await {
        Answer::Unanswered => return,
        answer => answer.known().unwrap_or_default(),
    };
    let unreachable = |why: &str| {
        format!("the MTA-STS policy at https://{host}/.well-known/mta-sts.txt cannot be had: {why}")
    };
    let text = match lookup.https.fetch(&host, &addresses, "/.well-known/mta-sts.txt").await {
        Ok(text) => text,
        Err(error) => {
            let advice = "serve it there with a valid certificate, or take the TXT record away";
            return findings.add(
                Severity::Warning,
                "mta-sts-unreachable",
                unreachable(&error.to_string()),
                advice,
            );
        }
    };
    match Policy::parse(&text) {
        Ok(policy) => policy.tell(domain, hosts, findings),
        Err(why) => {
            let what = format!("the MTA-STS policy of {domain} is malformed: {why}");
            findings.add(Severity::Warning, "mta-sts-policy", what, "correct it: see RFC 8461 §3.2");
        }
    }
}

fn is_meant(text: &str) -> bool {
    text.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("v=STSv1"))
}

fn check_record(text: &str) -> Result<(), String> {
    let tags = tags(text).map_err(|why| format!("is malformed ({why})"))?;
    if tags.first().is_none_or(|(name, value)| name != "v" || *value != "STSv1") {
        return Err("does not begin with `v=STSv1;`".to_owned());
    }
    let id = tag(&tags, "id").ok_or("has no id=")?;
    let fits = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if fits { Ok(()) } else { Err(format!("has the id `{id}`, which is not 1 to 32 letters and digits")) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Enforce,
    Testing,
    None,
}

/// A policy's text taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    mode: Mode,
    max_age: u64,
    /// Hosts, or `*.domain`.
    patterns: Vec<String>,
}

impl Policy {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut version, mut mode, mut max_age, mut patterns) = (None, None, None, Vec::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) =
                line.split_once(':').ok_or_else(|| format!("the line `{line}` has no colon"))?;
            let value = value.trim();
            match key.trim() {
                "version" if version.is_none() => version = Some(value),
                "mode" if mode.is_none() => mode = Some(value),
                "max_age" if max_age.is_none() => max_age = Some(value),
                "mx" => patterns.push(value.trim_end_matches('.').to_ascii_lowercase()),
                // Of keys that come twice the first counts; unknown ones say nothing.
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err("it does not say `version: STSv1`".to_owned());
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            Some(other) => return Err(format!("the mode `{other}` is none of enforce, testing, none")),
            None => return Err("it has no mode".to_owned()),
        };
        let max_age = max_age.and_then(|text| text.parse().ok()).filter(|age| *age <= MAX_AGE_MAX);
        let max_age = max_age.ok_or_else(|| format!("it has no max_age in seconds, up to {MAX_AGE_MAX}"))?;
        if patterns.is_empty() && mode != Mode::None {
            return Err("it names no mx".to_owned());
        }
        Ok(Self { mode, max_age, patterns })
    }

    fn tell(&self, domain: &Domain, hosts: &[String], findings: &mut Findings) {
        if self.mode == Mode::None {
            let what = format!("the MTA-STS policy of {domain} is switched off (mode: none)");
            return findings.add(
                Severity::Note,
                "mta-sts-off",
                what,
                "set the mode to testing, then to enforce",
            );
        }
        let strange: Vec<String> = hosts.iter().filter(|host| !self.covers(host)).cloned().collect();
        let what = format!(
            "MX hosts of {domain} are not in its MTA-STS policy, and senders that obey it will not use them"
        );
        let advice = "name them in the policy (mx:), and change the id of the TXT record";
        findings.add_many(Severity::Warning, "mta-sts-mx", (strange.len() as u64, &strange), what, advice);
        if self.mode == Mode::Testing {
            let what = format!("the MTA-STS policy of {domain} is in testing mode, so nobody obeys it yet");
            findings.add(
                Severity::Note,
                "mta-sts-testing",
                what,
                "once TLS reports are clean, set the mode to enforce",
            );
        }
        if self.max_age < MAX_AGE_GOOD {
            let what = format!("the MTA-STS policy of {domain} holds for {} s only", self.max_age);
            findings.add(Severity::Note, "mta-sts-age", what, "let max_age be weeks, like 1209600");
        }
    }

    /// `*` stands for exactly one label (§4.1).
    fn covers(&self, host: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => host == pattern,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8461 §3.2.
    #[test]
    fn the_example_of_the_rfc_is_read_and_covers_what_it_names() {
        let text = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\n\
            mx: backupmx.example.com\r\nmax_age: 604800\r\n";
        let policy = Policy::parse(text).unwrap();
        assert_eq!((policy.mode, policy.max_age, policy.patterns.len()), (Mode::Enforce, 604_800, 3));
        for (host, covered) in [
            ("mail.example.com", true),
            ("a.example.net", true),
            ("example.net", false),
            ("a.b.example.net", false),
            ("mx.example.com", false),
        ] {
            assert_eq!(policy.covers(host), covered, "{host}");
        }
    }

    #[test]
    fn a_policy_without_its_keys_is_malformed() {
        for text in [
            "mode: enforce\nmx: a.test\nmax_age: 1",
            "version: STSv1\nmx: a.test\nmax_age: 1",
            "version: STSv1\nmode: enforced\nmx: a.test\nmax_age: 1",
            "version: STSv1\nmode: testing\nmax_age: 1",
            "version: STSv1\nmode: testing\nmx: a.test",
            "version: STSv1\nmode: testing\nmx: a.test\nmax_age: 31557601",
            "<html>",
        ] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
        assert!(Policy::parse("version: STSv1\nmode: none\nmax_age: 0").is_ok());
    }

    #[test]
    fn an_id_is_letters_and_digits() {
        assert!(check_record("v=STSv1; id=20160831085700Z;").is_ok());
        for text in ["v=STSv1;", "v=STSv1; id=2026-11-22;", "v=STSv1; id=;", "v=STSv1 id=1"] {
            assert!(check_record(text).is_err(), "{text}");
        }
    }
}
