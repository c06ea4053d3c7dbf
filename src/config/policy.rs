//! Settings of the delivery policy: warm-up schedules, breakers, reputation. Values and checks only; what
//! is done with them is in [`crate::policy`].

mod breakers;
mod warmup;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Node;
use super::units::duration;

pub use breakers::{Breakers, Share, Thresholds, Windows};
pub use warmup::{CAP_MAX, CAPS_MAX, Caps, Period, Schedule, WarmupUse, Warmups, shipped};

/// A mistake: the keys that lead to it, what is wrong, what to do.
type Mistake = (Vec<String>, String, String);

/// `[reputation]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reputation {
    /// What happened so long ago counts half.
    #[serde(with = "duration")]
    pub half_life: Duration,
}

impl Default for Reputation {
    fn default() -> Self {
        Self { half_life: Duration::from_secs(7 * 86_400) }
    }
}

/// See [`Node::parse`]: the first mistake in what the delivery policy is told.
pub(super) fn mistake(node: &Node) -> Option<Mistake> {
    warmup::mistake(node).or_else(|| breakers::mistake(&node.breakers)).or_else(|| {
        node.reputation.half_life.is_zero().then(|| {
            let advice = "give a time like \"7d\", or leave it out";
            (owned(&["reputation", "half_life"]), "half_life is 0".to_owned(), advice.to_owned())
        })
    })
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}
