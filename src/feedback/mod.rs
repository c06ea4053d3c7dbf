//! Feedback: the one task that turns outcomes into dispositions and gives them to the journal.
//!
//! Sessions report what they learned; [`crate::classify`] says what it means and [`crate::policy`] what it
//! changes; this decides what becomes of the recipient, appends the record, and tells the scheduler who
//! is to be tried again. Nothing counts before the journal has written it.

mod disposition;
mod suppressor;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::campaign::variants::Assigned;
use crate::classify::{Class, RecipientAction, Verdict};
use crate::envelope::Entry;
use crate::journal::{NameKind, Record, Writer};
use crate::metrics::ProviderLine;
use crate::outcome::{Disposition, Evidence, InDoubtPolicy, Outcome, SiteId, SourceId};
use crate::policy::{Policy, Recourse};
use crate::pull::{Handle, Message, PathKey};
use crate::retry::Schedule;
use crate::site::Site;
pub use suppressor::Suppressor;

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

/// Which site a number stands for.
#[derive(Debug)]
struct Named(SiteId, Arc<Site>);

/// The way to the feedback task.
#[derive(Debug, Clone)]
pub struct Feedback {
    outcomes: mpsc::Sender<Outcome>,
    settled: mpsc::Sender<Settled>,
    /// Not bounded by a number: one a site.
    names: mpsc::UnboundedSender<Named>,
    lines: Arc<Mutex<Vec<ProviderLine>>>,
}

/// The ends of it.
#[derive(Debug)]
pub struct Inboxes {
    outcomes: mpsc::Receiver<Outcome>,
    settled: mpsc::Receiver<Settled>,
    names: mpsc::UnboundedReceiver<Named>,
    lines: Arc<Mutex<Vec<ProviderLine>>>,
}

/// Makes a feedback handle and the ends that [`run`] takes.
pub fn channel() -> (Feedback, Inboxes) {
    let (outcomes, outcomes_end) = mpsc::channel(OUTCOMES);
    let (settled, settled_end) = mpsc::channel(SETTLED);
    let (names, names_end) = mpsc::unbounded_channel();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let inboxes =
        Inboxes { outcomes: outcomes_end, settled: settled_end, names: names_end, lines: lines.clone() };
    (Feedback { outcomes, settled, names, lines }, inboxes)
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
        let _ = self.names.send(Named(id, site.clone()));
    }

    /// Delivered, deferred and bounced by provider so far, the largest first.
    pub fn lines(&self) -> Vec<ProviderLine> {
        let mut lines = self.lines.lock().expect("no panic while the lines are held").clone();
        lines.sort_by_key(|line| std::cmp::Reverse(line.delivered + line.deferred + line.bounced));
        lines
    }
}

/// What the feedback task works with.
pub struct Setup {
    pub writer: Arc<Writer>,
    pub scheduler: Handle,
    pub policy: Arc<Policy>,
    pub schedule: Arc<Schedule>,
    /// Writes down whom no campaign is to mail again; a rehearsal has none.
    pub suppressor: Option<Suppressor>,
    pub in_doubt: InDoubtPolicy,
    /// Of a campaign with variants.
    pub assigned: Option<Assigned>,
    /// Nothing more will come: take what waits, then end.
    pub finish: CancellationToken,
}

struct Task {
    setup: Setup,
    sites: HashMap<SiteId, (usize, Arc<Site>)>,
    places: HashMap<String, usize>,
    lines: Arc<Mutex<Vec<ProviderLine>>>,
    records: Vec<Record>,
    retries: Vec<(Entry, SystemTime)>,
    /// Of the group at hand, in its order.
    verdicts: Vec<Verdict>,
    recourses: Vec<Recourse>,
    /// Records handed to the journal so far.
    appended: u64,
}

/// Runs until told to finish and nothing waits, or until the journal fails.
pub async fn run(setup: Setup, inboxes: Inboxes) {
    let Inboxes { mut outcomes, mut settled, mut names, lines } = inboxes;
    let finish = setup.finish.clone();
    // What recovery had to say is written already.
    let appended = *setup.writer.written().borrow();
    let mut task = Task {
        setup,
        sites: HashMap::new(),
        places: HashMap::new(),
        lines,
        records: Vec::with_capacity(GROUP),
        retries: Vec::new(),
        verdicts: Vec::with_capacity(GROUP),
        recourses: Vec::with_capacity(GROUP),
        appended,
    };
    let mut group = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            biased;
            Some(named) = names.recv() => task.named(named).await,
            count = outcomes.recv_many(&mut group, GROUP) => {
                if count > 0 {
                    task.outcomes(&mut group).await;
                }
            }
            Some(settled) = settled.recv() => task.settled(settled).await,
            () = finish.cancelled() => return task.finish().await,
        }
    }
}

impl Task {
    async fn named(&mut self, Named(id, site): Named) {
        let place = self.place(site.provider.as_deref().unwrap_or(&site.name));
        let _ = self.setup.writer.name(NameKind::Site, id.0, &site.name).await;
        self.sites.insert(id, (place, site));
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
        self.judge(group);
        {
            let Self { setup, sites, verdicts, recourses, lines, records, retries, .. } = self;
            let mut lines = lines.lock().expect("no panic while the lines are held");
            for ((outcome, verdict), recourse) in group.drain(..).zip(&*verdicts).zip(&*recourses) {
                let (disposition, evidence) =
                    disposition::decide(&outcome, recourse, now, &setup.schedule, setup.in_doubt);
                if let Some((place, _)) = sites.get(&outcome.site) {
                    count(&mut lines[*place], disposition);
                }
                let again = outcome.entry.next(recourse.is_bound.then_some(outcome.source));
                match disposition {
                    Disposition::Deferred { until } => retries.push((again, until)),
                    Disposition::InDoubt(InDoubtPolicy::Resend) => retries.push((
                        again,
                        setup.schedule.due(outcome.entry, now, None).unwrap_or(setup.schedule.expires()),
                    )),
                    _ => {}
                }
                records.push(Record {
                    recipient: outcome.entry.recipient,
                    attempt: outcome.entry.attempt,
                    at: now,
                    disposition,
                    class: verdict.class.number(),
                    variant: variant(setup.assigned.as_ref(), outcome.entry),
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
        self.tell().await;
    }

    /// Finds out what each of a group means, what that changes, and what to do about its recipient.
    fn judge(&mut self, group: &[Outcome]) {
        let Self { setup, sites, verdicts, recourses, .. } = self;
        let rules = setup.policy.rules();
        verdicts.clear();
        verdicts.extend(group.iter().map(|outcome| {
            let site = sites.get(&outcome.site).map(|(_, site)| &**site);
            setup.policy.verdict(&rules, outcome.source, site, &outcome.finding)
        }));
        recourses.clear();
        let paths = group.iter().map(|outcome| PathKey { site: outcome.site, source: outcome.source });
        let heard = paths
            .zip(group)
            .zip(&*verdicts)
            .map(|((path, outcome), verdict)| (path, &outcome.finding, verdict));
        setup.policy.heard(&rules, heard, |recourse| recourses.push(recourse));
        if let Some(suppressor) = &mut setup.suppressor {
            let suppressed = recourses.iter().zip(group).zip(&*verdicts);
            let suppressed =
                suppressed.filter(|((recourse, _), _)| recourse.action == RecipientAction::Suppress);
            let whom = suppressed.map(|((_, outcome), verdict)| (outcome.entry.recipient, verdict.class));
            suppressor.take(whom, self.appended + group.len() as u64);
        }
    }

    /// Leaves nothing that should be written down.
    async fn finish(&mut self) {
        let _ = self.setup.writer.flush().await;
        self.tell().await;
    }

    /// Writes down what policy has changed, and whom no campaign is to mail again.
    async fn tell(&mut self) {
        if let Some(suppressor) = &mut self.setup.suppressor {
            suppressor.write(*self.setup.writer.written().borrow());
        }
        for event in self.setup.policy.take_events() {
            let text = event.to_string();
            if event.alert {
                tracing::warn!("{text}");
            } else {
                tracing::info!("{text}");
            }
            let _ = self.setup.writer.event(&text).await;
        }
    }

    async fn settled(&mut self, settled: Settled) {
        let now = SystemTime::now();
        let assigned = self.setup.assigned.as_ref();
        self.records.extend(settled.entries.into_iter().map(|entry| Record {
            recipient: entry.recipient,
            attempt: entry.attempt.saturating_sub(1),
            at: now,
            disposition: settled.disposition,
            class: Class::Local.number(),
            variant: variant(assigned, entry),
            evidence: settled.evidence.clone(),
            source: NO_SOURCE,
            site: NO_SITE,
            slot: None,
        }));
        self.append().await;
    }

    async fn append(&mut self) {
        let records = std::mem::replace(&mut self.records, Vec::with_capacity(GROUP));
        self.appended += records.len() as u64;
        // Where that fails nothing is believed, the slots stay armed, and the engine, which watches the
        // journal, stops.
        let _ = self.setup.writer.append(records).await;
    }
}

/// 0 for none.
fn variant(assigned: Option<&Assigned>, entry: Entry) -> u8 {
    assigned.map_or(0, |assigned| assigned.number(entry.recipient))
}

fn count(line: &mut ProviderLine, disposition: Disposition) {
    match disposition {
        Disposition::Delivered => line.delivered += 1,
        Disposition::Bounced => line.bounced += 1,
        Disposition::Deferred { .. } | Disposition::InDoubt(InDoubtPolicy::Resend) => line.deferred += 1,
        _ => {}
    }
}
