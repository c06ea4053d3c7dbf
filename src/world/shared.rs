//! What all servers of a world share: the plan, the zone, the counts, the limits, the keys.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::WorldError;
use super::ca::Authority;
use super::file::{Extension, RecordFile};
use super::ledger::Ledger;
use super::limits::Gate;
use super::maildir::Maildir;
use super::plan::Plan;
use super::verify::Verifier;
use super::zone::Zone;

/// Dialogs and messages kept for tests, at most.
const CAPTURED_MAX: usize = 50_000;

pub(crate) struct Shared {
    pub started: Instant,
    pub plan: Plan,
    pub zone: Zone,
    pub verifier: Verifier,
    pub maildir: Option<Maildir>,
    pub hosts: Vec<HostState>,
    gates: Vec<Mutex<Gate>>,
    ledger: Mutex<Ledger>,
    capture: Option<Mutex<Capture>>,
}

/// What changes about a host while the world runs.
pub(crate) struct HostState {
    pub connections: AtomicU64,
    pub transactions: AtomicU64,
    pub tls: Option<TlsAcceptor>,
}

/// An accepted message as it came, dots unstuffed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedMessage {
    pub host: String,
    pub return_path: String,
    pub recipients: Vec<String>,
    pub content: Vec<u8>,
}

#[derive(Default)]
struct Capture {
    dialogs: Vec<String>,
    messages: Vec<CapturedMessage>,
}

impl Shared {
    pub fn new(
        plan: Plan,
        records: &[RecordFile],
        authority: &Authority,
        maildir: Option<PathBuf>,
        capture: bool,
    ) -> Result<Self, WorldError> {
        let maildir = maildir
            .map(|path| {
                Maildir::open(&path)
                    .map_err(|error| WorldError::Io { what: format!("maildir {}", path.display()), error })
            })
            .transpose()?;
        let started = Instant::now();
        let gates = plan.gates.iter().map(|provider| {
            let provider = &plan.providers[*provider];
            Mutex::new(Gate::new(provider.file.limits.clone(), provider.rates, started))
        });
        let ledger = Ledger::new(
            started,
            plan.providers.iter().map(|provider| provider.name.clone()),
            plan.hosts.iter().map(|host| (host.name.clone(), host.provider)).collect(),
        );
        Ok(Self {
            started,
            zone: Zone::new(&plan, records),
            verifier: Verifier::of(records),
            maildir,
            hosts: host_states(&plan, authority)?,
            gates: gates.collect(),
            ledger: Mutex::new(ledger),
            capture: capture.then(Mutex::default),
            plan,
        })
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The limits a host is under.
    pub fn gate(&self, host: usize) -> MutexGuard<'_, Gate> {
        self.gates[self.plan.hosts[host].gate].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn capture(&self) -> Option<MutexGuard<'_, Capture>> {
        let capture = self.capture.as_ref()?;
        Some(capture.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn is_capturing(&self) -> bool {
        self.capture.is_some()
    }

    pub fn keep_dialog(&self, dialog: String) {
        if let Some(mut capture) = self.capture()
            && capture.dialogs.len() < CAPTURED_MAX
        {
            capture.dialogs.push(dialog);
        }
    }

    pub fn keep_message(&self, message: impl FnOnce() -> CapturedMessage) {
        if let Some(mut capture) = self.capture()
            && capture.messages.len() < CAPTURED_MAX
        {
            capture.messages.push(message());
        }
    }

    pub fn dialogs(&self) -> Vec<String> {
        self.capture().map(|capture| capture.dialogs.clone()).unwrap_or_default()
    }

    pub fn messages(&self) -> Vec<CapturedMessage> {
        self.capture().map(|capture| capture.messages.clone()).unwrap_or_default()
    }
}

fn host_states(plan: &Plan, authority: &Authority) -> Result<Vec<HostState>, WorldError> {
    let mut states: Vec<HostState> = plan
        .hosts
        .iter()
        .map(|_| HostState { connections: AtomicU64::new(0), transactions: AtomicU64::new(0), tls: None })
        .collect();
    for (number, provider) in plan.providers.iter().enumerate() {
        if !provider.offers(Extension::StartTls) {
            continue;
        }
        for (operator, hosts) in provider.operators.iter().enumerate() {
            let mut names: Vec<String> = hosts.iter().map(|host| plan.hosts[*host].name.clone()).collect();
            names.extend(hosts.iter().filter_map(|host| plan.hosts[*host].alias_of.clone()));
            if provider.file.dns == super::file::DnsKind::Implicit {
                let own = plan.domains.iter().filter(|(_, d)| d.provider == number && d.operator == operator);
                names.extend(own.map(|(name, _)| name.to_string()));
            }
            let config = authority.server_config(names, provider.file.tls)?;
            for host in hosts {
                states[*host].tls = Some(TlsAcceptor::from(Arc::clone(&config)));
            }
        }
    }
    Ok(states)
}
