//! Which addresses are suppressed or were accepted before: the import's answers to the selection.

use std::collections::HashSet;

use super::ImportError;
use crate::address::AddressRef;
use crate::campaign::builder::{RowTooFar, SegmentBuilder};
use crate::campaign::duplicates::Duplicates;
use crate::campaign::row::Row;
use crate::campaign::segment::SegmentError;
use crate::campaign::selection::Ledger;
use crate::campaign::spool::Spool;
use crate::suppression::Entries;

/// What the selection asks of the rows before.
pub(super) struct Known<'a> {
    pub(super) duplicates: &'a mut Duplicates,
    pub(super) unread: &'a HashSet<u128>,
    pub(super) suppressed: &'a Entries,
    pub(super) earlier: Earlier<'a>,
    pub(super) recipients: u64,
}

impl Ledger for Known<'_> {
    type Error = ImportError;

    fn is_suppressed(&mut self, address: &AddressRef<'_>) -> bool {
        self.suppressed.covers(address.key(), address.domain()).is_some()
    }

    fn holds(&mut self, address: &AddressRef<'_>) -> Result<bool, ImportError> {
        let key = address.key();
        Ok(self.unread.contains(&key)
            || self.duplicates.holds(key, |row| self.earlier.holds(row, address))?)
    }

    fn add(&mut self, row: &Row<'_>, address: &AddressRef<'_>) -> Result<bool, ImportError> {
        let number = u32::try_from(row.number).map_err(|_| RowTooFar(row.number))?;
        let key = address.key();
        Ok(!self.unread.contains(&key)
            && self.duplicates.add(key, number, |row| self.earlier.holds(row, address))?)
    }

    fn recipients(&self) -> u64 {
        self.recipients
    }
}

/// Where an accepted row is looked up again: being filled, being sealed, or sealed.
pub(super) struct Earlier<'a> {
    pub(super) builder: &'a SegmentBuilder,
    pub(super) sealing: Option<&'a SegmentBuilder>,
    pub(super) spool: &'a Spool,
}

impl Earlier<'_> {
    fn holds(&self, row: u32, address: &AddressRef<'_>) -> Result<bool, SegmentError> {
        let number = u64::from(row);
        if number >= self.builder.totals.first_row {
            return Ok(self.builder.holds(row, address));
        }
        if let Some(sealing) = self.sealing.filter(|sealing| number >= sealing.totals.first_row) {
            return Ok(sealing.holds(row, address));
        }
        let Some(segment) = self.spool.segment_of_row(number) else { return Ok(false) };
        let recipient = segment.recipient_of_row(number)?;
        Ok(recipient.is_some_and(|known| is_same(&known.address, address)))
    }
}

/// As [`AddressRef::key`] has it: the local part counts without regard to case.
fn is_same(one: &AddressRef<'_>, other: &AddressRef<'_>) -> bool {
    one.domain() == other.domain() && one.local().eq_ignore_ascii_case(other.local())
}
