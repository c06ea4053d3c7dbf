//! A run from its start to its report, with someone watching: shared by `run`, `resume` and `rehearse`.

use anyhow::Context;

use super::progress::{self, Manner};
use super::{Exit, say, summary, warn};
use crate::campaign::run::Run;
use crate::config::Node;
use crate::engine::{self, Options};
use crate::metrics::Report;

/// Runs `run` until everyone is settled or someone stops it; writes the report.
///
/// Ctrl-C and SIGTERM stop politely: what is on the wire finishes. A second one ends at once, which
/// loses nothing either; `resume` then has some in doubt.
///
/// # Errors
/// Whatever stopped the engine, or the report that could not be written.
pub fn to_report(node: Node, run: Run, options: Options, manner: Manner) -> anyhow::Result<Report> {
    let report_path = run.report_path();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let running = engine::start(node, run, options).await?;
        let watch = running.watch();
        let stopper = watch.clone();
        let signals = tokio::spawn(async move {
            interrupted().await;
            stopper.stop();
            warn("stopping: what is on the wire finishes first; once more to end at once");
            interrupted().await;
            std::process::exit(Exit::Waiting as i32);
        });
        let report = progress::show(manner, || watch.progress(), running.finished()).await;
        signals.abort();
        report
    })?;
    // Nothing is left to wait for: a look-up that hangs must not keep the program.
    runtime.shutdown_background();
    summary::write(&report, &report_path)
        .with_context(|| format!("cannot write the report {}", report_path.display()))?;
    Ok(report)
}

/// What to do with a run that was stopped.
pub fn go_on(report: &Report) -> String {
    format!("go on with `postroad resume {}`", report.run)
}

/// Prints the report and, if recipients wait, what is `next`; the exit code it comes to.
///
/// # Errors
/// The totals do not add up.
pub fn concluded(report: &Report, manner: Manner, next: &str) -> anyhow::Result<Exit> {
    if manner == Manner::Json {
        say(serde_json::json!({ "report": report }))?;
    } else {
        say(summary::table(report, next).trim_end_matches('\n'))?;
    }
    report.totals.check()?;
    Ok(if report.finished { Exit::Done } else { Exit::Waiting })
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
