//! What is wrong with a list as a whole: refused rows, doubled ones, domains that are slips or thrown away,
//! and whose mailboxes it is made of.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::campaign::domains::domains_of;
use crate::campaign::draft::Draft;
use crate::campaign::segment::{Segment, SegmentError};

use super::domains;
use super::finding::{Findings, Severity};
use super::tally::{Flaw, Tally};

/// Rows to these providers in a day make a sender a bulk sender, for good (Gmail).
const BULK: u64 = 5_000;
/// Providers with rules for bulk senders.
const DEMANDING: [&str; 3] = ["google", "yahoo", "microsoft"];
/// A share of the list at one domain that no list of people has.
const CONCENTRATION: f64 = 0.5;
/// Lists with fewer say nothing by their shares.
const SHARES_ROWS_MIN: u64 = 100;
/// A share of rows without a value that is worth a word.
const EMPTY_SHARE: f64 = 0.2;
/// Where recipients of no known provider are counted.
pub(super) const OTHER: &str = "other";

/// A provider's part of the list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Share {
    pub provider: String,
    pub recipients: u64,
}

/// The parts of the list by provider, as far as domains tell, largest first.
pub(super) fn shares(segments: &[Arc<Segment>]) -> Vec<Share> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for found in domains_of(segments) {
        *counts.entry(domains::provider(found.domain).unwrap_or(OTHER)).or_default() += found.recipients;
    }
    let mut shares: Vec<Share> = counts
        .into_iter()
        .map(|(provider, recipients)| Share { provider: provider.to_owned(), recipients })
        .collect();
    shares.sort_by_key(|share| Reverse(share.recipients));
    shares
}

/// How bad it is to miss what those providers demand of bulk mail: an error where the list makes a bulk sender.
pub(super) fn demanded(shares: &[Share]) -> Severity {
    let there = shares.iter().filter(|share| DEMANDING.contains(&share.provider.as_str()));
    let recipients: u64 = there.map(|share| share.recipients).sum();
    if recipients > BULK { Severity::Error } else { Severity::Warning }
}

/// # Errors
/// A segment that can no longer be read.
pub(super) fn check(
    draft: &Draft,
    segments: &[Arc<Segment>],
    findings: &mut Findings,
) -> Result<(), SegmentError> {
    totals(draft, findings);
    refused(&draft.rejected, findings);
    let mut tally = Tally::default();
    for found in domains_of(segments) {
        let flaw = |severity, check, what, advice| Flaw { severity, check, what, advice };
        let (segment, index) = found.first;
        if domains::is_disposable(found.domain) {
            let recipient = segment.recipient(index)?;
            let what = "addresses are of the kind that is thrown away";
            let advice = "take them off the list: they bounce soon, or turn into traps";
            let flaw = flaw(Severity::Warning, "disposable-domains", what, advice);
            tally.add_many(recipient.row, found.recipients, flaw, || {
                format!("row {}, {}", recipient.row, recipient.address)
            });
        } else if let Some(meant) = domains::meant(found.domain) {
            let recipient = segment.recipient(index)?;
            let what = format!("{} is likely a slip for {meant}", found.domain);
            let advice = "ask these people again; what looks like a provider's name is often a trap";
            let flaw = flaw(Severity::Warning, "domain-typos", &what, advice);
            tally.add_many(recipient.row, found.recipients, flaw, || {
                format!(
                    "row {}, {}: {}@{meant}?",
                    recipient.row,
                    recipient.address,
                    recipient.address.local()
                )
            });
        }
        let share = found.recipients as f64 / draft.totals.accepted.max(1) as f64;
        let is_many = draft.totals.accepted >= SHARES_ROWS_MIN && share > CONCENTRATION;
        if is_many && domains::provider(found.domain).is_none() {
            let what = format!("{:.0} % of the list is at {}", share * 100.0, found.domain);
            let advice = "see that its administrators know, and that the limits there are yours";
            findings.add(Severity::Note, "one-domain", what, advice);
        }
    }
    tally.into_findings(findings);
    Ok(())
}

fn totals(draft: &Draft, findings: &mut Findings) {
    let totals = &draft.totals;
    if totals.accepted == 0 {
        let what =
            format!("nobody would be mailed: the list has {} rows and none of them remains", totals.rows);
        findings.add(
            Severity::Error,
            "list-empty",
            what,
            "see that it is the right list, column and suppression",
        );
    }
    let notes = [
        (
            totals.duplicate,
            "list-duplicates",
            "rows are of addresses that came before",
            "nothing: each is mailed once",
        ),
        (totals.suppressed, "list-suppressed", "rows are suppressed", "nothing: they are not mailed"),
    ];
    for (count, check, what, advice) in notes {
        findings.add_many(Severity::Note, check, (count, &[]), what, advice);
    }
}

/// The reasons of `rejected.csv`, each with how often it was.
fn refused(path: &Path, findings: &mut Findings) {
    let Ok(mut rows) = csv::Reader::from_path(path) else { return };
    let mut tally = Tally::default();
    let mut record = csv::StringRecord::new();
    while let Ok(true) = rows.read_record(&mut record) {
        let field = |at| record.get(at).unwrap_or_default();
        let row = field(0).parse().unwrap_or(u64::MAX);
        let what = format!("rows are refused: {}", field(2));
        let advice = "mend them in the list or take them out; they get no message";
        let flaw = Flaw { severity: Severity::Warning, check: "list-syntax", what: &what, advice };
        tally.add(row, flaw, || format!("row {}, {}", field(0), field(1)));
    }
    tally.into_findings(findings);
}

/// Columns that the templates say without a default, and that many rows do not have. `empty` is by column.
pub(super) fn columns(draft: &Draft, empty: &[u64], templates: &[String], findings: &mut Findings) {
    let rows = draft.totals.accepted;
    for (name, empty) in draft.columns.names().iter().zip(empty) {
        let share = *empty as f64 / rows.max(1) as f64;
        if share <= EMPTY_SHARE || !templates.iter().any(|text| says_without_default(text, name)) {
            continue;
        }
        let what = format!("{name} is empty in {:.0} % of the rows", share * 100.0);
        let advice = format!("say what stands there instead: {{{{ {name} or \"…\" }}}}");
        findings.add_many(Severity::Note, "empty-variable", (*empty, &[]), what, advice);
    }
}

/// Whether a template prints the variable as it is: no default, no `or`, no condition on it.
fn says_without_default(template: &str, name: &str) -> bool {
    let is_asked = template.split("{%").skip(1).filter_map(|tag| tag.split("%}").next()).any(|tag| {
        let mut words = words(tag);
        words.next().is_some_and(|first| first == "if" || first == "elif") && words.any(|word| word == name)
    });
    let mut printed = template.split("{{").skip(1).filter_map(|tag| tag.split("}}").next());
    !is_asked
        && printed.any(|tag| {
            let has = |wanted: &str| words(tag).any(|word| word == wanted);
            has(name) && !has("default") && !has("or") && !has("if")
        })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_asked_whether_it_minds_an_empty_value() {
        for (template, minds) in [
            ("Hello {{ name }}", true),
            ("Hello {{name|title}}", true),
            ("Hello {{ name|default('you') }}", false),
            ("Hello {{ name or 'you' }}", false),
            ("{% if name %}Hello {{ name }}{% endif %}", false),
            ("Hello {{ surname }} name", false),
        ] {
            assert_eq!(says_without_default(template, "name"), minds, "{template}");
        }
    }
}
