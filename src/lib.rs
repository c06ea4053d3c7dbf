//! Postroad: from a campaign manifest to its last recipient.

pub mod address;
pub mod campaign;
pub mod config;
pub mod envelope;
pub mod journal;
pub mod mapped;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod reply;
pub mod site;
pub mod smtp;
pub mod suppression;
pub mod world;
