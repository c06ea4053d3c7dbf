//! What is counted, named once: totals that must add up, the snapshot a person watches, the report.
//!
//! Plain values. Who counts is the engine and the journal; who draws is `cli`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Where the rows of the lists have ended up so far.
///
/// Invariant: `rows` is the sum of all the others; see [`Totals::check`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Data rows read.
    pub rows: u64,
    /// No address that could be mailed, or a row that cannot be made into a message.
    pub invalid: u64,
    /// Not meant: the manifest's `where`, exclude lists, sample or cap.
    #[serde(default)]
    pub left_out: u64,
    pub duplicate: u64,
    pub suppressed: u64,
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
    pub cancelled: u64,
    /// Final under `skip` and `hold`.
    pub in_doubt: u64,
    /// Not settled yet.
    pub waiting: u64,
}

/// A run whose rows do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the counts do not add up: {rows} rows were read, {accounted} are accounted for; keep the run's folder and report this"
)]
pub struct Imbalance {
    pub rows: u64,
    pub accounted: u64,
}

impl Totals {
    /// Each disposition by name, in the order of the road.
    pub fn parts(&self) -> [(&'static str, u64); 10] {
        [
            ("invalid", self.invalid),
            ("left out", self.left_out),
            ("duplicate", self.duplicate),
            ("suppressed", self.suppressed),
            ("delivered", self.delivered),
            ("bounced", self.bounced),
            ("expired", self.expired),
            ("cancelled", self.cancelled),
            ("in doubt", self.in_doubt),
            ("waiting", self.waiting),
        ]
    }

    /// Sees that every row is in exactly one part.
    ///
    /// # Errors
    /// The two sums that should have been the same.
    pub fn check(&self) -> Result<(), Imbalance> {
        let accounted = self.parts().iter().map(|(_, count)| count).sum();
        if accounted == self.rows { Ok(()) } else { Err(Imbalance { rows: self.rows, accounted }) }
    }

    /// Rows for which nothing more will be done.
    pub fn settled(&self) -> u64 {
        self.rows.saturating_sub(self.waiting)
    }
}

/// A provider's, or where there is none a site's, share of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderLine {
    pub name: String,
    pub delivered: u64,
    /// Attempts that ended in a deferral.
    pub deferred: u64,
    pub bounced: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
}

/// A run at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub totals: Totals,
    /// Attempts that ended in a deferral.
    pub deferrals: u64,
    /// Messages on the wire.
    pub in_flight: u64,
    /// The whole list has been read.
    pub import_done: bool,
    pub elapsed_secs: f64,
    /// Largest first.
    pub providers: Vec<ProviderLine>,
    /// Why nothing moves, or not all that could: the start time, paths that rest, a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// A recipient of whom nobody knows whether the message arrived (RFC 1047).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InDoubtLine {
    pub row: u64,
    pub address: String,
    /// `resend`, `skip` or `hold`.
    pub policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RowOrigin>,
}

/// Where a row is from in a campaign of several lists, whose rows are numbered together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowOrigin {
    /// The list's file.
    pub list: String,
    /// 1-based data row of that list.
    pub row: u64,
}

impl std::fmt::Display for RowOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row {} of {}", self.row, self.list)
    }
}

/// Settled recipients of one variant, by how they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantLine {
    pub name: String,
    /// The sum of all that follow but the deferrals.
    pub recipients: u64,
    pub delivered: u64,
    pub bounced: u64,
    pub expired: u64,
    pub cancelled: u64,
    /// Since the list was read.
    pub suppressed: u64,
    /// No message could be made of the row.
    pub invalid: u64,
    pub in_doubt: u64,
    /// Attempts that ended in a deferral.
    pub deferrals: u64,
}

/// Which variant won, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WinnerLine {
    pub variant: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// `manual`, or what the variants were compared by.
    pub by: String,
    pub because: String,
}

/// A run by its variants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantResults {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<WinnerLine>,
    /// In the manifest's order.
    pub variants: Vec<VariantLine>,
    /// Settled without any: they were outside the test and no variant had won, or their rows cannot be read.
    pub none: VariantLine,
}

impl VariantLine {
    fn parts(&self) -> [u64; 7] {
        let Self { delivered, bounced, expired, cancelled, suppressed, invalid, in_doubt, .. } = *self;
        [delivered, bounced, expired, cancelled, suppressed, invalid, in_doubt]
    }

    /// What is left of this after `other`; `None` where that had more of anything.
    fn without(&self, other: &Self) -> Option<Self> {
        Some(Self {
            name: self.name.clone(),
            recipients: self.recipients.checked_sub(other.recipients)?,
            delivered: self.delivered.checked_sub(other.delivered)?,
            bounced: self.bounced.checked_sub(other.bounced)?,
            expired: self.expired.checked_sub(other.expired)?,
            cancelled: self.cancelled.checked_sub(other.cancelled)?,
            suppressed: self.suppressed.checked_sub(other.suppressed)?,
            invalid: self.invalid.checked_sub(other.invalid)?,
            in_doubt: self.in_doubt.checked_sub(other.in_doubt)?,
            deferrals: self.deferrals.checked_sub(other.deferrals)?,
        })
    }
}

impl VariantResults {
    /// `all`: everyone settled, of whatever variant.
    ///
    /// # Errors
    /// The variants have more of something than all together, or a line does not add up.
    pub fn new(
        variants: Vec<VariantLine>,
        all: &VariantLine,
        winner: Option<WinnerLine>,
    ) -> Result<Self, Imbalance> {
        let none = variants.iter().try_fold(all.clone(), |rest, line| rest.without(line));
        let sums =
            variants.iter().chain(&none).all(|line| line.parts().iter().sum::<u64>() == line.recipients);
        match none {
            Some(none) if sums => Ok(Self { winner, variants, none }),
            _ => {
                let accounted = variants.iter().map(|line| line.recipients).sum();
                Err(Imbalance { rows: all.recipients, accounted })
            }
        }
    }
}

/// A run at its end, or where it was stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub run: String,
    pub campaign: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub ended: String,
    /// Nothing is waiting.
    pub finished: bool,
    pub totals: Totals,
    /// Ends and deferrals of attempts; a recipient whose domain takes no mail counts as one.
    pub attempts: u64,
    pub deferrals: u64,
    pub in_doubt: Vec<InDoubtLine>,
    pub providers: Vec<ProviderLine>,
    /// Of a campaign with variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variants: Option<VariantResults>,
    pub warnings: Vec<String>,
    pub messages_per_second: f64,
    pub journal: JournalLine,
}

impl Report {
    /// From the start, when the first message may go, to the end, when the last recipient is settled.
    pub fn duration(&self) -> Duration {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let span =
            at(&self.started).zip(at(&self.ended)).map(|(started, ended)| ended.duration_since(started));
        span.and_then(|span| Duration::try_from(span).ok()).unwrap_or_default()
    }
}

/// What the journal of one process cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    pub octets: u64,
    pub writes: u64,
    /// Flushes to the device (`fdatasync`).
    pub syncs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_lost_or_counted_twice_is_noticed() {
        let totals = Totals { rows: 10, invalid: 1, delivered: 7, waiting: 2, ..Totals::default() };
        assert_eq!(totals.check(), Ok(()));
        assert_eq!(totals.settled(), 8);
        let lost = Totals { delivered: 6, ..totals };
        assert_eq!(lost.check(), Err(Imbalance { rows: 10, accounted: 9 }));
    }

    #[test]
    fn variants_and_those_without_one_are_all_that_are_settled() {
        let line = |delivered, bounced| VariantLine {
            recipients: delivered + bounced,
            delivered,
            bounced,
            ..VariantLine::default()
        };
        let results = VariantResults::new(vec![line(5, 1), line(3, 0)], &line(10, 2), None).unwrap();
        assert_eq!(results.none, line(2, 1));
        let too_many = VariantResults::new(vec![line(5, 3)], &line(10, 2), None);
        assert_eq!(too_many, Err(Imbalance { rows: 12, accounted: 8 }));
        let wrong = VariantLine { recipients: 9, ..line(5, 3) };
        assert!(VariantResults::new(vec![wrong], &line(10, 5), None).is_err());
    }
}
