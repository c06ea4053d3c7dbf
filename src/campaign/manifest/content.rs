//! What a manifest says of files beside its templates: images, attachments, an invitation.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::{Size, duration_optional};

/// Octets of a file that goes to everybody at most; more is no mail.
pub const FILE_OCTETS_MAX: u64 = 25 << 20;

/// A file beside the message: `file` for all, or `column` and `folder` for one a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// In the campaign's folder. Absolute once opened.
    pub file: Option<PathBuf>,
    /// A template variable that holds a path below `folder`.
    pub column: Option<String>,
    /// Where the rows' files are; read when a message is made. Absolute once opened.
    pub folder: Option<PathBuf>,
    /// Of a row's file, like "5MB".
    #[serde(default = "row_file_max")]
    pub max_size: Size,
    /// As readers see it; of a row's file a template. The file's own name if absent.
    pub name: Option<String>,
    /// A media type; by the file's name if absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// Of a row's file at most, unless the manifest says otherwise.
fn row_file_max() -> Size {
    Size(10 << 20)
}

/// An invitation that every recipient gets; texts are templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Like `2026-12-01 18:00`, in `time_zone`; a date alone is a whole day.
    pub start: String,
    pub end: Option<String>,
    /// Instead of `end`.
    #[serde(default, with = "duration_optional")]
    pub duration: Option<Duration>,
    pub summary: String,
    pub location: Option<String>,
    pub description: Option<String>,
    pub url: Option<String>,
    /// The same in a later campaign changes the event.
    pub uid: Option<String>,
    /// Higher than in the campaign whose event is changed.
    #[serde(default)]
    pub sequence: u32,
}
