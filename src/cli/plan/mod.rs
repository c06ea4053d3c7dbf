//! `postroad plan`: when a campaign would be through, and what holds it up; nothing is sent.
//!
//! The list is read as a run would read it, its domains are looked up, and the limits, warm-up accounts and
//! what policy remembers of each provider go into [`crate::plan`]. With `--rehearsal` all of it is as
//! `postroad rehearse` will have it: a world answers, whose time is quick.

mod gather;
mod people;
mod shares;
mod show;
mod sources;
mod standing;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::rehearse::{self, Surroundings};
use super::{Common, Exit, say, time, warn};
use crate::campaign::draft::Draft;
use crate::campaign::manifest::Manifest;
use crate::config::policy::Share;
use crate::config::units::{Rate, parse_duration};
use crate::config::{Node, fault};
use crate::plan::{Answer, Provider, Source, plan};
use crate::policy::warmup::Warmup;
use crate::policy::{Tempo, ledger, store};
use crate::suppression::Suppression;
use crate::{config, engine};
pub(super) use gather::Gathered;
use gather::{Described, Subject, Undecided, gather};
pub(super) use show::span;
use standing::Standing;

/// To servers across an ocean and back, as most of a list's are for somebody.
const ROUND_TRIP: &str = "100ms";
/// What well-kept lists see of greylisting and full servers (estimate).
const DEFERRED: &str = "2%";
/// A message of some kilobytes, signed with RSA and sent over TLS, takes a core a third of a millisecond.
const MACHINE: &str = "2000/s";
/// Of a rehearsal's world and ours, on one machine, besides what the world delays.
const LOOPBACK: Duration = Duration::from_millis(2);

/// Say when a campaign would be through and what holds it up; nothing is sent
#[derive(clap::Args)]
pub struct Arguments {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN")]
    campaign: PathBuf,
    /// When it would start: 2026-11-23T09:00:00Z or "2026-11-23 09:00 Europe/Berlin" [default: now]
    #[arg(long, value_name = "TIME WITH ZONE", value_parser = time::parse)]
    at: Option<SystemTime>,
    /// From here to a server and back
    #[arg(long, value_name = "TIME", default_value = ROUND_TRIP, value_parser = parse_duration)]
    round_trip: Duration,
    /// Attempts that end in a deferral
    #[arg(long, value_name = "SHARE", default_value = DEFERRED)]
    deferred: Share,
    /// Messages that this machine can make and send
    #[arg(long, value_name = "RATE", default_value = MACHINE)]
    machine: Rate,
    /// As `postroad rehearse` would take; starts its world for the look-ups
    #[arg(long)]
    rehearsal: bool,
    /// Another world than the campaign's `world.toml`, or the shipped one
    #[arg(long, value_name = "FILE", requires = "rehearsal")]
    world: Option<PathBuf>,
}

/// What nobody can know beforehand.
#[derive(Debug, Clone)]
pub(super) struct Assumed {
    round_trip: Duration,
    /// Messages a second.
    machine: f64,
    deferrals: Deferrals,
}

/// How often recipients are told to come again.
#[derive(Debug, Clone, Copy)]
enum Deferrals {
    /// So many of each attempt, from 0 to 1.
    Share(f64),
    /// A world says so of each address.
    AsAnswered,
}

impl Assumed {
    /// In a rehearsal: the world is asked, and the machine makes so many a second.
    pub(super) fn of_rehearsal(machine: f64) -> Self {
        Self { round_trip: LOOPBACK, machine, deferrals: Deferrals::AsAnswered }
    }
}

/// A plan and what it is about.
pub(super) struct Planned {
    start: SystemTime,
    answer: Answer,
    recipients: u64,
    domains: usize,
    described: Vec<Described>,
    providers: Vec<Provider>,
    sources: Vec<Source>,
    campaign: Vec<Rate>,
    nowhere: (usize, u64),
    unreachable: (usize, u64),
    expiry: Duration,
    undecided: Option<Undecided>,
    assumed: Assumed,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let manifest = Manifest::open(&arguments.campaign)?;
    known_pool(&node, &manifest)?;
    let planned = match arguments.rehearsal {
        true => of_rehearsal(node, manifest.clone(), arguments)?,
        false => of_run(&node, &manifest, arguments)?,
    };
    if common.json {
        say(serde_json::json!({ "plan": planned.json(&manifest.name) }))?;
    } else {
        say(planned.text(&manifest.name).trim_end())?;
    }
    Ok(Exit::Done)
}

/// # Errors
/// The manifest names a pool that the settings do not have.
pub(super) fn known_pool(node: &Node, manifest: &Manifest) -> anyhow::Result<()> {
    let pool = manifest.pool.as_deref().unwrap_or(config::DEFAULT);
    if !node.pools.contains_key(pool) {
        let known: Vec<&str> = node.pools.keys().map(String::as_str).collect();
        anyhow::bail!(
            "the manifest wants the pool `{pool}`, which the settings do not have; {}",
            fault::suggestion(pool, &known)
        );
    }
    Ok(())
}

fn of_run(node: &Node, manifest: &Manifest, arguments: &Arguments) -> anyhow::Result<Planned> {
    let mut warnings = Vec::new();
    let suppression = engine::open_suppression(node, manifest, &mut warnings)?;
    warnings.iter().for_each(warn);
    let draft = people::draft(&node.state, manifest, &suppression)?;
    let seconds = arguments.machine.per.as_secs_f64() / f64::from(arguments.machine.count);
    let assumed = Assumed {
        round_trip: arguments.round_trip,
        machine: 1.0 / seconds,
        deferrals: Deferrals::Share(arguments.deferred.fraction()),
    };
    let start = arguments.at.unwrap_or_else(SystemTime::now);
    let subject = Subject {
        node,
        manifest,
        draft: &draft,
        warmup: ledger::read(&node.state, node)?,
        standing: Standing::new(store::read(&node.state)?),
        assumed: &assumed,
        world: None,
    };
    let gathered = gather(subject, start)?;
    Ok(gathered.planned(start, assumed))
}

fn of_rehearsal(node: Node, mut manifest: Manifest, arguments: &Arguments) -> anyhow::Result<Planned> {
    let state = node.state.join("rehearsals");
    let scout = rehearse::start_world(&arguments.campaign, arguments.world.as_deref(), Default::default())?;
    let suppression = Suppression::load(&manifest.suppression)?;
    let draft = people::draft(&state, &manifest, &suppression)?;
    rehearse::hasten(&mut manifest, scout.time_factor(), draft.totals.accepted);
    let assumed = rehearse::assumed();
    let node = Surroundings { world: &scout, state }.around(node);
    let gathered = rehearsed(&node, &manifest, &draft, &scout, &assumed)?;
    Ok(gathered.planned(arguments.at.unwrap_or_else(SystemTime::now), assumed))
}

/// What a rehearsal is about: `node` and `manifest` are its own, `scout` a world like the one it will have,
/// so that questions to its DNS are not missed later.
pub(super) fn rehearsed(
    node: &Node,
    manifest: &Manifest,
    draft: &Draft,
    scout: &crate::world::World,
    assumed: &Assumed,
) -> anyhow::Result<Gathered> {
    let mut node = node.clone();
    node.dns.servers = vec![scout.dns_server()];
    // As a run finds it: whatever is learned of a simulated internet is forgotten.
    let warmup = Warmup::new(&node, Tempo(scout.time_factor()), Vec::new());
    let (standing, world) = (Standing::default(), Some(scout));
    gather(Subject { node: &node, manifest, draft, warmup, standing, assumed, world }, SystemTime::now())
}

impl Gathered {
    /// Works out the plan for a start at that moment.
    pub(super) fn planned(mut self, start: SystemTime, assumed: Assumed) -> Planned {
        self.question.start = start;
        let (sources, providers) = (self.question.sources.clone(), self.question.providers.clone());
        let (campaign, expiry) = (self.question.campaign.clone(), self.question.expiry);
        Planned {
            start,
            answer: plan(self.question),
            recipients: self.recipients,
            domains: self.domains,
            described: self.providers,
            providers,
            sources,
            campaign,
            nowhere: self.nowhere,
            unreachable: self.unreachable,
            expiry,
            undecided: self.undecided,
            assumed,
        }
    }
}

impl Planned {
    /// From the start until the last recipient is settled.
    pub(super) fn duration(&self) -> Duration {
        self.answer.ended
    }
}
