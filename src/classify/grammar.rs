//! The text of one rule file made into rules: keys, values, places. Every mistake is told, not only the
//! first; what only the whole set can show (samples, rules never reached) is [`super::lint`]'s.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{IntoDeserializer, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::line::{self, STAGES};
use super::pattern::Pattern;
use super::rules::{CodeRange, Codes, EnhancedRange, Place, Rule, Sample};
use super::{Class, Measure, RecipientAction, Threshold};
use crate::config::units::{Rate, parse_duration};
use crate::config::{Fault, fault};
use crate::outcome::{Scope, Stage};

/// What a path keeps of its rate after a suspension, where the rule does not say.
const RESUME: f32 = 0.25;

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

/// What is wrong with a value: what, what to do.
type Wrong = (String, String);

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
    if rule.recipient == RecipientAction::Suppress && rule.scope != Scope::Recipient {
        let what = format!("the rule `{name}` is not about the recipient and suppresses it");
        faults.push(document.fault(
            &action_span,
            what,
            "use \"retry\" or \"bounce\", or scope = \"recipient\"",
        ));
    }
    if rule.measure.is_some_and(Measure::needs_reach) && !is_ours {
        let what =
            format!("the measure of the rule `{name}` reaches nothing: its scope is the {}", reach.name());
        let advice = "give it a scope from \"session\" on, like scope = \"path\"";
        faults.push(document.fault(&action_span, what, advice));
    }
    if let (Some(after), None) = (&text.after, rule.measure) {
        let what = format!("the rule `{name}` has no measure that `after` could hold back");
        faults.push(document.fault(
            &after.span(),
            what,
            "add one, like action = \"slow 0.5\", or leave `after` out",
        ));
    }
    if faults.is_empty() { Ok(rule) } else { Err(faults) }
}

impl Measure {
    /// Whether it acts on what the verdict's scope says, instead of on what its name says.
    pub fn needs_reach(self) -> bool {
        matches!(self, Self::Slow(_) | Self::Narrow | Self::Suspend { .. })
    }
}

fn stage(word: &str) -> Result<Stage, Wrong> {
    let known = STAGES.map(|(name, _)| name);
    line::stage_named(word).ok_or_else(|| (format!("`{word}` is no stage"), fault::suggestion(word, &known)))
}

/// `421`, `4yz`, `45z`.
fn code_range(word: &str) -> Result<CodeRange, Wrong> {
    let wrong =
        || (format!("`{word}` is no reply code of a refusal"), "write 421, \"45z\" or \"5yz\"".to_owned());
    let (first, last) = match word.as_bytes() {
        [b'4' | b'5', b'y', b'z'] => (format!("{}00", &word[..1]), format!("{}99", &word[..1])),
        [b'4' | b'5', digit, b'z'] if digit.is_ascii_digit() => {
            (format!("{}0", &word[..2]), format!("{}9", &word[..2]))
        }
        [b'4' | b'5', rest @ ..] if rest.len() == 2 && rest.iter().all(u8::is_ascii_digit) => {
            (word.to_owned(), word.to_owned())
        }
        _ => return Err(wrong()),
    };
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => Ok(CodeRange { first, last }),
        _ => Err(wrong()),
    }
}

/// `4.7.28`, `4.7.*`, `5.7.606-649`.
fn enhanced_range(word: &str) -> Result<EnhancedRange, Wrong> {
    let wrong = || {
        let advice = "write \"4.7.28\", \"4.7.*\" or \"5.7.606-649\"";
        (format!("`{word}` is no enhanced code of a refusal"), advice.to_owned())
    };
    let number = |text: &str| -> Option<u16> {
        let is_number = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
        if is_number { text.parse().ok() } else { None }
    };
    let parsed = || {
        let mut parts = word.split('.');
        let class = number(parts.next()?).filter(|class| matches!(class, 4 | 5))?;
        let subject = number(parts.next()?)?;
        let detail = parts.next()?;
        if parts.next().is_some() {
            return None;
        }
        let (first, last) = match detail.split_once('-') {
            _ if detail == "*" => (0, 999),
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(detail)?, number(detail)?),
        };
        (first <= last).then_some(EnhancedRange { class: class as u8, subject, first, last })
    };
    parsed().ok_or_else(wrong)
}

/// What a rule's actions say; `None` where they leave it to the class.
#[derive(Default)]
struct Actions {
    recipient: Option<RecipientAction>,
    measure: Option<Option<Measure>>,
    alert: Option<bool>,
}

impl Actions {
    fn take(&mut self, text: &str) -> Result<(), Wrong> {
        let unknown = || {
            let known = "\"retry\", \"retry after 15m\", \"bounce\", \"suppress\"; \"slow 0.5\", \"narrow\", \"reconnect\", \
                 \"suspend 2h\", \"suspend 2h resume 0.25\", \"take source out 6h\", \"pause domain 1h\", \
                 \"pause campaign\", \"no measure\"; \"alert\", \"no alert\"";
            (format!("`{text}` is no action"), format!("known here: {known}"))
        };
        let time = |word: &str| -> Result<Duration, Wrong> {
            match parse_duration(word) {
                Ok(time) if !time.is_zero() => Ok(time),
                Ok(_) => Err((format!("`{text}` is for no time"), "give a time like \"15m\"".into())),
                Err(error) => Err((error.to_string(), String::new())),
            }
        };
        let part = |word: &str, whole: bool| -> Result<f32, Wrong> {
            let number: Option<f32> = word.parse().ok();
            number.filter(|part| *part > 0.0 && (*part < 1.0 || whole && *part <= 1.0)).ok_or_else(|| {
                let advice = "a rate is multiplied by it: write a number between 0 and 1, like 0.5";
                (format!("`{word}` is no part of a rate"), advice.to_owned())
            })
        };
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let set = match words[..] {
            ["retry"] => self.recipient.replace(RecipientAction::Retry).is_some(),
            ["retry", "after", wait] => {
                self.recipient.replace(RecipientAction::RetryAfter(time(wait)?)).is_some()
            }
            ["bounce"] => self.recipient.replace(RecipientAction::Bounce).is_some(),
            ["suppress"] => self.recipient.replace(RecipientAction::Suppress).is_some(),
            ["alert"] => self.alert.replace(true).is_some(),
            ["no", "alert"] => self.alert.replace(false).is_some(),
            _ => {
                let measure = match words[..] {
                    ["no", "measure"] => None,
                    ["slow", factor] => Some(Measure::Slow(part(factor, false)?)),
                    ["narrow"] => Some(Measure::Narrow),
                    ["reconnect"] => Some(Measure::Reconnect),
                    ["suspend", lasting] => {
                        Some(Measure::Suspend { lasting: time(lasting)?, resume: RESUME })
                    }
                    ["suspend", lasting, "resume", resume] => {
                        Some(Measure::Suspend { lasting: time(lasting)?, resume: part(resume, true)? })
                    }
                    ["take", "source", "out", lasting] => Some(Measure::TakeOut(time(lasting)?)),
                    ["pause", "domain", lasting] => Some(Measure::PauseDomain(time(lasting)?)),
                    ["pause", "campaign"] => Some(Measure::PauseCampaign),
                    _ => return Err(unknown()),
                };
                self.measure.replace(measure).is_some()
            }
        };
        if set {
            let advice = "one action for the recipient, one measure and \"alert\" at most";
            return Err((format!("`{text}` is a second action of its kind"), advice.into()));
        }
        Ok(())
    }
}
