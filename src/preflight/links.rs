//! Where a message's links lead: checked once for each place, remembered for the rows that follow.

use std::collections::{BTreeSet, HashMap};

use super::domains;
use super::finding::Severity;
use super::rows::{Facts, Place};
use super::tally::{Flaw, Tally};
use super::url::{self, Target, Web};
use crate::address::Domain;

/// Places that are remembered; links past them are looked at anew each time.
const ORIGINS_MAX: usize = 16_384;
/// Domains that are collected for others to look up.
const DOMAINS_MAX: usize = 4_096;
/// Hosts that stand in examples and never in a campaign.
const PLACEHOLDERS: [&str; 8] = [
    "example.com",
    "example.org",
    "example.net",
    "localhost",
    "yourdomain.com",
    "domain.com",
    "yoursite.com",
    "placeholder.com",
];
/// Ends of what is a domain when it stands alone as a link's text.
const ENDS: [&str; 18] = [
    "com", "org", "net", "de", "uk", "fr", "it", "es", "nl", "eu", "ch", "at", "io", "shop", "info", "biz",
    "test", "example",
];

/// Which of a link's places were seen, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Links {
    origins: HashMap<Box<str>, Option<Wrong>>,
    pub domains: BTreeSet<Domain>,
}

/// What is wrong with a link, whatever its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    severity: Severity,
    check: &'static str,
    what: String,
    advice: &'static str,
}

impl Links {
    /// Looks at a link of the message's text or HTML.
    pub fn check(&mut self, href: &str, facts: &Facts, place: Place<'_>, tally: &mut Tally) {
        let origin = url::origin(href);
        let wrong = match self.origins.get(origin) {
            Some(known) => known.clone(),
            None => {
                let wrong = judge(href, facts);
                if let Target::Web(web) = url::target(href) {
                    self.collect(web.host);
                    // Without `://` the host is not in the origin.
                    if self.origins.len() < ORIGINS_MAX && origin.contains("://") {
                        self.origins.insert(origin.into(), wrong.clone());
                    }
                }
                wrong
            }
        };
        let wrong = wrong.or_else(|| unfinished(href));
        if let Some(Wrong { severity, check, what, advice }) = &wrong {
            let flaw = Flaw { severity: *severity, check, what, advice };
            tally.add(place.row, flaw, || place.shown(href));
        }
    }

    /// Looks at what a reader sees of a link to `href`.
    pub fn check_text(&mut self, text: &str, href: &str, place: Place<'_>, tally: &mut Tally) {
        let Target::Web(web) = url::target(href) else { return };
        let Some(shown) = shown_host(text) else { return };
        let (shown, host) = (shown.to_ascii_lowercase(), web.host.to_ascii_lowercase());
        if domains::organisation(&shown) == domains::organisation(&host) {
            return;
        }
        let what = format!("a link says {shown} and leads to {host}");
        let advice = "let the text be words, or the address it leads to: phishing looks like this";
        let flaw = Flaw { severity: Severity::Warning, check: "link-deceives", what: &what, advice };
        tally.add(place.row, flaw, || place.shown(text.trim()));
    }

    /// Looks at the source of a picture.
    pub fn check_image(&mut self, source: &str, place: Place<'_>, tally: &mut Tally) {
        let Target::Web(web) = url::target(source) else { return };
        self.collect(web.host);
        if web.is_secure {
            return;
        }
        let what = format!("a picture is loaded from http://{}", web.host.to_ascii_lowercase());
        let advice = "give it an https address: readers block or warn of it otherwise";
        let flaw = Flaw { severity: Severity::Warning, check: "image-not-https", what: &what, advice };
        tally.add(place.row, flaw, || place.shown(source));
    }

    fn collect(&mut self, host: &str) {
        if self.domains.len() < DOMAINS_MAX && !url::is_address(host) {
            self.domains.extend(Domain::parse(host));
        }
    }

    pub fn merge(&mut self, other: Self) {
        let room = DOMAINS_MAX.saturating_sub(self.domains.len());
        self.domains.extend(other.domains.into_iter().take(room));
    }
}

fn judge(href: &str, facts: &Facts) -> Option<Wrong> {
    let wrong = |severity, check, what: String, advice| Some(Wrong { severity, check, what, advice });
    let web = match url::target(href) {
        Target::Web(web) => web,
        Target::Nowhere => {
            let what = format!("a link leads nowhere: `{href}`");
            return wrong(
                Severity::Error,
                "link-placeholder",
                what,
                "say where it leads, or make it plain text",
            );
        }
        Target::Relative => {
            let what = format!("a link has no host: `{href}`");
            let advice = "write the whole address with https://; a message has no page to be relative to";
            return wrong(Severity::Error, "link-placeholder", what, advice);
        }
        Target::Other { scheme, .. }
            if ["javascript", "data", "file"].contains(&&*scheme.to_ascii_lowercase()) =>
        {
            let what = format!("a link is of the kind {scheme}:, which no mail reader opens");
            return wrong(Severity::Error, "link-placeholder", what, "lead to an https page instead");
        }
        Target::Other { .. } => return None,
    };
    let host = web.host.to_ascii_lowercase();
    if PLACEHOLDERS.iter().any(|known| host == *known || host == format!("www.{known}")) {
        let what = format!("a link leads to {host}, which stands for another");
        return wrong(Severity::Error, "link-placeholder", what, "put the real address there");
    }
    place_of(&web, &host, facts)
}

/// What is wrong with a host that is meant.
fn place_of(web: &Web<'_>, host: &str, facts: &Facts) -> Option<Wrong> {
    let wrong = |severity, check, what: String, advice| Some(Wrong { severity, check, what, advice });
    if let Some(user) = web.user {
        let what = format!("a link to {host} hides it behind `{user}@`");
        let advice = "leave out what stands before the @: it is how phishing hides where links lead";
        return wrong(Severity::Error, "link-userinfo", what, advice);
    }
    if url::is_address(host) {
        let advice = "lead to a host by its name; links to addresses are taken for phishing";
        return wrong(Severity::Error, "link-address", format!("a link leads to the address {host}"), advice);
    }
    if domains::is_shortener(host, &facts.shorteners) {
        let advice = "lead there directly: block lists know the shorteners, and you share their reputation";
        return wrong(Severity::Warning, "link-shortener", format!("a link leads over {host}"), advice);
    }
    if let Some(label) = url::look_alike(host) {
        let what = format!("the name {host} (`{label}`) mixes letters that look alike");
        let advice = "lead to a name in one script; this is how names are forged";
        return wrong(Severity::Warning, "link-look-alike", what, advice);
    }
    if !web.is_secure {
        let what = format!("a link to {host} is not https");
        return wrong(Severity::Warning, "link-not-https", what, "write https://, and serve it");
    }
    None
}

/// What somebody meant to fill in later.
fn unfinished(href: &str) -> Option<Wrong> {
    let path = href.get(url::origin(href).len()..)?;
    let is_word = |word: &str| path.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word);
    ["TODO", "FIXME", "XXX", "CHANGEME"].iter().find(|word| is_word(word)).map(|word| Wrong {
        severity: Severity::Error,
        check: "link-placeholder",
        what: format!("a link still says {word}"),
        advice: "put the real address there",
    })
}

/// The host a text names, if it is nothing but an address or a name.
fn shown_host(text: &str) -> Option<&str> {
    let text = text.trim();
    if text.contains(char::is_whitespace) || text.contains('@') {
        return None;
    }
    if text.contains("://") {
        let Target::Web(web) = url::target(text) else { return None };
        return Some(web.host);
    }
    let host = text.split(['/', '?', '#', ':']).next()?;
    let end = host.rsplit_once('.').map(|(_, end)| end)?;
    let known = host.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www."))
        || ENDS.iter().any(|known| known.eq_ignore_ascii_case(end));
    (known && Domain::parse(host).is_ok()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Findings;
    use super::*;

    fn found(href: &str) -> Vec<&'static str> {
        let (mut links, mut tally) = (Links::default(), Tally::default());
        let facts = Facts { shorteners: vec!["own.test".into()], ..Facts::default() };
        for row in 1..=2 {
            links.check(href, &facts, Place { row, address: &"a@one.test" }, &mut tally);
        }
        let mut findings = Findings::default();
        tally.into_findings(&mut findings);
        assert!(findings.iter().all(|finding| finding.count == 2), "a place remembered is judged the same");
        findings.iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn good_links_pass() {
        for href in
            ["https://shop.test/a", "mailto:us@shop.test", "tel:+491234", "#part", "https://bücher.example/"]
        {
            assert_eq!(found(href), Vec::<&str>::new(), "{href}");
        }
    }

    #[test]
    fn each_kind_of_wrong_place_has_its_name() {
        for (href, check) in [
            ("http://shop.test/", "link-not-https"),
            ("https://bit.ly/x", "link-shortener"),
            ("https://a.own.test/x", "link-shortener"),
            ("https://192.0.2.1/x", "link-address"),
            ("https://shop.test@evil.test/", "link-userinfo"),
            ("https://p\u{430}ypal.test/", "link-look-alike"),
            ("https://www.example.com/", "link-placeholder"),
            ("https://shop.test/TODO", "link-placeholder"),
            ("", "link-placeholder"),
            ("page.html", "link-placeholder"),
            ("javascript:void(0)", "link-placeholder"),
        ] {
            assert_eq!(found(href), [check], "{href}");
        }
    }

    #[test]
    fn what_is_remembered_of_one_host_is_not_held_against_another() {
        let (mut links, mut tally) = (Links::default(), Tally::default());
        let place = Place { row: 1, address: &"a@one.test" };
        for href in ["https:/192.0.2.1", "https:/shop.test", "https://192.0.2.1/a", "https://shop.test/a"] {
            links.check(href, &Facts::default(), place, &mut tally);
        }
        let mut findings = Findings::default();
        tally.into_findings(&mut findings);
        let counts: Vec<u64> = findings.iter().map(|finding| finding.count).collect();
        assert_eq!(counts, [2]);
        assert_eq!(links.domains.len(), 1);
    }

    #[test]
    fn a_text_that_names_a_host_names_the_right_one() {
        for (text, shown) in [
            ("https://shop.test/a", Some("shop.test")),
            ("www.shop.test", Some("www.shop.test")),
            ("shop.com/sale", Some("shop.com")),
            ("Node.js", None),
            ("Read on", None),
            ("us@shop.test", None),
        ] {
            assert_eq!(shown_host(text), shown, "{text}");
        }
    }
}
