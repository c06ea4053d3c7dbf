//! Campaign folders in `tests/signing/`, each with the signatures it must get on which day in its
//! `expected.toml`. Keys are made here, records are those that `postroad dkim record` prints, and every
//! signature is verified by all verifiers at hand, each of which must also see when an octet was changed.

#[path = "support/verifiers.rs"]
mod verifiers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use postroad::campaign::list::{List, Step};
use postroad::campaign::manifest::Manifest;
use postroad::campaign::run::Run;
use postroad::config::Node;
use postroad::engine::EngineError;
use postroad::engine::content::{Making, compile};
use postroad::engine::signers;
use postroad::envelope::RecipientId;
use postroad::message::{Content, Merge, Scratch};
use postroad::token::Key;
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde::Deserialize;
use verifiers::{Records, Verdicts, Verifier, verifiers};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    refused: Option<String>,
    /// `rsa-BITS` or `ed25519`, by file.
    keys: BTreeMap<PathBuf, String>,
    #[serde(default)]
    on: Vec<OnDay>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDay {
    day: Date,
    /// `domain selector algorithm`, in alphabetical order.
    signatures: Vec<String>,
    /// How each begins; there are no others.
    #[serde(default)]
    warnings: Vec<String>,
}

/// A campaign with its keys in a folder of its own.
struct Stage {
    folder: tempfile::TempDir,
    node: Node,
}

impl Stage {
    fn of(corpus: &Path, keys: &BTreeMap<PathBuf, String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(corpus).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        for (file, kind) in keys {
            make_key(&folder.path().join(file), kind);
        }
        let settings = folder.path().join("postroad.toml");
        if !settings.exists() {
            fs::write(&settings, "").unwrap();
        }
        let node = Node::load(Some(&settings)).unwrap_or_else(|error| panic!("{error}"));
        Self { folder, node }
    }

    fn manifest(&self) -> Manifest {
        let mut manifest = Manifest::open(self.folder.path()).unwrap_or_else(|error| panic!("{error}"));
        manifest.adopt_keys(&self.node.dkim).unwrap();
        manifest
    }

    /// What the program would have its user publish for a run of that day.
    fn records(&self, day: Date) -> Records {
        let settings = self.folder.path().join("postroad.toml");
        let day = day.to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_postroad"))
            .args(["dkim", "record", "--json", "--on", &day, "--config"])
            .args([&settings, self.folder.path()])
            .output()
            .unwrap();
        let nobody_signs = text(&output.stderr).starts_with("error: no key signs this campaign");
        assert!(output.status.success() || nobody_signs, "{}", text(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let lines = lines.filter(|line| line["signs_from"].is_null());
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        lines.map(|line| (text(&line["name"]), text(&line["value"]))).collect()
    }
}

fn make_key(file: &Path, kind: &str) {
    let made_by_us = ["rsa-2048", "rsa-3072", "rsa-4096", "ed25519"].contains(&kind);
    if made_by_us {
        let (algorithm, bits) = kind.split_once('-').map_or((kind, None), |(name, bits)| (name, Some(bits)));
        let mut arguments = vec!["dkim", "keygen", "--domain", "any.test", "--selector", "any"];
        arguments.extend(["--algorithm", algorithm, "--out", file.to_str().unwrap()]);
        arguments.extend(bits.into_iter().flat_map(|bits| ["--bits", bits]));
        let output = postroad(file.parent().unwrap().parent().unwrap(), &arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
    } else {
        let bits = kind.strip_prefix("rsa-").unwrap().parse().unwrap();
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, key.to_pkcs1_pem(rsa::pkcs1::LineEnding::LF).unwrap()).unwrap();
    }
}

fn postroad(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postroad")).args(arguments).current_dir(folder).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Late on that day. All days are long past: verifiers mistrust signatures of the future.
fn date(day: Date) -> SystemTime {
    let at = day.to_zoned(TimeZone::UTC).unwrap().timestamp();
    SystemTime::from(at) + Duration::from_secs(86_399)
}

fn compiled(manifest: &Manifest, date: SystemTime) -> Result<Content, EngineError> {
    let columns = ["email".to_owned(), "name".to_owned()];
    compile(&Making { manifest, columns: &columns, run_token: "k3f9", key: &Key::stand_in(), date })
}

/// The message of the list's only row.
fn message(manifest: &Manifest, content: &Content) -> Vec<u8> {
    let mut list = List::open(&manifest.lists[0].source(), None).unwrap();
    let Step::Row(row) = list.next(Duration::from_secs(5)).unwrap() else { panic!("no row") };
    let (address, fields) = row.read().unwrap();
    let fields: Vec<&str> = fields.iter().collect();
    let merge = Merge { recipient: RecipientId { segment: 0, index: 0 }, address: &address, fields: &fields };
    let mut message = Vec::new();
    content.render(&merge, &mut Scratch::default(), &mut message).unwrap();
    message
}

fn corpus() -> Vec<(String, PathBuf, Expected)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signing");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let folder = entry.unwrap().path();
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(folder.join("expected.toml")).unwrap();
            let expected = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, folder, expected)
        })
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

#[test]
fn every_campaign_is_signed_as_it_must_be_and_verifiers_agree() {
    let verifiers = verifiers();
    let cases = corpus();
    assert!(cases.len() >= 10);
    for (name, folder, expected) in cases {
        let stage = Stage::of(&folder, &expected.keys);
        let manifest = stage.manifest();
        if let Some(refused) = &expected.refused {
            let complaint = compiled(&manifest, SystemTime::now()).err().expect(&name).to_string();
            assert!(complaint.starts_with(refused), "{name}: {complaint}");
            continue;
        }
        for on in &expected.on {
            let name = format!("{name} on {}", on.day);
            let content = compiled(&manifest, date(on.day)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let signers: Vec<_> = content.signers().collect();
            let warnings = signers::warnings(&manifest.dkim, &signers, date(on.day));
            assert_eq!(warnings.len(), on.warnings.len(), "{name}: {warnings:?}");
            for (warning, begins) in warnings.iter().zip(&on.warnings) {
                assert!(warning.starts_with(begins), "{name}: {warning}");
            }
            let message = message(&manifest, &content);
            let records = stage.records(on.day);
            let signing = on.signatures.iter().map(|signature| {
                let (domain, rest) = signature.split_once(' ').unwrap();
                format!("{}._domainkey.{domain}", rest.split_once(' ').unwrap().0)
            });
            assert_eq!(records.keys().cloned().collect::<BTreeSet<_>>(), signing.collect(), "{name}");
            for verifier in &verifiers {
                agrees(&name, verifier, &message, &on.signatures, &records);
            }
        }
    }
}

/// All signatures hold, and none once the body, a header or the set of headers is another.
fn agrees(name: &str, verifier: &Verifier, message: &[u8], signatures: &[String], records: &Records) {
    let known = |signature: &&String| verifier.knows_ed25519 || !signature.ends_with("ed25519-sha256");
    let expected = |holds: bool| -> Verdicts {
        signatures.iter().filter(known).map(|signature| (signature.clone(), holds)).collect()
    };
    let end = message.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
    let subject = message.windows(9).position(|part| part == b"Subject: ").unwrap() + 9;
    let changed = |at: usize| {
        let mut changed = message.to_vec();
        changed[at] ^= 1;
        changed
    };
    let added = [b"Subject: another\r\n", message].concat();
    let messages = [message.to_vec(), changed(end), changed(subject), added];
    let said = (verifier.verify)(&messages, records);
    let who = verifier.name;
    let said: Vec<Verdicts> = said
        .into_iter()
        .map(|verdicts| verdicts.into_iter().filter(|(signature, _)| known(&signature)).collect())
        .collect();
    assert_eq!(said[0], expected(true), "{name}, by {who}:\n{}", text(message));
    for (what, verdicts) in ["the body", "the subject", "a second subject"].iter().zip(&said[1..]) {
        assert_eq!(*verdicts, expected(false), "{name}, by {who}: {what} was changed unseen");
    }
}

/// What a reader goes by cannot be put into a message that has none of it.
#[test]
fn no_header_that_matters_can_be_added() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signing/two-algorithms");
    let keys = BTreeMap::from([
        ("keys/r1.pem".into(), "rsa-2048".to_owned()),
        ("keys/e1.pem".into(), "ed25519".to_owned()),
    ]);
    let stage = Stage::of(&folder, &keys);
    let manifest = stage.manifest();
    let day = Date::new(2023, 11, 22).unwrap();
    let message = message(&manifest, &compiled(&manifest, date(day)).unwrap());
    let records = stage.records(day);
    let headers = [
        "From: Boss <boss@shop.test>",
        "To: all@one.test",
        "Cc: all@one.test",
        "Subject: other",
        "Date: Thu, 23 Nov 2023 10:00:00 +0000",
        "Message-ID: <1@shop.test>",
        "Reply-To: thief@evil.example",
        "List-Unsubscribe: <https://evil.example/>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "List-Id: <evil.example>",
        "Feedback-ID: 1:2:3:evil",
        "CFBL-Address: fbl@evil.example; report=arf",
        "CFBL-Feedback-ID: evil",
        "MIME-Version: 1.0",
        "Content-Type: text/html",
        "Content-Transfer-Encoding: base64",
    ];
    let mut messages: Vec<Vec<u8>> =
        headers.iter().map(|header| [header.as_bytes(), b"\r\n", &message].concat()).collect();
    // What honest hosts add does no harm.
    messages.push([b"Received: from a by b; x\r\nSender: <list@lists.test>\r\n", &message[..]].concat());
    for verifier in verifiers() {
        let said = (verifier.verify)(&messages, &records);
        let (harmless, forged) = said.split_last().unwrap();
        let is_known = |name: &str| verifier.knows_ed25519 || name.ends_with("rsa-sha256");
        for (header, verdicts) in headers.iter().zip(forged) {
            assert_eq!(verdicts.len(), 2);
            assert!(verdicts.iter().all(|(_, holds)| !holds), "{}: {header} was added unseen", verifier.name);
        }
        assert!(harmless.iter().all(|(name, holds)| *holds || !is_known(name)), "{harmless:?}");
    }
}

/// A run is signed by the keys it was made with, on whichever day it goes on.
#[test]
fn a_run_keeps_its_keys_whatever_becomes_of_the_settings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signing/node-keys");
    let keys = BTreeMap::from([
        ("keys/news.pem".into(), "rsa-1024".to_owned()),
        ("keys/news-ed.pem".into(), "ed25519".to_owned()),
    ]);
    let mut stage = Stage::of(&folder, &keys);
    let start = date(Date::new(2023, 11, 30).unwrap());
    let run = Run::create(&stage.node.state, stage.manifest(), Some(start)).unwrap();
    let first = message(&run.manifest, &compiled(&run.manifest, run.start_at.unwrap()).unwrap());
    stage.node.dkim.clear();
    let mut again = Run::open(&stage.node.state, &run.id).unwrap();
    again.manifest.adopt_keys(&stage.node.dkim).unwrap();
    let second = message(&again.manifest, &compiled(&again.manifest, again.start_at.unwrap()).unwrap());
    assert_eq!(text(&first).matches("DKIM-Signature:").count(), 2);
    assert_eq!(text(&first), text(&second));
    // Named from another folder, a relative path would be another file.
    assert!(again.manifest.dkim.iter().all(|key| key.key_file.as_ref().unwrap().is_absolute()));
}

/// The line for the zone, read by dnspython, holds the value for the form.
#[test]
fn the_line_of_a_zone_file_is_read_by_dnspython() {
    let python = Command::new("python3").args(["-c", "import dns.zone"]).output();
    if !python.is_ok_and(|run| run.status.success()) {
        return verifiers::skipped("dnspython", "python3 -m pip install dnspython");
    }
    let folder = tempfile::tempdir().unwrap();
    for (algorithm, bits) in [("rsa", Some("4096")), ("rsa", None), ("ed25519", None)] {
        let selector = format!("s-{algorithm}-{}", bits.unwrap_or("0"));
        let mut arguments = vec!["dkim", "keygen", "--domain", "Shop.Test", "--selector", &selector];
        arguments.extend(["--algorithm", algorithm, "--json"]);
        arguments.extend(bits.into_iter().flat_map(|bits| ["--bits", bits]));
        let output = postroad(folder.path(), &arguments);
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let output = Command::new("python3")
            .args(["-c", ZONE, line["zone_line"].as_str().unwrap(), line["name"].as_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(text(&output.stdout), line["value"].as_str().unwrap(), "{}", text(&output.stderr));
    }
}

const ZONE: &str = "
import sys, dns.zone
zone = dns.zone.from_text('$ORIGIN shop.test.\\n$TTL 300\\n@ IN SOA ns. h. 1 1 1 1 1\\n@ IN NS ns.\\n' + sys.argv[1] + '\\n')
(text,) = zone.find_rdataset(sys.argv[2] + '.', 'TXT')
assert all(len(part) <= 255 for part in text.strings)
print(b''.join(text.strings).decode(), end='')
";
