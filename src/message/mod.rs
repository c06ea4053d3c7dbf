//! Recipient → signed message: subject, parts and headers from templates, MIME and DKIM around them.
//!
//! [`Content::compile`] does once whatever does not depend on the recipient; [`Content::render`] is then a
//! pure function of content and recipient, so that a retry is the same message. A merge field can change
//! the text of a part or of a header, never the set of headers or the structure of parts. It never stores
//! a message, and knows neither SMTP nor campaigns.

mod anchors;
mod calendar;
pub mod composer;
mod custom;
pub mod dkim;
mod entity;
mod expression;
mod feedback;
mod fields;
mod filters;
mod flatten;
mod folder;
mod guard;
mod headers;
mod images;
mod links;
mod locale;
mod markup;
mod mime;
mod parts;
mod pieces;
mod slots;
mod source;
mod template;
mod tokens;
mod tracking;

use std::time::UNIX_EPOCH;

use crate::address::AddressRef;
use crate::envelope::RecipientId;
use crate::token::{Kind, RunToken};

use calendar::Invite;
use dkim::{Room, Seals};
use entity::Entity;
use fields::{Field, Fields};
use links::Links;
use mime::Work;
use parts::Parts;
use slots::Values;
use template::Templates;
use tokens::Tokens;

pub use calendar::Calendar;
pub use custom::{check_name, check_value};
pub use dkim::{DkimError, Signer};
pub use entity::is_kind;
pub use feedback::check_feedback_id;
pub use filters::Region;
pub use folder::{Folder, FolderError, closure, leads_down};
pub use source::{Attachment, AttachmentFrom, ContentSource, Extras, Image, Tracking};
pub use tokens::check_base_url;

/// What one recipient brings to the templates.
#[derive(Clone, Copy)]
pub struct Merge<'a> {
    pub recipient: RecipientId,
    pub address: &'a AddressRef<'a>,
    /// In the order of [`ContentSource::columns`]; a missing one counts as empty.
    pub fields: &'a [&'a str],
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
    #[error("tracking: the base URL {0}")]
    Tracking(&'static str),
    #[error("there is no key to make tokens with")]
    NoKey,
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
#[derive(Debug, Clone, thiserror::Error)]
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
    links: Links,
    seals: Seals,
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
        let Extras { key, tracking, calendar, .. } = &source.extras;
        if let Some(tracking) = tracking {
            check_base_url(tracking.base_url).map_err(ContentError::Tracking)?;
            key.ok_or(ContentError::NoKey)?;
        }
        if let Some(key) = key {
            templates = templates.with_tokens(Tokens::new((*key).clone(), RunToken::new(&token)));
            templates.declare("unsubscribe_token", "", Kind::Unsubscribe);
        }
        let Fields { mut fields, mut names, tokens } = fields::fields(source, &token, &mut templates)?;
        let invite = calendar.as_ref();
        let invite =
            invite.map(|calendar| parts::invite(calendar, source, &token, &mut templates)).transpose()?;
        let Parts { root, links } = parts::parts(source, &token, &mut templates)?;
        templates.note_tokens(&tokens);
        fields.push(Field::Fixed(b"MIME-Version: 1.0\r\n".to_vec()));
        names.extend(["MIME-Version", "Content-Type"].map(str::to_owned));
        if root.is_leaf() {
            names.push("Content-Transfer-Encoding".to_owned());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let seals = Seals::new(signers, &names, time);
        Ok(Self { templates, fields, root, invite, links, seals })
    }

    /// The keys that sign it, in the order of their signatures.
    pub fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.seals.signers()
    }

    /// Whether [`Content::render`] reads a file, for which it blocks.
    pub fn reads_files(&self) -> bool {
        self.root.reads_files()
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
        self.templates.fill(merge, &mut scratch.values)?;
        for field in &self.fields {
            field.write(&self.templates, merge, scratch, out)?;
        }
        self.links.check(&self.templates, merge, scratch)?;
        if let Some(invite) = &self.invite {
            invite.write(&self.templates, merge, scratch)?;
        }
        let body = self.root.write(&self.templates, merge, scratch, out)?;
        self.seals.sign(body, &mut scratch.signing, out)
    }

    /// Where the tracked link `number` leads for this recipient; `None`: there is no such link.
    ///
    /// # Errors
    /// As [`Content::render`].
    pub fn link(&self, number: u16, merge: &Merge<'_>) -> Result<Option<String>, RenderError> {
        let mut scratch = Scratch::default();
        self.templates.fill(merge, &mut scratch.values)?;
        self.links.target(number, &self.templates, merge, &mut scratch)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::slots::Form;
    use super::*;
    use crate::address::Domain;
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
            Precedence: bulk\r\n\
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
