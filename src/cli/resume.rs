//! `postroad resume`: a run that was stopped, however it was stopped, goes on.

use anyhow::bail;

use super::progress::Manner;
use super::{Common, Exit, drive, named_run, say, warn};
use crate::engine::Options;
use crate::smtp::Reach;

/// Go on with a run that was stopped, also by kill -9 or a power cut
#[derive(clap::Args)]
pub struct Arguments {
    /// The run's id [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let run = named_run(&node, arguments.run.as_deref())?;
    if run.is_rehearsal() {
        bail!(
            "{} is a rehearsal, whose world ended with it: resumed, it would mail real people; rehearse again",
            run.id
        );
    }
    let manner = Manner::choose(common.json);
    if manner == Manner::Json {
        say(serde_json::json!({ "run": run.id }))?;
    } else {
        warn(&run.id);
    }
    let report = drive::to_report(node, run, Options::new(Reach::Internet), manner)?;
    drive::concluded(&report, manner, &drive::go_on(&report))
}
