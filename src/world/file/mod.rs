//! The world's file: what a person writes, checked, with line and column in every complaint.
//!
//! Unknown keys are errors. Nothing is decided here: `plan` gives hosts their addresses
//! and domains their operators. Defaults stand beside the keys they belong to.

mod block;
mod limits;
mod provider;
mod record;
mod trouble;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::measure::Span;

pub use block::{BlockFile, Sources};
pub use limits::{Greylist, GreylistBy, LimitsFile, WindowKind};
pub use provider::{
    DnsFault, DnsKind, Extension, Generate, HostState, MxFile, ProviderFile, ReplyFlow, Slow, TlsKind,
};
pub(super) use record::normal;
pub use record::{NameFault, RecordFile, RecordKind, Values};
pub use trouble::{FaultKind, Stage, TroubleFile};

/// What is wrong with a world's file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    #[error("{path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("{name}:{line}:{column}: {what}")]
    Wrong { name: String, line: usize, column: usize, what: String },
}

/// A world as its file describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldFile {
    /// All chance in the world comes from hashes of this number.
    #[serde(default)]
    pub seed: u64,
    /// One real second stands for so many of the world's: of greylisting delays, of its rates, and
    /// of the retry schedule of the campaign that is rehearsed.
    #[serde(default = "one")]
    pub time_factor: f64,
    /// Every so-manieth accepted message has its DKIM signatures verified; 0 = none.
    #[serde(default = "sample_default")]
    pub dkim_sample: u32,
    /// How long a stall holds a connection before it is closed, in real time.
    #[serde(default = "stall_default")]
    pub stall: Span,
    /// Accepted mail is written here if given.
    pub maildir: Option<PathBuf>,
    #[serde(default, rename = "provider")]
    pub providers: Vec<ProviderFile>,
    /// Served beside what follows from the providers.
    #[serde(default)]
    pub records: Vec<RecordFile>,
}

fn one() -> f64 {
    1.0
}

fn sample_default() -> u32 {
    50
}

fn stall_default() -> Span {
    Span(std::time::Duration::from_millis(300))
}

impl WorldFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong; then where and what.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|error| FileError::Read { path: name.clone(), error })?;
        Self::parse(&name, &text)
    }

    /// As `open`, from text; `name` stands in errors.
    ///
    /// # Errors
    /// Line, column and what is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let complain = |offset: usize, what: String| {
            let before = &text[..offset.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            FileError::Wrong { name: name.to_owned(), line, column, what }
        };
        let file: Self = toml::from_str(text).map_err(|error| {
            complain(error.span().map_or(0, |span| span.start), error.message().to_owned())
        })?;
        if !(file.time_factor.is_finite() && file.time_factor > 0.0) {
            return Err(complain(0, "time_factor must be a number above 0".to_owned()));
        }
        for provider in &file.providers {
            provider.check().map_err(|what| {
                let what = format!("provider {:?}: {what}", provider.name.get_ref());
                complain(provider.name.span().start, what)
            })?;
        }
        for record in &file.records {
            record.check().map_err(|what| {
                let what = format!("record {:?}: {what}", record.name.get_ref());
                complain(record.name.span().start, what)
            })?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        WorldFile::parse("w.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_line_and_column() {
        assert!(complaint("seed = 1\nsede = 2\n").starts_with("w.toml:2:1: unknown field `sede`"));
    }

    #[test]
    fn a_bad_duration_is_refused_where_it_stands() {
        let text = "[[provider]]\nname = \"a\"\ndomains = [\"a.test\"]\nlatency = \"soon\"\n";
        assert!(complaint(text).starts_with("w.toml:4:"), "{}", complaint(text));
    }

    #[test]
    fn shares_above_one_are_refused_at_the_provider() {
        let text = "[[provider]]\nname = \"a\"\nmx = [{ host = \"mx.a.test\" }]\n\
            [[provider.trouble]]\nfault = \"unknown-user\"\nshare = 0.7\n\
            [[provider.trouble]]\nfault = \"mailbox-full\"\nshare = 0.7\n";
        assert!(complaint(text).starts_with("w.toml:2:"), "{}", complaint(text));
        assert!(complaint(text).contains("more than 1"));
    }

    #[test]
    fn a_block_says_whom_it_means_where_and_when() {
        let block = |keys: &str| {
            let text = format!(
                "[[provider]]\nname = \"a\"\nmx = [{{ host = \"mx.a.test\" }}]\n[[provider.block]]\n{keys}\n"
            );
            WorldFile::parse("w.toml", &text).map_err(|error| error.to_string())
        };
        let file = block("source = [\"127.30.0.1\", \"::1\"]").unwrap();
        let block_file = &file.providers[0].blocks[0];
        assert!(block_file.source.contains([127, 30, 0, 1].into()));
        assert!(!block_file.source.contains([127, 30, 0, 2].into()));
        assert_eq!((block_file.stage, block_file.after), (Stage::Mail, 1));
        assert!(block("source = \"all\"\nfrom = \"1h\"\nuntil = \"2h\"").is_ok());
        for (keys, complaint) in [
            ("source = \"everyone\"", "neither an address"),
            ("source = \"all\"\nstage = \"data\"", "a block is at"),
            ("source = \"all\"\nreply = \"250 OK\"", "no reply that fits"),
            ("source = \"all\"\nfrom = \"2h\"\nuntil = \"2h\"", "ends after it begins"),
            ("source = \"all\"\nafter = 0", "counted from 1"),
        ] {
            let error = block(keys).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_penalty_without_a_rate_is_refused() {
        let text =
            "[[provider]]\nname = \"a\"\nmx = [{ host = \"mx.a.test\" }]\nlimits = { penalty = \"2h\" }\n";
        assert!(complaint(text).contains("a penalty needs a rate"));
    }

    #[test]
    fn a_record_has_a_value_of_its_type_or_a_fault() {
        let record = |keys: &str| {
            let text = format!("[[records]]\nname = \"a.test\"\n{keys}\n");
            WorldFile::parse("w.toml", &text).map_err(|error| error.to_string())
        };
        for keys in [
            "type = \"A\"\nvalue = \"192.0.2.1\"",
            "type = \"AAAA\"\nvalue = [\"2001:db8::1\", \"2001:db8::2\"]",
            "type = \"MX\"\nvalue = \"0 .\"",
            "type = \"TXT\"\nvalue = \"v=spf1 -all\"",
            "fault = \"servfail\"",
        ] {
            assert!(record(keys).is_ok(), "{keys}");
        }
        for (keys, complaint) in [
            ("type = \"A\"\nvalue = \"2001:db8::1\"", "is no IPv4 address"),
            ("type = \"MX\"\nvalue = \"mx.a.test\"", "is no `preference host`"),
            ("type = \"CNAME\"", "has a value"),
            ("type = \"A\"\nvalue = \"192.0.2.1\"\nfault = \"silent\"", "either a type and a value"),
            ("value = \"x\"", "either a type and a value"),
        ] {
            let error = record(keys).unwrap_err();
            assert!(error.starts_with("w.toml:2:") && error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_trouble_needs_a_stage_unless_it_has_its_own() {
        let text = "[[provider]]\nname = \"a\"\nmx = [{ host = \"mx.a.test\" }]\n\
            [[provider.trouble]]\nfault = \"stall\"\n";
        assert!(complaint(text).contains("needs a stage"));
    }
}
