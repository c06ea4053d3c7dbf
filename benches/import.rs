//! Import: rows a second from a list file to a sealed spool (address, name, id).
//!
//! `cargo bench --bench import` measures 100,000 and 1,000,000 rows. `IMPORT_ROWS=10000000 cargo bench
//! --bench import` imports one list of so many rows once and prints rows and CPU, the time to the first
//! segment and the peak memory; `IMPORT_DUPLICATES=50` makes that percentage of them copies.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use postroad::campaign::import::{ImportJob, ImportProgress, ImportTotals, import};
use postroad::campaign::list::{List, ListSource};
use postroad::campaign::spool::Spool;
use postroad::suppression::Suppression;
use tokio::time::Instant;

/// As in the program, for the memory figure.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROVIDERS: [&str; 8] = [
    "gmail.example",
    "outlook.example",
    "yahoo.example",
    "icloud.example",
    "gmx.example",
    "web.example",
    "orange.example",
    "proton.example",
];
/// Domains beside the providers: three rows in ten are of one of them.
const SMALL_DOMAINS: u64 = 10_000;

fn write_list(path: &Path, rows: u64, duplicates_percent: u64) {
    let mut out = BufWriter::new(File::create(path).expect("a list can be written"));
    writeln!(out, "id,email,name").expect("a list can be written");
    for row in 0..rows {
        let mut person = row;
        if scrambled(row ^ 0xd0b1e) % 100 < duplicates_percent {
            person = scrambled(row) % (row + 1);
        }
        let chance = scrambled(person);
        let domain = match chance % 10 {
            0..7 => PROVIDERS[(chance >> 8) as usize % PROVIDERS.len()].to_owned(),
            _ => format!("company{}.example", (chance >> 8) % SMALL_DOMAINS),
        };
        writeln!(out, "{person},ann.bell{person}@{domain},\"Ann Bell {}\"", chance >> 40)
            .expect("a list can be written");
    }
    out.flush().expect("a list can be written");
}

/// SplitMix64: evenly spread and the same every time.
fn scrambled(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn import_once(list: &Path, folder: &Path, on_first: impl Fn() + Sync) -> ImportTotals {
    let spool = Spool::open(folder).expect("a new folder");
    let job = ImportJob {
        audience: List::open(&ListSource::new(list), None).expect("the list is good").into(),
        spool: &spool,
        rejected: folder.join("rejected.csv"),
        suppression: &Suppression::none(),
        rejected_max: Some(0),
        stop: &AtomicBool::new(false),
        progress: &ImportProgress::default(),
    };
    let sealed = |segment: std::sync::Arc<postroad::campaign::segment::Segment>| {
        if segment.number() == 0 {
            on_first();
        }
        ControlFlow::Continue(())
    };
    import(job, sealed).expect("nothing is wrong with it")
}

fn rows_a_second(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = criterion.benchmark_group("import");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for rows in [100_000u64, 1_000_000] {
        let list = folder.path().join(format!("{rows}.csv"));
        write_list(&list, rows, 0);
        group.throughput(Throughput::Elements(rows));
        group.bench_function(format!("{rows} rows"), |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir_in(&folder).expect("a temporary folder"),
                |spool| {
                    assert_eq!(import_once(&list, spool.path(), || ()).accepted, rows);
                    // Given back, so that removing the files is not timed.
                    spool
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn one_import(rows: u64) {
    let duplicates = std::env::var("IMPORT_DUPLICATES").map_or(0, |percent| percent.parse().unwrap_or(0));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let list = folder.path().join("list.csv");
    write_list(&list, rows, duplicates);
    let (begin, cpu_before) = (Instant::now(), cpu_seconds());
    let first = OnceLock::new();
    let totals = import_once(&list, &folder.path().join("spool"), || {
        first.get_or_init(|| begin.elapsed());
    });
    let (elapsed, cpu) = (begin.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    let spool: u64 = Spool::open(&folder.path().join("spool"))
        .expect("a good spool")
        .iter()
        .map(|segment| segment.path().metadata().map_or(0, |metadata| metadata.len()))
        .sum();
    println!("{totals:?}");
    println!("{elapsed:.2} s, {:.0} rows/s", rows as f64 / elapsed);
    println!("{cpu:.2} s of CPU in all threads, {:.0} rows a CPU second", rows as f64 / cpu);
    println!("first segment after {:.1} ms", first.get().copied().unwrap_or_default().as_secs_f64() * 1e3);
    println!("list {} MiB, spool {} MiB", list.metadata().map_or(0, |m| m.len()) >> 20, spool >> 20);
    let (anonymous, mapped) = (status("RssAnon:"), status("RssFile:"));
    println!("peak memory {} KiB; at the end {anonymous} KiB and {mapped} KiB of files", status("VmHWM:"));
}

/// User and system time of all threads so far (proc_pid_stat(5): fields 14 and 15, in hundredths).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = after_name.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

fn main() {
    match std::env::var("IMPORT_ROWS").ok().and_then(|rows| rows.parse().ok()) {
        Some(rows) => one_import(rows),
        None => {
            let mut criterion = Criterion::default().configure_from_args();
            rows_a_second(&mut criterion);
            criterion.final_summary();
        }
    }
}
