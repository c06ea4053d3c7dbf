//! `postroad diff`: what of a campaign has changed since one of its runs was made.
//!
//! A run keeps its manifest and the files of the message, so these are compared for what they are. Of lists,
//! suppression files and files that rows name it keeps no copy, and of keys only the names; of those this
//! says what can be known and that it is no more.

mod files;
mod keys;
mod outside;

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::{Common, Exit, campaign, named_run, say, time};
use crate::campaign::manifest::{List, Manifest};
use crate::campaign::run::Run;
use files::{Change, FileChange};
use keys::KeyChange;
use outside::{Outside, State};

/// Say what of a campaign has changed since a run
///
/// Compares the manifest key by key and the files of the message line by line. Of lists and suppression
/// files a run keeps no copy: of them it says whether they were written since. Ends with 0 if nothing has
/// changed, with 4 if something has.
#[derive(clap::Args)]
pub struct Arguments {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN")]
    campaign: PathBuf,
    /// The run's id [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

/// Everything that was compared; a list that is empty has no difference.
#[derive(Serialize)]
struct Difference {
    run: String,
    differs: bool,
    keys: Vec<KeyChange>,
    files: Vec<FileChange>,
    /// All of them, changed or not.
    outside: Vec<Outside>,
    /// What could not be compared.
    notes: Vec<&'static str>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let now = campaign(&arguments.campaign, &node)?;
    let run = named_run(&node, arguments.run.as_deref())?;
    let difference = compare(&run, &now)?;
    if common.json {
        say(serde_json::json!({ "diff": difference }))?;
    } else {
        say(text(&difference).trim_end())?;
    }
    Ok(if difference.differs { Exit::Differs } else { Exit::Done })
}

fn compare(run: &Run, now: &Manifest) -> anyhow::Result<Difference> {
    let keys = keys::changed(&run.manifest, now);
    let files = files::changed(&run.manifest, now)?;
    let outside = outside::looked_at(run, now)?;
    let differs = !keys.is_empty() || !files.is_empty() || outside.iter().any(Outside::differs);
    Ok(Difference { run: run.id.clone(), differs, keys, files, outside, notes: notes(run, now) })
}

fn notes(run: &Run, now: &Manifest) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if run.is_rehearsal() {
        notes.push("the run is a rehearsal, which has times and keys of its own");
    }
    if !now.dkim.is_empty() {
        notes.push("DKIM keys are compared by name and place: a run does not keep what is in them");
    }
    if now.attachments.iter().any(|attachment| attachment.column.is_some()) {
        notes.push("files that rows name are not compared: a run reads them where they are");
    }
    if now.lists.iter().any(List::is_stdin) {
        notes.push("a list comes through the standard input and is not compared");
    }
    notes
}

fn text(difference: &Difference) -> String {
    let mut text = format!("since {}:\n", difference.run);
    if !difference.differs {
        text.push_str("  nothing has changed\n");
    }
    for KeyChange { key, old, new } in &difference.keys {
        let _ = match (old, new) {
            (Some(old), Some(new)) => writeln!(text, "  {key}: {old} → {new}"),
            (None, Some(new)) => writeln!(text, "  {key}: new, {new}"),
            (Some(old), None) => writeln!(text, "  {key}: gone, was {old}"),
            (None, None) => Ok(()),
        };
    }
    for FileChange { name, change } in &difference.files {
        let _ = match change {
            Change::Added { octets } => writeln!(text, "  {name}: new, {octets} bytes"),
            Change::Removed { octets } => writeln!(text, "  {name}: gone, had {octets} bytes"),
            Change::Octets { old, new } => writeln!(text, "  {name}: changed, {old} → {new} bytes"),
            Change::Lines { lines } => writeln!(text, "\n{lines}"),
        };
    }
    for outside in &difference.outside {
        let _ = writeln!(text, "  {}: {}", outside.path.display(), state(outside));
    }
    for note in &difference.notes {
        let _ = writeln!(text, "  ({note})");
    }
    text
}

fn state(outside: &Outside) -> String {
    let role = outside.role;
    match outside.state {
        State::Missing => format!("the {role} is not there any more"),
        State::Unwritten => format!("the {role} was not written since"),
        State::Written { at, rows: Some((then, now)) } => {
            format!("the {role} was written at {}: {then} rows then, {now} now", time::local(at.into()))
        }
        State::Written { at, rows: None } => {
            format!("the {role} was written at {}; what changed is not known", time::local(at.into()))
        }
    }
}
