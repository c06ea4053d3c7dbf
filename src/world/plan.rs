//! The file worked out: every domain with its operator, every MX host with its address.
//!
//! A provider has one or more operators (MX sets); an operator has hosts. Built once at the start
//! and never changed after. Knows no sockets and no clock.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::block::Block;
use super::chance;
use super::file::{DnsKind, Extension, HostState, ProviderFile, Stage, TroubleFile, WorldFile};
use super::limits::Rates;
use super::measure::{Rate, Span};

/// Why a checked file still makes no world.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    #[error("the domain {domain:?} belongs to {first:?} and to {second:?}")]
    DomainTwice { domain: String, first: String, second: String },
    #[error("the host {0:?} is named twice")]
    HostTwice(String),
    #[error("{0:?} is no domain name")]
    Name(String),
    #[error("the world has more than {HOSTS_MAX} MX hosts")]
    TooManyHosts,
    #[error("only one host can have ::1")]
    Ipv6Twice,
}

/// Each host listens; a process has a thousand files by default and the engine needs its share.
const HOSTS_MAX: usize = 400;

pub(crate) struct Plan {
    pub seed: u64,
    pub time_factor: f64,
    pub stall: Duration,
    pub dkim_sample: u32,
    pub providers: Vec<Provider>,
    pub hosts: Vec<Host>,
    pub domains: HashMap<Box<str>, DomainPlan>,
    /// The provider of each set of limits.
    pub gates: Vec<usize>,
}

/// A provider as its servers need it.
pub(crate) struct Provider {
    pub name: String,
    pub file: ProviderFile,
    /// Hosts of each operator, as indices into `Plan::hosts`.
    pub operators: Vec<Vec<usize>>,
    /// In real time, as are the blocks and the delay.
    pub rates: Rates,
    pub blocks: Vec<Block>,
    pub greylist_delay: Duration,
}

pub(crate) struct Host {
    pub name: String,
    pub alias_of: Option<String>,
    pub preference: u16,
    pub state: HostState,
    pub provider: usize,
    pub operator: usize,
    /// Its set of limits: that of its operator, or of the whole provider.
    pub gate: usize,
    /// Where it listens, or would.
    pub address: Ipv4Addr,
    /// By another program.
    pub is_served_elsewhere: bool,
    pub ipv6: bool,
}

pub(crate) struct DomainPlan {
    pub provider: usize,
    pub operator: usize,
    pub dns: DnsKind,
    /// Trouble in the DNS that hit this domain, with the queries that have it (`None` = all).
    pub dns_fault: Option<(DnsKind, Option<u32>)>,
}

impl Plan {
    pub fn new(file: &WorldFile, seed: u64, time_factor: f64) -> Result<Self, PlanError> {
        let mut plan = Self {
            seed,
            time_factor,
            stall: file.stall.0,
            dkim_sample: file.dkim_sample,
            providers: Vec::new(),
            hosts: Vec::new(),
            domains: HashMap::new(),
            gates: Vec::new(),
        };
        for provider in &file.providers {
            plan.add_provider(provider)?;
        }
        if plan.hosts.iter().filter(|host| !host.is_served_elsewhere).count() > HOSTS_MAX {
            return Err(PlanError::TooManyHosts);
        }
        if plan.hosts.iter().filter(|host| host.ipv6).count() > 1 {
            return Err(PlanError::Ipv6Twice);
        }
        let mut names: Vec<&str> = plan.hosts.iter().map(|host| host.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PlanError::HostTwice(pair[0].to_owned()));
        }
        Ok(plan)
    }

    fn add_provider(&mut self, file: &ProviderFile) -> Result<(), PlanError> {
        let number = self.providers.len();
        let operators = file.generate.as_ref().map_or(1, |generate| generate.operators as usize);
        let mut provider = Provider {
            name: file.name.get_ref().clone(),
            operators: Vec::with_capacity(operators),
            rates: Rates {
                messages: file.limits.messages.map(|rate| self.rate_in_real_time(rate)),
                connections: file.limits.connection_rate.map(|rate| self.rate_in_real_time(rate)),
                window: file.limits.window,
                penalty: file.limits.penalty.map(|penalty| self.in_real_time(penalty)),
            },
            blocks: file.blocks.iter().map(|block| Block::new(block, self.time_factor)).collect(),
            greylist_delay: self
                .in_real_time(file.greylist.as_ref().map(|greylist| greylist.delay).unwrap_or_default()),
            file: file.clone(),
        };
        for operator in 0..operators {
            let mut hosts = Vec::new();
            if operator == 0 || !file.limits.provider_wide {
                self.gates.push(number);
            }
            for mx in &file.mx {
                let fill = |name: &str| name.replace("{o}", &(operator + 1).to_string());
                hosts.push(self.hosts.len());
                self.hosts.push(Host {
                    name: name_normal(&fill(&mx.host))?,
                    alias_of: mx.alias_of.as_deref().map(|name| name_normal(&fill(name))).transpose()?,
                    preference: mx.preference,
                    state: mx.state,
                    provider: number,
                    operator,
                    gate: self.gates.len() - 1,
                    address: mx.served_at.unwrap_or_else(|| address_of(self.hosts.len())),
                    is_served_elsewhere: mx.served_at.is_some(),
                    ipv6: mx.ipv6,
                });
            }
            provider.operators.push(hosts);
        }
        self.providers.push(provider);
        let generated = file.generate.iter().flat_map(|generate| {
            (0..generate.count).map(|n| generate.pattern.replace("{n}", &(n + 1).to_string()))
        });
        for (place, name) in file.domains.iter().cloned().chain(generated).enumerate() {
            self.add_domain(&name, number, place % operators, file)?;
        }
        Ok(())
    }

    fn add_domain(
        &mut self,
        name: &str,
        provider: usize,
        operator: usize,
        file: &ProviderFile,
    ) -> Result<(), PlanError> {
        let name = name_normal(name)?;
        let mut point = chance::share(self.seed, "dns", name.as_bytes(), 0);
        let dns_fault = file.dns_faults.iter().find(|fault| {
            let hit = point < fault.share;
            point -= fault.share;
            hit
        });
        let domain = DomainPlan {
            provider,
            operator,
            dns: file.dns,
            dns_fault: dns_fault.map(|fault| (fault.kind, fault.queries)),
        };
        if let Some(other) = self.domains.insert(name.as_str().into(), domain) {
            return Err(PlanError::DomainTwice {
                domain: name,
                first: self.providers[other.provider].name.clone(),
                second: self.providers[provider].name.clone(),
            });
        }
        Ok(())
    }

    fn in_real_time(&self, span: Span) -> Duration {
        span.0.div_f64(self.time_factor)
    }

    fn rate_in_real_time(&self, rate: Rate) -> Rate {
        Rate { count: rate.count, per: self.in_real_time(Span(rate.per)) }
    }

    /// The trouble of the address with this key, if it has one; an address has at most one.
    pub fn trouble_of(&self, provider: usize, key: u128) -> Option<&TroubleFile> {
        let troubles = &self.providers[provider].file.troubles;
        if troubles.is_empty() {
            return None;
        }
        let mut point = chance::share(self.seed, "address", &key.to_le_bytes(), 0);
        troubles.iter().filter(|trouble| trouble.scope_is_address()).find(|trouble| {
            let hit = point < trouble.share;
            point -= trouble.share;
            hit
        })
    }

    /// The trouble that strikes the `ordinal`th connection (at `mail`: transaction) of a host.
    pub fn session_trouble(&self, host: usize, stage: Stage, ordinal: u64) -> Option<&TroubleFile> {
        let host = &self.hosts[host];
        let troubles = &self.providers[host.provider].file.troubles;
        let mut at_stage = troubles.iter().filter(|trouble| trouble.stage() == stage).peekable();
        at_stage.peek()?;
        let mut point =
            chance::share(self.seed, "session", host.name.as_bytes(), ordinal << 8 | stage as u64);
        at_stage.find(|trouble| {
            let numbered = trouble.attempts.as_ref();
            if numbered.is_some_and(|attempts| !attempts.iter().any(|a| u64::from(*a) == ordinal)) {
                return false;
            }
            let hit = point < trouble.share;
            point -= trouble.share;
            hit
        })
    }

    /// Whether addresses of this provider are greylisted when they come first.
    pub fn is_greylisted(&self, provider: usize, key: u128) -> bool {
        self.providers[provider].file.greylist.as_ref().is_some_and(|greylist| {
            greylist.share >= 1.0
                || chance::share(self.seed, "greylist", &key.to_le_bytes(), 0) < greylist.share
        })
    }
}

impl Provider {
    pub fn offers(&self, extension: Extension) -> bool {
        self.file.extensions.contains(&extension)
    }
}

impl TroubleFile {
    /// Whether the trouble strikes at this attempt, 1 being the first.
    pub(crate) fn strikes(&self, attempt: u32) -> bool {
        self.attempts.as_ref().is_none_or(|attempts| attempts.contains(&attempt))
    }
}

fn name_normal(name: &str) -> Result<String, PlanError> {
    crate::address::Domain::parse(name)
        .map(|domain| domain.as_str().to_owned())
        .map_err(|_| PlanError::Name(name.to_owned()))
}

/// 127.20.0.1 and up: clear of what else listens on a workstation's loopback.
fn address_of(number: usize) -> Ipv4Addr {
    let number = number as u32;
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 20, 0, 0)) + (number / 250) * 256 + number % 250 + 1)
}

impl Host {
    /// The addresses its name has in the DNS.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let known = self.state != HostState::Unresolvable;
        let v6 = (known && self.ipv6).then_some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        known.then_some(IpAddr::V4(self.address)).into_iter().chain(v6)
    }
}
