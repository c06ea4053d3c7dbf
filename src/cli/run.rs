//! `postroad run`: a campaign, frozen into a run and sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::bail;

use super::progress::Manner;
use super::{Common, Exit, campaign, drive, look_at_keys, say, time, warn};
use crate::campaign::audience::Audience;
use crate::campaign::run::Run;
use crate::campaign::variants::Assignment;
use crate::engine::Options;
use crate::engine::content::{Making, contents};
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
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let manifest = campaign(&arguments.campaign, &node)?;
    if let Some(pool) = manifest.pool.as_ref().filter(|pool| !node.pools.contains_key(*pool)) {
        bail!("the manifest wants the pool `{pool}`, which the settings do not have; add [pools.{pool}]");
    }
    let date = arguments.at.unwrap_or_else(SystemTime::now);
    look_at_keys(&manifest, &node, date)?;
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
    let run = Run::create(&node.state, manifest, arguments.at)?;
    let manner = Manner::choose(common.json);
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
