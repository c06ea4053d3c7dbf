//! The engine: wires the road of one run, starts it, and brings it to an orderly end. No policy here.
//!
//! ```text
//! import thread ─ sealed segments ─▶ scheduler ─ grants ─▶ path ─ batches ─▶ session
//!                                       ▲                                      │ outcomes
//!                                       └── deferred ── feedback ◀─────────────┘
//!                                                          └─ records ─▶ journal thread
//! ```
//!
//! Shutdown has four steps, written once in `Running::wind_down`: stop loading; stop starting
//! transactions; let those in flight finish within a deadline; leave the rest to `resume`.

pub mod content;
mod held;
mod import;
mod lookout;
mod recover;
pub mod signers;
mod sources;
pub mod winner;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::campaign::manifest::Manifest;
use crate::campaign::run::{Run, RunLock};
use crate::campaign::spool::Spool;
use crate::campaign::variants::Assigned;
use crate::classify::Rules;
use crate::config::Node;
use crate::control::{self, Desk, Door};
use crate::egress::{self, Egress, Pool};
use crate::envelope::Verp;
use crate::feedback::{self, Feedback, Suppressor};
use crate::journal::{Inflight, Line, NameKind, Writer};
use crate::message::Signer;
use crate::message::composer::Composer;
use crate::metrics::{InDoubtLine, JournalLine, Progress, Report, Totals};
use crate::outcome::{Disposition, InDoubtPolicy};
use crate::policy::{self, Policy, Tempo};
use crate::pull::Message;
use crate::retry::Schedule;
use crate::scheduler;
use crate::shaping::rate::{Credit, Pace};
use crate::shaping::{self, Shaping};
use crate::site::{Resolver, ResolverSettings};
use crate::smtp::Reach;
use crate::smtp::tls::TlsConnectors;
use crate::suppression::{Suppression, SuppressionError};
use crate::token::Keyring;
use content::Making;
use held::Held;
use import::Import;
use lookout::{Lookout, ReplyFiles};
use winner::Contest;

/// How long what is in flight may take to finish once the run is stopped.
const DRAIN: Duration = Duration::from_secs(30);
/// In the folder of suppression: whom no campaign is to mail again, by what a server said.
pub(crate) const BY_REPLIES: &str = "by_replies.csv";
/// How often the counts are looked at for the end of the run.
const END_CHECK: Duration = Duration::from_millis(20);

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    #[error(transparent)]
    Run(#[from] crate::campaign::run::RunError),
    #[error(transparent)]
    Manifest(#[from] crate::campaign::manifest::ManifestError),
    #[error("the list cannot be read: {0}")]
    Import(String),
    #[error("the message cannot be made: {0}")]
    Content(#[from] crate::message::ContentError),
    #[error("the variant {0}: {1}")]
    Variant(String, Box<EngineError>),
    #[error("the DKIM key {name}: {error}")]
    Dkim { name: String, error: crate::message::DkimError },
    #[error(transparent)]
    DkimKey(#[from] crate::config::dkim::KeyError),
    #[error(transparent)]
    Keys(#[from] crate::token::KeyringError),
    #[error(transparent)]
    Recovery(#[from] crate::journal::JournalError),
    #[error("the journal failed: {0}; what it had not written is tried again by `postroad resume`")]
    Journal(String),
    #[error("the spool cannot be opened: {0}")]
    Spool(String),
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    #[error(
        "the road led to {0}, which is outside the world that this run may reach; nothing was sent there"
    )]
    Escape(SocketAddr),
    #[error(transparent)]
    Policy(#[from] policy::store::StoreError),
    #[error("{0}")]
    Settings(String),
    #[error("a part of the engine died, which is a bug in it; `postroad resume` goes on with the run")]
    Died,
    #[error(transparent)]
    Imbalance(#[from] crate::metrics::Imbalance),
}

/// How a run is run.
#[derive(Debug, Clone)]
pub struct Options {
    pub reach: Reach,
    /// How much faster than the clock the rules' time passes.
    pub tempo: Tempo,
}

impl Options {
    /// In real time.
    pub fn new(reach: Reach) -> Self {
        Self { reach, tempo: Tempo(1.0) }
    }
}

/// Looks at a run under way, and can ask it to stop.
#[derive(Debug, Clone)]
pub struct Watch {
    spool: Arc<Spool>,
    writer: Arc<Writer>,
    inflight: Arc<Inflight>,
    feedback: Feedback,
    held: Arc<Held>,
    /// Of a campaign that tests variants.
    contest: Option<Arc<Contest>>,
    stop: CancellationToken,
    began: Instant,
    start_at: SystemTime,
}

/// A run under way.
pub struct Running {
    watch: Watch,
    run: Run,
    lock: RunLock,
    import: Arc<Import>,
    egress: Arc<Egress>,
    policy: Arc<Policy>,
    finish: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    feedback_task: JoinHandle<()>,
    began_at: SystemTime,
    delivered_before: u64,
    warnings: Vec<String>,
}

/// Starts or resumes a run: recovers what a former process left, begins to read the list, and opens the
/// road as soon as the first segment is sealed.
///
/// # Errors
/// Whatever makes the run impossible; nothing has been sent then.
pub async fn start(node: Node, run: Run, options: Options) -> Result<Running, EngineError> {
    let lock = run.lock()?;
    let manifest = &run.manifest;
    // What a check found before, or was told instead of one, says this and more.
    let kept = run.kept_warnings();
    let is_told = kept.is_some();
    let mut warnings = kept.unwrap_or_else(|| manifest.warnings());
    let assignment = winner::assignment(&run)?;
    let recovered = recover::recover(&run, &node, assignment.as_ref()).await?;
    warnings.extend(recovered.warnings);
    let began_at = SystemTime::now();
    let start_at = run.start_at.unwrap_or(run.created);
    let schedule = Arc::new(Schedule::new(
        manifest.retry.schedule.clone(),
        manifest.retry.jitter,
        start_at,
        manifest.retry.expiry,
    ));
    if let Some(decision) = run.decision()? {
        schedule.start_anew(decision.at.into());
    }
    let (spool, writer) = (recovered.spool, Arc::new(recovered.writer));
    let contest = assignment.as_ref().filter(|assignment| assignment.is_test()).map(|assignment| {
        let (run, assignment, spool) = (run.clone(), assignment.clone(), spool.clone());
        let (writer, schedule) = (writer.clone(), schedule.clone());
        Arc::new(Contest { run, assignment, spool, writer, schedule, start_at })
    });
    let suppression = Arc::new(open_suppression(&node, manifest, &mut warnings)?);
    let (scheduler_handle, segments, scheduler_inboxes) = scheduler::channel();
    let opened = import::open(&run, &spool).await?;
    warnings.extend_from_slice(&opened.warnings);
    let keys = Keyring::open(&node.state)?;
    warnings.extend(keys.exposed().iter().map(|key| {
        let key = key.display();
        format!("the token key {key} can be read by other users: chmod 600 {key}")
    }));
    let key = keys.of_run(run.token_key)?;
    let date = run.start_at.unwrap_or(run.created);
    let (columns, token) = (opened.columns.names(), run.token());
    let making = Making { manifest, columns, run_token: token.as_str(), key, date };
    let contents = content::contents(&making, assignment.clone())?;
    if !is_told {
        let signers: Vec<&Signer> = contents.signers().collect();
        warnings.extend(signers::warnings(&manifest.dkim, &signers, date));
    }
    let verp = Verp::new(token, manifest.return_path_domain.clone(), key.clone());
    let composer = Arc::new(Composer::new(spool.clone(), suppression.clone(), contents, verp));

    let (feedback, feedback_inboxes) = feedback::channel();
    let (stop, finish) = (CancellationToken::new(), CancellationToken::new());
    let credit = if recovered.is_resumed { Credit::Empty } else { Credit::Full };
    let shaping = Shaping::new(node.shaping.clone(), manifest.tls, credit);
    let shaping = Arc::new(shaping::Live::new(shaping, &node));
    let providers = node.shaping.grouping().providers;
    let pool = sources::pool(&node, manifest, &providers, credit, &mut warnings)?;
    let mut resolver = resolver(&node)?;
    if let Some(site) = sources::relay_site(&pool) {
        resolver = resolver.with_everything_to(site);
    }
    let resolver = Arc::new(resolver);
    let policy =
        Arc::new(policy(&node, &run, recovered.is_resumed, options.tempo, &shaping, &pool, &schedule)?);
    let egress = Arc::new(Egress::new(egress::Setup {
        pool,
        shaping: shaping.clone(),
        resolver: resolver.clone(),
        connectors: connectors(&node)?,
        reach: options.reach,
        smtp_port: node.smtp_port,
        inflight: recovered.inflight.clone(),
        composer,
        feedback: feedback.clone(),
        policy: policy.clone(),
        sessions_total: node.sessions_total,
        sessions_per_source: node.sessions_per_source,
        campaign_pace: manifest.limits.messages.as_ref().map(|rate| Arc::new(Pace::new(rate, credit))),
        credit,
    }));
    for (number, source) in (0..).zip(policy.sources()) {
        let named = writer.name(NameKind::Source, number, source).await;
        named.map_err(|error| EngineError::Journal(error.to_string()))?;
    }
    let suppressor = suppressor(&node, &run, &spool)?;
    // Last of what can fail: from here on there are threads and tasks to be wound down.
    let import = Import::start(opened, &run, &spool, &suppression, segments)?;
    let feedback_task = tokio::spawn(feedback::run(
        feedback::Setup {
            writer: writer.clone(),
            scheduler: scheduler_handle.clone(),
            policy: policy.clone(),
            schedule: schedule.clone(),
            suppressor,
            in_doubt: manifest.in_doubt,
            assigned: assignment.map(|assignment| Assigned { spool: spool.clone(), assignment }),
            finish: finish.clone(),
        },
        feedback_inboxes,
    ));
    if run.is_cancelled() {
        // The first thing it hears, so that nobody is mailed before the mark is looked at again.
        scheduler_handle.send(Message::Cancel).await;
    }
    let scheduler_task = tokio::spawn(scheduler::run(
        scheduler::Setup {
            spool: spool.clone(),
            resolver: resolver.clone(),
            egress: egress.clone(),
            feedback: feedback.clone(),
            schedule,
            skip: recovered.skip,
            waiting: recover::rebound(recovered.waiting, &recovered.sources, policy.sources()),
            start: Instant::now() + start_at.duration_since(began_at).unwrap_or_default(),
            is_undecided: contest.as_ref().is_some_and(|contest| contest.assignment.winner().is_none()),
            stop: stop.clone(),
        },
        scheduler_handle.clone(),
        scheduler_inboxes,
    ));
    let lookout = Lookout {
        suppression,
        shaping,
        replies: ReplyFiles::new(node.reply_files.clone(), &policy),
        resolver: resolver.clone(),
        run: run.clone(),
        faults: Arc::default(),
    };
    let reload = lookout.clone();
    let watch_task = tokio::spawn(lookout.watch(scheduler_handle.clone(), stop.clone()));
    let watch_stop = stop.clone();
    let watch = Watch {
        spool,
        writer,
        inflight: recovered.inflight,
        feedback,
        held: Arc::new(Held::new(&policy)),
        contest: contest.clone(),
        stop,
        began: Instant::now(),
        start_at,
    };
    let mut tasks = vec![scheduler_task, watch_task, tokio::spawn(policy.clone().keep(watch_stop.clone()))];
    if let Some(contest) = contest {
        let contest = Contest::clone(&contest).watch(scheduler_handle.clone(), watch_stop.clone());
        tasks.push(tokio::spawn(contest));
    }
    match Door::open(&node.state, &run.id) {
        Ok(door) => {
            let (watch, onlooker) = (watch.clone(), watch.clone());
            let desk = Desk {
                run: run.id.clone(),
                policy: policy.clone(),
                scheduler: scheduler_handle,
                resolver,
                progress: Box::new(move || watch.progress()),
                undecided: Box::new(move || onlooker.undecided()),
                reload: Arc::new(move || reload.reload()),
                start_at,
            };
            tasks.push(tokio::spawn(control::serve(door, desk, watch_stop)));
        }
        Err(error) => warnings.push(format!(
            "this run cannot be asked (`postroad why`) nor told (`postroad adjust`) anything: no socket: {error}"
        )),
    }
    Ok(Running {
        watch,
        run,
        lock,
        import,
        egress,
        policy,
        finish,
        tasks,
        feedback_task,
        began_at,
        delivered_before: recovered.delivered,
        warnings,
    })
}

impl Watch {
    /// Everything counted so far; cheap enough to be asked several times a second.
    pub fn progress(&self) -> Progress {
        let counters = self.writer.counters().totals();
        Progress {
            totals: self.totals(),
            deferrals: counters.deferrals,
            in_flight: u64::from(self.inflight.taken()),
            import_done: self.spool.is_complete(),
            elapsed_secs: self.began.elapsed().as_secs_f64(),
            providers: self.feedback.lines(),
            waiting_for: self.waiting_for(),
        }
    }

    /// Asks for a polite end: what is in flight finishes, the rest waits for `resume`.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Rows of sealed segments, by what became of them.
    fn totals(&self) -> Totals {
        // Read in this order a count can only be missing, never there before its row.
        let settled = self.writer.counters().totals();
        let list = self.spool.totals();
        Totals {
            rows: list.rows(),
            invalid: list.invalid + settled.invalid,
            left_out: list.left_out.sum(),
            duplicate: list.duplicate,
            suppressed: list.suppressed + settled.suppressed,
            delivered: settled.delivered,
            bounced: settled.bounced,
            expired: settled.expired,
            cancelled: settled.cancelled,
            in_doubt: settled.in_doubt,
            waiting: list.accepted.saturating_sub(settled.settled()),
        }
    }

    fn waiting_for(&self) -> Option<String> {
        if SystemTime::now() < self.start_at {
            return Some(format!("waiting for the start at {}", written(self.start_at)));
        }
        let undecided = self.undecided();
        match &self.contest {
            Some(contest) if undecided.is_some() && contest.is_settled() => undecided,
            _ => self.held.line().or(undecided),
        }
    }

    /// For what those outside the test slice wait.
    fn undecided(&self) -> Option<String> {
        self.contest.as_ref().and_then(|contest| contest.waits())
    }
}

impl Running {
    /// A handle for whoever looks on.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Waits until every recipient is settled, the run is stopped, or it cannot go on; then winds down.
    ///
    /// # Errors
    /// The journal or the list failed, a rehearsal would have left its world, or the totals do not add up.
    /// The run can be resumed.
    pub async fn finished(self) -> Result<Report, EngineError> {
        let mut bug = None;
        while bug.is_none() && !(self.watch.spool.is_complete() && self.watch.totals().waiting == 0) {
            tokio::select! {
                () = self.watch.stop.cancelled() => break,
                _ = self.watch.writer.failed() => break,
                () = self.import.failed() => break,
                () = tokio::time::sleep(END_CHECK) => {}
            }
            let died = self.has_died().then_some(EngineError::Died);
            bug = self.egress.escape().map(EngineError::Escape).or(died);
        }
        let report = self.wind_down().await?;
        bug.map_or(Ok(report), Err)
    }

    /// Whether a task or thread has ended that nobody has told to.
    fn has_died(&self) -> bool {
        let mut tasks = self.tasks.iter().chain([&self.feedback_task]);
        // In this order: a task may end as soon as it is told to.
        (tasks.any(JoinHandle::is_finished) || self.import.has_died()) && !self.watch.stop.is_cancelled()
    }

    async fn wind_down(mut self) -> Result<Report, EngineError> {
        self.import.stop();
        self.watch.stop.cancel();
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        if tokio::time::timeout(DRAIN, self.egress.ended()).await.is_err() {
            self.warnings.push(format!(
                "what was in flight did not end within {}s; it is in doubt until `postroad resume`",
                DRAIN.as_secs()
            ));
        }
        self.finish.cancel();
        let _ = (&mut self.feedback_task).await;
        let policy = self.policy.clone();
        let kept = tokio::task::spawn_blocking(move || policy.end()).await;
        if let Ok(Err(error)) = kept {
            self.warnings.push(format!("what was learned of providers could not be kept: {error}"));
        }
        let closed = self.watch.writer.close().await;
        let import_error = self.import.join().await;
        closed.map_err(|error| EngineError::Journal(error.to_string()))?;
        if let Some(error) = import_error {
            return Err(EngineError::Import(error));
        }
        let totals = self.watch.totals();
        totals.check()?;
        let report = self.report(totals)?;
        drop(self.lock);
        Ok(report)
    }

    fn report(&self, totals: Totals) -> Result<Report, EngineError> {
        let counters = self.watch.writer.counters().totals();
        let seconds = self.watch.began.elapsed().as_secs_f64().max(1e-9);
        Ok(Report {
            run: self.run.id.clone(),
            campaign: self.run.manifest.name.clone(),
            started: written(self.began_at),
            ended: written(SystemTime::now()),
            finished: totals.waiting == 0 && self.watch.spool.is_complete(),
            totals,
            attempts: counters.delivered
                + counters.bounced
                + counters.in_doubt
                + counters.deferrals
                + counters.resends,
            deferrals: counters.deferrals,
            in_doubt: if counters.in_doubt + counters.resends == 0 { Vec::new() } else { self.in_doubt()? },
            providers: self.watch.feedback.lines(),
            variants: winner::results(
                &self.run.manifest,
                &counters,
                &self.watch.writer.counters().by_variant(),
                self.run.decision()?,
            )?,
            warnings: self.warnings.iter().cloned().chain(self.policy.alerts()).collect(),
            journal: self.journal_line(),
            messages_per_second: (counters.delivered - self.delivered_before) as f64 / seconds,
        })
    }

    fn journal_line(&self) -> JournalLine {
        let counters = self.watch.writer.counters();
        JournalLine {
            octets: counters.octets.load(Ordering::Relaxed),
            writes: counters.writes.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
        }
    }

    /// Every recipient the journal has ever named in doubt.
    fn in_doubt(&self) -> Result<Vec<InDoubtLine>, EngineError> {
        let mut named = Vec::new();
        for line in crate::journal::read(&self.run.journal_folder())? {
            let Line::Attempt(record) = line? else { continue };
            let Disposition::InDoubt(policy) = record.disposition else { continue };
            let Some(segment) = self.watch.spool.segment(record.recipient.segment) else { continue };
            let Ok(recipient) = segment.recipient(record.recipient.index) else { continue };
            let policy = match policy {
                InDoubtPolicy::Resend => "resend",
                InDoubtPolicy::Skip => "skip",
                InDoubtPolicy::Hold => "hold",
            };
            named.push(InDoubtLine {
                row: recipient.row,
                address: recipient.address.to_string(),
                policy: policy.into(),
                origin: self.run.row_origin(&segment, recipient.row),
            });
        }
        Ok(named)
    }
}

/// Every file that says whom a run of this campaign would not mail, of those that are there; changes nothing.
pub(crate) fn suppression_files(node: &Node, manifest: &Manifest) -> Vec<PathBuf> {
    let own = ["list.txt", BY_REPLIES].map(|name| node.state.join("suppression").join(name));
    manifest.suppression.iter().cloned().chain(own.into_iter().filter(|file| file.exists())).collect()
}

pub(crate) fn open_suppression(
    node: &Node,
    manifest: &Manifest,
    warnings: &mut Vec<String>,
) -> Result<Suppression, EngineError> {
    let store = node.state.join("suppression");
    std::fs::create_dir_all(&store).map_err(|error| EngineError::Io(store.clone(), error))?;
    let own = store.join("list.txt");
    if !own.exists() {
        std::fs::write(&own, "").map_err(|error| EngineError::Io(own.clone(), error))?;
    }
    let mut files = manifest.suppression.clone();
    files.push(own);
    let failed = |error: SuppressionError| EngineError::Settings(error.to_string());
    let mut suppression = Suppression::load(&files).map_err(failed)?;
    let by_replies = store.join(BY_REPLIES);
    if by_replies.exists() {
        // This run appends to it; what it says of this one's recipients is settled already.
        suppression = suppression.and_once(&by_replies).map_err(failed)?;
    }
    for report in suppression.reports().iter().filter(|report| report.bad_lines > 0) {
        let first = report
            .first_bad_line
            .map_or_else(String::new, |(line, why)| format!("; the first is line {line}: {why}"));
        warnings.push(format!(
            "{}: {} lines are no addresses and suppress nobody{first}",
            report.path.display(),
            report.bad_lines
        ));
    }
    Ok(suppression)
}

fn policy(
    node: &Node,
    run: &Run,
    is_resumed: bool,
    tempo: Tempo,
    shaping: &Arc<shaping::Live>,
    pool: &Pool,
    schedule: &Arc<Schedule>,
) -> Result<Policy, EngineError> {
    let rules = Rules::load(&node.reply_files)
        .map_err(|faults| EngineError::Settings(crate::config::fault::listed(&faults)))?;
    let setup = policy::Setup {
        tempo,
        is_adapting: node.adapt,
        shaping: shaping.clone(),
        sources: pool.facts(),
        schedule: schedule.clone(),
        sending_domain: run.manifest.from_address().domain().to_string(),
        is_resumed,
        // What is learned of a simulated internet is no use for the real one, nor for the next.
        folder: if run.is_rehearsal() { run.folder.clone() } else { node.state.clone() },
    };
    Ok(Policy::open(setup, rules, node)?)
}

/// Writes down whom no campaign is to mail again; of a rehearsal nobody.
fn suppressor(node: &Node, run: &Run, spool: &Arc<Spool>) -> Result<Option<Suppressor>, EngineError> {
    if run.is_rehearsal() {
        return Ok(None);
    }
    let path = node.state.join("suppression").join(BY_REPLIES);
    let failed = |error| EngineError::Io(path.clone(), error);
    Suppressor::open(&path, spool.clone(), &run.id).map(Some).map_err(failed)
}

/// A resolver by the settings.
///
/// # Errors
/// As [`Resolver::new`].
pub fn resolver(node: &Node) -> Result<Resolver, EngineError> {
    Resolver::new(ResolverSettings::from(&node.dns), node.shaping.grouping())
        .map_err(|error| EngineError::Settings(error.to_string()))
}

pub(crate) fn connectors(node: &Node) -> Result<TlsConnectors, EngineError> {
    let authorities = match &node.tls_ca_file {
        Some(file) => Some(std::fs::read(file).map_err(|error| EngineError::Io(file.clone(), error))?),
        None => None,
    };
    TlsConnectors::new(authorities.as_deref()).map_err(|error| EngineError::Settings(error.to_string()))
}

fn written(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| String::new(), |at| at.to_string())
}
