//! One row of a list, whatever the list's format, and why a row can be refused.
//!
//! Fields lie one after the other in a buffer that is used again for the next row.

use std::borrow::Cow;

use crate::address::{AddressError, AddressRef};

/// Octets of all fields of a row together at most: far above any merge field, far below memory.
pub const ROW_OCTETS_MAX: usize = 64 * 1024;
/// Octets of a refused row's address that are kept to be shown.
const SHOWN_OCTETS_MAX: usize = 320;

/// Why a row is not mailed. It never stops an import by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("the row is not UTF-8")]
    NotUtf8,
    #[error("the row is longer than 64 KiB; is a quote left open?")]
    TooLong,
    #[error("the row has {fields} fields where the header has {header}")]
    Ragged { fields: usize, header: usize },
    #[error("a quote is opened in this row and never closed")]
    QuoteOpen,
    #[error("the row is not a JSON object: {0}")]
    Json(String),
    #[error("its `where` cannot be worked out: {0}")]
    Condition(String),
    #[error("the value of {0:?} is nested; only strings, numbers, true, false and null can be fields")]
    Nested(String),
}

/// The fields of a row as they were read, unescaped but not yet checked.
#[derive(Debug, Default)]
pub(crate) struct RowBuffer {
    text: Vec<u8>,
    ends: Vec<u32>,
    /// What the reader of the format found wrong.
    pub flaw: Option<RowError>,
}

impl RowBuffer {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.flaw = None;
    }

    /// Appends to the field under way. Past the bound it takes no more and the row is too long.
    pub(crate) fn extend(&mut self, octets: &[u8]) {
        if self.text.len() + octets.len() <= ROW_OCTETS_MAX {
            self.text.extend_from_slice(octets);
        } else {
            self.flaw = Some(RowError::TooLong);
        }
    }

    pub(crate) fn end_field(&mut self) {
        // As many empty fields as a row has octets at most: a line of commas is no way to take memory.
        if self.ends.len() < ROW_OCTETS_MAX {
            self.ends.push(self.text.len() as u32);
        } else {
            self.flaw = Some(RowError::TooLong);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn octets(&self, field: usize) -> Option<&[u8]> {
        self.text.get(self.begin(field)..*self.ends.get(field)? as usize)
    }

    fn begin(&self, field: usize) -> usize {
        if field == 0 { 0 } else { self.ends.get(field - 1).map_or(self.text.len(), |&end| end as usize) }
    }
}

/// In place of a field: an empty one.
pub(crate) const NO_FIELD: usize = usize::MAX;

/// Which fields of a row are what.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Fields a row must have.
    pub width: usize,
    pub address: usize,
    /// Field by column of [`crate::campaign::segment::Columns`]; [`NO_FIELD`] where the list has none.
    pub columns: Vec<usize>,
    /// Of `columns`: the first, which are fields of a recipient. Those after are asked for by number only.
    pub given: usize,
}

/// A row of the list.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// 1-based, over all lists of the campaign; headers are not counted, empty lines are not either.
    pub number: u64,
    /// The place of its list in the campaign; the seeds come after the last.
    pub list: u16,
    /// As `number`, in its list.
    pub list_row: u64,
    pub(crate) buffer: &'a RowBuffer,
    pub(crate) layout: &'a Layout,
}

/// The checked text of a row.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    text: &'a str,
    row: Row<'a>,
}

impl<'a> Row<'a> {
    /// Checks the row and parses its address.
    ///
    /// # Errors
    /// Why the row is refused.
    pub fn read(&self) -> Result<(AddressRef<'a>, Fields<'a>), RowError> {
        let Self { buffer, layout, .. } = *self;
        match &buffer.flaw {
            None => {}
            Some(RowError::TooLong) => return Err(RowError::TooLong),
            Some(RowError::QuoteOpen) => return Err(RowError::QuoteOpen),
            Some(RowError::Json(what)) => return Err(RowError::Json(what.clone())),
            Some(RowError::Nested(name)) => return Err(RowError::Nested(name.clone())),
            Some(_) => return Err(RowError::NotUtf8),
        }
        if buffer.len() != layout.width {
            return Err(RowError::Ragged { fields: buffer.len(), header: layout.width });
        }
        let text = std::str::from_utf8(&buffer.text).map_err(|_| RowError::NotUtf8)?;
        // Two fields can each hold half of a character and together look whole.
        if !text.is_ascii() && !buffer.ends.iter().all(|&end| text.is_char_boundary(end as usize)) {
            return Err(RowError::NotUtf8);
        }
        let fields = Fields { text, row: *self };
        Ok((AddressRef::parse(fields.field(layout.address))?, fields))
    }

    /// What stands where the address should be, to show it beside the reason.
    pub fn address_text(&self) -> Cow<'a, str> {
        let octets = self.buffer.octets(self.layout.address).unwrap_or_default();
        String::from_utf8_lossy(&octets[..octets.len().min(SHOWN_OCTETS_MAX)])
    }
}

impl<'a> Fields<'a> {
    fn field(&self, at: usize) -> &'a str {
        if at == NO_FIELD {
            return "";
        }
        let buffer = self.row.buffer;
        let end = buffer.ends.get(at).map_or(0, |&end| end as usize);
        self.text.get(buffer.begin(at)..end).unwrap_or_default()
    }

    /// The field of a column; empty if there is none.
    pub(crate) fn column(&self, column: usize) -> &'a str {
        self.row.layout.columns.get(column).map_or("", |&at| self.field(at))
    }

    /// The fields in the order of the list's columns.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> {
        let fields = *self;
        let Layout { columns, given, .. } = self.row.layout;
        columns.iter().take(*given).map(move |&at| fields.field(at))
    }
}
