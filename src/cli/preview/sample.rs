//! Rows of the list and the messages they would get, one by one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};

use crate::campaign::audience::Audience;
use crate::campaign::list::Step;
use crate::campaign::manifest::Manifest;
use crate::campaign::row::Row;
use crate::campaign::selection::{Decision, NoRows, Selection};
use crate::campaign::variants::Assignment;
use crate::engine::content::{Making, contents};
use crate::envelope::RecipientId;
use crate::message::composer::Contents;
use crate::message::{Merge, Scratch};
use crate::suppression::Suppression;
use crate::token::Key;

/// Stands in Message-IDs and tokens where a run's token will.
const TOKEN: &str = "preview";
/// How long a list that comes slowly is waited for at a time.
const PATIENCE: Duration = Duration::from_secs(1);

/// One row, and what would be sent to it.
pub struct Sample {
    pub row: u64,
    /// Of a campaign that has some: the name of the variant shown.
    pub variant: Option<String>,
    /// As the list has it, if it is no address.
    pub address: String,
    /// Why it might not be mailed although its message can be made.
    pub warnings: Vec<String>,
    /// Or why the row would be rejected or invalid.
    pub message: anyhow::Result<Vec<u8>>,
}

/// Of what samples are made.
pub struct Source<'a> {
    pub manifest: &'a Manifest,
    pub key: &'a Key,
    /// Files that say who is suppressed.
    pub suppression: &'a [PathBuf],
    /// Its place in the manifest; `None`: the one that chance gives the address.
    pub variant: Option<usize>,
}

/// Gives `take` the rows from `first` on, `count` of them or as many as there are.
///
/// # Errors
/// A list or content that cannot be used, a list that ends before `first`, and what `take` says.
pub fn each(
    source: &Source<'_>,
    first: u64,
    count: u64,
    mut take: impl FnMut(Sample) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Source { manifest, key, suppression, variant } = *source;
    let suppression = Suppression::load(suppression)?;
    let Audience { mut lists, selection, .. } = Audience::open(manifest)?;
    let columns = lists.columns().names().to_vec();
    let date = SystemTime::now();
    let assignment = Assignment::of(manifest).map(Arc::new);
    let making = Making { manifest, columns: &columns, run_token: TOKEN, key, date };
    let contents = contents(&making, assignment.clone())?;
    let maker = Maker { manifest, contents, assignment, variant, suppression, selection };
    let last = first.saturating_add(count - 1);
    loop {
        let row = match lists.next(PATIENCE)? {
            Step::Waiting => continue,
            Step::Row(row) if row.number < first => continue,
            Step::Row(row) => row,
            Step::End => break,
        };
        let number = row.number;
        take(maker.sample(&row))?;
        if number == last {
            return Ok(());
        }
    }
    if lists.rows() < first {
        let they = if lists.len() == 1 { "the list has" } else { "the lists have" };
        bail!("{they} {} rows; name one of them", lists.rows());
    }
    Ok(())
}

struct Maker<'a> {
    manifest: &'a Manifest,
    contents: Contents,
    assignment: Option<Arc<Assignment>>,
    variant: Option<usize>,
    suppression: Suppression,
    selection: Selection,
}

impl Maker<'_> {
    fn sample(&self, row: &Row<'_>) -> Sample {
        let (address, fields) = match row.read() {
            Ok(read) => read,
            Err(error) => {
                let address = row.address_text().into_owned();
                let reason = format!("row {} would be rejected ({address})", row.number);
                let message = Err(anyhow::Error::new(error).context(reason));
                return Sample { row: row.number, variant: None, address, warnings: Vec::new(), message };
            }
        };
        let mut warnings = Vec::new();
        let Ok(decision) = self.selection.decide(row, &mut NoRows);
        match decision {
            Decision::LeftOut(why) => warnings.push(format!("the row would be left out: {why}")),
            Decision::Invalid(why) => {
                let message = Err(anyhow!("row {} would be rejected: {why}", row.number));
                return Sample {
                    row: row.number,
                    variant: None,
                    address: address.to_string(),
                    warnings,
                    message,
                };
            }
            _ => {}
        }
        let fields: Vec<&str> = fields.iter().collect();
        let recipient = RecipientId { segment: 0, index: u32::try_from(row.number - 1).unwrap_or(u32::MAX) };
        let merge = Merge { recipient, address: &address, fields: &fields };
        let mut message = Vec::new();
        let chance = self.assignment.as_ref().map(|assignment| assignment.variant_of(address.key()).place());
        let place = self.variant.or(chance).unwrap_or(0);
        let waits =
            self.assignment.as_ref().is_some_and(|assignment| assignment.given(address.key()).is_none());
        if waits && self.variant.is_none() && warnings.is_empty() {
            warnings.push(
                "the row is outside the test slice: it waits for the winner, whichever that is".to_owned(),
            );
        }
        let rendered = self.contents.all()[place]
            .render(&merge, &mut Scratch::default(), &mut message)
            .with_context(|| format!("row {} would be invalid", row.number));
        if self.suppression.entries().covers(address.key(), address.domain()).is_some() {
            warnings.push("the address is suppressed: it would not be mailed".to_owned());
        }
        let message = rendered.map(|()| message);
        let variant = self.manifest.variants.get(place).map(|variant| variant.name.clone());
        Sample { row: row.number, variant, address: address.to_string(), warnings, message }
    }
}
