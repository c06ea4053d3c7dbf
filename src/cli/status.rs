//! `postroad status`: where a run stands, read from its folder; also while another process works on it.

use std::fmt::Write as _;

use super::{Common, Exit, named_run, say, time, winner};
use crate::campaign::run::Run;
use crate::campaign::spool::Spool;
use crate::control::client;
use crate::control::protocol::{Reply, Request};
use crate::journal::{self, Line};
use crate::metrics::Totals;
use crate::outcome::Disposition;

/// Say where a run stands
#[derive(clap::Args)]
pub struct Arguments {
    /// The run's id [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// All runs, newest first
    #[arg(long, conflicts_with = "run")]
    list: bool,
}

/// What the folder of a run says.
#[derive(serde::Serialize)]
struct Status {
    run: String,
    /// `running`, `stopped`, `finished` or `cancelled`.
    state: &'static str,
    created: String,
    start_at: Option<String>,
    import_done: bool,
    totals: Totals,
    deferrals: u64,
    /// Which variant has won, or what the rest waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<String>,
    /// What holds mail, if an engine is at work and something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    if arguments.list {
        let runs = Run::list(&node.state)?;
        if common.json {
            say(serde_json::json!({ "runs": runs }))?;
        } else {
            runs.iter().try_for_each(say)?;
        }
        return Ok(Exit::Done);
    }
    let run = named_run(&node, arguments.run.as_deref())?;
    let mut status = status(&run)?;
    if status.state == "running" {
        // Without an answer the rest is as true.
        let reply = client::ask(&node.state, &run, &Request::Campaign);
        status.held = reply.ok().and_then(|reply| match reply {
            Reply::Campaign(report) => report.held,
            _ => None,
        });
    }
    if common.json {
        say(serde_json::json!({ "status": status }))?;
    } else {
        say(text(&status).trim_end())?;
    }
    Ok(if status.state == "stopped" { Exit::Waiting } else { Exit::Done })
}

/// Whether every row of a run's lists has been read, and nobody of them waits any more.
pub(super) fn is_settled(run: &Run) -> anyhow::Result<bool> {
    let status = status(run)?;
    Ok(status.import_done && status.totals.waiting == 0)
}

fn status(run: &Run) -> anyhow::Result<Status> {
    let is_running = run.is_locked();
    // The journal first: whatever it speaks of is then in the spool.
    let (mut totals, deferrals) = journal_totals(run)?;
    let mut import_done = false;
    if run.spool_folder().is_dir() {
        let spool = Spool::open(&run.spool_folder())?;
        let list = spool.totals();
        import_done = spool.is_complete();
        let settled: u64 = totals.parts().iter().map(|(_, count)| count).sum();
        totals.rows = list.last_row;
        totals.left_out += list.left_out.sum();
        totals.duplicate += list.duplicate;
        totals.suppressed += list.suppressed;
        totals.invalid += list.invalid;
        totals.waiting = list.accepted.saturating_sub(settled);
    }
    let state = match (is_running, import_done && totals.waiting == 0, run.is_cancelled()) {
        (true, _, _) => "running",
        (false, true, false) => "finished",
        (false, _, true) => "cancelled",
        (false, false, false) => "stopped",
    };
    let test = match run.decision()? {
        Some(decision) => Some(decision.to_string()),
        None if matches!(state, "running" | "stopped") => {
            winner::undecided(run)?.map(|next| format!("the rest waits for the winner: {next}"))
        }
        None => None,
    };
    Ok(Status {
        run: run.id.clone(),
        state,
        created: jiff::Timestamp::try_from(run.created)?.to_string(),
        start_at: run.start_at.map(time::local),
        import_done,
        totals,
        deferrals,
        test,
        held: None,
    })
}

/// Counts the recipients whose end the journal knows, and the deferrals.
fn journal_totals(run: &Run) -> anyhow::Result<(Totals, u64)> {
    let (mut totals, mut deferrals) = (Totals::default(), 0);
    for line in journal::read(&run.journal_folder())? {
        let Line::Attempt(record) = line? else { continue };
        match record.disposition {
            Disposition::Delivered => totals.delivered += 1,
            Disposition::Deferred { .. } => deferrals += 1,
            Disposition::Bounced => totals.bounced += 1,
            Disposition::Expired => totals.expired += 1,
            Disposition::Suppressed => totals.suppressed += 1,
            Disposition::Cancelled => totals.cancelled += 1,
            Disposition::Invalid => totals.invalid += 1,
            Disposition::InDoubt(_) if record.disposition.is_final() => totals.in_doubt += 1,
            Disposition::InDoubt(_) => {}
        }
    }
    Ok((totals, deferrals))
}

fn text(status: &Status) -> String {
    let mut text = format!("{}  {}\n", status.run, status.state);
    if let Some(at) = &status.start_at {
        let _ = writeln!(text, "  sends from {at}");
    }
    for (name, count) in status.totals.parts() {
        let _ = writeln!(text, "  {name:<12} {count:>12}");
    }
    let so_far = if status.import_done { "" } else { "   so far: the list is not read to its end" };
    let _ = writeln!(text, "  {:<12} {:>12}{so_far}", "rows", status.totals.rows);
    let _ = writeln!(text, "  {} deferrals", status.deferrals);
    if let Some(test) = &status.test {
        let _ = writeln!(text, "  {test}");
    }
    if let Some(held) = &status.held {
        let _ = writeln!(text, "  {held}; `postroad why` says more");
    }
    if status.state == "stopped" {
        let _ = writeln!(text, "  go on with `postroad resume {}`", status.run);
    }
    text
}
