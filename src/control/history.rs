//! What the files of a run say of a recipient or of a domain's recipients, whether an engine runs or not.
//!
//! One reading of the journal, beside a writer at work if there is one; changes nothing.

use std::collections::HashMap;
use std::ops::Range;
use std::time::SystemTime;

use roaring::RoaringTreemap;

use crate::address::AddressRef;
use crate::campaign::run::Run;
use crate::campaign::spool::{Spool, SpoolError};
use crate::envelope::RecipientId;
use crate::journal::{self, JournalError, Line, NameKind, Names, Record};
use crate::metrics::RowOrigin;
use crate::outcome::Disposition;

/// Why files do not tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Segment(#[from] crate::campaign::segment::SegmentError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("cannot read {0}: {1}")]
    Rejected(std::path::PathBuf, csv::Error),
}

/// Where an address is in a run.
#[derive(Debug)]
pub enum Found {
    /// In its list.
    Listed(Listed),
    /// Its row was refused.
    Rejected(Rejected),
    /// `is_whole`: the list has been read to its end.
    Absent { is_whole: bool },
}

/// A recipient and its records.
#[derive(Debug)]
pub struct Listed {
    pub address: String,
    /// 1-based data row, over all lists of the campaign.
    pub row: u64,
    /// `None` where there is one list.
    pub origin: Option<RowOrigin>,
    /// The last attempt, or the end without one; `None`: nothing yet.
    pub last: Option<Attempted>,
}

/// A row that was refused.
#[derive(Debug)]
pub struct Rejected {
    pub row: u64,
    pub reason: String,
    /// `None` where there is one list.
    pub origin: Option<RowOrigin>,
}

/// A record with the names it had when it was written.
#[derive(Debug, Clone)]
pub struct Attempted {
    pub record: Record,
    pub source: Option<String>,
    pub site: Option<String>,
}

/// What became of a domain's recipients.
#[derive(Debug, Default)]
pub struct DomainHistory {
    pub recipients: u64,
    pub delivered: u64,
    pub bounced: u64,
    /// Settled in another way: expired, cancelled, suppressed, in doubt.
    pub otherwise: u64,
    /// Waiting for their next attempt, and when the first is due.
    pub deferred: u64,
    pub next_due: Option<SystemTime>,
    /// The last attempt that was refused or failed.
    pub last_refused: Option<Attempted>,
}

/// What a run's files say of an address.
///
/// # Errors
/// Files that cannot be read.
pub fn recipient(run: &Run, address: &AddressRef<'_>) -> Result<Found, HistoryError> {
    let Some(spool) = spool(run)? else { return Ok(Found::Absent { is_whole: false }) };
    let key = address.key();
    for (segment, range) in places(&spool, address.domain()) {
        let Some(segment) = spool.segment(segment) else { continue };
        for index in range {
            let recipient = segment.recipient(index)?;
            if recipient.address.key() == key {
                let address = recipient.address.to_string();
                let last = last_record(run, recipient.id)?;
                let origin = run.row_origin(&segment, recipient.row);
                return Ok(Found::Listed(Listed { address, row: recipient.row, origin, last }));
            }
        }
    }
    Ok(match rejected(run, &address.to_string())? {
        Some(rejected) => Found::Rejected(rejected),
        None => Found::Absent { is_whole: spool.is_complete() },
    })
}

/// What a run's files say of a domain's recipients.
///
/// # Errors
/// Files that cannot be read.
pub fn domain(run: &Run, domain: &str) -> Result<DomainHistory, HistoryError> {
    let mut history = DomainHistory::default();
    let Some(spool) = spool(run)? else { return Ok(history) };
    let places = places(&spool, domain);
    history.recipients = places.values().map(|range| u64::from(range.end - range.start)).sum();
    let (mut names, mut settled) = (Names::default(), RoaringTreemap::new());
    let mut due: HashMap<RecipientId, SystemTime> = HashMap::new();
    for line in journal::read(&run.journal_folder())? {
        let record = match line? {
            Line::Attempt(record) => record,
            Line::Name { kind, id, name } => {
                names.set(kind, id, name);
                continue;
            }
            _ => continue,
        };
        let id = record.recipient;
        if !places.get(&id.segment).is_some_and(|range| range.contains(&id.index)) {
            continue;
        }
        if record.disposition.is_final() {
            due.remove(&id);
            if settled.insert(id.to_u64()) {
                match record.disposition {
                    Disposition::Delivered => history.delivered += 1,
                    Disposition::Bounced => history.bounced += 1,
                    _ => history.otherwise += 1,
                }
            }
        } else if let Disposition::Deferred { until } = record.disposition {
            due.insert(id, until);
        }
        if matches!(record.disposition, Disposition::Deferred { .. } | Disposition::Bounced) {
            history.last_refused = Some(Attempted::named(&record, &names));
        }
    }
    history.deferred = due.len() as u64;
    history.next_due = due.into_values().min();
    Ok(history)
}

impl Attempted {
    fn named(record: &Record, names: &Names) -> Self {
        let source = names.sources.get(&record.source.0.into()).map(ToString::to_string);
        let site = names.sites.get(&record.site.0).map(ToString::to_string);
        Self { record: record.clone(), source, site }
    }
}

fn spool(run: &Run) -> Result<Option<Spool>, HistoryError> {
    // Opening would make the folder.
    Ok(if run.spool_folder().is_dir() { Some(Spool::open(&run.spool_folder())?) } else { None })
}

/// Where a domain's recipients are, by segment.
fn places(spool: &Spool, domain: &str) -> HashMap<u32, Range<u32>> {
    let mut places = HashMap::new();
    for segment in spool.iter() {
        if let Some(span) = segment.spans().find(|span| span.domain == domain) {
            places.insert(segment.number(), span.first..span.first + span.count);
        }
    }
    places
}

fn last_record(run: &Run, id: RecipientId) -> Result<Option<Attempted>, HistoryError> {
    let (mut names, mut last) = (Names::default(), None);
    for line in journal::read(&run.journal_folder())? {
        match line? {
            Line::Attempt(record) if record.recipient == id => last = Some(Attempted::named(&record, &names)),
            Line::Name { kind: kind @ (NameKind::Site | NameKind::Source), id, name } => {
                names.set(kind, id, name)
            }
            _ => {}
        }
    }
    Ok(last)
}

/// The row of an address, as the list has it, that was refused, and why.
///
/// # Errors
/// The file of such rows cannot be read.
pub fn rejected(run: &Run, address: &str) -> Result<Option<Rejected>, HistoryError> {
    let path = run.rejected_path();
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error| HistoryError::Rejected(path.clone(), error);
    for row in csv::Reader::from_path(&path).map_err(failed)?.records() {
        let row = row.map_err(failed)?;
        if row.get(1).is_some_and(|refused| refused.trim().eq_ignore_ascii_case(address)) {
            let number = |at| row.get(at).and_then(|number| number.parse().ok());
            let origin = row.get(3).zip(number(4));
            return Ok(Some(Rejected {
                row: number(0).unwrap_or(0),
                reason: row.get(2).unwrap_or_default().to_owned(),
                origin: origin.map(|(list, row)| RowOrigin { list: list.to_owned(), row }),
            }));
        }
    }
    Ok(None)
}
