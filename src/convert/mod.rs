//! Other mailers' files made into ours: limits, reply rules, sources, pools, warm-up; and line by line what
//! has no equivalent.
//!
//! ```text
//! kumomta    shaping.toml and the bounce classifier's files      powermta   its configuration
//! regex      an expression → plain sequences                     conditions sequences → conditions of a rule
//! limits     → shaping.toml     rules → replies.toml     settings → postroad.toml     report
//! ```
//!
//! What is written has passed the checks that a user's own files go through: what they find fault with is
//! left out and told. Nothing is guessed: an expression becomes a pattern that matches no more, or a line
//! of the report. Passwords are never copied. Knows nothing of how limits and rules are used.

mod conditions;
mod kumomta;
mod limits;
mod powermta;
mod providers;
mod regex;
mod report;
mod rules;
mod settings;
mod units;
mod write;

use std::path::Path;
use std::sync::Arc;

use limits::LimitSet;
use report::Report;
pub use report::{Kind, Place, Remark};
use rules::RuleSet;
use settings::Settings;

use crate::config::Fault;

/// Octets of one file.
pub const FILE_OCTETS_MAX: usize = 16 << 20;

/// A conversion's result: three files and a report.
#[derive(Debug)]
pub struct Converted {
    pub shaping: String,
    pub replies: String,
    pub settings: String,
    /// In the order of files and lines.
    pub remarks: Vec<Remark>,
}

/// KumoMTA's traffic shaping, and the rules of its bounce classifier: names and texts of files, a later
/// one over an earlier.
///
/// # Errors
/// A file that is no TOML.
pub fn kumomta(shaping: &[(&Path, &str)], bounces: &[(&Path, &str)]) -> Result<Converted, Vec<Fault>> {
    let mut work = Work::default();
    let mut faults = Vec::new();
    for (file, text) in shaping {
        faults.extend(kumomta::shaping(file, text, &mut work).err());
    }
    for (file, text) in bounces {
        faults.extend(kumomta::bounces(file, text, &mut work).err());
    }
    if faults.is_empty() { Ok(work.finish()) } else { Err(faults) }
}

/// PowerMTA's configuration; `open` reads the files that it includes.
pub fn powermta(
    file: &Path,
    text: &str,
    open: &mut dyn FnMut(&Path) -> std::io::Result<String>,
) -> Converted {
    let mut work = Work::default();
    powermta::convert(file, text, open, &mut work);
    work.finish()
}

/// What is there so far.
#[derive(Default)]
struct Work {
    limits: LimitSet,
    rules: RuleSet,
    settings: Settings,
    report: Report,
}

impl Work {
    fn finish(mut self) -> Converted {
        let (shaping, providers) = self.limits.finish(&mut self.report);
        let replies = self.rules.finish(&providers, &mut self.report);
        let settings = self.settings.written();
        Converted { shaping, replies, settings, remarks: self.report.finish() }
    }
}

/// Lines of a text by octet.
struct Lines {
    file: Arc<Path>,
    starts: Vec<usize>,
}

impl Lines {
    fn new(file: &Path, text: &str) -> Self {
        let starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self { file: file.into(), starts: std::iter::once(0).chain(starts).collect() }
    }

    fn place(&self, octet: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= octet).max(1);
        Place { file: Arc::clone(&self.file), line }
    }
}
