//! Reply rules on their way into replies.toml: written, run through the whole set, and left out where an
//! earlier one takes all that they could match.

use std::path::Path;

use super::conditions::{self, Conditions, Line};
use super::report::{Place, Report};
use super::write::{list, quoted};
use crate::classify::Rules;

/// What the file is called in messages.
const FILE: &str = "replies.toml";
/// Rules of one conversion, and texts of all of them: more than any peer's files have. Each is compared
/// with all the others.
const RULES_MAX: usize = 2000;
const TEXTS_MAX: usize = 6000;
/// Texts of one rule that samples are made of.
const SAMPLES_MAX: usize = 8;
/// Rounds in which samples are tried; then whatever is wrong goes.
const ROUNDS_MAX: usize = 12;

const HEAD: &str = "\
# Reply rules, converted. The samples are made from the patterns: no server has said them. Put replies from
# your own logs in their place. `postroad rules check` runs them all. These rules come before the shipped
# ones, which know most replies better: keep those that you need.
";

/// What a rule does, besides when.
#[derive(Debug, Clone, Default)]
pub(super) struct Effect {
    pub class: &'static str,
    pub scope: Option<&'static str>,
    /// As rules write them.
    pub actions: Vec<String>,
    /// `3/h`
    pub after: Option<String>,
}

#[derive(Debug)]
struct Draft {
    name: String,
    providers: Vec<String>,
    conditions: Conditions,
    effect: Effect,
    place: Place,
    /// The peer's expression.
    subject: String,
    /// What is different from it.
    notes: Vec<&'static str>,
    samples: Vec<String>,
    /// Which of them is written.
    sample: usize,
}

/// All rules of one conversion.
#[derive(Debug, Default)]
pub(super) struct RuleSet {
    drafts: Vec<Draft>,
    /// Of all of them.
    texts: usize,
}

impl RuleSet {
    /// Adds what `regex` says for `providers`, any if there are none. Says in the report what cannot be
    /// converted, and what is different; a rule's name is made from `stem`.
    pub fn add(
        &mut self,
        (stem, regex, line): (&str, &str, Line),
        providers: &[String],
        effect: &Effect,
        place: &Place,
        report: &mut Report,
    ) {
        let subject = format!("/{regex}/");
        let converted = match conditions::of_regex(regex, line) {
            Ok(converted) => converted,
            Err(why) => return report.lost(place, subject, why),
        };
        for conditions in converted.all {
            self.texts += conditions.texts.len();
            if self.drafts.len() >= RULES_MAX || self.texts > TEXTS_MAX {
                let why = format!("there are more than {RULES_MAX} rules, or {TEXTS_MAX} texts of rules");
                return report.lost(place, subject, why);
            }
            self.drafts.push(Draft {
                name: format!("{}-{}", slug(stem), self.drafts.len() + 1),
                providers: providers.to_vec(),
                samples: samples(&conditions, effect.class),
                conditions,
                effect: effect.clone(),
                place: place.clone(),
                subject: subject.clone(),
                notes: converted.notes.clone(),
                sample: 0,
            });
        }
    }

    /// The file, all of whose rules are for `providers`, can be reached and have a sample that lands on them.
    /// Rules that have to go are in the report.
    pub fn finish(mut self, providers: &[String], report: &mut Report) -> String {
        self.drafts.retain(|draft| {
            let unknown = draft.providers.iter().find(|name| !providers.contains(name));
            if let Some(name) = unknown {
                let why = format!("there is no provider `{name}` in the converted limits");
                report.lost(&draft.place, draft.subject.clone(), why);
            }
            unknown.is_none()
        });
        for round in 0.. {
            let (text, starts) = self.written();
            let Err(faults) = Rules::read(&[(Path::new(FILE), &text)]) else {
                for draft in &self.drafts {
                    draft.notes.iter().for_each(|note| report.changed(&draft.place, &draft.subject, *note));
                }
                return text;
            };
            let mut faulty: Vec<(usize, String)> = faults
                .iter()
                .filter_map(|fault| {
                    let number = starts.partition_point(|start| *start <= fault.line).checked_sub(1)?;
                    Some((number, fault.what.clone()))
                })
                .collect();
            faulty.sort_by_key(|(number, _)| *number);
            faulty.dedup_by_key(|(number, _)| *number);
            if faulty.is_empty() {
                // Nothing that one rule is to blame for.
                for draft in self.drafts.drain(..) {
                    report.lost(&draft.place, draft.subject, faults.first().map_or("", |fault| &fault.what));
                }
            }
            for (number, what) in faulty.into_iter().rev() {
                let draft = &mut self.drafts[number];
                let is_stray = what.starts_with("this sample");
                if is_stray && round < ROUNDS_MAX && draft.sample + 1 < draft.samples.len() {
                    draft.sample += 1;
                    continue;
                }
                let why = self.explained(number, &what);
                let draft = self.drafts.remove(number);
                report.lost(&draft.place, draft.subject, why);
            }
        }
        unreachable!("every round has fewer rules or samples left")
    }

    /// What a fault says, with the peer's line in place of the rule's.
    fn explained(&self, number: usize, what: &str) -> String {
        let named = what.split('`').skip(1).step_by(2);
        let own = &self.drafts[number].name;
        let other = named
            .filter(|name| name != own)
            .find_map(|name| self.drafts.iter().find(|draft| draft.name == name));
        match other {
            Some(other) => format!(
                "left out: {} ({}:{}) comes first and takes what it could; the first that fits counts here",
                other.subject,
                other.place.file.display(),
                other.place.line
            ),
            None => format!("left out: {what}"),
        }
    }

    /// The text, and the line on which each rule begins.
    fn written(&self) -> (String, Vec<usize>) {
        let mut text = HEAD.to_owned();
        let mut starts = Vec::with_capacity(self.drafts.len());
        let mut line = HEAD.matches('\n').count() + 1;
        for draft in &self.drafts {
            let rule = draft.written();
            starts.push(line + 1);
            line += rule.matches('\n').count();
            text.push_str(&rule);
        }
        (text, starts)
    }
}

impl Draft {
    fn written(&self) -> String {
        let Conditions { codes, enhanced, texts } = &self.conditions;
        let mut text = format!("\n[[rule]]  # {}:{}\n", shown(&self.place), self.place.line);
        let mut say = |key: &str, value: String| text.push_str(&format!("{key} = {value}\n"));
        say("name", quoted(&self.name));
        let lists = [("provider", &self.providers), ("code", codes), ("enhanced", enhanced), ("text", texts)];
        for (key, words) in lists {
            if !words.is_empty() {
                say(key, list(words));
            }
        }
        say("class", quoted(self.effect.class));
        if let Some(scope) = self.effect.scope {
            say("scope", quoted(scope));
        }
        if !self.effect.actions.is_empty() {
            say("action", list(&self.effect.actions));
        }
        if let Some(after) = &self.effect.after {
            say("after", quoted(after));
        }
        let sample = self.samples.get(self.sample).map_or("", String::as_str);
        text.push_str(&format!("samples = [{}]  # generated\n", quoted(sample)));
        text
    }
}

/// A file's name, for a comment.
fn shown(place: &Place) -> String {
    place.file.display().to_string().chars().filter(|c| !c.is_control()).collect()
}

/// Lower-case letters, digits and hyphens.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(40) {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "rule".to_owned() } else { slug.to_owned() }
}

/// Whole replies that fit the conditions, one a text.
fn samples(conditions: &Conditions, class: &str) -> Vec<String> {
    let enhanced = conditions.enhanced.first().map(|code| {
        let (head, detail) = code.rsplit_once('.').unwrap_or((code, "0"));
        let detail = match detail.split_once('-') {
            Some((first, _)) => first,
            None if detail == "*" => "0",
            None => detail,
        };
        format!("{head}.{detail}")
    });
    let is_final = matches!(class, "unknown-user" | "inactive-mailbox" | "bad-domain");
    let code = match (conditions.codes.first(), &enhanced) {
        (Some(code), _) => code.replace("yz", "50").replace('z', "0"),
        (None, Some(enhanced)) => format!("{}50", &enhanced[..1]),
        (None, None) if is_final => "550".to_owned(),
        (None, None) => "451".to_owned(),
    };
    let head = [Some(code), enhanced].into_iter().flatten().collect::<Vec<_>>().join(" ");
    if conditions.texts.is_empty() {
        return vec![format!("{head} refused")];
    }
    let texts = conditions.texts.iter().take(SAMPLES_MAX);
    texts.map(|text| format!("{head} {}", text.replace('*', "...").replace('#', "1"))).collect()
}
