//! Campaign folders in `tests/content/`, each with what it must produce in its `expected.toml`: `refused`
//! (what the complaint holds), or for rows of the list the error or the message. A message is read by
//! mail-parser and by Python's `email`, which must both find exactly the expected parts and headers and no
//! defect. Tokens are verified; in what is expected stands `{unsubscribe of 0.0}` or `{click 2 of 0.0}` for one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};
use postroad::campaign::list::{List, Step};
use postroad::campaign::manifest::Manifest;
use postroad::campaign::run::Run;
use postroad::engine::content::{Making, compile};
use postroad::envelope::RecipientId;
use postroad::message::{Content, Merge, Scratch};
use postroad::token::{self, CHARACTERS, Key, Kind};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    refused: Option<String>,
    #[serde(default)]
    row: Vec<ExpectedRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedRow {
    number: u64,
    error: Option<String>,
    subject: Option<String>,
    /// Display name of the recipient.
    to: Option<String>,
    structure: Option<String>,
    /// All names, in order.
    names: Option<Vec<String>>,
    /// Values of some.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Where the tracked links lead.
    #[serde(default)]
    links: Vec<String>,
    #[serde(default)]
    part: Vec<ExpectedPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedPart {
    /// The whole of it, with LF line ends.
    text: Option<String>,
    #[serde(default)]
    contains: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
    /// The octets of this file.
    file: Option<String>,
    name: Option<String>,
    id: Option<String>,
}

/// A message as a parser sees it.
#[derive(Debug, PartialEq, Deserialize)]
struct Seen {
    subject: String,
    to: String,
    /// In lower case.
    names: Vec<String>,
    /// Unfolded values of those that hold plain text.
    headers: BTreeMap<String, String>,
    structure: String,
    parts: Vec<SeenPart>,
    defects: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct SeenPart {
    name: Option<String>,
    id: Option<String>,
    /// Base64.
    octets: String,
}

/// What is made of one row.
#[derive(Debug, PartialEq)]
struct Made {
    message: Vec<u8>,
    links: Vec<String>,
}

fn key() -> Key {
    Key::new(1, &[7; 32])
}

fn date() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_316_400)
}

fn compiled(manifest: &Manifest) -> Result<(List, Content), String> {
    let list = List::open(&manifest.lists[0].source(), None).unwrap();
    let columns = list.columns().names();
    let content = compile(&Making { manifest, columns, run_token: "k3f9", key: &key(), date: date() })
        .map_err(|error| error.to_string())?;
    Ok((list, content))
}

/// The messages of all rows, or why there is none.
fn messages(manifest: &Manifest) -> Result<Vec<Result<Made, String>>, String> {
    let (mut list, content) = compiled(manifest)?;
    let (mut scratch, mut messages) = (Scratch::default(), Vec::new());
    loop {
        let row = match list.next(Duration::from_secs(5)).unwrap() {
            Step::Row(row) => row,
            Step::Waiting => continue,
            Step::End => return Ok(messages),
        };
        let (address, fields) = row.read().unwrap();
        let fields: Vec<&str> = fields.iter().collect();
        let recipient = RecipientId { segment: 0, index: row.number as u32 - 1 };
        let merge = Merge { recipient, address: &address, fields: &fields };
        let mut message = Vec::new();
        let rendered = content.render(&merge, &mut scratch, &mut message);
        let links = |_| (0..).map_while(|link| content.link(link, &merge).unwrap()).collect();
        let made = rendered.map(links).map(|links| Made { message, links });
        messages.push(made.map_err(|error| error.to_string()));
    }
}

#[test]
fn every_campaign_of_the_corpus_produces_what_it_must() {
    let python = Command::new("python3").arg("--version").output().is_ok_and(|run| run.status.success());
    if !python {
        let _ = writeln!(std::io::stderr(), "skipped: python3");
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/content");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 23);
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(folder.join("expected.toml")).unwrap();
        let expected: Expected = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let opened = Manifest::open(&folder).map_err(|error| error.to_string());
        let messages = match (opened.and_then(|manifest| messages(&manifest)), &expected.refused) {
            (Err(error), Some(refused)) => {
                assert!(error.contains(refused), "{name}: {error}");
                continue;
            }
            (messages, None) => messages.unwrap_or_else(|error| panic!("{name}: {error}")),
            (Ok(_), Some(_)) => panic!("{name}: not refused"),
        };
        for row in &expected.row {
            check_row(
                &format!("{name}, row {}", row.number),
                &folder,
                row,
                &messages[row.number as usize - 1],
                python,
            );
        }
        frozen_is_the_same(&name, &folder, &messages);
    }
}

fn check_row(name: &str, folder: &Path, expected: &ExpectedRow, made: &Result<Made, String>, python: bool) {
    let Made { message, links } = match (made, &expected.error) {
        (Err(error), Some(expected)) => {
            assert!(error.starts_with(expected), "{name}: {error}");
            return;
        }
        (Ok(made), None) => made,
        (Err(error), None) => panic!("{name}: {error}"),
        (Ok(_), Some(_)) => panic!("{name}: rendered"),
    };
    wire_is_safe(message);
    let seen = seen_by_mail_parser(message);
    if python {
        assert_eq!(seen_by_python(message), seen, "{name}: python and mail-parser differ");
    }
    assert_eq!(Some(&told(&seen.subject)), expected.subject.as_ref(), "{name}");
    assert_eq!(Some(&seen.structure), expected.structure.as_ref(), "{name}");
    if let Some(to) = &expected.to {
        assert_eq!(&seen.to, to, "{name}");
    }
    assert_eq!(links, &expected.links, "{name}");
    if let Some(names) = &expected.names {
        let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        assert_eq!(seen.names, lower, "{name}");
    }
    for (field, value) in &expected.headers {
        let seen = seen.headers.get(&field.to_ascii_lowercase()).map(|value| told(value));
        assert_eq!(seen.as_ref(), Some(value), "{name}: {field}");
    }
    assert_eq!(seen.parts.len(), expected.part.len(), "{name}");
    for (part, expected) in seen.parts.iter().zip(&expected.part) {
        let octets = BASE64.decode(&part.octets).unwrap();
        if let Some(file) = &expected.file {
            assert_eq!(octets, std::fs::read(folder.join(file)).unwrap(), "{name}: {file}");
        } else {
            let text = String::from_utf8(octets).unwrap();
            assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{name}: line ends");
            let text = told(&text.replace("\r\n", "\n"));
            if let Some(expected) = &expected.text {
                assert_eq!(&text, expected, "{name}");
            }
            for wanted in &expected.contains {
                assert!(text.contains(wanted), "{name}: {wanted:?} is not in\n{text}");
            }
            for unwanted in &expected.lacks {
                assert!(!text.contains(unwanted), "{name}: {unwanted:?} is in\n{text}");
            }
        }
        assert_eq!((&part.name, &part.id), (&expected.name, &expected.id), "{name}");
    }
}

/// A run makes the same messages from its own copy, whatever becomes of the campaign's folder.
fn frozen_is_the_same(name: &str, folder: &Path, messages: &[Result<Made, String>]) {
    let temporary = tempfile::tempdir().unwrap();
    let campaign = temporary.path().join("campaign");
    copy(folder, &campaign);
    let run = Run::create(&temporary.path().join("state"), Manifest::open(&campaign).unwrap(), None).unwrap();
    // Lists, and files that rows name, stay where they are; all else of the campaign goes.
    std::fs::rename(&campaign, temporary.path().join("moved")).unwrap();
    for kept in ["list.csv", "invoices"] {
        copy(&folder.join(kept), &campaign.join(kept));
    }
    let run = Run::open(&temporary.path().join("state"), &run.id).unwrap();
    assert_eq!(self::messages(&run.manifest).unwrap(), messages, "{name}: the frozen run");
}

/// The text with what each token says in its place.
fn told(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let said = rest.get(..CHARACTERS).and_then(|token| token::verify(token, &key()).ok());
        match said {
            Some((claim, _)) => {
                let kind = match claim.kind {
                    Kind::Click(link) => format!("click {link}"),
                    other => other.name().to_owned(),
                };
                assert_eq!(claim.run.as_str(), "k3f9");
                out.push_str(&format!("{{{kind} of {}.{}}}", claim.recipient.segment, claim.recipient.index));
                rest = &rest[CHARACTERS..];
            }
            None => {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    out
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.is_file() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
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

fn seen_by_mail_parser(message: &[u8]) -> Seen {
    let parsed = MessageParser::default().parse(message).unwrap();
    let mut parts = Vec::new();
    let structure = structure(&parsed, 0, &mut parts);
    Seen {
        subject: parsed.subject().unwrap_or_default().to_owned(),
        to: parsed.to().unwrap().first().unwrap().name().unwrap_or_default().to_owned(),
        names: parsed.root_part().headers.iter().map(|field| field.name().to_ascii_lowercase()).collect(),
        headers: parsed
            .headers_raw()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.replace("\r\n", "").trim().to_owned()))
            .filter(|(name, _)| is_plain(name))
            .collect(),
        structure,
        parts,
        defects: Vec::new(),
    }
}

/// Fields whose values both parsers give as they are written.
fn is_plain(name: &str) -> bool {
    ["list-", "feedback-", "cfbl-", "precedence", "auto-", "x-"].iter().any(|start| name.starts_with(start))
}

fn structure(message: &Message<'_>, id: u32, parts: &mut Vec<SeenPart>) -> String {
    let part = &message.parts[id as usize];
    assert!(!part.is_encoding_problem);
    let kind = part.content_type().unwrap();
    if let PartType::Multipart(children) = &part.body {
        let children: Vec<String> = children.iter().map(|&child| structure(message, child, parts)).collect();
        return format!("{}({})", kind.subtype().unwrap(), children.join(" "));
    }
    parts.push(SeenPart {
        name: part.attachment_name().map(str::to_owned),
        id: part.content_id().map(str::to_owned),
        octets: BASE64.encode(part.contents()),
    });
    format!("{}/{}", kind.ctype(), kind.subtype().unwrap())
}

fn seen_by_python(message: &[u8]) -> Seen {
    let mut python = Command::new("python3")
        .args(["-c", EMAIL])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(message).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(message));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// With the policy that makes an exception of every defect.
const EMAIL: &str = "
import sys, json, base64, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.strict)
parts = []
def structure(p):
    if p.is_multipart():
        return p.get_content_subtype() + '(' + ' '.join(structure(c) for c in p.iter_parts()) + ')'
    octets = p.get_payload(decode=True)
    i = p['Content-ID']
    parts.append({'name': p.get_filename(), 'id': i and i.strip()[1:-1], 'octets': base64.b64encode(octets).decode()})
    return p.get_content_type()
s = structure(m)
defects = [repr(d) for p in m.walk() for d in list(p.defects) + [d for v in p.values() for d in getattr(v, 'defects', ())]]
plain = ('list-', 'feedback-', 'cfbl-', 'precedence', 'auto-', 'x-')
names = [name.lower() for name in m.keys()]
headers = {name.lower(): str(value) for name, value in m.items() if name.lower().startswith(plain)}
print(json.dumps({'subject': m['Subject'], 'to': m['To'].addresses[0].display_name, 'names': names, 'headers': headers, 'structure': s, 'parts': parts, 'defects': defects}))
";
