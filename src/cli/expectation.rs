//! What a rehearsal must come to, worked out before it and compared after it.
//!
//! The lists are walked with the import's own parser and selection; what becomes of each address is the world's to say.
//! Afterwards both sides are asked: the run's report for its counts, the world for each address whether
//! it was accepted, so that a message that was lost or doubled is seen even where the counts agree.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::address::AddressRef;
use crate::campaign::audience::{Audience, AudienceError};
use crate::campaign::list::Step;
use crate::campaign::manifest::Manifest;
use crate::campaign::row::Row;
use crate::campaign::selection::{Decision, Ledger};
use crate::metrics::{Report, Totals};
use crate::suppression::{Entries, Suppression};
use crate::world::{Fate, FateCounts, World};

/// Examples of each kind of difference that are named.
const EXAMPLES_MAX: usize = 3;

/// The counts a run must end with.
pub struct Expected {
    pub totals: Totals,
    /// By the world's providers; `-` are domains that nobody has.
    providers: BTreeMap<String, FateCounts>,
}

/// What was found by comparing.
pub struct Findings {
    /// Empty: everything came as expected.
    pub differences: Vec<String>,
    /// By the world's providers: addresses that were accepted, each counted once.
    accepted: BTreeMap<String, u64>,
    /// Worth knowing, and no difference.
    notes: Vec<String>,
}

impl Expected {
    /// # Errors
    /// The lists cannot be read.
    pub fn of(manifest: &Manifest, suppression: &Suppression, world: &World) -> Result<Self, AudienceError> {
        let mut totals = Totals::default();
        let mut providers: BTreeMap<String, FateCounts> = BTreeMap::new();
        walk(manifest, suppression, |row| {
            totals.rows += 1;
            match row {
                Decision::Invalid(_) => totals.invalid += 1,
                Decision::LeftOut(_) => totals.left_out += 1,
                Decision::Duplicate => totals.duplicate += 1,
                Decision::Suppressed(_) => totals.suppressed += 1,
                Decision::Accepted(address, _) => {
                    let fate = world.expect(address);
                    match fate {
                        Fate::Delivered => totals.delivered += 1,
                        Fate::Bounced => totals.bounced += 1,
                        Fate::Expired => totals.expired += 1,
                    }
                    providers.entry(provider_of(world, address)).or_default().add(fate);
                }
            }
        })?;
        Ok(Self { totals, providers })
    }

    /// Recipients that are sent to, however it ends.
    pub fn mailed(&self) -> u64 {
        self.totals.delivered + self.totals.bounced + self.totals.expired
    }

    /// The counts as a person reads them before the run.
    pub fn text(&self) -> String {
        let mut text = format!("expected of {} rows:", self.totals.rows);
        for (name, count) in self.totals.parts().into_iter().filter(|(_, count)| *count > 0) {
            let _ = write!(text, "  {name} {count}");
        }
        text + "\n"
    }

    /// Holds the run's report and the world's book against this.
    ///
    /// # Errors
    /// The lists cannot be read again.
    pub fn compare(
        &self,
        report: &Report,
        manifest: &Manifest,
        suppression: &Suppression,
        world: &World,
    ) -> Result<Findings, AudienceError> {
        let mut differences = Vec::new();
        for ((name, expected), (_, actual)) in self.totals.parts().into_iter().zip(report.totals.parts()) {
            if expected != actual {
                differences.push(format!("{name}: {expected} expected, {actual} counted"));
            }
        }
        if self.totals.rows != report.totals.rows {
            differences.push(format!("rows: {} expected, {} read", self.totals.rows, report.totals.rows));
        }
        let mut accepted: BTreeMap<String, u64> = BTreeMap::new();
        let (mut lost, mut escaped) = (Examples::default(), Examples::default());
        walk(manifest, suppression, |row| match row {
            Decision::Accepted(address, _) => {
                let taken = world.accepted(address) > 0;
                *accepted.entry(provider_of(world, address)).or_default() += u64::from(taken);
                if !taken && world.expect(address) == Fate::Delivered {
                    lost.add(address);
                }
            }
            Decision::Suppressed(address) if world.accepted(address) > 0 => escaped.add(address),
            _ => {}
        })?;
        differences.extend(lost.told("to be delivered, and never accepted by the world"));
        differences.extend(escaped.told("suppressed, and accepted by the world all the same"));
        let mut findings = Findings { differences, accepted, notes: Vec::new() };
        findings.ask(world);
        Ok(findings)
    }
}

impl Findings {
    /// What the world noticed by itself.
    fn ask(&mut self, world: &World) {
        let seen = world.counts();
        for repeat in
            seen.repeats.iter().filter(|repeat| repeat.times > repeat.unanswered + 1).take(EXAMPLES_MAX)
        {
            self.differences.push(format!(
                "{} has the message {} times, though only {} replies were held back",
                repeat.address, repeat.times, repeat.unanswered
            ));
        }
        for (count, what, examples) in [
            (seen.dkim.failed, "messages with a DKIM signature that does not verify", &seen.dkim.failures),
            (seen.misrouted, "recipients at a host that does not serve them", &seen.misrouted_examples),
            (seen.message_id_repeats, "messages with another's Message-ID", &seen.message_id_examples),
        ] {
            if count > 0 {
                let examples: Vec<&str> = examples.iter().take(EXAMPLES_MAX).map(String::as_str).collect();
                self.differences.push(format!("{count} {what}: {}", examples.join(", ")));
            }
        }
        self.notes.push(format!(
            "the world verified the DKIM signatures of {} messages; {} were not signed",
            seen.dkim.verified, seen.dkim.unsigned
        ));
        if seen.repeated > 0 {
            self.notes
                .push(format!("have it twice, as their first reply was lost (in doubt): {}", seen.repeated));
        }
        let breaches: u64 = seen.breaches.iter().map(|breach| breach.times).sum();
        if breaches > 0 {
            self.notes.push(format!("refused because a limit of the world was reached: {breaches}"));
        }
    }

    /// The table a person reads after the run.
    pub fn text(&self, expected: &Expected, report: &Report) -> String {
        let mut text = format!("\n  {:<28} {:>10} {:>10}\n", "rehearsal", "expected", "actual");
        for ((name, expected), (_, actual)) in expected.totals.parts().into_iter().zip(report.totals.parts())
        {
            if expected > 0 || actual > 0 {
                let _ = writeln!(text, "  {name:<28} {expected:>10} {actual:>10}{}", mark(expected, actual));
            }
        }
        let _ = writeln!(text, "\n  {:<28} {:>10} {:>10}", "delivered, by the world", "expected", "accepted");
        for (name, counts) in &expected.providers {
            let accepted = self.accepted.get(name).copied().unwrap_or(0);
            let name = if name == "-" { "(no such domain)" } else { name };
            // More were accepted than are delivered where every reply is held back.
            let mark = if accepted < counts.delivered { "  <" } else { "" };
            let _ = writeln!(text, "  {name:<28} {:>10} {accepted:>10}{mark}", counts.delivered);
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        for difference in &self.differences {
            let _ = writeln!(text, "  DIFFERENT: {difference}");
        }
        if self.differences.is_empty() {
            text.push_str("  every count as expected\n");
        }
        text
    }
}

fn mark(expected: u64, actual: u64) -> &'static str {
    if expected == actual { "" } else { "  <" }
}

fn provider_of(world: &World, address: &AddressRef<'_>) -> String {
    world.provider_of(address.domain()).unwrap_or("-").to_owned()
}

/// Gives `each` what the import will make of every row.
fn walk(
    manifest: &Manifest,
    suppression: &Suppression,
    mut each: impl FnMut(&Decision<'_>),
) -> Result<(), AudienceError> {
    let mut audience = Audience::open(manifest)?;
    let mut known = Known { suppressed: suppression.entries(), accepted: HashSet::new(), seeds: 0 };
    loop {
        let next = audience.advance(known.recipients(), known.seeds, Duration::from_secs(1))?;
        match audience.lists.step(next) {
            Step::Row(row) => {
                let Ok(decision) = audience.selection.decide(&row, &mut known);
                if matches!(decision, Decision::Accepted(..)) {
                    known.seeds += u64::from(audience.selection.is_seed(&row));
                }
                each(&decision);
            }
            Step::Waiting => {}
            Step::End => return Ok(()),
        }
    }
}

/// The rows before, in memory: 17 to 35 octets an accepted address.
struct Known {
    suppressed: Arc<Entries>,
    accepted: HashSet<u128>,
    seeds: u64,
}

impl Ledger for Known {
    type Error = Infallible;

    fn is_suppressed(&mut self, address: &AddressRef<'_>) -> bool {
        self.suppressed.covers(address.key(), address.domain()).is_some()
    }

    fn holds(&mut self, address: &AddressRef<'_>) -> Result<bool, Infallible> {
        Ok(self.accepted.contains(&address.key()))
    }

    fn add(&mut self, _: &Row<'_>, address: &AddressRef<'_>) -> Result<bool, Infallible> {
        Ok(self.accepted.insert(address.key()))
    }

    fn recipients(&self) -> u64 {
        self.accepted.len() as u64 - self.seeds
    }
}

/// A count, and the first few of what was counted.
#[derive(Default)]
struct Examples {
    count: u64,
    first: Vec<String>,
}

impl Examples {
    fn add(&mut self, address: &AddressRef<'_>) {
        self.count += 1;
        if self.first.len() < EXAMPLES_MAX {
            self.first.push(address.to_string());
        }
    }

    fn told(&self, what: &str) -> Option<String> {
        (self.count > 0).then(|| format!("{} {what}: {}", self.count, self.first.join(", ")))
    }
}
