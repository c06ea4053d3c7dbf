//! Feedback: the one task that turns outcomes into dispositions and gives them to the journal.
//!
//! Sessions report what they learned; this decides what it means for the recipient, appends the record,
//! and tells the scheduler who is to be tried again. Nothing counts before the journal has written it.
//! Classes, adjustments and suppression by class belong here too.

mod disposition;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::envelope::Entry;
use crate::journal::{NameKind, Record, Writer};
use crate::metrics::ProviderLine;
use crate::outcome::{Disposition, Evidence, Finding, InDoubtPolicy, Outcome, SiteId, SourceId};
use crate::pull::{Handle, Message, PathKey};
use crate::retry::Schedule;
use crate::site::Site;
use crate::smtp::OpenFailure;

/// Outcomes that may wait: a group for the journal, twice.
const OUTCOMES: usize = 1024;
/// Groups of recipients settled without an attempt that may wait.
const SETTLED: usize = 8;
/// Records appended to the journal at once.
const GROUP: usize = 512;
/// A source or site that stands for none, in records of recipients settled without an attempt.
const NO_SITE: SiteId = SiteId(u32::MAX);
const NO_SOURCE: SourceId = SourceId(u16::MAX);

/// Recipients settled without an attempt.
#[derive(Debug)]
struct Settled {
    entries: Vec<Entry>,
    disposition: Disposition,
    evidence: Evidence,
}

#[derive(Debug)]
enum Notice {
    Site(SiteId, Arc<Site>),
    Unreachable(PathKey, String),
}

/// The way to the feedback task.
#[derive(Debug, Clone)]
pub struct Feedback {
    outcomes: mpsc::Sender<Outcome>,
    settled: mpsc::Sender<Settled>,
    /// Not bounded by a number: one notice a site, and one a failed connection.
    notices: mpsc::UnboundedSender<Notice>,
    lines: Arc<Mutex<Vec<ProviderLine>>>,
}

/// The ends of it.
#[derive(Debug)]
pub struct Inboxes {
    outcomes: mpsc::Receiver<Outcome>,
    settled: mpsc::Receiver<Settled>,
    notices: mpsc::UnboundedReceiver<Notice>,
    lines: Arc<Mutex<Vec<ProviderLine>>>,
}

/// Makes a feedback handle and the ends that [`run`] takes.
pub fn channel() -> (Feedback, Inboxes) {
    let (outcomes, outcomes_end) = mpsc::channel(OUTCOMES);
    let (settled, settled_end) = mpsc::channel(SETTLED);
    let (notices, notices_end) = mpsc::unbounded_channel();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let inboxes =
        Inboxes { outcomes: outcomes_end, settled: settled_end, notices: notices_end, lines: lines.clone() };
    (Feedback { outcomes, settled, notices, lines }, inboxes)
}

impl Feedback {
    /// Where a session reports.
    pub fn outcomes(&self) -> mpsc::Sender<Outcome> {
        self.outcomes.clone()
    }

    /// Settles recipients that no attempt will be made for. Cancel safe: what was not taken stays waiting.
    pub async fn settle(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        disposition: Disposition,
        evidence: Evidence,
    ) {
        let mut entries = entries.into_iter();
        loop {
            let group: Vec<Entry> = entries.by_ref().take(GROUP).collect();
            if group.is_empty() {
                return;
            }
            let settled = Settled { entries: group, disposition, evidence: evidence.clone() };
            if self.settled.send(settled).await.is_err() {
                return;
            }
        }
    }

    /// Tells which site a number stands for.
    pub fn name_site(&self, id: SiteId, site: &Arc<Site>) {
        let _ = self.notices.send(Notice::Site(id, site.clone()));
    }

    /// Reports that no session could be opened on a path.
    pub fn unreachable(&self, path: PathKey, failure: &OpenFailure) {
        let what = match &failure.finding {
            Finding::Refused { reply, .. } => reply.to_string(),
            Finding::Failed { failure, .. } | Finding::InDoubt { failure } => failure.to_string(),
            other => format!("{other:?}"),
        };
        let _ = self.notices.send(Notice::Unreachable(path, what));
    }

    /// Delivered, deferred and bounced by provider so far, the largest first.
    pub fn lines(&self) -> Vec<ProviderLine> {
        let mut lines = self.lines.lock().expect("no panic while the lines are held").clone();
        lines.sort_by_key(|line| std::cmp::Reverse(line.delivered + line.deferred + line.bounced));
        lines
    }
}

/// What the feedback task works with.
#[derive(Debug)]
pub struct Setup {
    pub writer: Arc<Writer>,
    pub scheduler: Handle,
    pub schedule: Arc<Schedule>,
    pub in_doubt: InDoubtPolicy,
    /// Nothing more will come: take what waits, then end.
    pub finish: CancellationToken,
}

struct Task {
    setup: Setup,
    sites: HashMap<SiteId, usize>,
    places: HashMap<String, usize>,
    lines: Arc<Mutex<Vec<ProviderLine>>>,
    records: Vec<Record>,
    retries: Vec<(Entry, SystemTime)>,
}

/// Runs until told to finish and nothing waits, or until the journal fails.
pub async fn run(setup: Setup, inboxes: Inboxes) {
    let Inboxes { mut outcomes, mut settled, mut notices, lines } = inboxes;
    let finish = setup.finish.clone();
    let mut task = Task {
        setup,
        sites: HashMap::new(),
        places: HashMap::new(),
        lines,
        records: Vec::with_capacity(GROUP),
        retries: Vec::new(),
    };
    let mut group = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            biased;
            Some(notice) = notices.recv() => task.notice(notice).await,
            count = outcomes.recv_many(&mut group, GROUP) => {
                if count > 0 {
                    task.outcomes(&mut group).await;
                }
            }
            Some(settled) = settled.recv() => task.settled(settled).await,
            () = finish.cancelled() => return,
        }
    }
}

impl Task {
    async fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Site(id, site) => {
                let place = self.place(site.provider.as_deref().unwrap_or(&site.name));
                self.sites.insert(id, place);
                let _ = self.setup.writer.name(NameKind::Site, id.0, &site.name).await;
            }
            Notice::Unreachable(path, what) => {
                tracing::info!(
                    site = path.site.0,
                    source = path.source.0,
                    what,
                    "no session could be opened"
                );
            }
        }
    }

    /// The line of a provider, or of a site that has none.
    fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let mut lines = self.lines.lock().expect("no panic while the lines are held");
        lines.push(ProviderLine { name: name.to_owned(), ..ProviderLine::default() });
        self.places.insert(name.to_owned(), lines.len() - 1);
        lines.len() - 1
    }

    async fn outcomes(&mut self, group: &mut Vec<Outcome>) {
        let now = SystemTime::now();
        {
            let mut lines = self.lines.lock().expect("no panic while the lines are held");
            for outcome in group.drain(..) {
                let (disposition, evidence) =
                    disposition::decide(&outcome, now, &self.setup.schedule, self.setup.in_doubt);
                if let Some(place) = self.sites.get(&outcome.site) {
                    count(&mut lines[*place], disposition);
                }
                let again = outcome.entry.next(None);
                match disposition {
                    Disposition::Deferred { until } => self.retries.push((again, until)),
                    Disposition::InDoubt(InDoubtPolicy::Resend) => self.retries.push((
                        again,
                        self.setup.schedule.due(outcome.entry, now).unwrap_or(self.setup.schedule.expires()),
                    )),
                    _ => {}
                }
                self.records.push(Record {
                    recipient: outcome.entry.recipient,
                    attempt: outcome.entry.attempt,
                    at: now,
                    disposition,
                    class: 0,
                    evidence,
                    source: outcome.source,
                    site: outcome.site,
                    slot: outcome.slot,
                });
            }
        }
        self.append().await;
        if !self.retries.is_empty() {
            self.setup.scheduler.send(Message::Deferred(std::mem::take(&mut self.retries))).await;
        }
    }

    async fn settled(&mut self, settled: Settled) {
        let now = SystemTime::now();
        self.records.extend(settled.entries.into_iter().map(|entry| Record {
            recipient: entry.recipient,
            attempt: entry.attempt.saturating_sub(1),
            at: now,
            disposition: settled.disposition,
            class: 0,
            evidence: settled.evidence.clone(),
            source: NO_SOURCE,
            site: NO_SITE,
            slot: None,
        }));
        self.append().await;
    }

    async fn append(&mut self) {
        let records = std::mem::replace(&mut self.records, Vec::with_capacity(GROUP));
        // Where that fails nothing is believed, the slots stay armed, and the engine, which watches the
        // journal, stops.
        let _ = self.setup.writer.append(records).await;
    }
}

fn count(line: &mut ProviderLine, disposition: Disposition) {
    match disposition {
        Disposition::Delivered => line.delivered += 1,
        Disposition::Bounced => line.bounced += 1,
        Disposition::Deferred { .. } | Disposition::InDoubt(InDoubtPolicy::Resend) => line.deferred += 1,
        _ => {}
    }
}
