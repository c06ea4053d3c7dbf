//! The header of a message: which fields a campaign has, and each recipient's.
//!
//! What is the same for all is written once. A field that a template fills stays one field, whatever a row
//! says ([`headers`]).

use std::io::Write as _;
use std::time::SystemTime;

use super::custom::{check_name, check_value};
use super::template::{Template, Templates};
use super::tokens::check_base_url;
use super::{ContentError, ContentSource, Merge, RenderError, Scratch, feedback, headers};
use crate::envelope::RecipientId;
use crate::token::Kind;

/// A header, or several that are the same in every message.
pub(super) enum Field {
    Fixed(Vec<u8>),
    To(Option<Template>),
    Text(String, Template),
    /// What follows segment and index.
    MessageId(String),
    Unsubscribe {
        url: Option<Url>,
        mailto: Option<Template>,
    },
    /// `Feedback-ID`: what stands between the colons.
    Feedback(Vec<Template>),
    /// `CFBL-Feedback-ID`: a token, by its place.
    Complaint(usize),
}

/// Where one click leaves the list.
pub(super) enum Url {
    /// The campaign's own template.
    Own(Template),
    /// A base URL and a token, by its place.
    Made(usize),
}

impl Field {
    /// Appends the field of one recipient, whose values are in `scratch`.
    ///
    /// # Errors
    /// A template that fails, a URL that is none.
    pub fn write(
        &self,
        templates: &Templates,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        match self {
            Self::Fixed(octets) => out.extend_from_slice(octets),
            Self::To(name) => {
                scratch.text.clear();
                if let Some(template) = name {
                    value(templates, template, merge, scratch)?;
                }
                headers::mailbox("To", &scratch.text, merge.address.local(), merge.address.domain(), out);
            }
            Self::Text(name, template) => {
                value(templates, template, merge, scratch)?;
                headers::unstructured(name, &scratch.text, out);
            }
            Self::MessageId(end) => {
                let RecipientId { segment, index } = merge.recipient;
                write!(out, "Message-ID: <{segment:x}.{index:x}{end}")
                    .expect("writing to a Vec does not fail");
            }
            Self::Unsubscribe { url, mailto } => {
                let mut between: &[u8] = b"List-Unsubscribe: <";
                match url {
                    Some(Url::Own(template)) => {
                        value(templates, template, merge, scratch)?;
                        out.extend_from_slice(between);
                        headers::url(&template.name, "https://", &scratch.text, out)?;
                    }
                    Some(Url::Made(place)) => {
                        out.extend_from_slice(between);
                        out.extend_from_slice(scratch.values.made[*place].as_bytes());
                    }
                    None => {}
                }
                if let Some(template) = mailto {
                    between = if url.is_some() { b">,\r\n <" } else { between };
                    value(templates, template, merge, scratch)?;
                    out.extend_from_slice(between);
                    headers::url(&template.name, "mailto:", &scratch.text, out)?;
                }
                out.extend_from_slice(b">\r\n");
            }
            Self::Feedback(parts) => {
                out.extend_from_slice(b"Feedback-ID: ");
                for (at, part) in parts.iter().enumerate() {
                    if at > 0 {
                        out.push(b':');
                    }
                    value(templates, part, merge, scratch)?;
                    feedback::push_part(&scratch.text, out);
                }
                out.extend_from_slice(b"\r\n");
            }
            Self::Complaint(place) => {
                out.extend_from_slice(b"CFBL-Feedback-ID: ");
                out.extend_from_slice(scratch.values.made[*place].as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

/// What is written above the parts.
pub(super) struct Fields {
    pub fields: Vec<Field>,
    pub names: Vec<String>,
    /// Tokens they need, by their places.
    pub tokens: Vec<usize>,
}

/// All headers but those of MIME, in their order.
///
/// `Precedence: bulk` goes into campaigns that name a list or a way to leave it: responders older than
/// List-* headers know nothing else to keep quiet by, and what they say would come to the return paths
/// (RFC 3834 §2). `Auto-Submitted` is not written: a person made the campaign, and its absence says so
/// (RFC 3834 §5). A campaign that differs says so under its own headers.
///
/// # Errors
/// A value that is wrong, a name that is not the campaign's to write.
pub(super) fn fields(
    source: &ContentSource<'_>,
    token: &str,
    templates: &mut Templates,
) -> Result<Fields, ContentError> {
    let mut build = Build { fields: Vec::new(), names: Vec::new(), tokens: Vec::new() };
    let (display, from) = headers::parse_mailbox("from", source.from)?;
    build.fixed("From", |out| {
        headers::mailbox("From", &display, from.local(), from.domain().as_str(), out);
        Ok(())
    })?;
    let to_name = source.to_name.map(|name| templates.value("to name", name)).transpose()?;
    build.push("To", Field::To(to_name));
    let subject = templates.value("subject", source.subject)?;
    build.push("Subject", Field::Text("Subject".to_owned(), subject));
    let date = date(source.date)?;
    build.line("Date", &date);
    build.push("Message-ID", Field::MessageId(format!(".{token}@{}>\r\n", source.message_id_domain)));
    if let Some(reply_to) = source.reply_to {
        let (display, address) = headers::parse_mailbox("reply-to", reply_to)?;
        build.fixed("Reply-To", |out| {
            headers::mailbox("Reply-To", &display, address.local(), address.domain().as_str(), out);
            Ok(())
        })?;
    }
    unsubscribe(source, templates, &mut build)?;
    if let Some(list_id) = source.list_id {
        build.fixed("List-Id", |out| headers::list_id(list_id, out))?;
    }
    let is_list = source.list_id.is_some() || build.names.iter().any(|name| name == "List-Unsubscribe");
    if is_list && !source.headers.keys().any(|name| name.eq_ignore_ascii_case("Precedence")) {
        build.line("Precedence", "bulk");
    }
    complaints(source, templates, &mut build)?;
    for (name, value) in source.headers {
        let refuse = |reason| ContentError::Header { name: name.clone(), reason };
        check_name(name).and_then(|()| check_value(name, value)).map_err(refuse)?;
        if build.names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(refuse("given twice"));
        }
        let template = templates.value(&format!("header {name}"), value)?;
        build.push(name, Field::Text(name.clone(), template));
    }
    Ok(build)
}

type Build = Fields;

impl Fields {
    fn push(&mut self, name: &str, field: Field) {
        self.names.push(name.to_owned());
        self.fields.push(field);
    }

    /// A field that is the same in every message.
    fn fixed(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let mut octets = Vec::new();
        write(&mut octets)?;
        self.push(name, Field::Fixed(octets));
        Ok(())
    }

    fn line(&mut self, name: &str, value: &str) {
        self.push(name, Field::Fixed(format!("{name}: {value}\r\n").into_bytes()));
    }

    /// A token that the message needs, behind `before`.
    fn token(
        &mut self,
        name: &str,
        before: &str,
        kind: Kind,
        templates: &mut Templates,
    ) -> Result<usize, ContentError> {
        let place = templates.declare(name, before, kind).ok_or(ContentError::NoKey)?;
        self.tokens.push(place);
        Ok(place)
    }
}

/// `List-Unsubscribe`, and what makes it one click (RFC 8058).
fn unsubscribe(
    source: &ContentSource<'_>,
    templates: &mut Templates,
    build: &mut Build,
) -> Result<(), ContentError> {
    let refuse = |reason| Err(ContentError::Unsubscribe(reason));
    let url = match (source.unsubscribe_url, source.extras.unsubscribe_base_url) {
        (Some(_), Some(_)) => return refuse("`url` and `base_url` are both given"),
        (Some(url), None) => Some(Url::Own(unsubscribe_url(url, templates)?)),
        (None, Some(base_url)) => {
            check_base_url(base_url).map_err(ContentError::Unsubscribe)?;
            if source.columns.iter().any(|column| column == "unsubscribe_url") {
                return refuse(
                    "a column is called unsubscribe_url, as the link that `base_url` makes; give the column \
                     another name under [list.columns]",
                );
            }
            Some(Url::Made(build.token("unsubscribe_url", base_url, Kind::Unsubscribe, templates)?))
        }
        (None, None) => None,
    };
    let mailto =
        source.unsubscribe_mailto.map(|address| unsubscribe_mailto(address, templates)).transpose()?;
    if url.is_none() && mailto.is_none() {
        return Ok(());
    }
    let is_one_click = url.is_some();
    build.push("List-Unsubscribe", Field::Unsubscribe { url, mailto });
    if is_one_click {
        build.line("List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
    }
    Ok(())
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
    // Who writes to it is not always who was written to: a plain address is given the recipient's token.
    let is_plain = !address.contains(['{', '?']) && templates.makes_tokens();
    let subject = if is_plain { "?subject=unsubscribe%20{{ unsubscribe_token }}" } else { "" };
    templates.value("unsubscribe mailto", &format!("mailto:{address}{subject}"))
}

/// Where complaints about the message go.
fn complaints(
    source: &ContentSource<'_>,
    templates: &mut Templates,
    build: &mut Build,
) -> Result<(), ContentError> {
    if let Some(text) = source.extras.feedback_id {
        build.push("Feedback-ID", Field::Feedback(feedback::feedback_id(text, templates)?));
    }
    if let Some(address) = source.extras.cfbl_address {
        build.fixed("CFBL-Address", |out| feedback::cfbl_address(address, out))?;
        let variable = templates.unused_name("postroad_complaint");
        let place = build.token(&variable, "", Kind::Complaint, templates)?;
        build.push("CFBL-Feedback-ID", Field::Complaint(place));
    }
    Ok(())
}

/// A header's value for this recipient, cleaned, in `scratch.text`.
fn value(
    templates: &Templates,
    template: &Template,
    merge: &Merge<'_>,
    scratch: &mut Scratch,
) -> Result<(), RenderError> {
    templates.text(template, merge, scratch)?;
    headers::clean(&mut scratch.text);
    Ok(())
}

/// As RFC 5322 §3.3 writes it, in UTC.
fn date(date: SystemTime) -> Result<String, ContentError> {
    let timestamp = jiff::Timestamp::try_from(date).map_err(|_| ContentError::Date)?;
    Ok(timestamp.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}
