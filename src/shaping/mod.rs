//! The limits of a path, merged default → provider, and the ceilings a provider has over all paths.
//!
//! A pure merge of settings plus the limiters that several paths share. Paths own their own limiters;
//! what is shared here (provider-wide and campaign-wide paces and permits) is lock-free.

pub mod rate;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::config::{LimitsTable, Node, Rate};
use crate::smtp::TlsPolicy;
use rate::{Credit, Pace};

/// What one path may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Sessions open at once, at least 1.
    pub sessions: u32,
    pub messages: Option<Rate>,
    pub connections: Option<Rate>,
    /// `None`: as many as the peer takes.
    pub messages_per_session: Option<u32>,
    pub tls: TlsPolicy,
    /// How long a session without work is kept.
    pub idle: Duration,
}

impl Limits {
    /// The limits of a table, which is laid over the defaults.
    fn new(table: &LimitsTable) -> Self {
        let defaults = LimitsTable::defaults();
        let table = table.over(&defaults);
        let limited = |rate: Option<Rate>| rate.filter(|rate| !rate.is_unlimited());
        Self {
            sessions: table.sessions.unwrap_or(1).max(1),
            messages: limited(table.messages),
            connections: limited(table.connections),
            messages_per_session: table.messages_per_session,
            tls: table.tls.unwrap_or_default(),
            idle: table.idle.unwrap_or_default(),
        }
    }
}

/// What holds for a provider over all its sites and all our sources.
#[derive(Debug, Default)]
pub struct Ceilings {
    pub sessions: Option<Arc<Semaphore>>,
    pub messages: Option<Arc<Pace>>,
    pub connections: Option<Arc<Pace>>,
}

/// Every limit of the node, ready to be asked by path.
#[derive(Debug)]
pub struct Shaping {
    default: Limits,
    providers: HashMap<Arc<str>, (Limits, Arc<Ceilings>)>,
    none: Arc<Ceilings>,
}

impl Shaping {
    /// `campaign_tls` is what the manifest asks for; it wins where it is stricter.
    pub fn new(node: &Node, campaign_tls: Option<TlsPolicy>, credit: Credit) -> Self {
        let stricter =
            |limits: Limits| Limits { tls: limits.tls.max(campaign_tls.unwrap_or(limits.tls)), ..limits };
        let pace = |rate: Option<Rate>| {
            rate.filter(|rate| !rate.is_unlimited()).map(|rate| Arc::new(Pace::new(&rate, credit)))
        };
        let providers = node
            .providers
            .iter()
            .map(|(name, provider)| {
                let limits = stricter(Limits::new(&provider.limits.over(&node.limits)));
                let ceilings = Ceilings {
                    sessions: provider.sessions_total.map(|n| Arc::new(Semaphore::new(n.max(1) as usize))),
                    messages: pace(provider.messages_total),
                    connections: pace(provider.connections_total),
                };
                (Arc::from(name.as_str()), (limits, Arc::new(ceilings)))
            })
            .collect();
        Self { default: stricter(Limits::new(&node.limits)), providers, none: Arc::default() }
    }

    /// The limits of every path to a site of `provider`, and the ceilings it shares.
    pub fn of(&self, provider: Option<&str>) -> (Limits, Arc<Ceilings>) {
        match provider.and_then(|name| self.providers.get(name)) {
            Some((limits, ceilings)) => (limits.clone(), ceilings.clone()),
            None => (self.default.clone(), self.none.clone()),
        }
    }
}
