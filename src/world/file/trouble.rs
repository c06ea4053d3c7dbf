//! A trouble in the file: which fault, at which stage, for whom, at which attempts.

use serde::Deserialize;

use crate::world::fate::Fate;

/// Something that goes wrong for a share of addresses, or of connections, at one stage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TroubleFile {
    pub fault: FaultKind,
    /// Needed unless the fault has a stage of its own (unknown-user, mailbox-full, content-refused).
    pub stage: Option<Stage>,
    #[serde(default = "one")]
    pub share: f64,
    /// Only these attempts have it; absent = all. From `rcpt` on: how often the address was asked
    /// for at RCPT TO (greylisted ones not counted); before it: connections of the host (`mail`:
    /// transactions of the host).
    pub attempts: Option<Vec<u32>>,
    /// In place of the wording the fault has here.
    pub reply: Option<String>,
    /// Overrides what is worked out.
    pub expect: Option<Fate>,
}

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Connect,
    Greeting,
    Ehlo,
    #[serde(rename = "starttls")]
    StartTls,
    Mail,
    Rcpt,
    /// At the DATA command or the first BDAT.
    Data,
    /// In the middle of the content; a reply at its end.
    Content,
    /// The content is in, not accepted, not answered.
    BeforeReply,
    /// The content is in and counts as accepted, and is not answered.
    AfterAccept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The text of `reply`.
    Reply,
    /// 421 and the connection closes.
    #[serde(rename = "421")]
    Closing421,
    #[serde(rename = "4yz")]
    Temporary,
    #[serde(rename = "5yz")]
    Permanent,
    /// An orderly end of the stream.
    Disconnect,
    /// TCP reset.
    Reset,
    /// A line that is no SMTP reply.
    Garbage,
    /// Silence for the file's `stall`, then the connection closes.
    Stall,
    UnknownUser,
    MailboxFull,
    ContentRefused,
}

impl TroubleFile {
    /// The stage given, or that of a fault that has its own.
    pub fn stage(&self) -> Stage {
        match self.fault {
            FaultKind::ContentRefused => self.stage.unwrap_or(Stage::Content),
            FaultKind::UnknownUser | FaultKind::MailboxFull => self.stage.unwrap_or(Stage::Rcpt),
            _ => self.stage.unwrap_or(Stage::Connect),
        }
    }

    /// Whether addresses have this trouble, not connections.
    pub fn scope_is_address(&self) -> bool {
        self.stage() >= Stage::Rcpt
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let own_stage =
            matches!(self.fault, FaultKind::UnknownUser | FaultKind::MailboxFull | FaultKind::ContentRefused);
        if self.stage.is_none() && !own_stage {
            return Err("a trouble needs a stage".to_owned());
        }
        if !(0.0..=1.0).contains(&self.share) {
            return Err("a share is a number from 0 to 1".to_owned());
        }
        if (self.fault == FaultKind::Reply) != self.reply.is_some() && !self.fault.has_reply() {
            return Err("a trouble has a reply exactly when its fault is one".to_owned());
        }
        if let Some(reply) = &self.reply {
            check_reply(reply, &['2', '4', '5'])?;
        }
        let silent = matches!(self.stage(), Stage::BeforeReply | Stage::AfterAccept | Stage::Connect);
        if silent && self.fault.has_reply() {
            return Err("before-reply, after-accept and connect have no reply to give".to_owned());
        }
        Ok(())
    }
}

/// Whether the text is a reply that refuses.
pub(super) fn check_refusal(reply: &str) -> Result<(), String> {
    check_reply(reply, &['4', '5'])
}

fn check_reply(reply: &str, classes: &[char]) -> Result<(), String> {
    let code = reply.get(..3).unwrap_or("");
    let good = code.starts_with(classes) && code.bytes().all(|b| b.is_ascii_digit());
    if !good || reply.contains('\r') {
        return Err(format!("{reply:?} is no reply that fits here; write it like \"451 4.3.0 later\""));
    }
    Ok(())
}

impl FaultKind {
    /// Whether the fault is a reply to the command of its stage.
    pub fn has_reply(self) -> bool {
        !matches!(self, Self::Disconnect | Self::Reset | Self::Garbage | Self::Stall)
    }
}

fn one() -> f64 {
    1.0
}
