//! Whom no campaign is to mail again, by what a server said of the recipient: appended to a list that every
//! later run reads.

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
    lines: String,
}

impl Suppressor {
    /// Appends to `path`, which is made if it is not there: address, class, run, time.
    ///
    /// # Errors
    /// The file cannot be opened for writing.
    pub fn open(path: &Path, spool: Arc<Spool>, run: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { spool, run: run.to_owned(), file, lines: String::new() })
    }

    /// Writes down these recipients, in one write. One that cannot be written is said in the log: it is
    /// settled in this run, and the next one will be told again.
    pub(super) fn write(&mut self, recipients: impl Iterator<Item = (RecipientId, Class)>) {
        self.lines.clear();
        for (id, class) in recipients {
            let Some(segment) = self.spool.segment(id.segment) else { continue };
            let Ok(recipient) = segment.recipient(id.index) else { continue };
            let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
            let (address, run) = (&recipient.address, &self.run);
            writeln!(self.lines, "{address},{},{run},{now:.0}", class.name())
                .expect("writing to a String does not fail");
        }
        if self.lines.is_empty() {
            return;
        }
        if let Err(error) = self.file.write_all(self.lines.as_bytes()) {
            tracing::warn!(%error, "the list of suppressed recipients cannot be written");
        }
    }
}
