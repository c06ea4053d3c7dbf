//! Where a running engine is asked: takes connections, a line each, and answers from what is there.
//!
//! Bounded all around: so many at once, so many octets, so long. What somebody sends that makes no
//! sense costs them an answer and nobody else anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::protocol::{
    BindingShare, CampaignReport, DomainReport, PATHS_MAX, PATIENCE, PathName, PathReports,
    REQUEST_OCTETS_MAX, Reply, Request, RouteReport,
};
use super::socket::Door;
use crate::address::Domain;
use crate::metrics::Progress;
use crate::outcome::SiteId;
use crate::policy::{Binding, PathBinding, Policy};
use crate::pull::{AllQueues, Handle, QueuePlace};
use crate::site::{Resolver, Route, Site};

/// Who is answered at once; the others wait to be taken.
const AT_ONCE: usize = 8;
/// What binds paths, in one report.
const BINDINGS_MAX: usize = 12;
/// After a connection could not be taken: some file may have been closed by then.
const RELIEF: Duration = Duration::from_millis(100);

/// What answers are made from.
pub struct Desk {
    pub run: String,
    pub policy: Arc<Policy>,
    pub scheduler: Handle,
    pub resolver: Arc<Resolver>,
    pub progress: Box<dyn Fn() -> Progress + Send + Sync>,
    /// For what those outside a test's slice wait.
    pub undecided: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Looks at the files of limits and of reply rules now; blocks. Every mistake there is.
    pub reload: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Nothing is sent before.
    pub start_at: SystemTime,
}

/// Answers until told to stop; then the socket goes.
pub async fn serve(door: Door, desk: Desk, stop: CancellationToken) {
    let (desk, places) = (Arc::new(desk), Arc::new(Semaphore::new(AT_ONCE)));
    let mut conversations = JoinSet::new();
    loop {
        let taken = async {
            let place = places.clone().acquire_owned().await;
            (place, door.listener.accept().await)
        };
        tokio::select! {
            () = stop.cancelled() => return conversations.shutdown().await,
            Some(_) = conversations.join_next() => {}
            (place, accepted) = taken => match accepted {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    conversations.spawn(async move {
                        // One who hangs up has had enough.
                        let _ = conversation(stream, &desk).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "nobody can be let in at the control socket now");
                    tokio::time::sleep(RELIEF).await;
                }
            },
        }
    }
}

/// One line in, one line out.
async fn conversation(mut stream: UnixStream, desk: &Desk) -> std::io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = Vec::new();
    let mut limited = BufReader::new(reading.take(REQUEST_OCTETS_MAX as u64));
    let reply = match timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await {
        Err(_) => Reply::Refused("no whole line came in time".to_owned()),
        Ok(read) => {
            read?;
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) => desk.answer(request).await,
                Err(error) => Reply::Refused(format!("this is no request: {error}")),
            }
        }
    };
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    timeout(PATIENCE, writing.write_all(&line)).await??;
    writing.shutdown().await
}

impl Desk {
    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Campaign => match self.scheduler.all().await {
                Some(queues) => Reply::Campaign(Box::new(self.campaign(&queues))),
                None => stopping(),
            },
            Request::Domain(name) => match Domain::parse(&name) {
                Ok(domain) => self.domain(&domain).await,
                Err(error) => Reply::Refused(format!("`{name}` is no domain: {error}")),
            },
            Request::Path(name) => self.paths(&name).await,
            Request::Adjustments => Reply::Adjustments(self.policy.adjustments()),
            Request::Cancel(id) => match self.policy.cancel(id) {
                Some(gone) => Reply::Done(vec![format!("cancelled: {}: {}", gone.about, gone.what)]),
                None => Reply::Refused(format!(
                    "no adjustment has the number {id} (any more); `postroad adjust list` says which there are"
                )),
            },
            Request::Pin { to, lasting, .. } if !to.is_some_value() || lasting.is_zero() => {
                Reply::Refused("a pin is to more than nothing, and for a time".to_owned())
            }
            Request::Pin { path, to, lasting } => {
                let wanted = self.wanted(&path).await;
                let pinned = self.policy.pin(wanted, to, lasting);
                if pinned.is_empty() { self.no_such_path(&path) } else { Reply::Done(pinned) }
            }
            Request::Resume(what) => match self.policy.resume(&what) {
                resumed if resumed.is_empty() => Reply::Refused("nothing of that is paused".to_owned()),
                resumed => Reply::Done(resumed.into_iter().map(|what| format!("{what} goes on")).collect()),
            },
            Request::Reload => {
                let reload = self.reload.clone();
                match tokio::task::spawn_blocking(move || reload()).await {
                    Ok(Ok(())) => Reply::Done(vec!["what the files say holds".to_owned()]),
                    Ok(Err(faults)) => Reply::Refused(faults),
                    Err(_) => Reply::Refused("the files could not be looked at".to_owned()),
                }
            }
        }
    }

    fn starts(&self) -> Option<Timestamp> {
        let is_to_come = self.start_at > SystemTime::now();
        is_to_come.then(|| Timestamp::try_from(self.start_at).ok()).flatten()
    }

    fn campaign(&self, queues: &AllQueues) -> CampaignReport {
        let progress = (self.progress)();
        let (now, wall) = (Instant::now(), SystemTime::now());
        let held_until = queues.held_until.map(|until| wall + until.saturating_duration_since(now));
        let bindings = self.policy.bindings();
        CampaignReport {
            run: self.run.clone(),
            totals: progress.totals,
            in_flight: progress.in_flight,
            import_done: progress.import_done,
            starts: self.starts(),
            hold: self.policy.campaign_hold(),
            held: self.policy.held_line(),
            undecided: (self.undecided)(),
            paths: bindings.len(),
            bindings: self.shares(&bindings, queues),
            deferred: queues.deferred as u64,
            next_due: queues.next_due.and_then(|due| Timestamp::try_from(due).ok()),
            unrouted: queues.unrouted,
            held_domains: queues.held,
            held_until: held_until.and_then(|until| Timestamp::try_from(until).ok()),
            adjustments: self.policy.adjustments().len(),
        }
    }

    /// What binds, by how much waits there: what waits at a site is shared among its paths.
    fn shares(&self, bindings: &[(SiteId, PathBinding)], queues: &AllQueues) -> Vec<BindingShare> {
        let waiting: HashMap<SiteId, u64> = queues.sites.iter().copied().collect();
        let mut of_site = HashMap::<SiteId, u64>::new();
        bindings.iter().for_each(|(site, _)| *of_site.entry(*site).or_default() += 1);
        let mut groups: Vec<(BindingShare, u64, &PathBinding)> = Vec::new();
        for (site, path) in bindings {
            let share = waiting.get(site).map_or(0, |ready| ready.div_ceil(of_site[site]));
            let waits = share + u64::from(path.in_hand);
            // What its sessions have in hand is not counted, and keeps it busy.
            if waits == 0 && path.binding == Binding::Work {
                continue;
            }
            let same = |group: &&mut (BindingShare, u64, &PathBinding)| {
                group.0.binding == path.binding && group.0.resting == path.resting
            };
            let group = match groups.iter_mut().find(same) {
                Some(group) => group,
                None => {
                    let share = BindingShare {
                        binding: path.binding,
                        resting: path.resting,
                        waiting: 0,
                        paths: 0,
                        until: None,
                        such_as: String::new(),
                        cause: None,
                    };
                    groups.push((share, 0, path));
                    groups.last_mut().expect("it was just pushed")
                }
            };
            group.0.waiting += waits;
            group.0.paths += 1;
            group.0.until = group.0.until.into_iter().chain(path.until).min();
            if waits > group.1 {
                (group.1, group.2) = (waits, path);
            }
        }
        groups.sort_by_key(|(share, ..)| std::cmp::Reverse(share.waiting));
        groups.truncate(BINDINGS_MAX);
        let described = groups.into_iter().map(|(mut share, _, path)| {
            if let Some(report) = self.policy.path_report(path.key) {
                share.such_as = format!("{}@{}", report.source, report.site);
                // It may be another by now, with a cause of its own.
                share.cause = report.cause().filter(|_| report.binding == share.binding).cloned();
            }
            share
        });
        described.collect()
    }

    async fn domain(&self, domain: &Domain) -> Reply {
        let Some(queue) = self.scheduler.domain(domain.as_str()).await else { return stopping() };
        let (now, wall) = (Instant::now(), SystemTime::now());
        let (route, site) = match queue.place {
            QueuePlace::Site(_, site) => (RouteReport::Known, Some(site)),
            QueuePlace::LookedUp => (RouteReport::LookedUp, None),
            QueuePlace::Held { until, failures, reason } => {
                let until = wall + until.saturating_duration_since(now);
                let until = Timestamp::try_from(until).unwrap_or(Timestamp::MAX);
                (RouteReport::Held { until, failures, reason: reason.to_string() }, None)
            }
            QueuePlace::Nowhere => self.route(domain).await,
        };
        let paths = match &site {
            Some(site) => self.paths_where(|_, other| *other == **site).await.paths,
            None => Vec::new(),
        };
        Reply::Domain(Box::new(DomainReport {
            domain: domain.to_string(),
            waiting: queue.waiting,
            route,
            site: site.as_ref().map(|site| site.name.clone()),
            provider: site.as_ref().and_then(|site| site.provider.as_deref().map(str::to_owned)),
            starts: self.starts(),
            paths,
        }))
    }

    /// The way to a domain nobody waits for, mostly remembered.
    async fn route(&self, domain: &Domain) -> (RouteReport, Option<Arc<Site>>) {
        match timeout(PATIENCE, self.resolver.route(domain)).await {
            Err(_) => (RouteReport::LookedUp, None),
            Ok(routed) => match routed.route {
                Route::Site(site) => (RouteReport::Known, Some(site)),
                Route::NullMx => {
                    let reason = "the domain accepts no mail (null MX)".to_owned();
                    (RouteReport::TakesNoMail { reason }, None)
                }
                Route::NoDomain { reason } => (RouteReport::TakesNoMail { reason: reason.to_owned() }, None),
                Route::Unresolved { reason } => (RouteReport::Unknown { reason: reason.to_string() }, None),
            },
        }
    }

    async fn paths(&self, name: &PathName) -> Reply {
        let found = self.paths_where(self.wanted(name).await).await;
        if found.paths.is_empty() { self.no_such_path(name) } else { Reply::Paths(found) }
    }

    async fn paths_where(&self, wanted: impl Fn(&str, &Site) -> bool) -> PathReports {
        let queues = self.scheduler.all().await.unwrap_or_default();
        let waiting: HashMap<SiteId, u64> = queues.sites.into_iter().collect();
        let (found, count) = self.policy.paths(PATHS_MAX, wanted);
        let paths = found.into_iter().map(|(key, site, mut report)| {
            report.waiting = waiting.get(&key.site).copied().unwrap_or(0);
            report.limits = self.policy.limit_lines(&report.source, &site);
            report
        });
        PathReports { paths: paths.collect(), count }
    }

    /// Which paths a name is about: of its source, to a site of that name, host, provider or domain.
    async fn wanted(&self, name: &PathName) -> impl Fn(&str, &Site) -> bool + use<> {
        let PathName { source, to } = name.clone();
        let of_domain = match Domain::parse(&to) {
            Ok(domain) => match self.scheduler.domain(domain.as_str()).await.map(|queue| queue.place) {
                Some(QueuePlace::Site(_, site)) => Some(site),
                Some(QueuePlace::Nowhere) => self.route(&domain).await.1,
                _ => None,
            },
            Err(_) => None,
        };
        move |by, site| {
            let is_host = || site.exchanges.iter().any(|exchange| exchange.host.as_str() == to);
            let is_site = site.name == to || site.provider.as_deref() == Some(&*to) || is_host();
            let is_there = is_site || of_domain.as_ref().is_some_and(|known| *site == **known);
            is_there && source.as_deref().is_none_or(|source| source == by)
        }
    }

    fn no_such_path(&self, name: &PathName) -> Reply {
        let sources: Vec<&str> = self.policy.sources().collect();
        Reply::Refused(match &name.source {
            Some(source) if !sources.contains(&source.as_str()) => {
                format!("this run has no source `{source}`; it has {}", sources.join(", "))
            }
            _ => {
                format!(
                    "there is no path {name} now: nobody there is being sent to; what is in force beside what \
                     files say is in `postroad adjust list`"
                )
            }
        })
    }
}

fn stopping() -> Reply {
    Reply::Refused("the engine is stopping".to_owned())
}
