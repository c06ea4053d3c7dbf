//! What a campaign says of its message, as texts and files: what [`super::Content`] is compiled from.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::calendar::Calendar;
use super::filters::Region;
use super::folder::Folder;
use crate::address::Domain;
use crate::token::Key;

/// What a campaign says of its message; every text but `from`, `reply_to` and `list_id` is a template.
pub struct ContentSource<'a> {
    pub subject: &'a str,
    /// `Name <local@domain>` or a plain address; not a template, the name may hold any script.
    pub from: &'a str,
    /// Display name of the recipient in `To:`; `None` leaves the plain address.
    pub to_name: Option<&'a str>,
    pub reply_to: Option<&'a str>,
    /// At least one of `text` and `html`.
    pub text: Option<&'a str>,
    pub html: Option<&'a str>,
    /// Further headers by name; names that Postroad writes itself are refused.
    pub headers: &'a BTreeMap<String, String>,
    /// Must start with `https://` once rendered (RFC 8058 §3.1); what no URL holds is percent-encoded.
    pub unsubscribe_url: Option<&'a str>,
    /// An address, with or without `mailto:`.
    pub unsubscribe_mailto: Option<&'a str>,
    /// `List-Id` of RFC 2919, as `Name <label.domain>` or `label.domain`.
    pub list_id: Option<&'a str>,
    /// Template variables in the order of [`super::Merge::fields`]. `address` and `email` are the recipient's
    /// address unless a column is called so.
    pub columns: &'a [String],
    /// Whether a template that names an unknown variable is an error.
    pub strict: bool,
    /// Goes into Message-ID and boundary; letters and digits only are kept.
    pub run_token: &'a str,
    /// The run's date: every message and retry carries the same one.
    pub date: SystemTime,
    /// Right of the @ of the Message-ID.
    pub message_id_domain: &'a Domain,
    pub extras: Extras<'a>,
}

/// What of its message not every campaign has.
#[derive(Default)]
pub struct Extras<'a> {
    /// Where partials and layouts are; `None`: there are none.
    pub folder: Option<&'a Folder>,
    /// What errors call the two templates; `None`: `text` and `html`.
    pub text_name: Option<&'a str>,
    pub html_name: Option<&'a str>,
    /// The HTML template is MJML.
    pub mjml: bool,
    /// Rules of `<style>` go into the elements they are for.
    pub inline_css: bool,
    /// Locale and time zone of dates, numbers and money.
    pub region: Region,
    /// Shown where the HTML says `cid:name`.
    pub images: Vec<Image>,
    pub attachments: Vec<Attachment<'a>>,
    pub calendar: Option<Calendar<'a>>,
    /// Seals tokens; without it there is no `unsubscribe_token`, and none of the following.
    pub key: Option<&'a Key>,
    /// A token follows. Makes the one-click link, and templates have it as `unsubscribe_url`.
    pub unsubscribe_base_url: Option<&'a str>,
    /// `None`: no link is rewritten.
    pub tracking: Option<Tracking<'a>>,
    /// `Feedback-ID`, a template of up to four parts with colons between.
    pub feedback_id: Option<&'a str>,
    /// `CFBL-Address` of RFC 9477, a plain address.
    pub cfbl_address: Option<&'a str>,
}

/// What of the HTML tells who clicked and opened.
#[derive(Debug, Clone, Copy)]
pub struct Tracking<'a> {
    /// A token follows.
    pub base_url: &'a str,
    pub clicks: bool,
    pub opens: bool,
}

/// A picture within the message.
#[derive(Debug, Clone)]
pub struct Image {
    /// Letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Tells the media type.
    pub file_name: String,
    pub octets: Vec<u8>,
}

/// A file beside the message.
#[derive(Debug, Clone)]
pub struct Attachment<'a> {
    pub from: AttachmentFrom<'a>,
    /// A template for a row's file; `None`: the file's own name.
    pub name: Option<&'a str>,
    /// A media type; `None`: by the file's name.
    pub kind: Option<&'a str>,
}

#[derive(Debug, Clone)]
pub enum AttachmentFrom<'a> {
    /// The same for all.
    File { file_name: String, octets: Vec<u8> },
    /// Each row names its own, `max` octets at most; it is read when the message is made.
    Row { variable: &'a str, folder: Folder, max: u64 },
}
