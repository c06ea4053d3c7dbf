//! A finished message taken apart: its header fields, and its text and HTML as a reader decodes them.
//!
//! Reads what RFC 5322 and MIME (RFC 2045, RFC 2046) say a message is, and knows nothing of who wrote it, so
//! that it finds what the writer got wrong.

use std::borrow::Cow;

use super::encoded::{Encoding, unstructured};

/// Parts within parts; deeper is no mail.
const DEPTH_MAX: usize = 8;

/// One header field, as it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub name: &'a str,
    /// From the colon to the end, folds and all.
    pub value: &'a [u8],
}

/// The readable parts of a message; reused from message to message.
#[derive(Debug, Default)]
pub(super) struct Parts {
    text: Option<Vec<u8>>,
    html: Option<Vec<u8>>,
    /// Files beside the message: their names, as far as they have one.
    pub files: Vec<String>,
    spare: Vec<Vec<u8>>,
}

/// The header fields in order, and where the body starts.
pub(super) fn fields(message: &[u8]) -> (Vec<Field<'_>>, &[u8]) {
    let mut fields = Vec::with_capacity(24);
    let mut rest = message;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let end = field_end(rest);
        let (field, after) = rest.split_at(end);
        rest = after;
        let Some(colon) = memchr::memchr(b':', field) else { continue };
        let name = std::str::from_utf8(&field[..colon]).unwrap_or_default();
        fields.push(Field { name: name.trim_end(), value: &field[colon + 1..] });
    }
    (fields, rest.get(2..).unwrap_or_default())
}

/// Where the field that `text` begins with ends: after a line end that no blank follows.
fn field_end(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\n', &text[at..]) {
        at += found + 1;
        if !matches!(text.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
    text.len()
}

impl Field<'_> {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Unfolded, with encoded words decoded.
    pub fn text(&self) -> String {
        unstructured(self.value)
    }
}

impl Parts {
    /// Reads the parts of a message whose header is `head` and whose body is `body`.
    pub fn read(&mut self, head: &[Field<'_>], body: &[u8]) {
        self.spare.extend(self.text.take());
        self.spare.extend(self.html.take());
        self.files.clear();
        self.part(head, body, 0);
    }

    pub fn text(&self) -> Option<Cow<'_, str>> {
        self.text.as_deref().map(String::from_utf8_lossy)
    }

    pub fn html(&self) -> Option<Cow<'_, str>> {
        self.html.as_deref().map(String::from_utf8_lossy)
    }

    fn part(&mut self, head: &[Field<'_>], body: &[u8], depth: usize) {
        let find = |name: &str| head.iter().find(|field| field.is(name)).map(|field| unfolded(field.value));
        let kind = find("Content-Type").unwrap_or_else(|| "text/plain".into());
        let (media, parameters) = kind.split_once(';').unwrap_or((&kind, ""));
        let media = media.trim().to_ascii_lowercase();
        if media.starts_with("multipart/") {
            if let Some(boundary) = parameter(parameters, "boundary").filter(|_| depth < DEPTH_MAX) {
                self.parts(&boundary, body, depth + 1);
            }
            return;
        }
        let disposition = find("Content-Disposition").unwrap_or_default();
        if disposition.trim_start().to_ascii_lowercase().starts_with("attachment") {
            self.files.extend(parameter(&disposition, "filename"));
            return;
        }
        let place = match media.as_str() {
            "text/plain" => &mut self.text,
            "text/html" => &mut self.html,
            _ => return,
        };
        if place.is_none() {
            let mut decoded = self.spare.pop().unwrap_or_default();
            let encoding = find("Content-Transfer-Encoding");
            encoding.map_or(Encoding::Plain, |name| Encoding::named(&name)).decode(body, &mut decoded);
            *place = Some(decoded);
        }
    }

    /// What stands between the delimiter lines (RFC 2046 §5.1.1).
    fn parts(&mut self, boundary: &str, body: &[u8], depth: usize) {
        let delimiter = format!("--{boundary}");
        let mut start = None;
        for at in memchr::memmem::find_iter(body, &delimiter) {
            let after = at + delimiter.len();
            let is_line = (at == 0 || body[at - 1] == b'\n')
                && matches!(body.get(after), None | Some(b'-' | b'\r' | b'\n' | b' ' | b'\t'));
            if !is_line {
                continue;
            }
            if let Some(start) = start {
                let part: &[u8] = &body[start..at];
                let part = part.strip_suffix(b"\r\n").unwrap_or(part);
                let (head, inner) = fields(part);
                self.part(&head, inner, depth);
            }
            if body[after..].starts_with(b"--") {
                return;
            }
            start = memchr::memchr(b'\n', &body[after..]).map(|end| after + end + 1);
        }
    }
}

fn unfolded(value: &[u8]) -> Cow<'_, str> {
    let value = String::from_utf8_lossy(value);
    if value.contains(['\r', '\n']) { value.replace(['\r', '\n'], "").into() } else { value }
}

/// A parameter's value without its quotes.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(';').unwrap_or((after, "")),
        };
        let key = key.rsplit(';').next().unwrap_or_default().trim();
        // `name*` and `name*0*` of RFC 2231 are enough to tell a file's extension by.
        if key.split('*').next().is_some_and(|key| key.eq_ignore_ascii_case(name)) {
            return Some(value.trim().to_owned());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = b"From: a@one.test\r\nSubject: =?UTF-8?Q?caf=C3=A9?=\r\n  time\r\n\
        Content-Type: multipart/mixed; boundary=\"m\"\r\n\r\n--m\r\n\
        Content-Type: multipart/alternative;\r\n boundary=a\r\n\r\n--a\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n--a\r\n\
        Content-Type: text/html\r\n\r\n<p>hi</p>\r\n--a--\r\n\r\n--m\r\n\
        Content-Type: text/plain\r\nContent-Disposition: attachment; filename=\"x.txt\"\r\n\r\nno\r\n--m--\r\n";

    #[test]
    fn a_message_comes_apart_into_what_a_reader_sees() {
        let (fields, body) = fields(MESSAGE);
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        assert_eq!(names, ["From", "Subject", "Content-Type"]);
        assert_eq!(fields[1].text(), "café  time");
        let mut parts = Parts::default();
        parts.read(&fields, body);
        assert_eq!(parts.text().as_deref(), Some("hi"));
        assert_eq!(parts.html().as_deref(), Some("<p>hi</p>"));
        assert_eq!(parts.files, ["x.txt"]);
    }

    #[test]
    fn mail_parser_reads_the_same() {
        let theirs = mail_parser::MessageParser::default().parse(MESSAGE).unwrap();
        let (fields, body) = fields(MESSAGE);
        let mut parts = Parts::default();
        parts.read(&fields, body);
        assert_eq!(parts.text(), theirs.body_text(0));
        assert_eq!(parts.html(), theirs.body_html(0));
    }

    #[test]
    fn a_delimiter_is_a_line_of_its_own() {
        let message =
            b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nx --a\r\n--ab\r\n--a--\r\n";
        let (fields, body) = fields(message);
        let mut parts = Parts::default();
        parts.read(&fields, body);
        assert_eq!(parts.text().as_deref(), Some("x --a\r\n--ab"));
    }

    #[test]
    fn what_is_no_message_is_read_without_complaint() {
        for nonsense in [&b""[..], b"\r\n", b"x", b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n--"]
        {
            let (fields, body) = fields(nonsense);
            Parts::default().read(&fields, body);
        }
    }
}
