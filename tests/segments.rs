//! Who of a campaign's lists is mailed: several lists, conditions, exclude lists, samples, caps and seeds.
//!
//! `segments/` holds campaigns and what each must come to, which `segments/oracle.py` works out with parsers
//! and an evaluator of its own; `refused.txt` is what must be said of one that cannot be read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use postroad::campaign::audience::Audience;
use postroad::campaign::import::{ImportError, ImportJob, ImportProgress, ImportTotals, import};
use postroad::campaign::manifest::Manifest;
use postroad::campaign::segment::Segment;
use postroad::campaign::spool::Spool;
use postroad::suppression::Suppression;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize)]
struct Expected {
    columns: Vec<String>,
    totals: BTreeMap<String, u64>,
    #[serde(default)]
    mailed: Vec<Mailed>,
    #[serde(default)]
    rejected: Vec<Rejected>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Mailed {
    row: u64,
    address: String,
    /// The list's file name.
    list: String,
    list_row: u64,
    fields: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Rejected {
    row: u64,
    list: String,
    list_row: u64,
}

/// Imports into `folder` what is not there yet, until `on_segment` breaks.
fn import_into(
    folder: &Path,
    manifest: &Manifest,
    on_segment: impl FnMut(Arc<Segment>) -> ControlFlow<()> + Send,
) -> Result<ImportTotals, ImportError> {
    let suppression = Suppression::load(&manifest.suppression).unwrap();
    let job = ImportJob {
        audience: Audience::open(manifest).unwrap(),
        spool: &Spool::open(&folder.join("spool")).unwrap(),
        rejected: folder.join("rejected.csv"),
        suppression: &suppression,
        rejected_max: None,
        stop: &AtomicBool::new(false),
        progress: &ImportProgress::default(),
    };
    import(job, on_segment)
}

fn named(totals: &ImportTotals) -> BTreeMap<String, u64> {
    let ImportTotals { rows, invalid, left_out, duplicate, suppressed, accepted, seeds, .. } = *totals;
    assert_eq!(rows, invalid + left_out.sum() + duplicate + suppressed + accepted);
    let counts = [
        ("rows", rows),
        ("invalid", invalid),
        ("duplicate", duplicate),
        ("suppressed", suppressed),
        ("accepted", accepted),
        ("seeds", seeds),
        ("condition", left_out.condition),
        ("excluded", left_out.excluded),
        ("cap", left_out.cap),
        ("sample", left_out.sample),
    ];
    // The oracle knows no samples.
    counts
        .into_iter()
        .filter(|(name, count)| *name != "sample" || *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

/// What is in `folder`, after an import that came to `totals`.
fn outcome(folder: &Path, manifest: &Manifest, totals: &ImportTotals) -> Expected {
    assert!(totals.complete);
    let spool = Spool::open(&folder.join("spool")).unwrap();
    let mut mailed = Vec::new();
    for segment in spool.iter() {
        for index in 0..segment.len() {
            let recipient = segment.recipient(index).unwrap();
            let (list, list_row) = segment.origin_of_row(recipient.row).unwrap();
            let list = manifest.list_of_row(list).unwrap_or(&manifest.lists[0]);
            mailed.push(Mailed {
                row: recipient.row,
                address: recipient.address.to_string(),
                list: list.file.file_name().unwrap().to_string_lossy().into_owned(),
                list_row,
                fields: recipient.fields().map(str::to_owned).collect(),
            });
        }
    }
    mailed.sort_by_key(|mailed| mailed.row);
    let mut rejected = Vec::new();
    let mut rows = csv::Reader::from_path(folder.join("rejected.csv")).unwrap();
    for row in rows.records() {
        let row = row.unwrap();
        let number = row[0].parse().unwrap();
        let (list, list_row) = match row.get(3) {
            Some(list) => (PathBuf::from(list), row[4].parse().unwrap()),
            None => (manifest.lists[0].file.clone(), number),
        };
        let list = list.file_name().unwrap().to_string_lossy().into_owned();
        rejected.push(Rejected { row: number, list, list_row });
    }
    let columns = spool.columns().unwrap().names().to_vec();
    Expected { columns, totals: named(totals), mailed, rejected }
}

fn import_whole(manifest: &Manifest) -> Expected {
    let folder = tempfile::tempdir().unwrap();
    let totals = import_into(folder.path(), manifest, |_| ControlFlow::Continue(())).unwrap();
    outcome(folder.path(), manifest, &totals)
}

#[test]
fn every_campaign_selects_whom_it_must() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/segments");
    let folders = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 15);
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let manifest = Manifest::open(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Ok(refused) = std::fs::read_to_string(folder.join("refused.txt")) {
            let error = Audience::open(&manifest).expect_err(&name).to_string();
            assert!(error.contains(refused.trim_end_matches('\n')), "{name}: {error}");
            continue;
        }
        let expected = std::fs::read_to_string(folder.join("expected.toml")).unwrap();
        let expected: Expected = toml::from_str(&expected).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = import_whole(&manifest);
        assert_eq!(found.totals, expected.totals, "{name}");
        assert_eq!(found.columns, expected.columns, "{name}");
        assert_eq!(found.rejected, expected.rejected, "{name}");
        assert_eq!(found.mailed.len(), expected.mailed.len(), "{name}");
        for (found, expected) in found.mailed.iter().zip(&expected.mailed) {
            assert_eq!(found, expected, "{name}");
        }
    }
}

/// A campaign in a folder of its own.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    /// With these lists (`0.csv`, `1.csv`, …), seeds and a manifest that ends in `rest`.
    fn new(rest: &str, lists: &[String], seeds: &str) -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        let manifest = "name = \"summer\"\nfrom = \"us@news.sender.test\"\nsubject = \"Hello\"\n\
            return_path_domain = \"bounce.sender.test\"\ntext = \"message.txt\"\n";
        let mut manifest = manifest.to_owned() + rest;
        for (number, list) in lists.iter().enumerate() {
            let _ = write!(manifest, "\n[[list]]\nfile = \"{number}.csv\"\n");
            stage.write(&format!("{number}.csv"), list);
        }
        stage.write("message.txt", "Hello\n");
        stage.write("seeds.csv", seeds);
        stage.write("campaign.toml", &manifest);
        stage
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn manifest(&self) -> Manifest {
        Manifest::open(self.folder.path()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A list of its own column, with addresses that other lists have, broken rows and unequal points.
fn long_list(number: usize, rows: usize) -> String {
    let mut list = format!("email,points,own{number}\n");
    for row in 0..rows {
        let person = (row * 7 + number * 3) % (rows * 2);
        let address =
            if row % 50 == 49 { "nobody".to_owned() } else { format!("ann{person}@{}.test", person % 11) };
        let points = if row % 33 == 0 { "" } else { &format!("{}", row % 200) };
        let _ = writeln!(list, "{address},{points},{row}");
    }
    list
}

const LONG: &str = "[select]\nwhere = \"points > 20\"\nsample = \"70%\"\ncap = 19000\n\
    [seeds]\nevery = 1000\nlist = { file = \"seeds.csv\" }\n";

fn long_stage() -> Stage {
    let mut seeds = "email\n".to_owned();
    (0..40).for_each(|seed| writeln!(seeds, "seed{seed}@our.test").unwrap());
    Stage::new(
        LONG,
        &[long_list(0, 15_000), "email,points\n".into(), long_list(1, 20_000), long_list(2, 5_000)],
        &seeds,
    )
}

#[test]
fn a_resumed_import_takes_the_same_rows_in_the_same_order() {
    let stage = long_stage();
    let manifest = stage.manifest();
    let whole = import_whole(&manifest);
    assert_eq!((whole.totals["rows"], whole.totals["seeds"]), (40_040, 40));
    assert!(whole.totals["accepted"] == 19_040 && whole.totals["cap"] > 0, "{:?}", whole.totals);

    let folder = tempfile::tempdir().unwrap();
    let mut stops = 0;
    let totals = loop {
        let totals = import_into(folder.path(), &manifest, |_| ControlFlow::Break(())).unwrap();
        if totals.complete {
            break totals;
        }
        stops += 1;
        assert!(stops < 20);
    };
    let ends: Vec<u64> = spool_ends(folder.path());
    // Some stops are within the third list, of which a resume then has to pass a part.
    assert!(ends.iter().filter(|end| (15_100..35_000).contains(*end)).count() > 1, "{ends:?}");
    let resumed = outcome(folder.path(), &manifest, &totals);
    assert_same(&resumed, &whole);
    // As after a power failure that took the last files.
    std::fs::remove_file(folder.path().join(format!("spool/{:06}.seg", ends.len() - 1))).unwrap();
    let totals = import_into(folder.path(), &manifest, |_| ControlFlow::Continue(())).unwrap();
    assert_same(&outcome(folder.path(), &manifest, &totals), &whole);
}

/// As `assert_eq`, but what it prints can be read.
fn assert_same(found: &Expected, expected: &Expected) {
    assert_eq!((&found.totals, &found.columns), (&expected.totals, &expected.columns));
    let differing = found.mailed.iter().zip(&expected.mailed).find(|(found, expected)| found != expected);
    assert_eq!(differing, None);
    assert!(found == expected);
}

fn spool_ends(folder: &Path) -> Vec<u64> {
    Spool::open(&folder.join("spool")).unwrap().iter().map(|segment| segment.totals().last_row).collect()
}

#[test]
fn a_list_that_changed_since_is_noticed_whichever_it_is() {
    let stage = long_stage();
    let manifest = stage.manifest();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let totals = import_into(folder.path(), &manifest, |_| ControlFlow::Break(())).unwrap();
        assert!(!totals.complete);
    }
    let refused = |name: &str, text: String| {
        let path = stage.folder.path().join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        stage.write(name, &text);
        let error = import_into(folder.path(), &manifest, |_| ControlFlow::Continue(())).unwrap_err();
        std::fs::write(path, before).unwrap();
        error.to_string()
    };
    let more = long_list(0, 15_000) + "late@one.test,1,1\n";
    assert!(refused("0.csv", more).contains("0.csv has more than its 15000 rows"));
    assert!(refused("0.csv", long_list(0, 14_000)).contains("0.csv has 14000 rows, 15000 were imported"));
    assert!(
        refused("1.csv", "email,points\nlate@one.test,5\n".into()).contains("1.csv has more than its 0 rows")
    );
    assert!(refused("2.csv", long_list(1, 20_000).replacen("ann3@", "ann003@", 1)).contains("octets long"));
    assert!(refused("2.csv", long_list(7, 20_000)).contains("its columns are others"));
    assert!(refused("seeds.csv", "email\nseed0@our.test\n".into()).contains("seeds.csv has 1 rows, "));
    // And what nobody has changed goes on.
    assert!(import_into(folder.path(), &manifest, |_| ControlFlow::Continue(())).unwrap().complete);
}

/// Person, points, whether the row is broken.
type Rows = Vec<(u8, i8, bool)>;

fn lists() -> impl Strategy<Value = Vec<Rows>> {
    prop::collection::vec(prop::collection::vec((0u8..30, -3i8..4, prop::bool::weighted(0.1)), 0..40), 1..4)
}

fn csv_of(rows: &Rows) -> String {
    let mut text = "email,points\n".to_owned();
    for (person, points, is_broken) in rows {
        let at = if *is_broken { "" } else { "@" };
        let _ = writeln!(text, "p{person}{at}d{}.test,{points}", person % 3);
    }
    text
}

fn selected(rest: &str, lists: &[String], seeds: &str) -> Expected {
    let stage = Stage::new(rest, lists, seeds);
    import_whole(&stage.manifest())
}

fn whom(found: &Expected) -> Vec<String> {
    found.mailed.iter().map(|mailed| mailed.address.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_row_is_in_one_count_and_the_cap_takes_the_first(lists in lists(), least in -3i8..4, cap in 1u64..40) {
        let texts: Vec<String> = lists.iter().map(csv_of).collect();
        let condition = format!("where = \"points >= {least}\"\n");
        let all = selected(&format!("[select]\n{condition}"), &texts, "");
        let capped = selected(&format!("[select]\n{condition}cap = {cap}\n"), &texts, "");
        let rows: usize = lists.iter().map(Vec::len).sum();
        for found in [&all, &capped] {
            prop_assert_eq!(found.totals["rows"], rows as u64);
            let meant = lists.iter().flatten().filter(|row| !row.2 && row.1 < least).count();
            prop_assert_eq!(found.totals["condition"], meant as u64);
            let broken = lists.iter().flatten().filter(|row| row.2).count();
            prop_assert_eq!(found.totals["invalid"], broken as u64);
        }
        let mut people = Vec::new();
        for &(person, _, _) in lists.iter().flatten().filter(|row| !row.2 && row.1 >= least) {
            let address = format!("p{person}@d{}.test", person % 3);
            if !people.contains(&address) {
                people.push(address);
            }
        }
        prop_assert_eq!(whom(&all), people.clone());
        people.truncate(cap as usize);
        prop_assert_eq!(whom(&capped), people);
    }

    #[test]
    fn a_sample_is_part_of_the_whole_and_stays_the_same(lists in lists(), percent in 1u8..=100) {
        let texts: Vec<String> = lists.iter().map(csv_of).collect();
        let sample = format!("[select]\nsample = \"{percent}%\"\n");
        let found = selected(&sample, &texts, "");
        prop_assert_eq!(&found, &selected(&sample, &texts, ""));
        let whole: HashSet<String> = whom(&selected("", &texts, "")).into_iter().collect();
        let part: HashSet<String> = whom(&found).into_iter().collect();
        prop_assert!(part.is_subset(&whole));
        // The same people whatever list they are on and in what order.
        let turned: Vec<String> = lists.iter().rev().map(csv_of).collect();
        prop_assert_eq!(whom(&selected(&sample, &turned, "")).into_iter().collect::<HashSet<_>>(), part.clone());
        prop_assert!(percent < 100 || part == whole);
    }

    #[test]
    fn no_seed_is_lost_or_mailed_twice(
        lists in lists(),
        seeds in prop::collection::vec(0u8..40, 0..20),
        mut at in prop::option::of(prop::collection::vec(0u64..30, 0..8)),
        every in 1u64..9,
        cap in 1u64..40,
    ) {
        let texts: Vec<String> = lists.iter().map(csv_of).collect();
        let mut seed_list = "email\n".to_owned();
        for seed in &seeds {
            let _ = writeln!(seed_list, "P{seed}@d{}.test", seed % 3);
        }
        if let Some(at) = &mut at {
            at.sort_unstable();
        }
        let places = at.as_ref().map_or_else(|| format!("every = {every}"), |at| format!("at = {at:?}"));
        let rest = format!("[select]\ncap = {cap}\nsample = \"50%\"\n[seeds]\n{places}\nlist = {{ file = \"seeds.csv\" }}\n");
        let found = selected(&rest, &texts, &seed_list);
        let mut times: HashMap<String, u32> = HashMap::new();
        found.mailed.iter().for_each(|mailed| *times.entry(mailed.address.to_lowercase()).or_default() += 1);
        prop_assert!(times.values().all(|&times| times == 1), "{:?}", times);
        for seed in &seeds {
            prop_assert!(times.contains_key(&format!("p{seed}@d{}.test", seed % 3)), "{} is lost", seed);
        }
        let rows: usize = lists.iter().map(Vec::len).sum();
        prop_assert_eq!(found.totals["rows"], (rows + seeds.len()) as u64);
        // Before each recipient there are as many seeds as are due, while there are any left.
        let last_seed = found.mailed.iter().rposition(|mailed| mailed.list == "seeds.csv");
        let (mut recipients, mut before) = (0, 0);
        for mailed in &found.mailed[..last_seed.unwrap_or(0)] {
            let due = match &at {
                Some(at) => at.iter().filter(|&&place| place <= recipients).count() as u64,
                None => recipients / every,
            };
            if mailed.list == "seeds.csv" {
                before += 1;
            } else {
                prop_assert_eq!(before, due, "before recipient {}", recipients + 1);
                recipients += 1;
            }
        }
    }
}

#[test]
fn a_manifest_of_several_lists_comes_back_from_a_run_as_it_was() {
    let rest = "[select]\nwhere = 'points > 3'\nsample = \"12.5%\"\ncap = 7\n[seeds]\nat = [1, 5]\n\
        list = { file = \"seeds.csv\", where = 'email' }\n[[exclude]]\nfile = \"0.csv\"\n";
    for lists in [1, 2, 3] {
        let texts: Vec<String> = (0..lists).map(|number| long_list(number, 3)).collect();
        let stage = Stage::new(rest, &texts, "email\n");
        let manifest = stage.manifest();
        let text = toml::to_string_pretty(&manifest).unwrap();
        assert_eq!(text.contains("[[list]]"), lists > 1, "{text}");
        let mut again = Manifest::parse(Path::new("run.toml"), &text).unwrap();
        again.folder.clone_from(&manifest.folder);
        assert_eq!(again, manifest);
    }
}

impl Stage {
    fn postroad(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postroad"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn a_rehearsal_expects_what_the_selection_comes_to_and_why_says_whom_it_passes_over() {
    let rest = "[select]\nwhere = \"points > 1\"\nsample = \"80%\"\ncap = 30\n\
        [[exclude]]\nfile = \"seeds.csv\"\nwhere = \"points\"\n\
        [seeds]\nevery = 10\nlist = { file = \"seeds.csv\" }\n\
        [[list]]\nfile = \"-\"\naddress = \"who\"\n";
    let list = |from: usize, head: &str| {
        let row = |row: usize| match row % 20 {
            0 => format!("broken{row}@,5\n"),
            1 => format!("ann{row}@gmail.test,\n"),
            _ => format!("ann{row}@gmail.test,{}\n", row % 9),
        };
        head.to_owned() + &(from..from + 60).map(row).collect::<String>()
    };
    let stage = Stage::new(
        rest,
        &[list(30, "email,points\n")],
        "email,points\nann7@gmail.test,1\nann200@gmail.test,\nbad,\nann201@gmail.test,\n",
    );
    let (code, out, err) = stage.postroad(&["rehearse", ".", "--json"], &list(0, "who,points\n"));
    assert_eq!(code, Some(0), "{out}\n{err}");
    let last: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let rehearsal = &last["rehearsal"];
    assert_eq!(rehearsal["as_expected"], true, "{}", rehearsal["differences"]);
    let totals = &rehearsal["report"]["totals"];
    // Of rows 0 to 59 and 30 to 89 six end in 0, 20 or 40 and are broken, six more have no points; and one seed.
    assert_eq!(totals["rows"], 124);
    assert_eq!(totals["invalid"], 13);
    // The cap, and the seeds that have an address.
    let sent = ["delivered", "bounced", "expired"].map(|name| totals[name].as_u64().unwrap());
    assert_eq!(sent.iter().sum::<u64>(), 30 + 3, "{totals}");
    let folder = stage.folder.path().join("state/rehearsals/runs");
    let run = rehearsal["report"]["run"].as_str().unwrap();
    let rejected = std::fs::read_to_string(folder.join(run).join("rejected.csv")).unwrap();
    assert!(rejected.starts_with("row,address,reason,list,list_row\n"), "{rejected}");
    let second = rejected.lines().find(|line| line.contains("broken60")).unwrap();
    let fields: Vec<&str> = second.split(',').collect();
    let row: u64 = fields[0].parse().unwrap();
    assert!(row > 90 && fields[3].ends_with("/0.csv") && fields.last() == Some(&"31"), "{second}");

    let why = |about: &str| {
        let (_, out, err) = stage.postroad(&["why", about, "--state", "state/rehearsals"], "");
        out + &err
    };
    assert!(
        why("ann18@gmail.test").contains("left out: a `where` is not true of it (row 19 of "),
        "{}",
        why("ann18@gmail.test")
    );
    assert!(why("ann7@gmail.test").contains("row 1 of"), "{}", why("ann7@gmail.test"));
    let (broken, place) = (why("broken60@"), format!("(row {row}: row 31 of "));
    assert!(broken.contains(&place) && broken.contains("/0.csv): invalid"), "{broken}");
    assert!(why("ann89@gmail.test").contains("left out: "), "{}", why("ann89@gmail.test"));
}
