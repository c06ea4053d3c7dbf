//! `postroad preview`: the messages of some rows, exactly as they would be sent: as .eml, as readable text,
//! or as a page for a browser.
//!
//! Reads the list as far as the last row that is shown; knows nothing of duplicates, which only an import
//! finds.

mod page;
mod sample;
mod shown;
mod terminal;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::Context as _;

use super::{Common, Exit, campaign, say, warn};
use crate::campaign::manifest::Manifest;
use crate::engine::{signers, suppression_files};
use crate::token::Keyring;
use sample::{Sample, Source};
use shown::Shown;

/// Rows a page holds at most: a browser has them all in memory.
const ROWS_MAX: u64 = 1_000;

/// Show the message of a row: as .eml, as text in a terminal, or as a page in the browser
#[derive(clap::Args)]
pub struct Arguments {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN")]
    campaign: PathBuf,
    /// Which row of the lists, counted through all of them; 1 is the first after the header
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    row: u64,
    /// The message's octets, also on a terminal [default where the output is no terminal]
    #[arg(long, conflicts_with_all = ["text", "html"])]
    eml: bool,
    /// Headers, text and a list of parts, to be read [default on a terminal]
    #[arg(long, conflicts_with = "html")]
    text: bool,
    /// One page for a browser, with nothing beside it: headers, text, HTML wide and as on a phone
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Rows on the page, from --row on
    #[arg(
        long, value_name = "N", default_value_t = 25, requires = "html",
        value_parser = clap::value_parser!(u64).range(1..=ROWS_MAX)
    )]
    rows: u64,
    /// As this variant, instead of the one that chance gives each address
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Open the page in the browser
    #[arg(long, requires = "html")]
    open: bool,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let mut manifest = campaign(&arguments.campaign, &node)?;
    let variant = arguments.variant.as_deref().map(|name| place(&manifest, name)).transpose()?;
    let key = Keyring::signing(&node.state)?;
    let date = SystemTime::now();
    manifest.dkim.retain(|key| {
        if !key.is_present() && !signers::is_to_come(key, date) {
            warn(format_args!("not signed with `{}`: the key is not there", key.selector));
        }
        key.is_present()
    });
    let suppression = suppression_files(&node, &manifest);
    let source = Source { manifest: &manifest, key: &key, suppression: &suppression, variant };
    match &arguments.html {
        Some(file) => write_page(common, arguments, &source, file)?,
        None => sample::each(&source, arguments.row, 1, |sample| one(common, arguments, sample))?,
    }
    Ok(Exit::Done)
}

/// A single message on the standard output.
fn one(common: &Common, arguments: &Arguments, sample: Sample) -> anyhow::Result<()> {
    let Sample { row, variant, address, warnings, message } = sample;
    let message = message?;
    if let Some(variant) = &variant {
        warn(format_args!("variant {variant}"));
    }
    warnings.iter().for_each(|warning| warn(format_args!("row {row}: {warning}")));
    if common.json {
        let shown = Shown::parse(&message);
        return say(
            serde_json::json!({ "row": row, "variant": variant, "address": address, "warnings": warnings, "message": shown }),
        );
    }
    if arguments.text || (!arguments.eml && std::io::stdout().is_terminal()) {
        return say(terminal::text(&Shown::parse(&message)).trim_end());
    }
    std::io::stdout().write_all(&message).context("cannot write to the standard output")
}

fn write_page(
    common: &Common,
    arguments: &Arguments,
    source: &Source<'_>,
    file: &Path,
) -> anyhow::Result<()> {
    let mut page = page::Page::new(&source.manifest.name);
    sample::each(source, arguments.row, arguments.rows, |sample| {
        page.add(sample);
        Ok(())
    })?;
    std::fs::write(file, page.html()).with_context(|| format!("cannot write {}", file.display()))?;
    if common.json {
        say(serde_json::json!({ "page": file, "rows": page.rows(), "problems": page.problems() }))?;
    } else {
        let problems = match page.problems() {
            0 => String::new(),
            count => format!(", {count} of them would not be sent"),
        };
        say(format_args!("{}: {} rows{problems}", file.display(), page.rows()))?;
    }
    if arguments.open {
        open(file);
    }
    Ok(())
}

/// A browser is a courtesy: without one the page is there all the same.
fn open(file: &Path) {
    let mut command = Command::new("xdg-open");
    command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        warn(format_args!("cannot open a browser ({error}); open {} in one", file.display()));
    }
}

fn place(manifest: &Manifest, name: &str) -> anyhow::Result<usize> {
    let place = manifest.variants.iter().position(|variant| variant.name == name);
    place.with_context(|| {
        let known: Vec<&str> = manifest.variants.iter().map(|variant| &*variant.name).collect();
        match known.is_empty() {
            true => "the campaign has no variants".to_owned(),
            false => format!("there is no variant `{name}`; the campaign has {}", known.join(", ")),
        }
    })
}
