//! A frozen run on disk: what was asked, when, and the content it was asked with.
//!
//! `run.toml` and the files of the message under `content/` (templates, all that they pull in, images,
//! attachments) are written to a temporary folder, synced and renamed: a run is there and whole or not
//! there, and editing the campaign never changes one under way. Lists, suppression files, keys and files
//! that rows name stay where they are. The other files of the folder (spool, journal,
//! in-doubt slots, reports) belong to those who write them; this file only says where they are.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use super::segment::Segment;
use crate::metrics::RowOrigin;
use crate::token::{Keyring, KeyringError, RunToken};

const RUN_FILE: &str = "run.toml";
const CONTENT: &str = "content";
/// What was found before the run was made.
const WARNINGS: &str = "warnings.json";

/// Why a run cannot be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("there is no run `{id}` in {}; {}", .state.display(), known(.runs))]
    Unknown { id: String, state: PathBuf, runs: Vec<String> },
    #[error("there is no run in {} yet; `postroad run <campaign>` makes one", .0.display())]
    None(PathBuf),
    #[error("{} was not written by this program: {reason}", .file.display())]
    Damaged { file: PathBuf, reason: String },
    #[error("{} is not what the run was started with; put it back, or start a new run", .0.display())]
    Changed(PathBuf),
    #[error(transparent)]
    Content(#[from] crate::message::ContentError),
    #[error(transparent)]
    Keys(#[from] KeyringError),
    #[error("the run has no variant `{name}`; {}", variants(.known))]
    NoVariant { name: String, known: Vec<String> },
    #[error("the run {0} tests nothing: its manifest has no [test], so nobody waits for a winner")]
    NoTest(String),
    #[error("{variant} has won in {id} before, and may have been sent already; nothing was changed")]
    Decided { id: String, variant: String },
    #[error("the run {id} is being worked on by process {process}; wait for it or stop it first")]
    Locked { id: String, process: String },
}

fn known(runs: &[String]) -> String {
    if runs.is_empty() {
        return "there is none at all".to_owned();
    }
    let newest: Vec<&str> = runs.iter().take(5).map(String::as_str).collect();
    format!("the newest are {}", newest.join(", "))
}

fn variants(known: &[String]) -> String {
    if known.is_empty() { "it has none at all".to_owned() } else { format!("it has {}", known.join(", ")) }
}

pub(super) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> RunError + '_ {
    |error| RunError::Io { path: path.to_owned(), error }
}

/// One campaign as it was when it was started.
#[derive(Debug, Clone)]
pub struct Run {
    /// `name-YYYYMMDD-HHMMSS-xxxx`, UTC.
    pub id: String,
    pub folder: PathBuf,
    /// Paths of message parts lead into [`Run::content_folder`].
    pub manifest: Manifest,
    pub created: SystemTime,
    /// Nothing is sent before; `None`: at once.
    pub start_at: Option<SystemTime>,
    /// The key of the ring that signs its tokens and return paths, whatever key is newest by now.
    pub token_key: u8,
}

/// `run.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frozen {
    id: String,
    postroad: String,
    created: Timestamp,
    start_at: Option<Timestamp>,
    #[serde(default = "first_key")]
    token_key: u8,
    /// SHA-256 of each file under the run's folder that must not change.
    hashes: BTreeMap<String, String>,
    manifest: Manifest,
}

/// Held while an engine works on a run; let go when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Run {
    /// Freezes `manifest` (as [`Manifest::open`] gives it) as a new run under `state`.
    ///
    /// # Errors
    /// What could not be read or written; nothing but an unnamed temporary folder is left behind.
    pub fn create(state: &Path, manifest: Manifest, start_at: Option<SystemTime>) -> Result<Self, RunError> {
        let created = whole_millis(Timestamp::now());
        let token_key = Keyring::signing(state)?.id();
        let runs = state.join("runs");
        fs::create_dir_all(&runs).map_err(io_at(&runs))?;
        let id = format!("{}-{}-{:04x}", manifest.name, created.strftime("%Y%m%d-%H%M%S"), random_u16());
        let temporary = runs.join(format!(".{id}"));
        let content = temporary.join(CONTENT);
        fs::create_dir_all(&content).map_err(io_at(&content))?;

        let mut frozen = Frozen {
            id: id.clone(),
            postroad: env!("CARGO_PKG_VERSION").to_owned(),
            created,
            start_at: start_at.and_then(|at| Timestamp::try_from(at).ok()).map(whole_millis),
            token_key,
            hashes: BTreeMap::new(),
            manifest,
        };
        let Frozen { manifest, hashes, .. } = &mut frozen;
        for name in manifest.content_files()? {
            let source = manifest.folder.join(&name);
            let octets = fs::read(&source).map_err(io_at(&source))?;
            let copy = content.join(&name);
            if let Some(folder) = copy.parent() {
                fs::create_dir_all(folder).map_err(io_at(folder))?;
            }
            write_synced(&copy, &octets)?;
            hashes.insert(format!("{CONTENT}/{}", name.display()), sha256(&octets));
        }
        manifest.move_parts(Path::new(CONTENT));
        let text = toml::to_string_pretty(&frozen).expect("a run holds only what TOML can hold");
        write_synced(&temporary.join(RUN_FILE), text.as_bytes())?;
        sync_folders(&content)?;
        sync_folder(&temporary)?;
        let folder = runs.join(&id);
        fs::rename(&temporary, &folder).map_err(io_at(&folder))?;
        sync_folder(&runs)?;
        Self::open(state, &id)
    }

    /// Opens the run `id` and sees that its content is what it was.
    ///
    /// # Errors
    /// No such run, or one that was damaged or changed.
    pub fn open(state: &Path, id: &str) -> Result<Self, RunError> {
        let folder = state.join("runs").join(id);
        let is_name = !id.is_empty() && !id.starts_with('.') && !id.contains(['/', '\\']);
        if !is_name || !folder.is_dir() {
            let runs = Self::list(state)?;
            return Err(RunError::Unknown { id: id.to_owned(), state: state.to_owned(), runs });
        }
        let file = folder.join(RUN_FILE);
        let text = fs::read_to_string(&file).map_err(io_at(&file))?;
        let frozen: Frozen = toml::from_str(&text)
            .map_err(|error| RunError::Damaged { file: file.clone(), reason: error.to_string() })?;
        for (relative, hash) in &frozen.hashes {
            let path = folder.join(relative);
            let octets = fs::read(&path).map_err(io_at(&path))?;
            if sha256(&octets) != *hash {
                return Err(RunError::Changed(path));
            }
        }
        let mut manifest = frozen.manifest;
        manifest.folder = CONTENT.into();
        manifest.move_parts(&folder.join(CONTENT));
        Ok(Self {
            id: frozen.id,
            folder,
            manifest,
            created: frozen.created.into(),
            start_at: frozen.start_at.map(SystemTime::from),
            token_key: frozen.token_key,
        })
    }

    /// Opens the newest run.
    ///
    /// # Errors
    /// As [`Run::open`], or that there is none.
    pub fn latest(state: &Path) -> Result<Self, RunError> {
        let newest = Self::list(state)?.into_iter().next();
        Self::open(state, &newest.ok_or_else(|| RunError::None(state.to_owned()))?)
    }

    /// Ids of all runs, newest first.
    ///
    /// # Errors
    /// A folder that cannot be read; one that is not there has no runs.
    pub fn list(state: &Path) -> Result<Vec<String>, RunError> {
        let runs = state.join("runs");
        let entries = match fs::read_dir(&runs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_at(&runs)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_at(&runs))?;
            let Ok(id) = entry.file_name().into_string() else { continue };
            let Ok(written) = entry.path().join(RUN_FILE).metadata().and_then(|file| file.modified()) else {
                continue;
            };
            if !id.starts_with('.') {
                found.push((written, id));
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// From which list a row of a segment is; `None` where there is one list only, and the row's number says it.
    pub fn row_origin(&self, segment: &Segment, row: u64) -> Option<RowOrigin> {
        let (list, row) = segment.origin_of_row(row)?;
        let list = self.manifest.list_of_row(list)?.file.display().to_string();
        Some(RowOrigin { list, row })
    }

    pub fn spool_folder(&self) -> PathBuf {
        self.folder.join("spool")
    }

    pub fn journal_folder(&self) -> PathBuf {
        self.folder.join("journal")
    }

    pub fn inflight_path(&self) -> PathBuf {
        self.folder.join("inflight.map")
    }

    pub fn rejected_path(&self) -> PathBuf {
        self.folder.join("rejected.csv")
    }

    pub fn report_path(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    pub fn content_folder(&self) -> PathBuf {
        self.folder.join(CONTENT)
    }

    /// Twelve of [a-z0-9] that stand for the run in return paths, tokens and Message-IDs.
    pub fn token(&self) -> RunToken {
        token_of(&self.id)
    }

    /// The id of the run whose token this is.
    ///
    /// # Errors
    /// As [`Run::list`].
    pub fn find(state: &Path, token: RunToken) -> Result<Option<String>, RunError> {
        Ok(Self::list(state)?.into_iter().find(|id| token_of(id) == token))
    }

    /// Takes the run for this process.
    ///
    /// # Errors
    /// Another process has it.
    pub fn lock(&self) -> Result<RunLock, RunError> {
        let path = self.folder.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(io_at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(&path).unwrap_or_default();
                let process = if process.is_empty() { "unknown".to_owned() } else { process };
                return Err(RunError::Locked { id: self.id.clone(), process });
            }
            Err(TryLockError::Error(error)) => return Err(io_at(&path)(error)),
        }
        // Only for the message above. A full disk must not keep a run from being looked after.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(RunLock { _file: file })
    }

    /// Whether some process works on the run now.
    pub fn is_locked(&self) -> bool {
        File::open(self.folder.join("lock"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Marks the run cancelled, for good: an engine at work sees it and stops, none starts again.
    ///
    /// # Errors
    /// The mark could not be written.
    pub fn cancel(&self) -> Result<(), RunError> {
        write_synced(&self.folder.join("cancelled"), Timestamp::now().to_string().as_bytes())?;
        sync_folder(&self.folder)
    }

    /// Keeps what was found before the run was made, for its report; also for that of a resumption.
    ///
    /// # Errors
    /// It could not be written.
    pub fn keep_warnings(&self, warnings: &[String]) -> Result<(), RunError> {
        let text = serde_json::to_vec_pretty(warnings).expect("texts are JSON");
        write_synced(&self.folder.join(WARNINGS), &text)?;
        sync_folder(&self.folder)
    }

    /// What was kept; `None` if nothing was looked for.
    pub fn kept_warnings(&self) -> Option<Vec<String>> {
        serde_json::from_slice(&fs::read(self.folder.join(WARNINGS)).ok()?).ok()
    }

    /// Marks the run a rehearsal: it must never be sent to the world outside.
    ///
    /// # Errors
    /// The mark could not be written.
    pub fn mark_rehearsal(&self) -> Result<(), RunError> {
        write_synced(&self.folder.join("rehearsal"), b"")?;
        sync_folder(&self.folder)
    }

    pub fn is_rehearsal(&self) -> bool {
        self.folder.join("rehearsal").exists()
    }

    pub fn is_cancelled(&self) -> bool {
        self.folder.join("cancelled").exists()
    }
}

fn token_of(id: &str) -> RunToken {
    let mut rest = xxhash_rust::xxh3::xxh3_64(id.as_bytes());
    let mut token = String::with_capacity(12);
    for _ in 0..12 {
        token.push(char::from_digit((rest % 36) as u32, 36).expect("a remainder of 36"));
        rest /= 36;
    }
    RunToken::new(&token)
}

/// Of runs that began before there was another.
fn first_key() -> u8 {
    1
}

pub(super) fn write_synced(path: &Path, octets: &[u8]) -> Result<(), RunError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(octets)?;
        file.sync_all()
    };
    write().map_err(io_at(path))
}

pub(super) fn sync_folder(path: &Path) -> Result<(), RunError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(io_at(path))
}

/// A folder and all below it.
fn sync_folders(path: &Path) -> Result<(), RunError> {
    for entry in fs::read_dir(path).map_err(io_at(path))? {
        let entry = entry.map_err(io_at(path))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(path)
}

fn sha256(octets: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
    digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

fn random_u16() -> u16 {
    let mut octets = [0; 2];
    // Only tells runs of the same second apart.
    let _ = aws_lc_rs::rand::fill(&mut octets);
    u16::from_le_bytes(octets)
}

fn whole_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).expect("it was one before")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn campaign(folder: &Path) -> Manifest {
        fs::write(folder.join("m.txt"), "Hello {{ name }}\n").unwrap();
        fs::write(folder.join("l.csv"), "email,name\na@one.test,A\n").unwrap();
        let text = r#"
            name = "welcome"
            from = "Us <us@sender.test>"
            return_path_domain = "bounce.sender.test"
            subject = "Hello"
            text = "m.txt"
            [list]
            file = "l.csv"
            [list.columns]
            name = "name"
        "#;
        fs::write(folder.join("campaign.toml"), text).unwrap();
        Manifest::open(folder).unwrap()
    }

    #[test]
    fn a_run_opens_as_it_was_made_whatever_becomes_of_the_campaign() {
        let folder = tempfile::tempdir().unwrap();
        let start_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_900_000_000_123);
        let run = Run::create(&folder.path().join("state"), campaign(folder.path()), Some(start_at)).unwrap();
        fs::write(folder.path().join("m.txt"), "Changed\n").unwrap();
        let again = Run::open(&folder.path().join("state"), &run.id).unwrap();
        assert_eq!(again.manifest, run.manifest);
        assert_eq!((again.created, again.start_at), (run.created, Some(start_at)));
        assert_eq!(fs::read_to_string(again.manifest.text.as_ref().unwrap()).unwrap(), "Hello {{ name }}\n");
        assert_eq!(again.manifest.lists[0].file, folder.path().join("l.csv"));
        assert_eq!(Run::latest(&folder.path().join("state")).unwrap().id, run.id);
        assert!(run.token().as_str().len() == 12 && run.token() == again.token());
    }

    #[test]
    fn a_run_keeps_the_key_it_began_with() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(folder.path(), campaign(folder.path()), None).unwrap();
        Keyring::rotate(folder.path()).unwrap();
        assert_eq!((run.token_key, Run::open(folder.path(), &run.id).unwrap().token_key), (1, 1));
        let later = Run::create(folder.path(), campaign(folder.path()), None).unwrap();
        assert_eq!(later.token_key, 2);
        assert_eq!(Run::find(folder.path(), run.token()).unwrap(), Some(run.id));
        assert_eq!(Run::find(folder.path(), RunToken::new("k3f9")).unwrap(), None);
    }

    #[test]
    fn content_that_was_changed_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(folder.path(), campaign(folder.path()), None).unwrap();
        fs::write(run.manifest.text.as_ref().unwrap(), "Other\n").unwrap();
        assert!(matches!(Run::open(folder.path(), &run.id), Err(RunError::Changed(_))));
    }

    #[test]
    fn one_run_is_worked_on_by_one_engine() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(folder.path(), campaign(folder.path()), None).unwrap();
        assert!(!run.is_locked());
        let lock = run.lock().unwrap();
        let refused = run.lock().expect_err("locked twice").to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert!(run.is_locked());
        drop(lock);
        assert!(run.lock().is_ok());
    }

    #[test]
    fn a_cancelled_run_stays_cancelled() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(folder.path(), campaign(folder.path()), None).unwrap();
        assert!(!run.is_cancelled());
        run.cancel().unwrap();
        assert!(Run::open(folder.path(), &run.id).unwrap().is_cancelled());
    }

    #[test]
    fn an_unknown_run_is_told_with_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Run::latest(folder.path()), Err(RunError::None(_))));
        let run = Run::create(folder.path(), campaign(folder.path()), None).unwrap();
        for id in ["gone", "../runs", "", ".."] {
            let message = Run::open(folder.path(), id).expect_err(id).to_string();
            assert!(message.contains(&run.id), "{message}");
        }
    }
}
