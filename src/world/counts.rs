//! What the world saw: acceptance by address, by provider, by path and second, by source and slice of
//! time; breaches; signatures.
//!
//! A snapshot to read and print; `ledger` keeps the live state.

use std::net::IpAddr;
use std::ops::{AddAssign, Range};
use std::time::Duration;

use serde::Serialize;

/// The slices of [`SourceCounts`], in real time.
pub const SLICE: Duration = Duration::from_millis(100);

/// A snapshot of what the world has seen so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Recipients accepted, repeats included.
    pub accepted: u64,
    /// Different addresses accepted.
    pub addresses: u64,
    /// Different addresses accepted more than once.
    pub repeated: u64,
    /// The first thousand of them.
    pub repeats: Vec<Repeat>,
    /// Acceptances whose reply the world held back; each entitles the address to one repeat.
    pub accepted_unanswered: u64,
    /// The first thousand such addresses.
    pub unanswered: Vec<String>,
    pub providers: Vec<ProviderCounts>,
    pub paths: Vec<PathCounts>,
    pub sources: Vec<SourceCounts>,
    pub breaches: Vec<Breach>,
    pub dkim: DkimCounts,
    /// Messages whose Message-ID another address had before.
    pub message_id_repeats: u64,
    pub message_id_examples: Vec<String>,
    /// RCPT TO for domains the asked host does not serve.
    pub misrouted: u64,
    pub misrouted_examples: Vec<String>,
    /// Commands the client may not send there and then: after no offer of PIPELINING, or behind one
    /// that must be the last of its group (RFC 2920 §3.1).
    pub violations: u64,
    pub violation_examples: Vec<String>,
    pub dns_queries: u64,
}

/// An address that was accepted more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repeat {
    pub address: String,
    pub times: u32,
    /// How many of them the world left unanswered.
    pub unanswered: u32,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct ProviderCounts {
    pub name: String,
    pub connections: u64,
    /// Connections that got through STARTTLS.
    pub tls_connections: u64,
    pub transactions: u64,
    pub accepted: u64,
    pub accepted_over_tls: u64,
    /// Replies to RCPT TO, DATA or the content: 4yz / 5yz.
    pub temporary: u64,
    pub permanent: u64,
    pub greylisted: u64,
    /// Refusals of a source that is blocked.
    pub blocked: u64,
    /// Sessions the world broke on purpose.
    pub broken: u64,
    pub content_octets: u64,
    /// Connections at once over all hosts and sources, at the most; refused ones are connections too.
    pub connections_peak: u32,
}

/// What came from one source address to all hosts of one provider.
#[derive(Debug, Clone, Serialize)]
pub struct SourceCounts {
    pub source: IpAddr,
    pub provider: String,
    /// Connections at once over all hosts, at the most.
    pub connections_peak: u32,
    pub total: Tally,
    /// By tenth of a second since the world's start, empty ones left out; the first 36,000 of them.
    /// Too many to print; what is printed has the seconds of `paths`.
    #[serde(skip)]
    pub slices: Vec<SliceCounts>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SliceCounts {
    /// Slice 0 begins with the world; each is [`SLICE`] long.
    pub slice: u32,
    pub tally: Tally,
}

/// How often something happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub connections: u32,
    /// MAIL commands; `limited`, `penalized` and what is `blocked` at MAIL are among them.
    pub transactions: u32,
    /// Recipients of accepted messages.
    pub accepted: u32,
    /// MAIL refused because of the rate of messages.
    pub limited: u32,
    /// MAIL refused in the penalty for having exceeded it.
    pub penalized: u32,
    /// Refusals because the source is blocked, at whatever stage.
    pub blocked: u32,
    /// RCPT TO told to come again.
    pub greylisted: u32,
    /// RCPT TO taken; refused for now; refused for good. Without those greylisted or blocked, and
    /// without what is no question of the recipient: syntax, relaying, too many.
    pub recipients_taken: u32,
    pub recipients_deferred: u32,
    pub recipients_refused: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.transactions += other.transactions;
        self.accepted += other.accepted;
        self.limited += other.limited;
        self.penalized += other.penalized;
        self.blocked += other.blocked;
        self.greylisted += other.greylisted;
        self.recipients_taken += other.recipients_taken;
        self.recipients_deferred += other.recipients_deferred;
        self.recipients_refused += other.recipients_refused;
    }
}

impl Counts {
    /// What came to a provider from one source, or from all.
    pub fn tally(&self, provider: &str, source: Option<IpAddr>) -> Tally {
        let mut sum = Tally::default();
        self.sources_of(provider, source).for_each(|counts| sum += counts.total);
        sum
    }

    /// As `tally`, of the slices that begin within an interval of real time since the world's start.
    pub fn tally_in(&self, provider: &str, source: Option<IpAddr>, interval: Range<Duration>) -> Tally {
        let mut sum = Tally::default();
        let slices = self.sources_of(provider, source).flat_map(|counts| &counts.slices);
        slices.filter(|slice| interval.contains(&(SLICE * slice.slice))).for_each(|slice| sum += slice.tally);
        sum
    }

    fn sources_of(&self, provider: &str, source: Option<IpAddr>) -> impl Iterator<Item = &SourceCounts> {
        self.sources.iter().filter(move |counts| {
            counts.provider == provider && source.is_none_or(|source| counts.source == source)
        })
    }
}

/// How an address fared with the greylist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Greylisting {
    /// RCPT TO from whatever source, up to and with the first that passed.
    pub attempts: u32,
    /// Where the first of them came from.
    pub first_source: IpAddr,
    /// Where the one that passed came from; `None`: none has.
    pub passed_from: Option<IpAddr>,
}

/// What came from one source address to one host.
#[derive(Debug, Clone, Serialize)]
pub struct PathCounts {
    pub source: IpAddr,
    pub host: String,
    pub provider: String,
    pub connections_peak: u32,
    /// By real second since the world's start, empty ones left out.
    pub seconds: Vec<SecondCounts>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SecondCounts {
    pub second: u32,
    pub connections: u32,
    /// MAIL commands.
    pub transactions: u32,
    pub accepted: u32,
}

/// A limit of a provider that was exceeded, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    pub provider: String,
    pub source: IpAddr,
    pub limit: Limit,
    pub times: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    ConnectionsPerSource,
    Connections,
    ConnectionRate,
    MessageRate,
    /// Another message during the penalty for exceeding that rate.
    Penalty,
    MessagesPerConnection,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct DkimCounts {
    /// Messages of the sample all of whose signatures verified, and had one.
    pub verified: u64,
    pub failed: u64,
    pub unsigned: u64,
    /// The first thousand failures: recipient and reason.
    pub failures: Vec<String>,
}
