//! What a provider in the file allows: connections, messages, rates, and whom it lets wait.
//!
//! Only what a person writes; [`super::super::limits`] and [`super::super::greylist`] keep count.

use serde::Deserialize;

use super::trouble::check_refusal;
use crate::world::measure::{Rate, Span};

/// What each operator allows; rates in world time and for each source address, over all its hosts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsFile {
    /// All operators of the provider count together.
    #[serde(default)]
    pub provider_wide: bool,
    pub connections_per_source: Option<u32>,
    pub connections: Option<u32>,
    pub messages_per_connection: Option<u32>,
    pub messages: Option<Rate>,
    pub connection_rate: Option<Rate>,
    /// How both rates count.
    #[serde(default)]
    pub window: WindowKind,
    /// A source that exceeds `messages` has every MAIL deferred for so long (world time), counted from
    /// the refusal that began it: what it tries meanwhile neither prolongs nor shortens it.
    pub penalty: Option<Span>,
    /// Replies in place of the style's own.
    pub connections_reply: Option<String>,
    pub messages_per_connection_reply: Option<String>,
    pub rate_reply: Option<String>,
    /// During the penalty; absent: as for the rate.
    pub penalty_reply: Option<String>,
}

/// What "N in T" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// No more than N in any interval of length T.
    #[default]
    Sliding,
    /// No more than N in each T since the world's start; so up to 2 N in an interval across two.
    Fixed,
}

/// Who must come again before he is let in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Greylist {
    /// World time from the first RCPT TO.
    pub delay: Span,
    /// Of the addresses.
    #[serde(default = "one")]
    pub share: f64,
    #[serde(default)]
    pub by: GreylistBy,
    /// In place of the style's own.
    pub reply: Option<String>,
}

/// What must come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GreylistBy {
    /// The recipient, from wherever and whomever.
    #[default]
    Recipient,
    /// The same recipient from the same source address with the same return path.
    Triplet,
}

impl LimitsFile {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.penalty.is_some() && self.messages.is_none() {
            return Err("a penalty needs a rate of messages to exceed".to_owned());
        }
        let replies = [
            &self.connections_reply,
            &self.messages_per_connection_reply,
            &self.rate_reply,
            &self.penalty_reply,
        ];
        replies.into_iter().flatten().try_for_each(|reply| check_refusal(reply))
    }
}

impl Greylist {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.share) {
            return Err("a share is a number from 0 to 1".to_owned());
        }
        self.reply.iter().try_for_each(|reply| check_refusal(reply))
    }
}

fn one() -> f64 {
    1.0
}
