//! Providers: known operators of mail servers, told by the names of their servers.
//!
//! A suffix with a leading dot (`.google.com`) matches every name below it, one without
//! (`mx.example.com`) that name alone; the longest match counts. A site is a provider's only when all its
//! servers are. A suffix that could never match is refused, because a limit that silently does not apply
//! is worse than none.

use std::collections::HashMap;
use std::sync::Arc;

use crate::address::Domain;

/// Why a list of providers is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    #[error(
        "provider {provider}: {suffix:?} can never match a server's name: {why}; write \".example.com\" or \"mx.example.com\""
    )]
    NeverMatches { provider: String, suffix: String, why: &'static str },
    #[error("{suffix:?} belongs to both provider {first} and provider {second}; give it to one")]
    Twice { suffix: String, first: String, second: String },
    #[error("provider {0} has no MX suffixes and can never match")]
    Empty(String),
}

/// All known providers; cheap to ask.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    /// In lower case; below a name with the leading dot.
    by_suffix: HashMap<Box<str>, Arc<str>>,
}

impl Providers {
    /// From names and their MX suffixes, in any case.
    ///
    /// # Errors
    /// A suffix that can never match, or that two providers claim; a provider without any.
    pub fn new(providers: Vec<(String, Vec<String>)>) -> Result<Self, ProviderError> {
        let mut by_suffix: HashMap<Box<str>, Arc<str>> = HashMap::new();
        for (name, suffixes) in providers {
            if suffixes.is_empty() {
                return Err(ProviderError::Empty(name));
            }
            let provider: Arc<str> = name.as_str().into();
            for suffix in suffixes {
                let key = normal(&suffix).map_err(|why| ProviderError::NeverMatches {
                    provider: name.clone(),
                    suffix: suffix.clone(),
                    why,
                })?;
                if let Some(first) = by_suffix.insert(key, Arc::clone(&provider))
                    && first != provider
                {
                    return Err(ProviderError::Twice { suffix, first: first.to_string(), second: name });
                }
            }
        }
        Ok(Self { by_suffix })
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

fn normal(suffix: &str) -> Result<Box<str>, &'static str> {
    let lower = suffix.to_ascii_lowercase();
    let name = lower.strip_prefix('.').unwrap_or(&lower);
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.ends_with('.') {
        return Err("it ends in a dot, and names are compared without one");
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err("it has an empty or over-long label");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err("it has a character that no host name has (wildcards are not used here)");
    }
    if !lower.starts_with('.') && Domain::parse(name).is_err() {
        return Err("it is no full host name and has no leading dot");
    }
    Ok(lower.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers() -> Providers {
        let list = [
            ("google", &[".Google.test", ".googlemail.test"][..]),
            ("outlook", &[".protection.outlook.test"]),
            ("hotmail", &[".olc.protection.outlook.test"]),
            ("small", &["mx.small.test"]),
        ];
        let list = list.map(|(name, suffixes)| (name.into(), suffixes.iter().map(|&s| s.into()).collect()));
        Providers::new(list.into()).unwrap()
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
            let result = Providers::new(vec![("x".into(), vec![suffix.into()])]);
            assert!(matches!(result, Err(ProviderError::NeverMatches { .. })), "{suffix:?}");
        }
        let twice = vec![("x".into(), vec![".a.test".into()]), ("y".into(), vec![".A.test".into()])];
        assert!(matches!(Providers::new(twice), Err(ProviderError::Twice { .. })));
        assert!(matches!(Providers::new(vec![("x".into(), vec![])]), Err(ProviderError::Empty(_))));
    }
}
