//! How long a campaign will take: limits and a list's make-up in, a timeline out. Pure; no I/O, no clock.
//!
//! ```text
//! question    what is asked: sources, providers with their ceilings, sites with their limits and recipients
//! bucket      a rate with its burst, spent in portions
//! load        who of a site is ready, who waits for another attempt
//! sessions    what the sessions of a path carry
//! simulation  portions of time, each as much as every limit allows
//! answer      when who is through, and what held them up
//! ```
//!
//! Mail is treated as a fluid: in each portion of time a path sends as much as its tightest limit allows,
//! and where a limit is shared by several they get the same part of what they could send. Portions grow with
//! the time that has passed (`PORTION` of it), so that a month costs little more than an hour and the end
//! is as exact, relative to the whole, as its beginning.
//!
//! What it refuses to know: how a server will react. Limits that nobody has written down are found out by
//! the engine as it goes, and no plan foresees them.

mod answer;
mod bucket;
mod load;
mod question;
mod sessions;
mod simulation;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Binds, ProviderAnswer};
pub use load::Cohort;
pub use question::{Provider, Question, Rest, Site, Source};

/// Of the time that has passed, the next portion.
const PORTION: f64 = 1.0 / 400.0;
/// No portion is shorter, in seconds.
const PORTION_MIN: f64 = 0.01;

/// Works out when everyone is settled.
pub fn plan(question: Question) -> Answer {
    simulation::Simulation::new(question).run()
}
