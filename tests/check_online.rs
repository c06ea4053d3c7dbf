//! The whole check against a DNS: silent where all is well, and each mistake by its name, through the program.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use tokio::time::Instant;

use postroad::address::Domain;
use postroad::message::Signer;
use postroad::world::{RecordKind, World};
use serde_json::Value;
use support::Stage;

const KEY: &str = include_str!("keys/rsa2048.pkcs8.pem");
const WORLD: &str = r#"
[[provider]]
name = "plain"
domains = ["a.test", "b.test"]
mx = [{ host = "mx.plain.test" }]

[[records]]
name = "sender.test"
type = "MX"
value = "10 mx.sender.test"
[[records]]
name = "mx.sender.test"
type = "A"
value = "192.0.2.30"
[[records]]
name = "bounce.sender.test"
type = "MX"
value = "10 mx.sender.test"
[[records]]
name = "bounce.sender.test"
type = "TXT"
value = "v=spf1 ip4:192.0.2.10 -all"
[[records]]
name = "out1.sender.test"
type = "A"
value = "192.0.2.10"
[[records]]
name = "192.0.2.10"
type = "PTR"
value = "out1.sender.test"
[[records]]
name = "_dmarc.sender.test"
type = "TXT"
value = "v=DMARC1; p=reject; rua=mailto:dmarc@sender.test"
[[records]]
name = "_smtp._tls.bounce.sender.test"
type = "TXT"
value = "v=TLSRPTv1; rua=mailto:tls@sender.test"
"#;
const SETTINGS: &str = "[sources.one]\nipv4 = \"192.0.2.10\"\nehlo = \"out1.sender.test\"\n";
const MANIFEST: &str = r#"
name = "clean"
from = "Coffee <news@sender.test>"
return_path_domain = "bounce.sender.test"
subject = "{{ name }}, your order"
text = "message.txt"
html = "message.html"

[unsubscribe]
base_url = "https://sender.test/leave/"

[list]
file = "recipients.csv"

[[dkim]]
domain = "sender.test"
selector = "s2026"
key_file = "key.pem"
"#;
const TEXT: &str = "Hello {{ name }},\n\nyour order is on its way: https://shop.sender.test/orders\n\n\
    To go: {{ unsubscribe_url }}\n";
const HTML: &str = "<html><body><p>Hello {{ name }}, your order has left our house today.</p>\
    <p><a href=\"https://shop.sender.test/orders\">www.sender.test</a></p>\
    <p><a href=\"{{ unsubscribe_url }}\">Go</a></p></body></html>\n";

/// A clean campaign in a world where all of its DNS is as it should be.
struct Online {
    stage: Stage,
    campaign: PathBuf,
}

impl Online {
    fn clean() -> Self {
        Self::with(MANIFEST, "")
    }

    fn with(manifest: &str, list: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let stage = Stage::new(WORLD, SETTINGS);
        let signer = Signer::from_pem(Domain::parse("sender.test").unwrap(), "s2026", KEY).unwrap();
        stage.world.publish_txt(&signer.name(), &signer.public_record());
        let campaign = stage.folder.path().join("clean");
        fs::create_dir(&campaign).unwrap();
        let list = format!("email,name\nann@a.test,Ann\nbob@b.test,Bob\n{list}");
        for (name, content) in [
            ("campaign.toml", manifest),
            ("message.txt", TEXT),
            ("message.html", HTML),
            ("recipients.csv", &list),
            ("key.pem", KEY),
        ] {
            fs::write(campaign.join(name), content).unwrap();
        }
        fs::set_permissions(campaign.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { stage, campaign }
    }

    fn world(&self) -> &World {
        &self.stage.world
    }

    /// What is found but for notes: check → severity.
    fn found(&self) -> BTreeMap<String, String> {
        let all = self.report()["findings"].as_array().unwrap().clone();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let names: Vec<String> = all.iter().map(|finding| text(finding, "check")).collect();
        // Of the notes: nobody must have a policy for the mail that comes in.
        let notes = all.iter().filter(|finding| finding["severity"] == "note");
        assert!(notes.clone().all(|note| note["check"] == "mta-sts-missing"), "{names:?}");
        let worse = all.iter().filter(|finding| finding["severity"] != "note");
        worse.map(|finding| (text(finding, "check"), text(finding, "severity"))).collect()
    }

    fn report(&self) -> Value {
        let output = self.stage.call(&["check", self.campaign.to_str().unwrap(), "--json"]);
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(fs::read_dir(self.stage.node.state.join("drafts")).unwrap().count(), 0, "the draft stays");
        json["check"].clone()
    }

    #[track_caller]
    fn has(&self, check: &str, severity: &str) {
        assert_eq!(self.found(), BTreeMap::from([(check.to_owned(), severity.to_owned())]));
    }
}

#[test]
fn a_clean_campaign_of_a_clean_sender_is_not_found_fault_with() {
    let online = Online::clean();
    assert_eq!(online.found(), BTreeMap::new());
    let providers = online.report()["figures"]["providers"].clone();
    assert_eq!(providers[0]["recipients"], 2, "{providers}");
}

#[test]
fn links_that_are_tracked_are_judged_by_where_they_lead_in_the_end() {
    let tracking = "[tracking]\nbase_url = \"https://click.other.test/\"\nclicks = true\nopens = true\n";
    let online = Online::with(&format!("{MANIFEST}{tracking}"), "");
    assert_eq!(online.found(), BTreeMap::new());
    let html = fs::read_to_string(online.campaign.join("message.html")).unwrap();
    fs::write(online.campaign.join("message.html"), html.replace("https://shop.sender", "https://shop.bank"))
        .unwrap();
    online.has("link-deceives", "warning");
}

#[test]
fn no_spf_record() {
    let online = Online::clean();
    online.world().publish("bounce.sender.test", RecordKind::Txt, &[]);
    // DKIM speaks for the little mail that it is.
    online.has("spf-missing", "warning");
}

#[test]
fn an_spf_record_without_our_source() {
    let online = Online::clean();
    online.world().publish("bounce.sender.test", RecordKind::Txt, &["v=spf1 ip4:192.0.2.1 -all"]);
    online.has("spf-source", "error");
}

#[test]
fn a_dkim_record_of_another_key() {
    let online = Online::clean();
    let other = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1_024).unwrap();
    let other = rsa::pkcs8::EncodePublicKey::to_public_key_der(&other.to_public_key()).unwrap();
    let other = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, other.as_bytes());
    online.world().publish_txt("s2026._domainkey.sender.test", &format!("v=DKIM1; p={other}"));
    online.has("dkim-mismatch", "error");
}

#[test]
fn no_dkim_record() {
    let online = Online::clean();
    online.world().publish("s2026._domainkey.sender.test", RecordKind::Txt, &[]);
    online.has("dkim-missing", "error");
}

#[test]
fn no_dmarc_record_is_worse_the_more_is_sent() {
    let online = Online::clean();
    online.world().publish("_dmarc.sender.test", RecordKind::Txt, &[]);
    online.has("dmarc-missing", "warning");
    let people: String = (0..5_001).map(|number| format!("p{number}@gmail.com,P\n")).collect();
    let online = Online::with(MANIFEST, &people);
    online.world().publish("gmail.com", RecordKind::Mx, &["10 mx.plain.test"]);
    online.world().publish("_dmarc.sender.test", RecordKind::Txt, &[]);
    online.has("dmarc-missing", "error");
}

#[test]
fn a_source_whose_address_has_no_name_that_leads_back() {
    let online = Online::clean();
    online.world().publish("192.0.2.10", RecordKind::Ptr, &["mx.sender.test"]);
    online.has("ptr-unconfirmed", "error");
}

#[test]
fn a_domain_of_the_list_that_does_not_exist() {
    let online = Online::with(MANIFEST, "cy@nowhere.test,Cy\n");
    online.has("domain-without-mail", "warning");
    let findings = online.report()["findings"].clone();
    assert_eq!(findings[0]["examples"][0], "nowhere.test (1)", "{findings}");
}

#[test]
fn without_any_name_server_one_warning_says_so_and_nobody_waits() {
    let people: String = (0..3_000).map(|number| format!("p{number}@d{number}.test,P\n")).collect();
    let mut online = Online::with(MANIFEST, &people);
    // Takes questions and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    online.stage.node.dns.servers = vec![silent.local_addr().unwrap()];
    online.stage.node.dns.timeout = std::time::Duration::from_millis(200);
    let began = Instant::now();
    online.has("dns-unanswered", "warning");
    // 3,000 domains, each asked for until its time is over, would take far longer.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn a_source_of_the_own_machine_is_not_held_to_what_resolvers_say_of_it_by_themselves() {
    let mut online = Online::clean();
    let source = online.stage.node.sources.get_mut("one").unwrap();
    source.ipv4 = Some(std::net::Ipv4Addr::new(127, 0, 0, 2));
    let findings = online.report()["findings"].clone();
    let checks: Vec<&str> =
        findings.as_array().unwrap().iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    assert!(checks.contains(&"source-private") && !checks.contains(&"ptr-unconfirmed"), "{checks:?}");
}
