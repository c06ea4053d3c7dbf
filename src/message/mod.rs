//! Recipient → signed message: subject, parts and headers from templates, MIME and DKIM around them.
//!
//! [`Content::compile`] does once whatever does not depend on the recipient; [`Content::render`] is then a
//! pure function of content and recipient, so that a retry is the same message. A merge field can change
//! the text of a part or of a header, never the set of headers or the structure of parts. It never stores
//! a message, and knows neither SMTP nor campaigns.

mod calendar;
pub mod composer;
mod custom;
pub mod dkim;
mod entity;
mod expression;
mod filters;
mod flatten;
mod folder;
mod headers;
mod locale;
mod markup;
mod mime;
mod pieces;
mod slots;
mod template;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::address::{AddressRef, Domain};
use crate::envelope::RecipientId;

use calendar::{Invite, Organizer};
use dkim::{Room, Seals};
use entity::{Entity, RowFile};
use flatten::Flat;
use mime::{Part, Work};
use pieces::Piece;
use slots::{Form, Values};
use template::{Template, Templates};

pub use calendar::Calendar;
pub use custom::check_name;
pub use dkim::{DkimError, Signer};
pub use entity::is_kind;
pub use filters::Region;
pub use folder::{Folder, FolderError, closure, leads_down};

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
    pub extras: Extras<'a>,
}

/// What of its message not every campaign has.
#[derive(Default)]
pub struct Extras<'a> {
    /// Where partials and layouts are; `None`: there are none.
    pub folder: Option<&'a Folder>,
    /// What errors call the two templates; `None`: `text` and `html`.
    pub text_name: Option<&'a str>,
    pub html_name: Option<&'a str>,
    /// The HTML template is MJML.
    pub mjml: bool,
    /// Rules of `<style>` go into the elements they are for.
    pub inline_css: bool,
    /// Locale and time zone of dates, numbers and money.
    pub region: Region,
    /// Shown where the HTML says `cid:name`.
    pub images: Vec<Image>,
    pub attachments: Vec<Attachment<'a>>,
    pub calendar: Option<Calendar<'a>>,
}

/// A picture within the message.
#[derive(Debug, Clone)]
pub struct Image {
    /// Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Tells the media type.
    pub file_name: String,
    pub octets: Vec<u8>,
}

/// A file beside the message.
#[derive(Debug, Clone)]
pub struct Attachment<'a> {
    pub from: AttachmentFrom<'a>,
    /// A template for a row's file; `None`: the file's own name.
    pub name: Option<&'a str>,
    /// A media type; `None`: by the file's name.
    pub kind: Option<&'a str>,
}

#[derive(Debug, Clone)]
pub enum AttachmentFrom<'a> {
    /// The same for all.
    File { file_name: String, octets: Vec<u8> },
    /// Each row names its own, `max` octets at most; it is read when the message is made.
    Row { variable: &'a str, folder: Folder, max: u64 },
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
    #[error("image {name:?}: {reason}")]
    Image { name: String, reason: &'static str },
    #[error("attachment: {0}")]
    Attachment(String),
    #[error("the message's files: {0}")]
    File(#[from] FolderError),
    #[error("{0}")]
    Region(String),
}

/// Why one recipient's message cannot be made; another's may.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    #[error("template {template}, line {line}: {reason}")]
    Template { template: String, line: usize, reason: String },
    #[error("template {template}: {reason}")]
    Value { template: String, reason: &'static str },
    #[error("the attachment of column {variable}: {reason}")]
    Attachment { variable: String, reason: String },
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
    invite: Vec<u8>,
}

/// A campaign's content, compiled; shared by all sessions.
pub struct Content {
    templates: Templates,
    fields: Vec<Field>,
    root: Entity,
    invite: Option<Invite>,
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
        let Extras { folder, region, .. } = &source.extras;
        Self::compile_with(source, signers, Templates::new(source.columns, source.strict, *folder, region))
    }

    fn compile_with(
        source: &ContentSource<'_>,
        signers: Vec<Signer>,
        mut templates: Templates,
    ) -> Result<Self, ContentError> {
        let token: String = source.run_token.chars().filter(char::is_ascii_alphanumeric).collect();
        let time = source.date.duration_since(UNIX_EPOCH).map_err(|_| ContentError::Date)?.as_secs();
        let (mut fields, mut names) = fields(source, &mut templates)?;
        let invite = source.extras.calendar.as_ref();
        let invite =
            invite.map(|calendar| invite_of(calendar, source, &token, &mut templates)).transpose()?;
        let root = tree(source, &token, &mut templates)?;
        fields.push(Field::Fixed(b"MIME-Version: 1.0\r\n".to_vec()));
        names.extend(["MIME-Version", "Content-Type"].map(str::to_owned));
        if root.is_leaf() {
            names.push("Content-Transfer-Encoding".to_owned());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(Self {
            templates,
            fields,
            root,
            invite,
            message_id_end: format!(".{token}@{}>\r\n", source.message_id_domain),
            seals: Seals::new(signers, &names, time),
        })
    }

    /// The keys that sign it, in the order of their signatures.
    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.seals.signers()
    }

    /// Writes the whole message over `out`: CRLF line ends, not dot-stuffed, DKIM-Signature first.
    ///
    /// # Errors
    /// When a template, a file or a time fails for this recipient's fields; `out` is then not a message.
    pub fn render(
        &self,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        out.clear();
        out.resize(self.seals.octets(), b' ');
        scratch.values.fill(self.templates.slots(), merge)?;
        for field in &self.fields {
            self.write_field(field, merge, scratch, out)?;
        }
        if let Some(invite) = &self.invite {
            invite.write(&self.templates, merge, scratch)?;
        }
        let body = self.root.write(&self.templates, merge, scratch, out)?;
        self.seals.sign(body, &mut scratch.signing, out)
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
        self.templates.text(template, merge, scratch)?;
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
    let to_name = source.to_name.map(|name| templates.value("to name", name)).transpose()?;
    fields.push(Field::To(to_name));
    let subject = templates.value("subject", source.subject)?;
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
        check_name(name).map_err(|reason| ContentError::Header { name: name.clone(), reason })?;
        if names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(ContentError::Header { name: name.clone(), reason: "given twice" });
        }
        let template = templates.value(&format!("header {name}"), value)?;
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
    templates.value("unsubscribe url", url)
}

fn unsubscribe_mailto(address: &str, templates: &mut Templates) -> Result<Template, ContentError> {
    let address = address.trim().trim_start_matches("mailto:");
    if !address.contains(['@', '{']) {
        return Err(ContentError::Unsubscribe("`mailto` is an address, like unsubscribe@sender.example"));
    }
    templates.value("unsubscribe mailto", &format!("mailto:{address}"))
}

/// The parts, and how they belong together.
fn tree(source: &ContentSource<'_>, token: &str, templates: &mut Templates) -> Result<Entity, ContentError> {
    let extras = &source.extras;
    let boundary = |level: &str| format!("{}{level}{token}", mime::BOUNDARY_PREFIX);
    let html_name = extras.html_name.unwrap_or("html");
    let html = source.html.map(|html| html_template(html_name, html, extras, templates)).transpose()?;
    let text = match (source.text, &html) {
        (Some(text), _) => Some((
            extras.text_name.unwrap_or("text"),
            templates.flatten(extras.text_name.unwrap_or("text"), text)?,
        )),
        (None, Some(html)) => Some((html_name, markup::text(html_name, html)?)),
        (None, None) => return Err(ContentError::NoPart),
    };
    let mut alternatives = Vec::new();
    if let Some((name, text)) = text {
        alternatives.push(Entity::Text(Part::new("plain", templates.add("text", name, &text, Form::Text)?)));
    }
    if let Some(mut html) = html {
        let images =
            images(&mut html, &extras.images, html_name, &format!(".{token}@{}", source.message_id_domain))?;
        let part = Part::new("html", templates.add(template::HTML, html_name, &html, Form::Html)?);
        let mut related = vec![Entity::Text(part)];
        related.extend(images);
        // The type of what the images belong to (RFC 2387 §3.1).
        alternatives.push(Entity::multi("related; type=\"text/html\"", boundary("r."), related));
    } else if let Some(image) = extras.images.first() {
        return Err(ContentError::Image {
            name: image.name.clone(),
            reason: "there is no HTML to show it in",
        });
    }
    if extras.calendar.is_some() {
        alternatives.push(Entity::Invite { attached: false });
    }
    let mut mixed = vec![Entity::multi("alternative", boundary(""), alternatives)];
    for attachment in &extras.attachments {
        mixed.push(attached(attachment, source.columns, templates)?);
    }
    if extras.calendar.is_some() {
        mixed.push(Entity::Invite { attached: true });
    }
    Ok(Entity::multi("mixed", boundary("m."), mixed))
}

/// The HTML template with its files put in, as HTML, with its CSS where it is wanted.
fn html_template(
    name: &str,
    html: &str,
    extras: &Extras<'_>,
    templates: &Templates,
) -> Result<Flat, ContentError> {
    let mut flat = templates.flatten(name, html)?;
    if extras.mjml {
        flat = markup::mjml(name, &flat, extras.folder)?;
    }
    if extras.inline_css {
        flat = markup::inline_css(name, &flat)?;
    }
    Ok(flat)
}

/// Gives each `cid:name` its Content-ID, and the images as parts.
fn images(
    html: &mut Flat,
    images: &[Image],
    template: &str,
    id_end: &str,
) -> Result<Vec<Entity>, ContentError> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let refuse = |name: &str, reason| Err(ContentError::Image { name: name.to_owned(), reason });
    let mut shown = vec![false; images.len()];
    for at in 0..html.pieces.len() {
        let before_tag = matches!(html.pieces.get(at + 1), Some(Piece::Tag(_)));
        let Piece::Text(text) = &mut html.pieces[at] else { continue };
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(found) = rest.find("cid:") {
            let (before, after) = rest.split_at(found + 4);
            out.push_str(before);
            rest = after;
            if !before[..found].ends_with(['"', '\'', '(', '=']) {
                continue;
            }
            let name = &after[..after.find(|c| !in_name(c)).unwrap_or(after.len())];
            if name.len() == after.len() && before_tag {
                return refuse(template, "the name after cid: must be written out");
            }
            match images.iter().position(|image| image.name == name) {
                Some(index) => shown[index] = true,
                None => return refuse(name, "the HTML shows it and [images] does not have it"),
            }
            out.push_str(name);
            out.push_str(id_end);
            rest = &after[name.len()..];
        }
        out.push_str(rest);
        *text = out;
    }
    let mut parts = Vec::with_capacity(images.len());
    for (image, shown) in images.iter().zip(shown) {
        if image.name.is_empty() || !image.name.chars().all(in_name) {
            return refuse(&image.name, "an image's name is letters, digits, - and _");
        }
        if !shown {
            return refuse(
                &image.name,
                "nothing in the HTML shows it; write src=\"cid:NAME\", or take it out",
            );
        }
        let kind = entity::kind_of(&image.file_name);
        if !kind.starts_with("image/") {
            return refuse(&image.name, "its file is no image by its name (.png, .jpg, .gif, .webp, .svg)");
        }
        let id = format!("{}{id_end}", image.name);
        parts.push(Entity::file(kind, entity::last(&image.file_name), Some(&id), &image.octets));
    }
    Ok(parts)
}

fn attached(
    attachment: &Attachment<'_>,
    columns: &[String],
    templates: &mut Templates,
) -> Result<Entity, ContentError> {
    if let Some(kind) = attachment.kind.filter(|kind| !is_kind(kind)) {
        return Err(ContentError::Attachment(format!("`{kind}` is no media type, like application/pdf")));
    }
    match &attachment.from {
        AttachmentFrom::File { file_name, octets } => {
            let kind = attachment.kind.unwrap_or_else(|| entity::kind_of(file_name));
            Ok(Entity::file(kind, attachment.name.unwrap_or(entity::last(file_name)), None, octets))
        }
        AttachmentFrom::Row { variable, folder, max } => {
            let Some(column) = columns.iter().position(|column| column == variable) else {
                return Err(ContentError::Attachment(format!(
                    "there is no column {variable}; the list has: {}",
                    columns.join(", ")
                )));
            };
            let title = format!("name of the attachment of column {variable}");
            Ok(Entity::RowFile(RowFile {
                variable: (*variable).to_owned(),
                column,
                folder: folder.clone(),
                max: *max,
                name: attachment.name.map(|name| templates.value(&title, name)).transpose()?,
                kind: attachment.kind.map(str::to_owned),
            }))
        }
    }
}

fn invite_of(
    calendar: &Calendar<'_>,
    source: &ContentSource<'_>,
    token: &str,
    templates: &mut Templates,
) -> Result<Invite, ContentError> {
    let (display, from) = headers::parse_mailbox("from", source.from)?;
    let organizer = Organizer {
        name: &String::from_utf8_lossy(&display),
        address: &format!("{}@{}", from.local(), from.domain().as_str()),
    };
    let date = jiff::Timestamp::try_from(source.date).map_err(|_| ContentError::Date)?;
    let stamp = calendar::stamp(date).ok_or(ContentError::Date)?;
    let uid_end = format!(".{token}@{}", source.message_id_domain);
    Invite::compile(calendar, &organizer, &stamp, uid_end, &source.extras.region, templates)
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
            extras: Extras::default(),
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
            ("{{- name }} {{ name -}} {{ name }} {# note #}", true),
            ("{{ name|date('long', locale='de') }}{{ id|number(2) }}{{ note|currency(\"EUR\") }}", true),
            ("{{ name|default('2026-01-01')|date(format='%d.%m.') }}", true),
            ("{{ note|currency(id) }}", false),
            ("{% if name %}a{% endif %}", false),
            ("{{{ name }}}", false),
            ("{{ name.first }}", false),
            ("{{ name ~ id }}", false),
            ("{{ name|length }}", false),
            ("{{ name|default(id) }}", false),
        ] {
            let mut templates = Templates::new(&columns, false, None, &Region::default());
            let flat = templates.flatten("text", template).unwrap();
            let compiled = templates.add("text", "text", &flat, Form::Text);
            match compiled {
                Ok(compiled) => assert_eq!(compiled.segments.is_some(), simple, "{template}"),
                Err(_) => assert!(!simple, "{template}"),
            }
        }
    }

    #[test]
    fn layouts_and_partials_do_not_run_minijinja() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::write(
            temporary.path().join("l.html"),
            "<style>p{color:red}</style>{% block b %}{% endblock %}",
        )
        .unwrap();
        std::fs::write(temporary.path().join("p.html"), "<p>{{ note|default('x') }}</p>").unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        let (columns, domain, none) = (columns(), Domain::parse("sender.test").unwrap(), BTreeMap::new());
        let source = ContentSource {
            text: None,
            html: Some("{% extends 'l.html' %}{% block b %}{{ name }}{% include 'p.html' %}{% endblock %}"),
            extras: Extras { folder: Some(&folder), inline_css: true, ..Extras::default() },
            ..source(&columns, &domain, &none)
        };
        let content = Content::compile(&source, Vec::new()).unwrap();
        assert!(content.templates.are_simple());
        let message = rendered(&content, &["Ann", "7", ""]);
        assert!(message.contains("Ann<p style=\"color: red;\">x</p>"), "{message}");
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
            Just("{{- id|number(2) -}}".to_owned()),
            Just("{{ id|currency('EUR', locale=\"de\") }}{# note #}".to_owned()),
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
            name in field(), id in "-?[0-9]{1,9}(\\.[0-9]{1,4})?", note in field(),
        ) {
            let (columns, domain, none) = (columns(), Domain::parse("sender.test").unwrap(), BTreeMap::new());
            let source = ContentSource {
                text: Some(&text), html: Some(&html), subject: &subject, ..source(&columns, &domain, &none)
            };
            let fast = Content::compile(&source, Vec::new()).unwrap();
            prop_assert!(fast.templates.are_simple());
            let templates = Templates::new(&columns, true, None, &Region::default()).slow();
            let engine = Content::compile_with(&source, Vec::new(), templates).unwrap();
            let fields = [name.as_str(), &id, &note];
            prop_assert_eq!(rendered(&fast, &fields), rendered(&engine, &fields));
        }
    }
}
