//! A key that signs mail: for which domain, under which selector, since when, and where its secret is.
//!
//! The same stanza, `[[dkim]]`, stands in the node's settings and in a campaign's manifest. The secret is
//! named, by file or by environment variable, and never stands in either. Knows no cryptography: whether a
//! key signs is for `message` to say.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::units::domain_text;
use crate::address::{Domain, is_within};

/// Characters of a name in the DNS at most (RFC 1035 §2.3.4), without the dot at its end.
const NAME_MAX: usize = 253;
/// Characters of a label at most.
const LABEL_MAX: usize = 63;

/// Why a key's secret cannot be read; never holds any of it.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the DKIM key {what}: {reason}; put the key there (`postroad dkim keygen` makes one), or take \
     its [[dkim]] out"
)]
pub struct KeyError {
    what: String,
    reason: String,
}

/// A key that signs; exactly one of the two places is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimKey {
    #[serde(with = "domain_text")]
    pub domain: Domain,
    pub selector: String,
    /// PEM. In a file: relative to the file's folder.
    pub key_file: Option<PathBuf>,
    /// An environment variable that holds the PEM.
    pub key_env: Option<String>,
    /// The first day (UTC), like 2026-12-01, on which it signs instead of the domain's older keys of its
    /// algorithm. `None`: it is older than all that have one.
    #[serde(default, deserialize_with = "day")]
    pub since: Option<Date>,
}

impl DkimKey {
    /// Where verifiers look for its public half: `selector._domainkey.domain` (RFC 6376 §3.6.2.1).
    pub fn name(&self) -> String {
        record_name(&self.selector, &self.domain)
    }

    /// Whether the key is there to be read.
    pub fn is_present(&self) -> bool {
        match (&self.key_file, &self.key_env) {
            (Some(file), _) => file.exists(),
            (None, Some(variable)) => std::env::var_os(variable).is_some(),
            (None, None) => false,
        }
    }

    /// The key's PEM. A secret: for the signer only.
    ///
    /// # Errors
    /// What could not be read and why; never any of its content.
    pub fn pem(&self) -> Result<String, KeyError> {
        let (what, read) = match (&self.key_file, &self.key_env) {
            (Some(file), _) => {
                (file.display().to_string(), std::fs::read_to_string(file).map_err(|error| error.to_string()))
            }
            (None, Some(variable)) => {
                (format!("${variable}"), std::env::var(variable).map_err(|error| error.to_string()))
            }
            (None, None) => (self.selector.clone(), Err("neither key_file nor key_env is given".to_owned())),
        };
        read.map_err(|reason| KeyError { what, reason })
    }

    /// Takes a relative path as one below `folder`.
    pub(crate) fn relate(&mut self, folder: &Path) {
        self.key_file = self.key_file.take().map(|path| folder.join(path));
    }
}

/// `selector._domainkey.domain`.
pub fn record_name(selector: &str, domain: &Domain) -> String {
    format!("{selector}._domainkey.{domain}")
}

/// Why `selector` cannot be one of `domain`, if so: it is not made of DNS labels (RFC 6376 §3.1; `_` is
/// borne, for some providers hand it out), or the name of its record would be too long.
pub fn selector_mistake(selector: &str, domain: &Domain) -> Option<String> {
    let is_label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(allowed)
    };
    if !selector.split('.').all(is_label) {
        return Some(format!("`{selector}` is no DKIM selector"));
    }
    let octets = record_name(selector, domain).len();
    (octets > NAME_MAX).then(|| {
        format!(
            "the record of `{selector}` for {domain} would have a name of {octets} octets, above {NAME_MAX}"
        )
    })
}

/// The keys for mail from `from`: those of that domain, or else of the closest domain above it that has any.
/// Both are aligned for DMARC as it is published by default (RFC 9989, relaxed alignment).
pub fn of_sender<'a>(keys: &'a [DkimKey], from: &Domain) -> Vec<&'a DkimKey> {
    let is_above = |key: &&DkimKey| is_within(from.as_str(), key.domain.as_str());
    let octets = |key: &DkimKey| key.domain.as_str().len();
    let closest = keys.iter().filter(is_above).map(octets).max();
    // Of domains above the same one, those of the same length are the same.
    keys.iter().filter(is_above).filter(|key| Some(octets(key)) == closest).collect()
}

/// A mistake in a list of keys: the keys that lead to it from there, what is wrong, what to do.
pub(crate) type Mistake = ([String; 2], String, &'static str);

/// The first thing that types cannot rule out: a name that cannot be looked up, two keys of one name, a key
/// with no place or with two.
pub(crate) fn mistake(keys: &[DkimKey]) -> Option<Mistake> {
    let mut names = HashSet::new();
    for (at, key) in keys.iter().enumerate() {
        let refuse = |what: String, advice| Some(([at.to_string(), "selector".to_owned()], what, advice));
        let DkimKey { selector, domain, .. } = key;
        if let Some(what) = selector_mistake(selector, domain) {
            return refuse(what, "use labels of 1 to 63 letters, digits and -, like s2026 or a.s2026");
        }
        if !names.insert(key.name().to_ascii_lowercase()) {
            let what = format!("there are two keys of the selector `{selector}` for {domain}");
            return refuse(what, "a name in the DNS stands for one key: give each its own selector");
        }
        let advice = "give one of key_file (PEM) and key_env (a variable that holds the PEM)";
        match (&key.key_file, &key.key_env) {
            (Some(_), Some(_)) => return refuse(format!("the key `{selector}` has two places"), advice),
            (None, None) => return refuse(format!("the key `{selector}` has no place"), advice),
            _ => {}
        }
    }
    None
}

/// A day, as a text or as TOML's own kind of date.
fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    struct Day;

    impl<'de> Visitor<'de> for Day {
        type Value = Date;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a day like 2026-12-01")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Date, E> {
            // The parser takes a time behind the day, too, which would be dropped in silence.
            let is_day = text.len() == "2026-12-01".len();
            let day = is_day.then(|| text.parse().ok()).flatten();
            day.ok_or_else(|| E::custom(format!("`{text}` is no day: write it like 2026-12-01")))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Date, A::Error> {
            let date = toml::value::Datetime::deserialize(MapAccessDeserializer::new(map))?;
            self.visit_str(&date.to_string())
        }
    }

    deserializer.deserialize_any(Day).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(domain: &str, selector: &str) -> DkimKey {
        DkimKey {
            domain: Domain::parse(domain).unwrap(),
            selector: selector.to_owned(),
            key_file: Some("key.pem".into()),
            key_env: None,
            since: None,
        }
    }

    fn selectors(keys: &[DkimKey], from: &str) -> Vec<String> {
        let found = of_sender(keys, &Domain::parse(from).unwrap());
        found.into_iter().map(|key| key.selector.clone()).collect()
    }

    #[test]
    fn the_closest_domain_with_keys_signs() {
        let keys = [key("shop.test", "a"), key("news.shop.test", "b"), key("shop.test", "c")];
        assert_eq!(selectors(&keys, "shop.test"), ["a", "c"]);
        assert_eq!(selectors(&keys, "mail.shop.test"), ["a", "c"]);
        assert_eq!(selectors(&keys, "news.shop.test"), ["b"]);
        assert_eq!(selectors(&keys, "x.news.shop.test"), ["b"]);
        for stranger in ["other.test", "myshop.test", "shop.test.example"] {
            assert_eq!(selectors(&keys, stranger), [""; 0], "{stranger}");
        }
    }

    #[test]
    fn a_day_is_read_as_text_or_as_a_date_and_written_as_it_reads() {
        let read = |since: &str| {
            toml::from_str::<DkimKey>(&format!("domain = \"a.test\"\nselector = \"s\"\nsince = {since}\n"))
        };
        let key = read("\"2026-12-01\"").unwrap();
        assert_eq!(key.since, Some(Date::new(2026, 12, 1).unwrap()));
        assert_eq!(read("2026-12-01").unwrap(), key);
        assert_eq!(toml::from_str::<DkimKey>(&toml::to_string(&key).unwrap()).unwrap(), key);
        for wrong in
            ["\"soon\"", "\"2026-02-30\"", "2026-12-01T10:00:00Z", "10:00:00", "\"2026-12-01 10:00\""]
        {
            let complaint = read(wrong).expect_err(wrong).to_string();
            assert!(complaint.contains("is no day: write it like 2026-12-01"), "{complaint}");
        }
        assert!(read("20261201").expect_err("a number").to_string().contains("a day like"));
    }

    #[test]
    fn names_that_cannot_be_looked_up_are_mistakes() {
        let domain = Domain::parse("a.test").unwrap();
        for good in ["s", "s2026", "a.b-c", "_x", &"s".repeat(63)] {
            assert_eq!(selector_mistake(good, &domain), None, "{good}");
        }
        for bad in ["", "a..b", ".a", "a b", "ä", "a;b", "a\r\n", &"s".repeat(64)] {
            assert!(selector_mistake(bad, &domain).is_some(), "{bad:?}");
        }
        // 253 and 254 octets: `x.`×n + `._domainkey.a.test`.
        let label = "s".repeat(58);
        let fits = [label.as_str(); 4].join(".");
        assert_eq!(record_name(&fits, &domain).len(), 253);
        assert_eq!(selector_mistake(&fits, &domain), None);
        let long = fits + "x";
        assert!(selector_mistake(&long, &domain).unwrap().contains("254 octets"));
    }
}
