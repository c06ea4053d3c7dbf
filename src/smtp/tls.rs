//! The TLS a session can ask for: encrypted with any certificate, or with one that names the host.
//!
//! Opportunistic and required TLS take any certificate: on port 25 a certificate that cannot be
//! verified is no worse than clear text (RFC 7435), and refusing it would mean falling back to that.
//! Signatures of the handshake are still checked. Verified TLS goes by the webpki roots and what the
//! operator adds. Both resume sessions. Knows nothing of SMTP.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::TlsPolicy;

/// Hosts whose session tickets are kept, for each kind of trust; some 10 KiB a host.
const RESUMPTION_HOSTS_MAX: usize = 1024;

/// Why there are no connectors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    #[error("a trusted CA certificate cannot be read: {0}")]
    Authority(String),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The connectors all sessions share, cheap to clone.
#[derive(Clone)]
pub struct TlsConnectors {
    any: TlsConnector,
    verified: TlsConnector,
}

impl TlsConnectors {
    /// `authorities_pem`: further trusted CA certificates, besides the webpki roots.
    ///
    /// # Errors
    /// A malformed certificate among them, or none at all.
    pub fn new(authorities_pem: Option<&[u8]>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(pem) = authorities_pem {
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| TlsError::Authority(error.to_string()))?;
                roots.add(certificate).map_err(|error| TlsError::Authority(error.to_string()))?;
            }
            if roots.len() == before {
                return Err(TlsError::Authority("no certificate in it".into()));
            }
        }
        let builder =
            || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let any = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        let verified = builder()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { any: connector(any), verified: connector(verified) })
    }

    /// The connector that takes only certificates valid for the host.
    pub fn verified(&self) -> &TlsConnector {
        &self.verified
    }

    /// The connector that `policy` calls for; `Off` has none.
    pub fn for_policy(&self, policy: TlsPolicy) -> Option<&TlsConnector> {
        match policy {
            TlsPolicy::Off => None,
            TlsPolicy::Opportunistic | TlsPolicy::Required => Some(&self.any),
            TlsPolicy::Verified => Some(&self.verified),
        }
    }
}

fn connector(mut config: ClientConfig) -> TlsConnector {
    config.resumption = Resumption::in_memory_sessions(RESUMPTION_HOSTS_MAX);
    TlsConnector::from(Arc::new(config))
}

/// Takes any certificate, but the peer must hold its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(matches!(TlsConnectors::new(Some(b"nothing")), Err(TlsError::Authority(_))));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(TlsConnectors::new(Some(broken)), Err(TlsError::Authority(_))));
        let connectors = TlsConnectors::new(None).unwrap();
        assert!(connectors.for_policy(TlsPolicy::Off).is_none());
        assert!(connectors.for_policy(TlsPolicy::Verified).is_some());
    }

    #[test]
    fn a_certificate_of_the_operators_own_is_taken() {
        let issued = rcgen::generate_simple_self_signed(vec!["mx.example.test".into()]).unwrap();
        assert!(TlsConnectors::new(Some(issued.cert.pem().as_bytes())).is_ok());
    }
}
