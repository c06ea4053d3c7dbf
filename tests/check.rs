//! The promise: `postroad check` finds each mistake by its name and says nothing of a campaign without any.
//!
//! Each test is the clean campaign with one change. What the network would be asked is elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const MANIFEST: &str = r#"
name = "clean"
from = "Coffee <news@sender.test>"
reply_to = "support@sender.test"
return_path_domain = "bounce.sender.test"
subject = "{{ name }}, your order"
text = "message.txt"
html = "message.html"
suppression = ["suppression.txt"]

[unsubscribe]
url = "https://sender.test/leave/{{ member }}"
mailto = "leave@sender.test"

[list]
file = "recipients.csv"

[[dkim]]
domain = "sender.test"
selector = "s2026"
key_file = "key.pem"
"#;
const TEXT: &str = "Hello {{ name }},\n\nyour order is on its way: https://shop.sender.test/orders/{{ member }}\n\n\
    To leave the list: https://sender.test/leave/{{ member }}\n";
const HTML: &str = r#"<!doctype html><html lang="en"><head><title>Your order</title></head><body>
<p>Hello {{ name }}, your order has left our house today and will be with you in two or three days. You can see
where it is at any time, and change the address until the evening before.</p>
<p><img src="https://shop.sender.test/parcel.png" alt="A parcel"></p>
<p><a href="https://shop.sender.test/orders/{{ member }}">See your order</a></p>
<p><a href="https://sender.test/leave/{{ member }}">Leave the list</a></p>
</body></html>
"#;

/// The clean campaign, to be made worse.
struct Campaign {
    folder: tempfile::TempDir,
}

impl Campaign {
    fn clean() -> Self {
        let campaign = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(campaign.folder.path().join("clean")).unwrap();
        let mut list = String::from("email,name,member\n");
        for number in 1..=40 {
            list += &format!("person{number}@domain{}.test,Person {number},M{number:04}\n", number % 7);
        }
        let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/rsa2048.pkcs8.pem");
        for (name, content) in [
            ("campaign.toml", MANIFEST),
            ("message.txt", TEXT),
            ("message.html", HTML),
            ("recipients.csv", &list),
            ("suppression.txt", "someone@else.test\n"),
            ("key.pem", &fs::read_to_string(key).unwrap()),
        ] {
            fs::write(campaign.file(name), content).unwrap();
        }
        campaign.closed("key.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("clean").join(name)
    }

    /// Puts `new` where `old` stands in the file.
    fn with(self, name: &str, old: &str, new: &str) -> Self {
        let text = fs::read_to_string(self.file(name)).unwrap();
        assert!(text.contains(old), "{old} is not in {name}");
        fs::write(self.file(name), text.replacen(old, new, 1)).unwrap();
        self
    }

    fn plus(self, name: &str, more: &str) -> Self {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        fs::write(self.file(name), text + more).unwrap();
        self
    }

    /// For its owner only.
    fn closed(self, name: &str) -> Self {
        self.mode(name, 0o600)
    }

    fn mode(self, name: &str, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn call(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_postroad"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .output()
            .expect("the program starts")
    }

    /// What is found: check → severity; the exit code fits the worst.
    fn found(&self, more: &[&str]) -> BTreeMap<String, String> {
        let report = self.report(more);
        let findings = report["findings"].as_array().unwrap();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        for finding in findings {
            assert!(!text(finding, "what").is_empty() && !text(finding, "advice").is_empty(), "{finding}");
        }
        findings.iter().map(|finding| (text(finding, "check"), text(finding, "severity"))).collect()
    }

    fn report(&self, more: &[&str]) -> Value {
        let output = self.call(&[&["check", "clean", "--json", "--offline"], more].concat());
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        let worst =
            json["check"]["findings"].get(0).map_or("note", |first| first["severity"].as_str().unwrap());
        let code = match worst {
            "error" => 6,
            "warning" => 5,
            _ => 0,
        };
        assert_eq!(output.status.code(), Some(code), "{json}");
        let drafts = fs::read_dir(self.folder.path().join("state/drafts"));
        assert_eq!(drafts.map_or(0, Iterator::count), 0, "the draft stays");
        json["check"].clone()
    }

    /// Sees that this is found, and nothing else.
    #[track_caller]
    fn has(&self, check: &str, severity: &str) -> &Self {
        let expected = BTreeMap::from([(check.to_owned(), severity.to_owned())]);
        assert_eq!(self.found(&[]), expected);
        self
    }

    /// The one finding there is.
    fn only(&self) -> Value {
        let findings = self.report(&[])["findings"].clone();
        assert_eq!(findings.as_array().unwrap().len(), 1, "{findings}");
        findings[0].clone()
    }
}

#[test]
fn a_clean_campaign_is_not_found_fault_with() {
    let campaign = Campaign::clean();
    assert_eq!(campaign.found(&[]), BTreeMap::new());
    let figures = &campaign.report(&[])["figures"];
    assert_eq!(
        (&figures["rows"], &figures["mailed"], &figures["rendered"]),
        (&40.into(), &40.into(), &40.into())
    );
    let output = campaign.call(&["check", "clean", "--offline"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.ends_with("clean: nothing is wrong; ready to be sent\n"), "{text}");
    assert_eq!(
        fs::read_dir(campaign.folder.path().join("state/drafts")).unwrap().count(),
        0,
        "the draft stays"
    );
}

#[test]
fn the_shipped_campaign_is_clean_but_for_its_keys() {
    let campaign = Campaign::clean();
    let output = campaign.call(&["init", "summer"]);
    assert!(output.status.success());
    let output = campaign.call(&["check", "summer", "--json", "--offline"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = json["check"]["findings"].as_array().unwrap();
    let checks: Vec<&str> = findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["dkim-key"]);
}

// The manifest and its templates.

#[test]
fn a_manifest_with_a_mistake() {
    let campaign = Campaign::clean().with("campaign.toml", "subject =", "subjct =");
    campaign.has("manifest", "error");
    let what = campaign.only()["what"].as_str().unwrap().to_owned();
    assert!(what.contains("campaign.toml:") && what.contains("subjct"), "{what}");
}

#[test]
fn a_template_that_names_no_column() {
    Campaign::clean().with("message.txt", "{{ name }}", "{{ nmae }}").has("message", "error");
}

#[test]
fn a_list_without_the_column_of_the_address() {
    Campaign::clean().with("recipients.csv", "email,", "mail,").has("list", "error");
}

#[test]
fn a_pool_that_the_settings_do_not_have() {
    Campaign::clean()
        .with("campaign.toml", "[unsubscribe]", "pool = \"bulk\"\n[unsubscribe]")
        .has("pool", "error");
}

// What is made of each row.

#[test]
fn a_row_whose_message_cannot_be_made() {
    let campaign = Campaign::clean()
        .with("message.txt", "{{ name }}", "{{ member|replace('M','')|int + 1 }}{{ amount|number }}")
        .with("recipients.csv", "email,name,member\n", "email,name,member,amount\n");
    let list = fs::read_to_string(campaign.file("recipients.csv")).unwrap();
    let list = list.replace("M0001\n", "M0001,5\n");
    let mut lines: Vec<String> = list.lines().map(str::to_owned).collect();
    for (at, line) in lines.iter_mut().enumerate().skip(2) {
        *line += if at == 17 { ",many" } else { ",5" };
    }
    fs::write(campaign.file("recipients.csv"), lines.join("\n")).unwrap();
    campaign.has("render", "error");
    let finding = campaign.only();
    assert_eq!(finding["count"], 1);
    assert_eq!(finding["examples"][0], "row 17, person17@domain3.test");
}

#[test]
fn html_that_gmail_clips() {
    let filler = format!("<p>{}</p></body>", "more and more words ".repeat(5_200));
    let campaign = Campaign::clean().with("message.html", "</body>", &filler);
    campaign.has("message-clipped", "warning");
    assert_eq!(campaign.only()["count"], 40);
}

#[test]
fn a_message_larger_than_receivers_take() {
    let campaign = Campaign::clean()
        .plus("campaign.toml", "[[attachments]]\nfile = \"terms.pdf\"\n")
        .plus("../postroad.toml", "[check]\nmessage_size = \"200KB\"\n");
    fs::write(campaign.file("terms.pdf"), vec![7; 300_000]).unwrap();
    campaign.has("message-size", "error");
}

#[test]
fn an_attachment_that_is_refused_everywhere() {
    let campaign = Campaign::clean().plus("campaign.toml", "[[attachments]]\nfile = \"setup.exe\"\n");
    fs::write(campaign.file("setup.exe"), b"MZ").unwrap();
    campaign.has("attachment-refused", "error");
}

#[test]
fn a_subject_that_is_empty_for_some() {
    let campaign = Campaign::clean().with(
        "campaign.toml",
        "{{ name }}, your order",
        "{{ member|replace('M0007', '') if member == 'M0007' else name }}",
    );
    campaign.has("subject-empty", "error");
    assert_eq!(campaign.only()["examples"][0], "row 7, person7@domain0.test");
}

#[test]
fn a_subject_too_long_to_be_read() {
    let long = format!("your order {}", "and more ".repeat(20));
    Campaign::clean().with("campaign.toml", "your order", &long).has("subject-long", "warning");
}

#[test]
fn a_subject_that_pretends_to_be_a_reply() {
    Campaign::clean()
        .with("campaign.toml", "{{ name }}, your", "Re: your")
        .has("subject-deceives", "warning");
}

#[test]
fn a_subject_that_shouts() {
    Campaign::clean()
        .with("campaign.toml", "{{ name }}, your order", "BUY NOW OR NEVER")
        .has("subject-shouts", "warning");
}

#[test]
fn a_field_of_another_system_left_in_the_text() {
    let campaign = Campaign::clean().with("message.txt", "Hello", "Hello *|FNAME|*");
    campaign.has("placeholder", "error");
}

#[test]
fn a_text_part_with_nothing_in_it() {
    let campaign = Campaign::clean();
    fs::write(campaign.file("message.txt"), "{# later #}\n").unwrap();
    campaign.has("text-empty", "warning");
}

#[test]
fn html_that_is_a_picture() {
    let campaign = Campaign::clean();
    let html = "<html><body><img src=\"https://shop.sender.test/all.png\" alt=\"\">\
        <a href=\"https://sender.test/leave/{{ member }}\">Leave</a></body></html>";
    fs::write(campaign.file("message.html"), html).unwrap();
    campaign.has("image-only", "warning");
}

#[test]
fn a_picture_without_words_for_it() {
    Campaign::clean().with("message.html", " alt=\"A parcel\"", "").has("image-alt", "note");
}

#[test]
fn html_with_a_form() {
    Campaign::clean().with("message.html", "</body>", "<form></form></body>").has("html-active", "warning");
}

// What large providers demand.

#[test]
fn no_way_to_unsubscribe_with_one_click() {
    let campaign =
        Campaign::clean().with("campaign.toml", "url = \"https://sender.test/leave/{{ member }}\"\n", "");
    // The link in text and HTML is then told by its words.
    campaign.has("one-click", "warning");
}

#[test]
fn a_bulk_sender_must_not_go_without_one_click() {
    let people: String = (0..5_001).map(|number| format!("p{number}@gmail.com,P,M{number}\n")).collect();
    Campaign::clean()
        .with("campaign.toml", "url = \"https://sender.test/leave/{{ member }}\"\n", "")
        .plus("recipients.csv", &people)
        .has("one-click", "error");
}

#[test]
fn html_without_a_link_to_leave() {
    let link = "<p><a href=\"https://sender.test/leave/{{ member }}\">Leave the list</a></p>\n";
    let campaign = Campaign::clean().with("message.html", link, "");
    campaign.has("unsubscribe-link", "warning");
    assert!(campaign.only()["what"].as_str().unwrap().contains("HTML"));
}

#[test]
fn a_text_without_a_link_to_leave() {
    let campaign = Campaign::clean().with(
        "message.txt",
        "To leave the list: https://sender.test/leave/{{ member }}",
        "Bye",
    );
    campaign.has("unsubscribe-link", "warning");
    assert!(campaign.only()["what"].as_str().unwrap().contains("text part"));
}

#[test]
fn a_sender_at_a_free_mail_provider() {
    // The key cannot be of that domain either.
    let campaign = Campaign::clean().with("campaign.toml", "news@sender.test", "news@gmail.com");
    let expected = [("from-free-mail", "error"), ("dkim-alignment", "warning")];
    assert_eq!(campaign.found(&[]), expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
}

#[test]
fn a_sender_whom_nobody_can_answer() {
    Campaign::clean()
        .with("campaign.toml", "news@sender.test", "noreply@sender.test")
        .with("campaign.toml", "reply_to = \"support@sender.test\"\n", "")
        .has("from-no-reply", "note");
}

// Signatures.

#[test]
fn messages_that_nobody_signs() {
    let campaign = Campaign::clean();
    let signed = "[[dkim]]\ndomain = \"sender.test\"\nselector = \"s2026\"\nkey_file = \"key.pem\"\n";
    campaign.with("campaign.toml", signed, "").has("dkim-none", "warning");
}

#[test]
fn a_signature_of_another_domain() {
    Campaign::clean()
        .with("campaign.toml", "domain = \"sender.test\"\nsel", "domain = \"other.test\"\nsel")
        .has("dkim-alignment", "warning");
}

#[test]
fn a_signature_of_a_domain_beside_it_is_aligned() {
    let campaign = Campaign::clean().with("campaign.toml", "news@sender.test", "news@news.sender.test").with(
        "campaign.toml",
        "domain = \"sender.test\"\nsel",
        "domain = \"mail.sender.test\"\nsel",
    );
    assert_eq!(campaign.found(&[]), BTreeMap::new());
}

#[test]
fn a_key_that_is_not_there() {
    let campaign = Campaign::clean();
    fs::remove_file(campaign.file("key.pem")).unwrap();
    campaign.has("dkim-key", "error");
}

#[test]
fn a_key_that_is_none() {
    let campaign = Campaign::clean();
    fs::write(campaign.file("key.pem"), "no key\n").unwrap();
    campaign.has("dkim-key", "error");
}

#[test]
fn a_key_that_others_can_read() {
    Campaign::clean().mode("key.pem", 0o644).has("dkim-key-open", "warning");
}

/// The key of the clean campaign becomes one of so many bits.
fn with_rsa_key(bits: usize) -> Campaign {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap();
    let pem = rsa::pkcs8::EncodePrivateKey::to_pkcs8_pem(&key, rsa::pkcs8::LineEnding::LF).unwrap();
    let campaign = Campaign::clean();
    fs::write(campaign.file("key.pem"), pem.as_bytes()).unwrap();
    campaign
}

#[test]
fn a_key_that_is_short() {
    let campaign = with_rsa_key(1_024);
    campaign.has("dkim-key-short", "warning");
    assert!(campaign.only()["what"].as_str().unwrap().contains("1024 bits"));
    assert_eq!(campaign.report(&[])["figures"]["rendered"], 40);
}

#[test]
fn a_key_so_short_that_signatures_do_not_count() {
    for bits in [512, 768] {
        let campaign = with_rsa_key(bits);
        campaign.has("dkim-key-short", "error");
        // The messages are looked at all the same.
        assert_eq!(campaign.report(&[])["figures"]["rendered"], 40);
    }
}

#[test]
fn a_key_that_does_not_sign_yet() {
    Campaign::clean()
        .with("campaign.toml", "selector = \"s2026\"", "selector = \"s2026\"\nsince = \"2999-01-01\"")
        .has("dkim-to-come", "warning");
}

#[test]
fn a_key_that_many_cannot_verify() {
    let campaign = Campaign::clean();
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/ed25519.pkcs8.pem");
    fs::copy(key, campaign.file("key.pem")).unwrap();
    campaign.closed("key.pem").has("dkim-ed25519-only", "warning");
}

// Variants.

const VARIANTS: &str =
    "[[variants]]\nname = \"a\"\n[[variants]]\nname = \"b\"\nhtml = \"b.html\"\ntext = \"b.txt\"\n";

#[test]
fn variants_without_a_mistake() {
    let campaign = Campaign::clean().plus("campaign.toml", VARIANTS);
    let campaign = campaign.plus("b.html", HTML).plus("b.txt", TEXT);
    assert_eq!(campaign.found(&[]), BTreeMap::new());
    assert_eq!(campaign.report(&[])["figures"]["rendered"], 40);
}

#[test]
fn a_mistake_of_one_variant_is_found_for_those_who_get_it() {
    let campaign = Campaign::clean().plus("campaign.toml", VARIANTS);
    let campaign = campaign.plus("b.html", HTML).plus("b.txt", &TEXT.replace("Hello", "Hello *|FNAME|*"));
    campaign.has("placeholder", "error");
    let count = campaign.only()["count"].as_u64().unwrap();
    assert!((1..40).contains(&count), "{count}");
}

#[test]
fn a_mistake_of_one_variant_is_found_for_all_who_may_get_it_while_none_has_won() {
    let campaign = Campaign::clean().plus("campaign.toml", VARIANTS);
    let campaign = campaign.plus("b.html", HTML).plus("b.txt", &TEXT.replace("Hello", "Hello *|FNAME|*"));
    let campaign = campaign.plus("campaign.toml", "[test]\nshare = \"10%\"\n");
    campaign.has("placeholder", "error");
    let (count, rendered) =
        (campaign.only()["count"].as_u64().unwrap(), campaign.report(&[])["figures"]["rendered"].clone());
    assert!((30..=40).contains(&count), "{count}");
    assert!(rendered.as_u64().unwrap() > 40, "{rendered}");
}

#[test]
fn a_variable_that_only_one_variant_names_and_no_column_has() {
    let campaign = Campaign::clean().plus("campaign.toml", VARIANTS);
    let campaign = campaign.plus("b.html", HTML).plus("b.txt", &TEXT.replace("{{ name }}", "{{ nmae }}"));
    campaign.has("message", "error");
    assert!(campaign.only()["what"].as_str().unwrap().contains("variant b"), "{}", campaign.only());
}

#[test]
fn a_variant_of_which_only_the_text_is_its_own() {
    Campaign::clean()
        .plus("campaign.toml", "[[variants]]\nname = \"a\"\n[[variants]]\nname = \"b\"\ntext = \"b.txt\"\n")
        .plus("b.txt", TEXT)
        .has("variant-half", "warning");
}

// Links.

#[track_caller]
fn link(href: &str, check: &str, severity: &str) {
    let link = format!("<p><a href=\"{href}\">More about it</a></p></body>");
    let campaign = Campaign::clean().with("message.html", "</body>", &link);
    campaign.has(check, severity);
    assert_eq!(campaign.only()["count"], 40);
}

#[test]
fn a_link_that_is_not_https() {
    link("http://shop.sender.test/more", "link-not-https", "warning");
}

#[test]
fn a_link_over_a_shortener() {
    link("https://bit.ly/more", "link-shortener", "warning");
}

#[test]
fn a_link_over_a_shortener_of_the_settings() {
    let campaign = Campaign::clean()
        .plus("../postroad.toml", "[check]\nshorteners = [\"sho.test\"]\n")
        .plus("message.txt", "https://sho.test/more\n");
    campaign.has("link-shortener", "warning");
}

#[test]
fn a_link_to_an_address() {
    link("https://192.0.2.7/more", "link-address", "error");
}

#[test]
fn a_link_that_hides_its_host() {
    link("https://shop.sender.test@evil.test/", "link-userinfo", "error");
}

#[test]
fn a_link_to_a_look_alike() {
    link("https://xn--pypal-4ve.com/", "link-look-alike", "warning");
}

#[test]
fn a_link_that_leads_nowhere() {
    link("#", "link-placeholder", "error");
}

#[test]
fn a_link_to_an_example() {
    link("https://www.example.com/more", "link-placeholder", "error");
}

#[test]
fn a_link_without_a_host() {
    link("more.html", "link-placeholder", "error");
}

#[test]
fn a_link_that_is_empty_for_some_rows() {
    let campaign = Campaign::clean().with(
        "message.html",
        "</body>",
        "<a href=\"{{ 'https://shop.sender.test' if member != 'M0009' }}\">x</a></body>",
    );
    campaign.has("link-placeholder", "error");
    assert_eq!(campaign.only()["count"], 1);
}

#[test]
fn a_link_that_says_another_place() {
    let link = "<a href=\"https://shop.sender.test/\">www.bank.test</a></body>";
    Campaign::clean().with("message.html", "</body>", link).has("link-deceives", "warning");
}

#[test]
fn a_picture_that_is_not_https() {
    Campaign::clean().with("message.html", "src=\"https:", "src=\"http:").has("image-not-https", "warning");
}

// The list.

#[test]
fn rows_that_are_no_addresses() {
    let campaign = Campaign::clean().plus("recipients.csv", "ann,A,M1\nbob@@two,B,M2\ncy,C,M3\n");
    assert_eq!(campaign.found(&[]), BTreeMap::from([("list-syntax".to_owned(), "warning".to_owned())]));
    let findings = campaign.report(&[])["findings"].clone();
    let no_at = findings.as_array().unwrap().iter().find(|finding| finding["count"] == 2).unwrap();
    assert_eq!(no_at["examples"][0], "row 41, ann");
}

#[test]
fn rows_that_come_twice() {
    Campaign::clean().plus("recipients.csv", "Person1@domain1.test,A,M1\n").has("list-duplicates", "note");
}

#[test]
fn rows_that_are_suppressed() {
    Campaign::clean().plus("suppression.txt", "person3@domain3.test\n").has("list-suppressed", "note");
}

#[test]
fn a_suppression_file_that_does_not_suppress() {
    Campaign::clean().plus("suppression.txt", "ann at one\n").has("suppression-lines", "warning");
}

#[test]
fn a_list_of_nobody() {
    let campaign = Campaign::clean();
    fs::write(campaign.file("recipients.csv"), "email,name,member\n").unwrap();
    campaign.has("list-empty", "error");
}

#[test]
fn addresses_of_tasks() {
    let campaign = Campaign::clean().plus("recipients.csv", "Abuse@one.test,A,M1\nnoreply@one.test,B,M2\n");
    campaign.has("role-accounts", "warning");
    assert_eq!(campaign.only()["count"], 2);
}

#[test]
fn addresses_that_several_read() {
    Campaign::clean().plus("recipients.csv", "info@one.test,A,M1\n").has("role-shared", "note");
}

#[test]
fn addresses_that_are_thrown_away() {
    Campaign::clean().plus("recipients.csv", "x1@mailinator.com,A,M1\n").has("disposable-domains", "warning");
}

#[test]
fn a_slip_in_the_name_of_a_provider() {
    let campaign = Campaign::clean().plus("recipients.csv", "ann@gmial.com,A,M1\nbob@gmial.com,B,M2\n");
    campaign.has("domain-typos", "warning");
    let finding = campaign.only();
    assert_eq!(finding["count"], 2);
    assert_eq!(finding["what"], "gmial.com is likely a slip for gmail.com");
    assert_eq!(finding["examples"][0], "row 41, ann@gmial.com: ann@gmail.com?");
}

#[test]
fn a_list_that_is_one_company() {
    let people: String = (0..200).map(|number| format!("p{number}@firm.test,P,M{number}\n")).collect();
    Campaign::clean().plus("recipients.csv", &people).has("one-domain", "note");
}

#[test]
fn a_column_that_many_rows_do_not_have() {
    let people: String = (0..20).map(|number| format!("p{number}@firm{number}.test,,M{number}\n")).collect();
    let campaign = Campaign::clean().plus("recipients.csv", &people);
    campaign.has("empty-variable", "note");
    let campaign = campaign
        .with("message.txt", "{{ name }}", "{{ name or 'you' }}")
        .with("message.html", "{{ name }}", "{{ name or 'you' }}")
        .with("campaign.toml", "{{ name }}, your", "Your");
    assert_eq!(campaign.found(&[]), BTreeMap::new());
}

#[test]
fn shares_of_the_list_are_by_whose_mailboxes_they_are() {
    let campaign =
        Campaign::clean().plus("recipients.csv", "a@gmail.com,A,M1\nb@googlemail.com,B,M2\nc@web.de,C,M3\n");
    let providers = campaign.report(&[])["figures"]["providers"].clone();
    let expected = serde_json::json!([
        { "provider": "other", "recipients": 40 },
        { "provider": "google", "recipients": 2 },
        { "provider": "united internet", "recipients": 1 },
    ]);
    assert_eq!(providers, expected);
}

// What is to be ignored, and what a run does.

#[test]
fn what_is_ignored_is_not_held_against_the_campaign() {
    let campaign = Campaign::clean().plus("recipients.csv", "abuse@one.test,A,M1\n");
    assert_eq!(campaign.found(&["--ignore", "role-accounts"]), BTreeMap::new());
    let campaign = campaign.plus("campaign.toml", "[check]\nignore = [\"role-accounts\"]\n");
    assert_eq!(campaign.found(&[]), BTreeMap::new());
    assert_eq!(campaign.report(&[])["ignored"][0]["check"], "role-accounts");
    assert_eq!(campaign.found(&["--ignore", "image-alt"]), BTreeMap::new(), "settings name some for all");
    let unknown = campaign.found(&["--ignore", "rolle"]);
    assert_eq!(unknown, BTreeMap::from([("ignore".to_owned(), "note".to_owned())]));
}

#[test]
fn a_run_does_not_begin_over_an_error() {
    let campaign = Campaign::clean().with("message.txt", "Hello", "Hello *|FNAME|*");
    let output = campaign.call(&["run", "clean"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{told}");
    assert!(told.contains("placeholder: ") && told.contains("--force"), "{told}");
    assert!(!campaign.folder.path().join("state/runs").exists(), "a run was made");
}
