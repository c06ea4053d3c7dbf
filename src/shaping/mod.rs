//! Shaping: what each path may do, who says so, and the ceilings a provider has over all paths.
//!
//! ```text
//! file      the grammar: text → sections, every value with its place     key    the words of it
//! tables    all sections; files over files, sections over sections       check  what cannot be meant
//! limits    what comes of it for a path       ceilings   and for a provider over all paths
//! live      swapped in whole when a file changes and checks out
//! rate      limiters
//! ```
//!
//! A pure merge of what files say, plus the limiters that several paths share. Paths own their own
//! limiters; what is shared here is lock-free. Does not know who sends what, nor what replies mean.

mod ceilings;
mod check;
mod file;
mod key;
mod limits;
mod live;
pub mod rate;
mod tables;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Fault;
use crate::site::Site;
use crate::smtp::TlsPolicy;
pub use ceilings::Ceilings;
use ceilings::Totals;
pub(crate) use check::OTHER_NAMES;
pub use key::{Key, Origin, Said, Section, Step, Value};
pub use limits::Limits;
pub use live::Live;
use rate::Credit;
pub use tables::{Layer, Tables};

/// Every limit of the node, ready to be asked by path.
#[derive(Debug)]
pub struct Shaping {
    tables: Tables,
    /// What the campaign asks for; it wins where it is stricter.
    campaign_tls: Option<TlsPolicy>,
    ceilings: HashMap<Arc<str>, Arc<Ceilings>>,
    none: Arc<Ceilings>,
    /// Limits that were asked for, by the sections they come from.
    merged: Mutex<HashMap<Vec<Section>, Arc<Limits>>>,
}

/// A line of what holds for a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub key: Key,
    /// `None`: there is no such limit.
    pub value: Option<Value>,
    pub section: Section,
    pub origin: Origin,
}

impl Shaping {
    pub fn new(tables: Tables, campaign_tls: Option<TlsPolicy>, credit: Credit) -> Self {
        let ceilings = tables
            .providers()
            .map(|(name, layer)| (name.into(), Arc::new(Ceilings::new(Totals::of(layer), credit))))
            .collect();
        Self { tables, campaign_tls, ceilings, none: Arc::default(), merged: Mutex::default() }
    }

    /// What comes after this: other tables, and the ceilings as far as they stay what they are.
    fn changed(&self, tables: Tables) -> Self {
        let ceilings = tables.providers().map(|(name, layer)| {
            let said = Totals::of(layer);
            let ceilings = match self.ceilings.get(name) {
                Some(before) if before.said == said => before.clone(),
                Some(before) => Arc::new(before.changed(said, Credit::Empty)),
                None => Arc::new(Ceilings::new(said, Credit::Empty)),
            };
            (name.into(), ceilings)
        });
        Self {
            ceilings: ceilings.collect(),
            tables,
            campaign_tls: self.campaign_tls,
            none: self.none.clone(),
            merged: Mutex::default(),
        }
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The limits of the path from `source` to `site`.
    pub fn limits(&self, site: &Site, source: &str) -> Arc<Limits> {
        let sections = self.tables.on_path(site, source);
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        merged.entry(sections).or_insert_with_key(|sections| Arc::new(self.merge(sections))).clone()
    }

    fn merge(&self, sections: &[Section]) -> Limits {
        let mut limits = Limits::default();
        for (key, (_, said)) in self.tables.merged(sections) {
            if let Some(value) = &said.value {
                limits.set(key, value);
            }
        }
        limits.tls = limits.tls.max(self.campaign_tls.unwrap_or(limits.tls));
        limits
    }

    /// What `provider` bears over all paths; nothing limits a site of none.
    pub fn ceilings(&self, provider: Option<&str>) -> Arc<Ceilings> {
        provider.and_then(|name| self.ceilings.get(name)).unwrap_or(&self.none).clone()
    }

    /// Whose reply rules hold for `provider`: another's, or its own.
    pub fn replies_of<'a>(&'a self, provider: &'a str) -> &'a str {
        match self.tables.provider(provider).and_then(|layer| layer.value(Key::Replies)) {
            Some(Value::Name(other)) => other,
            _ => provider,
        }
    }

    /// What files say about the path from `source` to `site`, and which line of which file does.
    pub fn explain(&self, site: &Site, source: &str) -> Vec<Line> {
        let sections = self.tables.on_path(site, source);
        let lines = self.tables.merged(&sections).into_iter().map(|(key, (section, said))| Line {
            key,
            value: said.value.clone(),
            section: section.clone(),
            origin: said.origin.clone(),
        });
        lines.collect()
    }
}

impl Tables {
    /// # Errors
    /// Everything that they say together and cannot mean; `sources` are those there are, if known.
    pub fn check(&self, sources: Option<&[&str]>) -> Result<(), Vec<Fault>> {
        let faults = check::check(self, sources);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Every mistake of shaping files, each by itself and all laid over what is shipped.
pub fn check_files(paths: &[PathBuf]) -> Vec<Fault> {
    let gathered = Tables::gathered(paths, Tables::default());
    gathered.and_then(|tables| tables.check(None)).err().unwrap_or_default()
}

/// As [`check_files`], of one.
pub fn check_file(path: &Path) -> Vec<Fault> {
    check_files(&[path.to_owned()])
}

/// Whether a file is one of limits, going by the sections in it: a file of anything else has none of them.
pub fn is_shaping(text: &str) -> bool {
    file::has_sections(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::address::Domain;
    use crate::config::Timeouts;
    use crate::site::Exchange;

    fn tables(text: &str) -> Tables {
        let mut tables = Tables::shipped();
        tables.lay(Tables::read(Path::new("s.toml"), text, None).unwrap());
        tables
    }

    fn shaping(text: &str) -> Shaping {
        Shaping::new(tables(text), None, Credit::Full)
    }

    fn site(shaping: &Shaping, domain: &str, hosts: &[&str]) -> Site {
        let exchange =
            |(preference, host): (u16, &&str)| Exchange { preference, host: Domain::parse(host).unwrap() };
        let exchanges = (1..).zip(hosts).map(exchange).collect();
        shaping.tables().grouping().site(&Domain::parse(domain).unwrap(), exchanges, false)
    }

    /// Each layer says one thing more than the one below, which it has the last word on.
    const LAYERS: &str = r#"
        [default]
        sessions = 1
        messages_per_session = 1
        idle = "1s"
        expiry = "1d"
        greylist = "1m"
        [provider.p]
        mx = [".p.test"]
        messages_per_session = 2
        idle = "2s"
        expiry = "2d"
        greylist = "2m"
        [site."mx2.p.test"]
        idle = "3s"
        expiry = "3d"
        greylist = "3m"
        [domain."own.test"]
        expiry = "4d"
        greylist = "4m"
        [source.s]
        greylist = "5m"
    "#;

    #[test]
    fn sections_lie_over_each_other_in_order() {
        let shaping = shaping(LAYERS);
        let said = |domain: &str, hosts: &[&str], source: &str| {
            let limits = shaping.limits(&site(&shaping, domain, hosts), source);
            let days = limits.expiry.unwrap().as_secs() / 86_400;
            let (idle, greylist) = (limits.idle.as_secs(), limits.greylist.as_secs() / 60);
            (limits.sessions, limits.messages_per_session.unwrap(), idle, days, greylist)
        };
        assert_eq!(said("a.test", &["mx.a.test"], "x"), (1, 1, 1, 1, 1));
        assert_eq!(said("a.test", &["mx1.p.test"], "x"), (1, 2, 2, 2, 2));
        assert_eq!(said("a.test", &["mx1.p.test", "mx2.p.test"], "x"), (1, 2, 3, 3, 3));
        assert_eq!(said("own.test", &["mx2.p.test"], "x"), (1, 2, 3, 4, 4));
        assert_eq!(said("own.test", &["mx2.p.test"], "s"), (1, 2, 3, 4, 5));
        assert_eq!(said("a.test", &["mx.a.test"], "s"), (1, 1, 1, 1, 5));
    }

    #[test]
    fn the_most_preferred_of_two_exchanges_has_the_last_word() {
        let shaping = shaping("[site.\"a.x.test\"]\nsessions = 3\n[site.\"b.x.test\"]\nsessions = 4\n");
        let sessions = |hosts| shaping.limits(&site(&shaping, "d.test", hosts), "").sessions;
        assert_eq!(sessions(&["a.x.test", "b.x.test"]), 3);
        assert_eq!(sessions(&["b.x.test", "a.x.test"]), 4);
    }

    #[test]
    fn a_value_that_is_unset_is_the_programs_own() {
        let text = "[provider.p]\nmx = [\".p.test\"]\nunset = [\"messages\", \"timeouts\", \"tls\", \"idle\"]\n\
                    [default]\ntimeouts = { mail = \"1s\" }\ntls = \"verified\"\n";
        let shaping = shaping(text);
        let here = site(&shaping, "a.test", &["mx.p.test"]);
        let limits = shaping.limits(&here, "");
        assert_eq!((limits.messages.clone(), limits.timeouts.clone()), (vec![], Timeouts::default()));
        assert_eq!((limits.tls, limits.idle), (TlsPolicy::Opportunistic, Duration::ZERO));
        let line = shaping.explain(&here, "").into_iter().find(|line| line.key == Key::Messages).unwrap();
        assert_eq!((line.value, line.origin.to_string().as_str()), (None, "s.toml:3"));
    }

    #[test]
    fn every_line_says_who_set_it() {
        let shaping = shaping("[provider.google]\nsessions = 3\n\n[source.s]\nmessages = \"7/min\"\n");
        let gmail = site(&shaping, "gmail.test", &["gmail-smtp-in.l.google.com"]);
        let lines = shaping.explain(&gmail, "s");
        let line = |key| lines.iter().find(|line| line.key == key).unwrap();
        let (sessions, messages) = (line(Key::Sessions), line(Key::Messages));
        assert_eq!(
            (sessions.origin.to_string().as_str(), sessions.section.to_string().as_str()),
            ("s.toml:2", "[provider.google]")
        );
        assert_eq!(messages.value.as_ref().unwrap().to_string(), "7/min");
        assert_eq!((messages.origin.line, messages.section.to_string().as_str()), (5, "[source.s]"));
        assert_eq!(line(Key::Idle).section, Section::Default);
        assert_eq!(line(Key::Tls).origin.file.as_ref(), Path::new("data/shaping.toml"));
    }

    #[test]
    fn a_campaign_can_ask_for_more_tls_and_not_for_less() {
        let tls = |campaign| {
            let shaping = Shaping::new(tables("[default]\ntls = \"required\"\n"), campaign, Credit::Full);
            shaping.limits(&site(&shaping, "a.test", &["mx.a.test"]), "").tls
        };
        assert_eq!(tls(Some(TlsPolicy::Verified)), TlsPolicy::Verified);
        assert_eq!(tls(Some(TlsPolicy::Off)), TlsPolicy::Required);
        assert_eq!(tls(None), TlsPolicy::Required);
    }

    #[test]
    fn replies_may_mean_what_anothers_do() {
        let shaping = shaping("");
        assert_eq!(shaping.replies_of("workspace"), "google");
        assert_eq!(shaping.replies_of("google"), "google");
        assert_eq!(shaping.replies_of("nobody"), "nobody");
    }
}
