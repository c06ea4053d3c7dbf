//! The winner of a run's test: a file in its folder, written once and never again.
//!
//! It is there whole or not at all (written under another name, synced, linked), and who comes second finds
//! what the first has said, be it a person or the engine. An engine at work looks for it; `resume` finds it.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::Winner;
use super::run::{Run, RunError, io_at, sync_folder, write_synced};
use super::variants::VariantId;

const FILE: &str = "winner.json";

/// Which variant the rest of the recipients get, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub variant: String,
    pub at: Timestamp,
    /// `manual`: a person said so.
    pub by: Winner,
    /// In words.
    pub because: String,
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the winner is {} since {:.0}: {}", self.variant, self.at, self.because)
    }
}

impl Run {
    fn decision_path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// What a decision is called until it is whole.
    fn draft_path(&self) -> PathBuf {
        self.folder.join(format!(".{FILE}.{}", std::process::id()))
    }

    /// The winner, if there is one yet.
    ///
    /// # Errors
    /// A file that cannot be read or names no variant.
    pub fn decision(&self) -> Result<Option<Decision>, RunError> {
        let file = self.decision_path();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_at(&file)(error)),
        };
        let damaged = |reason: String| RunError::Damaged { file: file.clone(), reason };
        let decision: Decision = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        self.variant(&decision.variant).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(decision))
    }

    /// The same, on the disk for good. Whoever mails by a decision asks for this one: a power cut must not
    /// undo what recipients have been sent.
    ///
    /// # Errors
    /// As [`Self::decision`], or that the folder cannot be synced.
    pub fn lasting_decision(&self) -> Result<Option<Decision>, RunError> {
        let decision = self.decision()?;
        if decision.is_some() {
            sync_folder(&self.folder)?;
        }
        Ok(decision)
    }

    /// The variant of that name.
    ///
    /// # Errors
    /// There is none; which there are.
    pub fn variant(&self, name: &str) -> Result<VariantId, RunError> {
        let variants = &self.manifest.variants;
        let place = variants.iter().position(|variant| variant.name == name);
        place.map(VariantId::at).ok_or_else(|| RunError::NoVariant {
            name: name.to_owned(),
            known: variants.iter().map(|variant| variant.name.clone()).collect(),
        })
    }

    /// Writes down the winner, for good; the decision that holds, which may be an earlier one of the same.
    ///
    /// # Errors
    /// Another has won before, the run tests nothing or has no such variant, or the file cannot be written.
    pub fn decide(&self, decision: Decision) -> Result<Decision, RunError> {
        if self.manifest.test.is_none() {
            return Err(RunError::NoTest(self.id.clone()));
        }
        self.variant(&decision.variant)?;
        let file = self.decision_path();
        let draft = self.draft_path();
        let text = serde_json::to_vec(&decision).expect("a decision is plain text");
        // Left by a process of this number that was killed, it is perhaps the decision itself by another
        // name: written over, it would change what has won.
        let _ = fs::remove_file(&draft);
        write_synced(&draft, &text)?;
        let linked = fs::hard_link(&draft, &file);
        // Should it stay, it is in nobody's way.
        let _ = fs::remove_file(&draft);
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io_at(&file)(error)),
            _ => {}
        }
        match self.lasting_decision()? {
            Some(holds) if holds.variant == decision.variant => Ok(holds),
            Some(holds) => Err(RunError::Decided { id: self.id.clone(), variant: holds.variant }),
            None => Err(io_at(&file)(ErrorKind::NotFound.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::manifest::Manifest;

    fn run(folder: &std::path::Path, more: &str) -> Run {
        fs::write(folder.join("m.txt"), "Hello\n").unwrap();
        fs::write(folder.join("l.csv"), "email\na@one.test\n").unwrap();
        let text = format!(
            "name = \"t\"\nfrom = \"us@sender.test\"\nreturn_path_domain = \"b.sender.test\"\nsubject = \"S\"\n\
             text = \"m.txt\"\n{more}[[variants]]\nname = \"A\"\n[[variants]]\nname = \"B\"\nsubject = \"T\"\n\
             [list]\nfile = \"l.csv\"\n"
        );
        fs::write(folder.join("campaign.toml"), text).unwrap();
        Run::create(&folder.join("state"), Manifest::open(folder).unwrap(), None).unwrap()
    }

    fn decision(variant: &str) -> Decision {
        let because = "of a test".to_owned();
        Decision { variant: variant.to_owned(), at: Timestamp::now(), by: Winner::Manual, because }
    }

    #[test]
    fn the_first_decision_holds_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), "[test]\nshare = \"10%\"\n");
        assert_eq!(run.decision().unwrap(), None);
        assert!(matches!(run.decide(decision("b")), Err(RunError::NoVariant { .. })));
        let first = run.decide(decision("B")).unwrap();
        assert_eq!(run.decide(decision("B")).unwrap(), first, "the same again is the one from before");
        assert!(
            matches!(run.decide(decision("A")), Err(RunError::Decided { variant, .. }) if variant == "B")
        );
        let again = Run::open(&folder.path().join("state"), &run.id).unwrap();
        assert_eq!(again.decision().unwrap(), Some(first));
        let left: Vec<_> = fs::read_dir(&run.folder).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with('.')), "{left:?}");
    }

    #[test]
    fn what_a_killed_process_left_behind_cannot_change_what_has_won() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), "[test]\nshare = \"10%\"\n");
        let first = run.decide(decision("B")).unwrap();
        // As when killed after the decision was there, before its first name was gone.
        fs::hard_link(run.decision_path(), run.draft_path()).unwrap();
        assert!(matches!(run.decide(decision("A")), Err(RunError::Decided { .. })));
        assert_eq!(run.decision().unwrap(), Some(first));
    }

    #[test]
    fn a_decision_that_was_not_written_by_us_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path(), "[test]\nshare = \"10%\"\n");
        for text in ["", "B", r#"{"variant":"C","at":"2026-11-22T12:00:00Z","by":"manual","because":""}"#] {
            fs::write(run.decision_path(), text).unwrap();
            let told = run.decision().expect_err(text).to_string();
            assert!(told.contains("winner.json was not written by this program"), "{told}");
        }
    }

    #[test]
    fn without_a_test_nobody_can_win() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(run(folder.path(), "").decide(decision("A")), Err(RunError::NoTest(_))));
    }
}
