//! The keys that sign a campaign's messages, read and made ready.

use super::EngineError;
use crate::campaign::manifest::Manifest;
use crate::message::Signer;

/// Reads the keys the manifest names.
///
/// # Errors
/// A key that cannot be read or does not sign.
pub fn of(manifest: &Manifest) -> Result<Vec<Signer>, EngineError> {
    let keys = manifest.dkim.iter();
    keys.map(|key| {
        Signer::from_pem(key.domain.clone(), &key.selector, &key.pem()?)
            .map_err(|error| EngineError::Dkim { selector: key.selector.clone(), error })
    })
    .collect()
}
