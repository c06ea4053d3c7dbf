//! `rejected.csv`: the rows that cannot be mailed, each with its reason and, where there are several lists,
//! its list and its number in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use crate::campaign::row::{Row, RowError};

/// The file being appended to.
pub(crate) struct RejectedRows {
    rows: csv::Writer<File>,
    /// Of each list, the seeds last; none for a campaign of one list.
    names: Vec<String>,
}

impl RejectedRows {
    /// Opens the file as it was when it had `octets` (0: before it was begun); rows past that will be
    /// read and refused again.
    pub(crate) fn open(path: &Path, octets: u64, names: Vec<String>) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        // A person may have moved the file away; what is refused from now on is still worth writing.
        let octets = if file.metadata()?.len() < octets { 0 } else { octets };
        file.set_len(octets)?;
        file.seek(SeekFrom::Start(octets))?;
        let mut rows = csv::Writer::from_writer(file);
        if octets == 0 {
            let of_lists: &[&str] = if names.is_empty() { &[] } else { &["list", "list_row"] };
            rows.write_record([&["row", "address", "reason"], of_lists].concat())?;
        }
        Ok(Self { rows, names })
    }

    pub(crate) fn add(&mut self, row: &Row<'_>, reason: &RowError) -> io::Result<()> {
        let (number, reason) = (row.number.to_string(), reason.to_string());
        let address = row.address_text();
        match self.names.get(usize::from(row.list)) {
            Some(name) => {
                self.rows.write_record([&number, &*address, &reason, name, &row.list_row.to_string()])
            }
            None => self.rows.write_record([&*number, &*address, &*reason]),
        }?;
        Ok(())
    }

    /// Writes what is buffered. Returns the length of the file.
    pub(crate) fn flush(&mut self) -> io::Result<u64> {
        self.rows.flush()?;
        let mut file = self.rows.get_ref();
        file.stream_position()
    }

    /// For syncing from another thread.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.rows.get_ref().try_clone()
    }
}
