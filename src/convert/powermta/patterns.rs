//! Lists of patterns: `<smtp-pattern-list>`, which act on replies, and `<bounce-category-patterns>`, which
//! only sort them.
//!
//! A list acts where a `<domain>` names it. Its `mode=backoff` is the switch to a second set of limits; here
//! it is a path that slows down by a half, and comes back by itself.

use std::collections::BTreeMap;

use super::super::conditions::Line;
use super::super::kumomta;
use super::super::report::Place;
use super::super::rules::Effect;
use super::super::units;
use super::Reading;
use super::parse::Item;
use crate::config::units::format_duration;

/// How long a source rests where nothing says so: what its class asks for.
const REST: &str = "6h";

/// Which lists act for whom.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Providers by list; empty: any.
    lists: BTreeMap<String, Vec<String>>,
    any: Vec<String>,
    /// `reenable-source-ip-after`.
    reenable_after: Option<String>,
}

/// `/expression/ rest`, with `\/` for a slash in it.
fn split(line: &str) -> Option<(String, &str)> {
    let body = line.strip_prefix('/')?;
    let mut escaped = false;
    let end = body.bytes().position(|octet| {
        let is_end = octet == b'/' && !escaped;
        escaped = octet == b'\\' && !escaped;
        is_end
    })?;
    Some((body[..end].replace("\\/", "/"), body[end + 1..].split('#').next().unwrap_or_default().trim()))
}

impl Reading<'_> {
    /// A `<domain>` of `whose` has named a list.
    pub(super) fn uses(&mut self, list: &str, whose: &Option<Vec<String>>, place: &Place) {
        let list = list.trim();
        let is_there = self.document.items.iter().any(
            |item| matches!(item, Item::Block { name, argument, .. } if name == "smtp-pattern-list" && argument == list),
        );
        let subject = format!("smtp-pattern-list {list}");
        if list.is_empty() {
            return;
        }
        if !is_there {
            return self.work.report.lost(place, subject, "there is no list of that name");
        }
        match whose {
            Some(providers) if providers.is_empty() => self.uses.any.push(list.to_owned()),
            Some(providers) => {
                let known = self.uses.lists.entry(list.to_owned()).or_default();
                known.extend(providers.iter().cloned());
                known.sort();
                known.dedup();
            }
            None => {
                let why = "reply rules go by provider, and that of this domain is not known here: make a [provider.NAME] \
                           with `mx` and give the rules that `provider`";
                self.work.report.lost(place, subject, why);
            }
        }
    }

    pub(super) fn reenable_after(&mut self, value: &str, place: &Place) {
        match units::duration(value).filter(|time| !time.is_zero()) {
            Some(time) => self.uses.reenable_after = Some(format_duration(time)),
            None => {
                let why = "a source that was taken out is tried again, by one message, after 6h";
                self.work.report.changed(place, format!("reenable-source-ip-after {value}"), why);
            }
        }
    }

    /// The rules of all lists that are used.
    pub(super) fn pattern_lists(&mut self) {
        for item in &self.document.items {
            let Item::Block { name, argument, items, place } = item else { continue };
            if name != "smtp-pattern-list" {
                continue;
            }
            let providers = if self.uses.any.contains(argument) {
                Vec::new()
            } else if let Some(providers) = self.uses.lists.get(argument) {
                providers.clone()
            } else {
                let why = "no <domain> names it, or none whose provider is known: it acts nowhere";
                self.work.report.lost(place, format!("<smtp-pattern-list {argument}>"), why);
                continue;
            };
            self.pattern_list(argument, items, &providers, place);
        }
    }

    fn pattern_list(&mut self, list: &str, items: &[Item], providers: &[String], place: &Place) {
        let mut slows = false;
        for item in items {
            let Item::Pattern { line, place } = item else { continue };
            let pattern = line.strip_prefix("reply").and_then(|rest| split(rest.trim_start()));
            let Some((regex, actions)) = pattern else {
                self.work.report.lost(place, line.as_str(), "it is no `reply /expression/ action`");
                continue;
            };
            let Some(effect) = self.effect(actions, &regex, place) else { continue };
            slows |= effect.class == "rate-limited";
            let super::super::Work { rules, report, .. } = &mut *self.work;
            rules.add((list, &regex, Line::Reply), providers, &effect, place, report);
        }
        if slows {
            let why = "mode=backoff is \"slow 0.5\": relative to the path's rate, once more with each such reply, and back \
                       by itself; there is no second set of limits";
            self.work.report.changed(place, format!("<smtp-pattern-list {list}>"), why);
        }
    }

    /// What the words behind an expression come to; `None`, told, if to nothing.
    fn effect(&mut self, actions: &str, regex: &str, place: &Place) -> Option<Effect> {
        let report = &mut self.work.report;
        let subject = |action: &str| format!("/{regex}/ {action}");
        let words: Vec<&str> = actions.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
        let effect = |class, scope, action: String| {
            Some(Effect { class, scope: Some(scope), actions: vec![action], after: None })
        };
        let rest = words.iter().find_map(|word| word.strip_prefix("reenable-after="));
        let mut found = None;
        for word in &words {
            let made = match *word {
                "mode=backoff" => effect("rate-limited", "path", "slow 0.5".to_owned()),
                "disable-source-ip" => {
                    let lasting =
                        rest.and_then(units::duration).filter(|time| !time.is_zero()).map(format_duration);
                    let lasting = lasting.or_else(|| self.uses.reenable_after.clone());
                    if lasting.is_none() {
                        let why =
                            "it has no `reenable-after`: the source is tried again, by one message, after 6h";
                        report.changed(place, subject(word), why);
                    }
                    let lasting = lasting.unwrap_or_else(|| REST.to_owned());
                    effect("source-blocked", "source", format!("take source out {lasting}"))
                }
                _ if word.starts_with("reenable-after=") => continue,
                _ if word.starts_with("backoff-to-normal-after=") => {
                    report.lost(place, subject(word), "rates grow back by themselves with what is accepted");
                    continue;
                }
                "mode=normal" => {
                    report.lost(place, subject(word), "rates grow back by themselves with what is accepted");
                    continue;
                }
                "skip-mx" => {
                    report.lost(place, subject(word), "no reply leaves out one exchange of a site");
                    continue;
                }
                "bounce-queue" => {
                    let why = "no reply gives up on recipients that it is not about; `postroad cancel` ends a campaign";
                    report.lost(place, subject(word), why);
                    continue;
                }
                _ => {
                    report.lost(place, subject(word), "there is no such action");
                    continue;
                }
            };
            if found.is_some() {
                report.lost(place, subject(word), "a rule takes one measure here");
            } else {
                found = made;
            }
        }
        if words.is_empty() {
            report.lost(place, subject(""), "it has no action");
        }
        found
    }

    /// `/expression/ category`.
    pub(super) fn bounce_categories(&mut self, items: &[Item]) {
        let mut told: Vec<String> = Vec::new();
        for item in items {
            let Item::Pattern { line, place } = item else { continue };
            let super::super::Work { rules, report, .. } = &mut *self.work;
            let Some((regex, category)) = split(line) else {
                report.lost(place, line.as_str(), "it is no `/expression/ category`");
                continue;
            };
            match kumomta::effect(category) {
                Ok(effect) => {
                    if !told.iter().any(|known| known == category) {
                        told.push(category.to_owned());
                        if let Some(note) = kumomta::note_on(&effect) {
                            report.changed(place, category, note);
                        }
                    }
                    rules.add((category, &regex, Line::Diagnosis), &[], &effect, place, report);
                }
                Err(why) => report.lost(place, format!("/{regex}/ {category}"), why),
            }
        }
    }
}
