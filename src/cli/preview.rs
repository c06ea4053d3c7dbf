//! `postroad preview`: the message of one row, exactly as it would be sent.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};

use super::{Common, Exit, warn};
use crate::campaign::list::{List, Step};
use crate::campaign::manifest::Manifest;

use crate::engine::content::{Making, compile};
use crate::envelope::RecipientId;
use crate::message::{Merge, Scratch};

/// Stands in Message-IDs where a run's token will.
const TOKEN: &str = "preview";

/// Print the message of one row as .eml
#[derive(clap::Args)]
pub struct Arguments {
    /// The campaign's folder
    #[arg(value_name = "CAMPAIGN")]
    campaign: PathBuf,
    /// Which row of the list; 1 is the first after the header
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    row: u64,
}

pub fn run(_: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let mut manifest = Manifest::open(&arguments.campaign)?;
    manifest.dkim.retain(|key| {
        if !key.is_present() {
            warn(format_args!("not signed with `{}`: the key is not there", key.selector));
        }
        key.is_present()
    });
    let mut list = List::open(&manifest.list.source(), None)?;
    let columns = list.columns().names().to_vec();
    let content = compile(&Making {
        manifest: &manifest,
        columns: &columns,
        run_token: TOKEN,
        date: SystemTime::now(),
    })?;
    loop {
        let row = match list.next(Duration::from_secs(1))? {
            Step::Waiting => continue,
            Step::End => bail!("the list has {} rows; name one of them", list.rows()),
            Step::Row(row) if row.number < arguments.row => continue,
            Step::Row(row) => row,
        };
        let (address, fields) = row
            .read()
            .with_context(|| format!("row {} would be rejected ({})", row.number, row.address_text()))?;
        let fields: Vec<&str> = fields.iter().collect();
        let recipient = RecipientId { segment: 0, index: u32::try_from(row.number - 1).unwrap_or(u32::MAX) };
        let merge = Merge { recipient, address: &address, fields: &fields };
        let mut message = Vec::new();
        content
            .render(&merge, &mut Scratch::default(), &mut message)
            .with_context(|| format!("row {} would be invalid", row.number))?;
        std::io::stdout().write_all(&message)?;
        return Ok(Exit::Done);
    }
}
