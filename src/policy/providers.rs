//! What is known of providers, and of sites that have none, which are as many as a list likes: each is
//! forgotten once no path leads to it and nothing about it is in force. Pure.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use super::rate::AdaptiveRate;
use super::rest::Rest;
use super::terms::Cause;
use crate::outcome::SourceId;
use crate::shaping::rate::LivePace;

/// A provider's number, or that of a site without one, within a run; never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProviderId(pub usize);

/// What is known of a provider, or of a site that has none.
pub(super) struct ProviderState {
    pub name: Arc<str>,
    /// Of the sending domain, over all sources.
    pub rate: AdaptiveRate,
    pub pace: Arc<LivePace>,
    pub slowed: Option<Arc<Cause>>,
    pub rest: Option<Rest>,
    /// Sources taken out.
    pub out: HashMap<SourceId, Rest>,
    /// Paths that lead to it.
    pub paths: u32,
}

impl ProviderState {
    pub fn new(name: Arc<str>, rate: AdaptiveRate, per_second: Option<f64>) -> Self {
        let pace = Arc::new(LivePace::new(per_second));
        Self { name, rate, pace, slowed: None, rest: None, out: HashMap::new(), paths: 0 }
    }

    fn is_blank(&self) -> bool {
        self.paths == 0 && !self.rate.is_adjusted() && self.rest.is_none() && self.out.is_empty()
    }
}

/// All that are known, by number.
#[derive(Default)]
pub(super) struct Providers {
    states: HashMap<usize, ProviderState>,
    by_name: HashMap<Arc<str>, ProviderId>,
    next: usize,
}

impl Providers {
    pub fn named(&self, name: &str) -> Option<ProviderId> {
        self.by_name.get(name).copied()
    }

    /// One that is not known yet.
    pub fn add(&mut self, state: ProviderState) -> ProviderId {
        let id = ProviderId(self.next);
        self.next += 1;
        self.by_name.insert(state.name.clone(), id);
        self.states.insert(id.0, state);
        id
    }

    /// Forgets those about which there is nothing to know, but for the `wanted`.
    pub fn forget_blank(&mut self, wanted: impl Fn(ProviderId) -> bool) {
        let by_name = &mut self.by_name;
        self.states.retain(|id, state| {
            let stays = !state.is_blank() || wanted(ProviderId(*id));
            if !stays {
                by_name.remove(&state.name);
            }
            stays
        });
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &ProviderState)> {
        self.states.iter().map(|(id, state)| (*id, state))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut ProviderState)> {
        self.states.iter_mut().map(|(id, state)| (*id, state))
    }

    /// Whether that number still is one's.
    pub fn get_mut(&mut self, id: usize) -> Option<&mut ProviderState> {
        self.states.get_mut(&id)
    }
}

impl Index<usize> for Providers {
    type Output = ProviderState;

    /// Of one that a path leads to, or that was just found.
    fn index(&self, id: usize) -> &ProviderState {
        &self.states[&id]
    }
}

impl IndexMut<usize> for Providers {
    fn index_mut(&mut self, id: usize) -> &mut ProviderState {
        self.states.get_mut(&id).expect("a provider is known as long as a path leads to it")
    }
}
