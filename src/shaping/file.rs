//! The grammar of shaping files: text to tables, with the place of every value.
//!
//! ```toml
//! [default]                       # of every path
//! [provider.NAME]                 # mx, replies, totals, and all the others
//! [site."mx1.example.com"]        # the sites that have this exchange
//! [domain."example.com"]          # this domain, which becomes a site of its own
//! [source.NAME]                   # has the last word
//! ```
//!
//! Any section may say `unset = ["key", …]` (forget what was said so far) and `replace = true` (forget
//! what earlier files said in this section). All mistakes of a file are found, not only the first. What
//! sections say together is for [`super::check`].

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Kind, Origin, Said, Section, Step, Value};
use super::tables::{Layer, Tables};
use crate::address::Domain;
use crate::config::units::parse_duration;
use crate::config::{Fault, Rate, TlsPolicy, fault};
use crate::site::Providers;

const SECTIONS: [&str; 5] = ["default", "provider", "site", "domain", "source"];

/// What `text` says, in all of it or in the table `under` of it.
///
/// # Errors
/// Every mistake in it.
pub(super) fn read(file: &Path, text: &str, under: Option<&str>) -> Result<Tables, Vec<Fault>> {
    let document = DeTable::parse(text).map_err(|error| vec![Fault::from_toml(file, text, &error)])?;
    let mut reader =
        Reader { places: Places::new(file, text), tables: Tables::default(), faults: Vec::new() };
    match under {
        None => reader.document(document.get_ref()),
        Some(table) => {
            if let Some(value) = document.get_ref().get(table)
                && let Some(table) = reader.table(value)
            {
                reader.document(table);
            }
        }
    }
    if reader.faults.is_empty() {
        return Ok(reader.tables);
    }
    reader.faults.sort_by_key(|fault| (fault.line, fault.column));
    Err(reader.faults)
}

/// Whether there is any section of limits in `text`.
pub(super) fn has_sections(text: &str) -> bool {
    let document = DeTable::parse(text);
    document.is_ok_and(|document| SECTIONS.iter().any(|section| document.get_ref().contains_key(*section)))
}

/// Lines and columns of a file.
struct Places<'a> {
    file: Arc<Path>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(file: &Path, text: &'a str) -> Self {
        let line_starts = [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text, line_starts }
    }

    fn of(&self, span: Range<usize>) -> Origin {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..span.start).map_or(1, |before| before.chars().count() + 1);
        Origin { file: self.file.clone(), line, column }
    }
}

struct Reader<'a> {
    places: Places<'a>,
    tables: Tables,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, span: Range<usize>, what: impl Into<String>, advice: impl Into<String>) {
        self.faults.push(self.places.of(span).fault(what, advice));
    }

    fn wrong_kind(&mut self, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let what = format!("this is of the kind {}", value.get_ref().type_str());
        self.fault(value.span(), what, format!("write {wanted}"));
    }

    fn table<'v, 'i>(&mut self, value: &'v Spanned<DeValue<'i>>) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_kind(value, "a table");
        }
        table
    }

    fn document(&mut self, document: &DeTable<'_>) {
        for (key, value) in document {
            let name = key.get_ref().as_ref();
            if !SECTIONS.contains(&name) {
                let what = format!("unknown key `{name}`");
                self.fault(key.span(), what, fault::suggestion(name, &SECTIONS));
            } else if let Some(table) = self.table(value) {
                if name == "default" {
                    self.section(Section::Default, key.span(), table);
                    continue;
                }
                for (key, value) in table {
                    if let Some(section) = self.named(name, key)
                        && let Some(table) = self.table(value)
                    {
                        self.section(section, key.span(), table);
                    }
                }
            }
        }
    }

    fn named(&mut self, table: &str, key: &Spanned<std::borrow::Cow<'_, str>>) -> Option<Section> {
        let name = key.get_ref().as_ref();
        match table {
            "provider" => return Some(Section::Provider(name.to_owned())),
            "source" => return Some(Section::Source(name.to_owned())),
            _ => {}
        }
        match Domain::parse(name) {
            Ok(host) if table == "site" => Some(Section::Site(host)),
            Ok(domain) => Some(Section::Domain(domain)),
            Err(error) => {
                let what = format!("`{name}` is no {table}'s name: {error}");
                let advice = if table == "site" {
                    "name one of its exchanges in full, like [site.\"mx1.example.com\"]"
                } else {
                    "name it in full and in quotes, like [domain.\"example.com\"]"
                };
                self.fault(key.span(), what, advice);
                None
            }
        }
    }

    fn section(&mut self, section: Section, at: Range<usize>, table: &DeTable<'_>) {
        let is_provider = matches!(section, Section::Provider(_));
        let keys: Vec<Key> =
            Key::ALL.into_iter().filter(|key| is_provider || !key.is_of_providers()).collect();
        let mut layer = Layer::new(self.places.of(at));
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "replace" => match value.get_ref().as_bool() {
                    Some(replace) => layer.replace = replace,
                    None => self.wrong_kind(value, "true or false"),
                },
                "unset" => {}
                "timeouts" => {
                    if let Some(timeouts) = self.table(value) {
                        self.timeouts(timeouts, &mut layer);
                    }
                }
                name => match keys.iter().find(|key| key.name() == name) {
                    Some(key) => self.say(*key, value, &mut layer),
                    None => self.unknown(key.span(), name, &section, &keys),
                },
            }
        }
        if let Some(value) = table.get("unset") {
            self.unset(value, &keys, &mut layer);
        }
        self.tables.insert(section, layer);
    }

    fn unknown(&mut self, span: Range<usize>, name: &str, section: &Section, keys: &[Key]) {
        let of_providers = Key::ALL.iter().any(|key| key.is_of_providers() && key.name() == name);
        if of_providers {
            let what = format!("`{name}` says nothing in {section}");
            return self.fault(span, what, "give it in a [provider.NAME]: only a provider has it");
        }
        let known: Vec<&str> =
            keys.iter().map(|key| key.name()).chain(["timeouts", "unset", "replace"]).collect();
        self.fault(span, format!("unknown key `{name}`"), fault::suggestion(name, &known));
    }

    fn timeouts(&mut self, table: &DeTable<'_>, layer: &mut Layer) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match Step::ALL.into_iter().find(|step| step.name() == name) {
                Some(step) => self.say(Key::Timeout(step), value, layer),
                None => {
                    let advice = fault::suggestion(name, &Step::ALL.map(Step::name));
                    self.fault(key.span(), format!("unknown key `{name}`"), advice);
                }
            }
        }
    }

    fn unset(&mut self, value: &Spanned<DeValue<'_>>, keys: &[Key], layer: &mut Layer) {
        for (name, span) in self.strings(value, "a list of keys, like [\"tls\", \"timeouts.connect\"]") {
            let steps = Step::ALL.into_iter().map(Key::Timeout);
            let named: Vec<Key> = if name == "timeouts" {
                steps.filter(|key| !layer.said.contains_key(key)).collect()
            } else {
                keys.iter().copied().chain(steps).filter(|key| key.to_string() == name).collect()
            };
            if named.is_empty() {
                let known: Vec<&str> = keys.iter().map(|key| key.name()).chain(["timeouts"]).collect();
                self.fault(span.clone(), format!("unknown key `{name}`"), fault::suggestion(&name, &known));
            }
            for key in named {
                let said = Said { value: None, origin: self.places.of(span.clone()) };
                if layer.said.insert(key, said).is_some_and(|said| said.value.is_some()) {
                    let what = format!("`{key}` is both given and unset here");
                    self.fault(span.clone(), what, "do one of them");
                }
            }
        }
    }

    fn say(&mut self, key: Key, value: &Spanned<DeValue<'_>>, layer: &mut Layer) {
        let read = match key.kind() {
            Kind::Names => self.suffixes(value),
            Kind::Name => self.string(value, "a provider's name").map(|(name, _)| Value::Name(name)),
            Kind::Count => self.count(key, value),
            Kind::Rates => self.rates(value),
            Kind::Tls => self.tls(value),
            Kind::Time => self
                .string(value, "a time, like \"30s\"")
                .and_then(|text| self.time(key, text))
                .map(Value::Time),
            Kind::Times => self.times(key, value),
        };
        if let Some(value_read) = read {
            let said = Said { value: Some(value_read), origin: self.places.of(value.span()) };
            layer.said.insert(key, said);
        }
    }

    fn string(&mut self, value: &Spanned<DeValue<'_>>, wanted: &str) -> Option<(String, Range<usize>)> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_kind(value, wanted);
        }
        Some((text?.to_owned(), value.span()))
    }

    fn strings(&mut self, value: &Spanned<DeValue<'_>>, wanted: &str) -> Vec<(String, Range<usize>)> {
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_kind(value, wanted);
            return Vec::new();
        };
        if items.is_empty() {
            self.fault(value.span(), "the list is empty", format!("write {wanted}, or leave the key out"));
        }
        items.iter().filter_map(|item| self.string(item, wanted)).collect()
    }

    fn count(&mut self, key: Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let count = value.get_ref().as_integer().map(|n| u32::from_str_radix(n.as_str(), n.radix()));
        match count {
            Some(Ok(0)) => {
                self.fault(value.span(), format!("{key} is 0"), "at least 1 is needed to send");
                None
            }
            Some(Ok(count)) => Some(Value::Count(count)),
            Some(Err(_)) => {
                self.fault(
                    value.span(),
                    format!("{key} is out of range"),
                    "write a number from 1 to 4294967295",
                );
                None
            }
            None => {
                self.wrong_kind(value, "a number, like 10");
                None
            }
        }
    }

    fn rates(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let wanted = "a rate, like \"100/min\", or a list of rates";
        let texts = match value.get_ref() {
            DeValue::Array(_) => self.strings(value, wanted),
            _ => self.string(value, wanted).into_iter().collect(),
        };
        let before = self.faults.len();
        let mut rates: Vec<Rate> = Vec::new();
        for (text, span) in texts {
            match text.parse::<Rate>() {
                Ok(rate) if rates.iter().any(|other| other.per == rate.per) => {
                    self.fault(
                        span,
                        format!("`{rate}` is a second rate for the same time"),
                        "give the lower one",
                    );
                }
                Ok(rate) => rates.push(rate),
                Err(error) => self.fault(span, error.to_string(), ""),
            }
        }
        (self.faults.len() == before && !rates.is_empty()).then_some(Value::Rates(rates))
    }

    fn tls(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let names = TlsPolicy::ALL.map(TlsPolicy::name);
        let (text, span) = self.string(value, "a TLS policy, like \"required\"")?;
        let policy = TlsPolicy::ALL.into_iter().find(|policy| policy.name() == text);
        if policy.is_none() {
            self.fault(span, format!("`{text}` is no TLS policy"), fault::suggestion(&text, &names));
        }
        policy.map(Value::Tls)
    }

    fn time(&mut self, key: Key, (text, span): (String, Range<usize>)) -> Option<std::time::Duration> {
        match parse_duration(&text) {
            Ok(time) if time.is_zero() && !key.may_be_zero() => {
                let advice = "nothing happens in no time; give a time like \"5m\", or leave it out";
                self.fault(span, format!("{} is 0", key.name()), advice);
                None
            }
            Ok(time) => Some(time),
            Err(error) => {
                self.fault(span, error.to_string(), "");
                None
            }
        }
    }

    fn times(&mut self, key: Key, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let texts = self.strings(value, "a list of times, like [\"5m\", \"30m\", \"2h\"]");
        let times: Vec<_> = texts.into_iter().filter_map(|text| self.time(key, text)).collect();
        (!times.is_empty()).then_some(Value::Times(times))
    }

    /// Suffixes and host names of exchanges; one that could never match is a mistake.
    fn suffixes(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        let mut suffixes: Vec<String> = Vec::new();
        for (suffix, span) in self.strings(value, "a list of exchange names, like [\".example.com\"]") {
            match Providers::can_match(&suffix) {
                Err(why) => {
                    let what = format!("`{suffix}` can never match an exchange: {why}");
                    self.fault(
                        span,
                        what,
                        "write \".example.com\" for all names below it, or one name in full",
                    );
                }
                Ok(()) if suffixes.contains(&suffix) => {
                    self.fault(span, format!("`{suffix}` is named twice"), "once is enough");
                }
                Ok(()) => suffixes.push(suffix),
            }
        }
        (!suffixes.is_empty()).then_some(Value::Names(suffixes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = read(Path::new("s.toml"), text, None).expect_err("mistakes");
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "[provider.p]\nmx = [\".p.test\"]\n\nmessages = [\"20/s\", \"10,000/day\"]\n\
                    unset = [\"tls\"]\n[provider.p.timeouts]\nconnect = \"3s\"\n";
        let tables = read(Path::new("s.toml"), text, None).unwrap();
        let said = &tables.provider("p").unwrap().said;
        let lines: Vec<(Key, usize)> = said.iter().map(|(key, said)| (*key, said.origin.line)).collect();
        let connect = Key::Timeout(Step::Connect);
        assert_eq!(lines, [(Key::Mx, 2), (Key::Messages, 4), (Key::Tls, 5), (connect, 7)]);
        let rates = ["20/s", "10000/day"].map(|rate| rate.parse::<Rate>().unwrap());
        assert_eq!(said[&Key::Messages].value, Some(Value::Rates(rates.into())));
        assert_eq!(said[&Key::Tls].value, None);
        assert_eq!(said[&connect].value, Some(Value::Time(Duration::from_secs(3))));
        assert_eq!(said[&connect].origin.to_string(), "s.toml:7");
    }

    #[test]
    fn all_mistakes_are_told_each_with_its_place() {
        let text = "[defualt]\n[default]\nsesions = 3\nsessions = 0\nmx = [\".a.test\"]\n\
                    [domain.nodots]\n[provider.p.timeouts]\nmial = \"5m\"\nmail = \"0s\"\n";
        let found = faults(text);
        let starts = [
            "s.toml:1:2: unknown key `defualt`; did you mean `default`?",
            "s.toml:3:1: unknown key `sesions`; did you mean `sessions`?",
            "s.toml:4:12: sessions is 0; ",
            "s.toml:5:1: `mx` says nothing in [default]; ",
            "s.toml:6:9: `nodots` is no domain's name",
            "s.toml:8:1: unknown key `mial`; known here: connect",
            "s.toml:9:8: mail is 0; ",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }

    #[test]
    fn a_suffix_that_could_never_match_is_refused() {
        for suffix in [".kpnmail.nl.", "com", ".", ".Google.com", "", "*.google.com", "10.0.0.1"] {
            let found = faults(&format!("[provider.x]\nmx = [\"{suffix}\"]\n"));
            let start = format!("s.toml:2:7: `{suffix}` can never match an exchange");
            assert!(found[0].starts_with(&start), "{found:?}");
        }
    }

    #[test]
    fn a_value_of_another_kind_is_refused_with_one_that_would_do() {
        for (line, advice) in [
            ("sessions = \"3\"", "write a number"),
            ("sessions = -1", "write a number from 1"),
            ("messages = 3", "write a rate"),
            ("messages = \"3 a day\"", "write it like"),
            ("messages = []", "leave the key out"),
            ("messages = [\"3/s\", \"5/s\"]", "give the lower one"),
            ("tls = \"require\"", "did you mean `required`?"),
            ("idle = 30", "write a time"),
            ("retry = \"5m\"", "write a list of times"),
            ("timeouts = \"5m\"", "write a table"),
            ("replace = \"yes\"", "write true or false"),
            ("unset = [\"sesions\"]", "did you mean `sessions`?"),
            ("sessions = 3\nunset = [\"sessions\"]", "do one of them"),
        ] {
            let found = faults(&format!("[default]\n{line}\n"));
            assert!(found.len() == 1 && found[0].contains(advice), "{line}: {found:?}");
        }
    }

    #[test]
    fn a_part_of_a_file_is_read_with_the_places_of_the_whole() {
        let text =
            "state = \"s\"\n[shaping.default]\nsessions = 3\n[shaping.domain.\"a.test\"]\ntls = \"off\"\n";
        let tables = read(Path::new("s.toml"), text, Some("shaping")).unwrap();
        let sections: Vec<String> = tables.sections().map(|(section, _)| section.to_string()).collect();
        assert_eq!(sections, ["[default]", "[domain.\"a.test\"]"]);
        assert_eq!(tables.section(&Section::Default).unwrap().said[&Key::Sessions].origin.line, 3);
        assert_eq!(read(Path::new("s.toml"), "state = \"s\"\n", Some("shaping")).unwrap(), Tables::default());
    }
}
