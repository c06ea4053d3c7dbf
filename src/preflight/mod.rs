//! Preflight: everything about a campaign that can be known to be wrong before a message is sent.
//!
//! ```text
//! manifest ─ sender     From, keys, pool, suppression files
//! list     ─ list       refused rows, slips, domains, shares
//! each row ─ rows       its message made, taken apart (anatomy, encoded, markup) and held to the rules:
//!                       header, body, links
//! samples  ─ sender     signed messages: what the signatures cover
//! network  ─ dns        what receivers look up about us; whether the list's domains take mail
//!            spam       what spam filters say of the samples
//! ```
//! Each check adds [`Finding`]s; a finding says what is wrong, with what, how often, and what to do. The
//! worst of them decides whether a run starts. Checks that ask the network come last, with what the others
//! have made; they are left out offline.

mod anatomy;
mod body;
pub mod dns;
mod domains;
mod encoded;
mod finding;
mod header;
mod links;
mod list;
mod markup;
mod names;
mod progress;
mod report;
mod rows;
mod samples;
mod sender;
pub mod spam;
mod tally;
mod url;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::address::Domain;
use crate::campaign::draft::{Draft, DraftError};
use crate::campaign::manifest::{Manifest, ManifestError, Tracking};
use crate::campaign::segment::{Segment, SegmentError};
use crate::campaign::variants::Assignment;
use crate::config::Node;
use crate::engine::content::{Making, contents};
use crate::engine::{self, EngineError};
use crate::message::Signer;
use crate::message::composer::Contents;
use crate::suppression::{Suppression, SuppressionError};
use crate::token::Key;

pub use finding::{Finding, Findings, Severity};
pub use list::Share;
pub use names::NAMES;
pub use progress::Progress;
pub use report::{Figures, Ignored, Report};
pub use rows::Largest;
pub use samples::Sample;

/// Stands in Message-IDs where a run's token will.
const TOKEN: &str = "preflight000";
/// Messages that are signed and kept besides the largest.
const SAMPLES: u64 = 5;

/// Why a check cannot be done at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreflightError {
    #[error("cannot read the list again: {0}")]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Draft(DraftError),
    #[error(transparent)]
    Suppression(#[from] SuppressionError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("a check died, which is a bug in it")]
    Died,
}

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct Order {
    pub manifest: Manifest,
    pub node: Node,
    /// Of the run: which keys sign.
    pub date: SystemTime,
    /// Nothing is asked of the network.
    pub is_offline: bool,
    /// Names of checks, besides those of manifest and settings.
    pub ignore: Vec<String>,
}

/// What checks work on.
pub struct Subject {
    /// With those keys only that can sign.
    pub manifest: Manifest,
    pub node: Node,
    pub date: SystemTime,
    /// The list as a run would read it; `None` where it can be read only once.
    pub draft: Option<Draft>,
    /// In the order of the manifest.
    pub signers: Vec<Signer>,
    /// Signed messages of real rows; the largest first. None where none could be made.
    pub samples: Vec<Sample>,
    /// Hosts of links and pictures in all messages, some thousands at most.
    pub link_domains: BTreeSet<Domain>,
    pub figures: Option<Figures>,
    /// How bad it is to miss what large providers demand of bulk mail.
    pub demanded: Severity,
}

impl Subject {
    /// The list's segments; their domains are [`crate::campaign::domains::domains_of`] them.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.draft.iter().flat_map(|draft| draft.spool.iter()).collect()
    }
}

/// Checks a campaign. Takes as many cores as there are for as long as it makes the messages, and disk below
/// the node's state for the list.
///
/// # Errors
/// Only what keeps it from checking; what is wrong with the campaign is in the report.
pub async fn check(order: Order, progress: &Arc<Progress>) -> Result<Report, PreflightError> {
    let is_offline = order.is_offline;
    let Manifest { name, check, .. } = &order.manifest;
    let ignore = [&check.ignore[..], &order.node.check.ignore, &order.ignore].concat();
    let name = name.clone();
    let theirs = Arc::clone(progress);
    let made = tokio::task::spawn_blocking(move || local(order, &theirs)).await;
    let (mut subject, mut findings) = made.map_err(|_| PreflightError::Died)??;
    if !is_offline {
        progress.is_asking.store(true, Relaxed);
        ask(&mut subject, progress, &mut findings).await?;
    }
    Ok(Report::new(name, findings, &ignore, subject.figures))
}

/// Everything that asks somebody else.
async fn ask(
    subject: &mut Subject,
    progress: &Progress,
    findings: &mut Findings,
) -> Result<(), PreflightError> {
    let Subject { manifest, node, signers, samples, demanded, .. } = &*subject;
    let links = subject.link_domains.iter().cloned().collect();
    let mut sending = dns::Sending::new(manifest, node, signers, links);
    sending.demanded = *demanded;
    let lookup = dns::Lookup::new(node, &engine::connectors(node)?);
    match &lookup {
        Ok(lookup) => dns::check(&sending, lookup, findings).await,
        Err(error) => {
            let what = format!("the DNS cannot be asked, and what depends on it was not checked: {error}");
            findings.add(Severity::Warning, "dns-unanswered", what, "name name servers in [dns] servers");
        }
    }
    let messages: Vec<(u64, Vec<u8>)> =
        samples.iter().map(|sample| (sample.row, sample.message.clone())).collect();
    spam::check(&node.check.spam(), &messages, findings).await;
    // Where no name server is heard of at all, that was told, and each domain would say it again.
    if let Some(draft) = subject.draft.as_ref().filter(|_| lookup.is_ok_and(|lookup| lookup.was_heard())) {
        let bounds = dns::domains::Bounds::new(node);
        let resolver = engine::resolver(node)?;
        let survey = dns::domains::survey(&draft.spool, &resolver, bounds, &progress.domains, findings).await;
        if let Some(figures) = &mut subject.figures {
            figures.providers = survey.shares();
        }
    }
    Ok(())
}

/// A campaign whose manifest cannot be opened is reported like any other.
pub fn unreadable(campaign: String, error: &ManifestError, ignore: &[String]) -> Report {
    let mut findings = Findings::default();
    findings.add(
        Severity::Error,
        "manifest",
        error.to_string(),
        "mend the manifest; nothing else was looked at",
    );
    Report::new(campaign, findings, ignore, None)
}

/// Everything that needs nobody else.
fn local(order: Order, progress: &Progress) -> Result<(Subject, Findings), PreflightError> {
    let Order { manifest, node, date, is_offline, .. } = order;
    let mut findings = Findings::default();
    sender::check(&manifest, &node, &mut findings);
    sender::variants(&manifest, &mut findings);
    let suppression = Suppression::load(&engine::suppression_files(&node, &manifest))?;
    sender::suppression(&suppression, &mut findings);
    let draft = read(&manifest, &node, &suppression, &mut findings)?;
    let segments: Vec<Arc<Segment>> = draft.iter().flat_map(|draft| draft.spool.iter()).collect();
    let shares = list::shares(&segments);
    let demanded = list::demanded(&shares);
    let (usable, signers) = sender::keys(&manifest, date, demanded, &mut findings);
    let mut subject = Subject {
        manifest: usable,
        node,
        date,
        draft,
        signers,
        samples: Vec::new(),
        link_domains: BTreeSet::new(),
        figures: None,
        demanded,
    };
    let Some(draft) = &subject.draft else { return Ok((subject, findings)) };
    list::check(draft, &segments, &mut findings)?;
    let totals = &draft.totals;
    let mut figures = Figures {
        rows: totals.rows,
        invalid: totals.invalid,
        duplicate: totals.duplicate,
        suppressed: totals.suppressed,
        left_out: totals.left_out.sum(),
        mailed: totals.accepted,
        providers: shares,
        ..Figures::default()
    };
    if let Some((plain, signed)) = both(&subject, draft, &mut findings) {
        let began = Instant::now();
        let growth = samples::growth(&plain, &signed, draft)?;
        let facts = rows::Facts::new(&subject.node.check, demanded, growth);
        progress.recipients.store(draft.totals.accepted, Relaxed);
        let seen = rows::check(&plain, draft, &facts, &progress.looked_at)?;
        seen.tally.into_findings(&mut findings);
        list::columns(draft, &seen.empty, &templates(&subject.manifest), &mut findings);
        subject.samples = samples::samples(&signed, draft, seen.largest.as_ref(), SAMPLES)?;
        sender::seals(&subject.manifest, &subject.samples, demanded, is_offline, &mut findings);
        subject.link_domains = seen.links.domains;
        subject.link_domains.extend(subject.manifest.tracking.as_ref().and_then(tracking_domain));
        figures.seconds = began.elapsed().as_secs_f64();
        figures.rendered = seen.rendered;
        figures.unrenderable = seen.unrenderable;
        figures.largest = seen.largest;
    }
    subject.figures = Some(figures);
    Ok((subject, findings))
}

/// The list as a run would read it; what keeps it from being read is a finding.
fn read(
    manifest: &Manifest,
    node: &Node,
    suppression: &Suppression,
    findings: &mut Findings,
) -> Result<Option<Draft>, PreflightError> {
    // A pipe can be read only once, and the run is to have it.
    if !manifest.lists_are_files() {
        let what = "a list comes by pipe and can be read only once: it and its messages are not checked";
        findings.add(Severity::Note, "list-piped", what, "put it into a file to have it checked");
        return Ok(None);
    }
    match Draft::read(&node.state, manifest, suppression) {
        Ok(draft) => Ok(Some(draft)),
        Err(DraftError::Audience(error)) => {
            findings.add(Severity::Error, "list", error.to_string(), "mend [list] or the file");
            Ok(None)
        }
        Err(error) => Err(PreflightError::Draft(error)),
    }
}

/// The messages compiled without signatures and tracking, so that links are seen as their readers will
/// follow them, and as they will be sent; what keeps them from being compiled is a finding.
fn both(subject: &Subject, draft: &Draft, findings: &mut Findings) -> Option<(Contents, Contents)> {
    let columns = draft.columns.names();
    let key = &Key::stand_in();
    let made = |manifest: &Manifest| {
        let making = Making { manifest, columns, run_token: TOKEN, key, date: subject.date };
        contents(&making, Assignment::of(manifest).map(Arc::new))
    };
    let mut plain = subject.manifest.clone();
    plain.dkim.clear();
    plain.tracking = None;
    match made(&plain).and_then(|plain| Ok((plain, made(&subject.manifest)?))) {
        Ok(both) => Some(both),
        Err(error) => {
            let advice = "mend it; no message was looked at";
            findings.add(Severity::Error, "message", error.to_string(), advice);
            None
        }
    }
}

/// The host that tracked links lead over.
fn tracking_domain(tracking: &Tracking) -> Option<Domain> {
    match url::target(&tracking.base_url) {
        url::Target::Web(web) => Domain::parse(web.host).ok(),
        _ => None,
    }
}

/// The texts that print variables, and maybe some that do not; what is no text is no template either.
fn templates(manifest: &Manifest) -> Vec<String> {
    let files = manifest.content_files().unwrap_or_default();
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(manifest.folder.join(file)).ok());
    let subjects = manifest.variants.iter().filter_map(|variant| variant.subject.clone());
    texts.chain([manifest.subject.clone()]).chain(subjects).chain(manifest.to_name.clone()).collect()
}
