//! Programs and libraries that verify DKIM signatures, none of them ours: mail-auth, dkimpy, opendkim.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::disallowed_types, reason = "mail-auth's cache trait names std's Instant")]

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::Hash;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::Signature;
use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt};

/// TXT records by name, without the dot at its end.
pub type Records = BTreeMap<String, String>;
/// `domain selector algorithm` of each signature in alphabetical order, and whether it holds.
pub type Verdicts = Vec<(String, bool)>;
/// What it says of each message.
type Verify = fn(&[Vec<u8>], &Records) -> Vec<Verdicts>;

pub struct Verifier {
    pub name: &'static str,
    pub knows_ed25519: bool,
    pub verify: Verify,
}

/// Those that are here; of the others it is said that they are skipped.
pub fn verifiers() -> Vec<Verifier> {
    let mut here = vec![Verifier { name: "mail-auth", knows_ed25519: true, verify: mail_auth }];
    let python = Command::new("python3").args(["-c", "import dkim, nacl"]).output();
    if python.is_ok_and(|run| run.status.success()) {
        here.push(Verifier { name: "dkimpy", knows_ed25519: true, verify: dkimpy });
    } else {
        skipped("dkimpy", "python3 -m pip install dkimpy pynacl");
    }
    match opendkim_program().map(|program| Command::new(program).arg("-V").output()) {
        Some(Ok(version)) => {
            let knows_ed25519 = String::from_utf8_lossy(&version.stdout).contains("ed25519-sha256");
            if !knows_ed25519 {
                skipped("opendkim for Ed25519", "this one knows only RSA");
            }
            here.push(Verifier { name: "opendkim", knows_ed25519, verify: opendkim });
        }
        _ => skipped("opendkim", "not installed"),
    }
    here
}

pub fn skipped(name: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {name} ({why})");
}

fn in_order(mut verdicts: Verdicts) -> Verdicts {
    verdicts.sort();
    verdicts
}

/// The library that the world uses, too.
pub fn mail_auth(messages: &[Vec<u8>], records: &Records) -> Vec<Verdicts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let known = Known(
        records
            .iter()
            .map(|(name, value)| {
                let key = DomainKey::parse(value.as_bytes()).expect("a record that mail-auth can read");
                (format!("{name}."), Txt::DomainKey(Arc::new(key)))
            })
            .collect(),
    );
    // All it looks up is in `known`, so the resolver is never asked.
    let authenticator = MessageAuthenticator::new(Default::default(), Default::default()).unwrap();
    let verdicts = |message: &Vec<u8>| {
        let message = AuthenticatedMessage::parse(message).unwrap();
        let parameters = Parameters {
            params: &message,
            cache_txt: Some(&known),
            cache_mx: None::<&Nothing>,
            cache_ptr: None::<&Nothing>,
            cache_ipv4: None::<&Nothing>,
            cache_ipv6: None::<&Nothing>,
        };
        let outputs = runtime.block_on(authenticator.verify_dkim(parameters));
        let verdict = |output: &mail_auth::DkimOutput<'_>| {
            let named = output.signature().map_or_else(String::new, named);
            (named, *output.result() == DkimResult::Pass)
        };
        in_order(outputs.iter().map(verdict).collect())
    };
    messages.iter().map(verdicts).collect()
}

fn named(signature: &Signature) -> String {
    let algorithm = match signature.a {
        mail_auth::common::crypto::Algorithm::RsaSha256 => "rsa-sha256",
        mail_auth::common::crypto::Algorithm::Ed25519Sha256 => "ed25519-sha256",
        _ => "another",
    };
    format!("{} {} {algorithm}", signature.d, signature.s)
}

struct Known(HashMap<String, Txt>);

impl ResolverCache<Box<str>, Txt> for Known {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut known = self.0.iter();
        known.find(|(known, _)| Box::<str>::from(known.as_str()).borrow() == name).map(|(_, txt)| txt.clone())
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

struct Nothing;

impl<K, V> ResolverCache<K, V> for Nothing {
    fn get<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn remove<Q>(&self, _: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: K, _: V, _: std::time::Instant) {}
}

fn files(folder: &Path, messages: &[Vec<u8>]) -> Vec<PathBuf> {
    let write = |(number, message): (usize, &Vec<u8>)| {
        let file = folder.join(format!("{number}.eml"));
        fs::write(&file, message).unwrap();
        file
    };
    messages.iter().enumerate().map(write).collect()
}

fn dkimpy(messages: &[Vec<u8>], records: &Records) -> Vec<Verdicts> {
    let folder = tempfile::tempdir().unwrap();
    let mut python = Command::new("python3")
        .args(["-c", DKIMPY])
        .args(files(folder.path(), messages))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(serde_json::to_string(records).unwrap().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let verdicts: Vec<Verdicts> = serde_json::from_slice(&output.stdout).unwrap();
    verdicts.into_iter().map(in_order).collect()
}

const DKIMPY: &str = "
import sys, json, dkim
records = {name + '.': value.encode() for name, value in json.load(sys.stdin).items()}
find = lambda name, timeout=5: records.get(name.decode())
def verdicts(octets):
    found = []
    for i in range(sum(line.lower().startswith(b'dkim-signature:') for line in octets.split(b'\\r\\n'))):
        d = dkim.DKIM(octets)
        try:
            holds = d.verify(idx=i, dnsfunc=find)
        except dkim.DKIMException:
            holds = False
        fields = d.signature_fields
        found.append((b' '.join(fields[tag] for tag in (b'd', b's', b'a')).decode(), bool(holds)))
    return found
print(json.dumps([verdicts(open(file, 'rb').read()) for file in sys.argv[1:]]))
";

fn opendkim_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("opendkim")).find(|program| program.is_file())
}

/// What opendkim would write into the message about its signatures.
fn opendkim(messages: &[Vec<u8>], records: &Records) -> Vec<Verdicts> {
    let folder = tempfile::tempdir().unwrap();
    let known: String = records.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    let keys = folder.path().join("records");
    fs::write(&keys, known).unwrap();
    let settings = folder.path().join("opendkim.conf");
    // It looks at three signatures of a message unless it is told to look at more.
    let said = "Mode v\nSyslog no\nMaximumSignaturesToVerify 16\nTestPublicKeys";
    fs::write(&settings, format!("{said} {}\n", keys.display())).unwrap();
    let program = opendkim_program().expect("asked for only where it is");
    let verdicts = |file: PathBuf| {
        let output =
            Command::new(&program).arg("-x").arg(&settings).arg("-t").arg(file).arg("-vv").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        in_order(text.lines().filter_map(authentication_result).collect())
    };
    files(folder.path(), messages).into_iter().map(verdicts).collect()
}

/// `dkim=pass … header.d=… header.a=… header.s=…` (RFC 8601 §2.7.1).
fn authentication_result(line: &str) -> Option<(String, bool)> {
    let result = line.trim_start().strip_prefix("dkim=")?;
    let value = |property: &str| {
        let (_, rest) = result.split_once(property)?;
        rest.split([' ', ';', '\'']).next()
    };
    let (domain, selector, algorithm) = (value("header.d=")?, value("header.s=")?, value("header.a=")?);
    Some((format!("{domain} {selector} {algorithm}"), result.starts_with("pass ")))
}
