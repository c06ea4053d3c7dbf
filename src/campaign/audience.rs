//! Everyone a manifest names: its lists and seeds, opened, and the selection among their rows.
//!
//! The import, the rehearsal's expectation and the preview all read lists through this, so that they agree
//! on who is mailed. Exclude lists are read whole here, each time it is opened: what is added to one during a
//! run holds for rows that are read after a resume.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::campaign::condition::{Condition, ConditionError};
use crate::campaign::list::{Advance, List, ListError, Step};
use crate::campaign::lists::Lists;
use crate::campaign::manifest::{self, Manifest};
use crate::campaign::segment::Columns;
use crate::campaign::selection::{AddressKeys, Decision, NoRows, Reason, Sample, SeedPlaces, Selection};
use crate::config::fault::Fault;

/// How long to wait at a time for the rows of an exclude list; there is nothing else to do meanwhile.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Why nobody can be selected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudienceError {
    #[error(transparent)]
    List(#[from] ListError),
    /// A `where`, by its place in the manifest.
    #[error(transparent)]
    Condition(Box<Fault>),
    /// The same, where the manifest's file is no longer to be had.
    #[error("`{key}`: {what}")]
    Frozen { key: String, what: String },
}

/// Lists being read, and what their rows are asked.
#[derive(Debug)]
pub struct Audience {
    pub lists: Lists,
    pub selection: Selection,
    places: SeedPlaces,
    /// Of each exclude list: rows that have no address, which exclude nobody.
    pub excluded_rows_bad: Vec<(PathBuf, u64)>,
}

impl From<List> for Audience {
    /// All rows of one list.
    fn from(list: List) -> Self {
        Self {
            lists: Lists::of(vec![list], None),
            selection: Selection::default(),
            places: SeedPlaces::At(Vec::new()),
            excluded_rows_bad: Vec::new(),
        }
    }
}

impl Audience {
    /// Opens the lists as far as their headers, and reads the exclude lists. Blocks.
    ///
    /// # Errors
    /// A list that cannot be read, a `where` that asks for a column its list does not have.
    pub fn open(manifest: &Manifest) -> Result<Self, AudienceError> {
        let sources: Vec<_> = manifest.lists.iter().map(manifest::List::source).collect();
        let seeds = manifest.seeds.as_ref();
        let lists = Lists::open(&sources, seeds.map(|seeds| seeds.list.source()).as_ref())?;
        let mut selection = Selection {
            sample: manifest.select.sample.map(|share| Sample::new(&manifest.name, share.0)),
            cap: manifest.select.cap,
            seeds: seeds.map(|_| lists.len()),
            ..Selection::default()
        };
        let compile = |keys: &[&str], text: &Option<String>, known: &Columns, fields: &Columns| {
            let compiled = text.as_ref().map(|text| Condition::new(text, known, fields)).transpose();
            compiled.map_err(|error| placed(manifest, keys, &error))
        };
        for (at, list) in (0u16..).zip(manifest.lists.iter().chain(seeds.map(|seeds| &seeds.list))) {
            let number = at.to_string();
            let keys = if at == lists.len() { ["seeds", "list"] } else { ["list", &number] };
            let keys = [keys[0], keys[1], "where"];
            let (own, fields) = (lists.own_columns(at), lists.columns_of(at));
            selection.of_lists.push(compile(&keys, &list.condition, own, fields)?);
        }
        let columns = lists.columns();
        selection.of_all = compile(&["select", "where"], &manifest.select.condition, columns, columns)?;
        let mut excluded_rows_bad = Vec::new();
        for (at, list) in manifest.exclude.iter().enumerate() {
            let opened = List::open(&list.source(), None)?;
            let columns = opened.columns().clone();
            let keys = ["exclude", &at.to_string(), "where"];
            let condition = compile(&keys, &list.condition, &columns, &columns)?;
            let bad = exclude(opened, condition.as_ref(), &mut selection.excluded)?;
            if bad > 0 {
                excluded_rows_bad.push((list.file.clone(), bad));
            }
        }
        let places = match seeds.map(|seeds| (seeds.every, &seeds.at)) {
            Some((Some(every), _)) => SeedPlaces::Every(every.max(1)),
            Some((None, at)) => SeedPlaces::At(at.clone()),
            None => SeedPlaces::At(Vec::new()),
        };
        Ok(Self { lists, selection, places, excluded_rows_bad })
    }

    /// Names of the fields each row will have.
    pub fn columns(&self) -> &Columns {
        self.lists.columns()
    }

    /// To the next row, which [`Lists::step`] then has: a seed where one is due, and the seeds left over after
    /// the last list. `recipients` and `seeds` are the rows accepted so far, apart: all that the turn goes by,
    /// so that a resumed import takes them in the same order.
    ///
    /// # Errors
    /// A list cannot be read further.
    pub(crate) fn advance(
        &mut self,
        recipients: u64,
        seeds: u64,
        wait: Duration,
    ) -> Result<Advance, ListError> {
        let is_due = seeds < self.places.due(recipients);
        let mut next = if is_due { self.lists.advance_seeds(wait)? } else { Advance::End };
        if next == Advance::End {
            next = self.lists.advance(wait)?;
        }
        if next == Advance::End {
            next = self.lists.advance_seeds(wait)?;
        }
        Ok(next)
    }

    /// Why the rows of an address are left out: the first one's list, its number there, and the reason; `None`
    /// where no row is. Reads to the first such row, at the worst everything. Only for addresses that no row
    /// was accepted of.
    ///
    /// # Errors
    /// A list cannot be read.
    pub fn why_left_out(&mut self, key: u128) -> Result<Option<(u16, u64, Reason)>, ListError> {
        loop {
            let row = match self.lists.next(PATIENCE)? {
                Step::Row(row) => row,
                Step::Waiting => continue,
                Step::End => return Ok(None),
            };
            if row.read().is_ok_and(|(address, _)| address.key() == key) {
                let Ok(decision) = self.selection.decide(&row, &mut NoRows);
                match decision {
                    Decision::LeftOut(reason) => return Ok(Some((row.list, row.list_row, reason))),
                    Decision::Accepted(..) if self.selection.cap.is_some() => {
                        return Ok(Some((row.list, row.list_row, Reason::Cap)));
                    }
                    _ => {}
                }
            }
        }
    }

    /// What a list is called where there is a choice: its file. `None` for a campaign of one list.
    pub fn called(&self, list: u16) -> Option<&Path> {
        let is_one = self.lists.len() == 1 && !self.lists.has_seeds();
        if is_one { None } else { self.lists.path(list) }
    }
}

/// Adds a list's addresses. A row whose `where` has no answer excludes, to be on the safe side. Returns how
/// many rows have no address.
fn exclude(mut list: List, condition: Option<&Condition>, into: &mut AddressKeys) -> Result<u64, ListError> {
    let mut bad = 0;
    loop {
        match list.next(PATIENCE)? {
            Step::Row(row) => match row.read() {
                Ok((address, fields)) => {
                    if condition.is_none_or(|condition| condition.holds(&address, &fields) != Ok(false)) {
                        into.add(&address);
                    }
                }
                Err(_) => bad += 1,
            },
            Step::Waiting => {}
            Step::End => return Ok(bad),
        }
    }
}

/// The error at its place in `campaign.toml`, if that is still there.
fn placed(manifest: &Manifest, keys: &[&str], error: &ConditionError) -> AudienceError {
    let file = manifest.folder.join(manifest::FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let advice = "name columns as templates do, texts in quotes";
            AudienceError::Condition(Box::new(Fault::about(&file, &text, keys, error.to_string(), advice)))
        }
        Err(_) => AudienceError::Frozen { key: keys.join("."), what: error.to_string() },
    }
}
