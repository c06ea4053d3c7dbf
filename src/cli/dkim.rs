//! `postroad dkim`: keys that sign, made and kept, and the records that publish them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Common, Exit, campaign, say, warn};
use crate::address::Domain;
use crate::config::DkimKey;
use crate::config::dkim::{record_name, selector_mistake};
use crate::engine::signers;
use crate::message::Signer;
use crate::message::dkim::{KeyKind, generate, zone_line};

const ROTATION: &str = "\
To replace a key: make one under another selector, publish its record, and add its [[dkim]] with `since`, a day
or two ahead; runs that start from that day on are signed by it. Leave the old record up for a week after that,
for mail that is still under way.";

/// Make DKIM keys, and print the records that publish them
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Keygen(Keygen),
    Record(Record),
}

/// Make a key, and print its record and its stanza for a manifest
#[derive(clap::Args)]
struct Keygen {
    /// The domain that signs: of `From:`, or above it
    #[arg(long, value_parser = domain)]
    domain: Domain,
    /// Names this key among the domain's, like s2026
    #[arg(long)]
    selector: String,
    #[arg(long, value_enum, default_value_t = Algorithm::Rsa)]
    algorithm: Algorithm,
    /// Of an RSA key: 2048, 3072 or 4096 [default: 2048]
    #[arg(long)]
    bits: Option<u16>,
    /// Where the key is written [default: keys/dkim/SELECTOR._domainkey.DOMAIN.pem in the state folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Algorithm {
    Rsa,
    Ed25519,
}

/// Print the records of the keys that sign a campaign, or of one key
#[derive(clap::Args)]
struct Record {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN", required_unless_present = "key", conflicts_with = "key")]
    campaign: Option<PathBuf>,
    /// The keys of a run that starts on this day (UTC), like 2026-12-01 [default: today]
    #[arg(long, value_name = "DAY", conflicts_with = "key")]
    on: Option<Date>,
    /// A private key, PEM
    #[arg(long, value_name = "FILE", requires = "domain", requires = "selector")]
    key: Option<PathBuf>,
    #[arg(long, requires = "key", value_parser = domain)]
    domain: Option<Domain>,
    #[arg(long, requires = "key")]
    selector: Option<String>,
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| error.to_string())
}

/// What is published of a key.
#[derive(serde::Serialize)]
struct Published {
    domain: String,
    selector: String,
    algorithm: &'static str,
    rsa_bits: Option<usize>,
    name: String,
    value: String,
    /// The same, as a line of a zone file.
    zone_line: String,
    /// It signs from then on, and not yet.
    signs_from: Option<Date>,
}

impl Published {
    fn of(signer: &Signer, signs_from: Option<Date>) -> Self {
        let (name, value) = (signer.name(), signer.public_record());
        Self {
            domain: signer.domain().to_string(),
            selector: signer.selector().to_owned(),
            algorithm: signer.algorithm().name(),
            rsa_bits: signer.rsa_bits(),
            zone_line: zone_line(&name, &value),
            name,
            value,
            signs_from,
        }
    }

    fn text(&self) -> String {
        let Self { name, value, zone_line, .. } = self;
        format!(
            "As a line of a zone file:\n\n{zone_line}\n\nOr in a form, name and value of a TXT record:\n\n\
             {name}\n{value}\n"
        )
    }
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    match &arguments.command {
        Command::Keygen(arguments) => keygen(common, arguments),
        Command::Record(arguments) => record(common, arguments),
    }
}

fn keygen(common: &Common, arguments: &Keygen) -> anyhow::Result<Exit> {
    let Keygen { domain, selector, .. } = arguments;
    if let Some(what) = selector_mistake(selector, domain) {
        bail!("{what}; use labels of 1 to 63 letters, digits and -, like s2026");
    }
    let kind = kind(arguments)?;
    let file = match &arguments.out {
        Some(file) => file.clone(),
        None => default_file(&common.node()?.state, selector, domain),
    };
    // Before the time it takes to make a key.
    if file.exists() {
        bail!("{}", is_taken(&file));
    }
    let pem = generate(kind).context("the system gives no random numbers")?;
    let signer = Signer::from_pem(domain.clone(), selector, &pem).context("the key that was made")?;
    write_key(&file, &pem)?;
    let published = Published::of(&signer, None);
    let file = std::path::absolute(&file)?;
    let stanza = stanza(domain, selector, &file)?;
    if common.json {
        let mut line = serde_json::to_value(&published)?;
        line["key_file"] = file.display().to_string().into();
        line["stanza"] = stanza.into();
        say(line)?;
    } else {
        say(format_args!(
            "The key is in {}, for its owner only.\n\n{}\nAnd in campaign.toml, or in postroad.toml for every \
             campaign from {domain}:\n\n{stanza}\n{ROTATION}",
            file.display(),
            published.text(),
        ))?;
    }
    Ok(Exit::Done)
}

fn kind(arguments: &Keygen) -> anyhow::Result<KeyKind> {
    match (arguments.algorithm, arguments.bits) {
        (Algorithm::Rsa, None | Some(2048)) => Ok(KeyKind::Rsa2048),
        (Algorithm::Rsa, Some(3072)) => Ok(KeyKind::Rsa3072),
        (Algorithm::Rsa, Some(4096)) => Ok(KeyKind::Rsa4096),
        (Algorithm::Rsa, Some(bits)) => bail!("no RSA key of {bits} bits is made; say 2048, 3072 or 4096"),
        (Algorithm::Ed25519, None) => Ok(KeyKind::Ed25519),
        (Algorithm::Ed25519, Some(_)) => bail!("--bits is of RSA keys; those of Ed25519 are all alike"),
    }
}

/// The manifest's stanza of a key.
fn stanza(domain: &Domain, selector: &str, file: &Path) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Stanza {
        dkim: [DkimKey; 1],
    }
    let key = DkimKey {
        domain: domain.clone(),
        selector: selector.to_owned(),
        key_file: Some(file.to_owned()),
        key_env: None,
        since: None,
    };
    toml::to_string(&Stanza { dkim: [key] }).with_context(|| format!("the path {}", file.display()))
}

fn record(common: &Common, arguments: &Record) -> anyhow::Result<Exit> {
    let published = match (&arguments.campaign, &arguments.key, &arguments.domain, &arguments.selector) {
        (Some(folder), ..) => of_campaign(common, folder, arguments.on)?,
        (None, Some(file), Some(domain), Some(selector)) => {
            let pem = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let signer = Signer::from_pem(domain.clone(), selector, &pem)
                .with_context(|| format!("the key {}", file.display()))?;
            vec![Published::of(&signer, None)]
        }
        _ => bail!("name a campaign, or a key by --key, --domain and --selector"),
    };
    for published in &published {
        if common.json {
            say(serde_json::to_string(published)?)?;
            continue;
        }
        let mut text = String::new();
        let Published { selector, domain, algorithm, .. } = published;
        match published.signs_from {
            Some(day) => writeln!(text, "{selector} of {domain} ({algorithm}) signs from {day} on:")?,
            None => writeln!(text, "{selector} of {domain} ({algorithm}):")?,
        }
        say(format_args!("{text}\n{}", published.text()))?;
    }
    if !common.json && arguments.campaign.is_some() {
        say(ROTATION)?;
    }
    Ok(Exit::Done)
}

/// Of the keys that sign a run of the campaign on that day, and of those whose turn comes later.
fn of_campaign(common: &Common, folder: &Path, on: Option<Date>) -> anyhow::Result<Vec<Published>> {
    let node = common.node()?;
    let manifest = campaign(folder, &node)?;
    let date = match on {
        Some(day) => SystemTime::from(day.to_zoned(TimeZone::UTC)?.timestamp()),
        None => SystemTime::now(),
    };
    if manifest.dkim.is_empty() {
        bail!(
            "no key signs this campaign: its manifest has no [[dkim]], and the settings have none for {}; \
             `postroad dkim keygen` makes one",
            manifest.from_address().domain()
        );
    }
    let signing = signers::of(&manifest, &node, date)?;
    let mut published: Vec<Published> = signing.iter().map(|signer| Published::of(signer, None)).collect();
    for key in manifest.dkim.iter().filter(|key| signers::is_to_come(key, date)) {
        if !key.is_present() {
            warn(format_args!("{} is not there yet: its day has not come", key.name()));
            continue;
        }
        published.push(Published::of(&signers::read(key)?, key.since));
    }
    Ok(published)
}

/// Where a key is kept if nothing else is said.
pub(super) fn default_file(state: &Path, selector: &str, domain: &Domain) -> PathBuf {
    state.join("keys/dkim").join(record_name(selector, domain)).with_added_extension("pem")
}

/// Writes a secret to a new file that only its owner can read, in a folder that is made if need be; it is on
/// the disk when this returns.
///
/// # Errors
/// A file that is there already, which is left as it is, or one that cannot be written, which is not left.
pub(super) fn write_key(file: &Path, pem: &str) -> anyhow::Result<()> {
    let folder = folder_of(file);
    let made = fs::create_dir_all(folder_of(folder)).and_then(|()| {
        let made = fs::DirBuilder::new().mode(0o700).create(folder);
        made.or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })
    });
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut out = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!("{}", is_taken(file)),
        opened => opened.with_context(|| format!("cannot write {}", file.display()))?,
    };
    let written = out
        .write_all(pem.as_bytes())
        .and_then(|()| out.sync_all())
        .and_then(|()| File::open(folder)?.sync_all())
        .and_then(|()| File::open(folder_of(folder))?.sync_all());
    if written.is_err() {
        // Half a key is worse than none: it would be in the way of a whole one.
        let _ = fs::remove_file(file);
    }
    written.with_context(|| format!("cannot write {}", file.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_taken(file: &Path) -> String {
    format!(
        "{} is there already, and a key is never written over; take another selector, or another file by --out",
        file.display()
    )
}
