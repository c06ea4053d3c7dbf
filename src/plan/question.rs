//! What a plan is made from. Numbers and limits only; whoever fills this in has looked up the rest.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::load::Cohort;
use crate::config::Rate;
use crate::policy::warmup::{Slot, Warmup};
use crate::shaping::Limits;

/// Everything that is asked at once.
#[derive(Debug)]
pub struct Question {
    /// When the first message may start.
    pub start: SystemTime,
    /// At least one.
    pub sources: Vec<Source>,
    pub providers: Vec<Provider>,
    pub sites: Vec<Site>,
    /// The campaign's own ceilings; all hold.
    pub campaign: Vec<Rate>,
    /// Messages a second that the machine can make and send, above 0.
    pub machine: f64,
    /// Sessions at once on the node.
    pub sessions: f64,
    /// Waits between attempts, the last one repeating; never empty.
    pub retry: Vec<Duration>,
    /// Part of a wait by which it may be longer, 0 to 1.
    pub jitter: f64,
    /// From the start; whoever is not settled then expires.
    pub expiry: Duration,
    /// The accounts as they stand at the start.
    pub warmup: Warmup,
    /// Recipients who can be neither reached nor given up before the expiry.
    pub unreachable: u64,
}

/// A way out.
#[derive(Debug, Clone)]
pub struct Source {
    pub name: String,
    /// At least 1.
    pub weight: u32,
    /// What its account at a relay allows; all hold.
    pub account: Vec<Rate>,
    /// Sessions at once.
    pub sessions: f64,
}

/// What holds over all sites of a provider; of sites without a known one, nothing but warm-up does.
#[derive(Debug, Clone, Default)]
pub struct Provider {
    pub name: String,
    /// Over all sites and sources; all hold.
    pub messages: Vec<Rate>,
    pub connections: Vec<Rate>,
    pub sessions: Option<u32>,
    /// By source: the warm-up accounts that its messages count against.
    pub warmup: Vec<Vec<Slot>>,
    /// Messages a second of the sending domain over all sources, by what was learned before.
    pub learned: Option<f64>,
}

/// How long something rests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rest {
    Until(SystemTime),
    /// Until a person says otherwise.
    ForGood,
}

/// Domains with the same servers, and who is to be mailed there.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its place in [`Question::providers`].
    pub provider: usize,
    /// By source.
    pub limits: Vec<Arc<Limits>>,
    /// By source: messages a second that it may send here, by what was learned before.
    pub learned: Vec<Option<f64>>,
    /// By source: it sends nothing here meanwhile.
    pub rests: Vec<Option<Rest>>,
    pub round_trip: Duration,
    /// Nothing is sent before, from the start: its servers are not known yet.
    pub held: Duration,
    pub load: Vec<Cohort>,
}
