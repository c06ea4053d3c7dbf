//! The text of one rule file made into rules: keys, values, places. Every mistake is told, not only the
//! first; what only the whole set can show (samples, rules never reached) is [`super::lint`]'s.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{IntoDeserializer, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::line;
use super::pattern::Pattern;
use super::rules::{Codes, Place, Rule, Sample};
use super::values::{Actions, Wrong, code_range, enhanced_range, stage};
use super::{Class, Measure, RecipientAction, Threshold};
use crate::config::units::Rate;
use crate::config::{Fault, fault};
use crate::outcome::{Scope, Stage};

/// A rule as a file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: Spanned<String>,
    provider: Option<Spanned<Words>>,
    stage: Option<Spanned<Words>>,
    code: Option<Spanned<Words>>,
    enhanced: Option<Spanned<Words>>,
    text: Option<Spanned<Words>>,
    class: Spanned<String>,
    scope: Option<Spanned<String>>,
    action: Option<Spanned<Words>>,
    after: Option<Spanned<String>>,
    #[serde(default)]
    samples: Vec<Spanned<String>>,
}

/// One value or a list of them; numbers as they are written.
struct Words(Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words(vec![text.to_owned()]))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Words, E> {
                Ok(Words(vec![number.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(item) = items.next_element::<Words>()? {
                    words.extend(item.0);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A file's text, and where its lines begin.
struct Document<'a> {
    file: &'a Arc<Path>,
    text: &'a str,
    lines: Vec<usize>,
}

impl Document<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let line = self.lines.partition_point(|start| *start <= span.start).max(1);
        let before = self.text.get(self.lines[line - 1]..span.start).unwrap_or_default();
        Place { file: Arc::clone(self.file), line, column: before.chars().count() + 1 }
    }

    fn fault(&self, span: &Range<usize>, what: impl Into<String>, advice: impl Into<String>) -> Fault {
        self.place(span).fault(what, advice)
    }
}

/// The rules of a file in their order, and what is wrong with it. A rule with a mistake is not among them.
pub(super) fn parse(file: &Path, text: &str) -> (Vec<Rule>, Vec<Fault>) {
    let file: Arc<Path> = file.into();
    let starts = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
    let document = Document { file: &file, text, lines: std::iter::once(0).chain(starts).collect() };
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => return (rules, vec![Fault::from_toml(&file, text, &error)]),
    };
    for (key, value) in table {
        if key.get_ref() != "rule" {
            let what = format!("unknown key `{}`", key.get_ref());
            faults.push(document.fault(&key.span(), what, "a file of reply rules has only [[rule]]"));
            continue;
        }
        let span = value.span();
        let DeValue::Array(items) = value.into_inner() else {
            faults.push(document.fault(&span, "`rule` is no list of rules", "begin each with [[rule]]"));
            continue;
        };
        for item in items {
            let header = item.span();
            match RuleText::deserialize(item.into_deserializer()) {
                Ok(text) => match rule(&document, text) {
                    Ok(rule) => rules.push(rule),
                    Err(wrong) => faults.extend(wrong),
                },
                Err(error) => {
                    let mut fault = Fault::from_toml(&file, text, &error);
                    if error.span().is_none() {
                        let place = document.place(&header);
                        (fault.line, fault.column) = (place.line, place.column);
                    }
                    faults.push(fault);
                }
            }
        }
    }
    (rules, faults)
}

fn rule(document: &Document<'_>, text: RuleText) -> Result<Rule, Vec<Fault>> {
    let mut faults = Vec::new();
    let place = document.place(&text.name.span());
    let mut check = |span: Range<usize>, wrong: Wrong| faults.push(document.fault(&span, wrong.0, wrong.1));

    let name = text.name.get_ref().as_str();
    let has_condition = text.code.is_some() || text.enhanced.is_some() || text.text.is_some();
    let is_name_octet = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    if name.is_empty() || !name.bytes().all(is_name_octet) {
        let what = format!("`{name}` is no name for a rule");
        check(text.name.span(), (what, "use lower-case letters, digits and `-`".into()));
    }
    let mut all =
        |words: Option<Spanned<Words>>, key: &str, take: &mut dyn FnMut(&str) -> Result<(), Wrong>| {
            let words = words?;
            let span = words.span();
            if words.get_ref().0.is_empty() {
                check(span.clone(), (format!("{key} is an empty list"), "leave it out to say any".into()));
            }
            for word in &words.get_ref().0 {
                if let Err(wrong) = take(word) {
                    check(span.clone(), wrong);
                }
            }
            Some(span)
        };

    let mut providers: Vec<Box<str>> = Vec::new();
    let provider_span = all(text.provider, "provider", &mut |word| {
        providers.push(word.into());
        Ok(())
    });
    let mut stages = Vec::new();
    all(text.stage, "stage", &mut |word| {
        stages.push(stage(word)?);
        Ok(())
    });
    let mut codes = Codes::default();
    all(text.code, "code", &mut |word| {
        codes.replies.push(code_range(word)?);
        Ok(())
    });
    all(text.enhanced, "enhanced", &mut |word| {
        codes.enhanced.push(enhanced_range(word)?);
        Ok(())
    });
    let mut texts = Vec::new();
    all(text.text, "text", &mut |word| {
        let advice = "write a part of the reply that no other kind of reply has";
        texts.push(Pattern::parse(word).map_err(|what| (what, advice.to_owned()))?);
        Ok(())
    });
    let mut actions = Actions::default();
    let action_span = all(text.action, "action", &mut |word| actions.take(word));

    let class = Class::from_name(text.class.get_ref());
    if class.is_none_or(|class| class == Class::Accepted || class.is_unclassified()) {
        let known: Vec<&str> = Class::all()
            .filter(|class| *class != Class::Accepted && !class.is_unclassified())
            .map(Class::name)
            .collect();
        let what = format!("`{}` is no class of refusals", text.class.get_ref());
        check(text.class.span(), (what, fault::suggestion(text.class.get_ref(), &known)));
    }
    let scope = text.scope.as_ref().and_then(|text| {
        let read = Scope::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(
            text.get_ref().as_str(),
        ));
        if read.is_err() {
            let known = ["recipient", "message", "session", "path", "source", "sending-domain", "campaign"];
            let what = format!("`{}` is no scope", text.get_ref());
            check(text.span(), (what, fault::suggestion(text.get_ref(), &known)));
        }
        read.ok()
    });
    let threshold = text.after.as_ref().and_then(|text| match text.get_ref().parse::<Rate>() {
        Ok(Rate { count, per, burst: None }) if count != u32::MAX => Some(Threshold { count, within: per }),
        _ => {
            let what = format!("`{}` is no count within a time", text.get_ref());
            check(text.span(), (what, "write it like \"3/h\" or \"10/30m\"".into()));
            None
        }
    });
    let samples: Vec<Sample> = text
        .samples
        .iter()
        .filter_map(|sample| {
            let found = line::bare(sample.get_ref()).filter(|found| !found.reply.is_success());
            if found.is_none() {
                let what = format!("the sample {:?} is no refusal", sample.get_ref());
                let advice = "write a whole reply as the server says it, like \"550 5.1.1 User unknown\"";
                check(sample.span(), (what, advice.into()));
            }
            let found = found?;
            let stage = found.stage.or(stages.first().copied()).unwrap_or(Stage::Rcpt);
            Some(Sample { stage, reply: found.reply, place: document.place(&sample.span()) })
        })
        .collect();
    if text.samples.is_empty() {
        let what = format!("the rule `{name}` has no sample");
        let advice = "add `samples = [\"...\"]` with a whole reply that it is for";
        check(text.name.span(), (what, advice.into()));
    }
    if !has_condition {
        let what = format!("the rule `{name}` has no condition");
        check(text.name.span(), (what, "give it a `text`, a `code` or an `enhanced` code".into()));
    }

    let (Some(class), true) = (class, faults.is_empty()) else { return Err(faults) };
    let defaults = class.defaults();
    let reach = scope.unwrap_or(defaults.scope);
    let is_ours = reach >= Scope::Session;
    let default_recipient = match defaults.recipient {
        // What the rule says is about us is not held against a recipient.
        RecipientAction::Bounce | RecipientAction::Suppress if is_ours && scope.is_some() => {
            RecipientAction::Retry
        }
        recipient => recipient,
    };
    let default_measure = defaults.measure.filter(|measure| !measure.needs_reach() || is_ours);
    let rule = Rule {
        name: name.into(),
        provider_place: provider_span.map_or_else(|| place.clone(), |span| document.place(&span)),
        place,
        providers: providers.into(),
        stages: stages.into(),
        codes,
        texts: texts.into(),
        class,
        scope: reach,
        recipient: actions.recipient.unwrap_or(default_recipient),
        insists: actions.recipient.is_some(),
        measure: actions.measure.unwrap_or(default_measure),
        threshold,
        alert: actions.alert.unwrap_or(defaults.alert),
        samples: samples.into(),
    };
    let action_span = action_span.unwrap_or(text.class.span());
    let after_span = text.after.map(|after| after.span());
    for (span, what, advice) in contradictions(&rule, action_span, after_span) {
        faults.push(document.fault(&span, what, advice));
    }
    if faults.is_empty() { Ok(rule) } else { Err(faults) }
}

/// What a rule says that cannot be meant: where, what, what to do.
fn contradictions(
    rule: &Rule,
    action: Range<usize>,
    after: Option<Range<usize>>,
) -> Vec<(Range<usize>, String, &'static str)> {
    let mut found = Vec::new();
    let name = &rule.name;
    if rule.recipient == RecipientAction::Suppress && rule.scope != Scope::Recipient {
        let what = format!("the rule `{name}` is not about the recipient and suppresses it");
        let advice = "use \"retry\" or \"bounce\", or scope = \"recipient\"";
        found.push((action.clone(), what, advice));
    }
    if rule.measure.is_some_and(Measure::needs_reach) && rule.scope < Scope::Session {
        let what = format!(
            "the measure of the rule `{name}` reaches nothing: its scope is the {}",
            rule.scope.name()
        );
        found.push((action, what, "give it a scope from \"session\" on, like scope = \"path\""));
    }
    if let (Some(after), None) = (after, rule.measure) {
        let what = format!("the rule `{name}` has no measure that `after` could hold back");
        found.push((after, what, "add one, like action = \"slow 0.5\", or leave `after` out"));
    }
    found
}

impl Measure {
    /// Whether it acts on what the verdict's scope says, instead of on what its name says.
    pub fn needs_reach(self) -> bool {
        matches!(self, Self::Slow(_) | Self::Narrow | Self::Suspend { .. })
    }
}
