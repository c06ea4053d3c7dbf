//! Recipient → signed message: subject, parts and headers from templates, MIME and DKIM around them.
//!
//! [`Content::compile`] does once whatever does not depend on the recipient; [`Content::render`] is then a
//! pure function of content and recipient, so that a retry is the same message. A merge field can change
//! the text of a part or of a header, never the set of headers or the structure of parts. It never stores
//! a message, and knows neither SMTP nor campaigns.

pub mod composer;
pub mod dkim;
mod headers;
mod mime;
mod slots;
mod template;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::address::{AddressRef, Domain};
use crate::envelope::RecipientId;

use dkim::{Room, Seals};
use mime::{Part, Work};
use slots::{Form, Values};
use template::{Template, Templates};

pub use dkim::{DkimError, Signer};

/// What one recipient brings to the templates.
#[derive(Clone, Copy)]
pub struct Merge<'a> {
    pub recipient: RecipientId,
    pub address: &'a AddressRef<'a>,
    /// In the order of [`ContentSource::columns`]; a missing one counts as empty.
    pub fields: &'a [&'a str],
}

/// What a campaign says of its message; every text but `from`, `reply_to` and `list_id` is a template.
pub struct ContentSource<'a> {
    pub subject: &'a str,
    /// `Name <local@domain>` or a plain address; not a template, the name may hold any script.
    pub from: &'a str,
    /// Display name of the recipient in `To:`; `None` leaves the plain address.
    pub to_name: Option<&'a str>,
    pub reply_to: Option<&'a str>,
    /// At least one of `text` and `html`.
    pub text: Option<&'a str>,
    pub html: Option<&'a str>,
    /// Further headers by name; names that Postroad writes itself are refused.
    pub headers: &'a BTreeMap<String, String>,
    /// Must start with `https://` once rendered (RFC 8058 §3.1); what no URL holds is percent-encoded.
    pub unsubscribe_url: Option<&'a str>,
    /// An address, with or without `mailto:`.
    pub unsubscribe_mailto: Option<&'a str>,
    /// `List-Id` of RFC 2919, as `Name <label.domain>` or `label.domain`.
    pub list_id: Option<&'a str>,
    /// Template variables in the order of [`Merge::fields`]. `address` and `email` are the recipient's
    /// address unless a column is called so.
    pub columns: &'a [String],
    /// Whether a template that names an unknown variable is an error.
    pub strict: bool,
    /// Goes into Message-ID and boundary; letters and digits only are kept.
    pub run_token: &'a str,
    /// The run's date: every message and retry carries the same one.
    pub date: SystemTime,
    /// Right of the @ of the Message-ID.
    pub message_id_domain: &'a Domain,
}

/// Why a campaign's content cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    #[error("a message needs a text or an HTML part; give `text`, `html` or both")]
    NoPart,
    #[error("template {template}, line {line}: {reason}")]
    Template { template: String, line: usize, reason: String },
    #[error("{field}: {reason}")]
    Address { field: &'static str, reason: String },
    #[error("header {name:?}: {reason}")]
    Header { name: String, reason: &'static str },
    #[error("unsubscribe: {0}")]
    Unsubscribe(&'static str),
    #[error("the run's date is outside the years 1970 to 9999")]
    Date,
}

/// Why one recipient's message cannot be made; another's may.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    #[error("template {template}, line {line}: {reason}")]
    Template { template: String, line: usize, reason: String },
    #[error("template {template}: {reason}")]
    Value { template: String, reason: &'static str },
    #[error("signing as {0} failed")]
    Signing(String),
}

/// Buffers that rendering reuses from message to message; one a session.
#[derive(Default)]
pub struct Scratch {
    values: Values,
    part: Work,
    signing: Room,
    text: Vec<u8>,
}

/// A campaign's content, compiled; shared by all sessions.
pub struct Content {
    templates: Templates,
    fields: Vec<Field>,
    parts: Vec<Part>,
    /// Between the parts; `None` with a single part.
    boundary: Option<String>,
    message_id_end: String,
    seals: Seals,
}

/// A header, or several that are the same in every message.
enum Field {
    Fixed(Vec<u8>),
    To(Option<Template>),
    Text(String, Template),
    MessageId,
    Unsubscribe { url: Option<Template>, mailto: Option<Template> },
}

impl Content {
    /// Compiles templates, fixed headers and what the signers say.
    ///
    /// # Errors
    /// What is wrong in which template (with the line), field or header.
    pub fn compile(source: &ContentSource<'_>, signers: Vec<Signer>) -> Result<Self, ContentError> {
        Self::compile_with(source, signers, Templates::new(source.columns, source.strict, true))
    }

    fn compile_with(
        source: &ContentSource<'_>,
        signers: Vec<Signer>,
        mut templates: Templates,
    ) -> Result<Self, ContentError> {
        let token: String = source.run_token.chars().filter(char::is_ascii_alphanumeric).collect();
        let time = source.date.duration_since(UNIX_EPOCH).map_err(|_| ContentError::Date)?.as_secs();
        let (mut fields, mut names) = fields(source, &mut templates)?;

        let mut parts = Vec::new();
        if let Some(text) = source.text {
            parts.push(Part::new("plain", templates.add("text", text, Form::Text)?));
        }
        if let Some(html) = source.html {
            parts.push(Part::new("html", templates.add("html", html, Form::Html)?));
        }
        let mut end = b"MIME-Version: 1.0\r\n".to_vec();
        names.extend(["MIME-Version", "Content-Type"].map(str::to_owned));
        let boundary = match parts.len() {
            0 => return Err(ContentError::NoPart),
            1 => {
                names.push("Content-Transfer-Encoding".to_owned());
                None
            }
            _ => {
                let boundary = format!("{}{token}", mime::BOUNDARY_PREFIX);
                let value = format!("multipart/alternative; boundary=\"{boundary}\"\r\n");
                end.extend_from_slice(b"Content-Type: ");
                end.extend_from_slice(value.as_bytes());
                Some(boundary)
            }
        };
        fields.push(Field::Fixed(end));

        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(Self {
            templates,
            fields,
            parts,
            boundary,
            message_id_end: format!(".{token}@{}>\r\n", source.message_id_domain),
            seals: Seals::new(signers, &names, time),
        })
    }

    /// Writes the whole message over `out`: CRLF line ends, not dot-stuffed, DKIM-Signature first.
    ///
    /// # Errors
    /// When a template fails for this recipient's fields; `out` is then not a message.
    pub fn render(
        &self,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        out.clear();
        out.resize(self.seals.octets(), b' ');
        scratch.values.fill(self.templates.slots(), merge);
        for field in &self.fields {
            self.write_field(field, merge, scratch, out)?;
        }
        let Scratch { values, part: work, signing, .. } = scratch;
        let mut body = 0;
        match &self.boundary {
            None => {
                for part in &self.parts {
                    body = part.write(&self.templates, merge, values, work, out)?;
                }
            }
            Some(boundary) => {
                out.extend_from_slice(b"\r\n");
                body = out.len();
                for part in &self.parts {
                    // The CRLF before a boundary belongs to it, not to the part (RFC 2046 §5.1.1).
                    out.extend_from_slice(if out.len() == body { b"--" } else { b"\r\n--" });
                    out.extend_from_slice(boundary.as_bytes());
                    out.extend_from_slice(b"\r\n");
                    part.write(&self.templates, merge, values, work, out)?;
                }
                out.extend_from_slice(b"\r\n--");
                out.extend_from_slice(boundary.as_bytes());
                out.extend_from_slice(b"--\r\n");
            }
        }
        self.seals.sign(body, signing, out)
    }

    fn write_field(
        &self,
        field: &Field,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        match field {
            Field::Fixed(octets) => out.extend_from_slice(octets),
            Field::To(name) => {
                scratch.text.clear();
                if let Some(template) = name {
                    self.value(template, merge, scratch)?;
                }
                headers::mailbox("To", &scratch.text, merge.address.local(), merge.address.domain(), out);
            }
            Field::Text(name, template) => {
                self.value(template, merge, scratch)?;
                headers::unstructured(name, &scratch.text, out);
            }
            Field::MessageId => {
                let RecipientId { segment, index } = merge.recipient;
                write!(out, "Message-ID: <{segment:x}.{index:x}{}", self.message_id_end)
                    .expect("writing to a Vec does not fail");
            }
            Field::Unsubscribe { url, mailto } => {
                let mut between: &[u8] = b"List-Unsubscribe: <";
                for (template, scheme) in [(url, "https://"), (mailto, "mailto:")] {
                    let Some(template) = template else { continue };
                    self.value(template, merge, scratch)?;
                    out.extend_from_slice(between);
                    headers::url(&template.name, scheme, &scratch.text, out)?;
                    between = b">,\r\n <";
                }
                out.extend_from_slice(b">\r\n");
            }
        }
        Ok(())
    }

    /// A header's value for this recipient, cleaned, in `scratch.text`.
    fn value(
        &self,
        template: &Template,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), RenderError> {
        scratch.text.clear();
        match template.segments {
            Some(_) => template.write(&scratch.values, &mut scratch.text),
            None => self.templates.run(template, merge, &scratch.values.address, &mut scratch.text)?,
        }
        headers::clean(&mut scratch.text);
        Ok(())
    }
}

/// All headers but those of MIME, in their order, and their names.
fn fields(
    source: &ContentSource<'_>,
    templates: &mut Templates,
) -> Result<(Vec<Field>, Vec<String>), ContentError> {
    let mut fields = Vec::new();
    let mut names: Vec<String> = ["From", "To", "Subject", "Date", "Message-ID"].map(str::to_owned).into();
    let mut fixed = Vec::new();
    let (display, from) = headers::parse_mailbox("from", source.from)?;
    headers::mailbox("From", &display, from.local(), from.domain().as_str(), &mut fixed);
    fields.push(Field::Fixed(std::mem::take(&mut fixed)));
    let to_name = source.to_name.map(|name| templates.add("to name", name, Form::Header)).transpose()?;
    fields.push(Field::To(to_name));
    let subject = templates.add("subject", source.subject, Form::Header)?;
    fields.push(Field::Text("Subject".to_owned(), subject));
    fixed.extend_from_slice(format!("Date: {}\r\n", date(source.date)?).as_bytes());
    fields.push(Field::Fixed(std::mem::take(&mut fixed)));
    fields.push(Field::MessageId);
    if let Some(reply_to) = source.reply_to {
        let (display, address) = headers::parse_mailbox("reply-to", reply_to)?;
        headers::mailbox("Reply-To", &display, address.local(), address.domain().as_str(), &mut fixed);
        names.push("Reply-To".to_owned());
        fields.push(Field::Fixed(std::mem::take(&mut fixed)));
    }
    if source.unsubscribe_url.is_some() || source.unsubscribe_mailto.is_some() {
        let url = source.unsubscribe_url.map(|url| unsubscribe_url(url, templates)).transpose()?;
        let mailto =
            source.unsubscribe_mailto.map(|address| unsubscribe_mailto(address, templates)).transpose()?;
        names.push("List-Unsubscribe".to_owned());
        if url.is_some() {
            names.push("List-Unsubscribe-Post".to_owned());
            fixed.extend_from_slice(b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n");
        }
        fields.push(Field::Unsubscribe { url, mailto });
        fields.push(Field::Fixed(std::mem::take(&mut fixed)));
    }
    if let Some(list_id) = source.list_id {
        headers::list_id(list_id, &mut fixed)?;
        names.push("List-Id".to_owned());
        fields.push(Field::Fixed(fixed));
    }
    for (name, value) in source.headers {
        headers::check_name(name)?;
        if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(ContentError::Header { name: name.clone(), reason: "given twice" });
        }
        let template = templates.add(&format!("header {name}"), value, Form::Header)?;
        names.push(name.clone());
        fields.push(Field::Text(name.clone(), template));
    }
    Ok((fields, names))
}

fn unsubscribe_url(url: &str, templates: &mut Templates) -> Result<Template, ContentError> {
    let url = url.trim();
    if !url.starts_with("https://") && !url.starts_with('{') {
        return Err(ContentError::Unsubscribe("the URL must start with https:// (RFC 8058 §3.1)"));
    }
    templates.add("unsubscribe url", url, Form::Header)
}

fn unsubscribe_mailto(address: &str, templates: &mut Templates) -> Result<Template, ContentError> {
    let address = address.trim().trim_start_matches("mailto:");
    if !address.contains(['@', '{']) {
        return Err(ContentError::Unsubscribe("`mailto` is an address, like unsubscribe@sender.example"));
    }
    templates.add("unsubscribe mailto", &format!("mailto:{address}"), Form::Header)
}

/// As RFC 5322 §3.3 writes it, in UTC.
fn date(date: SystemTime) -> Result<String, ContentError> {
    let timestamp = jiff::Timestamp::try_from(date).map_err(|_| ContentError::Date)?;
    Ok(timestamp.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source<'a>(
        columns: &'a [String],
        domain: &'a Domain,
        none: &'a BTreeMap<String, String>,
    ) -> ContentSource<'a> {
        ContentSource {
            subject: "{{ name }}, our offers",
            from: "Example Sender <news@sender.test>",
            to_name: Some("{{ name }}"),
            reply_to: None,
            text: Some("Hello {{ name }},\n\nline\n"),
            html: Some("<p>Hello {{ name }}</p>\n"),
            headers: none,
            unsubscribe_url: Some("https://lists.sender.test/u/{{ id }}"),
            unsubscribe_mailto: Some("unsub-{{ id }}@sender.test"),
            list_id: None,
            columns,
            strict: true,
            run_token: "k3f9",
            date: UNIX_EPOCH + std::time::Duration::from_secs(1_795_316_400),
            message_id_domain: domain,
        }
    }

    fn rendered(content: &Content, fields: &[&str]) -> String {
        let address = AddressRef::parse("ann@example.test").unwrap();
        let merge = Merge { recipient: RecipientId::new(1, 0x2a), address: &address, fields };
        let mut out = Vec::new();
        content.render(&merge, &mut Scratch::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn columns() -> Vec<String> {
        ["name", "id", "note"].map(str::to_owned).into()
    }

    #[test]
    fn a_plain_campaign_makes_this_message() {
        let (columns, domain, none) = (columns(), Domain::parse("sender.test").unwrap(), BTreeMap::new());
        let content = Content::compile(&source(&columns, &domain, &none), Vec::new()).unwrap();
        let expected = "From: Example Sender <news@sender.test>\r\n\
            To: Ann <ann@example.test>\r\n\
            Subject: Ann, our offers\r\n\
            Date: Sun, 22 Nov 2026 03:00:00 +0000\r\n\
            Message-ID: <1.2a.k3f9@sender.test>\r\n\
            List-Unsubscribe: <https://lists.sender.test/u/7>,\r\n <mailto:unsub-7@sender.test>\r\n\
            List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
            MIME-Version: 1.0\r\n\
            Content-Type: multipart/alternative; boundary=\"=_k3f9\"\r\n\r\n\
            --=_k3f9\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
            Hello Ann,\r\n\r\nline\r\n\
            \r\n--=_k3f9\r\n\
            Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
            <p>Hello Ann</p>\r\n\
            \r\n--=_k3f9--\r\n";
        assert_eq!(rendered(&content, &["Ann", "7", ""]), expected);
    }

    #[test]
    fn sessions_can_share_a_content() {
        fn shared<T: Send + Sync>() {}
        shared::<Content>();
    }

    #[test]
    fn errors_name_template_and_line() {
        let (columns, domain, none) = (columns(), Domain::parse("sender.test").unwrap(), BTreeMap::new());
        let compile = |text: &str, strict: bool| {
            let source = ContentSource { text: Some(text), strict, ..source(&columns, &domain, &none) };
            Content::compile(&source, Vec::new()).map(|_| ()).map_err(|error| error.to_string())
        };
        let error = compile("Hello\n{{ nmae }}\n", true).unwrap_err();
        assert_eq!(
            error,
            "template text, line 2: unknown variable nmae; the list has: name, id, note, address, email"
        );
        compile("Hello\n{{ nmae }}\n", false).unwrap();
        assert!(compile("Hello\n\n{% if name %}\n", true).unwrap_err().starts_with("template text, line "));
        compile("{{ nmae | default('friend') }}", true).unwrap();
    }

    #[test]
    fn simple_templates_do_not_run_minijinja() {
        let columns = columns();
        for (template, simple) in [
            ("a { b } {{ name }}{{name|upper|trim}}\n}} {{ note|default('x') }} {{ email }}", true),
            ("{{ name|title|urlencode }}{{ name | safe }}", true),
            ("{{- name }}", false),
            ("{{ name -}}", false),
            ("{{ name }} {# note #}", false),
            ("{% if name %}a{% endif %}", false),
            ("{{{ name }}}", false),
            ("{{ name.first }}", false),
            ("{{ name ~ id }}", false),
            ("{{ name|length }}", false),
            ("{{ name|default(id) }}", false),
        ] {
            let mut templates = Templates::new(&columns, false, true);
            let compiled = templates.add("text", template, Form::Text);
            match compiled {
                Ok(compiled) => assert_eq!(compiled.segments.is_some(), simple, "{template}"),
                Err(_) => assert!(!simple, "{template}"),
            }
        }
    }

    /// Literals and expressions that sit next to each other in odd ways.
    fn template() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{{ name }}".to_owned()),
            Just("{{name|upper}}".to_owned()),
            Just("{{ note | default(\"friend <b>\") }}".to_owned()),
            Just("{{ note|trim|title }}".to_owned()),
            Just("{{ note|lower }}".to_owned()),
            Just("{{ name|urlencode }}".to_owned()),
            Just("{{ note|safe }}".to_owned()),
            Just("{{ email }}".to_owned()),
            Just("\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("--=_k3f9".to_owned()),
            Just(" . \n.\nFrom x".to_owned()),
            "[a-z <>&='\"/.\t]{0,90}",
            "[a-zäöü✓漢]{0,60}",
            Just("x".repeat(1000)),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    fn field() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Za-z ]{0,12}",
            "\\PC{0,40}",
            "[\r\n\t \0a.=<>-]{0,30}",
            "[é漢字 ]{1,200}",
            "[0-9]{1,1200}"
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]
        #[test]
        fn both_ways_give_the_same_octets(
            text in template(), html in template(), subject in template(),
            name in field(), id in "[\\PC\r\n]{0,20}", note in field(),
        ) {
            let (columns, domain, none) = (columns(), Domain::parse("sender.test").unwrap(), BTreeMap::new());
            let source = ContentSource {
                text: Some(&text), html: Some(&html), subject: &subject, ..source(&columns, &domain, &none)
            };
            let fast = Content::compile(&source, Vec::new()).unwrap();
            for part in &fast.parts {
                prop_assert!(part.is_simple());
            }
            let templates = Templates::new(&columns, true, false);
            let engine = Content::compile_with(&source, Vec::new(), templates).unwrap();
            let fields = [name.as_str(), &id, &note];
            prop_assert_eq!(rendered(&fast, &fields), rendered(&engine, &fields));
        }
    }
}
