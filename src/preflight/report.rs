//! What a check came to, for machines as it is and for people as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::NAMES;
use super::finding::{Finding, Findings, Severity};
use super::list::Share;
use super::rows::Largest;

/// Providers that are told by name.
const PROVIDERS_MAX: usize = 8;
/// Characters of a line of text.
const WIDTH: usize = 100;
const INDENT: &str = "         ";

/// Everything a check found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub campaign: String,
    /// Worst first.
    pub findings: Vec<Finding>,
    pub ignored: Vec<Ignored>,
    /// `None` where there was no list to read.
    pub figures: Option<Figures>,
}

/// Findings that manifest, settings or command line want to hear nothing of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    pub check: String,
    pub findings: usize,
}

/// The list and its messages in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    pub rows: u64,
    pub invalid: u64,
    pub duplicate: u64,
    pub suppressed: u64,
    pub left_out: u64,
    /// Rows that would be mailed, whether or not their message can be made.
    pub mailed: u64,
    pub rendered: u64,
    pub unrenderable: u64,
    pub largest: Option<Largest>,
    /// Of those that would be mailed, largest first.
    pub providers: Vec<Share>,
    pub seconds: f64,
}

impl Report {
    /// Without what is to be ignored; what is the name of no check is worth a note.
    pub(super) fn new(
        campaign: String,
        findings: Findings,
        ignore: &[String],
        figures: Option<Figures>,
    ) -> Self {
        let (silent, mut findings): (Vec<Finding>, Vec<Finding>) = findings
            .sorted()
            .into_iter()
            .partition(|finding| ignore.iter().any(|name| name == finding.check));
        let mut ignored: Vec<Ignored> = Vec::new();
        for name in ignore {
            let count = silent.iter().filter(|finding| finding.check == name).count();
            if ignored.iter().all(|known| known.check != *name) {
                ignored.push(Ignored { check: name.clone(), findings: count });
            }
        }
        let mut idle = Findings::default();
        for name in ignored.iter().filter(|name| !NAMES.contains(&&*name.check)) {
            let what = format!("`{}` is to be ignored and is the name of no check", name.check);
            idle.add(Severity::Note, "ignore", what, "`postroad check --help` lists the names");
        }
        findings.extend(idle.sorted());
        ignored.retain(|name| name.findings > 0);
        Self { campaign, findings, ignored, figures }
    }

    pub fn worst(&self) -> Option<Severity> {
        self.findings.first().map(|finding| finding.severity)
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// A line for each finding that is at least so bad.
    pub fn lines(&self, at_least: Severity) -> Vec<String> {
        let bad = self.findings.iter().filter(|finding| finding.severity >= at_least);
        bad.map(|finding| format!("{}: {}{}", finding.check, finding.what, times(finding.count))).collect()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&finding_text(finding));
        }
        if let Some(figures) = &self.figures {
            text.push_str(&figures_text(figures));
        }
        text.push_str(&self.conclusion());
        text.push('\n');
        text
    }

    /// The closing line.
    fn conclusion(&self) -> String {
        let counts: Vec<String> = [
            (self.count(Severity::Error), "error"),
            (self.count(Severity::Warning), "warning"),
            (self.count(Severity::Note), "note"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}{}", if *count == 1 { "" } else { "s" }))
        .collect();
        let counts = if counts.is_empty() { "nothing is wrong".to_owned() } else { counts.join(", ") };
        let verdict = match self.worst() {
            Some(Severity::Error) => "not to be sent like this",
            Some(Severity::Warning) => "can be sent, but will do better without the warnings",
            Some(Severity::Note) | None => "ready to be sent",
        };
        let ignored: Vec<&str> = self.ignored.iter().map(|ignored| ignored.check.as_str()).collect();
        let ignored =
            if ignored.is_empty() { String::new() } else { format!("; ignored: {}", ignored.join(", ")) };
        format!("{}: {counts}; {verdict}{ignored}", self.campaign)
    }
}

fn times(count: u64) -> String {
    if count == 1 { String::new() } else { format!(" ({})", grouped(count)) }
}

fn finding_text(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let what = format!("{}{} [{}]", finding.what, times(finding.count), finding.check);
    let mut text = wrapped(&format!("{severity:<8} "), &what);
    text.push_str(&wrapped(INDENT, &format!("→ {}", finding.advice)));
    for example in &finding.examples {
        let _ = writeln!(text, "{INDENT}  {example}");
    }
    text.push('\n');
    text
}

/// Lines of words below each other, the first behind `head`.
fn wrapped(head: &str, words: &str) -> String {
    let mut text = head.to_owned();
    let mut column = INDENT.len();
    for (at, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(INDENT);
            column = INDENT.len();
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
    text
}

fn figures_text(figures: &Figures) -> String {
    let mut text = format!(
        "{} rows: {} to be mailed, {} refused, {} left out, {} twice, {} suppressed\n",
        grouped(figures.rows),
        grouped(figures.mailed),
        grouped(figures.invalid),
        grouped(figures.left_out),
        grouped(figures.duplicate),
        grouped(figures.suppressed)
    );
    if figures.mailed > 0 && !figures.providers.is_empty() {
        let percent = |recipients: u64| recipients as f64 * 100.0 / figures.mailed as f64;
        let shown = figures.providers.iter().take(PROVIDERS_MAX);
        let mut parts: Vec<String> =
            shown.map(|share| format!("{} {:.1} %", share.provider, percent(share.recipients))).collect();
        let rest = figures.providers.iter().skip(PROVIDERS_MAX);
        let rest: u64 = rest.map(|share| share.recipients).sum();
        if rest > 0 {
            parts.push(format!("and others {:.1} %", percent(rest)));
        }
        let _ = writeln!(text, "mailboxes: {}", parts.join(", "));
    }
    if let Some(Largest { octets, row, address }) = &figures.largest {
        let _ = writeln!(text, "largest message: {} octets (row {row}, {address})", grouped(*octets));
    }
    let _ =
        writeln!(text, "{} messages made and read in {:.1} s\n", grouped(figures.rendered), figures.seconds);
    text
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let mut findings = Findings::default();
        findings.add(Severity::Note, "image-alt", "a picture has no alt text", "give it one");
        findings.add(Severity::Error, "render", "a message cannot be made", "mend it");
        findings.add_many(
            Severity::Warning,
            "role-accounts",
            (1_234, &[]),
            "addresses stand for a task",
            "go",
        );
        findings
    }

    #[test]
    fn the_worst_comes_first_and_the_last_line_says_what_it_comes_to() {
        let report = Report::new("summer".into(), findings(), &[], None);
        let text = report.text();
        let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
        assert!(
            at("error    a message") < at("warning  addresses") && at("warning  ") < at("note     a picture")
        );
        assert!(text.contains("(1,234) [role-accounts]"), "{text}");
        assert!(text.ends_with("summer: 1 error, 1 warning, 1 note; not to be sent like this\n"), "{text}");
    }

    #[test]
    fn what_is_ignored_does_not_count_but_is_told() {
        let ignore = ["render", "role-accounts", "rolle"].map(str::to_owned);
        let report = Report::new("summer".into(), findings(), &ignore, None);
        assert_eq!(report.worst(), Some(Severity::Note));
        assert!(report.findings.iter().any(|finding| finding.what.contains("`rolle`")));
        assert!(report.text().contains("ignored: render, role-accounts"), "{}", report.text());
    }
}
