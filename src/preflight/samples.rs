//! A few messages of real rows as they will be sent, signed and tracked: for filters to score, and for what
//! the messages that are checked do not have.

use std::ops::RangeInclusive;

use crate::campaign::draft::Draft;
use crate::campaign::segment::SegmentError;
use crate::message::composer::Contents;
use crate::message::{Content, Merge, Scratch};

use super::anatomy;
use super::rows::{Growth, Largest, possible};

/// Rows that are looked through for one that has a recipient, or a variant.
const NEAR: u64 = 10_000;

/// A finished message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub row: u64,
    pub address: String,
    pub message: Vec<u8>,
}

/// Signed messages: of the largest row, of some from one end of the list to the other, and of a row near its
/// beginning for each variant that is in none of them.
///
/// # Errors
/// A segment that can no longer be read.
pub(super) fn samples(
    signed: &Contents,
    draft: &Draft,
    largest: Option<&Largest>,
    wanted: u64,
) -> Result<Vec<Sample>, SegmentError> {
    let last = draft.totals.rows;
    let spread = (0..wanted).map(|at| 1 + at * last / wanted.max(1));
    let picked = largest.map(|largest| largest.row).into_iter().chain(spread);
    // Rows that were rejected have nobody: the next that has will do.
    let picked = picked.map(|row| row..=row.saturating_add(NEAR));
    let others = (1..=last.min(NEAR)).map(|row| row..=row);
    let mut sampler = Sampler { signed, unseen: signed.all().iter().collect(), samples: Vec::new() };
    for near in picked {
        sampler.take(draft, near, |_, _| true)?;
    }
    for row in others {
        if sampler.unseen.is_empty() {
            break;
        }
        sampler
            .take(draft, row, |unseen, content| unseen.iter().any(|other| std::ptr::eq(*other, content)))?;
    }
    Ok(sampler.samples)
}

/// Samples so far.
struct Sampler<'a> {
    signed: &'a Contents,
    /// Of which there is none yet.
    unseen: Vec<&'a Content>,
    samples: Vec<Sample>,
}

impl Sampler<'_> {
    /// Renders what the first recipient among the rows may get, as far as it `is_wanted`.
    fn take(
        &mut self,
        draft: &Draft,
        rows: RangeInclusive<u64>,
        is_wanted: impl Fn(&[&Content], &Content) -> bool,
    ) -> Result<(), SegmentError> {
        let Some(segment) = draft.spool.segment_of_row(*rows.start()) else { return Ok(()) };
        let end = segment.totals().last_row.min(*rows.end());
        let found = (*rows.start()..=end).find_map(|row| segment.recipient_of_row(row).transpose());
        let Some(recipient) = found.transpose()? else { return Ok(()) };
        if self.samples.iter().any(|sample| sample.row == recipient.row) {
            return Ok(());
        }
        let fields: Vec<&str> = recipient.fields().collect();
        let merge = Merge { recipient: recipient.id, address: &recipient.address, fields: &fields };
        for content in possible(self.signed, &recipient) {
            let mut message = Vec::new();
            if is_wanted(&self.unseen, content)
                && content.render(&merge, &mut Scratch::default(), &mut message).is_ok()
            {
                let (row, address) = (recipient.row, recipient.address.to_string());
                self.samples.push(Sample { row, address, message });
                self.unseen.retain(|other| !std::ptr::eq(*other, content));
            }
        }
        Ok(())
    }
}

/// Octets that signatures and tracking add: nearly the same for all.
pub(super) fn growth(plain: &Contents, sent: &Contents, draft: &Draft) -> Result<Growth, SegmentError> {
    let of = |content| Ok::<_, SegmentError>(samples(content, draft, None, 1)?.pop());
    let (Some(plain), Some(sent)) = (of(plain)?, of(sent)?) else { return Ok(Growth::default()) };
    let lengths = |sample: &Sample| {
        let (mut parts, (fields, body)) = (anatomy::Parts::default(), anatomy::fields(&sample.message));
        parts.read(&fields, body);
        (sample.message.len() as u64, parts.html().map_or(0, |html| html.len() as u64))
    };
    let (plain, sent) = (lengths(&plain), lengths(&sent));
    Ok(Growth { message: sent.0.saturating_sub(plain.0), html: sent.1.saturating_sub(plain.1) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::campaign::manifest::Manifest;
    use crate::campaign::variants::Assignment;
    use crate::engine::content::{Making, contents};
    use crate::suppression::Suppression;
    use crate::token::Key;

    #[test]
    fn every_variant_is_among_the_samples_however_few_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let list: String = (0..500).map(|number| format!("p{number}@one.test\n")).collect();
        let manifest = "name = \"m\"\nfrom = \"us@sender.test\"\nreturn_path_domain = \"bounce.sender.test\"\n\
            subject = \"s\"\ntext = \"m.txt\"\n[list]\nfile = \"l.csv\"\n\
            [[variants]]\nname = \"a\"\nsubject = \"often\"\nweight = 40\n\
            [[variants]]\nname = \"b\"\nsubject = \"seldom\"\n";
        for (name, content) in
            [("m.txt", "Hello\n"), ("l.csv", &*format!("email\n{list}")), ("campaign.toml", manifest)]
        {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let manifest = Manifest::open(folder.path()).unwrap();
        let suppression = Suppression::load(&[]).unwrap();
        let draft = Draft::read(folder.path(), &manifest, &suppression).unwrap();
        let making = Making {
            manifest: &manifest,
            columns: draft.columns.names(),
            run_token: "sample",
            key: &Key::stand_in(),
            date: SystemTime::UNIX_EPOCH,
        };
        let contents = contents(&making, Assignment::of(&manifest).map(Arc::new)).unwrap();
        let samples = samples(&contents, &draft, None, 2).unwrap();
        let has = |subject: &str| {
            let field = format!("Subject: {subject}\r\n");
            samples
                .iter()
                .filter(|sample| memchr::memmem::find(&sample.message, field.as_bytes()).is_some())
                .count()
        };
        assert_eq!((has("often"), has("seldom")), (2, 1));
    }
}
