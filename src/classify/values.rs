//! Single values of a rule as people write them: stages, reply codes, enhanced codes, actions.

use std::time::Duration;

use super::line::{self, STAGES};
use super::rules::{CodeRange, EnhancedRange};
use super::{Measure, RecipientAction};
use crate::config::fault;
use crate::config::units::parse_duration;
use crate::outcome::Stage;

/// What a path keeps of its rate after a suspension, where the rule does not say.
const RESUME: f32 = 0.25;

/// What is wrong with a value: what, what to do.
pub(super) type Wrong = (String, String);

pub(super) fn stage(word: &str) -> Result<Stage, Wrong> {
    let known = STAGES.map(|(name, _)| name);
    line::stage_named(word).ok_or_else(|| (format!("`{word}` is no stage"), fault::suggestion(word, &known)))
}

/// `421`, `4yz`, `45z`.
pub(super) fn code_range(word: &str) -> Result<CodeRange, Wrong> {
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
pub(super) fn enhanced_range(word: &str) -> Result<EnhancedRange, Wrong> {
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
pub(super) struct Actions {
    pub recipient: Option<RecipientAction>,
    /// `Some(None)`: the rule wants none.
    pub measure: Option<Option<Measure>>,
    pub alert: Option<bool>,
}

impl Actions {
    pub fn take(&mut self, text: &str) -> Result<(), Wrong> {
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
