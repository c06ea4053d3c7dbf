//! What the world saw: acceptance by address, by provider, by path and second; breaches; signatures.
//!
//! A snapshot to read and print; `ledger` keeps the live state.

use std::net::IpAddr;

use serde::Serialize;

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
    /// Sessions the world broke on purpose.
    pub broken: u64,
    pub content_octets: u64,
    /// Connections at once, at the most.
    pub connections_peak: u32,
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
