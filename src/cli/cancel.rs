//! `postroad cancel`: whoever has not been mailed yet will not be.

use super::{Common, Exit, named_run, say};

/// Cancel a run: who still waits is not mailed any more
#[derive(clap::Args)]
pub struct Arguments {
    /// The run's id [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let run = named_run(&node, arguments.run.as_deref())?;
    run.cancel()?;
    let id = &run.id;
    if common.json {
        say(serde_json::json!({ "run": id, "cancelled": true }))?;
    } else if run.is_locked() {
        say(format_args!(
            "{id} is cancelled: the process that works on it finishes what is on the wire and stops."
        ))?;
    } else {
        say(format_args!(
            "{id} is cancelled. `postroad resume {id}` settles the rest and writes the report."
        ))?;
    }
    Ok(Exit::Done)
}
