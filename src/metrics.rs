//! What is counted, named once: totals that must add up, the snapshot a person watches, the report.
//!
//! Plain values. Who counts is the engine and the journal; who draws is `cli`.

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
    pub warnings: Vec<String>,
    pub messages_per_second: f64,
    pub journal: JournalLine,
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
}
