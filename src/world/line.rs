//! The way to a host: direct, or with a delay each way that pipelining can hide.
//!
//! A delayed octet is read at once, stamped, and passed on when its time has come: any number may be
//! on the way, so latency does not limit throughput. The delay costs four small tasks a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::server::Presence;

/// Octets read at once.
const CHUNK_OCTETS: usize = 16 * 1_024;
/// Chunks on the way in one direction: 32 MiB, far more than a TCP window.
const CHUNKS_MAX: usize = 2_048;
/// Between the delay and the server; what waits here has arrived.
const ARRIVED_OCTETS_MAX: usize = 256 * 1_024;

pub(crate) enum Line {
    Direct(TcpStream),
    Delayed(DuplexStream),
}

impl Line {
    /// A stream whose octets take `delay` in each direction.
    pub fn new(stream: TcpStream, delay: Duration, presence: Arc<Presence>) -> Self {
        if delay.is_zero() {
            return Self::Direct(stream);
        }
        let (near, far) = tokio::io::duplex(ARRIVED_OCTETS_MAX);
        let (from_client, to_client) = stream.into_split();
        let (from_server, to_server) = tokio::io::split(far);
        carry(from_client, to_server, delay, Some(presence));
        carry(from_server, to_client, delay, None);
        Self::Delayed(near)
    }

    /// Makes the coming close a TCP reset; a delayed line closes in order.
    pub fn reset(&self) {
        if let Self::Direct(stream) = self
            && let Err(error) = stream.set_zero_linger()
        {
            tracing::debug!(%error, "the connection will not be reset");
        }
    }
}

/// Moves octets from one side to the other, each `delay` after it came; then the end of the stream.
fn carry(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
    presence: Option<Arc<Presence>>,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    tokio::spawn(async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_OCTETS);
            let length = from.read_buf(&mut chunk).await.unwrap_or(0);
            if length == 0
                && let Some(presence) = &presence
            {
                presence.release();
            }
            let gone = sender.send((Instant::now() + delay, chunk)).await.is_err();
            if length == 0 || gone {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, chunk)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if chunk.is_empty() || to.write_all(&chunk).await.is_err() {
                break;
            }
        }
        // A client that is gone already needs no end of stream.
        let _ = to.shutdown().await;
    });
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Delayed(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Delayed(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_flush(cx),
            Self::Delayed(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Delayed(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
