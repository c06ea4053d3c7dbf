//! `postroad why`: why a recipient, a domain, a path or the campaign is where it is, and what comes next.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::replies::{Sites, replied};
use super::{Common, Exit, named_run, say, winner, words};
use crate::address::{AddressRef, Domain};
use crate::campaign::audience::Audience;
use crate::campaign::run::Run;
use crate::classify::{By, Class, line};
use crate::config::Node;
use crate::control::client::{self, ask};
use crate::control::history::{self, Attempted, DomainHistory, Found, Listed, Rejected};
use crate::control::protocol::{
    CampaignReport, DomainReport, PathName, PathReports, Reply, Request, RouteReport,
};
use crate::engine::suppression_files;
use crate::metrics::RowOrigin;
use crate::outcome::{Disposition, InDoubtPolicy, SiteId};
use crate::policy::{Binding, Cause, PathReport};
use crate::suppression::Suppression;

/// Paths that a person reads of at once.
const PATHS_SHOWN: usize = 8;

/// Say why mail is where it is: what binds now and until when, what caused it, what happens next
///
/// Of a recipient (ann@gmail.com), a domain (gmail.com), a path (out1@gmail.com, or *@google for all
/// sources and a provider) or the campaign. What stands before the @ is a source if there is one of that
/// name; <out1@gmail.com> is always a recipient.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_name = "RECIPIENT|DOMAIN|PATH|campaign", default_value = "campaign")]
    about: String,
    /// The run's id [default: the one that is running, else the newest]
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// What is asked about.
#[derive(Debug, PartialEq, Eq)]
enum About<'a> {
    Campaign,
    Recipient(&'a str),
    Domain(Domain),
    Path(PathName),
}

impl<'a> About<'a> {
    fn of(text: &'a str, sources: &[&str]) -> anyhow::Result<Self> {
        if text == "campaign" {
            return Ok(Self::Campaign);
        }
        if let Some(address) = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
            return Ok(Self::Recipient(address));
        }
        if let Some((source, _)) = text.split_once('@') {
            if source == "*" || sources.contains(&source) {
                return text.parse().map(Self::Path).map_err(anyhow::Error::msg);
            }
            return Ok(Self::Recipient(text));
        }
        match Domain::parse(text) {
            Ok(domain) => Ok(Self::Domain(domain)),
            // A provider, then.
            Err(_) => Ok(Self::Path(PathName { source: None, to: text.to_lowercase() })),
        }
    }
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let node = common.node()?;
    let mut sources: Vec<&str> = node.sources.keys().map(String::as_str).collect();
    if sources.is_empty() {
        sources.push(crate::config::DEFAULT);
    }
    let about = About::of(&arguments.about, &sources)?;
    let named = arguments.run.as_deref();
    let (found, text) = match about {
        About::Campaign => campaign(&node.state, named)?,
        About::Path(name) => path(&node.state, named, name)?,
        About::Domain(domain) => domain_of(&node, named, &domain)?,
        About::Recipient(address) => recipient(&node, named, address)?,
    };
    if common.json {
        say(json!({ "why": found }))?;
    } else {
        say(text.trim_end())?;
    }
    Ok(Exit::Done)
}

fn unexpected<T>() -> anyhow::Result<T> {
    bail!("the engine answered another question; is it another version?")
}

fn campaign(state: &Path, named: Option<&str>) -> anyhow::Result<(Value, String)> {
    let run = client::running(state, named)?;
    let Reply::Campaign(report) = ask(state, &run, &Request::Campaign)? else { return unexpected() };
    Ok((json!({ "campaign": report }), campaign_text(&report)))
}

fn path(state: &Path, named: Option<&str>, name: PathName) -> anyhow::Result<(Value, String)> {
    let run = client::running(state, named)?;
    let Reply::Paths(found) = ask(state, &run, &Request::Path(name))? else { return unexpected() };
    let text = paths_text(&found);
    Ok((json!({ "paths": found.paths, "count": found.count }), text))
}

/// The run that is named, that is running, or the newest; and whether an engine works on it.
fn some_run(node: &Node, named: Option<&str>) -> anyhow::Result<(Run, bool)> {
    let run = match (named, client::running(&node.state, None)) {
        (None, Ok(run)) => return Ok((run, true)),
        (None, Err(error @ client::ControlError::Several(_))) => return Err(error.into()),
        (named, _) => named_run(node, named)?,
    };
    let is_running = run.is_locked();
    Ok((run, is_running))
}

/// What the engine says of a domain, if one is running.
fn asked(
    node: &Node,
    run: &Run,
    is_running: bool,
    domain: &str,
) -> anyhow::Result<Option<Box<DomainReport>>> {
    if !is_running {
        return Ok(None);
    }
    match ask(&node.state, run, &Request::Domain(domain.to_owned())) {
        Ok(Reply::Domain(report)) => Ok(Some(report)),
        Ok(_) => unexpected(),
        // It has ended just now: what the files say is all there is.
        Err(client::ControlError::NotRunning(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

const FROM_FILES: &str = "  no engine is running: this is what the run's files say\n";

fn domain_of(node: &Node, named: Option<&str>, domain: &Domain) -> anyhow::Result<(Value, String)> {
    let (run, is_running) = some_run(node, named)?;
    let history = history::domain(&run, domain.as_str())?;
    let report = asked(node, &run, is_running, domain.as_str())?;
    let refused = history.last_refused.as_ref().map(|last| Said::of(node, last)).transpose()?;
    let mut text = format!("{domain}: {}\n", counts(&history));
    let answered = history.delivered + history.bounced + history.otherwise + history.deferred;
    let undecided = winner::undecided(&run)?.filter(|_| history.recipients > answered);
    if let Some(undecided) = &undecided {
        let _ = writeln!(text, "  test      who is outside its slice waits for the winner: {undecided}");
    }
    if let Some(refused) = &refused {
        let _ = writeln!(text, "  refused   {}", refused.text);
    }
    match &report {
        Some(report) => text.push_str(&domain_text(report, |_| true)),
        None => text.push_str(FROM_FILES),
    }
    let found = json!({
        "run": run.id, "running": report.is_some(),
        "recipients": {
            "listed": history.recipients, "delivered": history.delivered, "bounced": history.bounced,
            "otherwise": history.otherwise, "deferred": history.deferred,
            "next_due": history.next_due.and_then(|due| Timestamp::try_from(due).ok()),
        },
        "last_refused": refused.map(|said| said.json),
        "undecided": undecided,
        "domain": report,
    });
    Ok((found, text))
}

fn counts(history: &DomainHistory) -> String {
    if history.recipients == 0 {
        return "no recipients in this run (so far)".to_owned();
    }
    let settled = history.delivered + history.bounced + history.otherwise;
    let open = history.recipients.saturating_sub(settled + history.deferred);
    let parts = [
        (history.delivered, "delivered"),
        (history.bounced, "bounced"),
        (history.otherwise, "settled otherwise"),
        (history.deferred, "deferred"),
        (open, "not answered yet"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    let mut text = format!("{} recipients: {}", history.recipients, parts.join(", "));
    if let Some(due) = history.next_due.and_then(|due| Timestamp::try_from(due).ok()) {
        let _ = write!(text, "; the next is due {}", words::at(due));
    }
    text
}

fn recipient(node: &Node, named: Option<&str>, text: &str) -> anyhow::Result<(Value, String)> {
    let (run, is_running) = some_run(node, named)?;
    let address = match AddressRef::parse(text) {
        Ok(address) => address,
        // As the list has it, perhaps, and no good there either.
        Err(error) => match history::rejected(&run, text)? {
            Some(found) => return Ok(rejected(&run, text, &found)),
            None => return Err(error).with_context(|| format!("`{text}` is no address")),
        },
    };
    let listed = match history::recipient(&run, &address)? {
        Found::Listed(listed) => listed,
        Found::Rejected(found) => return Ok(rejected(&run, text, &found)),
        Found::Absent { is_whole } => return Ok(absent(node, &run, &address, is_whole)),
    };
    let last = listed.last.as_ref().map(|last| Said::of(node, last)).transpose()?;
    let standing = Standing::of(&listed);
    let lot = winner::Lot::of(&run, &address)?;
    let waits = lot.waits.as_ref().filter(|_| standing.is_open());
    // Of one who is settled, or waits for a winner, what binds now is of no interest.
    let report = if standing.is_open() && waits.is_none() {
        asked(node, &run, is_running, address.domain())?
    } else {
        None
    };

    let place = place(listed.row, listed.origin.as_ref());
    let sentence = waits.map_or_else(|| standing.sentence(), |_| "waits for the winner".to_owned());
    let mut text = format!("{} ({place}): {sentence}\n", listed.address);
    if let Some(variant) = &lot.variant {
        let _ = writeln!(text, "  variant   {variant}");
    }
    if let Some(waits) = waits {
        let _ = writeln!(text, "  next      {waits}");
    }
    if let Some(last) = &last {
        let head = if standing.is_delivered() { "reply" } else { "because" };
        let _ = writeln!(text, "  {head:<8}  {}", last.text);
    }
    // Greylisting remembers who came.
    let bound_to = last.as_ref().filter(|last| standing.due().is_some() && last.is_greylisted());
    let bound_to = bound_to.and_then(|_| listed.last.as_ref()?.source.clone());
    if let Some(next) = standing.next() {
        let from = bound_to.as_ref().map(|source| format!(", from {source} again"));
        let _ = writeln!(text, "  next      {next}{}", from.unwrap_or_default());
    }
    match &report {
        Some(report) => text.push_str(&domain_text(report, |path| path.binding != Binding::Work)),
        None if standing.is_open() && waits.is_none() => text.push_str(FROM_FILES),
        None => {}
    }
    let more = json!({
        "row": listed.row, "origin": listed.origin, "attempts": listed.last.as_ref().map_or(0, |last| last.record.attempt),
        "due": standing.due(), "bound_to": bound_to, "last": last.map(|said| said.json), "running": is_running, "domain": report,
        "variant": lot.variant, "waits_for_winner": waits,
    });
    Ok((recipient_json(&run, &listed.address, standing.name(), more), text))
}

fn rejected(run: &Run, address: &str, found: &Rejected) -> (Value, String) {
    let Rejected { row, reason, origin } = found;
    let more = json!({ "row": row, "origin": origin, "reason": reason });
    let place = place(*row, origin.as_ref());
    (recipient_json(run, address, "invalid", more), format!("{address} ({place}): invalid: {reason}\n"))
}

/// A row, and where there are several lists the one it is in.
fn place(row: u64, origin: Option<&RowOrigin>) -> String {
    origin.map_or_else(|| format!("row {row}"), |origin| format!("row {row}: {origin}"))
}

fn recipient_json(run: &Run, address: &str, state: &str, more: Value) -> Value {
    let mut found = json!({ "run": run.id, "recipient": address, "state": state });
    if let (Some(found), Value::Object(more)) = (found.as_object_mut(), more) {
        found.extend(more);
    }
    found
}

fn absent(node: &Node, run: &Run, address: &AddressRef<'_>, is_whole: bool) -> (Value, String) {
    let by = suppressed_by(node, run, address);
    let left_out = if by.is_none() && is_whole { left_out(run, address) } else { None };
    let (state, sentence) = match (&by, is_whole) {
        (None, _) if left_out.is_some() => ("left-out", left_out.unwrap_or_default()),
        (Some(file), _) => ("suppressed", format!("suppressed by {file}")),
        (None, true) => ("not-in-list", "not in the list of this run".to_owned()),
        (None, false) => ("not-read-yet", "not in the part of the list that has been read so far".to_owned()),
    };
    (
        recipient_json(run, &address.to_string(), state, json!({ "file": by })),
        format!("{address}: {sentence}\n"),
    )
}

/// Why the selection passes over an address that is on a list, as the lists are now.
fn left_out(run: &Run, address: &AddressRef<'_>) -> Option<String> {
    if !run.manifest.lists_are_files() {
        return None;
    }
    let (list, row, reason) = Audience::open(&run.manifest).ok()?.why_left_out(address.key()).ok()??;
    let list = run.manifest.list_of_row(list).unwrap_or(&run.manifest.lists[0]).file.display().to_string();
    Some(format!("left out: {reason} ({})", RowOrigin { list, row }))
}

/// The list that names an address, or its domain.
fn suppressed_by(node: &Node, run: &Run, address: &AddressRef<'_>) -> Option<String> {
    let named = suppression_files(node, &run.manifest).into_iter().find(|file| {
        let lists = Suppression::load(std::slice::from_ref(file));
        lists.is_ok_and(|lists| lists.entries().covers(address.key(), address.domain()).is_some())
    });
    named.map(|file| file.display().to_string())
}

/// Where a recipient stands.
enum Standing {
    Waiting,
    Deferred(Timestamp, u16),
    Settled(&'static str, &'static str),
    Doubt(InDoubtPolicy),
}

impl Standing {
    fn of(listed: &Listed) -> Self {
        let Some(last) = &listed.last else { return Self::Waiting };
        match last.record.disposition {
            Disposition::Deferred { until } => {
                let until = Timestamp::try_from(until).unwrap_or_default();
                Self::Deferred(until, last.record.attempt.saturating_add(1))
            }
            Disposition::Delivered => Self::Settled("delivered", "delivered"),
            Disposition::Bounced => Self::Settled("bounced", "bounced"),
            Disposition::Expired => {
                Self::Settled("expired", "expired: its time was over before it got through")
            }
            Disposition::Suppressed => Self::Settled("suppressed", "suppressed"),
            Disposition::Cancelled => Self::Settled("cancelled", "cancelled"),
            Disposition::Invalid => Self::Settled("invalid", "no message can be made of its row"),
            Disposition::InDoubt(policy) => Self::Doubt(policy),
        }
    }

    fn is_delivered(&self) -> bool {
        matches!(self, Self::Settled("delivered", _))
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Waiting | Self::Deferred(..) | Self::Doubt(InDoubtPolicy::Resend))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Deferred(..) => "deferred",
            Self::Settled(name, _) => name,
            Self::Doubt(_) => "in-doubt",
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Waiting => "waiting for its first attempt".to_owned(),
            Self::Deferred(due, _) if *due > Timestamp::now() => {
                format!("deferred until {}", words::until(*due))
            }
            Self::Deferred(..) => "deferred, and due: waiting for its turn".to_owned(),
            Self::Settled(_, sentence) => (*sentence).to_owned(),
            Self::Doubt(_) => "in doubt: it may have been delivered".to_owned(),
        }
    }

    fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Deferred(due, _) => Some(*due),
            _ => None,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::Deferred(due, attempt) if *due > Timestamp::now() => {
                Some(format!("attempt {attempt} {}", words::at(*due)))
            }
            Self::Deferred(_, attempt) => Some(format!("attempt {attempt} as soon as what follows lets it")),
            Self::Doubt(InDoubtPolicy::Resend) => Some("it is sent again".to_owned()),
            Self::Doubt(InDoubtPolicy::Hold) => Some("a person decides".to_owned()),
            _ => None,
        }
    }
}

/// What the last attempt was told, and what that means by the rules as they are now.
struct Said {
    class: Option<Class>,
    text: String,
    json: Value,
}

impl Said {
    fn of(node: &Node, last: &Attempted) -> anyhow::Result<Self> {
        let (record, evidence) = (&last.record, &last.record.evidence);
        let reply = replied(evidence);
        let (mut class, mut rule) = (Class::from_number(record.class), None);
        if let Some(reply) = reply.as_ref().filter(|reply| !reply.is_success()) {
            let rules = super::classify::load(node, &[])?;
            let mut sites = Sites::new(node);
            sites.name(record.site, last.site.as_deref().unwrap_or_default());
            let verdict = rules.classify(sites.provider(record.site).as_deref(), evidence.stage, reply);
            class = Some(verdict.class);
            rule = Some(match verdict.by {
                By::Rule(id) => format!("rule {}", rules.rule(id).name),
                By::Registry => "the enhanced status code".to_owned(),
                By::Code | By::Engine => "no rule".to_owned(),
            });
        }
        let stage = line::stage_name(evidence.stage);
        let at = Timestamp::try_from(record.at).unwrap_or_default();
        let mut text = match &reply {
            Some(reply) => format!("{stage}: `{reply}`"),
            None => evidence.text.to_string(),
        };
        let named = class.map(Class::name).into_iter().chain(rule.as_deref()).collect::<Vec<_>>().join(", ");
        if !named.is_empty() {
            let _ = write!(text, " ({named})");
        }
        let by = (record.site != SiteId(u32::MAX)).then_some(()).and(last.site.as_deref());
        if let Some(site) = by {
            let _ = write!(text, "\n            from {site}");
        }
        if let Some(source) = &last.source {
            let _ = write!(text, " to source {source}");
        }
        let start = if by.is_some() { "; " } else { "\n            " };
        let _ = write!(text, "{start}attempt {} {}", record.attempt, words::at(at));
        let json = json!({
            "at": at, "attempt": record.attempt, "stage": stage,
            "reply": reply.as_ref().map(ToString::to_string),
            "text": reply.is_none().then_some(&*evidence.text),
            "class": class, "rule": rule, "site": by, "source": last.source,
        });
        Ok(Self { class, text, json })
    }
}

impl Said {
    fn is_greylisted(&self) -> bool {
        self.class == Some(Class::Greylisted)
    }
}

/// The way to a domain, with the paths that are wanted.
fn domain_text(report: &DomainReport, wanted: impl Fn(&PathReport) -> bool) -> String {
    let mut text = String::new();
    if let Some(starts) = report.starts {
        let _ = writeln!(text, "  nothing is sent before the start {}", words::at(starts));
    }
    match &report.route {
        RouteReport::Known => {
            let site = report.site.as_deref().unwrap_or("?");
            let provider = report.provider.as_deref().map(|name| format!(", provider {name}"));
            let _ = writeln!(text, "  site      {site}{}", provider.unwrap_or_default());
        }
        RouteReport::LookedUp => text.push_str("  route     its servers are being looked up\n"),
        RouteReport::Held { until, failures, reason } => {
            let _ =
                writeln!(text, "  binds     its servers cannot be looked up, until {}", words::until(*until));
            let _ = writeln!(
                text,
                "  because   {reason}{}",
                if *failures > 1 { format!(" ({failures} times in a row)") } else { String::new() }
            );
            let _ = writeln!(text, "  next      then they are looked up again; {} waiting", report.waiting);
        }
        RouteReport::TakesNoMail { reason } => {
            let _ = writeln!(text, "  route     {reason}");
        }
        RouteReport::Unknown { reason } => {
            let _ = writeln!(text, "  route     its servers cannot be looked up: {reason}");
        }
    }
    if report.paths.is_empty() && report.route == RouteReport::Known {
        text.push_str("  no path to the site is at work now\n");
    }
    let wanted: Vec<&PathReport> = report.paths.iter().filter(|path| wanted(path)).collect();
    for path in wanted.iter().take(PATHS_SHOWN) {
        text.push_str(&path_text(path, false));
    }
    more(&mut text, wanted.len());
    text
}

fn paths_text(found: &PathReports) -> String {
    let shown = found.paths.iter().take(PATHS_SHOWN);
    let mut text: String = shown.map(|path| path_text(path, true)).collect();
    more(&mut text, found.count);
    text
}

fn more(text: &mut String, count: usize) {
    if count > PATHS_SHOWN {
        let _ = writeln!(text, "  and {} more paths; --json has more of them", count - PATHS_SHOWN);
    }
}

fn because(text: &mut String, cause: &Cause) {
    let since = Timestamp::try_from(cause.since).unwrap_or_default();
    let _ = writeln!(text, "  because   {cause}, {}", words::at(since));
}

/// One path in a few lines; `is_whole`: with its limits.
fn path_text(path: &PathReport, is_whole: bool) -> String {
    let provider = match &path.provider {
        Some(provider) if is_whole => format!("  (provider {provider})"),
        _ => String::new(),
    };
    let mut text = format!("{}@{}{provider}\n", path.source, path.site);
    let until = match path.until {
        Some(until) if matches!(path.binding, Binding::Hold) => format!(", until {}", words::until(until)),
        _ => String::new(),
    };
    let resting = path.hold.as_ref().map(|hold| hold.resting);
    let _ = writeln!(text, "  binds     {}{until}", words::binding(path.binding, resting));
    if let Some(cause) = path.cause() {
        because(&mut text, cause);
    }
    if let Some(next) = words::next(path) {
        let _ = writeln!(text, "  next      {next}");
    }
    let sessions = &path.sessions;
    let allowed = match (sessions.allowed, sessions.limit) {
        (allowed, limit) if allowed == limit => format!("{allowed}"),
        (allowed, limit) => format!("{allowed} (not {limit})"),
    };
    let _ = writeln!(
        text,
        "  now       {} of {allowed} sessions open; rate {}; {} in hand, {} waiting at the site",
        sessions.open,
        words::rate(&path.rate),
        path.in_hand,
        path.waiting
    );
    if let Some(rate) = &path.domain_rate {
        let _ = writeln!(text, "            the sending domain at the provider: {}", words::rate(rate));
    }
    if is_whole {
        // What binds a path is never one of these.
        let limits = path.limits.iter().filter(|[key, ..]| !key.starts_with("timeouts."));
        for (place, [key, value, origin]) in limits.enumerate() {
            let head = if place == 0 { "limits" } else { "" };
            let _ = writeln!(text, "  {head:<8}  {key} = {value}  ({origin})");
        }
    }
    text
}

fn campaign_text(report: &CampaignReport) -> String {
    let totals = &report.totals;
    let mut text = format!(
        "{}: {} delivered, {} bounced, {} in flight, {} waiting of {} rows{}\n",
        report.run,
        totals.delivered,
        totals.bounced,
        report.in_flight,
        totals.waiting,
        totals.rows,
        if report.import_done { "" } else { " so far" },
    );
    if let Some(starts) = report.starts {
        let _ = writeln!(text, "  nothing is sent before the start {}", words::at(starts));
    }
    if let Some(undecided) = &report.undecided {
        let _ = writeln!(text, "  test      {undecided}");
    }
    if let Some(hold) = &report.hold {
        let _ = writeln!(text, "  binds     {}", words::binding(Binding::Hold, Some(hold.resting)));
        because(&mut text, &hold.cause);
        let next = match hold.until {
            Some(until) => format!("{}: it goes on", words::at(until)),
            None => "it waits for a person: `postroad adjust resume`".to_owned(),
        };
        let _ = writeln!(text, "  next      {next}");
    } else {
        for (place, share) in report.bindings.iter().enumerate() {
            let head = if place == 0 { "binds" } else { "" };
            let paths =
                if share.paths == 1 { String::new() } else { format!(" and {} more", share.paths - 1) };
            let waiting = match share.waiting {
                0 => "some in hand".to_owned(),
                waiting => format!("{waiting} waiting"),
            };
            let binding = words::binding(share.binding, share.resting);
            let _ = writeln!(text, "  {head:<8}  {waiting}, {binding}");
            let until = share.until.map(|until| format!(", until {}", words::until(until)));
            let _ = writeln!(text, "              {}{paths}{}", share.such_as, until.unwrap_or_default());
            if let Some(cause) = &share.cause {
                let _ = writeln!(text, "              {cause}");
            }
        }
    }
    if let Some(due) = report.next_due {
        let _ =
            writeln!(text, "  next      {} deferred; the first is due {}", report.deferred, words::at(due));
    }
    if report.unrouted > 0 {
        let mut line = format!("{} waiting for servers to be looked up", report.unrouted);
        if let Some(until) = report.held_until {
            let failed = plural(report.held_domains, "look-up");
            let _ = write!(line, "; {failed} failed, the first is made again {}", words::at(until));
        }
        let _ = writeln!(text, "  route     {line}");
    }
    if report.adjustments > 0 {
        let _ = writeln!(
            text,
            "  in force  {}: `postroad adjust list`",
            plural(report.adjustments, "adjustment")
        );
    }
    text
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_is_told_by_its_form() {
        let about = |text| About::of(text, &["out1"]).unwrap();
        assert_eq!(about("campaign"), About::Campaign);
        assert_eq!(about("ann@b.test"), About::Recipient("ann@b.test"));
        assert_eq!(about("<out1@b.test>"), About::Recipient("out1@b.test"));
        assert_eq!(about("out1@b.test"), About::Path("out1@b.test".parse().unwrap()));
        assert_eq!(about("*@google"), About::Path("*@google".parse().unwrap()));
        assert_eq!(about("google"), About::Path("*@google".parse().unwrap()));
        assert_eq!(about("B.test"), About::Domain(Domain::parse("b.test").unwrap()));
        assert!(About::of("out1@", &["out1"]).is_err());
    }
}
