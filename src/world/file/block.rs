//! A block in the file: which sources a provider refuses, where in the session, when, and how.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};

use super::trouble::{Stage, check_refusal};
use crate::world::measure::Span;

/// Some or all sources refused at one stage. About the sender only: what must become of recipients
/// is worked out as if there were none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockFile {
    pub source: Sources,
    /// greeting, ehlo (and HELO), mail, rcpt or content (at its end).
    #[serde(default = "mail")]
    pub stage: Stage,
    /// `{source}` stands for the source's address; absent: the style's refusal for good.
    pub reply: Option<String>,
    /// World time since the world's start; absent: from then on.
    pub from: Option<Span>,
    /// The first moment that is free again; absent: never.
    pub until: Option<Span>,
    /// From the so-manieth MAIL of the source at this provider on, 1 being the first. A session that
    /// begins when the MAIL before it has come is blocked in its greeting and at EHLO.
    #[serde(default = "first")]
    pub after: u32,
}

fn mail() -> Stage {
    Stage::Mail
}

fn first() -> u32 {
    1
}

/// Source addresses: `"all"`, one, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    All,
    These(Vec<IpAddr>),
}

impl Sources {
    pub fn contains(&self, source: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::These(sources) => sources.contains(&source),
        }
    }
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(String),
            Several(Vec<String>),
        }
        let wrong = |text: &str| de::Error::custom(format!("{text:?} is neither an address nor \"all\""));
        let texts = match Written::deserialize(deserializer)? {
            Written::One(text) if text == "all" => return Ok(Self::All),
            Written::One(text) => vec![text],
            Written::Several(texts) => texts,
        };
        let sources: Result<_, _> = texts.iter().map(|text| text.parse().map_err(|_| wrong(text))).collect();
        sources.map(Self::These)
    }
}

impl BlockFile {
    pub(super) fn check(&self) -> Result<(), String> {
        if !matches!(self.stage, Stage::Greeting | Stage::Ehlo | Stage::Mail | Stage::Rcpt | Stage::Content) {
            return Err("a block is at greeting, ehlo, mail, rcpt or content".to_owned());
        }
        let begins = self.from.unwrap_or_default().0;
        if self.until.is_some_and(|until| until.0 <= begins) {
            return Err("a block ends after it begins".to_owned());
        }
        if self.after == 0 {
            return Err("transactions are counted from 1".to_owned());
        }
        self.reply.iter().try_for_each(|reply| check_refusal(reply))
    }
}
