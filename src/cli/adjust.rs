//! `postroad adjust`: what is in force in a running engine beside what files say, and a person's say in it.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::json;

use super::{Common, Exit, say, words};
use crate::config::Rate;
use crate::config::units::parse_duration;
use crate::control::client::{self, ask};
use crate::control::protocol::{PathName, Reply, Request};
use crate::policy::{Adjustment, Paused, Pinned};

/// List, end or pin what a running engine has adjusted
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The run's id [default: the one that is running]
    #[arg(long, global = true, value_name = "ID")]
    run: Option<String>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// What is in force, why, since when and until when
    List,
    /// End one of these; what caused it may bring it about again
    Cancel {
        /// Its number in the list
        #[arg(value_name = "NUMBER")]
        id: u32,
    },
    /// Hold a path to a value for a time, whatever is heard; never above what files allow
    Pin {
        /// source@site, source@domain or source@provider; * for every source
        #[arg(value_name = "PATH")]
        path: PathName,
        #[command(subcommand)]
        value: Value,
    },
    /// Let go on what waits for a person, with breakers that have seen nothing yet
    Resume {
        /// Only this [default: all of it]
        #[command(subcommand)]
        what: Option<What>,
    },
    /// Look at the files of limits and of reply rules now, not within a second
    Reload,
}

#[derive(clap::Subcommand)]
enum Value {
    /// Messages, like 100/min
    Rate {
        rate: Rate,
        /// How long, like 2h
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        lasting: Duration,
    },
    /// Sessions at once
    Sessions {
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        sessions: u32,
        /// How long, like 2h
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        lasting: Duration,
    },
}

#[derive(clap::Subcommand)]
enum What {
    /// The campaign
    Campaign,
    /// The domain of `From:`
    SendingDomain,
    /// A source, to all providers
    Source {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let state = common.node()?.state;
    let run = client::running(&state, arguments.run.as_deref())?;
    let reply = ask(&state, &run, &request(&arguments.command)?)?;
    match reply {
        Reply::Adjustments(adjustments) if common.json => say(json!({ "adjustments": adjustments }))?,
        Reply::Adjustments(adjustments) => say(listed(&adjustments).trim_end())?,
        Reply::Done(done) if common.json => say(json!({ "done": done }))?,
        Reply::Done(done) => done.iter().try_for_each(say)?,
        _ => bail!("the engine answered another question; is it another version?"),
    }
    Ok(Exit::Done)
}

fn request(command: &Command) -> anyhow::Result<Request> {
    Ok(match command {
        Command::List => Request::Adjustments,
        Command::Cancel { id } => Request::Cancel(*id),
        Command::Pin { path, value } => {
            let (to, lasting) = match value {
                Value::Rate { rate, .. } if rate.is_unlimited() => {
                    bail!("a pin is a rate, like 100/min; to end what slows a path: `postroad adjust cancel`")
                }
                Value::Rate { rate, lasting } => {
                    (Pinned::Rate(f64::from(rate.count) / rate.per.as_secs_f64()), *lasting)
                }
                Value::Sessions { sessions, lasting } => (Pinned::Sessions(*sessions), *lasting),
            };
            if lasting.is_zero() {
                bail!("a pin lasts for a time: --for 2h");
            }
            Request::Pin { path: path.clone(), to, lasting }
        }
        Command::Resume { what } => Request::Resume(match what {
            None => Paused::All,
            Some(What::Campaign) => Paused::Campaign,
            Some(What::SendingDomain) => Paused::SendingDomain,
            Some(What::Source { name }) => Paused::Source(name.clone()),
        }),
        Command::Reload => Request::Reload,
    })
}

fn listed(adjustments: &[Adjustment]) -> String {
    if adjustments.is_empty() {
        return "nothing is adjusted: what the files say holds".to_owned();
    }
    let mut text = String::new();
    for adjustment in adjustments {
        let Adjustment { id, about, what, .. } = adjustment;
        let _ = write!(text, "{id:>4}  {about}: {what}");
        if let Some(until) = adjustment.until {
            let _ = write!(text, ", until {}", words::until(until));
        }
        text.push('\n');
        if let Some(cause) = &adjustment.cause {
            let since = Timestamp::try_from(cause.since).unwrap_or_default();
            let _ = writeln!(text, "      {cause}, {}", words::at(since));
        }
    }
    text
}
