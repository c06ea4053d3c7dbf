//! Questions about our own domains: the few record types that checks need, asked once each.
//!
//! An answer is records, nothing, or that nobody could be asked; the three are never mixed up, so that a
//! name server that fails makes no record "missing". Failures are kept, and told once at the end.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::sync::Semaphore;

use super::https::Https;
use super::{Findings, Severity};
use crate::config::Node;
use crate::site::{ResolverError, ResolverSettings, dns_client};
use crate::smtp::TlsConnectors;

/// Where so many questions met silence and none was ever answered, no more are asked.
const SILENCES_MAX: u32 = 2;

/// What the DNS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// At least one.
    Records(Vec<T>),
    /// There are none of this type, and the DNS is sure of it.
    Nothing {
        /// The name is not there at all (NXDOMAIN).
        no_name: bool,
    },
    /// Nobody could be asked, or failed; why was noted by [`Lookup`].
    Unanswered,
}

impl<T> Answer<T> {
    fn pick<U>(self, pick: impl Fn(T) -> Option<U>) -> Answer<U> {
        match self {
            Self::Records(records) => {
                let picked: Vec<U> = records.into_iter().filter_map(pick).collect();
                if picked.is_empty() { Answer::Nothing { no_name: false } } else { Answer::Records(picked) }
            }
            Self::Nothing { no_name } => Answer::Nothing { no_name },
            Self::Unanswered => Answer::Unanswered,
        }
    }

    /// The records, none where there are none; `None` where nobody could be asked.
    pub fn known(self) -> Option<Vec<T>> {
        match self {
            Self::Records(records) => Some(records),
            Self::Nothing { .. } => Some(Vec::new()),
            Self::Unanswered => None,
        }
    }
}

/// Where the mail of a domain goes, as its MX record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mx {
    pub preference: u16,
    /// In lower case without the trailing dot; empty: the null MX (RFC 7505).
    pub host: String,
}

/// A name in lower case without the trailing dot, and a type.
type Question = (String, RecordType);

/// Who is asked. What was answered is kept as long as this is: make one for each check.
pub struct Lookup {
    client: TokioResolver,
    permits: Semaphore,
    answered: Mutex<HashMap<Question, Answer<Arc<RData>>>>,
    /// Questions that nobody answered, and why.
    unanswered: Mutex<BTreeMap<String, String>>,
    /// Whether any server ever answered, be it with a failure.
    heard: AtomicBool,
    /// Questions that met silence.
    silences: AtomicU32,
    pub(super) https: Https,
}

impl Lookup {
    /// Asks the node's DNS servers; certificates of policies are verified by `tls`.
    ///
    /// # Errors
    /// The settings name no servers and the system names none.
    pub fn new(node: &Node, tls: &TlsConnectors) -> Result<Self, ResolverError> {
        Ok(Self {
            client: dns_client(&ResolverSettings::from(&node.dns))?,
            permits: Semaphore::new(node.dns.lookups_max.max(1)),
            answered: Mutex::default(),
            unanswered: Mutex::default(),
            heard: AtomicBool::new(false),
            silences: AtomicU32::new(0),
            https: Https::new(tls),
        })
    }

    /// Policies are fetched from this port instead of 443.
    #[must_use]
    pub fn with_https_port(mut self, port: u16) -> Self {
        self.https.port = port;
        self
    }

    /// Whether any server has answered anything so far.
    pub fn was_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    /// TXT records, the strings of each put together; octets that are not UTF-8 become U+FFFD.
    pub async fn txt(&self, name: &str) -> Answer<String> {
        self.ask(name, RecordType::TXT).await.pick(|data| match &*data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        })
    }

    pub async fn mx(&self, name: &str) -> Answer<Mx> {
        self.ask(name, RecordType::MX).await.pick(|data| match &*data {
            RData::MX(mx) => Some(Mx { preference: mx.preference, host: plain(&mx.exchange) }),
            _ => None,
        })
    }

    pub async fn v4(&self, name: &str) -> Answer<Ipv4Addr> {
        self.ask(name, RecordType::A).await.pick(|data| match &*data {
            RData::A(address) => Some(address.0),
            _ => None,
        })
    }

    pub async fn v6(&self, name: &str) -> Answer<Ipv6Addr> {
        self.ask(name, RecordType::AAAA).await.pick(|data| match &*data {
            RData::AAAA(address) => Some(address.0),
            _ => None,
        })
    }

    /// Addresses of the family of `like`.
    pub async fn addresses_like(&self, name: &str, like: IpAddr) -> Answer<IpAddr> {
        match like {
            IpAddr::V4(_) => self.v4(name).await.pick(|address| Some(IpAddr::V4(address))),
            IpAddr::V6(_) => self.v6(name).await.pick(|address| Some(IpAddr::V6(address))),
        }
    }

    /// Addresses of both families; what one lacks the other may have.
    pub async fn addresses(&self, name: &str) -> Answer<IpAddr> {
        let (v4, v6) = tokio::join!(self.v4(name), self.v6(name));
        match (v4.pick(|address| Some(IpAddr::V4(address))), v6.pick(|address| Some(IpAddr::V6(address)))) {
            (Answer::Records(v4), Answer::Records(v6)) => Answer::Records([v4, v6].concat()),
            (Answer::Records(some), _) | (_, Answer::Records(some)) => Answer::Records(some),
            (Answer::Unanswered, _) | (_, Answer::Unanswered) => Answer::Unanswered,
            (nothing, _) => nothing,
        }
    }

    /// The names of an address.
    pub async fn ptr(&self, address: IpAddr) -> Answer<String> {
        let name = Name::from(address).to_ascii();
        self.ask(&name, RecordType::PTR).await.pick(|data| match &*data {
            RData::PTR(name) => Some(plain(&name.0)),
            _ => None,
        })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Answer<Arc<RData>> {
        let plain_name = name.trim_end_matches('.').to_ascii_lowercase();
        let key = (plain_name, kind);
        if let Some(answer) = held(&self.answered).get(&key) {
            return answer.clone();
        }
        let answer = self.ask_server(&key.0, kind).await;
        held(&self.answered).insert(key, answer.clone());
        answer
    }

    async fn ask_server(&self, name: &str, kind: RecordType) -> Answer<Arc<RData>> {
        // What cannot be a name is not there.
        let Ok(mut absolute) = Name::from_ascii(name) else { return Answer::Nothing { no_name: true } };
        absolute.set_fqdn(true);
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        if !self.heard.load(Relaxed) && self.silences.load(Relaxed) >= SILENCES_MAX {
            held(&self.unanswered).insert(format!("{kind} of {name}"), "no server answers".to_owned());
            return Answer::Unanswered;
        }
        let answer = self.client.lookup(absolute, kind).await;
        match &answer {
            Ok(_) | Err(NetError::Dns(_)) => self.heard.store(true, Relaxed),
            Err(_) => drop(self.silences.fetch_add(1, Relaxed)),
        }
        let error = match answer {
            Ok(lookup) => {
                let data = lookup.answers().iter().map(|record| &record.data);
                let records: Vec<_> = data.filter(|data| data.record_type() == kind).cloned().collect();
                return Answer::Records(records.into_iter().map(Arc::new).collect()).pick(Some);
            }
            Err(error) => error,
        };
        if let NetError::Dns(DnsError::NoRecordsFound(none)) = &error {
            match none.response_code {
                ResponseCode::NXDomain => return Answer::Nothing { no_name: true },
                ResponseCode::NoError => return Answer::Nothing { no_name: false },
                _ => {}
            }
        }
        held(&self.unanswered).insert(format!("{kind} of {name}"), error.to_string());
        Answer::Unanswered
    }

    /// What nobody answered so far, as one finding.
    pub(super) fn tell_unanswered(&self, findings: &mut Findings) {
        let unanswered = std::mem::take(&mut *held(&self.unanswered)).into_iter();
        let unanswered: Vec<String> =
            unanswered.map(|(question, error)| format!("{question}: {error}")).collect();
        findings.add_many(
            Severity::Warning,
            "dns-unanswered",
            (unanswered.len() as u64, &unanswered),
            "questions to the DNS could not be answered, and what depends on them was not checked",
            "check again later; if it stays so, see to the name servers of these domains or to [dns] servers",
        );
    }
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In lower case without the trailing dot.
fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
