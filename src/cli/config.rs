//! `postroad config`: the settings as they will be used, defaults, shipped providers and all.

use super::{Common, Exit, say};

/// Print the merged settings of this machine
///
/// What is printed can be used as a settings file. Keys and other secrets are named by file, never printed.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(common: &Common, _: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let text = if common.json { serde_json::to_string(&node)? } else { node.merged_toml() };
    say(text.trim_end())?;
    Ok(Exit::Done)
}
