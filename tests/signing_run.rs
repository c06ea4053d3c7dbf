//! The promise: a campaign without keys is signed by those of the settings on its whole road, and a short key
//! is warned about once.

mod support;
#[path = "support/verifiers.rs"]
mod verifiers;

use std::fs;
use std::path::Path;

use postroad::address::Domain;
use postroad::config::DkimKey;
use postroad::message::Signer;
use postroad::message::dkim::{KeyKind, generate};
use rsa::pkcs1::EncodeRsaPrivateKey;
use support::{Stage, list};
use verifiers::{Records, verifiers};

const WORLD: &str = "dkim_sample = 1\n[[provider]]\nname = \"one\"\ndomains = [\"one.test\"]\n\
                     extensions = [\"pipelining\", \"chunking\"]\nmx = [{ host = \"mx.one.test\" }]\n\
                     trouble = [{ fault = \"4yz\", stage = \"rcpt\", attempts = [1], share = 0.5 }]\n";
const SETTINGS: &str = "[shaping.default]\nmessages = \"unlimited\"\n";

fn key(folder: &Path, selector: &str, pem: &str) -> DkimKey {
    let file = folder.join(selector).with_extension("pem");
    fs::write(&file, pem).unwrap();
    let domain = Domain::parse("sender.test").unwrap();
    DkimKey { domain, selector: selector.into(), key_file: Some(file), key_env: None, since: None }
}

#[test]
fn the_nodes_keys_sign_and_a_short_one_is_warned_about_once() {
    let mut stage = Stage::new(WORLD, SETTINGS);
    let short = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
    let short = short.to_pkcs1_pem(rsa::pkcs1::LineEnding::LF).unwrap();
    let folder = stage.folder.path().to_owned();
    stage.node.dkim =
        vec![key(&folder, "short", &short), key(&folder, "ed", &generate(KeyKind::Ed25519).unwrap())];
    let records: Records = stage
        .node
        .dkim
        .iter()
        .map(|key| {
            let signer = Signer::from_pem(key.domain.clone(), &key.selector, &key.pem().unwrap()).unwrap();
            stage.world.publish_txt(&signer.name(), &signer.public_record());
            (signer.name(), signer.public_record())
        })
        .collect();
    let campaign = stage.campaign(&list(20, |_| "one.test".into()), "[retry]\nschedule = [\"100ms\"]\n");
    let output = stage.call(&["run", "--no-check", campaign.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let warning = "the DKIM key short._domainkey.sender.test has only 1024 bits";
    assert_eq!(said.matches(warning).count(), 1, "{said}");
    let report = stage.report();
    assert_eq!(report.totals.delivered, 20, "{report:?}");
    assert_eq!(report.warnings.iter().filter(|line| line.contains(warning)).count(), 1, "{report:?}");
    assert!(!report.warnings.iter().any(|line| line.contains("no DKIM key")), "{report:?}");
    let counts = stage.counts();
    assert_eq!((counts.dkim.verified, counts.dkim.failed, counts.dkim.unsigned), (20, 0, 0));

    // The world looks for one signature that holds; both do, of messages that came at the second try, too.
    let messages: Vec<Vec<u8>> =
        stage.world.messages().into_iter().take(5).map(|message| message.content).collect();
    for verifier in verifiers() {
        for verdicts in (verifier.verify)(&messages, &records) {
            let known = verdicts.iter().filter(|(name, _)| verifier.knows_ed25519 || name.contains("rsa"));
            assert!(known.clone().all(|(_, holds)| *holds), "{}: {verdicts:?}", verifier.name);
            assert_eq!(verdicts.len(), 2, "{}", verifier.name);
        }
    }
    assert_eq!(messages.len(), 5);
}
