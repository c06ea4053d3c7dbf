//! DATA and BDAT: the content comes in, is broken off, refused, or accepted with an answer or without.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{Dialog, End};
use crate::world::file::{Stage, TroubleFile};
use crate::world::transaction::Transaction;

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Dialog<'a, '_, S> {
    pub(super) async fn data(&mut self) -> Result<(), End> {
        let empty = self.session.transaction.recipients.is_empty();
        if empty && !self.visit.provider().file.lenient_data {
            return self.reply("503 5.5.1 No valid recipients", "").await;
        }
        if let Some(trouble) = self.session.transaction.trouble_at(Stage::Data) {
            let struck = self.strike_message(trouble).await;
            self.clear();
            return struck;
        }
        self.reply("354 Start mail input; end with <CRLF>.<CRLF>", "").await?;
        self.break_content().await?;
        self.session.content.clear();
        let size = self.visit.provider().file.size;
        self.session.transaction.too_long = !self.wire.dotted(&mut self.session.content, size).await?;
        if empty {
            self.clear();
            return self.reply("554 5.5.1 No valid recipients", "").await;
        }
        self.content_complete().await
    }

    pub(super) async fn bdat(&mut self, rest: &str) -> Result<(), End> {
        let mut words = rest.split_ascii_whitespace();
        let count = words.next().and_then(|count| count.parse::<usize>().ok());
        let last = words.next().map(|word| word.eq_ignore_ascii_case("LAST"));
        let (Some(count), None | Some(true)) = (count, last) else {
            // Where the chunk ends is not known, so neither is where the next command begins.
            self.reply("501 5.5.4 Syntax: BDAT count [LAST]", "").await?;
            return Err(End::Closed);
        };
        if count > 0 {
            self.break_content().await?;
        }
        let size = self.visit.provider().file.size;
        let fits = self.wire.chunk(&mut self.session.content, count, size).await?;
        self.session.transaction.too_long |= !fits;
        if self.session.transaction.recipients.is_empty() {
            self.session.content.clear();
            self.session.transaction = Transaction::default();
            return self.reply("503 5.5.1 No valid recipients", "").await;
        }
        if let Some(trouble) = self.session.transaction.trouble_at(Stage::Data) {
            let struck = self.strike_message(trouble).await;
            self.clear();
            return struck;
        }
        match last {
            Some(_) => self.content_complete().await,
            None => self.reply("250 2.0.0 Chunk OK", "").await,
        }
    }

    /// Breaks off in the middle of the content if that is this message's trouble.
    async fn break_content(&mut self) -> Result<(), End> {
        match self.session.transaction.trouble_at(Stage::Content) {
            Some(trouble) if !trouble.fault.has_reply() => {
                self.wire.pending().await?;
                self.strike(trouble, "").await
            }
            _ => Ok(()),
        }
    }

    async fn content_complete(&mut self) -> Result<(), End> {
        let transaction = std::mem::take(&mut self.session.transaction);
        let content = std::mem::take(&mut self.session.content);
        let result = self.answer_content(transaction, &content).await;
        // The allocation serves the next message, unless one was huge.
        if content.capacity() <= 1 << 20 {
            self.session.content = content;
            self.session.content.clear();
        }
        result
    }

    async fn answer_content(&mut self, transaction: Transaction<'a>, content: &[u8]) -> Result<(), End> {
        if transaction.too_long {
            return self.reply("552 5.3.4 Message is longer than allowed", "").await;
        }
        if let Some(reply) = self.visit.block(Stage::Content, transaction.number, Instant::now()) {
            for recipient in &transaction.recipients {
                self.visit.shared.ledger().undo_attempt(recipient.key);
            }
            return self.reply(reply, "").await;
        }
        if let Some(trouble) = transaction.trouble.filter(|trouble| trouble.stage() <= Stage::BeforeReply) {
            let address = transaction.recipients.first().map_or("", |first| first.address.as_str());
            return self.strike(trouble, address).await;
        }
        let unanswered = transaction.trouble_at(Stage::AfterAccept);
        transaction.accept(self.visit, content, unanswered.is_none(), self.session.tls).await;
        match unanswered {
            Some(trouble) => self.strike(trouble, "").await,
            None => self.reply("250 2.0.0 OK: queued", "").await,
        }
    }

    async fn strike_message(&mut self, trouble: &TroubleFile) -> Result<(), End> {
        let first = self.session.transaction.recipients.first();
        let address = first.map(|first| first.address.clone()).unwrap_or_default();
        self.strike(trouble, &address).await
    }
}
