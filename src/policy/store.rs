//! What the delivery policy has learned, on disk: `policy/` under the state folder.
//!
//! ```text
//! lock            held by the one process that sends from this state folder
//! standing.json   learned ceilings, adjustments in force, reputation
//! warmup.json     the warm-up ledger, by itself since it is written often: see `ledger`
//! ```
//!
//! Each file is whole or the one before: written to a temporary, synced, renamed, readable by its owner
//! only. A file that is not there is an empty one. One that is damaged, or was written by a newer program,
//! is an error every time and stays where it is until a person moves it: a source that was taken out, or a
//! cap that was used up, must not be forgotten because a supervisor started the program again.
//!
//! A second process on the same state folder is refused: two could not keep one cap. Reading needs no lock
//! and is right at any time ([`read`]).

mod stored;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use stored::{Adjustment, By, Ceiling, Change, Stored, Target};
pub(super) use stored::{ENTRIES_MAX, check_account};

const FOLDER: &str = "policy";
const STANDING: &str = "standing.json";
/// Of both files; a change that an older program would misread makes it one more.
const VERSION: u32 = 1;
/// What a file may be at most: three times what the most accounts take.
const OCTETS_MAX: u64 = 64 << 20;
/// Why what was learned cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "another process ({process}) sends from the state folder {}: caps and limits hold for all of a state \
         folder's mail, so that only one may; wait for it, stop it, or use another with --state",
        .state.display()
    )]
    Locked { state: PathBuf, process: String },
    #[error(
        "{} was written by a newer program (version {version} of the file, this one knows {VERSION}): use that \
         program, or move the file away to begin anew without what it knows",
        .file.display()
    )]
    Newer { file: PathBuf, version: u32 },
    #[error(
        "{0} is damaged: {reason}; it was left as it is. Put back a copy, or begin anew without what it knew: \
         mv '{0}' '{0}.damaged'",
        .file.display()
    )]
    Damaged { file: PathBuf, reason: String },
    /// Nothing was written: it could not be read again.
    #[error("what was learned cannot be stored: {0}")]
    Unsound(String),
    #[error(
        "{} counts days that pass {written} times as fast as the clock's, not {asked} times: rehearsals and real \
         mail need state folders of their own (--state)",
        .file.display()
    )]
    OtherTempo { file: PathBuf, written: f64, asked: f64 },
}

/// The folder, for the one process that sends from it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Takes the folder for this process, until the store is dropped or the process ends, however it ends.
    ///
    /// # Errors
    /// Another process has it, or it cannot be written.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let folder = state.join(FOLDER);
        fs::create_dir_all(state).map_err(io_at(state))?;
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_at(&folder)(error)),
            _ => {}
        }
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&path).map_err(io_at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(&path).unwrap_or_default();
                let process = if process.is_empty() { "unknown".to_owned() } else { process };
                return Err(StoreError::Locked { state: state.to_owned(), process });
            }
            Err(TryLockError::Error(error)) => return Err(io_at(&path)(error)),
        }
        // Only for the message above; what cannot be written will be noticed where it matters.
        let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        Ok(Self { folder, _lock: lock })
    }

    /// # Errors
    /// As [`read`].
    pub fn load(&self) -> Result<Stored, StoreError> {
        standing(&self.folder)
    }

    /// # Errors
    /// It cannot be written, or could not be read again; the file is as it was.
    pub fn save(&self, stored: &Stored) -> Result<(), StoreError> {
        stored.check().map_err(StoreError::Unsound)?;
        self.write(STANDING, stored)
    }

    /// Puts a file in place of the one of that name, if there is one.
    pub(super) fn write(&self, name: &str, content: &impl Serialize) -> Result<(), StoreError> {
        let octets = serde_json::to_vec(&Versioned { version: VERSION, content }).expect(
            "strings, numbers and lists are JSON; numbers are checked to be finite where they come in",
        );
        let temporary = self.folder.join(format!("{name}.new"));
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(&octets)?;
            file.sync_all()?;
            fs::rename(&temporary, self.folder.join(name))?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(io_at(&self.folder.join(name)))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What is stored under a state folder, also while a process sends from it.
///
/// # Errors
/// A file that cannot be read, is damaged, or was written by a newer program.
pub fn read(state: &Path) -> Result<Stored, StoreError> {
    standing(&state.join(FOLDER))
}

/// The folder of a state folder.
pub(super) fn folder_of(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

fn standing(folder: &Path) -> Result<Stored, StoreError> {
    let file = folder.join(STANDING);
    let stored: Stored = read_file(&file)?.unwrap_or_default();
    stored.check().map_err(|reason| StoreError::Damaged { file, reason })?;
    Ok(stored)
}

/// Each file, with its version.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// The content of a file, not checked yet; `None`: there is none.
pub(super) fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_at(path)(error)),
    };
    let mut octets = Vec::new();
    file.take(OCTETS_MAX + 1).read_to_end(&mut octets).map_err(io_at(path))?;
    let damaged = |reason: String| StoreError::Damaged { file: path.to_owned(), reason };
    if octets.len() as u64 > OCTETS_MAX {
        return Err(damaged(format!("it has more than {} MiB", OCTETS_MAX >> 20)));
    }
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(&octets).map_err(|error| damaged(error.to_string()))?;
    if version > VERSION {
        return Err(StoreError::Newer { file: path.to_owned(), version });
    }
    let Versioned { content, .. } =
        serde_json::from_slice::<Versioned<T>>(&octets).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(content))
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    |error| StoreError::Io { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::policy::Party;
    use crate::policy::reputation::{self, Counts};
    use jiff::Timestamp;

    fn stored() -> Stored {
        let source = Party::Source("a".to_owned());
        let at: Timestamp = "2026-11-23T09:00:00Z".parse().unwrap();
        Stored {
            ceilings: vec![Ceiling {
                party: source.clone(),
                provider: "google".to_owned(),
                rate: 12.5,
                learned: at,
            }],
            adjustments: vec![
                Adjustment {
                    id: 1,
                    target: Target::Path { party: source.clone(), provider: "yahoo".to_owned() },
                    change: Change::Suspended { resume: 0.25 },
                    since: at,
                    until: Some("2026-11-23T11:00:00Z".parse().unwrap()),
                    by: By::Rule("yahoo-tss04".to_owned()),
                    cause: "421 4.7.0 [TSS04] Messages temporarily deferred".to_owned(),
                },
                Adjustment {
                    id: 2,
                    target: Target::Campaign("welcome".to_owned()),
                    change: Change::Paused,
                    since: at,
                    until: None,
                    by: By::Breaker,
                    cause: "pausing: 12.00% hard bounces in the last 1h (24 of 200), threshold 10%"
                        .to_owned(),
                },
            ],
            reputation: vec![reputation::Account {
                party: Party::Domain("news.sender.example".to_owned()),
                provider: "mx1.example".to_owned(),
                counts: Counts { counts: [10.0, 2.5, 0.0, 0.0, 1.0, 0.0], at },
            }],
        }
    }

    #[test]
    fn what_is_saved_is_read_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Stored::default());
        let store = Store::open(&folder.path().join("state")).unwrap();
        assert_eq!(store.load().unwrap(), Stored::default());
        store.save(&stored()).unwrap();
        assert_eq!(read(&folder.path().join("state")).unwrap(), stored());
        let file = folder.path().join("state/policy/standing.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(store);
        assert_eq!(Store::open(&folder.path().join("state")).unwrap().load().unwrap(), stored());
    }

    #[test]
    fn what_has_ended_is_forgotten() {
        let mut stored = stored();
        stored.expire("2026-11-23T10:59:59Z".parse().unwrap());
        assert_eq!(stored.adjustments.len(), 2);
        stored.expire("2026-11-23T11:00:00Z".parse().unwrap());
        assert_eq!(stored.adjustments.iter().map(|adjustment| adjustment.id).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn one_process_sends_from_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let refused = Store::open(folder.path()).expect_err("opened twice").to_string();
        assert!(
            refused.contains(&std::process::id().to_string()) && refused.contains("--state"),
            "{refused}"
        );
        store.save(&stored()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), stored(), "reading needs no lock");
        drop(store);
        assert!(Store::open(folder.path()).is_ok());
    }

    #[test]
    fn damage_is_told_each_time_and_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let file = folder.path().join("policy").join(STANDING);
        store.save(&stored()).unwrap();
        let sound = fs::read_to_string(&file).unwrap();
        let huge = sound.replace("12.5", "1e999");
        let none = sound.replace("0.25", "0.0");
        let half = &sound[..sound.len() / 2];
        let nul = sound.replace("\"welcome\"", "\"wel\\u0000come\"");
        for text in ["", "{}", "null", half, &huge, &none, &nul, "{\"version\":1,\"ceilings\":7}"] {
            fs::write(&file, text).unwrap();
            for _ in 0..2 {
                let error = store.load().expect_err(text);
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                let said = error.to_string();
                assert!(said.contains(&format!("mv '{}'", file.display())), "{said}");
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn what_a_newer_program_wrote_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let text = "{\"version\":2,\"ceilings\":{\"of\":\"another shape\"}}";
        fs::write(folder.path().join("policy").join(STANDING), text).unwrap();
        let error = store.load().expect_err("a newer version");
        assert!(matches!(error, StoreError::Newer { version: 2, .. }), "{error}");
        assert!(error.to_string().contains("newer program"));
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&stored()).unwrap();
        let mut unsound = stored();
        unsound.ceilings[0].rate = f64::NAN;
        assert!(matches!(store.save(&unsound), Err(StoreError::Unsound(_))));
        assert_eq!(store.load().unwrap(), stored());
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_it_panic(at in 0usize..4_000, octets in proptest::collection::vec(0u8.., 0..20), cut: bool) {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            store.save(&stored()).unwrap();
            let file = folder.path().join("policy").join(STANDING);
            let mut text = fs::read(&file).unwrap();
            let at = at % text.len();
            let end = if cut { text.len() } else { (at + octets.len()).min(text.len()) };
            text.splice(at..end, octets);
            fs::write(&file, text).unwrap();
            if let Ok(read) = store.load() {
                store.save(&read).expect("what was read can be written");
            }
        }
    }
}
