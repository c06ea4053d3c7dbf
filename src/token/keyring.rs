//! The ring of token keys: one file a key in `<state>/keys/tokens/`, named by its id.
//!
//! The newest key (the highest id) signs what begins now, all verify. A key file is 32 random octets in
//! hexadecimal, readable by its owner only, written whole under another name, synced, and linked to its own:
//! it is there and whole or not there, and of two processes that make the first key one wins. A message names
//! its key, so a key must stay as long as anyone may follow a link or bounce a message that it signed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Keys;
use super::seal::{Key, SECRET};

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    #[error("{}: {error}", .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "the token key {} is damaged: {reason}; put the file back from a backup, or, if nobody can still \
         answer to a message of that key, remove it",
        .path.display()
    )]
    Damaged { path: PathBuf, reason: &'static str },
    #[error("there is no token key {id} in {}, though messages were signed with it; put it back from a backup", .folder.display())]
    Missing { id: u8, folder: PathBuf },
    #[error("all ids of token keys up to 255 are taken in {}; begin a new state folder", .0.display())]
    Full(PathBuf),
    #[error("no random numbers are to be had for a token key")]
    Random,
}

/// All keys, the oldest first.
#[derive(Debug, Clone)]
pub struct Keyring {
    folder: PathBuf,
    keys: Vec<Key>,
}

impl Keyring {
    /// Where the keys of a state folder are.
    pub fn folder_of(state: &Path) -> PathBuf {
        state.join("keys").join("tokens")
    }

    /// Reads the ring of a state folder; makes the first key if there is none.
    ///
    /// # Errors
    /// A file that cannot be read or written, or holds no key.
    pub fn open(state: &Path) -> Result<Self, KeyringError> {
        let mut ring = Self::read(state)?;
        if ring.keys.is_empty() {
            make(&ring.folder, 1)?;
            ring = Self::read(state)?;
        }
        Ok(ring)
    }

    /// The same, without making a key: the ring may be empty.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn read(state: &Path) -> Result<Self, KeyringError> {
        let folder = Self::folder_of(state);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { folder, keys: Vec::new() });
            }
            Err(error) => return Err(io_at(&folder)(error)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_at(&folder))?;
            if let Some(id) = entry.file_name().to_str().and_then(id_of) {
                keys.push(read_key(id, &entry.path())?);
            }
        }
        keys.sort_unstable_by_key(Key::id);
        Ok(Self { folder, keys })
    }

    /// The key of a state folder that signs what begins now; made if there is none.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn signing(state: &Path) -> Result<Key, KeyringError> {
        let mut ring = Self::open(state)?;
        ring.keys.pop().ok_or(KeyringError::Missing { id: 1, folder: ring.folder })
    }

    /// Adds a key, which signs from now on; gives its id.
    ///
    /// # Errors
    /// It cannot be written, or there are 255.
    pub fn rotate(state: &Path) -> Result<u8, KeyringError> {
        let ring = Self::read(state)?;
        let mut last = ring.keys.last().map_or(0, Key::id);
        loop {
            last = last.checked_add(1).ok_or_else(|| KeyringError::Full(ring.folder.clone()))?;
            if make(&ring.folder, last)? {
                return Ok(last);
            }
        }
    }

    /// A key that a run began with.
    ///
    /// # Errors
    /// It is not there.
    pub fn of_run(&self, id: u8) -> Result<&Key, KeyringError> {
        self.key(id).ok_or_else(|| KeyringError::Missing { id, folder: self.folder.clone() })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ids of all keys, the oldest first.
    pub fn ids(&self) -> Vec<u8> {
        self.keys.iter().map(Key::id).collect()
    }

    /// The files that others than their owner can read.
    pub fn exposed(&self) -> Vec<PathBuf> {
        let paths = self.keys.iter().map(|key| self.folder.join(key.id().to_string()));
        let is_open =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0);
        paths.filter(is_open).collect()
    }
}

impl Keys for Keyring {
    fn key(&self, id: u8) -> Option<&Key> {
        let at = self.keys.binary_search_by_key(&id, Key::id).ok()?;
        Some(&self.keys[at])
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> KeyringError + '_ {
    |error| KeyringError::Io { path: path.to_owned(), error }
}

/// 1 to 255, as it is written; other files of the folder are none of ours.
fn id_of(name: &str) -> Option<u8> {
    let id: u8 = name.parse().ok()?;
    (id > 0 && name == id.to_string()).then_some(id)
}

fn read_key(id: u8, path: &Path) -> Result<Key, KeyringError> {
    let damaged = |reason| KeyringError::Damaged { path: path.to_owned(), reason };
    let text = fs::read(path).map_err(io_at(path))?;
    let digits = text.trim_ascii();
    if digits.len() != SECRET * 2 {
        return Err(damaged("it is not 64 hexadecimal digits long"));
    }
    let mut secret = [0; SECRET];
    for (octet, digits) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
        let (Some(high), Some(low)) = (value(digits[0]), value(digits[1])) else {
            return Err(damaged("it holds something else than hexadecimal digits"));
        };
        *octet = high << 4 | low;
    }
    if secret == [0; SECRET] {
        return Err(damaged("it is all zeros"));
    }
    Ok(Key::new(id, &secret))
}

/// Makes the key `id`; `false` when another process was first.
fn make(folder: &Path, id: u8) -> Result<bool, KeyringError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_at(folder))?;
    let mut secret = [0; SECRET];
    let mut unique = [0; 8];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| KeyringError::Random)?;
    aws_lc_rs::rand::fill(&mut unique).map_err(|_| KeyringError::Random)?;
    let text: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
    let temporary = folder.join(format!(".{id}-{:016x}", u64::from_ne_bytes(unique)));
    let path = folder.join(id.to_string());
    let linked = write_private(&temporary, &text).and_then(|()| match fs::hard_link(&temporary, &path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    });
    let removed = fs::remove_file(&temporary);
    let is_made = linked.map_err(io_at(&path))?;
    removed.map_err(io_at(&temporary))?;
    let sync = |folder: &Path| File::open(folder).and_then(|file| file.sync_all());
    // The folders above may be new, too.
    for folder in folder.ancestors().take(3).filter(|folder| !folder.as_os_str().is_empty()) {
        sync(folder).map_err(io_at(folder))?;
    }
    Ok(is_made)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_is_made_for_its_owner_only_and_stays() {
        let state = tempfile::tempdir().unwrap();
        let ring = Keyring::open(state.path()).unwrap();
        assert_eq!(ring.ids(), [1]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(ring.folder()), 0o700);
        assert_eq!(mode(&ring.folder().join("1")), 0o600);
        assert!(ring.exposed().is_empty());
        let before = fs::read_to_string(ring.folder().join("1")).unwrap();
        Keyring::open(state.path()).unwrap();
        assert_eq!(fs::read_to_string(ring.folder().join("1")).unwrap(), before);
        // Nothing temporary is left.
        assert_eq!(fs::read_dir(ring.folder()).unwrap().count(), 1);
        fs::set_permissions(ring.folder().join("1"), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(ring.exposed(), [ring.folder().join("1")]);
    }

    #[test]
    fn rotation_adds_a_key_and_keeps_the_old_ones() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Keyring::rotate(state.path()).unwrap(), 1);
        assert_eq!(Keyring::rotate(state.path()).unwrap(), 2);
        let ring = Keyring::open(state.path()).unwrap();
        assert_eq!((ring.ids(), Keyring::signing(state.path()).unwrap().id()), (vec![1, 2], 2));
        assert!(ring.of_run(1).is_ok());
        assert!(ring.of_run(9).unwrap_err().to_string().contains("no token key 9"));
        // An id is not used again while a later key is there.
        fs::remove_file(ring.folder().join("1")).unwrap();
        assert_eq!(Keyring::rotate(state.path()).unwrap(), 3);
        fs::rename(ring.folder().join("3"), ring.folder().join("255")).unwrap();
        assert!(matches!(Keyring::rotate(state.path()), Err(KeyringError::Full(_))));
    }

    #[test]
    fn many_that_make_the_first_key_at_once_agree_on_it() {
        let state = tempfile::tempdir().unwrap();
        let token = |ring: Keyring| {
            let mut token = String::new();
            let run = crate::token::RunToken::new("k3f9");
            let recipient = crate::envelope::RecipientId::new(0, 0);
            let claim = crate::token::Claim { kind: crate::token::Kind::Open, run, recipient };
            ring.of_run(1).unwrap().seal(&claim, &mut token);
            token
        };
        let tokens: Vec<String> = std::thread::scope(|scope| {
            let openers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| token(Keyring::open(state.path()).unwrap()))).collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| *token == tokens[0]));
    }

    #[test]
    fn a_damaged_key_is_named() {
        let state = tempfile::tempdir().unwrap();
        let folder = Keyring::open(state.path()).unwrap().folder().to_owned();
        for damage in ["", "ab", &"x".repeat(64), &"0".repeat(64), &"\u{e9}".repeat(32)] {
            fs::write(folder.join("1"), damage).unwrap();
            let error = Keyring::open(state.path()).unwrap_err().to_string();
            assert!(error.contains("tokens/1 is damaged: "), "{error}");
        }
        fs::remove_file(folder.join("1")).unwrap();
        for other in ["README", "01", "0", "256", ".1-00"] {
            fs::write(folder.join(other), "no key").unwrap();
        }
        assert_eq!(Keyring::open(state.path()).unwrap().ids(), [1]);
    }
}
