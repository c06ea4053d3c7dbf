//! `postroad rehearse`: the whole road against a simulated internet, held to what that computed before.
//!
//! The campaign, the list and the settings are the real ones; changed are only the surroundings: names
//! are looked up in the world, nothing but the world's addresses can be connected to, sources bind
//! loopback addresses, missing DKIM keys are made, and time passes as many times as fast as the world
//! says: retry schedule and rates alike.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};

use super::expectation::Expected;
use super::plan::{self, Assumed, Gathered, span};
use super::progress::Manner;
use super::{Common, Exit, campaign, dkim, drive, look_at_keys, say, warn};
use crate::campaign::draft::Draft;
use crate::campaign::manifest::{DkimKey, Manifest};
use crate::campaign::run::Run;
use crate::config::Node;
use crate::engine::{Options, signers};
use crate::message::dkim::{KeyKind, generate};
use crate::policy::Tempo;
use crate::smtp::Reach;
use crate::suppression::Suppression;
use crate::world::{self, World, WorldFile};

/// Servers on loopback answer at once or never: no rehearsal waits longer for those that never do.
const DNS_TIMEOUT_MAX: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Messages a second that this program surely makes; a build for debugging has a world as slow as itself.
const PACE_SURE: f64 = if cfg!(debug_assertions) { 250.0 } else { 1_000.0 };

/// Rehearse a campaign against a simulated internet; nothing leaves this machine
#[derive(clap::Args)]
pub struct Arguments {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN")]
    campaign: PathBuf,
    /// Another world than the campaign's `world.toml`, or the shipped one
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Another chance than the world's
    #[arg(long)]
    seed: Option<u64>,
    /// Write what the world accepts to a maildir
    #[arg(long, value_name = "FOLDER")]
    maildir: Option<PathBuf>,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let manner = Manner::choose(common.json);
    let node = common.node()?;
    let state = node.state.join("rehearsals");
    let mut manifest = campaign(&arguments.campaign, &node)?;
    plan::known_pool(&node, &manifest)?;
    let world = arguments.start_world(arguments.maildir.clone())?;
    let made = make_missing_keys(&mut manifest, &state)?;
    publish_keys(&world, &manifest)?;
    look_at_keys(&manifest, &node, SystemTime::now())?;
    keep_stdin(&mut manifest, &state)?;
    let suppression = Suppression::load(&manifest.suppression)?;
    let expected = Expected::of(&manifest, &suppression, &world)?;
    hasten(&mut manifest, world.time_factor(), expected.mailed());
    let mut node = Surroundings { world: &world, state: state.clone() }.around(node);
    let foreseen = arguments.foresee(&node, &manifest, &suppression)?;
    let run = Run::create(&state, manifest, None)?;
    run.mark_rehearsal()?;
    let authority = run.folder.join("world-ca.pem");
    fs::write(&authority, world.ca_pem()).with_context(|| format!("cannot write {}", authority.display()))?;
    node.tls_ca_file = Some(authority);
    announce(manner, &run, &world, &made, &expected)?;
    let planned = foreseen.planned(SystemTime::now(), assumed());
    if manner != Manner::Json {
        warn(format_args!("planned: {}", planned.head()));
    }

    let addresses = world.smtp_addresses().into_iter().chain([world.dns_server()]).collect();
    let tempo = Tempo(world.time_factor());
    let options = Options { reach: Reach::World(Arc::new(addresses)), tempo };
    let report = drive::to_report(node, run.clone(), options, manner)?;
    let exit = drive::concluded(&report, manner, "rehearse again; a rehearsal is not resumed")?;
    if exit != Exit::Done {
        return Ok(exit);
    }
    let findings = expected.compare(&report, &run.manifest, &suppression, &world)?;
    let seen = world.stop();
    let (planned_for, measured) = (planned.duration(), report.duration());
    if manner == Manner::Json {
        let differences = &findings.differences;
        say(serde_json::json!({ "rehearsal": {
            "as_expected": differences.is_empty(), "differences": differences,
            "seconds": { "planned": planned_for.as_secs_f64(), "measured": measured.as_secs_f64() },
            "plan": planned.json(&run.manifest.name),
            "expected": expected.totals, "report": report, "world": seen,
        }}))?;
    } else {
        say(format_args!(
            "{}  planned {}, took {}\n  the run's folder: {}",
            findings.text(&expected, &report),
            span(planned_for),
            span(measured),
            run.folder.display()
        ))?;
    }
    Ok(if findings.differences.is_empty() { Exit::Done } else { Exit::Differs })
}

impl Arguments {
    fn start_world(&self, maildir: Option<PathBuf>) -> anyhow::Result<World> {
        let options = world::Options { seed: self.seed, maildir, ..world::Options::default() };
        start_world(&self.campaign, self.world.as_deref(), options)
    }

    /// What the plan of this rehearsal is about. A world of its own answers the look-ups: some of what a
    /// world's DNS does, it does to the first who ask.
    fn foresee(
        &self,
        node: &Node,
        manifest: &Manifest,
        suppression: &Suppression,
    ) -> anyhow::Result<Gathered> {
        let scout = self.start_world(None)?;
        let draft = Draft::read(&node.state, manifest, suppression)?;
        plan::rehearsed(node, manifest, &draft, &scout, &assumed())
    }
}

/// What a rehearsal's plan assumes: the machine is likely to make far more than it surely does.
pub(super) fn assumed() -> Assumed {
    Assumed::of_rehearsal(4.0 * PACE_SURE)
}

/// The world that was named, the campaign's own, or the shipped one.
pub(super) fn start_world(
    campaign: &Path,
    named: Option<&Path>,
    options: world::Options,
) -> anyhow::Result<World> {
    let own = campaign.join("world.toml");
    let file = match named.or_else(|| own.exists().then_some(own.as_path())) {
        Some(path) => World::load(path)?,
        None => WorldFile::parse("the shipped world", world::default_world())?,
    };
    Ok(World::start(&file, options)?)
}

/// Lets the campaign's time pass `factor` times as fast. Days pass in seconds then, and the machine is as
/// fast as ever: a long list must not expire for that.
pub(super) fn hasten(manifest: &mut Manifest, factor: f64, mailed: u64) {
    manifest.scale_time(factor);
    let sending = Duration::from_secs_f64(5.0 + mailed as f64 / PACE_SURE);
    manifest.retry.expiry = manifest.retry.expiry.max(sending);
}

fn announce(
    manner: Manner,
    run: &Run,
    world: &World,
    made: &[String],
    expected: &Expected,
) -> anyhow::Result<()> {
    if manner == Manner::Json {
        return say(serde_json::json!({ "run": run.id, "seed": world.seed(), "expected": expected.totals }));
    }
    warn(&run.id);
    let (seed, factor) = (world.seed(), world.time_factor());
    warn(format_args!(
        "a rehearsal: nothing leaves this machine. Seed {seed}; a second stands for {factor} of the world's"
    ));
    if run.manifest.test.is_some() {
        warn("of the test the winner is taken as soon as the slice is settled: a rehearsal waits for nobody");
    }
    for key in made {
        warn(format_args!("a throw-away key signs as {key}: there is no key file for it"));
    }
    warn(expected.text().trim_end_matches('\n'));
    Ok(())
}

/// What a rehearsal has around it.
pub(super) struct Surroundings<'a> {
    pub world: &'a World,
    pub state: PathBuf,
}

impl Surroundings<'_> {
    /// The settings with loopback around them; whose certificates are trusted is for the caller to add.
    pub(super) fn around(self, mut node: Node) -> Node {
        let world = self.world;
        node.state = self.state;
        node.smtp_port = world.smtp_port();
        let factor = world.time_factor();
        let quick = |time: Duration| time.div_f64(factor.max(1.0));
        node.dns.servers = vec![world.dns_server()];
        node.dns.timeout = node.dns.timeout.min(DNS_TIMEOUT_MAX);
        node.dns.ttl_min = quick(node.dns.ttl_min);
        node.dns.negative_ttl = quick(node.dns.negative_ttl);
        for (number, source) in (1..=250u8).cycle().zip(node.sources.values_mut()) {
            source.ipv4 = Some(Ipv4Addr::new(127, 30, 0, number));
            source.ipv6 = None;
            // A world has exchanges only; whatever a source goes through is outside it.
            source.socks5 = None;
            source.proxy_protocol = None;
            source.relay = None;
        }
        // Nobody is there to resume, and what ends early cannot be compared: breakers warn and slow down only.
        let breakers = &mut node.breakers;
        for windows in [&mut breakers.hard_bounce, &mut breakers.complaint, &mut breakers.deferral] {
            (windows.short.pause, windows.long.pause) = (None, None);
        }
        node.shaping.quicken(factor, CONNECT_TIMEOUT_MAX);
        node.shaping.add_test_twins();
        // What is read again would be neither quick nor of this world.
        node.file = None;
        node
    }
}

/// Gives each DKIM key that is not there a throw-away one; which those are.
fn make_missing_keys(manifest: &mut Manifest, state: &Path) -> anyhow::Result<Vec<String>> {
    let mut made = Vec::new();
    for key in manifest.dkim.iter_mut().filter(|key| !key.is_present()) {
        let file = dkim::default_file(state, &key.selector, &key.domain);
        if !file.exists() {
            dkim::write_key(&file, &generate(throw_away_kind(key)).context("cannot make a key")?)?;
        }
        made.push(key.name());
        key.key_file = Some(std::path::absolute(&file)?);
        key.key_env = None;
    }
    Ok(made)
}

/// Ed25519 where the selector says so by beginning with `ed`, else RSA.
fn throw_away_kind(key: &DkimKey) -> KeyKind {
    if key.selector.starts_with("ed") { KeyKind::Ed25519 } else { KeyKind::Rsa2048 }
}

fn publish_keys(world: &World, manifest: &Manifest) -> anyhow::Result<()> {
    for key in &manifest.dkim {
        let signer = signers::read(key)?;
        world.publish_txt(&signer.name(), &signer.public_record());
    }
    Ok(())
}

/// A list that comes by pipe is read three times in a rehearsal, so it is kept.
fn keep_stdin(manifest: &mut Manifest, state: &Path) -> anyhow::Result<()> {
    let Some(list) = manifest.lists.iter_mut().find(|list| list.is_stdin()) else { return Ok(()) };
    fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
    let file = state.join(format!("list-{}", std::process::id()));
    let mut kept = fs::File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
    if std::io::copy(&mut std::io::stdin().lock(), &mut kept)? == 0 {
        bail!("no list came through the standard input");
    }
    list.file = std::path::absolute(&file)?;
    Ok(())
}
