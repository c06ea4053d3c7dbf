//! The command line: one file a command; what each asks, prints and ends with.
//!
//! Only here do errors become text for a person and an exit code. Settings are read once and handed on.

mod adjust;
mod cancel;
mod check;
mod classify;
mod config;
mod diff;
mod dkim;
mod drive;
mod expectation;
mod import;
mod init;
mod plan;
mod preview;
mod progress;
mod rehearse;
mod replies;
mod reputation;
mod resume;
mod rules;
mod run;
mod shaping;
mod status;
mod summary;
mod time;
mod token;
mod warmup;
mod why;
mod winner;
mod words;
pub mod world;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand};

use crate::campaign::manifest::Manifest;
use crate::campaign::run::{Run, RunError};
use crate::config::Node;
use crate::engine::{EngineError, signers};

/// How the program ends; [`Exit::Usage`] is given by the argument parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; of a run: every recipient is settled, delivered or not.
    Done = 0,
    /// Something stopped it; the message says what and what to do.
    Error = 1,
    Usage = 2,
    /// Stopped with recipients waiting; `postroad resume` goes on.
    Waiting = 3,
    /// A rehearsal ended otherwise than the world computed before, or a campaign differs from its run.
    Differs = 4,
    /// A check found warnings and nothing worse.
    Warnings = 5,
    /// A check found errors; a run was not made.
    Errors = 6,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; of a run: every recipient is settled, delivered or not
  1  an error; the message says what to do
  2  wrong arguments
  3  stopped with recipients still waiting: `postroad resume` goes on
  4  a rehearsal ended otherwise than expected; of diff: something has changed
  5  a check found warnings, no errors
  6  a check found errors; `run` has sent nothing";

/// Sends a campaign to every recipient of a list, as fast as each receiver allows and no faster.
#[derive(Parser)]
#[command(name = "postroad", version, about, after_help = EXIT_CODES)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(clap::Args, Debug, Clone)]
pub struct Common {
    /// Settings of this machine [default: postroad.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where runs live [default: `state` of the settings]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// For machines: JSON lines on the standard output
    #[arg(long, global = true)]
    pub json: bool,
}

impl Common {
    /// The settings, with what the command line changes.
    ///
    /// # Errors
    /// As [`Node::load`].
    pub fn node(&self) -> anyhow::Result<Node> {
        let mut node = Node::load(self.config.as_deref())?;
        if let Some(state) = &self.state {
            node.state.clone_from(state);
        }
        Ok(node)
    }
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Plan(plan::Arguments),
    Preview(preview::Arguments),
    Diff(diff::Arguments),
    Check(check::Arguments),
    Rehearse(rehearse::Arguments),
    Run(run::Arguments),
    Status(status::Arguments),
    Resume(resume::Arguments),
    Cancel(cancel::Arguments),
    Winner(winner::Arguments),
    Why(why::Arguments),
    Adjust(adjust::Arguments),
    Classify(classify::Arguments),
    Replies(replies::Arguments),
    Rules(rules::Arguments),
    Import(import::Arguments),
    Config(config::Arguments),
    Dkim(dkim::Arguments),
    Shaping(shaping::Arguments),
    Warmup(warmup::Arguments),
    Reputation(reputation::Arguments),
    Token(token::Arguments),
    /// Run a simulated internet by itself, until Ctrl-C
    World(world::Args),
}

/// Reads the arguments, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log();
    let result = match arguments.command {
        Command::Init(command) => init::run(&arguments.common, &command),
        Command::Plan(command) => plan::run(&arguments.common, &command),
        Command::Preview(command) => preview::run(&arguments.common, &command),
        Command::Diff(command) => diff::run(&arguments.common, &command),
        Command::Check(command) => check::run(&arguments.common, &command),
        Command::Rehearse(command) => rehearse::run(&arguments.common, &command),
        Command::Run(command) => run::run(&arguments.common, &command),
        Command::Status(command) => status::run(&arguments.common, &command),
        Command::Resume(command) => resume::run(&arguments.common, &command),
        Command::Cancel(command) => cancel::run(&arguments.common, &command),
        Command::Winner(command) => winner::run(&arguments.common, &command),
        Command::Why(command) => why::run(&arguments.common, &command),
        Command::Adjust(command) => adjust::run(&arguments.common, &command),
        Command::Classify(command) => classify::run(&arguments.common, &command),
        Command::Replies(command) => replies::run(&arguments.common, &command),
        Command::Rules(command) => rules::run(&arguments.common, &command),
        Command::Import(command) => import::run(&arguments.common, &command),
        Command::World(command) => simulate(command),
        Command::Config(command) => config::run(&arguments.common, &command),
        Command::Dkim(command) => dkim::run(&arguments.common, &command),
        Command::Shaping(command) => shaping::run(&arguments.common, &command),
        Command::Warmup(command) => warmup::run(&arguments.common, &command),
        Command::Reputation(command) => reputation::run(&arguments.common, &command),
        Command::Token(command) => token::run(&arguments.common, &command),
    };
    let exit = result.unwrap_or_else(|error| {
        warn(format_args!("error: {}", causes(&error)));
        Exit::Error
    });
    ExitCode::from(exit as u8)
}

/// A world by itself needs a runtime of its own to be stopped by Ctrl-C.
fn simulate(arguments: world::Args) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clean = runtime.block_on(world::run(arguments))? == ExitCode::SUCCESS;
    Ok(if clean { Exit::Done } else { Exit::Differs })
}

/// An error and what caused it, without what it says of the cause itself.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

/// Prints a line on the standard output. A reader who has gone, as `head` does, has had enough.
///
/// # Errors
/// It cannot be written for another reason: a full disk, say.
fn say(line: impl Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to the standard output"))
        }
        _ => Ok(()),
    }
}

/// Prints a line on the standard error, if someone is there to read it: a terminal that was closed is
/// no reason to end a run.
fn warn(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The campaign in `folder`, signed by the node's keys if it has none of its own.
///
/// # Errors
/// As [`Manifest::open`].
fn campaign(folder: &Path, node: &Node) -> anyhow::Result<Manifest> {
    let mut manifest = Manifest::open(folder)?;
    manifest.adopt_keys(&node.dkim)?;
    Ok(manifest)
}

/// Says what is weak about the keys that will sign a run of `date`.
///
/// # Errors
/// As [`signers::of`].
fn look_at_keys(manifest: &Manifest, node: &Node, date: SystemTime) -> anyhow::Result<()> {
    for warning in weak_keys(manifest, node, date)? {
        warn(format_args!("warning: {warning}"));
    }
    Ok(())
}

/// What is weak about the keys that will sign a run of `date`.
///
/// # Errors
/// As [`signers::of`].
fn weak_keys(manifest: &Manifest, node: &Node, date: SystemTime) -> Result<Vec<String>, EngineError> {
    Ok(signers::warnings(&manifest.dkim, &signers::of(manifest, node, date)?, date))
}

/// The run that was named, or the newest.
///
/// # Errors
/// As [`Run::open`] and [`Run::latest`].
fn named_run(node: &Node, id: Option<&str>) -> Result<Run, RunError> {
    id.map_or_else(|| Run::latest(&node.state), |id| Run::open(&node.state, id))
}

/// Logs go to the standard error; RUST_LOG says which, warnings if it does not.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).compact().init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_declared_without_conflict() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
