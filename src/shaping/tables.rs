//! Everything that shaping files say, section by section, and how sections are laid over each other.
//!
//! Files first: the shipped one, then the user's in order, then `[shaping]` of the settings; within a
//! section the last that says something about a key is believed. Then sections: default, provider, site,
//! domain, source.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::file;
use super::key::{Key, Origin, Said, Section, Step, Value};
use crate::address::Domain;
use crate::config::Fault;
use crate::config::fault::listed;
use crate::site::{Grouping, Providers, Site};

/// The file that comes with this program.
const SHIPPED: &str = include_str!("../../data/shaping.toml");
/// What it is called in messages.
const SHIPPED_NAME: &str = "data/shaping.toml";

/// What one section says.
#[derive(Debug, Clone)]
pub struct Layer {
    pub said: BTreeMap<Key, Said>,
    /// Where it was last named.
    pub origin: Origin,
    /// What earlier files said in this section does not hold.
    pub(super) replace: bool,
}

impl PartialEq for Layer {
    fn eq(&self, other: &Self) -> bool {
        self.said == other.said
    }
}

impl Layer {
    pub(super) fn new(origin: Origin) -> Self {
        Self { said: BTreeMap::new(), origin, replace: false }
    }

    pub fn value(&self, key: Key) -> Option<&Value> {
        self.said.get(&key)?.value.as_ref()
    }

    /// The MX suffixes of a provider.
    pub fn suffixes(&self) -> &[String] {
        match self.value(Key::Mx) {
            Some(Value::Names(names)) => names,
            _ => &[],
        }
    }
}

/// All sections; see the head of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tables {
    sections: BTreeMap<Section, Layer>,
}

impl Tables {
    /// What comes with this program.
    pub fn shipped() -> Self {
        static TABLES: LazyLock<Tables> = LazyLock::new(|| {
            Tables::read(Path::new(SHIPPED_NAME), SHIPPED, None)
                .unwrap_or_else(|faults| panic!("a test reads it: {}", listed(&faults)))
        });
        TABLES.clone()
    }

    /// What `text` says, all of it or the table `under` in it; `file` is for messages.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read(file: &Path, text: &str, under: Option<&str>) -> Result<Self, Vec<Fault>> {
        file::read(file, text, under)
    }

    /// What is shipped, with `files` over it, a later one over an earlier, and `last` over them all.
    /// What they say together is not checked.
    ///
    /// # Errors
    /// Every mistake in each of them; a file that cannot be read.
    pub fn gathered(files: &[PathBuf], last: Self) -> Result<Self, Vec<Fault>> {
        let mut tables = Self::shipped();
        let mut faults = Vec::new();
        for file in files {
            let read = std::fs::read_to_string(file).map_err(|error| vec![unreadable(file, &error)]);
            match read.and_then(|text| Self::read(file, &text, None)) {
                Ok(read) => tables.lay(read),
                Err(found) => faults.extend(found),
            }
        }
        tables.lay(last);
        if faults.is_empty() { Ok(tables) } else { Err(faults) }
    }

    /// Lays what a later file says over this.
    pub fn lay(&mut self, later: Self) {
        for (section, mut layer) in later.sections {
            let replace = std::mem::take(&mut layer.replace);
            match self.sections.get_mut(&section) {
                Some(below) if !replace => {
                    below.said.extend(layer.said);
                    below.origin = layer.origin;
                }
                _ => {
                    self.sections.insert(section, layer);
                }
            }
        }
    }

    pub(super) fn insert(&mut self, section: Section, layer: Layer) {
        self.sections.insert(section, layer);
    }

    pub fn sections(&self) -> impl Iterator<Item = (&Section, &Layer)> {
        self.sections.iter()
    }

    pub fn section(&self, section: &Section) -> Option<&Layer> {
        self.sections.get(section)
    }

    pub fn provider(&self, name: &str) -> Option<&Layer> {
        self.sections.get(&Section::Provider(name.to_owned()))
    }

    /// Names and what is said of them.
    pub fn providers(&self) -> impl Iterator<Item = (&str, &Layer)> {
        self.sections.iter().filter_map(|(section, layer)| match section {
            Section::Provider(name) => Some((name.as_str(), layer)),
            _ => None,
        })
    }

    /// Which sites there are, as far as shaping says so.
    pub fn grouping(&self) -> Grouping {
        let providers = self.providers().map(|(name, layer)| (name, layer.suffixes()));
        let own_limits: HashSet<Domain> = self
            .sections
            .keys()
            .filter_map(|section| match section {
                Section::Domain(domain) => Some(domain.clone()),
                _ => None,
            })
            .collect();
        Grouping { providers: Providers::new(providers), own_limits }
    }

    /// The sections that say something about the path from `source` to `site`, lowest first.
    pub(super) fn on_path(&self, site: &Site, source: &str) -> Vec<Section> {
        let provider = site.provider.as_deref().map(|name| Section::Provider(name.to_owned()));
        // Of several exchanges with a section the most preferred has the last word.
        let hosts = site.exchanges.iter().rev().map(|exchange| Section::Site(exchange.host.clone()));
        let domain = site.own_limits_of.clone().map(Section::Domain);
        let all = [Section::Default].into_iter().chain(provider).chain(hosts).chain(domain);
        all.chain([Section::Source(source.to_owned())])
            .filter(|section| self.sections.contains_key(section))
            .collect()
    }

    /// What holds once `sections` are laid over each other; of a key that was unset, who unset it.
    pub(super) fn merged<'a>(&'a self, sections: &'a [Section]) -> BTreeMap<Key, (&'a Section, &'a Said)> {
        let mut merged = BTreeMap::new();
        for section in sections {
            if let Some(layer) = self.sections.get(section) {
                merged.extend(layer.said.iter().map(|(key, said)| (*key, (section, said))));
            }
        }
        merged
    }

    /// Makes days pass in seconds: `factor` times as many in a time, and every wait for a retry as much
    /// shorter. Timeouts stay, but that no connection is waited for longer than `connect_max`.
    pub fn quicken(&mut self, factor: f64, connect_max: Duration) {
        let quick = |time: &mut Duration| *time = time.div_f64(factor.max(f64::MIN_POSITIVE));
        for layer in self.sections.values_mut() {
            for (key, said) in &mut layer.said {
                match (key, &mut said.value) {
                    (Key::Timeout(Step::Connect), Some(Value::Time(time))) => *time = connect_max.min(*time),
                    (Key::Timeout(_) | Key::Idle, _) => {}
                    (_, Some(Value::Time(time))) => quick(time),
                    (_, Some(Value::Times(times))) => times.iter_mut().for_each(quick),
                    (_, Some(Value::Rates(rates))) => {
                        rates.iter_mut().for_each(|rate| *rate = rate.quickened(factor));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Gives each MX suffix a twin in the world of a rehearsal, `.google.test` beside `.google.com`, so
    /// that simulated providers meet the limits and rules of those they stand for. Where two providers
    /// would get the same twin, neither does.
    pub fn add_test_twins(&mut self) {
        let named = self.providers().flat_map(|(_, layer)| layer.suffixes());
        let mut owners: BTreeMap<String, Option<String>> = named.map(|name| (name.clone(), None)).collect();
        for (name, layer) in self.providers() {
            for suffix in layer.suffixes() {
                let Some((body, _)) = suffix.rsplit_once('.').filter(|(body, _)| !body.is_empty()) else {
                    continue;
                };
                let owner = owners.entry(format!("{body}.test")).or_insert_with(|| Some(name.to_owned()));
                if owner.as_deref().is_some_and(|owner| owner != name) {
                    *owner = None;
                }
            }
        }
        for (twin, owner) in owners {
            let layer = owner.and_then(|name| self.sections.get_mut(&Section::Provider(name)));
            let mx = layer.and_then(|layer| layer.said.get_mut(&Key::Mx));
            if let Some(Said { value: Some(Value::Names(names)), .. }) = mx {
                names.push(twin);
            }
        }
    }
}

/// As files have it, every section with `replace = true`: read back over anything, it is the same.
impl Serialize for Tables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = toml::Table::new();
        for (section, layer) in &self.sections {
            let (table, name) = section.keys();
            let place = document.entry(table).or_insert_with(|| toml::Table::new().into());
            let place = place.as_table_mut().expect("nothing but tables is put there");
            match name {
                Some(name) => {
                    place.insert(name.to_owned(), written(layer).into());
                }
                None => *place = written(layer),
            }
        }
        document.serialize(serializer)
    }
}

fn written(layer: &Layer) -> toml::Table {
    let mut table = toml::Table::from_iter([("replace".to_owned(), true.into())]);
    let mut timeouts = toml::Table::new();
    let mut unset = Vec::new();
    for (key, said) in &layer.said {
        match (&said.value, key) {
            (None, key) => unset.push(toml::Value::from(key.to_string())),
            (Some(value), Key::Timeout(step)) => {
                timeouts.insert(step.name().to_owned(), value.to_toml());
            }
            (Some(value), key) => {
                table.insert(key.name().to_owned(), value.to_toml());
            }
        }
    }
    if !unset.is_empty() {
        table.insert("unset".to_owned(), unset.into());
    }
    if !timeouts.is_empty() {
        table.insert("timeouts".to_owned(), timeouts.into());
    }
    table
}

fn unreadable(file: &Path, error: &std::io::Error) -> Fault {
    let advice = "put it there, or take it out of shaping_files".to_owned();
    Fault { file: file.to_owned(), line: 1, column: 1, what: format!("cannot be read: {error}"), advice }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn read(text: &str) -> Tables {
        Tables::read(Path::new("s.toml"), text, None).unwrap_or_else(|faults| panic!("{}", listed(&faults)))
    }

    fn value(tables: &Tables, provider: &str, key: Key) -> Option<Value> {
        tables.provider(provider).unwrap().value(key).cloned()
    }

    #[test]
    fn a_later_file_changes_a_section_key_by_key() {
        let mut tables = Tables::shipped();
        let shipped = tables.provider("google").unwrap().clone();
        tables.lay(read("[provider.google]\nsessions = 3\nunset = [\"sessions_total\"]\n"));
        assert_eq!(value(&tables, "google", Key::Sessions), Some(Value::Count(3)));
        assert_eq!(value(&tables, "google", Key::SessionsTotal), None);
        assert_eq!(value(&tables, "google", Key::Tls), shipped.value(Key::Tls).cloned());
        assert_eq!(tables.provider("google").unwrap().suffixes(), shipped.suffixes());
        tables.lay(read("[provider.google]\nreplace = true\nmx = [\".google.test\"]\n"));
        assert_eq!(tables.provider("google").unwrap().said.len(), 1);
    }

    #[test]
    fn the_shipped_providers_say_no_more_and_no_less_than_they_must() {
        let tables = Tables::shipped();
        assert!(tables.providers().count() >= 60);
        assert_eq!(tables.check(None), Ok(()));
        for (name, layer) in tables.providers() {
            assert!(!layer.suffixes().is_empty(), "{name} matches nothing");
        }
        assert!(tables.sections().all(|(section, _)| !matches!(section, Section::Source(_))));
    }

    #[test]
    fn exchanges_as_they_are_in_the_dns_find_their_providers() {
        let grouping = Tables::shipped().grouping();
        // MX records as of October 2026.
        for (provider, hosts) in [
            ("google", &["gmail-smtp-in.l.google.com", "alt4.gmail-smtp-in.l.google.com"][..]),
            ("workspace", &["aspmx.l.google.com", "alt1.aspmx.l.google.com", "aspmx2.googlemail.com"]),
            ("workspace", &["smtp.google.com"]),
            ("yahoo", &["mta5.am0.yahoodns.net", "mta7.am0.yahoodns.net"]),
            ("outlook", &["outlook-com.olc.protection.outlook.com"]),
            ("office365", &["contoso-com.mail.protection.outlook.com"]),
            ("apple", &["mx01.mail.icloud.com", "mx02.mail.icloud.com"]),
            ("comcast", &["mx1a1.comcast.net", "mx2h1.comcast.net"]),
            ("gmx", &["mx00.gmx.net", "mx01.gmx.net"]),
            ("gmx", &["mx-ha02.web.de", "mx-ha03.web.de"]),
            ("t-online", &["mx00.t-online.de", "mx03.t-online.de"]),
            ("kpn", &["mx.kpnmail.nl"]),
            ("btinternet", &["mx.bt.prod.cloud.openwave.ai"]),
            ("proofpoint", &["mxa-00360101.gslb.pphosted.com", "mxb-00360101.gslb.pphosted.com"]),
            ("trendmicro", &["oxforduni.in.tmes.trendmicro.eu"]),
            ("sophos", &["mx-01-eu-west-1.prod.hydra.sophos.com"]),
        ] {
            let hosts: Vec<Domain> = hosts.iter().map(|host| Domain::parse(host).unwrap()).collect();
            assert_eq!(grouping.providers.of(&hosts).as_deref(), Some(provider), "{hosts:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back_over_anything() {
        let mut tables = Tables::shipped();
        tables.lay(read(
            "[provider.google]\nunset = [\"tls\", \"timeouts.mail\"]\nmessages = [\"5/s burst 2\", \"100/h\"]\n\
             [site.\"mx.a.test\"]\nretry = [\"5m\", \"1h\"]\nexpiry = \"2d\"\n\
             [domain.\"a.test\".timeouts]\nconnect = \"5s\"\n[source.s]\nidle = \"0s\"\n",
        ));
        let mut read_back = Tables::shipped();
        read_back.lay(read(&toml::to_string_pretty(&tables).unwrap()));
        assert_eq!(read_back, tables);
    }

    #[test]
    fn days_pass_in_seconds_and_timeouts_do_not() {
        let mut tables = read(
            "[default]\nmessages = \"100/min\"\nretry = [\"10m\"]\nexpiry = \"10m\"\ngreylist = \"10m\"\nidle = \"10m\"\n\
             timeouts = { connect = \"1m\", mail = \"1m\" }\n",
        );
        tables.quicken(60.0, Duration::from_secs(2));
        let said = &tables.section(&Section::Default).unwrap().said;
        let value = |key| said[&key].value.clone().unwrap();
        let seconds = |n| Value::Time(Duration::from_secs(n));
        assert_eq!(value(Key::Messages), Value::Rates(vec!["100/s".parse::<Rate>().unwrap()]));
        assert_eq!(value(Key::Retry), Value::Times(vec![Duration::from_secs(10)]));
        assert_eq!((value(Key::Expiry), value(Key::Greylist)), (seconds(10), seconds(10)));
        assert_eq!(value(Key::Idle), seconds(600));
        assert_eq!(value(Key::Timeout(Step::Connect)), seconds(2));
        assert_eq!(value(Key::Timeout(Step::Mail)), seconds(60));
    }

    #[test]
    fn a_rehearsals_providers_are_those_they_stand_for() {
        let mut tables = Tables::shipped();
        tables.lay(read("[provider.mine]\nmx = [\".qq.test\", \".one.mail.test\"]\n"));
        tables.add_test_twins();
        let of = |host: &str| {
            let provider = tables.grouping().providers.of([&Domain::parse(host).unwrap()]);
            provider.map(|name| name.to_string())
        };
        assert_eq!(of("alt1.gmail-smtp-in.l.google.test").as_deref(), Some("google"));
        assert_eq!(of("aspmx.l.google.test").as_deref(), Some("workspace"));
        assert_eq!(of("alt1.gmail-smtp-in.l.google.com").as_deref(), Some("google"));
        assert_eq!(of("mx1.qq.test").as_deref(), Some("mine"), "it was there before");
        assert_eq!(of("mx.mail.test"), None, "of mail.com and mail.ru alike");
        assert_eq!(tables.check(None), Ok(()));
    }
}
