//! The world: a simulated internet on loopback, for rehearsals and tests.
//!
//! A DNS server on 127.0.0.1 and SMTP servers on 127.20.x.y (one address an MX host, one port for
//! all), described by a TOML file (`file`), which may list further DNS records. All chance is a hash of
//! (seed, address, attempt), so what must become of every address is known beforehand ([`fate`],
//! [`outlook`]); what came is counted ([`counts`]). The world runs on a thread and runtime of its own.
//!
//! A leaf: knows addresses, and nothing of campaigns, schedules or the engine.
//!
//! `plan` works the file out · `zone`, `dns` answer queries · `server` accepts, `dialog` speaks SMTP
//! over a `wire`, `line` delays · `limits`, `block`, `greylist` refuse · `ledger`, `series` count ·
//! `verify` checks signatures.

pub mod audit;
mod block;
mod ca;
mod chance;
pub mod counts;
mod dialog;
mod dns;
pub mod fate;
pub mod file;
mod greylist;
mod ledger;
mod limits;
mod line;
mod listen;
mod maildir;
pub mod measure;
pub mod outlook;
mod phrases;
mod plan;
pub mod sample;
mod series;
mod server;
mod shared;
mod transaction;
mod verify;
mod wire;
mod zone;

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::address::AddressRef;

pub use audit::Audit;
pub use ca::CaError;
pub use counts::{Counts, Greylisting};
pub use fate::{Expectation, Fate, FateCounts};
pub use file::{FileError, NameFault, RecordKind, WorldFile};
pub use outlook::Outlook;
pub use plan::PlanError;
pub use sample::Person;
pub use shared::CapturedMessage;

use plan::Plan;
use shared::Shared;

/// The world that ships with the program.
pub fn default_world() -> &'static str {
    include_str!("../../data/world.toml")
}

/// Why a world does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
}

/// What may differ from the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// For the DNS and all SMTP servers; 0 = one that is free on every address.
    pub port: u16,
    pub seed: Option<u64>,
    pub time_factor: Option<f64>,
    pub maildir: Option<PathBuf>,
    /// Keeps dialogs and messages for tests, up to a bound.
    pub capture: bool,
}

/// A world that runs; it stops when dropped.
pub struct World {
    shared: Arc<Shared>,
    port: u16,
    addresses: HashSet<SocketAddr>,
    ca_pem: String,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl World {
    /// Reads and checks a world's file.
    ///
    /// # Errors
    /// With line and column.
    pub fn load(path: &Path) -> Result<WorldFile, FileError> {
        WorldFile::open(path)
    }

    /// Starts all servers; when this returns they answer.
    ///
    /// # Errors
    /// The file contradicts itself, a port is taken, an address cannot be bound.
    pub fn start(file: &WorldFile, options: Options) -> Result<Self, WorldError> {
        let seed = options.seed.unwrap_or(file.seed);
        let plan = Plan::new(file, seed, options.time_factor.unwrap_or(file.time_factor))?;
        let authority = ca::Authority::new()?;
        let sockets = listen::Sockets::bind(&plan, options.port)
            .map_err(|error| WorldError::Io { what: "the world cannot listen".to_owned(), error })?;
        let port = sockets.port;
        let addresses = sockets.addresses();
        let maildir = options.maildir.or_else(|| file.maildir.clone());
        let shared = Arc::new(Shared::new(plan, &file.records, &authority, maildir, options.capture)?);
        let stop = CancellationToken::new();
        let thread = listen::run(Arc::clone(&shared), sockets, stop.clone())
            .map_err(|error| WorldError::Io { what: "the world's thread cannot start".to_owned(), error })?;
        Ok(Self { shared, port, addresses, ca_pem: authority.pem(), stop, thread: Some(thread) })
    }

    /// UDP and TCP.
    pub fn dns_server(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The one port of all MX hosts.
    pub fn smtp_port(&self) -> u16 {
        self.port
    }

    /// Where an MX host listens, or would if it lived.
    pub fn host(&self, name: &str) -> Option<SocketAddr> {
        let host = self.shared.plan.hosts.iter().find(|host| host.name == name)?;
        Some(SocketAddr::from((host.address, self.port)))
    }

    /// All addresses and ports that MX hosts have, the dead ones too: what a rehearsal may connect to.
    pub fn smtp_addresses(&self) -> HashSet<SocketAddr> {
        self.addresses.clone()
    }

    /// The certificate authority that the good certificates are signed by.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub fn seed(&self) -> u64 {
        self.shared.plan.seed
    }

    /// One real second stands for so many of the campaign's retry schedule.
    pub fn time_factor(&self) -> f64 {
        self.shared.plan.time_factor
    }

    /// What must become of an address; see [`fate`].
    pub fn expect(&self, address: &AddressRef<'_>) -> Fate {
        self.shared.plan.expect(address)
    }

    /// The provider that has this domain; `None` for domains of no one.
    pub fn provider_of(&self, domain: &str) -> Option<&str> {
        self.shared.plan.provider_of(domain)
    }

    /// Adds one address of a list to what must come of the list.
    pub fn expect_into(&self, address: &AddressRef<'_>, expectation: &mut Expectation) {
        let fate = self.expect(address);
        expectation.total.add(fate);
        let provider = self.provider_of(address.domain()).unwrap_or("-");
        match expectation.providers.get_mut(provider) {
            Some(counts) => counts.add(fate),
            None => expectation.providers.entry(provider.to_owned()).or_default().add(fate),
        }
    }

    /// How often the address was accepted.
    pub fn accepted(&self, address: &AddressRef<'_>) -> u32 {
        self.shared.ledger().record(address.key()).accepted
    }

    /// How often RCPT TO asked for the address, greylisted and blocked times not counted.
    pub fn attempts(&self, address: &AddressRef<'_>) -> u32 {
        self.shared.ledger().record(address.key()).attempts
    }

    /// How the address fared with the greylist; `None` where nobody asked or there is none.
    pub fn greylisting(&self, address: &AddressRef<'_>) -> Option<Greylisting> {
        self.shared.ledger().greylisting(address.key())
    }

    /// Real time since the start: the clock of the slices in [`Counts`].
    pub fn age(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// What the world has seen so far.
    pub fn counts(&self) -> Counts {
        self.shared.ledger().snapshot()
    }

    /// The names of all domains that someone has, in no order.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.shared.plan.domains.keys().map(AsRef::as_ref)
    }

    /// Gives a name records, in place of those it was given of this type; what follows from the file's
    /// providers stays. A PTR record's name may be the address. Values that are none of the type are
    /// left out; none at all take the type away.
    pub fn publish(&self, name: &str, kind: RecordKind, values: &[&str]) {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        self.shared.zone.publish(name, kind, &values);
        if kind == RecordKind::Txt {
            values.iter().for_each(|value| self.shared.verifier.publish(name, value));
        }
    }

    /// From now on every query for `name` fails so; `None`: no more.
    pub fn publish_fault(&self, name: &str, fault: Option<NameFault>) {
        self.shared.zone.publish_fault(name, fault);
    }

    /// Adds a TXT record, a DKIM key for one; replaces what the name had.
    pub fn publish_txt(&self, name: &str, value: &str) {
        self.publish(name, RecordKind::Txt, &[value]);
    }

    /// The dialogs so far, one text a connection, lines `C:` and `S:`; empty without `capture`.
    pub fn dialogs(&self) -> Vec<String> {
        self.shared.dialogs()
    }

    /// The accepted messages so far; empty without `capture`.
    pub fn messages(&self) -> Vec<CapturedMessage> {
        self.shared.messages()
    }

    /// Closes all connections, ends the thread, and says what was seen in the end.
    pub fn stop(mut self) -> Counts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the world's thread panicked");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}
