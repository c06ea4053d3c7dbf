//! The loop of a running session: orders in, octets both ways, outcomes out.
//!
//! A carrier drives one [`Pipeline`] over one stream. It writes and reads at the same time, so
//! that a peer whose replies fill up cannot stall it; it makes the next message while it waits for
//! answers; and it asks its path for work before it runs out. One timer serves all phases: it is only
//! set anew when the next deadline is earlier than the one it has, or when it fires too early, which
//! keeps the timer wheel off the path of a message. Nothing here races a transaction: what is read
//! stays in the reader, and a timeout ends the connection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::replies::ReplyReader;
use super::session::io_failure;
use super::transaction::{Event, Phase, Pipeline};
use super::{Capabilities, ComposeFailure, Composed, Link, Quirk, SessionEnd, SessionEvent, Timeouts, Trust};
use crate::envelope::Entry;
use crate::outcome::{Failure, Finding, Outcome, Slot};

/// Entries asked for at a time, at first and by the slowest sessions: what waits in a slow session
/// cannot go elsewhere.
const BATCH_MIN: usize = 4;
/// Entries asked for at a time by the fastest.
const BATCH_MAX: usize = 64;
/// Half a batch gone within this time makes the next twice as large.
const BATCH_FAST: Duration = Duration::from_millis(250);
/// Half a batch that takes longer than this makes the next half as large.
const BATCH_SLOW: Duration = Duration::from_secs(2);
/// Longer waits than this are no waits at all, and some clocks cannot add them.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What was agreed before the first transaction.
pub struct Terms {
    pub capabilities: Capabilities,
    pub trust: Trust,
    pub timeouts: Timeouts,
    /// Reported as soon as the session runs.
    pub learned: Vec<Quirk>,
    /// With whatever the peer sent behind its last answer.
    pub replies: ReplyReader,
}

/// Runs a session over any stream that has been greeted; see [`super::Session::run`].
pub async fn run_on<S, C, A, U>(stream: S, terms: Terms, link: Link<C, A, U>) -> SessionEnd
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: FnMut(Entry, &mut Composed) -> Result<(), ComposeFailure> + Send,
    A: Fn() -> Result<(), Instant> + Send,
    U: Fn(Instant) + Send,
{
    let Terms { capabilities, trust, timeouts, learned, replies } = terms;
    for quirk in learned {
        link.tell(SessionEvent::Learned(quirk));
    }
    let now = Instant::now();
    let mut carrier = Carrier {
        pipeline: Pipeline::new(capabilities, trust, link.window, link.messages_max),
        stopped: Box::pin(link.stop.clone().cancelled_owned()),
        stream,
        replies,
        timeouts,
        queue: VecDeque::new(),
        orders_ended: false,
        asked: false,
        batch: BATCH_MIN,
        batch_at: None,
        spare_slot: None,
        admitted: Vec::new(),
        held_until: None,
        gate: Box::pin(sleep_until(now)),
        write_failure: None,
        needs_flush: false,
        progress_at: now,
        timer: Box::pin(sleep_until(now + link.idle.min(WAIT_MAX))),
        link,
    };
    let end = carrier.run().await;
    carrier.leave(end).await
}

impl<C, A, U> Link<C, A, U> {
    fn tell(&self, event: SessionEvent) {
        // A path that no longer listens is gone, and with it whoever would act on the event.
        let _ = self.events.send((self.session, event));
    }
}

struct Carrier<S, C, A, U> {
    stream: S,
    replies: ReplyReader,
    pipeline: Pipeline,
    link: Link<C, A, U>,
    timeouts: Timeouts,
    queue: VecDeque<Entry>,
    orders_ended: bool,
    /// `Wants` has been sent and not been answered.
    asked: bool,
    batch: usize,
    /// When the last batch came; `None` before the first.
    batch_at: Option<Instant>,
    /// Acquired for a message that could not be made.
    spare_slot: Option<Slot>,
    /// When each message under way was admitted.
    admitted: Vec<(Slot, Instant)>,
    /// No message may be made before: the pace of the path.
    held_until: Option<Instant>,
    gate: Pin<Box<Sleep>>,
    /// Writing failed; what the peer said before it closed may still be read.
    write_failure: Option<Failure>,
    needs_flush: bool,
    /// When octets last moved, or the session last went from idle to busy.
    progress_at: Instant,
    timer: Pin<Box<Sleep>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What ended a wait.
enum Woken {
    Progress,
    TimedOut(Duration),
}

impl<S, C, A, U> Carrier<S, C, A, U>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: FnMut(Entry, &mut Composed) -> Result<(), ComposeFailure> + Send,
    A: Fn() -> Result<(), Instant> + Send,
    U: Fn(Instant) + Send,
{
    /// Carries messages until there is a reason to end.
    async fn run(&mut self) -> SessionEnd {
        loop {
            if self.report().await.is_err() {
                return SessionEnd::Abandoned;
            }
            if let Some(end) = self.pipeline.end() {
                return end.clone();
            }
            if self.pipeline.room() > 0 && self.link.stop.is_cancelled() {
                self.pipeline.stop_starting();
                continue;
            }
            self.take_orders();
            let mut may_wait = true;
            if self.pipeline.wants_message() && !self.queue.is_empty() && self.held_until.is_none() {
                match self.make_message().await {
                    Ok(made) => may_wait = !made,
                    Err(Abandoned) => return SessionEnd::Abandoned,
                }
            }
            self.ask();
            if self.pipeline.is_quiet() && may_wait {
                if self.pipeline.room() == 0 {
                    let is_stopped = self.link.stop.is_cancelled() && !self.pipeline.is_full();
                    return if is_stopped { SessionEnd::Stopped } else { SessionEnd::Full };
                }
                if self.orders_ended && self.queue.is_empty() {
                    return SessionEnd::Quit;
                }
            }
            match std::future::poll_fn(|cx| self.poll_progress(cx, may_wait)).await {
                Woken::Progress => {}
                Woken::TimedOut(_) if self.pipeline.phase() == Phase::Idle => return SessionEnd::Idle,
                Woken::TimedOut(wait) => {
                    let failure = self.write_failure.take().unwrap_or(Failure::Timeout(wait));
                    self.pipeline.broke(failure);
                }
            }
        }
    }

    /// Returns what was not started, says QUIT where somebody listens, and closes.
    async fn leave(mut self, end: SessionEnd) -> SessionEnd {
        self.return_rest().await;
        if self.pipeline.end().is_none() && end != SessionEnd::Abandoned {
            self.pipeline.quit();
            let wait = self.timeouts.quit;
            let farewell = async {
                while self.pipeline.end().is_none() {
                    std::future::poll_fn(|cx| self.poll_octets(cx)).await;
                }
                self.stream.shutdown().await
            };
            // RFC 5321 §4.1.1.10 has the client wait for the answer; all is settled, so not for long.
            let _ = timeout(wait, farewell).await;
        }
        end
    }

    async fn return_rest(&mut self) {
        // Closed first, so that a batch sent at this moment is either received here or fails there.
        self.link.orders.close();
        while let Some(batch) = self.link.orders.recv().await {
            self.queue.extend(batch);
        }
        if let Some(slot) = self.spare_slot.take() {
            self.link.inflight.release(slot);
        }
        if !self.queue.is_empty() {
            let rest = self.queue.drain(..).collect();
            self.link.tell(SessionEvent::Returned(rest));
        }
    }

    /// Passes on what the pipeline has found out.
    async fn report(&mut self) -> Result<(), Abandoned> {
        let mut returned = Vec::new();
        while let Some(event) = self.pipeline.take_event() {
            match event {
                Event::Settled { entry, slot, armed, finding } => {
                    self.admitted_at(slot);
                    if !armed {
                        self.link.inflight.release(slot);
                    }
                    self.settle(entry, finding, armed.then_some(slot)).await?;
                }
                Event::Returned { entry, slot } => {
                    if let Some(at) = self.admitted_at(slot) {
                        (self.link.unspent)(at);
                    }
                    self.link.inflight.release(slot);
                    returned.push(entry);
                }
                Event::Learned(quirk) => self.link.tell(SessionEvent::Learned(quirk)),
            }
        }
        if !returned.is_empty() {
            self.link.tell(SessionEvent::Returned(returned));
        }
        Ok(())
    }

    /// When the message with this slot, no longer under way, was admitted.
    fn admitted_at(&mut self, slot: Slot) -> Option<Instant> {
        let place = self.admitted.iter().position(|(of, _)| *of == slot)?;
        Some(self.admitted.swap_remove(place).1)
    }

    async fn settle(&mut self, entry: Entry, finding: Finding, slot: Option<Slot>) -> Result<(), Abandoned> {
        let outcome = Outcome { entry, finding, slot, site: self.link.site, source: self.link.source };
        match self.link.outcomes.try_send(outcome) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(outcome)) => self.link.outcomes.send(outcome).await.map_err(|_| Abandoned),
            Err(TrySendError::Closed(_)) => Err(Abandoned),
        }
    }

    /// Makes the message of the next entry. `false` when that has to wait for a slot or for the pace.
    async fn make_message(&mut self) -> Result<bool, Abandoned> {
        let Some(slot) = self.slot().await else { return Ok(false) };
        if let Err(until) = (self.link.admit)() {
            self.held_until = Some(until);
            self.gate.as_mut().reset(until);
            self.spare_slot = Some(slot);
            return Ok(false);
        }
        let admitted = Instant::now();
        let Some(entry) = self.queue.pop_front() else {
            self.spare_slot = Some(slot);
            (self.link.unspent)(admitted);
            return Ok(false);
        };
        let mut composed = self.pipeline.blank();
        let finding = match (self.link.compose)(entry, &mut composed) {
            Ok(()) => {
                if self.pipeline.is_quiet() {
                    self.progress_at = Instant::now();
                }
                self.admitted.push((slot, admitted));
                self.pipeline.submit(entry, slot, composed);
                return Ok(true);
            }
            Err(ComposeFailure::Suppressed) => Finding::Suppressed,
            Err(ComposeFailure::Unrenderable(reason)) => Finding::Unrenderable { reason },
        };
        (self.link.unspent)(admitted);
        self.pipeline.give_back(composed);
        self.spare_slot = Some(slot);
        self.settle(entry, finding, None).await?;
        // A long run of suppressed entries must not keep other sessions from their turn.
        tokio::task::coop::consume_budget().await;
        Ok(true)
    }

    /// A slot for a message. Waits for one only while nothing is under way: then answers cannot be
    /// kept waiting, and slots are freed by other sessions and the journal.
    async fn slot(&mut self) -> Option<Slot> {
        if let Some(slot) = self.spare_slot.take().or_else(|| self.link.inflight.try_acquire()) {
            return Some(slot);
        }
        if !self.pipeline.is_quiet() {
            return None;
        }
        tokio::select! {
            slot = self.link.inflight.acquire() => Some(slot),
            () = self.link.stop.cancelled() => None,
        }
    }

    /// Takes what lies ready, where there is need of it.
    fn take_orders(&mut self) {
        while !self.orders_ended && self.queue.len() < self.batch {
            match self.link.orders.try_recv() {
                Ok(batch) => self.ordered(batch),
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => self.orders_ended = true,
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => return,
            }
        }
    }

    fn ordered(&mut self, batch: Vec<Entry>) {
        if !batch.is_empty() {
            let now = Instant::now();
            self.asked = false;
            self.batch_at = Some(now);
            if self.pipeline.is_quiet() {
                self.progress_at = now;
            }
            self.queue.extend(batch);
        }
    }

    /// Asks for work while half a batch is left, so that the wire does not starve.
    fn ask(&mut self) {
        let room = (self.pipeline.room() as usize).saturating_sub(self.queue.len());
        if self.asked || self.orders_ended || room == 0 || self.queue.len() > self.batch / 2 {
            return;
        }
        self.batch = match self.batch_at.map(|at| at.elapsed()) {
            Some(took) if took < BATCH_FAST => (self.batch * 2).min(BATCH_MAX),
            Some(took) if took > BATCH_SLOW => (self.batch / 2).max(BATCH_MIN),
            _ => self.batch,
        };
        self.asked = true;
        self.link.tell(SessionEvent::Wants(self.batch.min(room)));
    }

    /// Moves octets; else, where it may wait, waits for them, for orders, for the end of patience.
    fn poll_progress(&mut self, cx: &mut Context<'_>, may_wait: bool) -> Poll<Woken> {
        // Before the answers: one that comes at the same time must not start the message made ahead.
        if self.pipeline.room() > 0 && self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Woken::Progress);
        }
        let moved = self.poll_octets(cx).is_ready();
        if moved || !may_wait || self.pipeline.end().is_some() {
            return Poll::Ready(Woken::Progress);
        }
        if !self.orders_ended && self.queue.len() < self.batch {
            match self.link.orders.poll_recv(cx) {
                Poll::Ready(Some(batch)) => {
                    self.ordered(batch);
                    return Poll::Ready(Woken::Progress);
                }
                Poll::Ready(None) => {
                    self.orders_ended = true;
                    return Poll::Ready(Woken::Progress);
                }
                Poll::Pending => {}
            }
        }
        if self.held_until.is_some() && self.gate.as_mut().poll(cx).is_ready() {
            self.held_until = None;
            return Poll::Ready(Woken::Progress);
        }
        self.poll_timer(cx).map(Woken::TimedOut)
    }

    /// Writes what can be written, reads what has come, and writes what that gave rise to. Ready
    /// when answers were taken or the connection is over; a write alone is no reason to stop waiting
    /// unless it makes room for a message.
    fn poll_octets(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wanted = self.pipeline.wants_message();
        self.poll_write(cx);
        if self.poll_read(cx).is_ready() {
            self.poll_write(cx);
            return Poll::Ready(());
        }
        if self.pipeline.wants_message() && !wanted { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) {
        while let Some((slot, entry)) = self.pipeline.take_arming() {
            self.link.inflight.arm(slot, entry);
        }
        if self.write_failure.is_some() || self.pipeline.end().is_some() {
            return;
        }
        while !self.pipeline.unwritten().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.pipeline.unwritten()) {
                Poll::Ready(Ok(0)) => return self.write_failure = Some(Failure::Closed),
                Poll::Ready(Ok(octets)) => {
                    self.pipeline.wrote(octets);
                    self.needs_flush = true;
                    self.progress_at = Instant::now();
                    // Room in the outbox may have let the next message start.
                    while let Some((slot, entry)) = self.pipeline.take_arming() {
                        self.link.inflight.arm(slot, entry);
                    }
                }
                Poll::Ready(Err(error)) => return self.write_failure = Some(io_failure(&error)),
                Poll::Pending => return,
            }
        }
        if self.needs_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(error)) => self.write_failure = Some(io_failure(&error)),
                Poll::Pending => {}
            }
        }
    }

    /// Reads once and feeds the answers.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut room = ReadBuf::new(self.replies.spare());
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room));
        let octets = room.filled().len();
        self.progress_at = Instant::now();
        match read {
            Ok(()) if octets > 0 => self.replies.filled(octets),
            Ok(()) => self.pipeline.broke(self.write_failure.take().unwrap_or(Failure::Closed)),
            Err(error) => {
                self.pipeline.broke(self.write_failure.take().unwrap_or_else(|| io_failure(&error)));
            }
        }
        while self.pipeline.end().is_none() {
            match self.replies.next() {
                Ok(Some(answer)) => self.pipeline.answer(&answer),
                Ok(None) => break,
                Err(garbage) => self.pipeline.broke(Failure::Garbage(garbage.0)),
            }
        }
        Poll::Ready(())
    }

    /// Ready with the wait that was too long.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let wait = self.patience().min(WAIT_MAX);
        let deadline = self.progress_at + wait;
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(wait);
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    fn patience(&self) -> Duration {
        if self.write_failure.is_some() {
            return self.timeouts.quit;
        }
        match self.pipeline.phase() {
            Phase::Idle => self.link.idle,
            Phase::Mail => self.timeouts.mail,
            Phase::Rcpt => self.timeouts.rcpt,
            Phase::DataStart => self.timeouts.data_start,
            Phase::ContentWrite => self.timeouts.content_write,
            Phase::ContentEnd => self.timeouts.content_end,
            Phase::Quit => self.timeouts.quit,
        }
    }
}

/// Nobody takes outcomes any more.
struct Abandoned;

#[cfg(test)]
mod tests;
