//! Preflight: everything about a campaign that can be known to be wrong before a message is sent.
//!
//! Each check adds [`Finding`]s; a finding says what is wrong, with what, how often, and what to do. The
//! worst of them decides whether a run starts.

pub mod dns;
mod finding;
pub mod spam;

pub use finding::{Finding, Findings, Severity};
