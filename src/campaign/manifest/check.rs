//! The checks of a manifest that types cannot make, and what to say when one fails.

use std::path::Path;

use super::{FILE, Manifest, check_tokens, lists, variants};
use crate::address::{Address, is_within};
use crate::config::dkim;
use crate::config::fault::Fault;
use crate::message::{self, Folder, FolderError, Region};

/// A mistake, at the value that `keys` lead to.
pub(super) struct Mistake {
    keys: Vec<String>,
    what: String,
    advice: String,
}

impl Mistake {
    pub(super) fn new(keys: &[&str], what: impl Into<String>, advice: impl Into<String>) -> Self {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Self { keys, what: what.into(), advice: advice.into() }
    }

    pub(super) fn in_file(self, file: &Path, text: &str) -> Fault {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        Fault::about(file, text, &keys, self.what, self.advice)
    }
}

pub(super) fn values(manifest: &Manifest) -> Result<(), Mistake> {
    name(&manifest.name)?;
    sender(manifest)?;
    message(manifest)?;
    variants::check(manifest)?;
    headers(manifest)?;
    check_tokens::values(manifest)?;
    region(manifest)?;
    attachments(manifest)?;
    calendar(manifest)?;
    lists::check(manifest)?;
    keys(manifest)?;
    retry(manifest)
}

fn name(name: &str) -> Result<(), Mistake> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        let what = format!("`{name}` is no campaign name");
        let advice = "use 1 to 64 lower-case letters, digits, - and _; it names folders";
        return Err(Mistake::new(&["name"], what, advice));
    }
    Ok(())
}

fn sender(manifest: &Manifest) -> Result<(), Mistake> {
    let fields = [("from", Some(&manifest.from)), ("reply_to", manifest.reply_to.as_ref())];
    for (key, text) in fields {
        if let Some(Err(reason)) = text.map(|text| mailbox(text)) {
            let what = format!("`{key}` is no sender: {reason}");
            return Err(Mistake::new(&[key], what, "write \"Name <address@domain>\" or an address"));
        }
    }
    Ok(())
}

/// Display name (maybe empty) and address of `Name <address>`, `"Name" <address>` or `address`.
pub(super) fn mailbox(text: &str) -> Result<(String, Address), String> {
    if text.chars().any(char::is_control) {
        return Err("it holds a line break or another control character".to_owned());
    }
    let text = text.trim();
    let (name, address) = match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (name.trim().trim_matches('"').to_owned(), address),
        None => (String::new(), text),
    };
    let address = Address::parse(address).map_err(|error| error.to_string())?;
    if address.as_ref().needs_smtputf8() {
        return Err("its local part is not ASCII, which most receivers refuse".to_owned());
    }
    Ok((name, address))
}

fn message(manifest: &Manifest) -> Result<(), Mistake> {
    one_line("subject", &manifest.subject, &["subject"])?;
    for (key, text) in [("to_name", &manifest.to_name), ("list_id", &manifest.list_id)] {
        if let Some(text) = text {
            one_line(key, text, &[key])?;
        }
    }
    if manifest.subject.trim().is_empty() {
        return Err(Mistake::new(&["subject"], "the subject is empty", "say what the message is about"));
    }
    if manifest.text.is_none() && manifest.html.is_none() && manifest.variants.is_empty() {
        let what = "there is no message: neither `text` nor `html` is given";
        return Err(Mistake::new(&["name"], what, "name a template file, like text = \"message.txt\""));
    }
    Ok(())
}

pub(super) fn one_line(what: &str, text: &str, keys: &[&str]) -> Result<(), Mistake> {
    if text.chars().any(char::is_control) {
        let what = format!("{what} holds a line break or another control character");
        return Err(Mistake::new(keys, what, "write it on one line"));
    }
    Ok(())
}

fn headers(manifest: &Manifest) -> Result<(), Mistake> {
    for (field, value) in &manifest.headers {
        let keys = ["headers", field.as_str()];
        if let Err(reason) = message::check_name(field) {
            let what = format!("`{field}` cannot be a header field here: {reason}");
            return Err(Mistake::new(&keys, what, "rename or remove it"));
        }
        if let Err(reason) = message::check_value(field, value) {
            return Err(Mistake::new(&keys, reason, "change the value, or remove the field"));
        }
        one_line(field, value, &keys)?;
    }
    Ok(())
}

fn region(manifest: &Manifest) -> Result<(), Mistake> {
    let refuse = |key, what| Err(Mistake::new(&[key], what, "the default is English and UTC"));
    if let Err(what) = Region::new(manifest.locale.as_deref(), None) {
        return refuse("locale", what);
    }
    match Region::new(None, manifest.time_zone.as_deref()) {
        Ok(_) => Ok(()),
        Err(what) => refuse("time_zone", what),
    }
}

fn attachments(manifest: &Manifest) -> Result<(), Mistake> {
    for (at, attachment) in manifest.attachments.iter().enumerate() {
        let at = at.to_string();
        let mistake = |key: &str, what: String, advice: &str| {
            Err(Mistake::new(&["attachments", &at, key], what, advice))
        };
        match (&attachment.file, &attachment.column, &attachment.folder) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => {
                let what =
                    "an attachment is a file for all, or a column and the folder of its files".to_owned();
                return mistake("file", what, "give `file`, or both `column` and `folder`");
            }
        }
        if let Some(kind) = attachment.kind.as_ref().filter(|kind| !message::is_kind(kind)) {
            return mistake("type", format!("`{kind}` is no media type"), "write it like application/pdf");
        }
        if let Some(name) = &attachment.name {
            one_line("the name", name, &["attachments", &at, "name"])?;
        }
    }
    Ok(())
}

fn calendar(manifest: &Manifest) -> Result<(), Mistake> {
    let Some(calendar) = &manifest.calendar else { return Ok(()) };
    if calendar.end.is_some() && calendar.duration.is_some() {
        let what = "the event has an end and a duration";
        return Err(Mistake::new(&["calendar", "duration"], what, "give one of the two"));
    }
    if !calendar.start.contains('{')
        && calendar.start.parse::<jiff::civil::DateTime>().is_err()
        && calendar.start.parse::<jiff::Timestamp>().is_err()
    {
        let what = format!("`{}` is no date", calendar.start);
        return Err(Mistake::new(
            &["calendar", "start"],
            what,
            "write it like 2026-12-01 18:00 or {{ column }}",
        ));
    }
    Ok(())
}

fn keys(manifest: &Manifest) -> Result<(), Mistake> {
    match dkim::mistake(&manifest.dkim) {
        Some(([at, key], what, advice)) => Err(Mistake::new(&["dkim", &at, &key], what, advice)),
        None => Ok(()),
    }
}

fn retry(manifest: &Manifest) -> Result<(), Mistake> {
    let retry = &manifest.retry;
    if retry.schedule.is_empty() || retry.schedule.iter().any(|wait| wait.is_zero()) {
        let what = "the retry schedule is empty or holds a wait of nothing";
        return Err(Mistake::new(&["retry", "schedule"], what, "give waits like [\"5m\", \"30m\", \"2h\"]"));
    }
    if retry.expiry.is_zero() {
        return Err(Mistake::new(&["retry", "expiry"], "nothing could be sent", "give a time like \"3d\""));
    }
    if !(0.0..=1.0).contains(&retry.jitter) {
        let what = format!("a jitter of {} is not between 0 and 1", retry.jitter);
        return Err(Mistake::new(&["retry", "jitter"], what, "0.1 makes waits up to 10 % longer or shorter"));
    }
    Ok(())
}

pub(super) fn is_file(path: &Path, keys: &[&str]) -> Result<(), Mistake> {
    match std::fs::metadata(path) {
        // A pipe or a device can be a list, too.
        Ok(metadata) if !metadata.is_dir() => Ok(()),
        Ok(_) => Err(Mistake::new(keys, format!("{} is a folder", path.display()), "name a file")),
        Err(error) => {
            let what = format!("cannot find {}: {error}", path.display());
            Err(Mistake::new(keys, what, format!("paths are relative to the folder of {FILE}")))
        }
    }
}

/// A file of the message: inside the campaign's folder, wherever links lead.
pub(super) fn is_inside(folder: &Folder, path: &Path, keys: &[&str]) -> Result<(), Mistake> {
    match folder.find(&path.to_string_lossy()) {
        Ok(_) => Ok(()),
        Err(FolderError::Outside(path)) => {
            let what = format!("`{path}` leads out of the campaign's folder");
            Err(Mistake::new(keys, what, "put the file beside the manifest"))
        }
        Err(FolderError::Missing(path)) => {
            let what = format!("cannot find {path}");
            Err(Mistake::new(keys, what, format!("paths are relative to the folder of {FILE}")))
        }
        Err(error) => Err(Mistake::new(keys, error.to_string(), "name a file")),
    }
}

pub(super) fn is_folder(path: &Path, keys: &[&str]) -> Result<(), Mistake> {
    if path.is_dir() {
        return Ok(());
    }
    let what = format!("{} is no folder", path.display());
    Err(Mistake::new(keys, what, format!("paths are relative to the folder of {FILE}")))
}

pub(super) fn warnings(manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    let from = manifest.from_address();
    let from_domain = from.domain().as_str();
    if manifest.dkim.is_empty() {
        warnings.push("no DKIM key is given: the large providers refuse unsigned bulk mail".to_owned());
    } else if !manifest.dkim.iter().any(|key| aligned(from_domain, key.domain.as_str())) {
        warnings.push(format!("no DKIM key is of the From domain {from_domain}: DMARC will not align"));
    }
    if manifest.unsubscribe.is_none() {
        warnings.push("no [unsubscribe] is given: the large providers require it of bulk mail".to_owned());
    }
    warnings.extend(manifest.unreported_winner());
    warnings.extend(manifest.half_variants());
    for file in manifest.dkim.iter().filter_map(|key| key.key_file.as_ref()) {
        if readable_by_others(file) {
            let file = file.display();
            warnings.push(format!("the DKIM key {file} can be read by other users: chmod 600 {file}"));
        }
    }
    warnings
}

/// Same domain, or one below the other: what relaxed alignment comes to for most domains.
fn aligned(a: &str, b: &str) -> bool {
    is_within(a, b) || is_within(b, a)
}

fn readable_by_others(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
