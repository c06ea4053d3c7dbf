//! The test of a run under way: waits for its winner, takes it by itself if the manifest says so, and lets
//! the rest of the recipients go.
//!
//! The decision is a file in the run's folder ([`crate::campaign::decision`]), looked for every 400 ms
//! whoever writes it; what the engine decides goes the same way. A rehearsal has nobody to wait for: it
//! decides once the slice is settled, or at half the expiry, when those are left who only ever expire.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::EngineError;
use crate::campaign::contest::{RESULTS_MIN, VariantCounts, decide, shares};
use crate::campaign::decision::Decision;
use crate::campaign::manifest::{Manifest, Winner};
use crate::campaign::run::Run;
use crate::campaign::spool::Spool;
use crate::campaign::variants::Assignment;
use crate::journal::{ByVariant, Totals, Writer};
use crate::metrics::{Imbalance, VariantLine, VariantResults, WinnerLine};
use crate::pull::{Handle, Message};
use crate::retry::Schedule;

/// How often the winner is looked for: the rest goes within a second of the decision.
const LOOK: Duration = Duration::from_millis(400);

/// Who gets what in a run: by chance, and by its decision if there is one. `None` without variants.
///
/// # Errors
/// A decision that cannot be read.
pub fn assignment(run: &Run) -> Result<Option<Arc<Assignment>>, EngineError> {
    let Some(assignment) = Assignment::of(&run.manifest).map(Arc::new) else { return Ok(None) };
    if let Some(decision) = run.lasting_decision()? {
        assignment.decide(run.variant(&decision.variant)?);
    }
    Ok(Some(assignment))
}

/// What a test is decided with.
#[derive(Debug, Clone)]
pub(super) struct Contest {
    pub(super) run: Run,
    pub(super) assignment: Arc<Assignment>,
    pub(super) spool: Arc<Spool>,
    pub(super) writer: Arc<Writer>,
    pub(super) schedule: Arc<Schedule>,
    /// Nothing is sent before.
    pub(super) start_at: SystemTime,
}

impl Contest {
    /// Waits for the winner until told to stop, and passes it on.
    pub(super) async fn watch(self, scheduler: Handle, stop: CancellationToken) {
        if self.assignment.winner().is_some() {
            // Known from the start: nobody waits.
            return stop.cancelled().await;
        }
        let mut complained = false;
        loop {
            let contest = self.clone();
            match tokio::task::spawn_blocking(move || contest.look()).await {
                Ok(Ok(Some(decision))) => {
                    self.pass_on(&decision, &scheduler).await;
                    return stop.cancelled().await;
                }
                Ok(Err(error)) if !complained => {
                    complained = true;
                    tracing::warn!(%error, "the winner cannot be found out; looked at again");
                }
                _ => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// The decision there is, or the one that can be made now. Blocks.
    fn look(&self) -> Result<Option<Decision>, EngineError> {
        if let Some(decision) = self.run.lasting_decision()? {
            return Ok(Some(decision));
        }
        match self.decided_now().filter(|_| !self.run.is_cancelled()) {
            Some(decision) => Ok(Some(self.run.decide(decision)?)),
            None => Ok(None),
        }
    }

    async fn pass_on(&self, decision: &Decision, scheduler: &Handle) {
        // It was checked when it was read.
        let Ok(winner) = self.run.variant(&decision.variant) else { return };
        tracing::info!("{decision}");
        // Before anyone who waited is mailed or given up.
        self.schedule.start_anew(decision.at.into());
        self.assignment.decide(winner);
        let _ = self.writer.event(&decision.to_string()).await;
        scheduler.send(Message::Decided).await;
    }

    fn decided_now(&self) -> Option<Decision> {
        let test = self.run.manifest.test.as_ref()?;
        if self.run.is_rehearsal() {
            return self.is_settled_or_late().then(|| self.of_rehearsal());
        }
        if SystemTime::now() < self.start_at + test.after? {
            return None;
        }
        let (names, counts) = self.contenders();
        let best = decide(&counts, test.winner, RESULTS_MIN)?;
        let because = shares(&names, &counts, test.winner);
        Some(Decision { variant: names[best].to_owned(), at: Timestamp::now(), by: test.winner, because })
    }

    /// The first where a person would say, else the best by what was delivered.
    fn of_rehearsal(&self) -> Decision {
        let (names, counts) = self.contenders();
        let is_manual = self.run.manifest.test.as_ref().is_none_or(|test| test.winner == Winner::Manual);
        let by = if is_manual { Winner::Manual } else { Winner::Delivered };
        let best = decide(&counts, by, 0);
        let because = match best {
            None if is_manual => "a rehearsal waits for nobody and takes the first".to_owned(),
            None => {
                format!("none can be told ({}), and a rehearsal takes the first", shares(&names, &counts, by))
            }
            Some(_) => shares(&names, &counts, by),
        };
        let variant = names.get(best.unwrap_or(0)).copied().unwrap_or_default().to_owned();
        Decision { variant, at: Timestamp::now(), by, because }
    }

    /// Those whom chance gives anybody, in the manifest's order.
    fn contenders(&self) -> (Vec<&str>, Vec<VariantCounts>) {
        let by_variant = self.writer.counters().by_variant();
        let variants = self.run.manifest.variants.iter().enumerate();
        let with_weight = variants.filter(|(_, variant)| variant.weight > 0);
        with_weight.map(|(place, variant)| (&*variant.name, counts(&by_variant.of(place)))).unzip()
    }

    /// Whether nobody of the slice waits any more.
    pub(super) fn is_settled(&self) -> bool {
        let settled = self.writer.counters().totals().settled();
        self.spool.is_complete() && settled >= self.spool.totals().tested
    }

    fn is_settled_or_late(&self) -> bool {
        self.is_settled() || SystemTime::now() >= self.start_at + self.run.manifest.retry.expiry / 2
    }

    /// For what the rest waits; `None` once there is a winner.
    pub(super) fn waits(&self) -> Option<String> {
        if self.assignment.winner().is_some() || self.run.is_rehearsal() {
            return None;
        }
        let totals = self.spool.totals();
        let rest = totals.accepted - totals.tested;
        (rest > 0).then(|| format!("{rest} wait for the winner: {}", next(&self.run, self.start_at)))
    }
}

/// What has to happen for a run's test to have a winner.
pub fn next(run: &Run, start_at: SystemTime) -> String {
    let command = format!("`postroad winner {} NAME`", run.id);
    let Some(test) = &run.manifest.test else { return command };
    match test.after {
        None => command,
        Some(_) if !test.winner.is_counted() => {
            format!("by {} none can be told yet (nothing reports them); {command}", test.winner.name())
        }
        Some(after) if SystemTime::now() < start_at + after => {
            let at = super::written(start_at + after);
            format!("taken by {} at {at}, or {command}", test.winner.name())
        }
        Some(_) => format!(
            "by {} none can be told yet (each variant needs {RESULTS_MIN} results); {command}",
            test.winner.name()
        ),
    }
}

/// What is known of one variant; nobody has reported openings, clicks or complaints to a journal yet.
fn counts(totals: &Totals) -> VariantCounts {
    let Totals { delivered, bounced, expired, .. } = *totals;
    VariantCounts { delivered, bounced, expired, ..VariantCounts::default() }
}

/// A run's results by variant, of what the journal has counted. `None` without variants.
///
/// # Errors
/// More was counted by variant than in all.
pub fn results(
    manifest: &Manifest,
    all: &Totals,
    by_variant: &ByVariant,
    decision: Option<Decision>,
) -> Result<Option<VariantResults>, Imbalance> {
    if manifest.variants.is_empty() {
        return Ok(None);
    }
    let names = manifest.variants.iter().enumerate();
    let variants: Vec<VariantLine> =
        names.map(|(place, variant)| line(&variant.name, &by_variant.of(place))).collect();
    let winner = decision.map(|Decision { variant, at, by, because }| WinnerLine {
        variant,
        at: at.to_string(),
        by: by.name().to_owned(),
        because,
    });
    VariantResults::new(variants, &line("", all), winner).map(Some)
}

fn line(name: &str, totals: &Totals) -> VariantLine {
    VariantLine {
        name: name.to_owned(),
        recipients: totals.settled(),
        delivered: totals.delivered,
        bounced: totals.bounced,
        expired: totals.expired,
        cancelled: totals.cancelled,
        suppressed: totals.suppressed,
        invalid: totals.invalid,
        in_doubt: totals.in_doubt,
        deferrals: totals.deferrals,
    }
}
