//! The tree of a message's parts: alternatives, what belongs to the HTML, attachments (RFC 2046, RFC 2387).
//!
//! ```text
//! mixed ─┬─ alternative ─┬─ text/plain
//!        │               ├─ related ─┬─ text/html
//!        │               │           └─ images
//!        │               └─ text/calendar
//!        └─ attachments, invite.ics
//! ```
//! A level with one child is left out. Which parts there are is decided when the campaign is compiled, never
//! by a row. Files that are the same for all are encoded once; for a message they are copied.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::folder::Folder;
use super::headers;
use super::mime::{self, Part};
use super::template::{Template, Templates};
use super::{Merge, RenderError, Scratch};

/// Octets of a line of base64 before it is encoded (RFC 2045 §6.8).
const BASE64_LINE: usize = 57;
/// Octets of a file's name at most.
const NAME_MAX: usize = 200;

/// A part, or several as one.
#[derive(Debug)]
pub(super) enum Entity {
    Text(Part),
    /// Header, empty line and encoded body.
    Fixed(Vec<u8>),
    Multi(Multi),
    RowFile(RowFile),
    /// The invitation of this message, as an alternative or as a file.
    Invite {
        attached: bool,
    },
}

#[derive(Debug)]
pub(super) struct Multi {
    head: Vec<u8>,
    boundary: String,
    children: Vec<Entity>,
}

/// A file that a row names.
#[derive(Debug)]
pub(super) struct RowFile {
    pub variable: String,
    pub column: usize,
    pub folder: Folder,
    /// Octets at most.
    pub max: u64,
    /// `None`: the file's own name.
    pub name: Option<Template>,
    /// `None`: by the file's name.
    pub kind: Option<String>,
}

impl Entity {
    /// Puts children under one roof; a single one needs none.
    pub fn multi(subtype: &str, boundary: String, mut children: Vec<Self>) -> Self {
        if children.len() == 1 {
            return children.remove(0);
        }
        let head = format!("Content-Type: multipart/{subtype}; boundary=\"{boundary}\"\r\n\r\n").into_bytes();
        Self::Multi(Multi { head, boundary, children })
    }

    /// A file that is the same for all.
    pub fn file(kind: &str, name: &str, content_id: Option<&str>, octets: &[u8]) -> Self {
        let mut out = Vec::with_capacity(octets.len() / 3 * 4 + octets.len() / 28 + 512);
        file_head(kind, name, content_id, &mut out);
        base64_lines(octets, &mut out);
        Self::Fixed(out)
    }

    /// Whether its header says how its body is encoded.
    pub fn is_leaf(&self) -> bool {
        !matches!(self, Self::Multi(_))
    }

    /// Whether each message reads a file.
    pub fn reads_files(&self) -> bool {
        match self {
            Self::RowFile(_) => true,
            Self::Multi(multi) => multi.children.iter().any(Self::reads_files),
            Self::Text(_) | Self::Fixed(_) | Self::Invite { .. } => false,
        }
    }

    /// Writes header, empty line and body; gives where the body starts in `out`.
    ///
    /// # Errors
    /// A template or a file that fails for this recipient.
    pub fn write(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<usize, RenderError> {
        match self {
            Self::Text(part) => part.write(templates, merge, &scratch.values, &mut scratch.part, out),
            Self::Fixed(octets) => {
                out.extend_from_slice(octets);
                Ok(out.len())
            }
            Self::Multi(multi) => multi.write(templates, merge, scratch, out),
            Self::RowFile(file) => file.write(templates, merge, scratch, out),
            Self::Invite { attached: false } => {
                out.extend_from_slice(b"Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n");
                Ok(mime::write_text(&scratch.invite, &mut scratch.part, out))
            }
            Self::Invite { attached: true } => {
                file_head("application/ics", "invite.ics", None, out);
                base64_lines(&scratch.invite, out);
                Ok(out.len())
            }
        }
    }
}

impl Multi {
    fn write(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<usize, RenderError> {
        out.extend_from_slice(&self.head);
        let body = out.len();
        for child in &self.children {
            // The CRLF before a boundary belongs to it, not to the part (RFC 2046 §5.1.1).
            out.extend_from_slice(if out.len() == body { b"--" } else { b"\r\n--" });
            out.extend_from_slice(self.boundary.as_bytes());
            out.extend_from_slice(b"\r\n");
            child.write(templates, merge, scratch, out)?;
        }
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(self.boundary.as_bytes());
        out.extend_from_slice(b"--\r\n");
        Ok(body)
    }
}

impl RowFile {
    fn write(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<usize, RenderError> {
        let refuse = |reason: String| RenderError::Attachment { variable: self.variable.clone(), reason };
        let path = merge.fields.get(self.column).copied().unwrap_or_default().trim();
        if path.is_empty() {
            return Err(refuse("the row names no file".to_owned()));
        }
        let octets = self.folder.read(path, self.max).map_err(|error| refuse(error.to_string()))?;
        let kind = self.kind.as_deref().unwrap_or_else(|| kind_of(path));
        let name = match &self.name {
            Some(template) => {
                templates.text(template, merge, scratch)?;
                headers::clean(&mut scratch.text);
                String::from_utf8_lossy(&scratch.text).into_owned()
            }
            None => last(path).to_owned(),
        };
        file_head(kind, &name, None, out);
        let body = out.len();
        base64_lines(&octets, out);
        Ok(body)
    }
}

/// The header of a file, and the empty line.
fn file_head(kind: &str, name: &str, content_id: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\r\nContent-Transfer-Encoding: base64\r\n");
    if let Some(id) = content_id {
        out.extend_from_slice(format!("Content-ID: <{id}>\r\nContent-Disposition: inline").as_bytes());
    } else {
        out.extend_from_slice(b"Content-Disposition: attachment");
    }
    headers::parameter("filename", &plain_name(name), out);
    out.extend_from_slice(b"\r\n\r\n");
}

/// The name at the end of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A file's name without what no system takes in a name.
fn plain_name(name: &str) -> String {
    let mut plain: String =
        name.chars().map(|c| if c.is_control() || "<>:\"|?*/\\".contains(c) { '_' } else { c }).collect();
    if plain.len() > NAME_MAX {
        // The end says what kind of file it is.
        let extension = plain
            .rfind('.')
            .filter(|at| plain.len() - at < 12)
            .map_or(String::new(), |at| plain[at..].to_owned());
        let end = plain.floor_char_boundary(NAME_MAX - extension.len());
        plain.truncate(end);
        plain.push_str(&extension);
    }
    let trimmed = plain.trim().trim_matches('.');
    if trimmed.is_empty() { "file".to_owned() } else { trimmed.to_owned() }
}

fn base64_lines(octets: &[u8], out: &mut Vec<u8>) {
    out.reserve(octets.len().div_ceil(BASE64_LINE) * 78);
    for line in octets.chunks(BASE64_LINE) {
        let start = out.len();
        out.resize(start + line.len().div_ceil(3) * 4, 0);
        BASE64.encode_slice(line, &mut out[start..]).expect("sized for it");
        out.extend_from_slice(b"\r\n");
    }
}

/// The media type that a file's name tells.
pub(super) fn kind_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref().unwrap_or_default() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "svg" => "image/svg+xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "json" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "ics" => "text/calendar; charset=utf-8",
        "vcf" => "text/vcard; charset=utf-8",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "odt" => "application/vnd.oasis.opendocument.text",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "pkpass" => "application/vnd.apple.pkpass",
        _ => "application/octet-stream",
    }
}

/// Whether a text is a media type, maybe with parameters.
pub fn is_kind(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    let types = kind.trim().split_once('/').is_some_and(|(major, minor)| {
        token(major)
            && token(minor)
            && !matches!(major.to_ascii_lowercase().as_str(), "multipart" | "message")
    });
    types && text.len() <= 120 && parameters.bytes().all(|b| matches!(b, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_a_name() {
        for (name, plain) in [
            ("Rechnung März 17/3.pdf", "Rechnung März 17_3.pdf"),
            ("..\\x\r\nBcc: y.pdf", "_x__Bcc_ y.pdf"),
            ("..", "file"),
            ("", "file"),
            (" . ", "file"),
        ] {
            assert_eq!(plain_name(name), plain);
        }
        let long = plain_name(&format!("{}.pdf", "ä".repeat(300)));
        assert!(long.len() <= NAME_MAX && long.ends_with("ä.pdf"));
    }

    #[test]
    fn a_media_type_is_told_from_other_text() {
        assert!(is_kind("application/pdf") && is_kind("text/csv; charset=utf-8"));
        for text in ["pdf", "multipart/mixed", "a/b\r\nX: y", "message/rfc822", "/", "a b/c"] {
            assert!(!is_kind(text), "{text}");
        }
    }
}
