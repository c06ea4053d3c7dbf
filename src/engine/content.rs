//! A manifest's message, compiled: templates, images, attachments and keys read, everything ready to be
//! rendered.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{EngineError, signers};
use crate::campaign::manifest::{self, FILE_OCTETS_MAX, Manifest};
use crate::campaign::variants::Assignment;
use crate::message::composer::Contents;
use crate::message::{
    Attachment, AttachmentFrom, Calendar, Content, ContentError, ContentSource, Extras, Folder, FolderError,
    Image, Region, Signer, Tracking,
};
use crate::token::Key;

/// What a message is made of besides its recipient.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    pub manifest: &'a Manifest,
    /// Variables of the list, in the order of a recipient's fields.
    pub columns: &'a [String],
    /// Of Message-IDs, boundaries and tokens.
    pub run_token: &'a str,
    /// Signs the tokens.
    pub key: &'a Key,
    pub date: SystemTime,
}

/// Reads the manifest's files and keys and compiles them.
///
/// # Errors
/// A file or key that cannot be read, a template or header that is wrong.
pub fn compile(making: &Making<'_>) -> Result<Content, EngineError> {
    let folder = opened(making.manifest)?;
    let files = Files { manifest: making.manifest, folder: &folder };
    compile_with(making, &files, &Beside::read(&files, making.date)?)
}

/// The same for each variant of the manifest, in its order; files and keys that all share are read once.
///
/// # Errors
/// As [`compile`], with the variant's name.
pub fn variants(making: &Making<'_>) -> Result<Vec<Content>, EngineError> {
    let folder = opened(making.manifest)?;
    let beside = Beside::read(&Files { manifest: making.manifest, folder: &folder }, making.date)?;
    let each = making.manifest.variants.iter().map(|variant| {
        let manifest = making.manifest.with_variant(variant);
        let making = Making { manifest: &manifest, ..*making };
        let files = Files { manifest: &manifest, folder: &folder };
        compile_with(&making, &files, &beside)
            .map_err(|error| EngineError::Variant(variant.name.clone(), Box::new(error)))
    });
    each.collect()
}

/// What a run sends, with `assignment` for a campaign with variants.
///
/// # Errors
/// As [`compile`] and [`variants`].
pub fn contents(making: &Making<'_>, assignment: Option<Arc<Assignment>>) -> Result<Contents, EngineError> {
    match assignment {
        Some(assignment) => Ok(Contents::Each(variants(making)?, assignment)),
        None => Ok(Contents::Same(Box::new(compile(making)?))),
    }
}

fn opened(manifest: &Manifest) -> Result<Folder, EngineError> {
    Folder::open(&manifest.folder).map_err(|error| EngineError::Io(manifest.folder.clone(), error))
}

/// What all variants of a message have beside their templates.
struct Beside<'a> {
    images: Vec<Image>,
    attachments: Vec<Attachment<'a>>,
    signers: Vec<Signer>,
}

impl<'a> Beside<'a> {
    fn read(files: &Files<'a>, date: SystemTime) -> Result<Self, EngineError> {
        let (images, attachments) = (files.images()?, files.attachments()?);
        Ok(Self { images, attachments, signers: signers::in_force(&files.manifest.dkim, date)? })
    }
}

fn compile_with(making: &Making<'_>, files: &Files<'_>, beside: &Beside<'_>) -> Result<Content, EngineError> {
    let Making { manifest, columns, run_token, key, date } = *making;
    let (text_name, html_name) = (files.name(manifest.text.as_deref()), files.name(manifest.html.as_deref()));
    let (text, html) = (files.template(text_name.as_deref())?, files.template(html_name.as_deref())?);
    let region = Region::new(manifest.locale.as_deref(), manifest.time_zone.as_deref())
        .map_err(ContentError::Region)?;
    let unsubscribe = manifest.unsubscribe.as_ref();
    let extras = Extras {
        folder: Some(files.folder),
        text_name: text_name.as_deref(),
        html_name: html_name.as_deref(),
        mjml: manifest.html.as_deref().is_some_and(is_mjml),
        inline_css: manifest.inline_css,
        region,
        images: beside.images.clone(),
        attachments: beside.attachments.clone(),
        calendar: manifest.calendar.as_ref().map(calendar),
        key: Some(key),
        unsubscribe_base_url: unsubscribe.and_then(|unsubscribe| unsubscribe.base_url.as_deref()),
        tracking: manifest.tracking.as_ref().map(tracking),
        feedback_id: manifest.feedback_id.as_deref(),
        cfbl_address: manifest.cfbl_address.as_deref(),
    };
    let from = manifest.from_address();
    let source = ContentSource {
        subject: &manifest.subject,
        from: &manifest.from,
        to_name: manifest.to_name.as_deref(),
        reply_to: manifest.reply_to.as_deref(),
        text: text.as_deref(),
        html: html.as_deref(),
        headers: &manifest.headers,
        unsubscribe_url: unsubscribe.and_then(|unsubscribe| unsubscribe.url.as_deref()),
        unsubscribe_mailto: unsubscribe.and_then(|unsubscribe| unsubscribe.mailto.as_deref()),
        list_id: manifest.list_id.as_deref(),
        columns,
        strict: manifest.strict,
        run_token,
        date,
        message_id_domain: from.domain(),
        extras,
    };
    Ok(Content::compile(&source, beside.signers.clone())?)
}

fn is_mjml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mjml"))
}

fn tracking(tracking: &manifest::Tracking) -> Tracking<'_> {
    Tracking { base_url: &tracking.base_url, clicks: tracking.clicks, opens: tracking.opens }
}

fn calendar(calendar: &manifest::Calendar) -> Calendar<'_> {
    Calendar {
        start: &calendar.start,
        end: calendar.end.as_deref(),
        duration: calendar.duration,
        summary: &calendar.summary,
        location: calendar.location.as_deref(),
        description: calendar.description.as_deref(),
        url: calendar.url.as_deref(),
        uid: calendar.uid.as_deref(),
        sequence: calendar.sequence,
    }
}

/// The files of the message, by their names below its folder.
struct Files<'a> {
    manifest: &'a Manifest,
    folder: &'a Folder,
}

impl<'a> Files<'a> {
    fn name(&self, path: Option<&Path>) -> Option<String> {
        let path = path?;
        let below = path.strip_prefix(&self.manifest.folder).unwrap_or(path);
        Some(below.to_string_lossy().into_owned())
    }

    fn template(&self, name: Option<&str>) -> Result<Option<String>, EngineError> {
        let Some(name) = name else { return Ok(None) };
        Ok(Some(self.folder.template(name).map_err(unreadable)?))
    }

    fn octets(&self, path: &Path) -> Result<(String, Vec<u8>), EngineError> {
        let name = self.name(Some(path)).unwrap_or_default();
        let octets = self.folder.read(&name, FILE_OCTETS_MAX).map_err(unreadable)?;
        Ok((name, octets))
    }

    fn images(&self) -> Result<Vec<Image>, EngineError> {
        let images = self.manifest.images.iter();
        images
            .map(|(name, path)| {
                let (file_name, octets) = self.octets(path)?;
                Ok(Image { name: name.clone(), file_name, octets })
            })
            .collect()
    }

    fn attachments(&self) -> Result<Vec<Attachment<'a>>, EngineError> {
        let attachments = self.manifest.attachments.iter();
        attachments
            .filter_map(|attachment| match (&attachment.file, &attachment.column, &attachment.folder) {
                (Some(path), _, _) => {
                    let file = self.octets(path);
                    let from = file.map(|(file_name, octets)| AttachmentFrom::File { file_name, octets });
                    Some((attachment, from))
                }
                (None, Some(variable), Some(path)) => {
                    let folder = Folder::open(path).map_err(|error| EngineError::Io(path.clone(), error));
                    let max = attachment.max_size.0;
                    Some((attachment, folder.map(|folder| AttachmentFrom::Row { variable, folder, max })))
                }
                // Refused when the manifest was read.
                _ => None,
            })
            .map(|(attachment, from)| {
                let (name, kind) = (attachment.name.as_deref(), attachment.kind.as_deref());
                Ok(Attachment { from: from?, name, kind })
            })
            .collect()
    }
}

fn unreadable(error: FolderError) -> EngineError {
    EngineError::Content(ContentError::File(error))
}
