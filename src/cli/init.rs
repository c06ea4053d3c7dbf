//! `postroad init`: a campaign that rehearses as it is, to be made one's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::{Common, Exit, say};

/// The files of a new campaign; `NAME` and `FOLDER` in the manifest are filled in.
const MANIFEST: &str = include_str!("../../data/init/campaign.toml");
const PARTS: [(&str, &str); 5] = [
    ("message.txt", include_str!("../../campaigns/welcome/message.txt")),
    ("message.html", include_str!("../../campaigns/welcome/message.html")),
    ("recipients.csv", include_str!("../../data/init/recipients.csv")),
    ("suppression.txt", include_str!("../../data/init/suppression.txt")),
    // Keys must not end up in a repository by accident.
    (".gitignore", "/keys/\n"),
];

/// Write a new campaign that rehearses as it is
#[derive(clap::Args)]
pub struct Arguments {
    /// A folder that is not there yet, or is empty; its name names the campaign
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

pub fn run(_: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let folder = &arguments.folder;
    write(folder)?;
    let shown = folder.display();
    say(format_args!(
        "{shown} is a campaign of 200 recipients. Next:\n\n\
         \x20 postroad rehearse {shown}               # the whole road, without leaving this machine\n\
         \x20 postroad preview {shown} --row 1        # one message as it would be sent\n\
         \x20 $EDITOR {shown}/campaign.toml           # make it yours; every key is explained there"
    ))?;
    Ok(Exit::Done)
}

/// # Errors
/// A folder that holds something already, or that cannot be written.
fn write(folder: &Path) -> anyhow::Result<()> {
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} holds something already; name a new folder", folder.display());
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let manifest =
        MANIFEST.replace("NAME", &campaign_name(folder)).replace("FOLDER", &folder.display().to_string());
    for (name, content) in PARTS.into_iter().chain([("campaign.toml", manifest.as_str())]) {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The folder's name with what a campaign's name may not hold made into hyphens.
fn campaign_name(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = name.chars().map(allowed).take(64).collect();
    if name.is_empty() { "campaign".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::manifest::Manifest;

    #[test]
    fn what_is_written_is_a_campaign() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("Summer sale: 2026");
        write(&folder).unwrap();
        let manifest = Manifest::open(&folder).unwrap();
        assert_eq!(manifest.name, "summer-sale--2026");
        assert!(write(&folder).is_err(), "it writes over what is there");
    }
}
