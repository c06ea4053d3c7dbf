//! The promise: a key that openssl writes signs, and of one that cannot it is said why, without any of it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroad::address::Domain;
use postroad::message::Signer;
use postroad::message::dkim::{KeyKind, generate};
use proptest::prelude::*;
use rsa::pkcs1::EncodeRsaPrivateKey;

/// The output of openssl with these arguments, split at blanks; `None` where there is none.
fn openssl(folder: &Path, arguments: &str) -> Option<String> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().ok()?;
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn skipped() {
    let _ = writeln!(std::io::stderr(), "skipped: openssl (not installed)");
}

fn read(pem: &str) -> Result<Signer, String> {
    let domain = Domain::parse("sender.test").unwrap();
    Signer::from_pem(domain, "s1", pem).map_err(|error| error.to_string())
}

/// The public key as openssl says it, in base64 of its DER form.
fn public(folder: &Path, pem: &str) -> String {
    fs::write(folder.join("key.pem"), pem).unwrap();
    let text = openssl(folder, "pkey -in key.pem -pubout").unwrap();
    text.lines().filter(|line| !line.starts_with("-----")).collect()
}

#[test]
fn keys_that_openssl_makes_are_read_with_their_public_half() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(pkcs8) = openssl(folder, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048") else {
        return skipped();
    };
    fs::write(folder.join("rsa.pem"), &pkcs8).unwrap();
    let pkcs1 = openssl(folder, "rsa -in rsa.pem -traditional").unwrap();
    assert!(pkcs1.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    let public_pem = openssl(folder, "pkey -in rsa.pem -pubout").unwrap();
    let expected = format!("v=DKIM1; k=rsa; p={}", public(folder, &pkcs8));
    for pem in [
        pkcs8.clone(),
        pkcs1,
        // As other systems and people hand them on.
        pkcs8.replace('\n', "\r\n"),
        format!("key of sender.test\n\n{public_pem}{pkcs8}\n\n"),
    ] {
        let signer = read(&pem).unwrap();
        assert_eq!((signer.rsa_bits(), signer.public_record()), (Some(2048), expected.clone()));
        assert_eq!(signer.weakness(), None);
    }
    for (bits, form) in [(1024, "-traditional"), (2047, ""), (1025, "")] {
        let pem = openssl(folder, format!("genrsa {form} {bits}").replace("  ", " ").as_str()).unwrap();
        let signer = read(&pem).unwrap();
        assert_eq!(signer.rsa_bits(), Some(bits));
        assert_eq!(signer.public_record(), format!("v=DKIM1; k=rsa; p={}", public(folder, &pem)));
        assert!(signer.weakness().unwrap().contains(&format!("only {bits} bits")));
    }
    let pem = openssl(folder, "genpkey -algorithm ed25519").unwrap();
    let expected = public(folder, &pem);
    let record = read(&pem).unwrap().public_record();
    let bare = record.strip_prefix("v=DKIM1; k=ed25519; p=").unwrap();
    // Twelve octets, of which base64 makes sixteen characters, say in DER that it is Ed25519 (RFC 8410 §4).
    assert_eq!(expected[16..], *bare);
}

#[test]
fn a_key_that_cannot_sign_is_told_by_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let Some(rsa) = openssl(folder, "genrsa 2048") else {
        return skipped();
    };
    fs::write(folder.join("rsa.pem"), &rsa).unwrap();
    let made = |arguments: &str| openssl(folder, arguments).unwrap();
    let body = |pem: &str| pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    let labelled =
        |label: &str, pem: &str| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body(pem));
    let cases = [
        (made("pkcs8 -in rsa.pem -topk8 -passout pass:secret"), "the key is encrypted"),
        (made("rsa -in rsa.pem -traditional -aes128 -passout pass:secret"), "the key is encrypted"),
        (made("ecparam -name prime256v1 -genkey"), "elliptic-curve"),
        (made("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384"), "elliptic-curve"),
        (made("genpkey -algorithm ed448"), "an Ed448 key"),
        (made("genpkey -algorithm x25519"), "an X25519 key"),
        (made("genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048"), "an RSA-PSS key"),
        (made("pkey -in rsa.pem -pubout"), "the public key"),
        (made("rsa -in rsa.pem -RSAPublicKey_out"), "the public key"),
        (made("req -x509 -key rsa.pem -subj /CN=x"), "a certificate"),
        (made("genrsa 1023"), "has 1023 bits"),
        (made("genrsa 512"), "has 512 bits"),
        (labelled("OPENSSH PRIVATE KEY", &rsa), "OpenSSH"),
        (rsa[..rsa.len() / 2].to_owned(), "cut short"),
        (labelled("PRIVATE KEY", &body(&rsa)[..800]), "damaged"),
        (labelled("RSA PRIVATE KEY", &rsa), "damaged"),
        (labelled("PRIVATE KEY", "AAAA"), "damaged"),
        (labelled("PRIVATE KEY", "not base64!"), "no PEM"),
        (String::new(), "no private key is there"),
        ("no key at all\n".to_owned(), "no private key is there"),
        (body(&rsa), "no private key is there"),
    ];
    for (pem, expected) in cases {
        let complaint = read(&pem).err().unwrap_or_else(|| panic!("{expected}: it signs"));
        assert!(complaint.contains(expected), "{expected:?} is not in: {complaint}");
        let secret = body(&pem);
        let part = secret.get(40..60);
        assert!(part.is_none_or(|part| !complaint.contains(part)), "{complaint}");
    }
}

fn postroad(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postroad"));
    command.args(arguments.split(' ')).current_dir(folder).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn a_new_key_is_for_its_owner_only_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let keygen = "dkim keygen --domain Sender.Test --selector s2026";
    let output = postroad(folder, keygen);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = folder.join("state/keys/dkim/s2026._domainkey.sender.test.pem");
    let pem = fs::read_to_string(&file).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let signer = Signer::from_pem(Domain::parse("sender.test").unwrap(), "s2026", &pem).unwrap();
    for shown in [signer.name(), signer.public_record(), format!("{}. IN TXT ( \"v=DKIM1;", signer.name())] {
        assert!(said.contains(&shown), "{shown} is not in\n{said}");
    }
    assert!(!said.contains(pem.lines().nth(2).unwrap()), "the secret is shown:\n{said}");
    // The stanza it prints is one that a manifest takes.
    let stanza: String =
        said.lines().skip_while(|line| *line != "[[dkim]]").take(4).collect::<Vec<_>>().join("\n");
    fs::write(folder.join("message.txt"), "Hello\n").unwrap();
    fs::write(folder.join("list.csv"), "email\na@one.test\n").unwrap();
    let manifest = "name = \"c\"\nfrom = \"us@sender.test\"\nreturn_path_domain = \"b.sender.test\"\n\
                    subject = \"Hello\"\ntext = \"message.txt\"\n[list]\nfile = \"list.csv\"\n";
    fs::write(folder.join("campaign.toml"), format!("{manifest}\n{stanza}\n")).unwrap();
    let records = postroad(folder, "dkim record .");
    let shown = text(&records.stdout);
    assert!(
        shown.contains(&signer.public_record()) && shown.contains("`since`"),
        "{shown}{}",
        text(&records.stderr)
    );
    let one = postroad(
        folder,
        &format!("dkim record --key {} --domain sender.test --selector s2026", file.display()),
    );
    assert!(text(&one.stdout).contains(&signer.public_record()), "{}", text(&one.stderr));

    for again in [
        keygen.to_owned(),
        format!("{keygen} --algorithm ed25519"),
        format!("{keygen} --out {}", file.display()),
    ] {
        let output = postroad(folder, &again);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("is there already"), "{}", text(&output.stderr));
        assert_eq!(fs::read_to_string(&file).unwrap(), pem);
    }
}

#[test]
fn what_keygen_and_record_cannot_do_they_say() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, complaint) in [
        ("keygen --domain sender.test --selector a..b", 1, "is no DKIM selector"),
        ("keygen --domain localhost --selector s1", 2, "single label"),
        ("keygen --domain sender.test --selector s1 --bits 1024", 1, "2048, 3072 or 4096"),
        ("keygen --domain sender.test --selector s1 --algorithm ed25519 --bits 2048", 1, "of RSA keys"),
        ("keygen --domain sender.test --selector s1 --algorithm dsa", 2, "possible values: rsa, ed25519"),
        ("keygen --domain sender.test --selector s1 --out /dev/null/key.pem", 1, "cannot make /dev/null"),
        ("record", 2, "CAMPAIGN"),
        ("record --key gone.pem", 2, "--selector"),
        ("record --key gone.pem --domain sender.test --selector s1", 1, "cannot read gone.pem"),
        ("record gone", 1, "postroad init"),
    ] {
        let output = postroad(folder.path(), &format!("dkim {arguments}"));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
        assert!(said.contains(complaint), "{arguments}: {complaint:?} is not in\n{said}");
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// A key file can be wrong in any way: it signs, or it is refused with a reason.
    #[test]
    fn a_damaged_key_is_refused_or_signs(
        kind in 0..3usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (label, der) = &ders()[kind];
        let mut der = der.clone();
        for (at, octet) in &changes {
            let at = at.index(der.len());
            der[at] = *octet;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(&der));
        if let Ok(signer) = read(&pem) {
            prop_assert!(signer.public_record().starts_with("v=DKIM1; k="));
        }
    }
}

/// Keys of each form, the short ones of the `rsa` crate as PKCS#1.
fn ders() -> &'static [(&'static str, Vec<u8>)] {
    static DERS: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    DERS.get_or_init(|| {
        let short = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
        let der = |kind| {
            let pem = generate(kind).unwrap();
            BASE64.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
        };
        vec![
            ("RSA PRIVATE KEY", short.to_pkcs1_der().unwrap().as_bytes().to_vec()),
            ("PRIVATE KEY", der(KeyKind::Rsa2048)),
            ("PRIVATE KEY", der(KeyKind::Ed25519)),
        ]
    })
}
