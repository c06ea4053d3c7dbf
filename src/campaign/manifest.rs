//! A campaign's manifest: `campaign.toml` opened, checked, and its paths made absolute.
//!
//! Files of the message must lie inside the campaign's folder; list, suppression and key files, and the
//! folders of files that rows name, may be anywhere. Keys are named by file or environment variable, never written into the manifest. Every
//! mistake says file, line, column, what is wrong and what to do. Whether a template compiles and a
//! key signs is for `message` to say; what limits a receiver has is the node's (`config`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Domain};
use crate::campaign::list::ListSource;
use crate::config::TlsPolicy;
use crate::config::dkim;
use crate::config::fault::Fault;
use crate::config::units::{Rate, domain_text, duration, duration_list};
use crate::message::{self, ContentError, Folder};
use crate::outcome::InDoubtPolicy;

pub use crate::campaign::list::ListFormat;
pub use crate::config::dkim::DkimKey;
pub use crate::config::units::Size;
pub use content::{Attachment, Calendar, FILE_OCTETS_MAX};
pub use selection::{Seeds, Select};
pub use tokens::{Tracking, Unsubscribe};
pub use variants::{Share, Test, VARIANTS_MAX, Variant, Winner};

use check::Mistake;

mod check;
mod check_tokens;
mod content;
mod lists;
mod selection;
mod tokens;
mod variants;

/// The manifest's name in a campaign's folder.
pub const FILE: &str = "campaign.toml";
/// As `list.file`: the list comes through the standard input.
pub const STDIN: &str = "-";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    #[error("cannot read {}: {error}; name a folder with a {FILE} in it (`postroad init` makes one)", .file.display())]
    Read { file: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Fault(Box<Fault>),
}

/// What is sent, to whom, under which rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Lower-case letters, digits, `-` and `_`; names the run's folder.
    pub name: String,
    /// `Name <address>` or an address.
    pub from: String,
    pub reply_to: Option<String>,
    /// A template: the recipient's name in `To:`.
    pub to_name: Option<String>,
    /// `List-Id` (RFC 2919): `Name <label.domain>` or `label.domain`.
    pub list_id: Option<String>,
    /// Bounces come back to addresses of this domain (VERP).
    #[serde(with = "domain_text")]
    pub return_path_domain: Domain,
    /// A template.
    pub subject: String,
    /// Template files; at least one of the two. Without `text`, one is made of `html`, which is MJML if its
    /// name ends in `.mjml`. Absolute once opened.
    pub text: Option<PathBuf>,
    pub html: Option<PathBuf>,
    /// Rules of `<style>` go into the elements they are for.
    #[serde(default)]
    pub inline_css: bool,
    /// Of the filters `date`, `number` and `currency`, like `de` or `pt-BR`; `None`: English.
    pub locale: Option<String>,
    /// Of dates that name none, like `Europe/Berlin`; `None`: UTC.
    pub time_zone: Option<String>,
    /// Egress pool; `None`: the node's `default`.
    pub pool: Option<String>,
    #[serde(default)]
    pub in_doubt: InDoubtPolicy,
    /// Wins over the providers' and the node's.
    pub tls: Option<TlsPolicy>,
    /// A template variable that the list does not have stops the campaign instead of being an empty text.
    #[serde(default = "yes")]
    pub strict: bool,
    /// Files of addresses that are not mailed, one a line; `@domain` stands for a whole domain.
    /// Read where they are, also while the run is under way. Absolute once opened.
    #[serde(default)]
    pub suppression: Vec<PathBuf>,
    pub unsubscribe: Option<Unsubscribe>,
    pub tracking: Option<Tracking>,
    /// `Feedback-ID`, a template of up to four parts with colons between.
    pub feedback_id: Option<String>,
    /// Complaints come to it (RFC 9477).
    pub cfbl_address: Option<String>,
    /// Further header fields; values are templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Shown where the HTML says `cid:NAME`. Absolute once opened.
    #[serde(default)]
    pub images: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    pub calendar: Option<Calendar>,
    /// `[list]`, or several `[[list]]`: an address that is on several is mailed once, with the fields of the
    /// first. Never none.
    #[serde(rename = "list", with = "one_or_more")]
    pub lists: Vec<List>,
    /// Which rows of the lists are mailed; all if it says nothing.
    #[serde(default)]
    pub select: Select,
    /// Lists of those who are not mailed this time. Absolute once opened.
    #[serde(default)]
    pub exclude: Vec<List>,
    pub seeds: Option<Seeds>,
    /// What differs from recipient to recipient, by chance; none: all get the same.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// Part of the list is mailed first, the rest once a variant has won.
    pub test: Option<Test>,
    /// Keys that sign the messages; paths are absolute once opened. None: the node's, by the From domain.
    #[serde(default)]
    pub dkim: Vec<DkimKey>,
    #[serde(default)]
    pub limits: CampaignLimits,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub check: Check,
    /// Where the message's files are: the campaign's folder, or a run's copy of them. Set when it is opened.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Where the recipients are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Plain, .gz or .zst; [`STDIN`] for the standard input. Absolute once opened.
    pub file: PathBuf,
    /// `None`: by the file's name; CSV if that does not tell.
    pub format: Option<ListFormat>,
    /// Of CSV; ASCII.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The column of the address.
    #[serde(default = "email")]
    pub address: String,
    /// Template variable = column. Empty: each column under its own name.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// An expression over its columns; rows of which it is not true are left out.
    #[serde(rename = "where")]
    pub condition: Option<String>,
}

impl List {
    pub fn is_stdin(&self) -> bool {
        self.file == Path::new(STDIN)
    }

    /// As the import takes it.
    pub fn source(&self) -> ListSource {
        ListSource {
            file: self.file.clone(),
            format: self.format,
            delimiter: u8::try_from(self.delimiter).unwrap_or(b','),
            address_column: self.address.clone(),
            columns: self.columns.iter().map(|(name, column)| (name.clone(), column.clone())).collect(),
        }
    }
}

/// Limits of the whole campaign; `None`: none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CampaignLimits {
    pub messages: Option<Rate>,
    /// The run stops when more rows than this are rejected.
    pub rejected_max: Option<u64>,
}

/// What the check before sending does not say of this campaign.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// Names of checks, like `role-accounts`.
    pub ignore: Vec<String>,
}

/// When a deferred recipient is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Waits after the first, second, … deferral; the last one repeats.
    #[serde(with = "duration_list")]
    pub schedule: Vec<Duration>,
    /// From the run's start; whoever still waits then is expired.
    #[serde(with = "duration")]
    pub expiry: Duration,
    /// Share of a wait by which it is made longer, 0 to 1.
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self {
            schedule: [5, 15, 30, 60, 120, 240].map(minutes).to_vec(),
            expiry: Duration::from_secs(3 * 86_400),
            jitter: 0.1,
        }
    }
}

impl Manifest {
    /// Opens the manifest of the campaign in `folder`.
    ///
    /// # Errors
    /// A file that cannot be read, or the first mistake in it.
    pub fn open(folder: &Path) -> Result<Self, ManifestError> {
        let file = folder.join(FILE);
        let text = std::fs::read_to_string(&file)
            .map_err(|error| ManifestError::Read { file: file.clone(), error })?;
        let mut manifest = Self::parse(&file, &text)?;
        manifest.resolve(folder, &file, &text)?;
        Ok(manifest)
    }

    /// Reads and checks a manifest's text, without looking at any other file.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ManifestError> {
        let fault = |fault| ManifestError::Fault(Box::new(fault));
        let manifest: Self =
            toml::from_str(text).map_err(|error| fault(Fault::from_toml(file, text, &error)))?;
        check::values(&manifest).map_err(|mistake| fault(mistake.in_file(file, text)))?;
        Ok(manifest)
    }

    /// Makes paths absolute and sees that what is sent is there. Keys may be missing: a rehearsal
    /// makes its own.
    fn resolve(&mut self, folder: &Path, file: &Path, text: &str) -> Result<(), ManifestError> {
        let fault = |mistake: Mistake| ManifestError::Fault(Box::new(mistake.in_file(file, text)));
        let folder = std::path::absolute(folder)
            .map_err(|error| ManifestError::Read { file: folder.to_owned(), error })?;
        let inside =
            Folder::open(&folder).map_err(|error| ManifestError::Read { file: folder.clone(), error })?;
        for (keys, path) in self.parts() {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            check::is_inside(&inside, path, &keys).map_err(fault)?;
            *path = folder.join(&path);
        }
        for (at, attachment) in self.attachments.iter_mut().enumerate() {
            if let Some(path) = &mut attachment.folder {
                *path = folder.join(&path);
                check::is_folder(path, &["attachments", &at.to_string(), "folder"]).map_err(fault)?;
            }
        }
        self.folder.clone_from(&folder);
        for (keys, list) in self.all_lists() {
            if !list.is_stdin() {
                list.file = folder.join(&list.file);
                let keys: Vec<&str> = keys.iter().map(String::as_str).chain(["file"]).collect();
                check::is_file(&list.file, &keys).map_err(fault)?;
            }
        }
        for (at, path) in self.suppression.iter_mut().enumerate() {
            *path = folder.join(&path);
            check::is_file(path, &["suppression", &at.to_string()]).map_err(fault)?;
        }
        self.dkim.iter_mut().for_each(|key| key.relate(&folder));
        Ok(())
    }

    /// The files the manifest names as parts of the message, and the keys that name them.
    fn parts(&mut self) -> impl Iterator<Item = (Vec<String>, &mut PathBuf)> {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let templates = [("text", &mut self.text), ("html", &mut self.html)];
        let templates =
            templates.into_iter().filter_map(move |(key, path)| Some((keys(&[key]), path.as_mut()?)));
        let images = self.images.iter_mut().map(move |(name, path)| (keys(&["images", name]), path));
        let attachments = self.attachments.iter_mut().enumerate().filter_map(move |(at, attachment)| {
            Some((keys(&["attachments", &at.to_string(), "file"]), attachment.file.as_mut()?))
        });
        let variants = self.variants.iter_mut().enumerate().flat_map(move |(at, variant)| {
            let own = [("text", &mut variant.text), ("html", &mut variant.html)];
            own.into_iter().filter_map(move |(key, path)| {
                Some((keys(&["variants", &at.to_string(), key]), path.as_mut()?))
            })
        });
        templates.chain(images).chain(attachments).chain(variants)
    }

    /// Every list the manifest names, whatever it is for, and the keys that name it.
    fn all_lists(&mut self) -> impl Iterator<Item = (Vec<String>, &mut List)> {
        let numbered =
            |key: &'static str| move |(at, list)| (vec![key.to_owned(), usize::to_string(&at)], list);
        let lists = self.lists.iter_mut().enumerate().map(numbered("list"));
        let exclude = self.exclude.iter_mut().enumerate().map(numbered("exclude"));
        let seeds = self.seeds.as_mut().map(|seeds| (vec!["seeds".into(), "list".into()], &mut seeds.list));
        lists.chain(exclude).chain(seeds)
    }

    /// Whether a list comes through the standard input.
    pub fn reads_stdin(&self) -> bool {
        self.lists.iter().any(List::is_stdin)
    }

    /// Whether every list is a file, which can be read again; a pipe cannot.
    pub fn lists_are_files(&self) -> bool {
        let seeds = self.seeds.iter().map(|seeds| &seeds.list);
        self.lists.iter().chain(&self.exclude).chain(seeds).all(|list| list.file.is_file())
    }

    /// The list a row is from, by the number that a segment has of it: the seeds come last. `None` where there
    /// is one only, and nobody needs to be told.
    pub fn list_of_row(&self, number: u16) -> Option<&List> {
        if self.lists.len() == 1 && self.seeds.is_none() {
            return None;
        }
        let seeds = self.seeds.iter().map(|seeds| &seeds.list);
        self.lists.iter().chain(seeds).nth(number.into())
    }

    /// Puts the message's files under `folder` instead: their paths below [`Manifest::folder`] stay.
    pub(crate) fn move_parts(&mut self, folder: &Path) {
        let from = std::mem::replace(&mut self.folder, folder.to_owned());
        for (_, path) in self.parts() {
            if let Ok(below) = path.strip_prefix(&from) {
                *path = folder.join(below);
            }
        }
    }

    /// All files the message is made of, below [`Manifest::folder`]: what the manifest names and what its
    /// templates pull in. Files that rows name are not among them.
    ///
    /// # Errors
    /// A file that a template names and that is not there or not inside the folder.
    pub fn content_files(&self) -> Result<Vec<PathBuf>, ContentError> {
        let unreadable = |error| {
            let name = self.folder.display().to_string();
            ContentError::File(message::FolderError::Read { name, error })
        };
        let folder = Folder::open(&self.folder).map_err(unreadable)?;
        let below =
            |path: &PathBuf| path.strip_prefix(&self.folder).map_or_else(|_| path.clone(), Path::to_owned);
        let own = self.variants.iter().flat_map(|variant| variant.text.iter().chain(&variant.html));
        let roots: Vec<PathBuf> = self.text.iter().chain(&self.html).chain(own).map(below).collect();
        let names: Vec<String> = roots.iter().map(|root| root.to_string_lossy().into_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut inline: Vec<&str> = vec![&self.subject];
        inline.extend(self.variants.iter().filter_map(|variant| variant.subject.as_deref()));
        inline.extend(self.to_name.as_deref());
        inline.extend(self.headers.values().map(String::as_str));
        inline.extend(self.feedback_id.as_deref());
        let pulled_in = message::closure(&folder, &names, &inline)?;
        let files = self
            .images
            .values()
            .chain(self.attachments.iter().filter_map(|attachment| attachment.file.as_ref()));
        let mut all: Vec<PathBuf> = roots.into_iter().chain(files.map(below)).collect();
        all.extend(pulled_in.into_iter().map(|name| Path::new(&name).components().collect()));
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// What a person should know before sending, though nothing is wrong with the file.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    /// The address of `from`.
    pub fn from_address(&self) -> Address {
        let (_, address) = check::mailbox(&self.from).expect("checked when the manifest was read");
        address
    }

    /// Without keys of its own, is signed by those of the node for its From domain from here on: a run keeps
    /// them, whatever the settings say later.
    ///
    /// # Errors
    /// A relative path in a working folder that is gone.
    pub fn adopt_keys(&mut self, node: &[DkimKey]) -> std::io::Result<()> {
        if self.dkim.is_empty() {
            self.dkim = dkim::of_sender(node, self.from_address().domain()).into_iter().cloned().collect();
            for file in self.dkim.iter_mut().filter_map(|key| key.key_file.as_mut()) {
                *file = std::path::absolute(&*file)?;
            }
        }
        Ok(())
    }

    /// Makes the retry schedule and the wait for a winner `factor` times as quick: a rehearsal's days pass in
    /// seconds.
    pub fn scale_time(&mut self, factor: f64) {
        let scaled = |wait: Duration| {
            let millis = (wait.as_millis() as f64 / factor.max(f64::MIN_POSITIVE)).round();
            Duration::from_millis((millis as u64).max(1))
        };
        self.retry.schedule.iter_mut().for_each(|wait| *wait = scaled(*wait));
        self.retry.expiry = scaled(self.retry.expiry);
        if let Some(after) = self.test.as_mut().and_then(|test| test.after.as_mut()) {
            *after = scaled(*after);
        }
    }
}

fn yes() -> bool {
    true
}

fn comma() -> char {
    ','
}

fn email() -> String {
    "email".to_owned()
}

/// One table or an array of tables, at least one.
mod one_or_more {
    use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
    use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
    use serde::{Serialize, Serializer};

    use super::List;

    pub fn serialize<S: Serializer>(lists: &[List], serializer: S) -> Result<S::Ok, S::Error> {
        match lists {
            [list] => list.serialize(serializer),
            lists => lists.serialize(serializer),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<List>, D::Error> {
        deserializer.deserialize_any(Lists)
    }

    struct Lists;

    impl<'de> Visitor<'de> for Lists {
        type Value = Vec<List>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("[list] with a `file`, or several [[list]]")
        }

        fn visit_map<A: MapAccess<'de>>(self, list: A) -> Result<Vec<List>, A::Error> {
            List::deserialize(MapAccessDeserializer::new(list)).map(|list| vec![list])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, lists: A) -> Result<Vec<List>, A::Error> {
            let lists = Vec::deserialize(SeqAccessDeserializer::new(lists))?;
            if lists.is_empty() { Err(A::Error::custom("there is no list")) } else { Ok(lists) }
        }
    }
}
