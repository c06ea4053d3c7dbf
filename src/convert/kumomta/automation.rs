//! Automation rules of a section made into reply rules.
//!
//! There all rules that match fire; here the first that fits counts. There a rule sets a value for a time;
//! here it slows down or narrows a path by a part, which comes back by itself.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::conditions::Line;
use super::super::report::Place;
use super::super::rules::Effect;
use super::super::units::{self, Limit};
use super::{Reader, Whose, in_order, text_of};
use crate::config::units::format_duration;

impl Reader<'_> {
    /// The rules of the section called `stem`.
    pub(super) fn automation(&mut self, section: &DeTable<'_>, whose: &Whose, stem: &str) {
        let Some(rules) = section.get("automation") else { return };
        let Some(rules) = rules.get_ref().as_array() else {
            let place = self.place(rules);
            return self.work.report.lost(&place, "automation", "it is no list of rules");
        };
        let mut seen: HashMap<String, Place> = HashMap::new();
        for rule in rules.iter() {
            let place = self.place(rule);
            match rule.get_ref().as_table() {
                Some(table) => self.rule(table, whose, stem, &place, &mut seen),
                None => self.work.report.lost(&place, "automation", "it is no rule"),
            }
        }
    }

    fn rule(
        &mut self,
        rule: &DeTable<'_>,
        whose: &Whose,
        stem: &str,
        place: &Place,
        seen: &mut HashMap<String, Place>,
    ) {
        let regexes = self.regexes(rule, place);
        for (key, value) in in_order(rule) {
            let place = self.lines.place(key.span().start);
            match key.get_ref().as_ref() {
                "regex" | "action" | "trigger" | "duration" => {}
                // Replies are all that rules here ever see.
                "match_internal" if value.get_ref().as_bool() == Some(false) => {}
                "match_internal" => {
                    let why = "what was made here is never compared with a rule about replies";
                    self.work.report.lost(&place, "match_internal", why);
                }
                other => self.work.report.lost(&place, other, "a rule has no such key"),
            }
        }
        let providers = match whose {
            Whose::Any => Vec::new(),
            Whose::Providers(providers) => providers.clone(),
            Whose::None(why) => {
                for (regex, place) in regexes {
                    self.work.report.lost(&place, format!("/{regex}/"), why.clone());
                }
                return;
            }
        };
        let Some(effect) = self.effect(rule, place) else { return };
        if stem == "default" && effect.after.is_none() {
            let why = "it acts at the first match, at whatever provider: give it an `after`, or a `provider`";
            self.work.report.changed(place, "automation of \"default\"", why);
        }
        for (regex, place) in regexes {
            if let Some(first) = seen.get(&regex) {
                let why = format!(
                    "the same expression stands on line {}: there both rules fire, here the first that fits counts, \
                     so this one is left out",
                    first.line
                );
                self.work.report.lost(&place, format!("/{regex}/"), why);
                continue;
            }
            seen.insert(regex.clone(), place.clone());
            let super::super::Work { rules, report, .. } = &mut *self.work;
            rules.add((stem, &regex, Line::Reply), &providers, &effect, &place, report);
        }
    }

    fn regexes(&mut self, rule: &DeTable<'_>, place: &Place) -> Vec<(String, Place)> {
        let Some(value) = rule.get("regex") else {
            self.work.report.lost(place, "automation", "it has no `regex`");
            return Vec::new();
        };
        let one = std::slice::from_ref(value);
        let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref().as_array() {
            Some(items) => items.iter().collect(),
            None => one.iter().collect(),
        };
        let texts = items.into_iter().filter_map(|item| {
            Some((item.get_ref().as_str()?.to_owned(), self.lines.place(item.span().start)))
        });
        texts.collect()
    }

    /// What the actions of a rule come to; `None`, told, if to nothing.
    fn effect(&mut self, rule: &DeTable<'_>, place: &Place) -> Option<Effect> {
        let lasting = rule.get("duration").and_then(|value| text_of(value.get_ref()));
        let lasting = lasting.and_then(|text| units::duration(&text)).filter(|time| !time.is_zero());
        let lasting = lasting.map(format_duration);
        let mut found: Option<Effect> = None;
        let value = rule.get("action")?;
        let items: Vec<&Spanned<DeValue<'_>>> = match value.get_ref().as_array() {
            Some(items) => items.iter().collect(),
            None => vec![value],
        };
        for item in items {
            let place = self.place(item);
            if found.is_some() {
                let why = "a rule takes one measure here, and an action before it is that one";
                self.work.report.lost(&place, described(item.get_ref()), why);
            } else {
                found = self.action(item.get_ref(), lasting.as_deref(), &place);
            }
        }
        let mut effect = found?;
        if let Some(trigger) = rule.get("trigger") {
            effect.after = self.trigger(trigger);
        }
        if lasting.is_none() {
            self.work.report.changed(
                place,
                "duration",
                "it has none that can be read: ours comes back by itself",
            );
        }
        Some(effect)
    }

    fn trigger(&mut self, trigger: &Spanned<DeValue<'_>>) -> Option<String> {
        let place = self.place(trigger);
        if trigger.get_ref().as_str() == Some("Immediate") {
            return None;
        }
        let threshold = trigger.get_ref().as_table().and_then(|table| table.get("Threshold"));
        let text = threshold.and_then(|value| value.get_ref().as_str().map(str::to_owned));
        match text.as_deref().and_then(units::rate) {
            Some(Limit::Rate(rate)) if rate.count < u32::MAX => {
                Some(crate::config::Rate { burst: None, ..rate }.to_string())
            }
            _ => {
                let why =
                    "it is no \"Immediate\" and no {Threshold = \"3/hr\"}: the rule acts at the first match";
                self.work.report.lost(&place, "trigger", why);
                None
            }
        }
    }

    /// What an action comes to.
    fn action(&mut self, action: &DeValue<'_>, lasting: Option<&str>, place: &Place) -> Option<Effect> {
        let lasting = lasting.unwrap_or("1h");
        let report = &mut self.work.report;
        let subject = described(action);
        let effect = |class, scope, action: String| {
            Some(Effect { class, scope: Some(scope), actions: vec![action], after: None })
        };
        let Some((kind, name, _)) = parts(action) else {
            report.lost(place, subject, "there is no such action");
            return None;
        };
        match (kind.as_str(), name.as_str()) {
            ("Suspend", _) => effect("poor-reputation", "path", format!("suspend {lasting}")),
            ("SuspendTenant", _) => {
                report.changed(
                    place,
                    subject,
                    "there are no tenants: the sending domain rests at this provider",
                );
                effect("domain-reputation", "sending-domain", format!("pause domain {lasting}"))
            }
            ("SuspendCampaign", _) => {
                let why = "the campaign waits for a person (`postroad resume`), towards everybody";
                report.changed(place, subject, why);
                effect("policy", "campaign", "pause campaign".to_owned())
            }
            ("Bounce" | "BounceTenant" | "BounceCampaign", _) => {
                let why =
                    "no reply gives up on recipients that it is not about; `postroad cancel` ends a campaign";
                report.lost(place, subject, why);
                None
            }
            ("SetConfig" | "SetDomainConfig", _) => {
                let made = match name.as_str() {
                    "max_message_rate" | "max_connection_rate" => {
                        effect("rate-limited", "path", "slow 0.5".to_owned())
                    }
                    "connection_limit" => effect("too-many-connections", "path", "narrow".to_owned()),
                    "max_deliveries_per_connection" => {
                        effect("too-many-messages-in-session", "session", "reconnect".to_owned())
                    }
                    _ => None,
                };
                if made.is_some() {
                    let why =
                        "ours is relative, and comes back by itself: no value is set, and none for a time";
                    report.changed(place, subject, why);
                } else {
                    report.lost(place, subject, "no reply changes this setting here");
                }
                made
            }
            _ => {
                report.lost(place, subject, "there is no such action");
                None
            }
        }
    }
}

/// `Suspend`, or `SetConfig` with the name and value of a setting.
fn parts(action: &DeValue<'_>) -> Option<(String, String, String)> {
    if let Some(name) = action.as_str() {
        return Some((name.to_owned(), String::new(), String::new()));
    }
    let (kind, setting) = in_order(action.as_table()?).into_iter().next()?;
    let part = |key: &str| text_of(setting.get_ref().as_table()?.get(key)?.get_ref());
    Some((kind.get_ref().to_string(), part("name").unwrap_or_default(), part("value").unwrap_or_default()))
}

fn described(action: &DeValue<'_>) -> String {
    match parts(action) {
        Some((kind, name, _)) if name.is_empty() => format!("action {kind}"),
        Some((kind, name, value)) => format!("action {kind} {name} = {value}"),
        None => "action".to_owned(),
    }
}
