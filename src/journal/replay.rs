//! Reading a journal back: who is settled, who waits for when, what the totals are.
//!
//! [`replay`] is for the process that goes on with the run and cuts a torn end off; [`read`] is for
//! whoever wants to look and changes nothing.
//!
//! Memory: a bit or so for a settled recipient (compressed bitmaps), some 17 octets for one that waits.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use hashbrown::HashMap;
use roaring::RoaringTreemap;

use crate::classify::Class;
use crate::envelope::{Entry, RecipientId};
use crate::outcome::{Disposition, SourceId};

use super::record::{Attempt, from_millis, to_millis};
use super::walk::{Torn, Walk};
use super::{ByVariant, JournalError, Line, NameKind, Position, Totals};

/// A recipient to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub recipient: RecipientId,
    /// The next attempt's number.
    pub attempt: u16,
    pub due: SystemTime,
    /// It was greylisted, so that the attempt has to come from there.
    pub bound: Option<SourceId>,
}

/// What numbers stand for, by the last line that said so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    pub sites: BTreeMap<u32, Box<str>>,
    pub sources: BTreeMap<u32, Box<str>>,
    pub providers: BTreeMap<u32, Box<str>>,
}

impl Names {
    pub fn set(&mut self, kind: NameKind, id: u32, name: Box<str>) {
        let names = match kind {
            NameKind::Site => &mut self.sites,
            NameKind::Source => &mut self.sources,
            NameKind::Provider => &mut self.providers,
        };
        names.insert(id, name);
    }
}

/// What the journal of a run says.
#[derive(Debug, Default)]
pub struct Replay {
    /// By [`RecipientId::to_u64`]: no attempt follows. `bitmaps()` gives one bitmap a segment.
    pub settled: RoaringTreemap,
    /// By id: when due (ms since 1970, 48 bits) and next attempt (16 bits).
    waiting: HashMap<u64, u64>,
    /// By id, of those: the source that a greylisting server knows.
    bound: HashMap<u64, SourceId>,
    /// By id: was in doubt at some time, whatever came of it.
    pub in_doubt: RoaringTreemap,
    pub totals: Totals,
    pub by_variant: ByVariant,
    pub names: Names,
    /// Attempts and recipients' ends read.
    pub records: u64,
    /// Records of recipients that were settled already; not counted in the totals. 0 in a right run.
    pub repeated: u64,
    /// The time of the latest record.
    pub last_at: Option<SystemTime>,
    pub torn: Option<Torn>,
    position: Position,
}

impl Replay {
    /// Where the next process goes on.
    pub fn position(&self) -> Position {
        Position { totals: self.totals, by_variant: self.by_variant.clone(), ..self.position }
    }

    /// Recipients to be tried again, in no order.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = Waiting> + '_ {
        self.waiting.iter().map(|(&id, &packed)| self.waiting_as(id, packed))
    }

    pub fn waits(&self, recipient: RecipientId) -> Option<Waiting> {
        let id = recipient.to_u64();
        self.waiting.get(&id).map(|&packed| self.waiting_as(id, packed))
    }

    pub fn is_settled(&self, recipient: RecipientId) -> bool {
        self.settled.contains(recipient.to_u64())
    }

    /// Of what [`super::Inflight::armed`] found: the attempts that the journal has no record of, so
    /// that nobody knows whether the message was taken. Of the others the outcome was written and only
    /// the slot not yet released. The same entry in two slots is named once.
    pub fn in_doubt(&self, armed: &[Entry]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = armed.to_vec();
        entries.sort_unstable_by_key(|entry| (entry.recipient, std::cmp::Reverse(entry.attempt)));
        entries.dedup_by_key(|entry| entry.recipient);
        entries.retain(|entry| {
            let recorded = self.is_settled(entry.recipient)
                || self.waits(entry.recipient).is_some_and(|waiting| waiting.attempt > entry.attempt);
            !recorded
        });
        entries
    }

    fn waiting_as(&self, id: u64, packed: u64) -> Waiting {
        Waiting {
            recipient: RecipientId::from_u64(id),
            attempt: packed as u16,
            due: from_millis(packed >> 16),
            bound: self.bound.get(&id).copied(),
        }
    }

    fn take(&mut self, attempt: Attempt) {
        let Attempt { recipient, at_millis, attempt, disposition, class, variant, source } = attempt;
        self.records += 1;
        let is_deferred = matches!(disposition, Disposition::Deferred { .. });
        if is_deferred && class == Class::Greylisted.number() {
            self.bound.insert(recipient, source);
        } else if !self.bound.is_empty() {
            self.bound.remove(&recipient);
        }
        let due = match disposition {
            Disposition::Deferred { until } => Some(to_millis(until)),
            Disposition::InDoubt(_) => {
                self.in_doubt.insert(recipient);
                (!disposition.is_final()).then_some(at_millis)
            }
            _ => None,
        };
        match due {
            Some(_) if self.settled.contains(recipient) => self.repeated += 1,
            Some(due) => {
                self.waiting.insert(recipient, pack(due, attempt.saturating_add(1)));
                self.totals.count(disposition);
                self.by_variant.count(variant, disposition);
            }
            None if !self.settled.insert(recipient) => self.repeated += 1,
            None => {
                if !self.waiting.is_empty() {
                    self.waiting.remove(&recipient);
                }
                self.totals.count(disposition);
                self.by_variant.count(variant, disposition);
            }
        }
    }
}

fn pack(due_millis: u64, attempt: u16) -> u64 {
    due_millis.min((1 << 48) - 1) << 16 | u64::from(attempt)
}

/// Reads the journal in `folder` and cuts off the torn end of its last file. No writer may be at work
/// there. A folder that is not there is an empty journal.
///
/// # Errors
/// Damage, a gap, a line of another version, or the file system's.
pub fn replay(folder: &Path) -> Result<Replay, JournalError> {
    let mut walk = Walk::new(folder)?;
    let mut replay = Replay::default();
    replay.position.next_file = walk.last_number + 1;
    let mut latest = 0;
    while let Some(frame) = walk.next_frame()? {
        if frame.is_attempt() {
            match frame.attempt() {
                Ok(attempt) => {
                    latest = latest.max(attempt.at_millis);
                    replay.take(attempt);
                }
                Err(what) => return Err(walk.unreadable(what)),
            }
            continue;
        }
        match frame.line() {
            Ok(Line::Name { kind, id, name }) => replay.names.set(kind, id, name),
            Ok(_) => {}
            Err(what) => return Err(walk.unreadable(what)),
        }
    }
    replay.last_at = (replay.records > 0).then(|| from_millis(latest));
    replay.position.next_sequence = walk.expected;
    if let Some(torn) = walk.torn {
        cut(&torn).map_err(JournalError::io("cut the torn end of", &torn.file))?;
        tracing::warn!(file = %torn.file.display(), kept = torn.offset, cut = torn.octets, "the journal's torn end was cut off");
        replay.torn = Some(torn);
    }
    Ok(replay)
}

fn cut(torn: &Torn) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(&torn.file)?;
    file.set_len(torn.offset)?;
    file.sync_all()
}

/// The lines of the journal in `folder`, oldest first. Changes nothing, and may be used beside a writer
/// at work: what is not yet whole is not seen.
///
/// # Errors
/// The folder cannot be listed; later, as for [`replay`], once, and the lines end there.
pub fn read(folder: &Path) -> Result<Lines, JournalError> {
    Ok(Lines(Some(Walk::new(folder)?)))
}

/// See [`read`].
#[derive(Debug)]
pub struct Lines(Option<Walk>);

impl Iterator for Lines {
    type Item = Result<Line, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let walk = self.0.as_mut()?;
        let line = match walk.next_frame() {
            Ok(Some(frame)) => frame.line(),
            Ok(None) => {
                self.0 = None;
                return None;
            }
            Err(error) => {
                self.0 = None;
                return Some(Err(error));
            }
        };
        match line {
            Ok(line) => Some(Ok(line)),
            Err(what) => {
                let error = walk.unreadable(what);
                self.0 = None;
                Some(Err(error))
            }
        }
    }
}
