//! The keys that sign a run's messages: which of those that are named, read and made ready.
//!
//! Which keys sign depends on what the run was frozen with and on its date, never on the clock, so a message
//! that is made again after a restart is the same message.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::EngineError;
use crate::campaign::manifest::{DkimKey, Manifest};
use crate::config::{Node, dkim};
use crate::message::Signer;
use crate::message::dkim::Algorithm;

/// The signers of a campaign that is sent on `date`: of its own keys, or of the node's for its From domain
/// if it has none.
///
/// # Errors
/// A key that cannot be read or does not sign.
pub fn of(manifest: &Manifest, node: &Node, date: SystemTime) -> Result<Vec<Signer>, EngineError> {
    if manifest.dkim.is_empty() {
        let from = manifest.from_address();
        return in_force(dkim::of_sender(&node.dkim, from.domain()), date);
    }
    in_force(&manifest.dkim, date)
}

/// Reads those of `keys` that sign on `date` (its day in UTC), in their order.
///
/// Of the keys of one domain and algorithm the ones with the latest `since` sign, of those days that have
/// come; a key without `since` is older than any with one. Keys of the same day all sign, so without any
/// `since` every key does. A key whose day has not come is not read; one that was replaced is.
///
/// # Errors
/// A key that cannot be read or does not sign.
pub fn in_force<'a>(
    keys: impl IntoIterator<Item = &'a DkimKey>,
    date: SystemTime,
) -> Result<Vec<Signer>, EngineError> {
    let mut signers = Vec::new();
    let mut latest = HashMap::new();
    for key in keys.into_iter().filter(|key| !is_to_come(key, date)) {
        let signer = read(key)?;
        let kind = (key.domain.clone(), signer.algorithm());
        let newest = latest.entry(kind.clone()).or_insert(key.since);
        *newest = key.since.max(*newest);
        signers.push((kind, key.since, signer));
    }
    signers.retain(|(kind, since, _)| latest[kind] == *since);
    Ok(signers.into_iter().map(|(_, _, signer)| signer).collect())
}

/// Whether the day from which `key` signs comes after `date`.
pub fn is_to_come(key: &DkimKey, date: SystemTime) -> bool {
    key.since.is_some_and(|since| since > day(date))
}

/// Reads a key and makes it ready, whenever it signs.
///
/// # Errors
/// It cannot be read or does not sign.
pub fn read(key: &DkimKey) -> Result<Signer, EngineError> {
    Signer::from_pem(key.domain.clone(), &key.selector, &key.pem()?)
        .map_err(|error| EngineError::Dkim { name: key.name(), error })
}

/// What a person should know before `signers` sign on `date`, of all the `keys` that are named.
pub fn warnings<S: Borrow<Signer>>(keys: &[DkimKey], signers: &[S], date: SystemTime) -> Vec<String> {
    let today = day(date);
    let signers = || signers.iter().map(S::borrow);
    let mut warnings: Vec<String> = signers().filter_map(Signer::weakness).collect();
    if signers().len() > 0 && signers().all(|signer| signer.algorithm() == Algorithm::Ed25519) {
        warnings
            .push("only Ed25519 signs, which many receivers cannot verify yet: add an RSA key".to_owned());
    }
    for key in keys {
        let Some(since) = key.since.filter(|_| is_to_come(key, date)) else { continue };
        if !signers().any(|signer| *signer.domain() == key.domain) {
            warnings.push(format!(
                "no key signs for {} on {today}: `{}` signs from {since} on",
                key.domain, key.selector
            ));
        }
    }
    warnings
}

fn day(date: SystemTime) -> Date {
    let at = Timestamp::try_from(date).unwrap_or(Timestamp::MAX);
    at.to_zoned(TimeZone::UTC).date()
}
