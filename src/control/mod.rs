//! Asking a running engine, and telling it: a socket of this machine, for its owner alone.
//!
//! ```text
//! protocol   what is asked and answered: a line of JSON each way, one of each a connection
//! socket     where the socket is, so that nobody else can ever connect
//! desk       answers, from policy, scheduler and limits
//! client     asks
//! history    what the files of a run say of a recipient or a domain, whether an engine runs or not
//! ```
//!
//! Never on the network. An engine that cannot have a socket runs without one, and says so.

pub mod client;
mod desk;
pub mod history;
pub mod protocol;
mod socket;

pub use desk::{Desk, serve};
pub use socket::{Door, folder};
