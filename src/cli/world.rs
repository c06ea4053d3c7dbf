//! `postroad world`: a world by itself, for an engine in another process.
//!
//! Prints where it is and how to point a node at it, runs until Ctrl-C, then prints what it saw.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::address::Address;
use crate::world::{self, Counts, Options, World, WorldFile};

/// Arguments of `postroad world`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The world's file [default: the world that ships]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Port of the DNS server and of all SMTP servers; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Another chance than the world's
    #[arg(long)]
    pub seed: Option<u64>,
    /// Write accepted mail to a maildir
    #[arg(long, value_name = "FOLDER")]
    pub maildir: Option<PathBuf>,
    /// Write the certificate of the world's authority here (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// A CSV list whose fate is printed before, and compared after
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// Print a list of so many people of this world as CSV, and end
    #[arg(long, value_name = "COUNT")]
    pub sample: Option<usize>,
    /// For machines: JSON lines on the standard output
    #[arg(long)]
    pub json: bool,
}

/// Runs a world until Ctrl-C; the exit code is 1 when a list was given and did not come as expected.
///
/// # Errors
/// The file, the list or an address is wrong, or output fails.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file = match &args.file {
        Some(path) => World::load(path)?,
        None => WorldFile::parse("world.toml", world::default_world())?,
    };
    let maildir = args.maildir.clone();
    let options = Options { port: args.port, seed: args.seed, maildir, ..Options::default() };
    let world = World::start(&file, options)?;
    if let Some(count) = args.sample {
        print_sample(&world, count)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &args.ca_file {
        std::fs::write(path, world.ca_pem()).with_context(|| path.display().to_string())?;
    }
    let list = args.list.as_deref().map(read_list).transpose()?;
    announce(&args, &world, list.as_deref())?;
    tokio::signal::ctrl_c().await.context("Ctrl-C cannot be waited for")?;
    let audit = list.map(|list| world.audit(list.iter().map(Address::as_ref)));
    let counts = world.stop();
    let clean = audit.as_ref().is_none_or(world::Audit::is_clean);
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::json!({ "counts": counts, "audit": audit }))?;
    } else {
        print_counts(&mut out, &counts)?;
        if let Some(audit) = &audit {
            let (missing, unexpected) = (audit.missing, audit.unexpected);
            writeln!(out, "list: {missing} missing, {unexpected} unexpected, {} too often", audit.repeated)?;
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn announce(args: &Args, world: &World, list: Option<&[Address]>) -> anyhow::Result<()> {
    let mut expected = world::Expectation::default();
    for address in list.unwrap_or_default() {
        world.expect_into(&address.as_ref(), &mut expected);
    }
    let mut out = std::io::stdout().lock();
    let (dns, port) = (world.dns_server(), world.smtp_port());
    if args.json {
        let start = serde_json::json!({
            "dns": dns, "smtp_port": port, "time_factor": world.time_factor(), "seed": world.seed(),
            "expected": list.map(|_| &expected),
        });
        writeln!(out, "{start}")?;
        return Ok(out.flush()?);
    }
    writeln!(out, "The world is up: DNS at {dns}, SMTP on port {port}, seed {}.", world.seed())?;
    writeln!(out, "One second here is {} s of the world's. In postroad.toml:\n", world.time_factor())?;
    writeln!(out, "    smtp_port = {port}")?;
    if let Some(path) = &args.ca_file {
        writeln!(out, "    tls_ca_file = {:?}", path.display().to_string())?;
    }
    writeln!(out, "    [dns]\n    servers = [\"{dns}\"]\n")?;
    if list.is_some() {
        let total = expected.total;
        writeln!(out, "{:<20} {:>10} {:>10} {:>10}", "expected", "delivered", "bounced", "expired")?;
        for (name, counts) in expected.providers.iter().chain([(&"all".to_owned(), &total)]) {
            let (delivered, bounced, expired) = (counts.delivered, counts.bounced, counts.expired);
            writeln!(out, "{name:<20} {delivered:>10} {bounced:>10} {expired:>10}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "Ctrl-C ends it and prints what it saw.")?;
    Ok(out.flush()?)
}

fn print_counts(out: &mut impl Write, counts: &Counts) -> std::io::Result<()> {
    writeln!(
        out,
        "{:<20} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "provider", "accepted", "sessions", "TLS", "grey", "4yz", "5yz", "broken"
    )?;
    for p in counts.providers.iter().filter(|provider| provider.connections > 0) {
        let (temporary, permanent) = (p.temporary, p.permanent);
        writeln!(
            out,
            "{:<20} {:>9} {:>9} {:>7} {:>7} {temporary:>7} {permanent:>7} {:>7}",
            p.name, p.accepted, p.connections, p.tls_connections, p.greylisted, p.broken
        )?;
    }
    writeln!(
        out,
        "accepted {} for {} addresses; {} more than once, {} left unanswered; {} DNS queries",
        counts.accepted, counts.addresses, counts.repeated, counts.accepted_unanswered, counts.dns_queries
    )?;
    let dkim = &counts.dkim;
    writeln!(
        out,
        "signatures checked: {} good, {} bad, {} unsigned; Message-IDs used twice: {}; out of turn: {}; \
         misrouted: {}",
        dkim.verified,
        dkim.failed,
        dkim.unsigned,
        counts.message_id_repeats,
        counts.violations,
        counts.misrouted
    )?;
    for failure in dkim.failures.iter().chain(&counts.violation_examples).take(10) {
        writeln!(out, "  {failure}")?;
    }
    for breach in &counts.breaches {
        writeln!(out, "  {} from {}: {:?} × {}", breach.provider, breach.source, breach.limit, breach.times)?;
    }
    Ok(())
}

fn print_sample(world: &World, count: usize) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    writer.write_record(["email", "first_name", "last_name"])?;
    for person in world.sample(count) {
        writer.write_record([person.email.as_str(), person.first_name, person.last_name])?;
    }
    Ok(writer.flush()?)
}

/// The different good addresses of the column `email`, or of the first one.
fn read_list(path: &Path) -> anyhow::Result<Vec<Address>> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(path)
        .with_context(|| path.display().to_string())?;
    let headers = reader.headers().with_context(|| path.display().to_string())?;
    let column = headers.iter().position(|name| name.trim().eq_ignore_ascii_case("email")).unwrap_or(0);
    let mut seen = std::collections::HashSet::new();
    let mut list = Vec::new();
    for record in reader.records() {
        let record = record.with_context(|| path.display().to_string())?;
        let address = record.get(column).and_then(|text| Address::parse(text).ok());
        list.extend(address.filter(|address| seen.insert(address.as_ref().key())));
    }
    Ok(list)
}
