//! The server's side of SMTP: commands in, replies and faults out.
//!
//! `Dialog::run` reads, `command` branches, an arm is a method; those of the envelope are in
//! [`envelope`], those of the content in [`content`]. Faults of connections are looked up by ordinal,
//! faults of addresses by the attempt that RCPT TO made; both in [`super::plan`].

mod content;
mod envelope;
mod syntax;

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::file::{Extension, FaultKind, Stage, TroubleFile};
use super::server::{GARBAGE, Visit};
use super::transaction::Transaction;
use super::wire::Wire;
use syntax::format_reply;

/// How a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// We close, after what was said.
    Closed,
    Reset,
    /// The client went away.
    Gone,
    StartTls,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// What a session remembers between commands.
#[derive(Default)]
pub(crate) struct Session<'a> {
    greeted: bool,
    tls: bool,
    smtputf8: bool,
    /// MAIL commands so far.
    messages: u32,
    transaction: Transaction<'a>,
    content: Vec<u8>,
    template: String,
}

impl Session<'_> {
    /// After the handshake the client starts over with EHLO (RFC 3207 §4.2).
    pub fn upgraded(&mut self) {
        (self.tls, self.greeted) = (true, false);
        self.transaction = Transaction::default();
    }
}

pub(crate) struct Dialog<'a, 'w, S> {
    visit: &'a Visit,
    wire: &'w mut Wire<S>,
    session: &'w mut Session<'a>,
}

impl<'a, 'w, S: AsyncRead + AsyncWrite + Unpin> Dialog<'a, 'w, S> {
    pub fn new(visit: &'a Visit, wire: &'w mut Wire<S>, session: &'w mut Session<'a>) -> Self {
        Self { visit, wire, session }
    }

    /// Says why there is no greeting.
    pub async fn refuse(&mut self, reply: &str) -> End {
        self.reply(reply, "").await.err().unwrap_or(End::Closed)
    }

    pub async fn greet_and_run(&mut self) -> End {
        match self.greeting().await {
            Ok(()) => self.run().await,
            Err(end) => end,
        }
    }

    async fn greeting(&mut self) -> Result<(), End> {
        if let Some(trouble) = self.session_trouble(Stage::Greeting, self.visit.ordinal) {
            self.strike(trouble, "").await?;
            // A host that refuses in its greeting waits for QUIT; we spare both the time.
            return Err(End::Closed);
        }
        let greeting = format!("220 {} ESMTP ready", self.visit.host_name());
        self.reply(&greeting, "").await
    }

    /// Commands until the session ends, one way or the other.
    pub async fn run(&mut self) -> End {
        let mut line = Vec::with_capacity(256);
        loop {
            let result = match self.wire.line(&mut line).await {
                Ok(()) => self.command(&line).await,
                Err(error) => Err(End::from(error)),
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn command(&mut self, line: &[u8]) -> Result<(), End> {
        let Ok(line) = std::str::from_utf8(line) else {
            return self.reply("500 5.5.2 Command is no UTF-8", "").await;
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        self.check_turn(&verb, line);
        match verb.as_str() {
            "EHLO" => self.ehlo(rest).await,
            "HELO" => self.helo(rest).await,
            "STARTTLS" => self.starttls().await,
            "MAIL" => self.mail(rest).await,
            "RCPT" => self.rcpt(rest).await,
            "DATA" => self.data().await,
            "BDAT" if self.offers(Extension::Chunking) => self.bdat(rest).await,
            "RSET" => {
                self.clear();
                self.reply("250 2.0.0 Reset", "").await
            }
            "NOOP" => self.reply("250 2.0.0 OK", "").await,
            "QUIT" => {
                // The client may open its next connection as soon as it has read this.
                self.visit.presence.release();
                self.reply("221 2.0.0 Bye", "").await?;
                Err(End::Closed)
            }
            _ => self.reply("500 5.5.1 Command unrecognized", "").await,
        }
    }

    /// Counts commands that came before their turn.
    fn check_turn(&mut self, verb: &str, line: &str) {
        let last_of_group = matches!(verb, "EHLO" | "HELO" | "STARTTLS" | "DATA" | "QUIT" | "VRFY");
        let early = self.wire.has_pending()
            && (last_of_group || (verb != "BDAT" && !self.offers(Extension::Pipelining)));
        if early {
            let what = format!("{}: more came behind {line:?}", self.visit.host_name());
            self.visit.shared.ledger().violation(&what);
        }
    }

    async fn ehlo(&mut self, name: &str) -> Result<(), End> {
        if let Some(trouble) = self.session_trouble(Stage::Ehlo, self.visit.ordinal) {
            return self.strike(trouble, "").await;
        }
        if let Some(reply) = self.visit.block_of_session(Stage::Ehlo) {
            return self.reply(reply, "").await;
        }
        let provider = self.visit.provider();
        if !provider.file.ehlo {
            return self.reply("502 5.5.1 Command not implemented", "").await;
        }
        if name.trim().is_empty() {
            return self.reply("501 5.5.4 EHLO needs a name", "").await;
        }
        self.clear();
        self.session.greeted = true;
        let mut text = format!("250 {} at your service", self.visit.host_name());
        let per_connection = provider.file.limits.messages_per_connection;
        for extension in &provider.file.extensions {
            match extension {
                Extension::Pipelining => text.push_str("\nPIPELINING"),
                Extension::Chunking => text.push_str("\nCHUNKING"),
                Extension::Size => text.push_str(&format!("\nSIZE {}", provider.file.size)),
                Extension::EightBitMime => text.push_str("\n8BITMIME"),
                Extension::SmtpUtf8 => text.push_str("\nSMTPUTF8"),
                Extension::StartTls if !self.session.tls => text.push_str("\nSTARTTLS"),
                Extension::StartTls => {}
                Extension::EnhancedStatusCodes => text.push_str("\nENHANCEDSTATUSCODES"),
                Extension::Limits => {
                    if let Some(max) = per_connection {
                        text.push_str(&format!("\nLIMITS MAILMAX={max}"));
                    }
                }
                Extension::Dsn => text.push_str("\nDSN"),
            }
        }
        self.reply(&text, "").await
    }

    async fn helo(&mut self, name: &str) -> Result<(), End> {
        if let Some(reply) = self.visit.block_of_session(Stage::Ehlo) {
            return self.reply(reply, "").await;
        }
        if name.trim().is_empty() {
            return self.reply("501 5.5.4 HELO needs a name", "").await;
        }
        self.clear();
        self.session.greeted = true;
        let text = format!("250 {}", self.visit.host_name());
        self.reply(&text, "").await
    }

    async fn starttls(&mut self) -> Result<(), End> {
        if self.session.tls || !self.offers(Extension::StartTls) {
            return self.reply("503 5.5.1 STARTTLS is not offered", "").await;
        }
        if let Some(trouble) = self.session_trouble(Stage::StartTls, self.visit.ordinal) {
            return self.strike(trouble, "").await;
        }
        self.reply("220 2.0.0 Ready to start TLS", "").await?;
        self.wire.flush().await?;
        Err(End::StartTls)
    }

    /// Does what a trouble does; an error means that the session is over by it.
    async fn strike(&mut self, trouble: &TroubleFile, address: &str) -> Result<(), End> {
        let number = self.visit.provider_number();
        if let Some(text) = reply_of(trouble, self.visit) {
            self.visit.shared.ledger().refused(number, text);
            return self.reply(text, address).await;
        }
        self.visit.shared.ledger().provider(number).broken += 1;
        match trouble.fault {
            FaultKind::Reset => return Err(End::Reset),
            FaultKind::Garbage => {
                self.wire.reply(GARBAGE).await?;
                self.wire.flush().await?;
                tokio::time::sleep(self.visit.shared.plan.stall).await;
            }
            FaultKind::Stall => {
                self.wire.flush().await?;
                tokio::time::sleep(self.visit.shared.plan.stall).await;
            }
            _ => {}
        }
        Err(End::Closed)
    }

    /// Sends a reply of one or more lines (`\n`), codes added, placeholders filled; 421 ends the session.
    async fn reply(&mut self, text: &str, address: &str) -> Result<(), End> {
        let multiline = self.visit.provider().file.multiline;
        let out = &mut self.session.template;
        out.clear();
        format_reply(text, multiline, out);
        if out.contains('{') {
            let source = self.visit.source.to_string();
            *out = out.replace("{address}", address).replace("{source}", &source);
        }
        if text.starts_with("421") {
            self.visit.presence.release();
        }
        self.wire.reply(self.session.template.as_bytes()).await?;
        if text.starts_with("421") { Err(End::Closed) } else { Ok(()) }
    }

    fn clear(&mut self) {
        self.session.transaction = Transaction::default();
        self.session.content.clear();
        self.session.smtputf8 = false;
    }

    fn offers(&self, extension: Extension) -> bool {
        self.visit.provider().offers(extension)
    }

    fn session_trouble(&self, stage: Stage, ordinal: u64) -> Option<&'a TroubleFile> {
        self.visit.shared.plan.session_trouble(self.visit.host, stage, ordinal)
    }
}

/// The text a trouble answers with, if it answers.
fn reply_of<'t>(trouble: &'t TroubleFile, visit: &Visit) -> Option<&'t str> {
    if !trouble.fault.has_reply() {
        return None;
    }
    let phrases = visit.provider().file.style.phrases();
    Some(trouble.reply.as_deref().unwrap_or(match trouble.fault {
        FaultKind::Closing421 => phrases.closing,
        FaultKind::Permanent => phrases.permanent,
        FaultKind::UnknownUser => phrases.unknown_user,
        FaultKind::MailboxFull => phrases.mailbox_full,
        FaultKind::ContentRefused => phrases.content_refused,
        _ => phrases.temporary,
    }))
}
