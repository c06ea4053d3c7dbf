//! `postroad winner`: says which variant the rest of a run's recipients get, or how the variants have done.

use anyhow::bail;
use jiff::Timestamp;

use super::{Common, Exit, named_run, say, status, summary};
use crate::address::AddressRef;
use crate::campaign::decision::Decision;
use crate::campaign::manifest::Winner;
use crate::campaign::run::Run;
use crate::campaign::variants::Assignment;
use crate::engine::winner;
use crate::journal::{self, ByVariant, Line, Totals};
use crate::metrics::VariantResults;

/// Take the winner of a test: the recipients outside its slice get that variant; alone, the results so far
///
/// It holds for good, and works with or without an engine at work on the run.
#[derive(clap::Args)]
pub struct Arguments {
    /// The run's id [default: the newest]
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// The name of the variant that has won
    #[arg(value_name = "VARIANT")]
    variant: Option<String>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let run = named_run(&node, arguments.run.as_deref())?;
    match &arguments.variant {
        Some(variant) => take(common, &run, variant),
        None => show(common, &run),
    }
}

fn take(common: &Common, run: &Run, variant: &str) -> anyhow::Result<Exit> {
    if run.is_cancelled() {
        bail!("{} is cancelled: nobody of it waits for a winner", run.id);
    }
    if run.decision()?.is_none() && status::is_settled(run)? {
        bail!("everyone of {} is settled: nobody waits for a winner", run.id);
    }
    let because = "a person said so".to_owned();
    let asked = Decision { variant: variant.to_owned(), at: Timestamp::now(), by: Winner::Manual, because };
    let decision = run.decide(asked)?;
    if common.json {
        say(serde_json::json!({ "run": run.id, "winner": decision }))?;
    } else {
        let next = match run.is_locked() {
            true => "the engine at work lets the rest go within a second".to_owned(),
            false => format!("`postroad resume {}` sends it to the rest", run.id),
        };
        say(format_args!("{}: {decision}; {next}.", run.id))?;
    }
    Ok(Exit::Done)
}

fn show(common: &Common, run: &Run) -> anyhow::Result<Exit> {
    let Some(results) = results(run)? else { bail!("the campaign of {} has no variants", run.id) };
    if common.json {
        say(serde_json::json!({ "run": run.id, "variants": results }))?;
        return Ok(Exit::Done);
    }
    let mut text = format!("{}\n{}", run.id, summary::variants(&results));
    if let Some(waits) = undecided(run)? {
        text += &format!("  no winner yet: {waits}\n");
    }
    say(text.trim_end())?;
    Ok(Exit::Done)
}

/// What the journal has counted by variant; `None` without variants.
fn results(run: &Run) -> anyhow::Result<Option<VariantResults>> {
    let (mut all, mut by_variant) = (Totals::default(), ByVariant::default());
    for line in journal::read(&run.journal_folder())? {
        let Line::Attempt(record) = line? else { continue };
        all.count(record.disposition);
        by_variant.count(record.variant, record.disposition);
    }
    Ok(winner::results(&run.manifest, &all, &by_variant, run.decision()?)?)
}

/// What has to happen for a winner; `None` where there is one, or nobody waits for one.
pub(super) fn undecided(run: &Run) -> anyhow::Result<Option<String>> {
    // Where all are in the slice, nobody is outside it.
    let has_rest = run.manifest.test.as_ref().is_some_and(|test| test.share.of_one() < 1.0);
    let is_open = has_rest && !run.is_cancelled() && run.decision()?.is_none();
    Ok(is_open.then(|| winner::next(run, run.start_at.unwrap_or(run.created))))
}

/// What a recipient is sent, of several variants.
#[derive(Default)]
pub(super) struct Lot {
    pub(super) variant: Option<String>,
    /// There is none yet: what has to happen first.
    pub(super) waits: Option<String>,
}

impl Lot {
    pub(super) fn of(run: &Run, address: &AddressRef<'_>) -> anyhow::Result<Self> {
        let Some(assignment) = Assignment::of(&run.manifest) else { return Ok(Self::default()) };
        if let Some(decision) = run.decision()? {
            assignment.decide(run.variant(&decision.variant)?);
        }
        let given = assignment.given(address.key());
        let variant = given.map(|variant| run.manifest.variants[variant.place()].name.clone());
        let waits = if variant.is_none() { undecided(run)? } else { None };
        Ok(Self { variant, waits })
    }
}
