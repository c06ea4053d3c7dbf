//! What is generally known of domains: where private people have their mailboxes, which mailboxes are made to
//! be thrown away, what is a slip of the finger, which domains belong together.
//!
//! Shipped lists and rules, no look-ups.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

const MAILBOXES: &str = include_str!("../../data/check/mailbox_domains.txt");
const DISPOSABLE: &str = include_str!("../../data/check/disposable_domains.txt");
const SHORTENERS: &str = include_str!("../../data/check/shorteners.txt");
const ROLES: &str = include_str!("../../data/check/roles.txt");

/// A slip in a shorter name is as likely another company's name.
const NAME_MIN: usize = 5;
/// Domains that look like a slip of a large provider's and are not.
const REAL: [&str; 8] = [
    "comcast.com",
    "email.com",
    "fmail.com",
    "orange.com",
    "rmail.com",
    "tmail.com",
    "verizon.com",
    "vmail.com",
];
/// Ends of names that are no top-level domains but slips of `com`, `net` and `org`.
const SLIPPED_ENDS: [(&str, &str); 14] = [
    ("con", "com"),
    ("cmo", "com"),
    ("ocm", "com"),
    ("vom", "com"),
    ("xom", "com"),
    ("cpm", "com"),
    ("comm", "com"),
    ("coom", "com"),
    ("ccom", "com"),
    ("col", "com"),
    ("nett", "net"),
    ("ner", "net"),
    ("ogr", "org"),
    ("orgg", "org"),
];
/// Second levels under which a country's registry gives names to everybody.
const REGISTRY_LEVELS: [&str; 14] =
    ["co", "com", "net", "org", "gov", "gob", "edu", "ac", "or", "ne", "go", "nom", "plc", "ltd"];

static KNOWN: LazyLock<Known> = LazyLock::new(Known::shipped);

struct Known {
    mailboxes: HashMap<&'static str, &'static str>,
    large: Vec<&'static str>,
    disposable: HashSet<&'static str>,
    shorteners: HashSet<&'static str>,
    roles: HashMap<&'static str, Role>,
}

/// How mail to an address of a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// In a complaint, a trap or nowhere.
    Harmful,
    /// With several people, none of whom may have asked for it.
    Shared,
}

impl Known {
    fn shipped() -> Self {
        let lines = |text: &'static str| text.lines().filter(|line| !line.starts_with('#'));
        let mut mailboxes = HashMap::new();
        let mut large = Vec::new();
        for line in lines(MAILBOXES) {
            let mut fields = line.split('\t');
            let (Some(domain), Some(provider)) = (fields.next(), fields.next()) else { continue };
            mailboxes.insert(domain, provider);
            if fields.next() == Some("large") {
                large.push(domain);
            }
        }
        let roles = lines(ROLES)
            .filter_map(|line| line.split_once('\t'))
            .map(|(local, kind)| (local, if kind == "harmful" { Role::Harmful } else { Role::Shared }));
        Self {
            mailboxes,
            large,
            disposable: lines(DISPOSABLE).collect(),
            shorteners: lines(SHORTENERS).collect(),
            roles: roles.collect(),
        }
    }
}

/// Who runs the mailboxes of a domain of private people.
pub(super) fn provider(domain: &str) -> Option<&'static str> {
    KNOWN.mailboxes.get(domain).copied()
}

/// Whether the domain or one above it is for mailboxes to be thrown away.
pub(super) fn is_disposable(domain: &str) -> bool {
    is_below(domain, |domain| KNOWN.disposable.contains(domain))
}

/// Whether the host is a public link shortener, one of `more`, or below one.
pub(super) fn is_shortener(host: &str, more: &[String]) -> bool {
    is_below(host, |host| {
        KNOWN.shorteners.contains(host) || more.iter().any(|other| other.eq_ignore_ascii_case(host))
    })
}

fn is_below(name: &str, known: impl Fn(&str) -> bool) -> bool {
    let mut rest = name;
    loop {
        if known(rest) {
            return true;
        }
        match rest.split_once('.') {
            Some((_, above)) => rest = above,
            None => return false,
        }
    }
}

/// The task a local part stands for; what follows a `+` does not count.
pub(super) fn role(local: &str) -> Option<Role> {
    let name = local.split('+').next().unwrap_or_default();
    // Longer than any in the list.
    let mut lower = [0u8; 24];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    KNOWN.roles.get(std::str::from_utf8(lower).ok()?).copied()
}

/// The domain that was meant, if this one is a likely slip.
pub(super) fn meant(domain: &str) -> Option<String> {
    if provider(domain).is_some() || REAL.contains(&domain) || is_disposable(domain) {
        return None;
    }
    let (name, end) = domain.rsplit_once('.')?;
    if let Some((_, right)) = SLIPPED_ENDS.iter().find(|(slipped, _)| *slipped == end) {
        return Some(format!("{name}.{right}"));
    }
    let is_slip = |large: &&&str| {
        let long_enough = large.split('.').next().is_some_and(|name| name.len() >= NAME_MIN);
        match slip(domain, large) {
            Some(Slip::Swap) => true,
            Some(Slip::Letter) => long_enough,
            None => false,
        }
    };
    KNOWN.large.iter().find(is_slip).map(|large| (*large).to_owned())
}

/// How one text becomes another in a single step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    /// Two neighbours the wrong way round.
    Swap,
    /// One letter too much, missing or another.
    Letter,
}

fn slip(written: &str, meant: &str) -> Option<Slip> {
    let (a, b) = (written.as_bytes(), meant.as_bytes());
    if a == b || a.len().abs_diff(b.len()) > 1 {
        return None;
    }
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[start..], &b[start..]);
    if let ([a1, a2, a_rest @ ..], [b1, b2, b_rest @ ..]) = (a, b)
        && a1 == b2
        && a2 == b1
        && a_rest == b_rest
    {
        return Some(Slip::Swap);
    }
    let is_letter = match a.len().cmp(&b.len()) {
        std::cmp::Ordering::Equal => a.get(1..) == b.get(1..),
        std::cmp::Ordering::Less => b.get(1..) == Some(a),
        std::cmp::Ordering::Greater => a.get(1..) == Some(b),
    };
    is_letter.then_some(Slip::Letter)
}

/// The part of a name that somebody registered, as far as names tell: two labels, three where the second is a
/// country registry's. Who must be sure asks the DNS (RFC 9989).
pub(super) fn organisation(domain: &str) -> &str {
    let mut dots = domain.rmatch_indices('.').map(|(at, _)| at);
    let (Some(last), second) = (dots.next(), dots.next()) else { return domain };
    let Some(second) = second else { return domain };
    let (top, level) = (&domain[last + 1..], &domain[second + 1..last]);
    if top.len() == 2 && REGISTRY_LEVELS.contains(&level) {
        return dots.next().map_or(domain, |third| &domain[third + 1..]);
    }
    &domain[second + 1..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_lists_are_sorted_lower_case_and_without_doubles() {
        for text in [MAILBOXES, DISPOSABLE, SHORTENERS, ROLES] {
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            let first = |line: &&str| line.split('\t').next().unwrap().to_owned();
            let names: Vec<String> = lines.iter().map(first).collect();
            let mut sorted = names.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(names, sorted);
            assert!(names.iter().all(|name| *name == name.to_lowercase() && !name.is_empty()));
        }
        for domain in KNOWN.disposable.iter().chain(KNOWN.mailboxes.keys()).chain(&KNOWN.shorteners) {
            assert!(crate::address::Domain::parse(domain).is_ok(), "{domain}");
            assert!(!is_disposable(domain) || provider(domain).is_none(), "{domain} is both");
        }
    }

    #[test]
    fn slips_of_large_providers_are_found() {
        for (written, right) in [
            ("gmial.com", "gmail.com"),
            ("gmal.com", "gmail.com"),
            ("gamil.com", "gmail.com"),
            ("gmaill.com", "gmail.com"),
            ("gmail.con", "gmail.com"),
            ("gmail.cm", "gmail.com"),
            ("hotmial.com", "hotmail.com"),
            ("hotmai.com", "hotmail.com"),
            ("yaho.com", "yahoo.com"),
            ("yhaoo.com", "yahoo.com"),
            ("outlok.com", "outlook.com"),
            ("iclod.com", "icloud.com"),
            ("wbe.de", "web.de"),
            ("firm.con", "firm.com"),
        ] {
            assert_eq!(meant(written).as_deref(), Some(right), "{written}");
        }
    }

    #[test]
    fn real_domains_are_no_slips() {
        for domain in [
            "gmail.com",
            "ymail.com",
            "mail.com",
            "gmx.com",
            "email.com",
            "aol.de",
            "me.com",
            "web.com",
            "one.test",
        ] {
            assert_eq!(meant(domain), None, "{domain}");
        }
        for domain in KNOWN.mailboxes.keys() {
            assert_eq!(meant(domain), None, "{domain}");
        }
    }

    #[test]
    fn a_task_is_told_from_a_person() {
        assert_eq!(role("Abuse"), Some(Role::Harmful));
        assert_eq!(role("info+shop"), Some(Role::Shared));
        assert_eq!(role("ann"), None);
        assert_eq!(role(&"a".repeat(64)), None);
    }

    #[test]
    fn what_belongs_together_has_one_organisation() {
        for (domain, organisation_of) in [
            ("a.b.shop.example", "shop.example"),
            ("shop.example", "shop.example"),
            ("www.shop.co.uk", "shop.co.uk"),
            ("shop.co.uk", "shop.co.uk"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(organisation(domain), organisation_of, "{domain}");
        }
    }
}
