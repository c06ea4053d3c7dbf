//! What the world's DNS knows: built from the plan, TXT records added while it runs.
//!
//! Names without trailing dot in lower case. Decides answers; [`super::dns`] puts them on the wire.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, TXT};
use hickory_proto::rr::{Name, RData, RecordType};

use super::file::DnsKind;
use super::plan::{DomainPlan, Host, Plan};

/// A TXT character string holds no more octets (RFC 1035 §3.3.14).
const TXT_OCTETS_MAX: usize = 255;
/// Of records published while the world runs, in seconds.
const PUBLISHED_TTL: u32 = 60;

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
    published: RwLock<HashMap<String, String>>,
}

impl Zone {
    pub fn new(plan: &Plan) -> Self {
        let mut zone = Self { nodes: HashMap::new(), published: RwLock::default() };
        for host in &plan.hosts {
            let ttl = plan.providers[host.provider].file.ttl.0.as_secs() as u32;
            zone.add_host(host, ttl);
        }
        for (name, domain) in &plan.domains {
            zone.add_domain(plan, name, domain);
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

    pub fn publish_txt(&self, name: &str, value: &str) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut published = self.published.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        published.insert(name, value.to_owned());
    }

    fn published(&self, name: &str) -> Option<ZoneRecord> {
        let published = self.published.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let value = published.get(name)?;
        let parts = value.as_bytes().chunks(TXT_OCTETS_MAX).collect();
        let data = RData::TXT(TXT::from_bytes(parts));
        Some(ZoneRecord { name: name.to_owned(), ttl: PUBLISHED_TTL, data })
    }

    /// Answers a query; `name` in lower case without the trailing dot.
    pub fn answer(&self, name: &str, kind: RecordType) -> Answer {
        let mut records = Vec::new();
        let mut name = name.to_owned();
        // An alias in this zone points to a name that is none, so two steps are the longest way.
        for _ in 0..2 {
            if let Some(record) = self.published(&name) {
                records.extend((kind == RecordType::TXT).then_some(record));
                return Answer::Records(records);
            }
            let Some(node) = self.nodes.get(&name) else {
                return if records.is_empty() { Answer::Nxdomain } else { Answer::Records(records) };
            };
            if let Some(answer) = node.trouble_answer(&name, kind) {
                return answer;
            }
            let matching = node.records.iter().filter(|data| data.record_type() == kind);
            records.extend(matching.map(|data| node.record(&name, data)));
            let alias = node.records.iter().find_map(|data| match data {
                RData::CNAME(target) if kind != RecordType::CNAME => Some((target, data)),
                _ => None,
            });
            let Some((target, data)) = alias else { break };
            records.push(node.record(&name, data));
            name = target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        }
        Answer::Records(records)
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
