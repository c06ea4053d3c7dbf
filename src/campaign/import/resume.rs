//! Going on from the last sealed segment: its rows are passed in the order they were taken, and what they
//! accepted is learned again.
//!
//! Finds out when a list is no longer what it was; what was added to the end of the list being read is
//! read as if it had been there.

use std::ops::RangeInclusive;
use std::path::Path;

use super::{Import, ImportError, ROWS_A_LOOK, WAIT};
use crate::campaign::archive::Origin;
use crate::campaign::audience::Audience;
use crate::campaign::list::{Advance, Step};
use crate::campaign::lists::Lists;
use crate::campaign::segment::{Segment, SegmentError, SegmentTotals};

impl Import<'_> {
    /// Passes the rows that are sealed already, in the order they were taken, and learns their addresses.
    /// `None` when told to stop.
    pub(super) fn resume(&mut self, mut audience: Audience) -> Result<Option<Audience>, ImportError> {
        let SegmentTotals { last_row, input_bytes, .. } = self.before;
        if last_row == 0 {
            return Ok(Some(audience));
        }
        if self.spool.columns().is_some_and(|columns| columns != *audience.columns()) {
            return Err(ImportError::ListChanged { what: "its columns are others".into() });
        }
        let (mut damaged, mut origins) = (Vec::new(), Vec::new());
        for segment in self.spool.iter() {
            self.learn(&segment, &mut damaged)?;
            origins.extend(segment.origins());
            if self.is_halted() {
                return Ok(None);
            }
        }
        if !self.pass(&mut audience, &origins, &damaged)? {
            return Ok(None);
        }
        if audience.lists.rows() != last_row {
            let what = format!("it is not known where {last_row} imported rows were from");
            return Err(ImportError::ListChanged { what });
        }
        if audience.lists.position() != input_bytes {
            let what = format!(
                "its first {last_row} rows are {} octets long, they were {input_bytes}",
                audience.lists.position()
            );
            return Err(ImportError::ListChanged { what });
        }
        Ok(Some(audience))
    }

    /// Reads the rows that `origins` speak of. False when told to stop.
    fn pass(
        &mut self,
        audience: &mut Audience,
        origins: &[(Origin, u64)],
        damaged: &[RangeInclusive<u64>],
    ) -> Result<bool, ImportError> {
        let seeds = audience.lists.len();
        let mut reading = 0;
        for &(Origin { list, .. }, count) in origins {
            if list != seeds {
                for ended in reading..list {
                    if !self.has_ended(&mut audience.lists, ended)? {
                        return Ok(false);
                    }
                }
                reading = list;
            }
            let end = audience.lists.rows() + count;
            while audience.lists.rows() < end {
                let next = audience.lists.advance_of(list, WAIT)?;
                match audience.lists.step(next) {
                    Step::Row(row) => {
                        if damaged.iter().any(|rows| rows.contains(&row.number))
                            && let Ok((address, _)) = row.read()
                        {
                            self.unread.insert(address.key());
                        }
                        if !row.number.is_multiple_of(ROWS_A_LOOK) {
                            continue;
                        }
                    }
                    Step::End => return Err(shrunk(audience, list, origins)),
                    Step::Waiting => {}
                }
                if self.is_halted() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Sees that a list after which another was begun has no more rows than it had. False when told to stop.
    fn has_ended(&self, lists: &mut Lists, list: u16) -> Result<bool, ImportError> {
        loop {
            match lists.advance_of(list, WAIT)? {
                Advance::End => return Ok(true),
                Advance::Row => {
                    let path = lists.path(list).unwrap_or(Path::new("")).display();
                    let what = format!("{path} has more than its {} rows", lists.rows_of(list) - 1);
                    return Err(ImportError::ListChanged { what });
                }
                Advance::Waiting if self.is_halted() => return Ok(false),
                Advance::Waiting => {}
            }
        }
    }

    /// Rows that a damaged block may have held are added to `damaged`.
    fn learn(
        &mut self,
        segment: &Segment,
        damaged: &mut Vec<RangeInclusive<u64>>,
    ) -> Result<(), SegmentError> {
        let mut index = 0;
        while index < segment.len() {
            let recipient = match segment.recipient(index) {
                Ok(recipient) => recipient,
                Err(SegmentError::Damaged { first, count, row_least, row_greatest, .. }) => {
                    damaged.push(u64::from(row_least)..=u64::from(row_greatest));
                    index = first + count;
                    continue;
                }
                Err(error) => return Err(error),
            };
            // They were told apart when they were accepted.
            self.duplicates
                .add(recipient.address.key(), recipient.row as u32, |_| Ok::<_, SegmentError>(false))?;
            index += 1;
        }
        segment.drop_resident();
        Ok(())
    }
}

/// The error of a list that ended before all its rows were passed.
fn shrunk(audience: &Audience, list: u16, origins: &[(Origin, u64)]) -> ImportError {
    let of_list = origins.iter().filter(|(origin, _)| origin.list == list);
    let imported = of_list.map(|(origin, count)| origin.list_row + count - 1).max().unwrap_or(0);
    let it = audience.called(list).map_or_else(|| "it".to_owned(), |path| path.display().to_string());
    let what = format!("{it} has {} rows, {imported} were imported", audience.lists.rows_of(list));
    ImportError::ListChanged { what }
}
