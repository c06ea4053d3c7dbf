//! The journal: what happened to every recipient, append-only and checksummed; an outcome is believed
//! once its record is written.
//!
//! A run's `journal/` folder holds `000001.log`, `000002.log`, …; a process starts a new file, and a
//! file of 256 MiB is followed by the next. [`Writer`] owns the file under way on a thread of its own
//! and writes many records at once; [`replay`] rebuilds from the files who is settled and who waits;
//! [`read`] walks the lines for reports; [`Inflight`] names, after a crash, the recipients whose
//! message may have been taken without its reply being recorded (RFC 1047).
//!
//! What is written survives the death of the process. What is not yet synced to the device (by default
//! at most 100 ms of it) does not survive the loss of power.
//!
//! The journal knows no campaigns, no scheduling and no meaning of replies: it keeps what it is given.

mod counters;
mod inflight;
mod record;
mod replay;
mod walk;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use counters::{ByVariant, Counters, Totals};
pub use inflight::Inflight;
pub use record::{Line, NameKind, Record, Unreadable, decode, encode};
pub use replay::{Lines, Names, Replay, Waiting, read, replay};
pub use walk::Torn;
pub use writer::{Position, WriteFailure, Writer};

/// What stops work on a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    #[error("cannot {what} {}: {error}", path.display())]
    Io { what: &'static str, path: PathBuf, error: io::Error },
    #[error(
        "{}: damaged at octet {offset}: the record there fails its checksum, and later records show that it was \
         on disk; restore the file from a copy, or cut it there and accept that what followed is sent again",
        file.display()
    )]
    Damaged { file: PathBuf, offset: u64 },
    #[error(
        "{}: at octet {offset} record {found} follows where {expected} should: a file or part of one is missing",
        file.display()
    )]
    Gap { file: PathBuf, offset: u64, expected: u64, found: u64 },
    #[error("{}: octet {offset}: {what}; was it written by another version?", file.display())]
    Unreadable { file: PathBuf, offset: u64, what: Unreadable },
    #[error("{} is not an in-doubt map: its length is no multiple of 16 octets", .0.display())]
    NotAMap(PathBuf),
}

impl JournalError {
    fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |error| Self::Io { what, path: path.to_owned(), error }
    }
}

/// First octets of a journal file, followed by the sequence of its first record.
const MAGIC: [u8; 8] = *b"PSTRJRN1";
/// Magic and first sequence.
const FILE_HEADER_OCTETS: usize = 16;

/// The journal files of a folder by number; none when the folder is not there.
fn files(folder: &Path) -> Result<Vec<(u32, PathBuf)>, JournalError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(JournalError::io("list", folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(JournalError::io("list", folder))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".log"))
            .and_then(|stem| stem.parse().ok());
        if let Some(number) = number {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn file_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:06}.log"))
}
