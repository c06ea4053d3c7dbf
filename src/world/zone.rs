//! What the world's DNS knows: built from the plan and the file's records; more are added while it runs.
//!
//! Names without trailing dot in lower case. Decides answers; [`super::dns`] puts them on the wire.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX};
use hickory_proto::rr::{Name, RData, RecordType};

use super::file::{DnsKind, NameFault, RecordFile, RecordKind, normal};
use super::plan::{DomainPlan, Host, Plan};

/// Of records that no provider is behind, in seconds.
const PUBLISHED_TTL: u32 = 60;
/// Aliases that are followed in one answer.
const ALIASES_MAX: usize = 8;

/// What a query comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Records in order, aliases first; none at all means "no such data".
    Records(Vec<ZoneRecord>),
    Nxdomain,
    Servfail,
    Silent,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ZoneRecord {
    pub name: String,
    pub ttl: u32,
    pub data: RData,
}

#[derive(Default)]
struct Node {
    ttl: u32,
    records: Vec<RData>,
    trouble: Option<Trouble>,
}

struct Trouble {
    kind: DnsKind,
    /// Queries that still have it; `None` = all.
    left: Option<AtomicU32>,
}

pub(crate) struct Zone {
    nodes: HashMap<String, Node>,
    published: RwLock<HashMap<String, Published>>,
}

/// What a name has besides what the plan gives it.
#[derive(Default)]
struct Published {
    records: Vec<RData>,
    fault: Option<NameFault>,
}

impl Zone {
    pub fn new(plan: &Plan, records: &[RecordFile]) -> Self {
        let mut zone = Self { nodes: HashMap::new(), published: RwLock::default() };
        for host in &plan.hosts {
            let ttl = plan.providers[host.provider].file.ttl.0.as_secs() as u32;
            zone.add_host(host, ttl);
        }
        for (name, domain) in &plan.domains {
            zone.add_domain(plan, name, domain);
        }
        for record in records {
            let name = record.name.get_ref();
            match (record.kind, record.fault) {
                (Some(kind), _) => zone.add_published(name, kind, record.value.as_slice()),
                (None, fault) => zone.publish_fault(name, fault),
            }
        }
        zone
    }

    fn add_host(&mut self, host: &Host, ttl: u32) {
        let owner = match &host.alias_of {
            None => host.name.clone(),
            Some(target) => {
                self.add(&host.name, ttl, RData::CNAME(CNAME(absolute(target))));
                target.clone()
            }
        };
        for address in host.addresses() {
            self.add(&owner, ttl, address_record(address));
        }
    }

    fn add_domain(&mut self, plan: &Plan, name: &str, domain: &DomainPlan) {
        let provider = &plan.providers[domain.provider];
        let ttl = provider.file.ttl.0.as_secs() as u32;
        let hosts = || provider.operators[domain.operator].iter().map(|host| &plan.hosts[*host]);
        let mx = |host: &Host| RData::MX(MX::new(host.preference, absolute(&host.name)));
        let node = self.nodes.entry(name.to_owned()).or_default();
        node.ttl = ttl;
        node.trouble = match domain.dns_fault {
            Some((kind, queries)) => Some(Trouble { kind, left: queries.map(AtomicU32::new) }),
            None => is_trouble(domain.dns).then_some(Trouble { kind: domain.dns, left: None }),
        };
        match domain.dns {
            DnsKind::Mx => node.records.extend(hosts().map(mx)),
            DnsKind::Implicit => {
                node.records.extend(hosts().flat_map(Host::addresses).map(address_record));
            }
            DnsKind::Cname => {
                let target = format!("mail-routing.{name}");
                node.records.push(RData::CNAME(CNAME(absolute(&target))));
                for host in hosts() {
                    self.add(&target, ttl, mx(host));
                }
            }
            DnsKind::NullMx | DnsKind::Nxdomain | DnsKind::Nodata | DnsKind::Servfail | DnsKind::Silent => {}
        }
    }

    fn add(&mut self, name: &str, ttl: u32, data: RData) {
        let node = self.nodes.entry(name.to_owned()).or_default();
        node.ttl = ttl;
        node.records.push(data);
    }

    /// Replaces what `name` had of this type; values of another type are left out.
    pub fn publish(&self, name: &str, kind: RecordKind, values: &[String]) {
        let owner = kind.owner(name);
        let record_type = record_type(kind);
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let node = published.entry(owner).or_default();
        node.records.retain(|data| data.record_type() != record_type);
        drop(published);
        self.add_published(name, kind, values);
    }

    /// From now on queries for `name` fail, or do so no more.
    pub fn publish_fault(&self, name: &str, fault: Option<NameFault>) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        published.entry(normal(name)).or_default().fault = fault;
    }

    fn add_published(&self, name: &str, kind: RecordKind, values: &[String]) {
        let records = values.iter().filter_map(|value| kind.data(value).ok());
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        published.entry(kind.owner(name)).or_default().records.extend(records);
    }

    /// Answers a query; `name` in lower case without the trailing dot.
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::new();
        let mut name = name.to_owned();
        for _ in 0..=ALIASES_MAX {
            let (node, extra) = (self.nodes.get(&name), published.get(&name));
            if let Some(answer) = extra.and_then(Published::fault_answer) {
                return answer;
            }
            let is_known = node.is_some() || extra.is_some_and(|extra| !extra.records.is_empty());
            if !is_known {
                return if records.is_empty() { Answer::Nxdomain } else { Answer::Records(records) };
            }
            if let Some(answer) = node.and_then(|node| node.trouble_answer(&name, kind)) {
                return answer;
            }
            let planned = node.iter().flat_map(|node| node.records.iter().map(|data| (node.ttl, data)));
            let added = extra.iter().flat_map(|extra| extra.records.iter().map(|data| (PUBLISHED_TTL, data)));
            let all: Vec<(u32, &RData)> = planned.chain(added).collect();
            let record = |(ttl, data): &(u32, &RData)| ZoneRecord {
                name: name.clone(),
                ttl: *ttl,
                data: (*data).clone(),
            };
            records.extend(all.iter().filter(|(_, data)| data.record_type() == kind).map(record));
            let alias = all.iter().find_map(|held| match held.1 {
                RData::CNAME(target) if kind != RecordType::CNAME => Some((target, record(held))),
                _ => None,
            });
            let Some((target, record)) = alias else { break };
            records.push(record);
            name = normal(&target.to_ascii());
        }
        Answer::Records(records)
    }
}

impl Published {
    fn fault_answer(&self) -> Option<Answer> {
        self.fault.map(|fault| match fault {
            NameFault::Servfail => Answer::Servfail,
            NameFault::Silent => Answer::Silent,
        })
    }
}

fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Mx => RecordType::MX,
        RecordKind::Txt => RecordType::TXT,
        RecordKind::Ptr => RecordType::PTR,
        RecordKind::Cname => RecordType::CNAME,
    }
}

impl Node {
    fn record(&self, name: &str, data: &RData) -> ZoneRecord {
        ZoneRecord { name: name.to_owned(), ttl: self.ttl, data: data.clone() }
    }

    /// What the trouble of the name, if it has one left, makes of a query.
    fn trouble_answer(&self, name: &str, kind: RecordType) -> Option<Answer> {
        let trouble = self.trouble.as_ref()?;
        if let Some(left) = &trouble.left {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
        }
        Some(match trouble.kind {
            DnsKind::Nxdomain => Answer::Nxdomain,
            DnsKind::Servfail => Answer::Servfail,
            DnsKind::Silent => Answer::Silent,
            DnsKind::NullMx if kind == RecordType::MX => {
                Answer::Records(vec![self.record(name, &RData::MX(MX::new(0, Name::root())))])
            }
            DnsKind::NullMx | DnsKind::Nodata => Answer::Records(Vec::new()),
            DnsKind::Mx | DnsKind::Implicit | DnsKind::Cname => return None,
        })
    }
}

fn is_trouble(kind: DnsKind) -> bool {
    !matches!(kind, DnsKind::Mx | DnsKind::Implicit | DnsKind::Cname)
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("names of a plan are parsed domains");
    name.set_fqdn(true);
    name
}

fn address_record(address: std::net::IpAddr) -> RData {
    match address {
        std::net::IpAddr::V4(address) => RData::A(A(address)),
        std::net::IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}
