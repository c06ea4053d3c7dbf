//! What has no equivalent, or another one than may be thought: line by line of the peer's files.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A line of a file; counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: Arc<Path>,
    pub line: usize,
}

/// What became of something that was not simply carried over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing of it is in the result.
    Lost,
    /// It is in the result, and means something else there, or less.
    Changed,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    pub place: Place,
    pub kind: Kind,
    /// The directive, key or pattern.
    pub subject: String,
    /// Why, and what to do instead.
    pub why: String,
}

/// Characters kept of a subject: a pattern can be as long as a file.
const SUBJECT_CHARS_MAX: usize = 120;

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, subject, why, kind } = self;
        let carried = if *kind == Kind::Changed { "carried over, but " } else { "" };
        write!(f, "{}:{}: {subject}: {carried}{why}", place.file.display(), place.line)
    }
}

/// All remarks of one conversion.
#[derive(Debug, Default)]
pub(super) struct Report {
    remarks: Vec<Remark>,
}

impl Report {
    pub fn lost(&mut self, place: &Place, subject: impl Into<String>, why: impl Into<String>) {
        self.push(place, Kind::Lost, subject.into(), why.into());
    }

    pub fn changed(&mut self, place: &Place, subject: impl Into<String>, why: impl Into<String>) {
        self.push(place, Kind::Changed, subject.into(), why.into());
    }

    fn push(&mut self, place: &Place, kind: Kind, subject: String, why: String) {
        let is_long = subject.chars().nth(SUBJECT_CHARS_MAX).is_some();
        let mut subject: String = subject.chars().take(SUBJECT_CHARS_MAX).map(visible).collect();
        if is_long {
            subject.push('…');
        }
        let why = why.chars().map(visible).collect();
        self.remarks.push(Remark { place: place.clone(), kind, subject, why });
    }

    /// In the order of files and lines, each once.
    pub fn finish(mut self) -> Vec<Remark> {
        self.remarks.sort();
        self.remarks.dedup();
        self.remarks
    }
}

/// A report is read on terminals.
fn visible(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}
