//! `postroad import`: other mailers' files made into ours, and what of them has no equivalent.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{Common, Exit, say, warn};
use crate::config::fault;
use crate::convert::{self, Converted, FILE_OCTETS_MAX, Kind};

/// Bring over the settings of another mailer
///
/// Writes shaping.toml, replies.toml, postroad.toml and report.txt. The report, which is told on the standard
/// error too, names every line that has no equivalent here or means something else, and what to do instead.
/// Check the result with `postroad rules check`, and read it before you use it.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(clap::Subcommand)]
enum From {
    /// Traffic shaping with its automation, and rules of the bounce classifier
    Kumomta {
        /// Files of traffic shaping, a later one over an earlier
        #[arg(value_name = "SHAPING.TOML", required_unless_present = "bounces")]
        shaping: Vec<PathBuf>,
        /// A file of rules of the bounce classifier; may be given again
        #[arg(long, value_name = "FILE")]
        bounces: Vec<PathBuf>,
        #[command(flatten)]
        out: Out,
    },
    /// The configuration, with the local files that it includes
    Powermta {
        /// The file, commonly called `config`
        // `config` is what the option for our own settings is known by.
        #[arg(value_name = "CONFIG")]
        file: PathBuf,
        #[command(flatten)]
        out: Out,
    },
}

#[derive(clap::Args)]
struct Out {
    /// Where to write; files that are there are not overwritten
    #[arg(long, value_name = "FOLDER", default_value = "imported")]
    out: PathBuf,
}

pub fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<Exit> {
    let (converted, out) = match &arguments.from {
        From::Kumomta { shaping, bounces, out } => {
            let (shaping, bounces) = (read_all(shaping)?, read_all(bounces)?);
            match convert::kumomta(&named(&shaping), &named(&bounces)) {
                Ok(converted) => (converted, out),
                Err(faults) => bail!("{}", fault::listed(&faults)),
            }
        }
        From::Powermta { file, out } => {
            let text = read(file).with_context(|| format!("cannot read {}", file.display()))?;
            (convert::powermta(file, &text, &mut |path| read(path)), out)
        }
    };
    write(&out.out, &converted)?;
    let lost = converted.remarks.iter().filter(|remark| remark.kind == Kind::Lost).count();
    let changed = converted.remarks.len() - lost;
    if common.json {
        let remarks: Vec<_> = converted.remarks.iter().map(as_json).collect();
        say(serde_json::json!({ "folder": out.out, "lost": lost, "changed": changed, "remarks": remarks }))?;
    } else {
        converted.remarks.iter().for_each(warn);
        say(format_args!(
            "written to {}: shaping.toml, replies.toml, postroad.toml, report.txt; {lost} lines have no equivalent, \
             {changed} mean something else",
            out.out.display()
        ))?;
    }
    Ok(Exit::Done)
}

fn as_json(remark: &convert::Remark) -> serde_json::Value {
    serde_json::json!({
        "file": &*remark.place.file, "line": remark.place.line, "lost": remark.kind == Kind::Lost,
        "subject": remark.subject, "why": remark.why,
    })
}

/// A text file, whatever its encoding: names and patterns that matter are ASCII.
fn read(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > FILE_OCTETS_MAX as u64 {
        let what = format!("it is larger than {FILE_OCTETS_MAX} octets");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what));
    }
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<(&Path, String)>> {
    let texts = paths.iter().map(|path| {
        let text = read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path.as_path(), text))
    });
    texts.collect()
}

fn named<'a>(texts: &'a [(&'a Path, String)]) -> Vec<(&'a Path, &'a str)> {
    texts.iter().map(|(path, text)| (*path, text.as_str())).collect()
}

fn write(folder: &Path, converted: &Converted) -> anyhow::Result<()> {
    let Converted { shaping, replies, settings, remarks } = converted;
    let report: String = remarks.iter().map(|remark| format!("{remark}\n")).collect();
    let files = [
        ("shaping.toml", shaping),
        ("replies.toml", replies),
        ("postroad.toml", settings),
        ("report.txt", &report),
    ];
    if let Some((name, _)) = files.iter().find(|(name, _)| folder.join(name).exists()) {
        bail!("{} is there already; name another folder with --out", folder.join(name).display());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        let made = std::fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        made.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
