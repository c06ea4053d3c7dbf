//! The world's own certificate authority, and what each MX host shows at STARTTLS.
//!
//! One P-256 key serves all hosts: keys are not what is rehearsed. A certificate is made when the
//! world starts, one an operator, with the names of all its hosts and of domains that are their own host.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::file::TlsKind;

/// A certificate could not be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("a certificate could not be used: {0}")]
    Tls(#[from] rustls::Error),
}

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    host_key: KeyPair,
}

impl Authority {
    pub fn new() -> Result<Self, CaError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Postroad world CA");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer, host_key: KeyPair::generate()? })
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What the hosts of one operator show.
    pub fn server_config(&self, names: Vec<String>, kind: TlsKind) -> Result<Arc<ServerConfig>, CaError> {
        let names = match kind {
            TlsKind::WrongName => vec!["someone-else.example".to_owned()],
            _ => names,
        };
        let mut params = CertificateParams::new(names)?;
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = match kind {
            TlsKind::Expired => (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1)),
            _ => (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1)),
        };
        let certificate: CertificateDer<'static> =
            params.signed_by(&self.host_key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.host_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(Arc::new(config))
    }
}
