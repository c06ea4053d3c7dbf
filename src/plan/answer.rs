//! When who is through, and what held them up.

use std::time::Duration;

use serde::Serialize;

/// What keeps mail from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binds {
    /// The rate of the paths.
    Path,
    /// The sessions that a path may have, and what they carry.
    Sessions,
    /// The rate of connections, of a path or of the provider.
    Connections,
    /// The provider's rate over all paths.
    Provider,
    /// The provider's sessions over all paths.
    ProviderSessions,
    /// The sessions of a source, or of the node.
    NodeSessions,
    /// What was learned of the provider before.
    Learned,
    /// The caps of those who warm up.
    WarmUp,
    /// Sources or sending domain rest there.
    Rest,
    /// The source's account at its relay.
    Account,
    /// The campaign's own rate.
    Campaign,
    /// The machine.
    Machine,
    /// The waits before further attempts.
    Retry,
}

/// The whole campaign.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// From the start until everyone was tried once.
    pub tried: Duration,
    /// Until everyone is settled, who can be reached.
    pub settled: Duration,
    /// Until everyone is settled: as `settled`, or the expiry.
    pub ended: Duration,
    /// Recipients who are not settled before the expiry.
    pub expired: f64,
    /// The provider that is through last, by its place; `None` where nobody is to be mailed.
    pub last: Option<usize>,
    /// In the order of the question.
    pub providers: Vec<ProviderAnswer>,
}

/// A provider's part.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderAnswer {
    pub recipients: f64,
    pub tried: Duration,
    pub settled: Duration,
    /// What held it up, the most first, with the source by its place where it is about one; empty: nothing.
    pub binds: Vec<(Binds, Option<usize>)>,
    pub expired: f64,
}

impl ProviderAnswer {
    /// Recipients a second until all were tried once; `None` where that takes no time.
    pub fn per_second(&self) -> Option<f64> {
        let seconds = self.tried.as_secs_f64();
        (seconds > 0.0).then(|| self.recipients / seconds)
    }
}
