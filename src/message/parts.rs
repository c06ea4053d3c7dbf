//! The parts of a campaign's message: its templates taken through what is done to them once, and compiled.
//!
//! HTML: files put in, MJML, CSS, tracked links, images, in this order. A text that is made of the HTML is
//! made before links are rewritten.

use super::calendar::{self, Calendar, Invite, Organizer};
use super::entity::{self, Entity, RowFile, is_kind};
use super::flatten::Flat;
use super::images::images;
use super::links::Links;
use super::mime::{self, Part};
use super::slots::Form;
use super::template::{self, Templates};
use super::tracking::{self, Leave, Wanted};
use super::{Attachment, AttachmentFrom, ContentError, ContentSource, Extras, headers, markup};
use crate::token::Kind;

/// The parts, and how they belong together.
pub(super) struct Parts {
    pub root: Entity,
    /// The links that were rewritten.
    pub links: Links,
}

/// Compiles the parts.
///
/// # Errors
/// A template, an image or an attachment that is wrong.
pub(super) fn parts(
    source: &ContentSource<'_>,
    token: &str,
    templates: &mut Templates,
) -> Result<Parts, ContentError> {
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
    let mut links = Links::default();
    if let Some(mut html) = html {
        links = tracked(html_name, &mut html, source, templates)?;
        let images =
            images(&mut html, &extras.images, html_name, &format!(".{token}@{}", source.message_id_domain))?;
        let html = templates.add(template::HTML, html_name, &html, Form::Html)?;
        links.shown_by(&html);
        let mut related = vec![Entity::Text(Part::new("html", html))];
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
    Ok(Parts { root: Entity::multi("mixed", boundary("m."), mixed), links })
}

/// Puts tokens into the HTML; gives the links they stand for.
fn tracked(
    name: &str,
    html: &mut Flat,
    source: &ContentSource<'_>,
    templates: &mut Templates,
) -> Result<Links, ContentError> {
    let Extras { tracking, unsubscribe_base_url, folder, .. } = &source.extras;
    let mut links = Links::default();
    if let Some(tracking) = tracking {
        let click = tracking.clicks.then(|| templates.unused_name("postroad_click_"));
        let open = tracking.opens.then(|| templates.unused_name("postroad_open"));
        let leave = Leave { base_url: *unsubscribe_base_url, url: source.unsubscribe_url };
        let (base_url, click, open) = (tracking.base_url, click.as_deref(), open.as_deref());
        let (rewritten, found) =
            tracking::rewrite(name, html, &Wanted { base_url, click, open, leave }, *folder)?;
        *html = rewritten;
        for (number, link) in (0..=u16::MAX).zip(&found) {
            let (key, variable) = (format!("{}//link {number}", template::HTML), click.unwrap_or_default());
            let link = templates.add_link(&key, name, link)?;
            let token = templates.declare(&format!("{variable}{number}"), "", Kind::Click(number));
            links.push(link, token.ok_or(ContentError::NoKey)?);
        }
        if let Some(open) = open {
            templates.declare(open, "", Kind::Open);
        }
    }
    if let Some(base_url) = unsubscribe_base_url {
        let variable = templates.unused_name("postroad_unsubscribe");
        templates.declare(&variable, "", Kind::Unsubscribe);
        tracking::plain_unsubscribe(html, base_url, &variable);
    }
    Ok(links)
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

/// # Errors
/// A template or a date that is wrong.
pub(super) fn invite(
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
