//! Requests and replies, one JSON line each.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::metrics::Totals;
use crate::policy::{Adjustment, Binding, Cause, HoldReport, PathReport, Paused, Pinned, Resting};

/// Octets of a request's line at most.
pub const REQUEST_OCTETS_MAX: usize = 4096;
/// Octets of a reply's line at most.
pub const REPLY_OCTETS_MAX: usize = 16 << 20;
/// How long either side waits for the other: for a line, or for room for one.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Paths in one reply at most.
pub const PATHS_MAX: usize = 200;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    Campaign,
    Domain(String),
    Path(PathName),
    Adjustments,
    /// Ends the adjustment of this number.
    Cancel(u32),
    Pin {
        path: PathName,
        to: Pinned,
        #[serde(with = "crate::config::units::duration")]
        lasting: Duration,
    },
    Resume(Paused),
    /// Looks at the files of limits and of reply rules now.
    Reload,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Campaign(Box<CampaignReport>),
    Domain(Box<DomainReport>),
    Paths(PathReports),
    Adjustments(Vec<Adjustment>),
    /// What was done, a line each.
    Done(Vec<String>),
    /// It was not; why.
    Refused(String),
}

/// `source@where`: the way from a source (`*`: any) to a site, one of its hosts, a domain or a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathName {
    /// `None`: any.
    pub source: Option<String>,
    pub to: String,
}

impl FromStr for PathName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, to) =
            text.split_once('@')
                .filter(|(source, to)| !source.is_empty() && !to.is_empty())
                .ok_or_else(|| format!("`{text}` is no path: write it like out1@gmail.com, or *@google"))?;
        Ok(Self { source: (source != "*").then(|| source.to_owned()), to: to.to_lowercase() })
    }
}

impl fmt::Display for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.source.as_deref().unwrap_or("*"), self.to)
    }
}

impl TryFrom<String> for PathName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PathName> for String {
    fn from(name: PathName) -> Self {
        name.to_string()
    }
}

/// The campaign at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CampaignReport {
    pub run: String,
    pub totals: Totals,
    pub in_flight: u64,
    pub import_done: bool,
    /// Nothing is sent before; absent once it is past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Timestamp>,
    /// The campaign or the sending domain is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReport>,
    /// What holds mail, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// For what those outside a test's slice wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<String>,
    pub paths: usize,
    /// What binds paths, by how much waits there, the most first.
    pub bindings: Vec<BindingShare>,
    /// Entries that wait for their next attempt's time, and the first such time.
    pub deferred: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Timestamp>,
    /// Entries of domains whose servers are not known yet.
    pub unrouted: u64,
    /// Domains whose look-up failed, and when the first is tried again.
    pub held_domains: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
    pub adjustments: usize,
}

/// What binds so many paths, and what waits there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindingShare {
    pub binding: Binding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resting: Option<Resting>,
    pub waiting: u64,
    pub paths: usize,
    /// When the first of them ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// One of them: that with the most waiting.
    pub such_as: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// A domain's queue and the paths that serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainReport {
    pub domain: String,
    /// Entries of the domain that could go now.
    pub waiting: u64,
    pub route: RouteReport,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Timestamp>,
    pub paths: Vec<PathReport>,
}

/// What is known of the way to a domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteReport {
    Known,
    LookedUp,
    Held { until: Timestamp, failures: u32, reason: String },
    TakesNoMail { reason: String },
    Unknown { reason: String },
}

/// Some paths, of so many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathReports {
    pub paths: Vec<PathReport>,
    pub count: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_and_comes_back_alike() {
        let path = || "out1@gmail.com".parse::<PathName>().unwrap();
        let requests = [
            (Request::Campaign, r#""campaign""#),
            (Request::Domain("a.test".into()), r#"{"domain":"a.test"}"#),
            (Request::Path(path()), r#"{"path":"out1@gmail.com"}"#),
            (Request::Cancel(3), r#"{"cancel":3}"#),
            (
                Request::Pin { path: path(), to: Pinned::Sessions(2), lasting: Duration::from_secs(7200) },
                r#"{"pin":{"path":"out1@gmail.com","to":{"sessions":2},"lasting":"2h"}}"#,
            ),
            (Request::Resume(Paused::Source("b".into())), r#"{"resume":{"source":"b"}}"#),
        ];
        for (request, line) in requests {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
    }

    #[test]
    fn a_path_is_named_by_source_and_place() {
        let name: PathName = "*@Google".parse().unwrap();
        assert_eq!(name, PathName { source: None, to: "google".into() });
        for wrong in ["", "gmail.com", "@gmail.com", "a@"] {
            assert!(wrong.parse::<PathName>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Request>(r#"{"path":"nowhere"}"#).is_err());
    }
}
