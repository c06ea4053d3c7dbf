//! `postroad run`: a campaign, frozen into a run and sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::bail;

use super::progress::Manner;
use super::{Common, Exit, campaign, check, drive, say, time, warn, weak_keys};
use crate::campaign::audience::Audience;
use crate::campaign::manifest::Manifest;
use crate::campaign::run::Run;
use crate::campaign::variants::Assignment;
use crate::config::Node;
use crate::engine::Options;
use crate::engine::content::{Making, contents};
use crate::preflight::{Order, Report, Severity};
use crate::smtp::Reach;
use crate::token::Key;

/// Send a campaign to its list
#[derive(clap::Args)]
pub struct Arguments {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN")]
    campaign: PathBuf,
    /// Prepare at once, send from then on: 2026-11-23T09:00:00Z or "2026-11-23 09:00 Europe/Berlin"
    #[arg(long, value_name = "TIME WITH ZONE", value_parser = time::parse)]
    at: Option<SystemTime>,
    /// Send although the check finds errors; the report will say so
    #[arg(long)]
    force: bool,
    /// Do not check before; the report will say so
    #[arg(long, conflicts_with = "force")]
    no_check: bool,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let manifest = campaign(&arguments.campaign, &node)?;
    if let Some(pool) = manifest.pool.as_ref().filter(|pool| !node.pools.contains_key(*pool)) {
        bail!("the manifest wants the pool `{pool}`, which the settings do not have; add [pools.{pool}]");
    }
    let date = arguments.at.unwrap_or_else(SystemTime::now);
    let weak = weak_keys(&manifest, &node, date)?;
    // A pipe can be read only once. Of other lists a mistake shows now, and not as a run that never was.
    if manifest.lists_are_files() {
        let audience = Audience::open(&manifest)?;
        let columns = audience.columns().names();
        let making = Making { manifest: &manifest, columns, run_token: "", key: &Key::stand_in(), date };
        contents(&making, Assignment::of(&manifest).map(Arc::new))?;
    }
    if let Some(at) = arguments.at.filter(|at| *at < SystemTime::now()) {
        bail!("{} is past; leave --at out to send at once", time::local(at));
    }
    let manner = Manner::choose(common.json);
    let Some(found) = arguments.looked_over(&manifest, &node, date, weak, manner)? else {
        return Ok(Exit::Errors);
    };
    let run = Run::create(&node.state, manifest, arguments.at)?;
    run.keep_warnings(&found)?;
    if manner == Manner::Json {
        say(serde_json::json!({ "run": run.id }))?;
    } else {
        warn(&run.id);
        if let Some(at) = arguments.at {
            warn(format_args!("prepares now, sends from {}", time::local(at)));
        }
    }
    let report = drive::to_report(node, run, Options::new(Reach::Internet), manner)?;
    drive::concluded(&report, manner, &drive::go_on(&report))
}

impl Arguments {
    /// What the report is to say of the check before sending, or instead of one; `None`: not to be sent.
    /// `weak` is what was seen of the keys.
    fn looked_over(
        &self,
        manifest: &Manifest,
        node: &Node,
        date: SystemTime,
        weak: Vec<String>,
        manner: Manner,
    ) -> anyhow::Result<Option<Vec<String>>> {
        if self.no_check {
            weak.iter().for_each(|line| warn(format_args!("warning: {line}")));
            let unchecked = "sent without a check (--no-check)".to_owned();
            return Ok(Some([vec![unchecked], manifest.warnings(), weak].concat()));
        }
        let (manifest, node) = (manifest.clone(), node.clone());
        let checked = check::made(Order { manifest, node, date, is_offline: false, ignore: Vec::new() })?;
        tell(&checked, manner)?;
        if checked.worst() == Some(Severity::Error) && !self.force {
            warn("nothing was sent; mend the errors, or send all the same with --force");
            return Ok(None);
        }
        Ok(Some(warnings(&checked)))
    }
}

/// Says what the check found, but for the notes.
fn tell(checked: &Report, manner: Manner) -> anyhow::Result<()> {
    if manner == Manner::Json {
        return say(serde_json::json!({ "check": checked }));
    }
    for line in checked.lines(Severity::Warning) {
        warn(format_args!("check: {line}"));
    }
    if checked.worst() >= Some(Severity::Warning) {
        warn(format_args!("check: `postroad check` says what to do about each ({})", checked.campaign));
    }
    Ok(())
}

/// What the run's report is to say of the check: what was forced, then what was worth a warning.
fn warnings(checked: &Report) -> Vec<String> {
    let all = checked.lines(Severity::Warning);
    let (errors, warnings) = all.split_at(checked.count(Severity::Error));
    let forced = (!errors.is_empty()).then(|| {
        let (count, errors) = (errors.len(), errors.join("; "));
        format!("sent with --force over {count} errors of the check: {errors}")
    });
    forced.into_iter().chain(warnings.iter().map(|line| format!("the check found {line}"))).collect()
}
