//! One MX host: accepts connections, lets in whom the limits allow, upgrades to TLS, and closes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::chance;
use super::counts::Limit;
use super::dialog::{Dialog, End, Session};
use super::file::{FaultKind, Stage, TlsKind};
use super::line::Line;
use super::plan::Provider;
use super::shared::Shared;
use super::wire::Wire;

/// How long a closing connection waits for the client's end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
/// Between the last reply and a reset.
const RESET_DELAY: Duration = Duration::from_millis(5);
/// A client may close one connection and open the next at once; the close is looked for so long
/// before the new one counts as one too many.
const SETTLE_STEPS: u32 = 10;
const SETTLE_STEP: Duration = Duration::from_millis(2);
/// What a server that lost its mind says.
pub(crate) const GARBAGE: &[u8] = b"\x01lp0 on fire\x02 @@@@\r\n";

/// A fatal handshake_failure alert (RFC 8446 §6).
const TLS_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// One connection to one host.
pub(crate) struct Visit {
    pub shared: Arc<Shared>,
    pub host: usize,
    pub source: IpAddr,
    /// 1 for the first connection to this host.
    pub ordinal: u64,
    pub presence: Arc<Presence>,
}

impl Visit {
    pub fn provider_number(&self) -> usize {
        self.shared.plan.hosts[self.host].provider
    }

    pub fn provider(&self) -> &Provider {
        &self.shared.plan.providers[self.provider_number()]
    }

    pub fn host_name(&self) -> &str {
        &self.shared.plan.hosts[self.host].name
    }

    /// The reply to a source that is blocked at this stage, counted as given; `transaction`: the
    /// number of its MAIL.
    pub fn block(&self, stage: Stage, transaction: u32, now: Instant) -> Option<&str> {
        let provider = self.provider();
        let age = now - self.shared.started;
        let block =
            provider.blocks.iter().find(|block| block.strikes(self.source, stage, age, transaction))?;
        self.shared.ledger().blocked(self.source, self.provider_number(), now);
        Some(block.reply.as_deref().unwrap_or(provider.file.style.phrases().permanent))
    }

    /// As `block`, where no MAIL has come in the session yet.
    pub fn block_of_session(&self, stage: Stage) -> Option<&str> {
        let next = self.shared.ledger().next_transaction(self.source, self.provider_number());
        self.block(stage, next, Instant::now())
    }
}

/// A connection's place in the counts and limits, given back once, at the latest when dropped.
pub(crate) struct Presence {
    shared: Arc<Shared>,
    source: IpAddr,
    host: usize,
    admitted: AtomicBool,
    released: AtomicBool,
}

impl Presence {
    fn new(shared: Arc<Shared>, source: IpAddr, host: usize) -> Self {
        shared.ledger().opened(source, host);
        Self { shared, source, host, admitted: AtomicBool::new(false), released: AtomicBool::new(false) }
    }

    fn admit(&self) {
        self.admitted.store(true, Ordering::Relaxed);
        self.shared.gate(self.host).enter(self.source);
    }

    pub fn release(&self) {
        if self.released.swap(true, Ordering::Relaxed) {
            return;
        }
        self.shared.ledger().closed(self.source, self.host);
        if self.admitted.load(Ordering::Relaxed) {
            self.shared.gate(self.host).release(self.source);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.release();
    }
}

/// Accepts until the runtime ends.
pub(crate) async fn accept(shared: Arc<Shared>, host: usize, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve(Arc::clone(&shared), host, stream, peer.ip()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, host: usize, stream: TcpStream, source: IpAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not set");
    }
    let ordinal = shared.hosts[host].connections.fetch_add(1, Ordering::Relaxed) + 1;
    settle(&shared, host, source).await;
    let presence = Arc::new(Presence::new(Arc::clone(&shared), source, host));
    let visit = Visit { shared, host, source, ordinal, presence };
    let trouble = visit.shared.plan.session_trouble(host, Stage::Connect, ordinal);
    if let Some(fault) = trouble.map(|trouble| trouble.fault) {
        visit.shared.ledger().provider(visit.provider_number()).broken += 1;
        return break_connection(&visit, stream, fault).await;
    }
    let refusal = admission(&visit);
    let delay = visit.provider().file.latency.0;
    if !delay.is_zero() {
        // The handshake of loopback takes no time: a real client would have sent its SYN one delay
        // earlier, and its ACK would be here two delays after that.
        tokio::time::sleep(delay * 3).await;
    }
    let pace = pace(&visit);
    let log = visit.shared.is_capturing().then(|| format!("# {} from {source}\n", visit.host_name()));
    let line = Line::new(stream, delay, Arc::clone(&visit.presence));
    talk(&visit, Wire::new(line, visit.provider().file.replies, pace, log), refusal).await;
}

/// Lets connections that have ended be noticed before a new one is counted.
async fn settle(shared: &Shared, host: usize, source: IpAddr) {
    for _ in 0..SETTLE_STEPS {
        let full = shared.gate(host).is_full(source).is_some();
        if !full && !shared.ledger().is_peak(source, host) {
            return;
        }
        tokio::time::sleep(SETTLE_STEP).await;
        if !full {
            return;
        }
    }
}

/// Takes a place within the limits, or says what to reply in place of a greeting.
fn admission(visit: &Visit) -> Option<String> {
    if let Some(reply) = visit.block_of_session(Stage::Greeting) {
        return Some(reply.to_owned());
    }
    let number = visit.provider_number();
    let limits = &visit.provider().file.limits;
    let phrases = visit.provider().file.style.phrases();
    let now = Instant::now();
    let mut gate = visit.shared.gate(visit.host);
    let (limit, reply) = if !gate.take_connection(visit.source, now) {
        (Limit::ConnectionRate, limits.rate_reply.as_deref().unwrap_or(phrases.rate))
    } else if let Some(limit) = gate.is_full(visit.source) {
        (limit, limits.connections_reply.as_deref().unwrap_or(phrases.connections))
    } else {
        drop(gate);
        visit.presence.admit();
        return None;
    };
    drop(gate);
    visit.shared.ledger().breach(number, visit.source, limit, now);
    Some(reply.to_owned())
}

fn pace(visit: &Visit) -> Option<u32> {
    let slow = visit.provider().file.slow.as_ref()?;
    let seed = visit.shared.plan.seed;
    let point = chance::share(seed, "slow", visit.host_name().as_bytes(), visit.ordinal);
    (point < slow.share).then_some(slow.octets_per_second)
}

async fn break_connection(visit: &Visit, mut stream: TcpStream, fault: FaultKind) {
    match fault {
        FaultKind::Reset => Line::Direct(stream).reset(),
        FaultKind::Stall => tokio::time::sleep(visit.shared.plan.stall).await,
        FaultKind::Garbage => {
            // The client may be gone; then nobody reads it.
            let _ = stream.write_all(GARBAGE).await;
        }
        _ => {}
    }
}

/// The whole session, before and after STARTTLS.
async fn talk(visit: &Visit, mut wire: Wire<Line>, refusal: Option<String>) {
    let mut session = Session::default();
    let end = match refusal {
        Some(reply) => Dialog::new(visit, &mut wire, &mut session).refuse(&reply).await,
        None => Dialog::new(visit, &mut wire, &mut session).greet_and_run().await,
    };
    if end != End::StartTls {
        return close(visit, wire, end, Line::reset).await;
    }
    let (mut line, log) = wire.into_stream();
    let acceptor = match (visit.provider().file.tls, &visit.shared.hosts[visit.host].tls) {
        (TlsKind::HandshakeCloses, _) | (_, None) => return,
        (TlsKind::HandshakeFails, _) => {
            let mut hello = [0; 4_096];
            // Whatever came, and whether the alert arrives, the connection is over.
            let _ = line.read(&mut hello).await;
            let _ = line.write_all(&TLS_ALERT).await;
            let mut wire = Wire::new(line, visit.provider().file.replies, None, log);
            return wire.finish(CLOSE_PATIENCE).await;
        }
        (_, Some(acceptor)) => acceptor,
    };
    match acceptor.accept(line).await {
        Ok(stream) => {
            visit.shared.ledger().provider(visit.provider_number()).tls_connections += 1;
            let mut wire = Wire::new(stream, visit.provider().file.replies, pace(visit), log);
            session.upgraded();
            let end = Dialog::new(visit, &mut wire, &mut session).run().await;
            close(visit, wire, end, |stream| stream.get_ref().0.reset()).await;
        }
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    }
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    visit: &Visit,
    mut wire: Wire<S>,
    end: End,
    reset: impl FnOnce(&S),
) {
    visit.presence.release();
    match end {
        End::Gone => {}
        End::Reset => {
            // Replies given before the reset should be read before it: whether they were is ours to know.
            let _ = wire.flush().await;
            tokio::time::sleep(RESET_DELAY).await;
            reset(wire.stream());
        }
        End::Closed | End::StartTls => wire.finish(CLOSE_PATIENCE).await,
    }
    if let Some(log) = wire.log.take() {
        visit.shared.keep_dialog(log);
    }
}
