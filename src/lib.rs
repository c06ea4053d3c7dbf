//! Postroad: from a campaign manifest to its last recipient.

pub mod address;
pub mod campaign;
pub mod config;
pub mod egress;
pub mod engine;
pub mod envelope;
pub mod feedback;
pub mod journal;
pub mod mapped;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod pull;
pub mod reply;
pub mod retry;
pub mod scheduler;
pub mod shaping;
pub mod site;
pub mod smtp;
pub mod suppression;
pub mod world;
