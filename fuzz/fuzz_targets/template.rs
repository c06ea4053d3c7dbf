//! Whatever a template and a row say: a complaint, or a message whose header set and part structure are the
//! campaign's, on lines that any wire takes; with tokens in its links and header, too.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use postroad::address::{AddressRef, Domain};
use postroad::envelope::RecipientId;
use postroad::message::{Content, ContentSource, Extras, Merge, Scratch, Tracking};
use postroad::token::{Key, Kind, verify};

const BASE_URL: &str = "https://t.sender.test/";

fuzz_target!(|input: (String, String, String, bool, bool)| {
    let (template, name, note, inline_css, tokens) = input;
    let key = Key::new(1, &[7; 32]);
    let domain = Domain::parse("sender.test").expect("a domain");
    let columns = ["name", "note"].map(str::to_owned);
    let compile = |template: &str, inline_css: bool| {
        let source = ContentSource {
            subject: "{{ name }} {{ note|title }}",
            from: "us@sender.test",
            to_name: Some("{{ name }}"),
            reply_to: None,
            text: None,
            html: Some(template),
            headers: &BTreeMap::new(),
            unsubscribe_url: None,
            unsubscribe_mailto: None,
            list_id: None,
            columns: &columns,
            strict: false,
            run_token: "k3f9",
            date: UNIX_EPOCH + Duration::from_secs(1_795_316_400),
            message_id_domain: &domain,
            extras: Extras {
                inline_css,
                key: tokens.then_some(&key),
                unsubscribe_base_url: tokens.then_some("https://sender.test/u/"),
                tracking: tokens.then_some(Tracking { base_url: BASE_URL, clicks: true, opens: true }),
                feedback_id: tokens.then_some("{{ name }}:{{ note }}:sender"),
                cfbl_address: tokens.then_some("fbl@sender.test"),
                ..Extras::default()
            },
        };
        Content::compile(&source, Vec::new())
    };
    // A loop that a template writes down may run for long; this is about what comes out.
    let Some(content) = (!template.contains("for") && !template.contains("range")).then(|| compile(&template, inline_css).ok()).flatten() else {
        return;
    };
    let address = AddressRef::parse("ann@example.test").expect("an address");
    let merge = Merge { recipient: RecipientId::new(1, 2), address: &address, fields: &[&name, &note] };
    let mut message = Vec::new();
    if content.render(&merge, &mut Scratch::default(), &mut message).is_err() {
        return;
    }
    assert!(message.is_ascii() && message.ends_with(b"\r\n"));
    for line in message.split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("no bare LF");
        assert!(!line.contains(&b'\r') && line.len() <= 998);
    }
    let text = String::from_utf8(message).expect("ASCII");
    assert_eq!(text.lines().filter(|line| line.starts_with("--=_k3f9")).count(), 3);
    let (head, _) = text.split_once("\r\n\r\n").expect("a header");
    let names: Vec<&str> = head.lines().filter(|line| !line.starts_with([' ', '\t'])).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let (before, after) = (["From", "To", "Subject", "Date", "Message-ID"], ["MIME-Version", "Content-Type"]);
    let between: &[&str] = match tokens {
        true => &["List-Unsubscribe", "List-Unsubscribe-Post", "Precedence", "Feedback-ID", "CFBL-Address", "CFBL-Feedback-ID"],
        false => &[],
    };
    assert_eq!(names, [&before, between, &after].concat());
    if tokens {
        let token = head.split("CFBL-Feedback-ID: ").nth(1).and_then(|rest| rest.lines().next()).expect("a token");
        assert_eq!(verify(token, &key).expect("one of ours").0.kind, Kind::Complaint);
        for link in 0..u16::MAX {
            let Ok(Some(target)) = content.link(link, &merge) else { break };
            let target = target.to_ascii_lowercase();
            assert!(target.starts_with("http://") || target.starts_with("https://"), "{target:?}");
        }
    }
});
