//! Writes accepted mail to a maildir that mail programs can open.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

pub(crate) struct Maildir {
    folder: PathBuf,
    started: u64,
    written: AtomicU64,
}

impl Maildir {
    pub fn open(folder: &Path) -> io::Result<Self> {
        for part in ["tmp", "new", "cur"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Self { folder: folder.to_owned(), started: since.as_micros() as u64, written: AtomicU64::new(0) })
    }

    /// Writes one copy with LF line ends, whole or not at all for who reads `new`.
    pub fn write(&self, return_path: &str, recipient: &str, content: &[u8]) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.M{number}.world", self.started);
        let draft = self.folder.join("tmp").join(&name);
        let mut file = io::BufWriter::new(fs::File::create(&draft)?);
        write!(file, "Return-Path: <{return_path}>\nDelivered-To: {recipient}\n")?;
        for line in content.split_inclusive(|octet| *octet == b'\n') {
            match line.strip_suffix(b"\r\n") {
                Some(text) => file.write_all(text).and_then(|()| file.write_all(b"\n"))?,
                None => file.write_all(line)?,
            }
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(draft, self.folder.join("new").join(name))
    }
}
