//! The lists of a campaign one after the other, as if they were one, and its seeds beside them.
//!
//! Rows are numbered in the order they are given, and each says which row of which list it is. The columns
//! are those of all lists, in order; of a column that a list does not have its rows have an empty field.
//! All lists are opened at once, so that a mistake in the last one shows before the first is read. Knows
//! neither who is mailed nor when a seed is due.

use std::path::Path;
use std::time::Duration;

use crate::campaign::list::{Advance, List, ListError, ListSource, Step};
use crate::campaign::row::Row;
use crate::campaign::segment::Columns;

/// Lists being read.
#[derive(Debug)]
pub struct Lists {
    lists: Vec<List>,
    seeds: Option<List>,
    /// The columns each list has by itself, the seeds' last.
    own: Vec<Columns>,
    columns: Columns,
    /// The list being read.
    at: u16,
    /// The list that gave the last row.
    given: u16,
    rows: u64,
}

impl Lists {
    /// Opens every list and reads its header. The seeds' columns do not count among the campaign's.
    ///
    /// # Errors
    /// As [`List::open`].
    pub fn open(sources: &[ListSource], seeds: Option<&ListSource>) -> Result<Self, ListError> {
        let lists = sources.iter().map(|source| List::open(source, None)).collect::<Result<_, _>>()?;
        let seeds = seeds.map(|source| List::open(source, None)).transpose()?;
        Ok(Self::of(lists, seeds))
    }

    /// Lists of which no row has been read.
    pub fn of(mut lists: Vec<List>, mut seeds: Option<List>) -> Self {
        let own: Vec<Columns> = lists.iter().chain(&seeds).map(|list| list.columns().clone()).collect();
        let mut names: Vec<String> = Vec::new();
        for name in own[..lists.len()].iter().flat_map(Columns::names) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let columns = Columns::new(names);
        lists.iter_mut().chain(&mut seeds).for_each(|list| list.fit(&columns));
        Self { lists, seeds, own, columns, at: 0, given: 0, rows: 0 }
    }

    /// Names of the fields each row will have.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The columns a list has by itself; the seeds come after the last list.
    pub(crate) fn own_columns(&self, list: u16) -> &Columns {
        &self.own[usize::from(list)]
    }

    /// The columns that a `where` of a list can ask its rows for by number.
    pub(crate) fn columns_of(&self, list: u16) -> &Columns {
        self.list(list).map_or(&self.columns, List::columns)
    }

    /// How many lists there are, seeds not counted, which makes it the number of the seeds.
    pub fn len(&self) -> u16 {
        self.lists.len() as u16
    }

    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub fn has_seeds(&self) -> bool {
        self.seeds.is_some()
    }

    /// The file of a list, or of the seeds.
    pub fn path(&self, list: u16) -> Option<&Path> {
        self.list(list).map(List::path)
    }

    /// Rows given so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows given so far of a list.
    pub(crate) fn rows_of(&self, list: u16) -> u64 {
        self.list(list).map_or(0, List::rows)
    }

    /// Octets of all lists, decompressed, that made the rows given so far.
    pub fn position(&self) -> u64 {
        self.lists.iter().chain(&self.seeds).map(List::position).sum()
    }

    /// Octets read of the files, and their length together when every one has a length.
    pub fn progress(&self) -> (u64, Option<u64>) {
        self.lists
            .iter()
            .chain(&self.seeds)
            .map(List::progress)
            .fold((0, Some(0)), |sum, (read, len)| (sum.0 + read, sum.1.zip(len).map(|(sum, len)| sum + len)))
    }

    /// The next row that is no seed, waiting for it at most `wait`.
    ///
    /// # Errors
    /// A list cannot be read further.
    pub fn next(&mut self, wait: Duration) -> Result<Step<'_>, ListError> {
        let next = self.advance(wait)?;
        Ok(self.step(next))
    }

    /// As [`Self::next`], the row apart: [`Self::step`] has it.
    pub(crate) fn advance(&mut self, wait: Duration) -> Result<Advance, ListError> {
        while usize::from(self.at) < self.lists.len() {
            match self.advance_of(self.at, wait)? {
                Advance::End => self.at += 1,
                next => return Ok(next),
            }
        }
        Ok(Advance::End)
    }

    /// The same for the next seed.
    pub(crate) fn advance_seeds(&mut self, wait: Duration) -> Result<Advance, ListError> {
        self.advance_of(self.len(), wait)
    }

    /// The same for a list, or the seeds, whatever the turn is: for passing what was read before. The end
    /// also when there is no such list.
    pub(crate) fn advance_of(&mut self, list: u16, wait: Duration) -> Result<Advance, ListError> {
        let Some(next) = self.lists.iter_mut().chain(&mut self.seeds).nth(usize::from(list)) else {
            return Ok(Advance::End);
        };
        let next = next.advance(wait)?;
        if next == Advance::Row {
            self.rows += 1;
            self.given = list;
        }
        Ok(next)
    }

    /// With the row that was given last.
    pub(crate) fn step(&self, next: Advance) -> Step<'_> {
        match (next, self.list(self.given)) {
            (Advance::Row, Some(list)) => {
                Step::Row(Row { number: self.rows, list: self.given, ..list.row() })
            }
            (Advance::Waiting, _) => Step::Waiting,
            (Advance::End | Advance::Row, _) => Step::End,
        }
    }

    fn list(&self, list: u16) -> Option<&List> {
        self.lists.iter().chain(&self.seeds).nth(usize::from(list))
    }
}
