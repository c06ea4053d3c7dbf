//! `postroad check`: what is wrong with a campaign, before anything is sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior};

use super::{Common, Exit, say, warn};
use crate::campaign::manifest::{Manifest, ManifestError};
use crate::preflight::{self, Order, PreflightError, Progress, Report, Severity};

/// A check that is done by then says nothing of itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// From one line of a check under way to the next.
const INTERVAL: Duration = Duration::from_secs(5);
/// Characters of a line of help.
const WIDTH: usize = 79;

/// Check a campaign before it is sent: manifest, every row's message, links, list, sender
///
/// Makes the message of every row and holds it to what receivers demand, looks the whole list over, and tells
/// the worst first, each with what to do. `run` does the same by itself and does not start over errors.
/// Ends with 0 if nothing is worse than a note, 5 if there are warnings, 6 if there are errors.
#[derive(clap::Args)]
#[command(after_long_help = names())]
pub struct Arguments {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN")]
    campaign: PathBuf,
    /// Ask nothing of the network
    #[arg(long)]
    offline: bool,
    /// Leave out what this check finds; its name stands in brackets. May be given again
    #[arg(long, value_name = "CHECK")]
    ignore: Vec<String>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let Arguments { campaign, offline, ignore } = arguments;
    let node = common.node()?;
    let report = match Manifest::open(campaign) {
        Ok(mut manifest) => {
            manifest.adopt_keys(&node.dkim)?;
            let ignore = ignore.clone();
            made(Order { manifest, node, date: SystemTime::now(), is_offline: *offline, ignore })?
        }
        Err(error @ ManifestError::Read { .. }) => return Err(error.into()),
        Err(error) => {
            let name = campaign.file_name().map(|name| name.to_string_lossy().into_owned());
            preflight::unreadable(name.unwrap_or_default(), &error, ignore)
        }
    };
    if common.json {
        say(serde_json::json!({ "check": report }))?;
    } else {
        say(report.text().trim_end_matches('\n'))?;
    }
    Ok(exit(&report))
}

/// Checks with a runtime of its own, for there is none yet.
pub(super) fn made(order: Order) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report: Result<Report, PreflightError> = runtime.block_on(watched(order));
    // A look-up that hangs must not keep the program.
    runtime.shutdown_background();
    Ok(report?)
}

/// The names of all checks, as `--ignore` wants them.
fn names() -> String {
    let mut text = String::from("Checks, as --ignore and [check] ignore name them:");
    let mut column = usize::MAX;
    for name in preflight::NAMES {
        if column.saturating_add(name.len()) > WIDTH {
            text.push_str("\n ");
            column = 1;
        }
        text.push(' ');
        text.push_str(name);
        column += 1 + name.len();
    }
    text
}

/// Says now and then how far it is: a list of millions takes its time.
async fn watched(order: Order) -> Result<Report, PreflightError> {
    let progress = Arc::new(Progress::default());
    let check = preflight::check(order, &progress);
    tokio::pin!(check);
    let mut ticks = tokio::time::interval_at(Instant::now() + PATIENCE, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            report = &mut check => return report,
            _ = ticks.tick() => warn(format_args!("checking: {progress}")),
        }
    }
}

fn exit(report: &Report) -> Exit {
    match report.worst() {
        None | Some(Severity::Note) => Exit::Done,
        Some(Severity::Warning) => Exit::Warnings,
        Some(Severity::Error) => Exit::Errors,
    }
}
