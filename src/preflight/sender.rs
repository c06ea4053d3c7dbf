//! Who sends, and whether that can be believed: the From address, the keys and what they sign.

use std::path::Path;
use std::time::SystemTime;

use crate::campaign::manifest::{DkimKey, Manifest};
use crate::config::Node;
use crate::engine::{EngineError, signers};
use crate::message::dkim::Algorithm;
use crate::message::{DkimError, Signer};
use crate::suppression::Suppression;

use super::finding::{Findings, Severity};
use super::{Sample, anatomy, domains};

/// Bits of an RSA key that receivers take without reservation.
const RSA_BITS: usize = 2048;
/// What a signature must cover beside what RFC 6376 §5.4 asks: RFC 8058 §4.
const COVERED: [&str; 3] = ["From", "List-Unsubscribe", "List-Unsubscribe-Post"];

/// Looks at the From address and the pool.
pub(super) fn check(manifest: &Manifest, node: &Node, findings: &mut Findings) {
    let from = manifest.from_address();
    if let Some(provider) = domains::provider(from.domain().as_str()) {
        let what = format!("From is an address at {}, whose mailboxes are {provider}'s", from.domain());
        let advice = "send from a domain of your own: by its DMARC policy only that provider may send as it";
        findings.add(Severity::Error, "from-free-mail", what, advice);
    }
    let answers = ["noreply", "no-reply", "no_reply", "donotreply", "do-not-reply"];
    let local = from.local().to_ascii_lowercase();
    if manifest.reply_to.is_none() && answers.contains(&local.as_str()) {
        let what = format!("nobody can answer {from}");
        findings.add(
            Severity::Note,
            "from-no-reply",
            what,
            "give a reply_to: answers are the best reputation",
        );
    }
    if let Some(pool) = manifest.pool.as_ref().filter(|pool| !node.pools.contains_key(*pool)) {
        let what = format!("the manifest wants the pool `{pool}`, which the settings do not have");
        findings.add(Severity::Error, "pool", what, format!("add [pools.{pool}] to them"));
    }
}

/// Variants of which one part is their own and the other that of all.
pub(super) fn variants(manifest: &Manifest, findings: &mut Findings) {
    for what in manifest.half_variants() {
        let advice = "give it both: readers see the one or the other, and filters compare them";
        findings.add(Severity::Warning, "variant-half", what, advice);
    }
    if let Some(what) = manifest.unreported_winner() {
        let advice = "decide it yourself (`winner = \"manual\"`), or by \"delivered\"";
        findings.add(Severity::Warning, "winner-unreported", what, advice);
    }
}

/// Lines of suppression files that are no addresses suppress nobody.
pub(super) fn suppression(suppression: &Suppression, findings: &mut Findings) {
    for report in suppression.reports() {
        let first = report.first_bad_line.map(|(line, why)| format!("line {line}: {why}"));
        let what = format!("lines of {} are no addresses and suppress nobody", report.path.display());
        let examples: Vec<String> = first.into_iter().collect();
        let advice = "write an address or @domain a line; # begins a comment";
        let count = (report.bad_lines, &examples[..]);
        findings.add_many(Severity::Warning, "suppression-lines", count, what, advice);
    }
}

/// The manifest with the keys that can sign, and those that sign a run of `date`.
pub(super) fn keys(
    manifest: &Manifest,
    date: SystemTime,
    demanded: Severity,
    findings: &mut Findings,
) -> (Manifest, Vec<Signer>) {
    let mut usable = manifest.clone();
    usable.dkim.clear();
    for key in manifest.dkim.iter().filter(|key| !signers::is_to_come(key, date)) {
        if let Some(file) = key.key_file.as_deref().filter(|file| is_open(file)) {
            let what = format!("the DKIM key {} can be read by other users", file.display());
            findings.add(Severity::Warning, "dkim-key-open", what, format!("chmod 600 {}", file.display()));
        }
        match signers::read(key) {
            Ok(signer) => {
                short(&signer, findings);
                usable.dkim.push(key.clone());
            }
            Err(error) => {
                let is_short = matches!(&error, EngineError::Dkim { error: DkimError::TooShort(_), .. });
                let check = if is_short { "dkim-key-short" } else { "dkim-key" };
                let advice = "make a new key with `postroad dkim keygen`, and publish its record";
                findings.add(Severity::Error, check, error.to_string(), advice);
            }
        }
    }
    if manifest.dkim.is_empty() {
        let advice = "make a key and name it in [[dkim]]: the large providers refuse unsigned bulk mail";
        findings.add(demanded, "dkim-none", "the messages are not signed", advice);
    }
    // Each of them was read just now.
    let signers = signers::in_force(&usable.dkim, date).unwrap_or_default();
    lacking(manifest, &signers, date, demanded, findings);
    (usable, signers)
}

/// Domains that no key signs for yet, and receivers that cannot verify what signs.
fn lacking(
    manifest: &Manifest,
    signers: &[Signer],
    date: SystemTime,
    demanded: Severity,
    findings: &mut Findings,
) {
    for key in manifest.dkim.iter().filter(|key| signers::is_to_come(key, date)) {
        // Of the same domain there may be a key that cannot sign, which was told.
        let is_known = |other: &DkimKey| other.domain == key.domain && !signers::is_to_come(other, date);
        let Some(since) = key.since.filter(|_| !manifest.dkim.iter().any(is_known)) else { continue };
        let what = format!("no key signs for {} yet: `{}` signs from {since} on", key.domain, key.selector);
        let advice = "let the old key stand beside it until then, or give it an earlier `since`";
        findings.add(demanded, "dkim-to-come", what, advice);
    }
    if !signers.is_empty() && signers.iter().all(|signer| signer.algorithm() == Algorithm::Ed25519) {
        let advice = "add an RSA key: messages can carry both signatures";
        let what = "only Ed25519 signs, which many receivers cannot verify yet";
        findings.add(demanded, "dkim-ed25519-only", what, advice);
    }
}

fn short(signer: &Signer, findings: &mut Findings) {
    let Some(bits) = signer.rsa_bits().filter(|bits| *bits < RSA_BITS) else { return };
    let what = format!("the DKIM key of {} has {bits} bits", signer.name());
    let advice = "make one of 2048 bits: receivers trust shorter ones less and less (RFC 8301)";
    findings.add(Severity::Warning, "dkim-key-short", what, advice);
}

fn is_open(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Whether finished messages carry a signature of the From domain that covers what it must.
///
/// Alignment is for the DNS to say; offline, by what domains usually belong together.
pub(super) fn seals(
    manifest: &Manifest,
    samples: &[Sample],
    demanded: Severity,
    is_offline: bool,
    findings: &mut Findings,
) {
    let from = manifest.from_address();
    let own = domains::organisation(from.domain().as_str());
    for sample in samples {
        let (fields, _) = anatomy::fields(&sample.message);
        let seals = fields.iter().filter(|field| field.is("DKIM-Signature"));
        let seals: Vec<Seal> = seals.map(|field| Seal::read(&String::from_utf8_lossy(field.value))).collect();
        if seals.is_empty() {
            continue;
        }
        let example = [format!("row {}, {}", sample.row, sample.address)];
        let aligned: Vec<&Seal> =
            seals.iter().filter(|seal| domains::organisation(&seal.domain) == own).collect();
        if aligned.is_empty() && !is_offline {
            return;
        }
        if aligned.is_empty() {
            let domains: Vec<&str> = seals.iter().map(|seal| seal.domain.as_str()).collect();
            let what = format!("From is of {} and the signature of {}", from.domain(), domains.join(", "));
            let advice = "sign with a key of the From domain: DMARC does not count any other";
            return findings.add_many(demanded, "dkim-alignment", (1, &example), what, advice);
        }
        let is_there = |name: &str| fields.iter().any(|field| field.is(name));
        let is_covered = |name: &str| aligned.iter().any(|seal| seal.covers(name));
        if let Some(name) = COVERED.iter().find(|name| is_there(name) && !is_covered(name)) {
            let what = format!("no signature of the From domain covers {name}");
            let advice = "receivers want it signed (RFC 8058 §4); this is a bug of the program: report it";
            return findings.add_many(Severity::Error, "dkim-coverage", (1, &example), what, advice);
        }
    }
}

/// What a signature says of itself (RFC 6376 §3.5).
struct Seal {
    domain: String,
    headers: Vec<String>,
}

impl Seal {
    fn read(value: &str) -> Self {
        let value: String = value.chars().filter(|c| !c.is_whitespace()).collect();
        let tag = |name: &str| {
            let mut tags = value.split(';').filter_map(|tag| tag.split_once('='));
            tags.find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_ascii_lowercase())
                .unwrap_or_default()
        };
        Self { domain: tag("d"), headers: tag("h").split(':').map(str::to_owned).collect() }
    }

    fn covers(&self, name: &str) -> bool {
        self.headers.iter().any(|header| header.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_says_whose_it_is_and_what_it_covers() {
        let seal = Seal::read(
            " v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n\td=One.test;\r\n\ts=s; h=From:To:\r\n\tList-Unsubscribe; bh=x=; b=y=",
        );
        assert_eq!(seal.domain, "one.test");
        assert!(
            seal.covers("From") && seal.covers("list-unsubscribe") && !seal.covers("List-Unsubscribe-Post")
        );
    }
}
