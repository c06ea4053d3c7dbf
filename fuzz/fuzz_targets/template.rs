//! Whatever a template and a row say: a complaint, or a message whose header set and part structure are the
//! campaign's, on lines that any wire takes.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use postroad::address::{AddressRef, Domain};
use postroad::envelope::RecipientId;
use postroad::message::{Content, ContentSource, Extras, Merge, Scratch};

fuzz_target!(|input: (String, String, String, bool)| {
    let (template, name, note, inline_css) = input;
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
            extras: Extras { inline_css, ..Extras::default() },
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
    assert_eq!(names, ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"]);
});
