//! A finished message taken apart again, by a parser that did not make it, to be shown to a person.

use mail_parser::{HeaderName, MessageParser, MessagePart, MimeHeaders as _, PartType};
use serde::Serialize;

/// What a reader would see of a message.
#[derive(Debug, Default, Serialize)]
pub struct Shown {
    pub subject: String,
    /// All of them, in their order.
    pub headers: Vec<Header>,
    /// The header as it is sent, lines ending with LF.
    pub raw: String,
    pub text: Option<String>,
    pub html: Option<String>,
    /// Every part that is not made of others.
    pub parts: Vec<Part>,
    /// Of the whole message as it is sent.
    pub octets: usize,
    /// Those that the HTML can show.
    #[serde(skip)]
    pub images: Vec<Image>,
}

/// A header field, unfolded and decoded (RFC 2047).
#[derive(Debug, Serialize)]
pub struct Header {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Serialize)]
pub struct Part {
    /// The media type.
    pub kind: String,
    pub name: Option<String>,
    /// What the HTML calls it behind `cid:`.
    pub content_id: Option<String>,
    /// Once decoded.
    pub octets: usize,
    pub attached: bool,
}

#[derive(Debug)]
pub struct Image {
    pub content_id: String,
    pub kind: String,
    pub octets: Vec<u8>,
}

impl Shown {
    /// Of what cannot be parsed at all, nothing but its size.
    pub fn parse(message: &[u8]) -> Self {
        let mut shown = Self { octets: message.len(), ..Self::default() };
        // With one named, the default is for all the others.
        let decoded = MessageParser::new().header_text(HeaderName::Subject).default_header_text();
        if let Some(parsed) = decoded.parse_headers(message) {
            let headers = parsed.headers().iter().map(|header| Header {
                name: header.name().to_owned(),
                value: header.value().as_text().unwrap_or_default().to_owned(),
            });
            shown.headers = headers.collect();
        }
        shown.subject = shown.header("Subject").unwrap_or_default().to_owned();
        let end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |end| end + 2);
        shown.raw = String::from_utf8_lossy(&message[..end]).replace("\r\n", "\n");
        if let Some(parsed) = MessageParser::default().parse(message) {
            parsed.parts.iter().for_each(|part| shown.take(part));
        }
        shown
    }

    /// The first of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| header.value.as_str())
    }

    fn take(&mut self, part: &MessagePart<'_>) {
        if part.is_multipart() {
            return;
        }
        let kind = part.content_type().map_or_else(
            || "text/plain".to_owned(),
            |kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()).to_ascii_lowercase(),
        );
        let attached = part.content_disposition().is_some_and(|disposition| disposition.is_attachment());
        let content_id = part.content_id().map(|id| id.trim_matches(['<', '>']).to_owned());
        match &part.body {
            PartType::Text(text) if kind == "text/plain" && !attached && self.text.is_none() => {
                self.text = Some(text.replace("\r\n", "\n"));
            }
            PartType::Html(html) if !attached && self.html.is_none() => self.html = Some(html.to_string()),
            _ => {}
        }
        if let Some(content_id) = content_id.clone().filter(|_| kind.starts_with("image/")) {
            let octets = part.contents().to_vec();
            self.images.push(Image { content_id, kind: kind.clone(), octets });
        }
        let name = part.attachment_name().map(str::to_owned);
        self.parts.push(Part { kind, name, content_id, octets: part.contents().len(), attached });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_apart_into_what_a_reader_sees() {
        let message = b"From: =?utf-8?q?M=C3=BCller?= <a@one.test>\r\nSubject: =?utf-8?b?w4k=?=\r\n more\r\n\
            MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            f=C3=BCr\r\n--x\r\nContent-Type: image/png\r\nContent-ID: <logo@one.test>\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--x\r\nContent-Type: application/pdf\r\n\
            Content-Disposition: attachment; filename*=utf-8''%C3%A4.pdf\r\n\r\nabcd\r\n--x--\r\n";
        let shown = Shown::parse(message);
        assert_eq!(shown.header("from"), Some("Müller <a@one.test>"));
        assert_eq!((shown.subject.as_str(), shown.text.as_deref()), ("É more", Some("für")));
        let parts: Vec<_> =
            shown.parts.iter().map(|p| (p.kind.as_str(), p.name.as_deref(), p.octets, p.attached)).collect();
        assert_eq!(
            parts,
            [
                ("text/plain", None, 4, false),
                ("image/png", None, 3, false),
                ("application/pdf", Some("ä.pdf"), 4, true)
            ]
        );
        assert_eq!(shown.images[0].content_id, "logo@one.test");
        assert_eq!(shown.images[0].octets, [0, 1, 2]);
        assert!(shown.raw.starts_with("From: =?utf-8?q?M=C3=BCller?=") && !shown.raw.contains("\n\n"));
    }
}
