//! The journal: encoding, appending through the writer's thread, and replaying ten million records.
//!
//! `cargo bench --bench journal`; the replay writes some 1 GB under the system's temporary folder first.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, UNIX_EPOCH};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use postroad::envelope::RecipientId;
use postroad::journal::{Inflight, Line, Position, Record, Writer, encode, replay};
use postroad::outcome::{Disposition, Evidence, SiteId, SourceId, Stage};
use postroad::reply::EnhancedCode;
use tokio::time::Instant;

/// Recipients of a full segment.
const SEGMENT: u64 = 262_144;
/// One in so many is deferred once before it is delivered.
const DEFERRED_EVERY: u64 = 20;
const SYNC: Duration = Duration::from_millis(100);

/// As smtp-sink or Postfix answer.
fn record(number: u64, attempt: u16, disposition: Disposition) -> Record {
    // Domains come in turn, so that neighbours in time are no neighbours in the segment.
    let index = number % SEGMENT * 48_271 % SEGMENT;
    Record {
        recipient: RecipientId::new((number / SEGMENT) as u32 + 1, index as u32),
        attempt,
        at: UNIX_EPOCH + Duration::from_millis(1_795_000_000_000 + number / 20),
        disposition,
        class: 0,
        variant: 0,
        evidence: Evidence {
            stage: Stage::Content,
            code: 250,
            enhanced: Some(EnhancedCode::new(2, 0, 0)),
            text: format!("Ok: queued as 4GxTest{number:08X}").into(),
        },
        source: SourceId(0),
        site: SiteId((number % 50) as u32),
        slot: None,
    }
}

fn outcomes(number: u64) -> impl Iterator<Item = Record> {
    let until = UNIX_EPOCH + Duration::from_secs(1_795_000_300);
    let deferred = number.is_multiple_of(DEFERRED_EVERY);
    let first = deferred.then(|| record(number, 1, Disposition::Deferred { until }));
    first.into_iter().chain([record(number, 1 + u16::from(deferred), Disposition::Delivered)])
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn start(folder: &Path) -> Writer {
    let inflight = Arc::new(Inflight::open(&folder.join("inflight.map"), 16).unwrap());
    Writer::start(&folder.join("journal"), Position::default(), SYNC, inflight).unwrap()
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    let lines: Vec<Line> =
        (0..1000).map(|number| Line::Attempt(record(number, 1, Disposition::Delivered))).collect();
    let mut buffer = Vec::with_capacity(256 * 1024);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("encode/1000", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            for (line, sequence) in lines.iter().zip(1..) {
                encode(line, sequence, &mut buffer);
            }
            buffer.len()
        });
    });
    println!("a delivered record is {} octets", buffer.len() / 1000);
    group.finish();
}

fn appending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal");
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let writer = start(folder.path());
    group.throughput(Throughput::Elements(64_000));
    group.sample_size(10);
    group.bench_function("append/1000 groups of 64", |bencher| {
        bencher.iter_batched(
            || (0..1000u64).map(|n| (n * 64..n * 64 + 64).flat_map(outcomes).take(64).collect()).collect(),
            |groups: Vec<Vec<Record>>| {
                runtime.block_on(async {
                    for group in groups {
                        writer.append(group).await.unwrap();
                    }
                    writer.flush().await.unwrap();
                });
            },
            criterion::BatchSize::LargeInput,
        );
    });
    runtime.block_on(writer.close()).unwrap();
    group.finish();
    paced(&runtime);
}

/// At 20,000 records a second for two seconds, one by one: how many writes and syncs that makes.
fn paced(runtime: &tokio::runtime::Runtime) {
    const PER_SECOND: u64 = 20_000;
    const SECONDS: u64 = 2;
    let folder = tempfile::tempdir().unwrap();
    let writer = start(folder.path());
    runtime.block_on(async {
        let began = Instant::now();
        for number in 0..PER_SECOND * SECONDS {
            let due = began + Duration::from_nanos(number * (1_000_000_000 / PER_SECOND));
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            writer.append(vec![record(number, 1, Disposition::Delivered)]).await.unwrap();
        }
        writer.flush().await.unwrap();
    });
    let (writes, syncs) = (writer.counters().writes.load(Relaxed), writer.counters().syncs.load(Relaxed));
    println!("at {PER_SECOND} records/s: {} writes/s, {} syncs/s", writes / SECONDS, syncs / SECONDS);
    runtime.block_on(writer.close()).unwrap();
}

fn replaying(criterion: &mut Criterion) {
    const RECORDS: u64 = 10_000_000;
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let writer = start(folder.path());
    let recipients = RECORDS * DEFERRED_EVERY / (DEFERRED_EVERY + 1);
    runtime.block_on(async {
        for from in (0..recipients).step_by(1000) {
            let group = (from..(from + 1000).min(recipients)).flat_map(outcomes).collect();
            writer.append(group).await.unwrap();
        }
        writer.close().await.unwrap();
    });
    let mut group = criterion.benchmark_group("journal");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(RECORDS));
    group.bench_function("replay/10M", |bencher| {
        bencher.iter(|| {
            let replayed = replay(&folder.path().join("journal")).unwrap();
            assert_eq!(replayed.settled.len(), recipients);
            replayed
        });
    });
    group.finish();
}

criterion_group!(benches, encoding, appending, replaying);
criterion_main!(benches);
