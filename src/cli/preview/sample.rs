//! Rows of the list and the messages they would get, one by one.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use crate::campaign::list::{List, Step};
use crate::campaign::manifest::Manifest;
use crate::campaign::row::Row;
use crate::engine::content::{Making, compile};
use crate::envelope::RecipientId;
use crate::message::{Content, Merge, Scratch};
use crate::suppression::Suppression;

/// Stands in Message-IDs where a run's token will.
const TOKEN: &str = "preview";
/// How long a list that comes slowly is waited for at a time.
const PATIENCE: Duration = Duration::from_secs(1);

/// One row, and what would be sent to it.
pub struct Sample {
    pub row: u64,
    /// As the list has it, if it is no address.
    pub address: String,
    /// Why it might not be mailed although its message can be made.
    pub warnings: Vec<String>,
    /// Or why the row would be rejected or invalid.
    pub message: anyhow::Result<Vec<u8>>,
}

/// Gives `take` the rows from `first` on, `count` of them or as many as there are.
///
/// # Errors
/// A list or content that cannot be used, a list that ends before `first`, and what `take` says.
pub fn each(
    manifest: &Manifest,
    first: u64,
    count: u64,
    mut take: impl FnMut(Sample) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let suppression = Suppression::load(&manifest.suppression)?;
    let mut list = List::open(&manifest.list.source(), None)?;
    let columns = list.columns().names().to_vec();
    let date = SystemTime::now();
    let content = compile(&Making { manifest, columns: &columns, run_token: TOKEN, date })?;
    let maker = Maker { content, suppression };
    let last = first.saturating_add(count - 1);
    loop {
        let row = match list.next(PATIENCE)? {
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
    if list.rows() < first {
        bail!("the list has {} rows; name one of them", list.rows());
    }
    Ok(())
}

struct Maker {
    content: Content,
    suppression: Suppression,
}

impl Maker {
    fn sample(&self, row: &Row<'_>) -> Sample {
        let (address, fields) = match row.read() {
            Ok(read) => read,
            Err(error) => {
                let address = row.address_text().into_owned();
                let reason = format!("row {} would be rejected ({address})", row.number);
                let message = Err(anyhow::Error::new(error).context(reason));
                return Sample { row: row.number, address, warnings: Vec::new(), message };
            }
        };
        let fields: Vec<&str> = fields.iter().collect();
        let recipient = RecipientId { segment: 0, index: u32::try_from(row.number - 1).unwrap_or(u32::MAX) };
        let merge = Merge { recipient, address: &address, fields: &fields };
        let mut message = Vec::new();
        let rendered = self
            .content
            .render(&merge, &mut Scratch::default(), &mut message)
            .with_context(|| format!("row {} would be invalid", row.number));
        let mut warnings = Vec::new();
        if self.suppression.entries().covers(address.key(), address.domain()).is_some() {
            warnings.push("the address is suppressed: it would not be mailed".to_owned());
        }
        let message = rendered.map(|()| message);
        Sample { row: row.number, address: address.to_string(), warnings, message }
    }
}
