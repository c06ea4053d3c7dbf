//! Messages as others read them: mail-parser finds what was written, verifiers agree with the signatures.

#[path = "support/verifiers.rs"]
mod verifiers;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use html2text::render::RichAnnotation;
use mail_parser::{MessageParser, MimeHeaders, PartType};
use postroad::address::{AddressRef, Domain};
use postroad::envelope::RecipientId;
use postroad::message::{
    Attachment, AttachmentFrom, Calendar, Content, ContentSource, Extras, Folder, Image, Merge, Scratch,
    Signer, Tracking,
};
use postroad::token::{self, Key, Kind};
use proptest::prelude::*;
use verifiers::{Records, verifiers};

// Keys for tests only, made with `openssl genpkey`.
const RSA_PKCS8: &str = include_str!("keys/rsa2048.pkcs8.pem");
const RSA_PKCS1: &str = include_str!("keys/rsa2048.pkcs1.pem");
const ED25519: &str = include_str!("keys/ed25519.pkcs8.pem");

struct Campaign {
    columns: Vec<String>,
    headers: BTreeMap<String, String>,
    domain: Domain,
    subject: String,
    text: Option<String>,
    html: Option<String>,
}

impl Campaign {
    fn new(text: &str, html: &str) -> Self {
        Self {
            columns: ["name", "id", "note"].map(str::to_owned).into(),
            headers: BTreeMap::from([("X-Note".to_owned(), "autumn:{{ note }}".to_owned())]),
            domain: Domain::parse("sender.test").unwrap(),
            subject: "{{ name }}, {{ note }}".to_owned(),
            text: Some(text.to_owned()),
            html: Some(html.to_owned()),
        }
    }

    fn compile(&self, signers: Vec<Signer>) -> Content {
        let source = ContentSource {
            subject: &self.subject,
            from: "Müller & Söhne <news@sender.test>",
            to_name: Some("{{ name }}"),
            reply_to: Some("Help <help@sender.test>"),
            text: self.text.as_deref(),
            html: self.html.as_deref(),
            headers: &self.headers,
            unsubscribe_url: Some("https://lists.sender.test/u/{{ id }}"),
            unsubscribe_mailto: Some("unsub@sender.test?subject={{ id|urlencode }}"),
            list_id: Some("Autumn <autumn.sender.test>"),
            columns: &self.columns,
            strict: true,
            run_token: "k3f9",
            date: UNIX_EPOCH + Duration::from_secs(1_795_316_400),
            message_id_domain: &self.domain,
            extras: Extras::default(),
        };
        Content::compile(&source, signers).unwrap()
    }
}

fn render(content: &Content, fields: &[&str]) -> Vec<u8> {
    let address = AddressRef::parse("ann@example.test").unwrap();
    let merge = Merge { recipient: RecipientId::new(1, 0x2a), address: &address, fields };
    let mut out = Vec::new();
    content.render(&merge, &mut Scratch::default(), &mut out).unwrap();
    out
}

fn signers() -> Vec<Signer> {
    let domain = Domain::parse("sender.test").unwrap();
    vec![
        Signer::from_pem(domain.clone(), "r1", RSA_PKCS8).unwrap(),
        Signer::from_pem(domain, "e1", ED25519).unwrap(),
    ]
}

/// What a part or header must hold: line ends as CRLF, one at the end.
fn as_lines(text: &str) -> String {
    let mut text = text.replace("\r\n", "\n").replace('\r', "\n");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.replace('\n', "\r\n")
}

/// What a header must hold: controls and line ends as blanks.
fn as_value(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let blank = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}';
    text.chars().map(|c| if blank(c) { ' ' } else { c }).collect::<String>().trim_matches(' ').to_owned()
}

fn escaped(text: &str) -> String {
    let pairs =
        [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#x27;"), ("/", "&#x2f;")];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn wire_is_safe(message: &[u8]) {
    assert!(message.is_ascii() && !message.contains(&0));
    assert!(message.ends_with(b"\r\n"));
    for line in message.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("no bare LF");
        assert!(!line.contains(&b'\r'), "no bare CR");
        assert!(line.len() <= 998);
    }
}

const NAMES: [&str; 13] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-ID",
    "Precedence",
    "X-Note",
    "MIME-Version",
    "Content-Type",
];

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,60}",
        "[A-Za-z ]{0,12}",
        "[\r\n\t \0\u{7f}\u{85}\u{2028}a.=<>:,;\"\\\\()?_-]{0,60}",
        Just("x\r\nBcc: victim@example.test\r\n\r\nbody".to_owned()),
        Just("\r\n--=_k3f9\r\nContent-Type: text/html\r\n\r\n<script>".to_owned()),
        Just("--=_k3f9--".to_owned()),
        Just("\r\n.\r\nMAIL FROM:<x@example.test>\r\n".to_owned()),
        Just("=?utf-8?Q?x=0D=0ABcc:_y?=".to_owned()),
        Just("{{ id }}{% raw %}".to_owned()),
        Just(format!("{}  {}  x", "a".repeat(700), "b".repeat(700))),
        "[é漢字🎉 ]{1,300}",
        "[a-z]{1,1500}",
        "[a-z ]{1,1500}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_field_changes_headers_or_parts(name in hostile(), id in "[\\PC\r\n\0]{0,60}", note in hostile()) {
        let campaign = Campaign::new("Hello {{ name }},\n{{ note }}", "<p>{{ name }}\n</p>{{ note }}\n  x\n");
        let message = render(&campaign.compile(signers()), &[&name, &id, &note]);
        wire_is_safe(&message);

        let parsed = MessageParser::default().parse(&message).unwrap();
        let names: Vec<&str> = parsed.root_part().headers.iter().map(|header| header.name()).collect();
        prop_assert_eq!(&names[..2], &["DKIM-Signature"; 2]);
        prop_assert_eq!(&names[2..], &NAMES);
        prop_assert_eq!(parsed.parts.len(), 3);
        prop_assert!(matches!(parsed.parts[0].body, PartType::Multipart(_)));
        let PartType::Text(text) = &parsed.parts[1].body else { panic!("a text part") };
        let PartType::Html(html) = &parsed.parts[2].body else { panic!("an HTML part") };
        let lines = |field: &str| field.replace("\r\n", "\n").replace('\r', "\n");
        let text_expected = format!("Hello {},\n{}\n", lines(&name), lines(&note));
        prop_assert_eq!(text.as_ref(), as_lines(&text_expected));
        let html_expected = format!("<p>{}\n</p>{}\n  x\n", escaped(&lines(&name)), escaped(&lines(&note)));
        prop_assert_eq!(html.as_ref(), as_lines(&html_expected));

        let blanks = |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        let subject = as_value(&format!("{name}, {note}"));
        prop_assert_eq!(blanks(parsed.subject().unwrap()), blanks(&subject));
        let to = parsed.to().unwrap().first().unwrap();
        prop_assert_eq!(to.address(), Some("ann@example.test"));
        prop_assert_eq!(blanks(to.name().unwrap_or_default()), blanks(&as_value(&name)));
        prop_assert_eq!(parsed.from().unwrap().first().unwrap().name(), Some("Müller & Söhne"));
        prop_assert_eq!(parsed.message_id(), Some("1.2a.k3f9@sender.test"));
    }
}

/// A campaign with every kind of part.
struct Full {
    folder: tempfile::TempDir,
    content: Content,
}

fn full() -> Full {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f.html"), "<p>{{ name }} {{ note }}</p>").unwrap();
    std::fs::create_dir(folder.path().join("rows")).unwrap();
    std::fs::write(folder.path().join("rows/a.pdf"), "%PDF").unwrap();
    let files = Folder::open(folder.path()).unwrap();
    let rows = Folder::open(&folder.path().join("rows")).unwrap();
    let columns = ["name", "id", "note", "file"].map(str::to_owned);
    let domain = Domain::parse("sender.test").unwrap();
    let attachment = |from, name| Attachment { from, name, kind: None };
    let source = ContentSource {
        subject: "{{ name }} {{ note|title }}",
        from: "Us <us@sender.test>",
        to_name: Some("{{ name }}"),
        reply_to: None,
        text: None,
        html: Some(
            "<style>p{color:red}</style><img src=\"cid:logo\" alt=\"{{ note }}\">{% if id %}{{ id }}{% endif %}{% include \"f.html\" %}",
        ),
        headers: &BTreeMap::from([("X-Note".to_owned(), "{{ note|urlencode }}".to_owned())]),
        unsubscribe_url: None,
        unsubscribe_mailto: None,
        list_id: None,
        columns: &columns,
        strict: true,
        run_token: "k3f9",
        date: UNIX_EPOCH + Duration::from_secs(1_795_316_400),
        message_id_domain: &domain,
        extras: Extras {
            folder: Some(&files),
            inline_css: true,
            images: vec![Image {
                name: "logo".into(),
                file_name: "logo.png".into(),
                octets: vec![0, 255, 13],
            }],
            attachments: vec![
                attachment(
                    AttachmentFrom::File { file_name: "t.txt".into(), octets: b"t\r\n".to_vec() },
                    None,
                ),
                attachment(
                    AttachmentFrom::Row { variable: "file", folder: rows, max: 1_000 },
                    Some("{{ name }}{{ note }}.pdf"),
                ),
            ],
            calendar: Some(Calendar {
                start: "2026-12-01 18:00",
                end: None,
                duration: None,
                summary: "{{ name }}",
                location: Some("{{ note }}"),
                description: Some("{{ id }}"),
                url: Some("https://sender.test/{{ note }}"),
                uid: Some("{{ name }}"),
                sequence: 1,
            }),
            ..Extras::default()
        },
    };
    Full { content: Content::compile(&source, signers()).unwrap(), folder }
}

/// The media types of all parts, in order.
fn kinds(parsed: &mail_parser::Message<'_>) -> Vec<String> {
    let kind = |part: &mail_parser::MessagePart<'_>| {
        let kind = part.content_type().unwrap();
        format!("{}/{}", kind.ctype(), kind.subtype().unwrap())
    };
    parsed.parts.iter().map(kind).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_field_changes_any_kind_of_part(
        name in hostile(), id in hostile(), note in hostile(), path in "[a-z./\\\\~ \0\r\n-]{0,20}",
    ) {
        let full = full();
        let message = render(&full.content, &[&name, &id, &note, "a.pdf"]);
        wire_is_safe(&message);
        let parsed = MessageParser::default().parse(&message).unwrap();
        let names: Vec<&str> = parsed.root_part().headers.iter().map(|header| header.name()).collect();
        prop_assert_eq!(&names[2..], &["From", "To", "Subject", "Date", "Message-ID", "X-Note", "MIME-Version", "Content-Type"]);
        prop_assert_eq!(kinds(&parsed), [
            "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png",
            "text/calendar", "text/plain", "application/pdf", "application/ics",
        ]);
        let file = parsed.parts.iter().find(|part| part.content_type().is_some_and(|kind| kind.subtype() == Some("pdf"))).unwrap();
        prop_assert_eq!(file.contents(), b"%PDF");
        prop_assert!(file.attachment_name().unwrap().ends_with(".pdf"));
        // Every line of the invitation is one of those that the campaign has.
        let invite = parsed.parts.last().unwrap().contents();
        let invite = std::str::from_utf8(invite).unwrap().replace("\r\n ", "");
        let properties: Vec<&str> = invite.lines().map(|line| line.split([':', ';']).next().unwrap()).collect();
        let expected = [
            "BEGIN", "PRODID", "VERSION", "METHOD", "BEGIN", "UID", "DTSTART", "DTEND", "SUMMARY", "LOCATION",
            "DESCRIPTION", "URL", "DTSTAMP", "SEQUENCE", "ORGANIZER", "STATUS", "ATTENDEE", "END", "END",
        ];
        prop_assert!(expected.iter().filter(|line| properties.contains(line)).count() >= 15);
        prop_assert!(properties.iter().all(|line| expected.contains(line)), "{}", invite);
        prop_assert_eq!(properties.iter().filter(|line| **line == "BEGIN").count(), 2);

        // Whatever a row names, it is read from the rows' folder or not at all.
        let address = AddressRef::parse("ann@example.test").unwrap();
        let fields = [name.as_str(), &id, &note, &path];
        let merge = Merge { recipient: RecipientId::new(1, 2), address: &address, fields: &fields };
        let rendered = full.content.render(&merge, &mut Scratch::default(), &mut Vec::new());
        prop_assert!(rendered.is_err() || full.folder.path().join("rows").join(path.trim()).is_file());
    }
}

/// A campaign with every kind of token; the words of its links name them.
const TRACKED: &str = "<body class=\"{{ name }}\"><p>{{ note }}</p>\
    <a href=\"https://shop.sender.test/?q={{ name }}&amp;n={{ note|urlencode }}\">first-link</a>\
    <a title='{{ note }}' href='https://shop.sender.test/{% if id %}{{ id }}{% endif %}'>second-link</a>\
    <a data-no-track href=\"https://shop.sender.test/terms\" title=\"{{ name }}\">terms-link</a>\
    <a href=\"{{ unsubscribe_url }}\">leave-link</a> {{ id }}</body>\n";

fn tracked(html: &str, key: &Key, columns: &[String]) -> Content {
    let domain = Domain::parse("sender.test").unwrap();
    let source = ContentSource {
        subject: "{{ name }} {{ note }}",
        from: "Us <us@sender.test>",
        to_name: Some("{{ name }}"),
        reply_to: None,
        text: Some("{{ name }} {{ note }}\n"),
        html: Some(html),
        headers: &BTreeMap::new(),
        unsubscribe_url: None,
        unsubscribe_mailto: Some("leave@sender.test"),
        list_id: None,
        columns,
        strict: true,
        run_token: "k3f9",
        date: UNIX_EPOCH + Duration::from_secs(1_795_316_400),
        message_id_domain: &domain,
        extras: Extras {
            key: Some(key),
            unsubscribe_base_url: Some("https://sender.test/u/"),
            tracking: Some(Tracking { base_url: "https://t.sender.test/", clicks: true, opens: true }),
            feedback_id: Some("{{ name }}:{{ note }}:sender"),
            cfbl_address: Some("fbl@sender.test"),
            ..Extras::default()
        },
    };
    Content::compile(&source, signers()).unwrap()
}

/// Where each word that ends in `-link` leads, and what pictures there are, as an HTML parser sees it.
fn links(html: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut links, mut pictures) = (Vec::new(), Vec::new());
    let lines =
        html2text::config::rich().empty_img_mode(html2text::config::ImageRenderMode::Replace("picture"));
    for line in lines.lines_from_read(html.as_bytes(), 10_000).unwrap() {
        for part in line.tagged_strings() {
            for tag in &part.tag {
                match tag {
                    RichAnnotation::Link(to) => links.push((part.s.trim().to_owned(), to.clone())),
                    RichAnnotation::Image(from) => pictures.push(from.clone()),
                    _ => {}
                }
            }
        }
    }
    (links, pictures)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]
    #[test]
    fn no_field_changes_a_link_or_a_token(name in hostile(), id in hostile(), note in hostile()) {
        let key = Key::new(1, &[7; 32]);
        let columns = ["name", "id", "note"].map(str::to_owned);
        let content = tracked(TRACKED, &key, &columns);
        let fields = [name.as_str(), &id, &note];
        let message = render(&content, &fields);
        wire_is_safe(&message);
        let parsed = MessageParser::default().parse(&message).unwrap();
        let names: Vec<&str> = parsed.root_part().headers.iter().map(|header| header.name()).collect();
        prop_assert_eq!(&names[2..], &[
            "From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Unsubscribe-Post", "Precedence",
            "Feedback-ID", "CFBL-Address", "CFBL-Feedback-ID", "MIME-Version", "Content-Type",
        ]);
        prop_assert_eq!(kinds(&parsed), ["multipart/alternative", "text/plain", "text/html"]);

        let recipient = RecipientId::new(1, 0x2a);
        let verified = |text: &str, before: &str, after: &str| {
            let token = text.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            let (claim, _) = token::verify(token.unwrap_or_else(|| panic!("{text:?}")), &key).unwrap();
            assert_eq!((claim.run.as_str(), claim.recipient), ("k3f9", recipient));
            claim.kind
        };
        let raw = |name: &str| parsed.header_raw(name).unwrap().replace("\r\n", "").trim().to_owned();
        let (url, mailto) = { let all = raw("List-Unsubscribe"); let (a, b) = all.split_once(", ").unwrap(); (a.to_owned(), b.to_owned()) };
        prop_assert_eq!(verified(&url, "<https://sender.test/u/", ">"), Kind::Unsubscribe);
        prop_assert_eq!(verified(&mailto, "<mailto:leave@sender.test?subject=unsubscribe%20", ">"), Kind::Unsubscribe);
        prop_assert_eq!(verified(&raw("CFBL-Feedback-ID"), "", ""), Kind::Complaint);
        let feedback = raw("Feedback-ID");
        prop_assert_eq!(feedback.split(':').count(), 3);
        prop_assert!(feedback.ends_with(":sender") && feedback.bytes().all(|b| b.is_ascii_graphic()));

        let html = parsed.body_html(0).unwrap();
        let (links, pictures) = links(&html);
        let words: Vec<&str> = links.iter().map(|(word, _)| word.as_str()).collect();
        prop_assert_eq!(words, ["first-link", "second-link", "terms-link", "leave-link"]);
        prop_assert_eq!(verified(&links[0].1, "https://t.sender.test/", ""), Kind::Click(0));
        prop_assert_eq!(verified(&links[1].1, "https://t.sender.test/", ""), Kind::Click(1));
        prop_assert_eq!(links[2].1.as_str(), "https://shop.sender.test/terms");
        prop_assert_eq!(format!("<{}>", links[3].1), url);
        prop_assert_eq!(pictures.len(), 1);
        prop_assert_eq!(verified(&pictures[0], "https://t.sender.test/", ""), Kind::Open);

        // What the links lead to is the template's, too.
        let address = AddressRef::parse("ann@example.test").unwrap();
        let merge = Merge { recipient, address: &address, fields: &fields };
        let target = content.link(0, &merge).unwrap().unwrap();
        prop_assert!(target.starts_with("https://shop.sender.test/?q=") && target.contains("&n="));
        prop_assert!(!target.contains(['\r', '\n']));
        prop_assert_eq!(content.link(2, &merge).unwrap(), None);
    }
}

#[test]
fn only_what_a_row_names_is_read_for_each_message() {
    let columns = ["name", "id", "note"].map(str::to_owned);
    assert!(full().content.reads_files());
    assert!(!tracked(TRACKED, &Key::new(1, &[7; 32]), &columns).reads_files());
}

#[test]
fn a_link_that_a_message_does_not_show_may_lead_nowhere() {
    let columns = ["name", "id", "note"].map(str::to_owned);
    let address = AddressRef::parse("ann@example.test").unwrap();
    for year in ["{{ note|date('%Y') }}", "{{ (note|date('%Y')) ~ '' }}"] {
        let html = format!(
            "<a href='https://shop.sender.test/'>a-link</a>\
             {{% if id %}}<a href='https://shop.sender.test/{year}'>b-link</a>{{% endif %}}\n"
        );
        let content = tracked(&html, &Key::new(1, &[7; 32]), &columns);
        let render = |fields: &[&str]| {
            let merge = Merge { recipient: RecipientId::new(1, 0x2a), address: &address, fields };
            let mut out = Vec::new();
            let made = content.render(&merge, &mut Scratch::default(), &mut out).map(|()| out);
            (
                made.map_err(|error| error.to_string()),
                content.link(1, &merge).map_err(|error| error.to_string()),
            )
        };
        for note in ["", "soon"] {
            let (message, target) = render(&["Ann", "", note]);
            let message = message.unwrap();
            let html = MessageParser::default().parse(&message).unwrap().body_html(0).unwrap().into_owned();
            assert_eq!(links(&html).0.len(), 1, "{html}");
            assert!(target.is_err());
            let (message, target) = render(&["Ann", "7", note]);
            assert!(message.unwrap_err().starts_with("template html, line 1: ") && target.is_err());
        }
        let (message, target) = render(&["Ann", "7", "2026-12-01"]);
        assert!(message.is_ok());
        assert_eq!(target.unwrap().unwrap(), "https://shop.sender.test/2026");
    }
}

#[test]
fn signatures_cover_what_tokens_add() {
    let columns = ["name", "id", "note"].map(str::to_owned);
    let content = tracked(TRACKED, &Key::new(1, &[7; 32]), &columns);
    let message = render(&content, &["Ann", "7", "x"]);
    let records: Records = signers().iter().map(|signer| (signer.name(), signer.public_record())).collect();
    let hold = |message: &[u8]| -> Vec<bool> {
        let verdicts = verifiers::mail_auth(&[message.to_vec()], &records).remove(0);
        verdicts.into_iter().map(|(_, holds)| holds).collect()
    };
    assert_eq!(hold(&message), [true, true]);
    let text = String::from_utf8(message).unwrap();
    let signed = text.split("h=").nth(1).unwrap().split("bh=").next().unwrap();
    for name in [
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "Precedence",
        "Feedback-ID",
        "CFBL-Address",
        "CFBL-Feedback-ID",
    ] {
        assert!(signed.replace("\r\n\t", "").split([':', ';']).any(|signed| signed == name), "{name}");
        let changed = text.replacen(&format!("\r\n{name}: "), &format!("\r\n{name}: x"), 1);
        assert_eq!(hold(changed.as_bytes()), [false, false], "{name}");
    }
}

#[test]
fn each_part_gets_the_shortest_encoding_and_decodes_to_its_text() {
    for (text, encoding) in [
        ("plain\n", "7bit"),
        ("Grüße an alle, die diesen Brief bekommen\n", "quoted-printable"),
        ("毎度ありがとうございます。秋の特売のお知らせです。\n", "base64"),
        ("مرحبا بكم في رسالتنا الإخبارية\n", "base64"),
        ("Привет, вот наши осенние предложения\n", "base64"),
        ("From here\n", "quoted-printable"),
    ] {
        let campaign = Campaign { html: None, ..Campaign::new(&text.repeat(20), "") };
        let message = render(&campaign.compile(Vec::new()), &["a", "b", "c"]);
        wire_is_safe(&message);
        let parsed = MessageParser::default().parse(&message).unwrap();
        assert_eq!(parsed.root_part().content_transfer_encoding().unwrap(), encoding);
        assert_eq!(parsed.body_text(0).unwrap(), as_lines(&text.repeat(20)));
    }
}

#[test]
fn encoded_lines_keep_to_76_characters() {
    for unit in ["Grüße an alle, ", "漢字かな", "=", " \t", ".", "From "] {
        let mut campaign = Campaign::new(&format!("{{{{ name }}}}ü{}\n", unit.repeat(90)), "");
        campaign.html = None;
        let message = render(&campaign.compile(Vec::new()), &[unit, "b", &unit.repeat(30)]);
        let message = String::from_utf8(message).unwrap();
        let (_, body) = message.split_once("\r\n\r\n").unwrap();
        assert!(body.lines().all(|line| line.len() <= 76), "{body}");
        let lines = body.lines().filter(|line| line.starts_with('.') || line.starts_with("From "));
        assert_eq!(lines.count(), 0, "{body}");
    }
}

#[test]
fn an_address_that_needs_smtputf8_stands_as_it_is() {
    let content = Campaign::new("x\n", "<p>x</p>\n").compile(Vec::new());
    let address = AddressRef::parse("jörg@example.test").unwrap();
    let merge = Merge { recipient: RecipientId::new(1, 2), address: &address, fields: &["J", "1", ""] };
    let mut out = Vec::new();
    content.render(&merge, &mut Scratch::default(), &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("To: J <jörg@example.test>\r\n"));
}

#[test]
fn a_row_whose_url_is_none_has_no_message() {
    let campaign = Campaign::new("x\n", "<p>x</p>\n");
    let content = campaign.compile(Vec::new());
    let address = AddressRef::parse("ann@example.test").unwrap();
    let id = "x".repeat(2000);
    let merge = Merge { recipient: RecipientId::new(1, 2), address: &address, fields: &["Ann", &id, ""] };
    let error = content.render(&merge, &mut Scratch::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "template unsubscribe url: longer than 900 octets");
}

#[test]
fn a_message_is_the_same_each_time() {
    let content = Campaign::new("Hello {{ name }}\n", "<p>{{ note }}</p>\n").compile(signers());
    assert_eq!(render(&content, &["Ann", "7", "x"]), render(&content, &["Ann", "7", "x"]));
}

#[test]
fn keys_are_read_in_both_forms() {
    let domain = Domain::parse("sender.test").unwrap();
    let read = |pem: &str| Signer::from_pem(domain.clone(), "s1", pem).unwrap();
    assert_eq!(read(RSA_PKCS8).public_record(), read(RSA_PKCS1).public_record());
    assert_eq!(read(RSA_PKCS8).name(), "s1._domainkey.sender.test");
    assert_eq!(read(RSA_PKCS8).rsa_bits(), Some(2048));
    // From `openssl pkey -pubout -outform DER | base64`.
    let expected = include_str!("keys/rsa2048.public.base64").trim();
    assert_eq!(read(RSA_PKCS8).public_record(), format!("v=DKIM1; k=rsa; p={expected}"));
    let expected = include_str!("keys/ed25519.public.base64").trim();
    assert_eq!(read(ED25519).public_record(), format!("v=DKIM1; k=ed25519; p={expected}"));
}

/// Bodies that canonicalisation changes: blank runs, tabs, blanks at line ends, empty lines at the end.
const BODIES: [(&str, &str); 5] = [
    ("Hello {{ name }}\n", "<p>{{ name }}</p>\n"),
    ("a  b\t c \t\n\n \n  x {{ name }} \n\n\n", "\t<p>\n    {{ name }}  \n\t</p> \n\n"),
    ("Grüße, {{ name }}  \n", "<p>漢字 {{ note }}</p>\n"),
    ("", "\n\n\n"),
    ("tab\tend\t\nspace end \n \t \n", "<p>x</p>"),
];

#[test]
fn verifiers_agree_with_both_signatures_whatever_the_body() {
    let records: Records = signers().iter().map(|signer| (signer.name(), signer.public_record())).collect();
    let mut messages = Vec::new();
    for (text, html) in BODIES {
        for single in [false, true] {
            let mut campaign = Campaign::new(text, html);
            if single {
                campaign.html = None;
            }
            messages.push(render(&campaign.compile(signers()), &["Ann Bell", "7", "note"]));
        }
    }
    for verifier in verifiers() {
        for (message, verdicts) in messages.iter().zip((verifier.verify)(&messages, &records)) {
            assert_eq!(verdicts.len(), 2);
            let known = verdicts.iter().filter(|(name, _)| verifier.knows_ed25519 || name.contains("rsa"));
            for (name, holds) in known {
                assert!(holds, "{name}, by {}:\n{}", verifier.name, String::from_utf8_lossy(message));
            }
        }
    }
}

#[test]
fn pythons_email_finds_no_defect() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|run| run.status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: python3");
        return;
    }
    let content = Campaign::new("Hello {{ name }},\n{{ note }}\n", "<p>{{ name }}</p>\n").compile(signers());
    for (name, note) in [
        ("Ann Bell", "our offers"),
        (
            "Jörg",
            "über alles, was wir im Herbst in Köln anbieten, und noch einiges mehr, das hier nicht steht",
        ),
        ("山田太郎", "秋の特売のお知らせ"),
        ("مريم", "عروض الخريف"),
        ("🎉🎉🎉", "a\r\nBcc: x@example.test"),
        ("Bell, Ann <x@y.test>", "=?utf-8?Q?x?="),
        ("", ""),
    ] {
        let mut python = Command::new("python3")
            .args(["-c", EMAIL])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(&render(&content, &[name, "7", note])).unwrap();
        let output = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
        let value = as_value(&format!("{name}, {note}"));
        let expected =
            format!("{value}|{}|ann@example.test|Hello {name},\n{}\n|", name, note.replace("\r\n", "\n"));
        assert_eq!(output, expected);
    }
}

const EMAIL: &str = "
import sys, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.strict)
to = m['To'].addresses[0]
text = m.get_body(('plain',)).get_content().replace('\\r\\n', '\\n')
defects = [d for p in m.walk() for d in list(p.defects) + [d for v in p.values() for d in v.defects]]
sys.stdout.buffer.write(f'{m[\"Subject\"]}|{to.display_name}|{to.addr_spec}|{text}|'.encode())
sys.stdout.buffer.write(''.join(map(repr, defects)).encode())
";
