//! Providers: known operators of mail servers, told by the names of their servers.
//!
//! A suffix with a leading dot (`.google.com`) matches every name below it, one without
//! (`mx.example.com`) that name alone; the longest match counts. A site is a provider's only when all its
//! servers are.

use std::collections::HashMap;
use std::sync::Arc;

use crate::address::Domain;

/// All known providers; cheap to ask.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    /// In lower case; below a name with the leading dot.
    by_suffix: HashMap<Box<str>, Arc<str>>,
}

impl Providers {
    /// From names and their suffixes, in lower case; each suffix belongs to the last that names it.
    pub fn new<'a>(providers: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Self {
        let mut by_suffix = HashMap::new();
        for (name, suffixes) in providers {
            let provider: Arc<str> = name.into();
            by_suffix.extend(suffixes.iter().map(|suffix| (suffix.as_str().into(), Arc::clone(&provider))));
        }
        Self { by_suffix }
    }

    /// Whether a server's name could ever match `suffix`.
    ///
    /// # Errors
    /// Why none could.
    pub fn can_match(suffix: &str) -> Result<(), &'static str> {
        let name = suffix.strip_prefix('.').unwrap_or(suffix);
        if name.is_empty() {
            return Err("it is empty");
        }
        if name.ends_with('.') {
            return Err("it ends in a dot, and names are compared without one");
        }
        if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            return Err("it has an empty or over-long label");
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("names are compared in lower case");
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err("it has a character that no host name has (wildcards are not used here)");
        }
        if !suffix.starts_with('.') && Domain::parse(name).is_err() {
            return Err("it is no full host name and has no leading dot");
        }
        Ok(())
    }

    /// The provider that runs all of `hosts`; `None` when they differ, one is unknown, or there are none.
    pub fn of<'a>(&self, hosts: impl IntoIterator<Item = &'a Domain>) -> Option<Arc<str>> {
        let mut hosts = hosts.into_iter();
        let provider = self.of_host(hosts.next()?)?;
        hosts.all(|host| self.of_host(host) == Some(provider)).then(|| Arc::clone(provider))
    }

    fn of_host(&self, host: &Domain) -> Option<&Arc<str>> {
        let host = host.as_str();
        let exact = self.by_suffix.get(host);
        exact.or_else(|| {
            let dots = host.match_indices('.');
            dots.filter_map(|(dot, _)| self.by_suffix.get(&host[dot..])).next()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers() -> Providers {
        let list = [
            ("google", &[".google.test", ".googlemail.test"][..]),
            ("outlook", &[".protection.outlook.test"]),
            ("hotmail", &[".olc.protection.outlook.test"]),
            ("small", &["mx.small.test"]),
        ];
        let list = list.map(|(name, suffixes)| (name, suffixes.iter().map(|&s| s.to_owned()).collect()));
        let list: Vec<(&str, Vec<String>)> = list.into();
        Providers::new(list.iter().map(|(name, suffixes)| (*name, &suffixes[..])))
    }

    fn of(hosts: &[&str]) -> Option<String> {
        let hosts: Vec<Domain> = hosts.iter().map(|host| Domain::parse(host).unwrap()).collect();
        providers().of(&hosts).map(|provider| provider.to_string())
    }

    #[test]
    fn all_hosts_must_be_of_the_same_provider() {
        assert_eq!(of(&["alt1.aspmx.l.google.test", "aspmx2.googlemail.test"]).as_deref(), Some("google"));
        assert_eq!(of(&["aspmx.l.google.test", "mx.elsewhere.test"]), None);
        assert_eq!(of(&["mx.elsewhere.test", "aspmx.l.google.test"]), None);
        assert_eq!(of(&["aspmx.l.google.test", "mx.small.test"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_suffix_begins_at_a_label_and_the_longest_counts() {
        assert_eq!(of(&["mx.notgoogle.test"]), None);
        assert_eq!(of(&["google.test"]), None, "the name itself is not below itself");
        assert_eq!(of(&["mx.small.test"]).as_deref(), Some("small"));
        assert_eq!(of(&["a.mx.small.test"]), None);
        assert_eq!(of(&["x.protection.outlook.test"]).as_deref(), Some("outlook"));
        assert_eq!(of(&["x.olc.protection.outlook.test"]).as_deref(), Some("hotmail"));
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for suffix in
            ["", ".", ".example.test.", "..test", "*.example.test", "example", ".a b.test", "192.0.2.1"]
        {
            assert!(Providers::can_match(suffix).is_err(), "{suffix:?}");
        }
        for suffix in [".example.test", ".test", "mx.example.test"] {
            assert_eq!(Providers::can_match(suffix), Ok(()), "{suffix:?}");
        }
    }
}
