//! Fetches one small text over HTTPS: no redirects, a verified certificate, bounded in size and time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::smtp::TlsConnectors;

/// From the first connection to the last octet.
const TIME_MAX: Duration = Duration::from_secs(20);
/// One connection, with its handshake.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(8);
/// Of the text (RFC 8461 §3.3 suggests as much).
const OCTETS_MAX: usize = 64 * 1024;

/// Why a text could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("it does not answer within {} s", TIME_MAX.as_secs())]
    TooSlow,
    #[error("no connection: {0}")]
    Connect(String),
    #[error("it does not speak HTTP as it should: {0}")]
    Protocol(String),
    #[error("it answers with status {0} instead of 200")]
    Status(StatusCode),
    #[error("its text is longer than {OCTETS_MAX} octets or breaks off")]
    Body,
    #[error("its text is not UTF-8")]
    NotText,
}

/// How texts are fetched.
pub struct Https {
    connector: TlsConnector,
    pub(super) port: u16,
}

impl Https {
    pub(super) fn new(tls: &TlsConnectors) -> Self {
        Self { connector: tls.verified().clone(), port: 443 }
    }

    /// The text at `https://host/path`, whose host has these addresses.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn fetch(
        &self,
        host: &str,
        addresses: &[IpAddr],
        path: &str,
    ) -> Result<String, FetchError> {
        let fetched = tokio::time::timeout(TIME_MAX, self.fetch_in_time(host, addresses, path)).await;
        fetched.unwrap_or(Err(FetchError::TooSlow))
    }

    async fn fetch_in_time(
        &self,
        host: &str,
        addresses: &[IpAddr],
        path: &str,
    ) -> Result<String, FetchError> {
        let mut failed = FetchError::Connect("it has no address".to_owned());
        for address in addresses {
            match tokio::time::timeout(CONNECT_TIME_MAX, self.connect(host, *address)).await {
                Ok(Ok(stream)) => return get(stream, host, path).await,
                Ok(Err(error)) => failed = FetchError::Connect(format!("{address}: {error}")),
                Err(_) => failed = FetchError::Connect(format!("{address}: no answer")),
            }
        }
        Err(failed)
    }

    async fn connect(
        &self,
        host: &str,
        address: IpAddr,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(SocketAddr::new(address, self.port)).await?;
        self.connector.connect(name, stream).await
    }
}

async fn get(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    host: &str,
    path: &str,
) -> Result<String, FetchError> {
    let protocol = |error: &dyn std::fmt::Display| FetchError::Protocol(error.to_string());
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| protocol(&error))?;
    // Ends with the sender; it moves the octets meanwhile.
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(hyper::header::HOST, host)
        .header(hyper::header::USER_AGENT, "postroad")
        .body(Empty::<Bytes>::new())
        .map_err(|error| protocol(&error))?;
    let response = sender.send_request(request).await.map_err(|error| protocol(&error))?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), OCTETS_MAX).collect().await;
    connection.abort();
    let octets = body.map_err(|_| FetchError::Body)?.to_bytes();
    String::from_utf8(octets.to_vec()).map_err(|_| FetchError::NotText)
}
