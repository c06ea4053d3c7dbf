//! The DKIM record of each key that signs: there, alone, valid, and the other half of the key.
//!
//! RFC 6376 §3.6.1, RFC 8301 (SHA-256), RFC 8463 (Ed25519). That there is a key, and that it is long enough, is
//! for `sender` to see.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::lookup::{Answer, Lookup};
use super::sending::{PublicKey, Sending};
use super::tags::{tag, tags};
use super::{Findings, Severity};

pub(super) async fn check(sending: &Sending, lookup: &Lookup, findings: &mut Findings) {
    for key in &sending.keys {
        let records = match lookup.txt(&key.name).await {
            Answer::Unanswered => continue,
            Answer::Nothing { .. } => Vec::new(),
            Answer::Records(records) => records,
        };
        match records.as_slice() {
            [] => {
                let what = format!("there is no DKIM record at {}", key.name);
                let advice = format!("publish the TXT record `{}` there", key.record);
                findings.add(Severity::Error, "dkim-missing", what, advice);
            }
            [record] => check_record(key, record, findings),
            several => {
                let what = format!(
                    "there are {} TXT records at {}, and receivers may take any",
                    several.len(),
                    key.name
                );
                let advice = format!("leave one, `{}`", key.record);
                findings.add(Severity::Error, "dkim-several", what, advice);
            }
        }
    }
}

fn check_record(key: &PublicKey, record: &str, findings: &mut Findings) {
    let name = &key.name;
    let publish = || format!("publish the TXT record `{}` at {name}", key.record);
    let malformed = |why: &str| (format!("the DKIM record at {name} cannot be used: {why}"), publish());
    let mut add =
        |severity, check, (what, advice): (String, String)| findings.add(severity, check, what, advice);
    let tags = match tags(record) {
        Ok(tags) => tags,
        Err(why) => return add(Severity::Error, "dkim-malformed", malformed(&why)),
    };
    if tag(&tags, "v").is_some_and(|version| version != "DKIM1" || tags[0].0 != "v") {
        let why = "v=DKIM1 must be its first tag";
        return add(Severity::Error, "dkim-malformed", malformed(why));
    }
    let Some(published) = tag(&tags, "p") else {
        return add(Severity::Error, "dkim-malformed", malformed("it has no p="));
    };
    let published: String = published.split_ascii_whitespace().collect();
    if published.is_empty() {
        let what = format!("the DKIM key at {name} is revoked (its p= is empty)");
        let advice = "sign with a key of another selector, or publish this one again".to_owned();
        return add(Severity::Error, "dkim-revoked", (what, advice));
    }
    let Ok(published) = BASE64.decode(published) else {
        return add(Severity::Error, "dkim-malformed", malformed("its p= is not base64"));
    };
    let ours = super::tags::tags(&key.record).unwrap_or_default();
    let ours_kind = tag(&ours, "k").unwrap_or("rsa");
    let kind = tag(&tags, "k").unwrap_or("rsa");
    if kind != ours_kind {
        let what = format!("the DKIM record at {name} is for {kind}, and the key that signs is {ours_kind}");
        return add(Severity::Error, "dkim-mismatch", (what, publish()));
    }
    if !is_same_key(key, tag(&ours, "p").unwrap_or_default(), &published) {
        let what = format!("the DKIM record at {name} is not of the key that signs");
        return add(Severity::Error, "dkim-mismatch", (what, publish()));
    }
    let has = |value: &str, wanted: &[&str]| value.split(':').any(|word| wanted.contains(&word.trim()));
    if tag(&tags, "h").is_some_and(|hashes| !has(hashes, &["sha256"])) {
        let what = format!("the DKIM record at {name} does not allow SHA-256 (h=)");
        add(Severity::Error, "dkim-hash", (what, publish()));
    }
    if tag(&tags, "s").is_some_and(|services| !has(services, &["*", "email"])) {
        let what = format!("the DKIM record at {name} is not for mail (s=)");
        add(Severity::Error, "dkim-service", (what, publish()));
    }
    if tag(&tags, "t").is_some_and(|flags| has(flags, &["y"])) {
        let what = format!(
            "the DKIM record at {name} says that it is a test (t=y), so receivers may ignore signatures"
        );
        add(Severity::Warning, "dkim-testing", (what, "take t=y out of the record".to_owned()));
    }
}

/// Whether `published` is the key whose `p=` is `ours`. Of RSA a record may have the key with or without
/// the wrapping that names the algorithm (RFC 6376 §3.6.1, RFC 8017 §A.1.1).
fn is_same_key(key: &PublicKey, ours: &str, published: &[u8]) -> bool {
    let Ok(ours) = BASE64.decode(ours) else { return false };
    let bare = key.rsa_bits.is_some_and(|bits| published.len() > bits / 8) && ours.ends_with(published);
    ours == published || bare
}
