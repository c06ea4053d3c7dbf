//! Whom no campaign is to mail again, by what a server said of the recipient: appended to a list that every
//! later run reads, and only once the journal has the outcome: a run that is resumed reads it, too.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::campaign::spool::Spool;
use crate::classify::Class;
use crate::envelope::RecipientId;

/// The file that is appended to.
#[derive(Debug)]
pub struct Suppressor {
    spool: Arc<Spool>,
    run: String,
    file: File,
    /// Lines, and how many records of this process the journal must have written first.
    pending: VecDeque<(u64, String)>,
}

impl Suppressor {
    /// Appends to `path`, which is made if it is not there: address, class, run, time.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn open(path: &Path, spool: Arc<Spool>, run: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { spool, run: run.to_owned(), file, pending: VecDeque::new() })
    }

    /// Takes in recipients whose records are among the first `records` of this process.
    pub(super) fn take(&mut self, recipients: impl Iterator<Item = (RecipientId, Class)>, records: u64) {
        let mut lines = String::new();
        for (id, class) in recipients {
            let Some(segment) = self.spool.segment(id.segment) else { continue };
            let Ok(recipient) = segment.recipient(id.index) else { continue };
            let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
            let (address, run) = (&recipient.address, &self.run);
            writeln!(lines, "{address},{},{run},{now:.0}", class.name())
                .expect("writing to a String does not fail");
        }
        if !lines.is_empty() {
            self.pending.push_back((records, lines));
        }
    }

    /// Writes down those whose records the journal has, of which it has written `records`. What cannot be
    /// written is said in the log: they are settled in this run, and the next one will be told again.
    pub(super) fn write(&mut self, records: u64) {
        while let Some((_, lines)) = self.pending.pop_front_if(|(after, _)| *after <= records) {
            if let Err(error) = self.file.write_all(lines.as_bytes()) {
                tracing::warn!(%error, "the list of suppressed recipients cannot be written");
            }
        }
    }
}
