//! Shaping that changes under running paths: files are looked at, read, checked, and swapped in whole.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Shaping, Tables};
use crate::config::{Fault, Node, Stamp};

/// What holds now; see the head of the file.
#[derive(Debug)]
pub struct Live {
    current: watch::Sender<Arc<Shaping>>,
    /// Held while files are looked at, so that two reloads do not cross.
    watched: Mutex<Watched>,
}

/// Files and how they looked before they were read.
#[derive(Debug)]
struct Watched {
    /// The settings, which name the others; `None`: nothing is watched.
    settings: Option<PathBuf>,
    files: Vec<PathBuf>,
    /// Of the settings, then the files.
    stamps: Vec<Option<Stamp>>,
}

impl Watched {
    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.settings.iter().chain(&self.files).map(|file| Stamp::of(file)).collect()
    }
}

impl Live {
    /// `shaping`, made from the tables of `node`, whose files are watched from now on: those it was
    /// read from, none if it was not read from a file.
    pub fn new(shaping: Shaping, node: &Node) -> Self {
        // Without stamps the first look reads them again: they may have changed since they were read.
        let (settings, files) = (node.file.clone(), node.shaping_files.clone());
        Self {
            current: watch::Sender::new(Arc::new(shaping)),
            watched: Mutex::new(Watched { settings, files, stamps: Vec::new() }),
        }
    }

    pub fn current(&self) -> Arc<Shaping> {
        self.current.borrow().clone()
    }

    /// Hears of every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Shaping>> {
        self.current.subscribe()
    }

    /// Reads everything again if a file has changed; whether anything else is said now. Blocks for as
    /// long as that takes. Needs a tokio runtime: sessions beyond a lowered total are waited for.
    ///
    /// # Errors
    /// Every mistake; what was said before holds on. Said once, until a file changes again.
    pub fn reload_if_changed(&self) -> Result<bool, Vec<Fault>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = watched.stamps();
        let Some(settings) = watched.settings.clone().filter(|_| watched.stamps != stamps) else {
            return Ok(false);
        };
        watched.stamps = stamps;
        let node = Node::load(Some(&settings)).map_err(|error| error.into_faults(&settings))?;
        if watched.files != node.shaping_files {
            watched.files = node.shaping_files;
            watched.stamps = Vec::new();
        }
        let differs = self.current().tables != node.shaping;
        self.swap(node.shaping);
        Ok(differs)
    }

    /// Other tables from now on.
    fn swap(&self, tables: Tables) {
        self.current.send_modify(|current| *current = Arc::new(current.changed(tables)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::rate::Credit;
    use crate::shaping::{Key, Value};

    struct Files {
        folder: tempfile::TempDir,
        live: Live,
    }

    impl Files {
        fn new(settings: &str, shaping: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("postroad.toml"), settings).unwrap();
            std::fs::write(folder.path().join("own.toml"), shaping).unwrap();
            let node = Node::load(Some(&folder.path().join("postroad.toml"))).unwrap();
            let live = Live::new(Shaping::new(node.shaping.clone(), None, Credit::Full), &node);
            Self { folder, live }
        }

        /// Replaces a file, as an editor does: what is there is whole at any time.
        fn write(&self, name: &str, text: &str) {
            let new = self.folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, self.folder.path().join(name)).unwrap();
        }

        fn sessions(&self) -> Option<u32> {
            let current = self.live.current();
            match current.tables().provider("p")?.value(Key::Sessions)? {
                Value::Count(count) => Some(*count),
                other => panic!("{other:?}"),
            }
        }
    }

    const SETTINGS: &str = "shaping_files = [\"own.toml\"]\n";

    fn own(sessions: u32) -> String {
        format!("[provider.p]\nmx = [\".p.test\"]\nsessions = {sessions}\nsessions_total = 9\n")
    }

    #[test]
    fn a_file_that_changes_holds_once_it_checks_out() {
        let files = Files::new(SETTINGS, &own(3));
        assert_eq!(files.live.reload_if_changed(), Ok(false), "it says what it said");
        let ceilings = files.live.current().ceilings(Some("p"));
        files.write("own.toml", &own(4));
        assert_eq!(files.live.reload_if_changed(), Ok(true));
        assert_eq!(files.sessions(), Some(4));
        assert!(Arc::ptr_eq(&files.live.current().ceilings(Some("p")), &ceilings));
        assert_eq!(files.live.reload_if_changed(), Ok(false));
    }

    #[test]
    fn a_mistake_is_told_once_and_what_was_said_before_holds() {
        let files = Files::new(SETTINGS, &own(3));
        files.write("own.toml", "[provider.p]\nmx = [\".p.test.\"]\nsesions = 4\n");
        let faults = files.live.reload_if_changed().unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(files.live.reload_if_changed(), Ok(false), "it was told");
        assert_eq!(files.sessions(), Some(3));
        std::fs::remove_file(files.folder.path().join("own.toml")).unwrap();
        let faults = files.live.reload_if_changed().unwrap_err();
        assert!(faults[0].what.starts_with("cannot be read"), "{faults:?}");
        files.write("own.toml", &own(5));
        assert_eq!(files.live.reload_if_changed(), Ok(true));
        assert_eq!(files.sessions(), Some(5));
    }

    #[test]
    fn the_settings_are_read_again_too_and_may_name_other_files() {
        let files = Files::new(SETTINGS, &own(3));
        files.write("postroad.toml", &format!("{SETTINGS}[shaping.provider.p]\nsessions = 7\n"));
        assert_eq!(files.live.reload_if_changed(), Ok(true));
        assert_eq!(files.sessions(), Some(7));
        files.write("other.toml", &own(8));
        files.write("postroad.toml", "shaping_files = [\"other.toml\"]\n");
        assert_eq!(files.live.reload_if_changed(), Ok(true));
        assert_eq!(files.sessions(), Some(8));
        files.write("other.toml", &own(9));
        assert_eq!(files.live.reload_if_changed(), Ok(true));
        assert_eq!(files.sessions(), Some(9));
    }
}
