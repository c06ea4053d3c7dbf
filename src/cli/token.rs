//! `postroad token`: what a token or a return path says, and a new key to sign with.
//!
//! Verifying needs the key ring only. Whom it names is looked up where the run's folder still is.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::{Common, Exit, causes, say, warn};
use crate::campaign::run::Run;
use crate::campaign::spool::Spool;
use crate::engine::content::{Making, contents};
use crate::engine::winner;
use crate::envelope::RecipientId;
use crate::message::Merge;
use crate::token::{self, CHARACTERS, Keyring, Kind, RunToken, bounce};

/// Verify the tokens of links and return paths, or make a new key for them
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Make a new key, which signs the runs that begin from now on; old ones still verify
    Rotate,
    /// Say what a token says, if it is one of ours
    Verify {
        /// A token, a link that ends in one, or the address a bounce came to
        #[arg(value_name = "TOKEN")]
        token: String,
    },
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let state = common.node()?.state;
    match &arguments.action {
        Action::Rotate => rotate(common, &state),
        Action::Verify { token } => verify(common, &state, token),
    }
}

fn rotate(common: &Common, state: &Path) -> anyhow::Result<Exit> {
    let id = Keyring::rotate(state)?;
    let file = Keyring::folder_of(state).join(id.to_string());
    if common.json {
        say(serde_json::json!({ "key": id, "file": file }))?;
    } else {
        say(format_args!(
            "key {id} signs what begins from now on: {}\nRuns under way keep theirs; keep a copy of the folder.",
            file.display()
        ))?;
    }
    Ok(Exit::Done)
}

/// What is known of a token.
#[derive(Serialize)]
struct Said {
    kind: &'static str,
    key: u8,
    run_token: String,
    segment: u32,
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<u16>,
    /// `None`: the run's folder is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(flatten)]
    found: Option<Found>,
}

/// What the run's folder says.
#[derive(Serialize)]
struct Found {
    address: String,
    row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

fn verify(common: &Common, state: &Path, text: &str) -> anyhow::Result<Exit> {
    let ring = Keyring::read(state)?;
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    let said = read(text, &ring).inspect_err(|error| {
        if common.json {
            let _ = say(serde_json::json!({ "valid": false, "reason": error.to_string() }));
        }
    });
    let (kind, run, recipient, key) =
        said.with_context(|| format!("not verified with the keys in {}", ring.folder().display()))?;
    let mut said = Said {
        kind: kind.map_or("return path", Kind::name),
        key,
        run_token: run.to_string(),
        segment: recipient.segment,
        index: recipient.index,
        link: if let Some(Kind::Click(link)) = kind { Some(link) } else { None },
        run: Run::find(state, run)?,
        found: None,
    };
    if let Some(id) = &said.run {
        // The token is as good as it was, whatever became of the run's files.
        match find(state, &ring, id, recipient, said.link) {
            Ok(found) => said.found = found,
            Err(error) => warn(format_args!("the run {id} does not say who that is: {}", causes(&error))),
        }
    }
    if common.json {
        let mut said = serde_json::to_value(&said)?;
        said["valid"] = true.into();
        say(said)?;
    } else {
        say(said.text())?;
    }
    Ok(Exit::Done)
}

/// Kind (`None`: a return path), run, recipient and key.
fn read(text: &str, ring: &Keyring) -> Result<(Option<Kind>, RunToken, RecipientId, u8), token::TokenError> {
    let is_link = text.contains("://") && text.len() > CHARACTERS;
    if bounce::looks_like_one(text) || (text.contains('@') && !is_link) {
        let said = bounce::read(text, ring)?;
        return Ok((None, said.run, said.recipient, said.key_id));
    }
    let token = if is_link { text.get(text.len() - CHARACTERS..).unwrap_or(text) } else { text };
    let (claim, key) = token::verify(token, ring)?;
    Ok((Some(claim.kind), claim.run, claim.recipient, key))
}

/// Looks the recipient up; `None`: the run has no such recipient on this machine.
fn find(
    state: &Path,
    ring: &Keyring,
    id: &str,
    recipient: RecipientId,
    link: Option<u16>,
) -> anyhow::Result<Option<Found>> {
    let run = Run::open(state, id)?;
    if !run.spool_folder().is_dir() {
        return Ok(None);
    }
    let spool = Spool::open(&run.spool_folder())?;
    let Some(segment) = spool.segment(recipient.segment).filter(|segment| recipient.index < segment.len())
    else {
        return Ok(None);
    };
    let found = segment.recipient(recipient.index)?;
    let fields: Vec<&str> = found.fields().collect();
    let merge = Merge { recipient, address: &found.address, fields: &fields };
    let target = link.map(|link| target(&run, ring, segment.columns().names(), link, &merge));
    let target = target.transpose().unwrap_or_else(|error| {
        warn(format_args!("the run {id} does not say where the link leads: {}", causes(&error)));
        None
    });
    Ok(Some(Found { address: found.address.to_string(), row: found.row, target: target.flatten() }))
}

/// Where the link leads; `None`: the recipient's message has no such link, or there is none yet.
fn target(
    run: &Run,
    ring: &Keyring,
    columns: &[String],
    link: u16,
    merge: &Merge<'_>,
) -> anyhow::Result<Option<String>> {
    let mut manifest = run.manifest.clone();
    // Nothing is signed or attached here, and the keys and files may be gone.
    manifest.dkim.clear();
    manifest.attachments.clear();
    let token = run.token();
    let making = Making {
        manifest: &manifest,
        columns,
        run_token: token.as_str(),
        key: ring.of_run(run.token_key)?,
        date: run.start_at.unwrap_or(run.created),
    };
    let contents = contents(&making, winner::assignment(run)?)?;
    // Outside a test that has no winner nobody was sent a link.
    let Some(content) = contents.of(merge.address) else { return Ok(None) };
    Ok(content.link(link, merge)?)
}

impl Said {
    fn text(&self) -> String {
        let run = match &self.run {
            Some(id) => format!("{id} ({})", self.run_token),
            None => format!("{}, whose folder is not here", self.run_token),
        };
        let link = self.link.map_or_else(String::new, |link| format!(", link {link}"));
        let mut lines = vec![
            format!("valid      {}{link}", self.kind),
            format!("key        {}", self.key),
            format!("run        {run}"),
            format!("recipient  segment {}, index {}", self.segment, self.index),
        ];
        if let Some(found) = &self.found {
            lines.push(format!("address    {}", found.address));
            lines.push(format!("row        {}", found.row));
            lines.extend(found.target.iter().map(|target| format!("leads to   {target}")));
        }
        lines.join("\n")
    }
}
