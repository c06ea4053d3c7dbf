//! Who must not be mailed, and the only maker of [`Cleared`] recipients.
//!
//! Read from files: an address a line, or `@domain` for all of a domain (not its subdomains); `#` begins
//! a comment; of a line with commas the first field counts. Held as 128-bit keys, some 20 to 35 octets
//! an entry. Files that change are read again and swapped in whole, so that what arrives during a run
//! holds for all that is not sent yet. Knows neither campaigns nor schedules.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hashbrown::HashTable;

use crate::address::{AddressError, AddressRef, Domain, address_key};
use crate::campaign::segment::Recipient;
use crate::config::Stamp;

/// Octets of a line that are read; an address is much shorter.
const LINE_OCTETS_MAX: u64 = 4096;

/// Why a recipient is not mailed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Suppressed {
    #[error("the address is suppressed")]
    Address,
    #[error("the whole domain is suppressed")]
    Domain,
}

/// A suppression file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the suppression list {}{}: {source}", path.display(), if *kept { " again (its entries stay)" } else { "" })]
pub struct SuppressionError {
    pub path: PathBuf,
    pub source: io::Error,
    /// It was read before, and those entries still hold.
    pub kept: bool,
}

/// What was found in a suppression file.
#[derive(Debug, Clone)]
pub struct FileReport {
    pub path: PathBuf,
    pub addresses: usize,
    pub domains: usize,
    /// Lines that are neither, and the first of them (1-based) with what is wrong.
    pub bad_lines: u64,
    pub first_bad_line: Option<(u64, AddressError)>,
}

/// A recipient that suppression does not hold back, at the moment it was asked.
#[derive(Debug, Clone)]
pub struct Cleared<'a>(Recipient<'a>);

impl<'a> Deref for Cleared<'a> {
    type Target = Recipient<'a>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The suppression lists of a run.
#[derive(Debug)]
pub struct Suppression {
    entries: RwLock<Arc<Entries>>,
    /// Held while files are looked at, so that two reloads do not cross.
    watched: Mutex<Vec<Watched>>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    stamp: Stamp,
    /// It held fewer entries when last looked at: believed only if it is still the same at the next
    /// look, for it may be half rewritten.
    shrunk: Option<Stamp>,
    /// The last look failed, and that has been said.
    is_failing: bool,
}

/// All entries at one moment.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    files: Vec<Arc<FileEntries>>,
}

#[derive(Debug)]
struct FileEntries {
    addresses: HashTable<u128>,
    domains: HashTable<u128>,
    report: FileReport,
}

impl Suppression {
    /// Suppresses nobody.
    pub fn none() -> Self {
        Self { entries: RwLock::default(), watched: Mutex::default() }
    }

    /// Reads every file. Lines that make no sense are counted, see [`Self::reports`].
    ///
    /// # Errors
    /// A file that cannot be read: mailing without it would mail whom it names.
    pub fn load(files: &[PathBuf]) -> Result<Self, SuppressionError> {
        let mut entries = Entries::default();
        let mut watched = Vec::new();
        for path in files {
            let (read, stamp) = read_first(path)?;
            entries.files.push(Arc::new(read));
            watched.push(Watched { path: path.clone(), stamp, shrunk: None, is_failing: false });
        }
        Ok(Self { entries: RwLock::new(Arc::new(entries)), watched: Mutex::new(watched) })
    }

    /// Adds a file that is read now and not looked at again: one that this very run appends to.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn and_once(self, path: &Path) -> Result<Self, SuppressionError> {
        let (read, _) = read_first(path)?;
        let mut files = self.entries().files.clone();
        // Behind those that are watched, which go by their place.
        files.push(Arc::new(read));
        Ok(Self { entries: RwLock::new(Arc::new(Entries { files })), ..self })
    }

    /// Reads the files again that have changed. What is added holds at once; what is gone is let go at
    /// the look after, so that a file that is being rewritten lets nobody slip. Returns whether any has. Blocks for as long as that
    /// takes; clearing goes on meanwhile with what was there.
    ///
    /// # Errors
    /// A file that cannot be read: its entries stay, the others are up to date all the same. Said once,
    /// until it can be read again.
    pub fn reload_if_changed(&self) -> Result<bool, SuppressionError> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.entries().files.clone();
        let mut changed = false;
        let mut failure = None;
        for (file, entries) in watched.iter_mut().zip(&mut files) {
            match reread(file) {
                Ok(None) => file.is_failing = false,
                Ok(Some((read, stamp))) if read.is_less_than(entries) && file.shrunk != Some(stamp) => {
                    file.shrunk = Some(stamp);
                    file.is_failing = false;
                }
                Ok(Some((read, stamp))) => {
                    file.shrunk = None;
                    *entries = Arc::new(read);
                    changed = true;
                    file.stamp = stamp;
                    file.is_failing = false;
                }
                Err(source) => {
                    if !std::mem::replace(&mut file.is_failing, true) {
                        let path = file.path.clone();
                        failure.get_or_insert(SuppressionError { path, source, kept: true });
                    }
                }
            }
        }
        if changed {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            *entries = Arc::new(Entries { files });
        }
        failure.map_or(Ok(changed), Err)
    }

    /// Clears a recipient for mailing. The answer is of this moment: ask again just before sending.
    ///
    /// # Errors
    /// The recipient is suppressed.
    pub fn clear<'a>(&self, recipient: Recipient<'a>) -> Result<Cleared<'a>, Suppressed> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if !entries.files.is_empty()
            && let Some(suppressed) = entries.covers(recipient.address.key(), recipient.address.domain())
        {
            return Err(suppressed);
        }
        Ok(Cleared(recipient))
    }

    /// What each file held when it was last read.
    pub fn reports(&self) -> Vec<FileReport> {
        self.entries().files.iter().map(|file| file.report.clone()).collect()
    }

    pub(crate) fn entries(&self) -> Arc<Entries> {
        Arc::clone(&self.entries.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entries {
    /// Whether an address (by its key) or its domain is held back, and by what.
    pub(crate) fn covers(&self, key: u128, domain: &str) -> Option<Suppressed> {
        self.files.iter().find_map(|file| {
            if file.addresses.find(key as u64, |&known| known == key).is_some() {
                return Some(Suppressed::Address);
            }
            if file.domains.is_empty() {
                return None;
            }
            let key = address_key("", domain);
            file.domains.find(key as u64, |&known| known == key).map(|_| Suppressed::Domain)
        })
    }
}

fn read_first(path: &Path) -> Result<(FileEntries, Stamp), SuppressionError> {
    read_file(path).map_err(|source| SuppressionError { path: path.to_owned(), source, kept: false })
}

fn reread(file: &Watched) -> io::Result<Option<(FileEntries, Stamp)>> {
    if Stamp::new(&std::fs::metadata(&file.path)?) == file.stamp {
        return Ok(None);
    }
    read_file(&file.path).map(Some)
}

/// The stamp is of before the reading, so that what is written meanwhile is seen the next time.
fn read_file(path: &Path) -> io::Result<(FileEntries, Stamp)> {
    let file = File::open(path)?;
    let stamp = Stamp::new(&file.metadata()?);
    let report =
        FileReport { path: path.into(), addresses: 0, domains: 0, bad_lines: 0, first_bad_line: None };
    let mut entries = FileEntries { addresses: HashTable::new(), domains: HashTable::new(), report };
    let mut lines = BufReader::with_capacity(256 * 1024, file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if lines.by_ref().take(LINE_OCTETS_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == LINE_OCTETS_MAX && !line.ends_with(b"\n") {
            lines.skip_until(b'\n')?;
        }
        let content =
            if number == 1 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line) } else { &line };
        if let Err(error) = entries.add(content.trim_ascii(), number == 1) {
            entries.report.bad_lines += 1;
            entries.report.first_bad_line.get_or_insert((number, error));
        }
    }
    entries.report.addresses = entries.addresses.len();
    entries.report.domains = entries.domains.len();
    Ok((entries, stamp))
}

impl FileEntries {
    fn is_less_than(&self, other: &Self) -> bool {
        self.addresses.len() < other.addresses.len() || self.domains.len() < other.domains.len()
    }

    fn add(&mut self, line: &[u8], is_first: bool) -> Result<(), AddressError> {
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let text = std::str::from_utf8(line).map_err(|_| AddressError::LocalPartCharacter)?;
        // The whole line first: a quoted local part may hold a comma.
        match self.add_entry(text).or_else(|error| match first_field(text) {
            Some(field) => self.add_entry(field),
            None => Err(error),
        }) {
            // The header of a CSV file.
            Err(AddressError::NoAt) if is_first => Ok(()),
            added => added,
        }
    }

    fn add_entry(&mut self, entry: &str) -> Result<(), AddressError> {
        let (set, key) = match entry.strip_prefix('@') {
            Some(domain) => (&mut self.domains, address_key("", Domain::parse(domain)?.as_str())),
            None => (&mut self.addresses, AddressRef::parse(entry)?.key()),
        };
        let same = set.entry(key as u64, |&known| known == key, |&known| known as u64);
        same.or_insert(key);
        Ok(())
    }
}

/// What stands before the first comma, semicolon, tab or comment, without quotes.
fn first_field(line: &str) -> Option<&str> {
    let field = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?.0,
        None => line.split([',', ';', '\t', '#']).next()?,
    };
    (field.len() != line.len()).then(|| field.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::builder::SegmentBuilder;
    use crate::campaign::segment::{Columns, Segment};
    use std::fs;

    fn segment(folder: &Path, addresses: &[&str]) -> Segment {
        let mut builder = SegmentBuilder::new(&Columns::default(), 1);
        for (row, address) in (1..).zip(addresses) {
            builder.push(row, &AddressRef::parse(address).unwrap(), []).unwrap();
        }
        builder.seal(folder, 0).unwrap()
    }

    #[test]
    fn only_who_is_on_no_list_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, table) = (folder.path().join("plain.txt"), folder.path().join("table.csv"));
        fs::write(&plain, "\u{feff}Ann@one.test\r\n  @CLOSED.test  \nnot an address\n\u{7}\n").unwrap();
        fs::write(
            &table,
            "email,since\n\"bob@one.test\",2020\ncy@one.test,2021\nd\u{f6}@b\u{fc}cher.example\n",
        )
        .unwrap();
        let suppression = Suppression::load(&[plain, table]).unwrap();
        let list = [
            "ann@one.test",
            "bob@one.test",
            "cy@one.test",
            "d\u{f6}@xn--bcher-kva.example",
            "e@closed.test",
            "f@one.test",
        ];
        let segment = segment(folder.path(), &list);
        let by_name = |address: &str| {
            let recipient = (0..6).map(|index| segment.recipient(index).unwrap());
            recipient.into_iter().find(|recipient| recipient.address.to_string() == address).unwrap()
        };
        for address in &list[..4] {
            assert_eq!(suppression.clear(by_name(address)).unwrap_err(), Suppressed::Address, "{address}");
        }
        assert_eq!(suppression.clear(by_name("e@closed.test")).unwrap_err(), Suppressed::Domain);
        assert_eq!(suppression.clear(by_name("f@one.test")).unwrap().address.local(), "f");
        let [plain, table] = &suppression.reports()[..] else { panic!("two files") };
        assert_eq!((plain.addresses, plain.domains, plain.bad_lines), (1, 1, 2));
        assert_eq!(plain.first_bad_line, Some((3, AddressError::NoAt)));
        assert_eq!((table.addresses, table.domains, table.bad_lines), (3, 0, 0));
    }

    #[test]
    fn a_file_that_the_run_itself_appends_to_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let [watched, own] = ["watched", "own"].map(|name| folder.path().join(name));
        fs::write(&watched, "a@x.test\n").unwrap();
        fs::write(&own, "b@x.test,unknown-user,run,time\n").unwrap();
        let suppression = Suppression::load(std::slice::from_ref(&watched)).unwrap().and_once(&own).unwrap();
        let is_in = |local| suppression.entries().covers(address_key(local, "x.test"), "x.test").is_some();
        fs::write(&own, "b@x.test,unknown-user,run,time\nc@x.test,unknown-user,run,time\n").unwrap();
        assert!(!suppression.reload_if_changed().unwrap());
        assert!(is_in("a") && is_in("b") && !is_in("c"));
        fs::write(&watched, "a@x.test\nd@x.test\n").unwrap();
        assert!(suppression.reload_if_changed().unwrap());
        assert!(is_in("d") && is_in("b"));
    }

    #[test]
    fn what_is_added_during_a_run_holds_and_what_vanishes_holds_too() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a.txt"), folder.path().join("b.txt"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        let suppression = Suppression::load(&[file.clone(), other.clone()]).unwrap();
        let segment = segment(folder.path(), &["ann@one.test", "bob@one.test"]);
        let is_clear = |index| suppression.clear(segment.recipient(index).unwrap()).is_ok();
        assert!(!suppression.reload_if_changed().unwrap());
        assert!(is_clear(0) && is_clear(1));
        fs::write(&file, "ann@one.test\n").unwrap();
        assert!(suppression.reload_if_changed().unwrap());
        assert!(!is_clear(0) && is_clear(1));
        fs::remove_file(&file).unwrap();
        fs::write(&other, "bob@one.test\n").unwrap();
        let error = suppression.reload_if_changed().unwrap_err();
        assert!(error.kept && error.path == file, "{error}");
        assert!(!is_clear(0) && !is_clear(1));
        assert!(!suppression.reload_if_changed().unwrap(), "said once");
        fs::write(&file, "\n").unwrap();
        assert!(!suppression.reload_if_changed().unwrap(), "it may be half rewritten");
        assert!(!is_clear(0));
        assert!(suppression.reload_if_changed().unwrap());
        assert!(is_clear(0));
        // Rewritten in place: cut to nothing, then filled again.
        fs::write(&other, "").unwrap();
        suppression.reload_if_changed().unwrap();
        fs::write(&other, "carl@one.test\nbob@one.test\n").unwrap();
        suppression.reload_if_changed().unwrap();
        assert!(!is_clear(1));
        assert!(Suppression::load(&[folder.path().join("absent")]).is_err());
    }
}
