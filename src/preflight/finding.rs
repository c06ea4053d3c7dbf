//! What a check found, and how bad it is.

use serde::Serialize;

use super::NAMES;

/// Examples that are kept of what was found many times.
const EXAMPLES_MAX: usize = 5;

/// How much a finding matters; the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Costs delivery or reputation; the campaign can be sent.
    Warning,
    /// Must not be sent like that.
    Error,
}

/// One thing that is wrong, with one subject or with many alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Lower-case words with `-`: one of [`NAMES`].
    pub check: &'static str,
    /// What is wrong, in a sentence without a full stop; names its subject.
    pub what: String,
    /// What to do, likewise.
    pub advice: String,
    /// How many rows, links, ... it is true of.
    pub count: u64,
    /// Some of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding about one thing.
    pub fn add(
        &mut self,
        severity: Severity,
        check: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add_many(severity, check, (1, &[]), what, advice);
    }

    /// Adds a finding about many things; nothing if `count` is 0. Keeps the first examples.
    pub fn add_many(
        &mut self,
        severity: Severity,
        check: &'static str,
        (count, examples): (u64, &[String]),
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        debug_assert!(NAMES.contains(&check), "{check} is not listed");
        if count > 0 {
            let examples = examples.iter().take(EXAMPLES_MAX).cloned().collect();
            self.0.push(Finding {
                severity,
                check,
                what: what.into(),
                advice: advice.into(),
                count,
                examples,
            });
        }
    }

    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub fn worst(&self) -> Option<Severity> {
        self.0.iter().map(|finding| finding.severity).max()
    }

    /// Worst first, else as they were found.
    pub fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }
}
