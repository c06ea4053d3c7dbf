//! `postroad rules check`: whether files of reply rules and of limits say what they are meant to, before a
//! run uses them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Common, Exit, say, warn};
use crate::classify::Rules;
use crate::config::Fault;
use crate::shaping;

/// Check files of reply rules and of limits
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run every sample of every rule, and look for rules that can never be reached
    ///
    /// Several files are laid over each other in the order given, and all over the rules that come with the
    /// program. Without any, those of postroad.toml (`reply_files`, `shaping_files`) are checked, and if it has
    /// none, those that come with the program. Every mistake is told with file, line and column. Files of
    /// limits are told from those of rules by their sections, and checked as such.
    Check {
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Each file by itself, as if no rules came with the program
        #[arg(long)]
        alone: bool,
    },
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let Command::Check { files, alone } = &arguments.command;
    let node = common.node()?;
    let of_settings = [&node.reply_files[..], &node.shaping_files].concat();
    let files = if files.is_empty() { &of_settings } else { files };
    let providers: Vec<&str> = node.shaping.providers().map(|(name, _)| name).collect();
    let texts = read(files)?;
    let (limits, rules): (Vec<_>, Vec<_>) = texts.iter().partition(|(_, text)| shaping::is_shaping(text));
    let limits: Vec<PathBuf> = limits.iter().map(|(file, _)| file.to_path_buf()).collect();
    let texts: Vec<(&Path, &str)> = rules.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let (mut faults, count) = if files.is_empty() {
        let rules = Rules::shipped();
        let faults = [rules.faults(), rules.unknown_providers(&providers)].concat();
        (faults, rules.rules().count())
    } else if *alone {
        texts.iter().fold((Vec::new(), 0), |(faults, count), text| {
            let (more, rules) = checked(Rules::alone(text.0, text.1), &providers);
            ([faults, more].concat(), count + rules)
        })
    } else if texts.is_empty() {
        (Vec::new(), 0)
    } else {
        checked(Rules::read(&texts), &providers)
    };
    faults.extend(shaping::check_files(&limits));
    if common.json {
        let faults: Vec<_> = faults.iter().map(as_json).collect();
        say(serde_json::json!({ "rules": count, "files_of_limits": limits.len(), "faults": faults }))?;
    } else if faults.is_empty() && !limits.is_empty() && texts.is_empty() {
        say("all limits can be meant as they are")?;
    } else if faults.is_empty() {
        say(format_args!("{count} rules, all samples land where they should"))?;
    } else {
        faults.iter().for_each(warn);
    }
    Ok(if faults.is_empty() { Exit::Done } else { Exit::Error })
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<(&Path, String)>> {
    let texts = files.iter().map(|file| {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok((file.as_path(), text))
    });
    texts.collect()
}

fn checked(rules: Result<Rules, Vec<Fault>>, providers: &[&str]) -> (Vec<Fault>, usize) {
    match rules {
        Ok(rules) => (rules.unknown_providers(providers), rules.rules().count()),
        Err(faults) => (faults, 0),
    }
}

fn as_json(fault: &Fault) -> serde_json::Value {
    serde_json::json!({
        "file": fault.file, "line": fault.line, "column": fault.column, "what": fault.what, "advice": fault.advice,
    })
}
