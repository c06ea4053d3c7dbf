//! Which of our providers a peer's words mean: by domain, by name, by the names of exchanges.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::shaping::{Key, OTHER_NAMES, Tables, Value};

static SHIPPED: LazyLock<Tables> = LazyLock::new(Tables::shipped);

/// Domains of mailboxes and the provider whose exchanges serve them. Facts, from their MX records.
const DOMAINS: [(&str, &str); 44] = [
    ("gmail.com", "google"),
    ("googlemail.com", "google"),
    ("yahoo.com", "yahoo"),
    ("yahoo.co.uk", "yahoo"),
    ("yahoo.fr", "yahoo"),
    ("yahoo.de", "yahoo"),
    ("yahoo.it", "yahoo"),
    ("yahoo.es", "yahoo"),
    ("yahoo.ca", "yahoo"),
    ("yahoo.com.br", "yahoo"),
    ("yahoo.co.in", "yahoo"),
    ("ymail.com", "yahoo"),
    ("rocketmail.com", "yahoo"),
    ("aol.com", "yahoo"),
    ("aim.com", "yahoo"),
    ("verizon.net", "yahoo"),
    ("att.net", "yahoo"),
    ("sbcglobal.net", "yahoo"),
    ("outlook.com", "outlook"),
    ("hotmail.com", "outlook"),
    ("hotmail.co.uk", "outlook"),
    ("hotmail.fr", "outlook"),
    ("hotmail.it", "outlook"),
    ("live.com", "outlook"),
    ("msn.com", "outlook"),
    ("icloud.com", "apple"),
    ("me.com", "apple"),
    ("mac.com", "apple"),
    ("comcast.net", "comcast"),
    ("mail.com", "mail-com"),
    ("orange.fr", "orange"),
    ("wanadoo.fr", "orange"),
    ("gmx.net", "gmx"),
    ("gmx.de", "gmx"),
    ("web.de", "gmx"),
    ("t-online.de", "t-online"),
    ("yahoo.co.jp", "yahoo-japan"),
    ("qq.com", "qq"),
    ("foxmail.com", "qq"),
    ("163.com", "netease"),
    ("126.com", "netease"),
    ("mail.ru", "mail-ru"),
    ("yandex.ru", "yandex"),
    ("yandex.com", "yandex"),
];

/// The provider that serves a well-known domain.
pub(super) fn of_domain(domain: &str) -> Option<&'static str> {
    let found = DOMAINS.iter().find(|(known, _)| known.eq_ignore_ascii_case(domain));
    found.map(|(_, provider)| *provider).filter(|provider| is_shipped(provider))
}

fn is_shipped(name: &str) -> bool {
    SHIPPED.provider(name).is_some()
}

/// The shipped provider of that name, or called so elsewhere.
pub(super) fn named(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if is_shipped(&lower) {
        return Some(lower);
    }
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == lower).map(|(_, name)| *name);
    other.filter(|name| is_shipped(name)).or_else(|| of_domain(&lower)).map(str::to_owned)
}

/// A provider of ours that a peer's is, and which of the peer's suffixes are to be its own: those that it
/// takes already, and perhaps what nobody does.
pub(super) type Share = (String, Vec<String>);

/// Our providers whose exchanges the peer's `name` has with `suffixes`, by name: each shipped one that has
/// the suffix or the nearest wider one, and all with one below it. What is nobody's goes with the first that
/// has one of the others, or makes a provider called `name`.
pub(super) fn sharing(name: &str, suffixes: &[String]) -> Vec<Share> {
    let mut shares: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut first = None;
    for suffix in suffixes {
        if let Some(owner) = covering(suffix) {
            first.get_or_insert(owner);
            shares.entry(owner).or_default().push(suffix.clone());
        }
        for owner in below(suffix) {
            shares.entry(owner).or_default();
        }
    }
    let nobodys = suffixes.iter().filter(|suffix| covering(suffix).is_none());
    for suffix in nobodys {
        shares.entry(first.unwrap_or(name)).or_default().push(suffix.clone());
    }
    shares.into_iter().map(|(owner, suffixes)| (owner.to_owned(), suffixes)).collect()
}

/// The shipped provider that has `suffix`, or the nearest wider one: the longest that matches counts.
fn covering(suffix: &str) -> Option<&'static str> {
    let dots = suffix.match_indices('.').map(|(dot, _)| &suffix[dot..]);
    let mut candidates = std::iter::once(suffix).chain(dots);
    candidates.find_map(|candidate| {
        let mut providers = SHIPPED.providers();
        providers
            .find(|(_, layer)| layer.suffixes().iter().any(|known| known == candidate))
            .map(|(name, _)| name)
    })
}

/// The shipped providers that have an exchange or a suffix below `suffix`.
fn below(suffix: &str) -> impl Iterator<Item = &'static str> {
    let is_below = move |known: &String| {
        suffix.starts_with('.') && known.len() > suffix.len() && known.ends_with(suffix)
    };
    let providers = SHIPPED.providers();
    providers.filter(move |(_, layer)| layer.suffixes().iter().any(is_below)).map(|(name, _)| name)
}

/// What is to be told of a peer's provider that is several of ours.
pub(super) fn several(shares: &[Share]) -> Option<String> {
    let names: Vec<&str> = shares.iter().map(|(name, _)| name.as_str()).collect();
    (names.len() > 1).then(|| {
        format!(
            "here these are the providers {}, each with the limits and totals of its own",
            names.join(", ")
        )
    })
}

/// Whose reply rules hold for `provider`, if not its own.
pub(super) fn replies(provider: &str) -> Option<&'static str> {
    match SHIPPED.provider(provider)?.value(Key::Replies)? {
        Value::Name(other) => Some(other),
        _ => None,
    }
}

/// Whose rules those for all of `shares` become, each once.
pub(super) fn replying(shares: &[Share]) -> Vec<String> {
    let mut names: Vec<String> =
        shares.iter().map(|(name, _)| replies(name).unwrap_or(name).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// The suffixes of a shipped provider.
pub(super) fn suffixes(name: &str) -> Vec<String> {
    SHIPPED.provider(name).map(|layer| layer.suffixes().to_vec()).unwrap_or_default()
}

/// A suffix as ours are written, without what makes a peer's never match; the repairs that took.
///
/// # Errors
/// Why it could never match whatever is done.
pub(super) fn suffix(text: &str) -> Result<(String, Option<&'static str>), String> {
    let mut repair = None;
    let mut suffix = text.trim().to_owned();
    if let Some(stripped) = suffix.strip_suffix('.') {
        suffix = stripped.to_owned();
        repair = Some("it ends in a dot and never matched; here it is written without");
    }
    if suffix.bytes().any(|octet| octet.is_ascii_uppercase()) {
        suffix.make_ascii_lowercase();
        repair = repair.or(Some("it has capital letters and never matched; here it is in lower case"));
    }
    match crate::site::Providers::can_match(&suffix) {
        Ok(()) => Ok((suffix, repair)),
        Err(why) => Err(format!("it can never match an exchange: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, and the suffixes that go to each.
    fn shared(name: &str, suffixes: &[&str]) -> Vec<(String, String)> {
        let suffixes: Vec<String> = suffixes.iter().map(|suffix| (*suffix).to_owned()).collect();
        sharing(name, &suffixes).into_iter().map(|(name, own)| (name, own.join(" "))).collect()
    }

    #[test]
    fn a_suffix_is_every_provider_with_exchanges_it_matches() {
        for (suffix, expected) in [
            (".google.com", &[("google", ""), ("workspace", ".google.com")][..]),
            (".l.google.com", &[("google", ""), ("workspace", ".l.google.com")]),
            ("aspmx.l.google.com", &[("workspace", "aspmx.l.google.com")]),
            ("gmail-smtp-in.l.google.com", &[("google", "gmail-smtp-in.l.google.com")]),
            (".googlemail.com", &[("workspace", ".googlemail.com")]),
            // Nobody's besides the two has a name of its own.
            (
                ".protection.outlook.com",
                &[("office365", ""), ("outlook", ""), ("peer", ".protection.outlook.com")],
            ),
            // A host is nothing but itself.
            ("protection.outlook.com", &[("peer", "protection.outlook.com")]),
            (".pool.example", &[("peer", ".pool.example")]),
            // A suffix begins with a label.
            (".oogle.com", &[("peer", ".oogle.com")]),
        ] {
            let expected: Vec<(String, String)> =
                expected.iter().map(|(name, own)| ((*name).to_owned(), (*own).to_owned())).collect();
            assert_eq!(shared("peer", &[suffix]), expected, "{suffix}");
        }
        let expected = [("yahoo".to_owned(), ".yahoodns.net .pool.example".to_owned())];
        assert_eq!(shared("peer", &[".pool.example", ".yahoodns.net"]), expected);
    }

    #[test]
    fn rules_are_of_those_whose_replies_hold_each_once() {
        let of = |names: &[&str]| {
            replying(&names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect::<Vec<_>>())
        };
        assert_eq!(of(&["google", "workspace"]), ["google"]);
        assert_eq!(of(&["workspace"]), ["google"]);
        assert_eq!(of(&["office365", "outlook", "peer"]), ["office365", "outlook", "peer"]);
        assert_eq!(of_domain("gmail.com"), Some("google"));
    }
}
