//! Checks DKIM signatures of accepted mail against the keys the world's own DNS has.
//!
//! mail-auth verifies; it is not what signs. Its look-ups are answered from here and never leave.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, RwLock};

use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator, Parameters, ResolverCache, Txt,
};

use super::file::{RecordFile, RecordKind};

#[derive(Default)]
struct Keys(RwLock<HashMap<Box<str>, Txt>>);

/// The keys known, by their full name with the trailing dot.
impl ResolverCache<Box<str>, Txt> for Keys {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let keys = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Always an answer: a miss would send mail-auth to a name server outside.
        let missing = || Txt::Error(Error::Dns(DnsError::Resolver("no such key in the world".to_owned())));
        Some(keys.get(name).cloned().unwrap_or_else(missing))
    }

    fn remove<Q>(&self, _name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    #[expect(clippy::disallowed_types, reason = "the trait is mail-auth's")]
    fn insert(&self, _name: Box<str>, _value: Txt, _until: std::time::Instant) {}
}

pub(crate) struct Verifier {
    /// `None` when it could not be made; then every check says so.
    authenticator: Option<MessageAuthenticator>,
    keys: Keys,
}

impl Verifier {
    /// Knows the keys among the records.
    pub fn of(records: &[RecordFile]) -> Self {
        let nowhere = ResolverConfig::from_name_servers(Vec::new());
        let verifier = Self {
            authenticator: MessageAuthenticator::new(nowhere, ResolverOpts::default()).ok(),
            keys: Keys::default(),
        };
        for record in records.iter().filter(|record| record.kind == Some(RecordKind::Txt)) {
            record.value.as_slice().iter().for_each(|value| verifier.publish(record.name.get_ref(), value));
        }
        verifier
    }

    /// Takes a key record; other TXT records are none of its business.
    pub fn publish(&self, name: &str, value: &str) {
        let name = format!("{}.", name.trim_end_matches('.').to_ascii_lowercase());
        if !name.contains("._domainkey.") {
            return;
        }
        let key = match DomainKey::parse(value.as_bytes()) {
            Ok(key) => Txt::DomainKey(Arc::new(key)),
            Err(error) => Txt::Error(error),
        };
        self.keys.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.into(), key);
    }

    /// Whether the message is signed; all of its signatures are good then.
    ///
    /// # Errors
    /// The first signature that does not verify, and why.
    pub async fn check(&self, message: &[u8]) -> Result<bool, String> {
        let authenticator = self.authenticator.as_ref().ok_or("no verifier")?;
        let Some(parsed) = AuthenticatedMessage::parse(message) else {
            return Err("the message cannot be parsed".to_owned());
        };
        let parameters = Parameters::new(&parsed).with_txt_cache(&self.keys);
        let results = authenticator.verify_dkim(parameters).await;
        for result in &results {
            let selector = result.signature().map_or("?", |signature| signature.s.as_str());
            match result.result() {
                DkimResult::Pass => {}
                DkimResult::None => return Err(format!("selector {selector}: nothing to verify")),
                DkimResult::Neutral(error)
                | DkimResult::Fail(error)
                | DkimResult::PermError(error)
                | DkimResult::TempError(error) => return Err(format!("selector {selector}: {error}")),
            }
        }
        Ok(!results.is_empty())
    }
}
