//! A manifest's message, compiled: templates and keys read, everything ready to be rendered.

use std::path::PathBuf;
use std::time::SystemTime;

use super::EngineError;
use crate::campaign::manifest::Manifest;
use crate::message::{Content, ContentSource, Signer};

/// Reads the manifest's templates and keys and compiles them for a list with these columns.
///
/// # Errors
/// A file or key that cannot be read, a template or header that is wrong.
pub fn compile(
    manifest: &Manifest,
    columns: &[String],
    run_token: &str,
    date: SystemTime,
) -> Result<Content, EngineError> {
    let read = |file: &Option<PathBuf>| -> Result<Option<String>, EngineError> {
        let Some(file) = file else { return Ok(None) };
        std::fs::read_to_string(file).map(Some).map_err(|error| EngineError::Io(file.clone(), error))
    };
    let (text, html) = (read(&manifest.text)?, read(&manifest.html)?);
    let mut signers = Vec::new();
    for key in &manifest.dkim {
        let signer = Signer::from_pem(key.domain.clone(), &key.selector, &key.pem()?)
            .map_err(|error| EngineError::Dkim { selector: key.selector.clone(), error })?;
        signers.push(signer);
    }
    let unsubscribe = manifest.unsubscribe.as_ref();
    let from = manifest.from_address();
    let source = ContentSource {
        subject: &manifest.subject,
        from: &manifest.from,
        to_name: manifest.to_name.as_deref(),
        reply_to: manifest.reply_to.as_deref(),
        text: text.as_deref(),
        html: html.as_deref(),
        headers: &manifest.headers,
        unsubscribe_url: unsubscribe.map(|unsubscribe| unsubscribe.url.as_str()),
        unsubscribe_mailto: unsubscribe.and_then(|unsubscribe| unsubscribe.mailto.as_deref()),
        list_id: manifest.list_id.as_deref(),
        columns,
        strict: manifest.strict,
        run_token,
        date,
        message_id_domain: from.domain(),
    };
    Ok(Content::compile(&source, signers)?)
}
