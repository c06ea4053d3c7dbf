//! Postroad: from a campaign manifest to its last recipient.
//!
//! ```text
//!  manifest + list
//!      │ campaign::import     rows become addresses, grouped by domain, in sealed segments
//!      ▼
//!  campaign::spool            memory-mapped and checksummed; no message is ever stored
//!      ▼
//!  scheduler                  a queue a domain; domains roll up to sites by MX set
//!      │ pull
//!      ▼
//!  egress::path               one task a (source, site): sessions, window, pace
//!      │ message::composer    cleared once more, rendered, signed, addressed
//!      ▼
//!  smtp::session              one connection; smtp::transaction is its pure state machine
//!      │ outcome
//!      ▼
//!  feedback                   outcome → disposition
//!      │ classify             a reply's class, how far it reaches, what to do
//!      │ policy               rates, sessions, rests, warm-up, breakers: what a path may do from now on
//!      ▼
//!  journal                    the truth: append-only, group-committed, replayed after a crash
//! ```
//!
//! To follow a message, read `main` → [`cli`] → [`engine`] → [`scheduler`] → [`egress`] (`path`, then
//! `opening`) → [`smtp::session`] → [`smtp::transaction`]; to follow what came of it, [`feedback`] →
//! [`classify`] → [`policy`] → [`journal`].
//!
//! # Modules
//! Leaves, which know nothing else: [`address`] (parsed once, no line end possible), [`reply`],
//! [`outcome`] (what an attempt learned and what became of its recipient), [`envelope`], [`metrics`]
//! (totals that add up), [`mapped`] (the only unsafe code), [`token`] (what links and return paths say, sealed).
//!
//! Facts: [`config`] (the node's settings), [`campaign`] (manifest, list, spool, who gets which variant,
//! the frozen run), [`suppression`] (who must not be mailed), [`site`] (MX routes, sites, providers),
//! [`shaping`] (limits), [`classify`] (what replies mean), [`retry`] (when to try again).
//!
//! Work: [`message`], [`smtp`], [`egress`], [`scheduler`], [`feedback`], [`policy`], [`journal`], wired by
//! [`engine`], asked and told while they run through [`control`], and shown to a person by [`cli`].
//! [`preflight`] finds what is wrong before anything is sent, [`plan`] says how long a campaign will take,
//! [`convert`] makes other mailers' settings into ours. Beside them [`world`], a simulated internet that
//! knows none of them.
//!
//! # What always holds
//! - Every row of a list ends in exactly one disposition; the sum is checked ([`metrics::Totals::check`]).
//! - An outcome counts once its journal record is written; who is in doubt is known after any crash.
//! - Memory does not grow with the list, but for a few octets a recipient: the duplicate set while the
//!   list is read, a timer for each deferred recipient, a bit for each settled one after a restart, 18 to 35
//!   octets for each address on an exclude list.
//! - A rate or a session limit is a ceiling, spent where a message starts ([`shaping::rate::Gate`]); policy
//!   only ever lowers it.
//! - A reply about us is never held against the recipient ([`classify`]).
//! - Nobody outside a test slice is mailed before a variant has won, and a retry is the variant it was.
//! - Only a [`suppression::Cleared`] recipient can become a message.
//! - A list, a template, a reply or a DNS answer can be wrong in any way and costs no other recipient.

pub mod address;
mod blocking;
pub mod campaign;
pub mod classify;
pub mod cli;
pub mod config;
pub mod control;
pub mod convert;
pub mod egress;
pub mod engine;
pub mod envelope;
pub mod feedback;
pub mod journal;
pub mod mapped;
pub mod message;
pub mod metrics;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod pull;
pub mod reply;
pub mod retry;
pub mod scheduler;
pub mod shaping;
pub mod site;
pub mod smtp;
pub mod suppression;
pub mod token;
pub mod world;
