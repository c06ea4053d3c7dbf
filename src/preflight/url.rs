//! A link's address taken apart as a browser does, as far as checks need it (RFC 3986, RFC 3987).

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Web(Web<'a>),
    /// `mailto:`, `tel:` and the like, or a part of the message: what follows the scheme.
    Other {
        scheme: &'a str,
        rest: &'a str,
    },
    /// No scheme: means nothing in a message.
    Relative,
    /// Nothing at all.
    Nowhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Web<'a> {
    pub is_secure: bool,
    pub user: Option<&'a str>,
    /// As written, without brackets and port.
    pub host: &'a str,
}

/// The part of a URL up to its path: what decides where it leads.
pub(super) fn origin(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    let end = url[from..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| from + at);
    &url[..end]
}

pub(super) fn target(url: &str) -> Target<'_> {
    let url = url.trim();
    if url.is_empty() || url == "#" {
        return Target::Nowhere;
    }
    if url.starts_with('#') {
        return Target::Other { scheme: "", rest: url };
    }
    let is_scheme = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    };
    let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Target::Relative;
    };
    let is_secure = scheme.eq_ignore_ascii_case("https");
    if !is_secure && !scheme.eq_ignore_ascii_case("http") {
        return if rest.is_empty() { Target::Nowhere } else { Target::Other { scheme, rest } };
    }
    let authority = rest.trim_start_matches(['/', '\\']);
    let authority = &authority[..authority.find(['/', '?', '#', '\\']).unwrap_or(authority.len())];
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let host = match place.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() { Target::Nowhere } else { Target::Web(Web { is_secure, user, host }) }
}

/// Whether browsers take the host for an IP address: also one in a single number, octal or hexadecimal.
pub(super) fn is_address(host: &str) -> bool {
    let number = |part: &str| {
        let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
        hex.map_or_else(
            || !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()),
            |hex| hex.bytes().all(|b| b.is_ascii_hexdigit()),
        )
    };
    host.parse::<Ipv4Addr>().is_ok()
        || host.parse::<Ipv6Addr>().is_ok()
        || host.rsplit('.').next().is_some_and(number)
}

/// Why the name may be taken for another: the label as readers see it.
pub(super) fn look_alike(host: &str) -> Option<String> {
    let shown = idna::domain_to_unicode(host).0;
    let label = shown.split('.').find(|label| is_mixed(label) || is_disguised(label))?;
    Some(label.to_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Greek,
    Cyrillic,
}

fn script(character: char) -> Option<Script> {
    match character {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' => Some(Script::Latin),
        '\u{370}'..='\u{3ff}' => Some(Script::Greek),
        '\u{400}'..='\u{52f}' => Some(Script::Cyrillic),
        _ => None,
    }
}

/// Scripts whose letters look alike, in one label.
fn is_mixed(label: &str) -> bool {
    let mut scripts = label.chars().filter_map(script);
    let first = scripts.next();
    scripts.any(|other| Some(other) != first)
}

/// All Cyrillic, and every letter looks like a Latin one.
fn is_disguised(label: &str) -> bool {
    const TWINS: &str = "аеорсухіјѕԁһӏԛԝԍѵ";
    !label.is_empty()
        && !label.is_ascii()
        && label.chars().all(|c| TWINS.contains(c) || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(url: &str) -> Web<'_> {
        match target(url) {
            Target::Web(web) => web,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn a_link_comes_apart_as_a_browser_takes_it() {
        assert_eq!(web("https://shop.test/a?b"), Web { is_secure: true, user: None, host: "shop.test" });
        assert_eq!(web("HTTP://ann:pw@shop.test:81#x").user, Some("ann:pw"));
        assert_eq!(web("https://shop.test@evil.test/").host, "evil.test");
        assert_eq!(web("https:\\\\shop.test\\x").host, "shop.test");
        assert_eq!(web("https://[2001:db8::1]:1/").host, "2001:db8::1");
        assert_eq!(target("mailto:a@b.test"), Target::Other { scheme: "mailto", rest: "a@b.test" });
        assert_eq!(target("#part"), Target::Other { scheme: "", rest: "#part" });
        for nowhere in ["", " ", "#", "http://", "https:///?x", "mailto:"] {
            assert_eq!(target(nowhere), Target::Nowhere, "{nowhere}");
        }
        for relative in ["/path", "page.html", "www.shop.test", "//shop.test"] {
            assert_eq!(target(relative), Target::Relative, "{relative}");
        }
        assert_eq!(origin("https://u@shop.test/a/b"), "https://u@shop.test");
    }

    #[test]
    fn addresses_are_seen_through() {
        for host in ["192.0.2.1", "3221225985", "0xC0000201", "2001:db8::1", "0300.0.2.1"] {
            assert!(is_address(host), "{host}");
        }
        assert!(!is_address("shop.test") && !is_address("1.shop.test"));
    }

    #[test]
    fn look_alikes_are_told_from_honest_names() {
        // "аррӏе" in Cyrillic, and "pаypal" with one Cyrillic letter.
        for host in ["xn--80ak6aa92e.com", "xn--pypal-4ve.com", "p\u{430}ypal.com"] {
            assert!(look_alike(host).is_some(), "{host}");
        }
        for host in ["shop.test", "xn--bcher-kva.example", "xn--80aswg.xn--p1ai", "例え.example"] {
            assert_eq!(look_alike(host), None, "{host}");
        }
    }
}
