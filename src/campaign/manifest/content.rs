//! What a manifest says of files beside its templates: images, attachments, an invitation.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::duration_optional;

/// Octets of a row's file at most, unless the manifest says otherwise.
const ROW_FILE_OCTETS_MAX: u64 = 10 << 20;
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
    #[serde(default)]
    pub max_size: Size,
    /// As readers see it; of a row's file a template. The file's own name if absent.
    pub name: Option<String>,
    /// A media type; by the file's name if absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// Octets as people write them: "500KB", "5MB", "1MiB".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Default for Size {
    fn default() -> Self {
        Self(ROW_FILE_OCTETS_MAX)
    }
}

const UNITS: [(&str, u64); 5] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("KB", 1_000), ("MB", 1_000_000), ("B", 1)];

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}B", self.0))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets = UNITS.iter().find_map(|(unit, octets)| {
            text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(*octets)
        });
        match octets {
            Some(octets @ 1..=FILE_OCTETS_MAX) => Ok(Self(octets)),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is no size up to 25MiB: write it like \"500KB\", \"5MB\" or \"1MiB\""
            ))),
        }
    }
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
