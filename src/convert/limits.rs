//! Limits on their way into shaping.toml: gathered by section, written, and checked as a user's file is.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::providers;
use super::report::{Place, Report};
use super::units::{self, Limit};
use super::write::{array, key as toml_key, list, quoted};
use crate::config::Rate;
use crate::config::units::format_duration;
use crate::shaping::Tables;

/// What the file is called in messages.
const FILE: &str = "shaping.toml";
const HEAD: &str =
    "# Limits, converted. `postroad shaping DOMAIN` says what holds for a domain, and which line says so.\n";

/// What a section is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Section {
    Default,
    Provider(String),
    Domain(String),
    Source(String),
}

#[derive(Debug)]
struct Entry {
    key: &'static str,
    value: String,
    place: Place,
    subject: String,
}

#[derive(Debug)]
struct Draft {
    section: Section,
    place: Place,
    replace: bool,
    entries: Vec<Entry>,
}

/// Whose a line of the file is: a section's, and which of its entries.
type Owner = Option<(usize, Option<usize>)>;

/// All sections of one conversion.
#[derive(Debug, Default)]
pub(super) struct LimitSet {
    drafts: Vec<Draft>,
    places: HashMap<Section, usize>,
}

/// A value on its way to a key.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Count(u32),
    Rate(Rate),
    Time(Duration),
    Times(Vec<Duration>),
    Word(&'static str),
    Names(Vec<String>),
}

impl Value {
    fn written(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Rate(rate) => quoted(&rate.to_string()),
            Self::Time(time) => quoted(&format_duration(*time)),
            Self::Times(times) => array(&times.iter().copied().map(format_duration).collect::<Vec<_>>()),
            Self::Word(word) => quoted(word),
            Self::Names(names) => array(names),
        }
    }
}

impl LimitSet {
    fn draft(&mut self, section: &Section, place: &Place) -> &mut Draft {
        let next = self.drafts.len();
        let at = *self.places.entry(section.clone()).or_insert(next);
        if at == next {
            let (section, place) = (section.clone(), place.clone());
            self.drafts.push(Draft { section, place, replace: false, entries: Vec::new() });
        }
        &mut self.drafts[at]
    }

    /// What earlier files say in the section shall not hold.
    pub fn replace(&mut self, section: &Section, place: &Place) {
        self.draft(section, place).replace = true;
    }

    /// The last that says something of a key is believed, as both peers do it.
    pub fn say(
        &mut self,
        section: &Section,
        (key, value): (&'static str, &Value),
        (place, subject): (&Place, &str),
        report: &mut Report,
    ) {
        let value = value.written();
        let draft = self.draft(section, place);
        let entry = Entry { key, value, place: place.clone(), subject: subject.to_owned() };
        let Some(known) = draft.entries.iter_mut().find(|known| known.key == key) else {
            return draft.entries.push(entry);
        };
        if known.value != entry.value {
            let why = format!("line {} says {key} again, and the last counts", place.line);
            report.lost(&known.place, known.subject.clone(), why);
            *known = entry;
        }
    }

    /// A rate; where it is none, the report says so.
    pub fn say_rate(
        &mut self,
        section: &Section,
        (key, text): (&'static str, &str),
        (place, subject): (&Place, &str),
        report: &mut Report,
    ) {
        match units::rate(text) {
            Some(Limit::Rate(rate)) => {
                self.say(section, (key, &Value::Rate(rate)), (place, subject), report);
            }
            Some(Limit::Unlimited) => {
                self.say(section, (key, &Value::Word("unlimited")), (place, subject), report)
            }
            None => report.lost(place, subject, format!("`{text}` is no rate")),
        }
    }

    /// A number from 1 on; of none or zero the report tells.
    pub fn say_count(
        &mut self,
        section: &Section,
        (key, text): (&'static str, &str),
        (place, subject): (&Place, &str),
        report: &mut Report,
    ) {
        match units::count(text) {
            Some(0) => {
                report.lost(place, subject, "0 has no equivalent: leave the limit out, or pause instead")
            }
            Some(count) => self.say(section, (key, &Value::Count(count)), (place, subject), report),
            None => report.lost(place, subject, format!("`{text}` is no number")),
        }
    }

    /// A time; where it is none, the report says so.
    pub fn say_time(
        &mut self,
        section: &Section,
        (key, text): (&'static str, &str),
        (place, subject): (&Place, &str),
        report: &mut Report,
    ) {
        match units::duration(text) {
            Some(time) => self.say(section, (key, &Value::Time(time)), (place, subject), report),
            None => report.lost(place, subject, format!("`{text}` is no time")),
        }
    }

    /// The exchanges of a provider, shipped or said before, and `suffixes`; nothing where it is simply one
    /// that is shipped. Where nothing earlier holds, who it is does all the same.
    pub fn say_mx(&mut self, provider: &str, suffixes: &[String], place: &Place, report: &mut Report) {
        let section = Section::Provider(provider.to_owned());
        let draft = self.draft(&section, place);
        let replace = draft.replace;
        let said = draft.entries.iter_mut().find(|entry| entry.key == "mx");
        let mut names = match &said {
            Some(entry) => entry.value.split('"').skip(1).step_by(2).map(str::to_owned).collect(),
            None => providers::suffixes(provider),
        };
        let known = names.clone();
        for suffix in suffixes {
            if !names.contains(suffix)
                && !names.iter().any(|wider| wider.starts_with('.') && suffix.ends_with(wider))
            {
                names.retain(|narrower| !(suffix.starts_with('.') && narrower.ends_with(suffix)));
                names.push(suffix.clone());
            }
        }
        match said {
            // Said for several of the peer's providers: all of them.
            Some(entry) => entry.value = array(&names),
            None if names != known || replace => {
                self.say(&section, ("mx", &Value::Names(names)), (place, "match"), report);
            }
            None => {}
        }
        if let Some(other) = providers::replies(provider).filter(|_| replace) {
            self.say(&section, ("replies", &Value::Word(other)), (place, "match"), report);
        }
    }

    /// The file, without anything that a check finds fault with; of that the report tells. With it all
    /// providers there are.
    pub fn finish(mut self, report: &mut Report) -> (String, Vec<String>) {
        self.drafts.retain(|draft| !draft.entries.is_empty() || draft.replace);
        self.lower_own(report);
        loop {
            let (text, lines) = self.written();
            let mut tables = Tables::shipped();
            let faults = match Tables::read(Path::new(FILE), &text, None) {
                Err(faults) => faults,
                Ok(read) => {
                    tables.lay(read);
                    tables.check(None).err().unwrap_or_default()
                }
            };
            let mut faulty: Vec<((usize, Option<usize>), String)> = faults
                .into_iter()
                .filter_map(|fault| {
                    Some((*lines.get(fault.line.checked_sub(1)?)?.as_ref()?, fault.to_string()))
                })
                .collect();
            if faulty.is_empty() {
                return (text, tables.providers().map(|(name, _)| name.to_owned()).collect());
            }
            faulty.sort();
            faulty.dedup_by_key(|(at, _)| *at);
            for ((draft, entry), what) in faulty.into_iter().rev() {
                let what = what.splitn(4, ':').last().unwrap_or_default().trim().to_owned();
                match entry {
                    Some(entry) => {
                        let entry = self.drafts[draft].entries.remove(entry);
                        report.lost(&entry.place, entry.subject, what);
                    }
                    None => {
                        let draft = self.drafts.remove(draft);
                        report.lost(&draft.place, heading(&draft.section), what);
                    }
                }
            }
        }
    }

    /// A path's own limit above the provider's could never be reached.
    fn lower_own(&mut self, report: &mut Report) {
        for draft in &mut self.drafts {
            let number = |entries: &[Entry], key: &str| -> Option<u32> {
                entries.iter().find(|entry| entry.key == key)?.value.parse().ok()
            };
            let total = number(&draft.entries, "sessions_total");
            if let (Some(own), Some(total)) = (number(&draft.entries, "sessions"), total)
                && own > total
                && let Some(entry) = draft.entries.iter_mut().find(|entry| entry.key == "sessions")
            {
                entry.value = total.to_string();
                let why = format!("{own} is more than the provider's {total}, which is written instead");
                report.changed(&entry.place, entry.subject.clone(), why);
            }
        }
    }

    /// The text, and which section and entry each line is of.
    fn written(&self) -> (String, Vec<Owner>) {
        let mut text = HEAD.to_owned();
        let mut lines = vec![None];
        for (number, draft) in self.drafts.iter().enumerate() {
            text.push_str(&format!("\n{}\n", heading(&draft.section)));
            lines.extend([None, Some((number, None))]);
            if draft.replace {
                text.push_str("replace = true\n");
                lines.push(Some((number, None)));
            }
            for (place, entry) in draft.entries.iter().enumerate() {
                text.push_str(&format!("{} = {}\n", entry.key, entry.value));
                lines.push(Some((number, Some(place))));
            }
        }
        (text, lines)
    }
}

fn heading(section: &Section) -> String {
    match section {
        Section::Default => "[default]".to_owned(),
        Section::Provider(name) => format!("[provider.{}]", toml_key(name)),
        Section::Domain(name) => format!("[domain.{}]", list(std::slice::from_ref(name))),
        Section::Source(name) => format!("[source.{}]", toml_key(name)),
    }
}
