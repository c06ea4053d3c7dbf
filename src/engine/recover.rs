//! What a former process left of a run, made ready to go on from: spool, journal, in-doubt slots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::EngineError;
use crate::campaign::run::Run;
use crate::campaign::spool::Spool;
use crate::campaign::variants::{Assigned, Assignment, Slice};
use crate::config::Node;
use crate::envelope::{Entry, RecipientId};
use crate::journal::{self, Inflight, Record, Replay, Waiting, Writer};
use crate::outcome::{Disposition, Evidence, InDoubtPolicy, SiteId, SourceId, Stage};
use crate::scheduler::Skip;

/// Slots for messages whose end is unanswered: sessions × window of a busy node, 16 octets each.
const SLOTS: u32 = 65_536;

pub(super) struct Recovered {
    pub(super) spool: Arc<Spool>,
    pub(super) inflight: Arc<Inflight>,
    pub(super) writer: Writer,
    /// Settled, or waiting in a timer.
    pub(super) skip: Skip,
    /// Bound to sources by the numbers of the former process; see [`rebound`].
    pub(super) waiting: Vec<(Entry, SystemTime)>,
    pub(super) sources: BTreeMap<u32, Box<str>>,
    pub(super) delivered: u64,
    pub(super) is_resumed: bool,
    pub(super) warnings: Vec<String>,
}

/// Those who wait with the sources they are bound to by their numbers of now, instead of those of the
/// former process, which `former` names. Who was bound to one that is gone is free.
pub(super) fn rebound<'a>(
    mut waiting: Vec<(Entry, SystemTime)>,
    former: &BTreeMap<u32, Box<str>>,
    names: impl Iterator<Item = &'a str>,
) -> Vec<(Entry, SystemTime)> {
    let now: HashMap<&str, SourceId> = names.zip((0..).map(SourceId)).collect();
    let number = |source: SourceId| now.get(&**former.get(&u32::from(source.0))?).copied();
    waiting.iter_mut().for_each(|(entry, _)| entry.bound = entry.bound.and_then(number));
    waiting
}

/// Replays the journal and records as in doubt what was in flight when the former process died.
///
/// The order matters: a slot is cleared only once the journal names its recipient, so that another
/// crash at any point of this loses nothing.
pub(super) async fn recover(
    run: &Run,
    node: &Node,
    assignment: Option<&Arc<Assignment>>,
) -> Result<Recovered, EngineError> {
    let (folder, spool_folder, map) = (run.journal_folder(), run.spool_folder(), run.inflight_path());
    let read = tokio::task::spawn_blocking({
        let folder = folder.clone();
        move || read(&folder, &spool_folder, &map)
    });
    let (replay, spool, inflight) = read.await.map_err(|panic| EngineError::Journal(panic.to_string()))??;
    let spool = Arc::new(spool.with_slice(Slice::of(&run.manifest)));
    let is_resumed = replay.position().next_sequence > 1;
    let mut warnings = Vec::new();
    if let Some(torn) = &replay.torn {
        warnings.push(format!(
            "{} octets of a torn record were cut from {}",
            torn.octets,
            torn.file.display()
        ));
    }
    let delivered = replay.totals.delivered;
    let mut doubtful = replay.in_doubt(&inflight.armed());
    let named = doubtful.len();
    doubtful.retain(|entry| {
        let segment = spool.segment(entry.recipient.segment);
        segment.is_some_and(|segment| entry.recipient.index < segment.len())
    });
    if doubtful.len() < named {
        warnings.push(format!(
            "{} slots of the in-doubt map named nobody and were passed over",
            named - doubtful.len()
        ));
    }
    let writer = Writer::start(&folder, replay.position(), node.sync, inflight.clone())?;
    let sources = replay.names.sources.clone();
    let (mut settled, mut waiting) = standing(replay);
    if !doubtful.is_empty() {
        let (policy, now) = (run.manifest.in_doubt, SystemTime::now());
        warnings.push(format!(
            "{} recipients were in doubt after the last stop; the report names them",
            doubtful.len()
        ));
        let assigned = assignment.cloned().map(|assignment| Assigned { spool: spool.clone(), assignment });
        let variant =
            |entry: &Entry| assigned.as_ref().map_or(0, |assigned| assigned.number(entry.recipient));
        let records = doubtful.iter().map(|entry| in_doubt(*entry, variant(entry), policy, now)).collect();
        let failed = |error: journal::WriteFailure| EngineError::Journal(error.to_string());
        writer.append(records).await.map_err(failed)?;
        writer.flush().await.map_err(failed)?;
        // Whatever the policy: a timer of theirs stands for the attempt that is in doubt.
        let named: HashSet<RecipientId> = doubtful.iter().map(|entry| entry.recipient).collect();
        waiting.retain(|(entry, _)| !named.contains(&entry.recipient));
        for entry in doubtful {
            settled.entry(entry.recipient.segment).or_default().insert(entry.recipient.index);
            if policy == InDoubtPolicy::Resend {
                waiting.push((entry.next(None), now));
            }
        }
    }
    inflight.clear_all();
    Ok(Recovered {
        spool,
        inflight,
        writer,
        skip: Skip::new(settled),
        waiting,
        sources,
        delivered,
        is_resumed,
        warnings,
    })
}

fn read(folder: &Path, spool: &Path, map: &Path) -> Result<(Replay, Spool, Arc<Inflight>), EngineError> {
    let replay = journal::replay(folder)?;
    let spool = Spool::open(spool).map_err(|error| EngineError::Spool(error.to_string()))?;
    Ok((replay, spool, Arc::new(Inflight::open(map, SLOTS)?)))
}

/// Bitmaps of those not to be handed out of their segments, and the timers of those that wait.
fn standing(replay: Replay) -> (HashMap<u32, roaring::RoaringBitmap>, Vec<(Entry, SystemTime)>) {
    let waiting: Vec<_> = replay
        .waiting()
        .map(|waiting| {
            let Waiting { recipient, attempt, due, bound } = waiting;
            (Entry { recipient, attempt, bound }, due)
        })
        .collect();
    let mut settled: HashMap<u32, roaring::RoaringBitmap> =
        replay.settled.bitmaps().map(|(segment, bitmap)| (segment, bitmap.clone())).collect();
    for (entry, _) in &waiting {
        settled.entry(entry.recipient.segment).or_default().insert(entry.recipient.index);
    }
    (settled, waiting)
}

fn in_doubt(entry: Entry, variant: u8, policy: InDoubtPolicy, at: SystemTime) -> Record {
    let text = "the engine stopped before the reply to the end of the content was recorded";
    Record {
        recipient: entry.recipient,
        attempt: entry.attempt,
        at,
        disposition: Disposition::InDoubt(policy),
        class: 0,
        variant,
        evidence: Evidence { stage: Stage::Content, code: 0, enhanced: None, text: text.into() },
        source: SourceId(u16::MAX),
        site: SiteId(u32::MAX),
        slot: None,
    }
}
