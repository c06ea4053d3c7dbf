//! What a session is held to, as plain values: how it is encrypted, how long it waits.
//!
//! Which values hold for which path is for [`crate::shaping`] to say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a path asks of STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsPolicy {
    /// Not even when offered.
    Off,
    /// When offered, with any certificate; in clear if the handshake fails (RFC 7435).
    #[default]
    Opportunistic,
    /// Encrypted or not at all, with any certificate.
    Required,
    /// Encrypted, with a certificate that is valid for the exchange's name.
    Verified,
}

impl TlsPolicy {
    pub const ALL: [Self; 4] = [Self::Off, Self::Opportunistic, Self::Required, Self::Verified];

    /// As files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Opportunistic => "opportunistic",
            Self::Required => "required",
            Self::Verified => "verified",
        }
    }
}

/// How long each step of a session may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub greeting: Duration,
    pub ehlo: Duration,
    pub starttls: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data_start: Duration,
    /// Without any octet taken by the peer.
    pub content_write: Duration,
    /// The wait for the reply to the end of the content. Shorter makes duplicates (RFC 1047).
    pub content_end: Duration,
    pub quit: Duration,
}

/// RFC 5321 §4.5.3.2, where it names one.
impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            connect: minutes(1),
            greeting: minutes(5),
            ehlo: minutes(5),
            starttls: minutes(2),
            mail: minutes(5),
            rcpt: minutes(5),
            data_start: minutes(2),
            content_write: minutes(3),
            content_end: minutes(10),
            quit: Duration::from_secs(5),
        }
    }
}
