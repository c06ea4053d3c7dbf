//! Handing out recipients: ranges of segments in, entries in fair turn out.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use postroad::scheduler::queue::{Queues, Skip};
use postroad::site::Site;
use tokio::time::Instant;

const RECIPIENTS: u32 = 1_000_000;

fn filled(domains: u32, sites: u32) -> (Queues, Vec<postroad::outcome::SiteId>) {
    let mut queues = Queues::new(Skip::default());
    let ids: Vec<_> = (0..sites)
        .map(|n| {
            let site = Site {
                name: format!("mx{n}.test"),
                exchanges: Vec::new(),
                provider: None,
                implicit: false,
                own_limits_of: None,
            };
            queues.site(&Arc::new(site)).0
        })
        .collect();
    let each = RECIPIENTS / domains;
    for domain in 0..domains {
        let name = format!("d{domain}.test");
        queues.add_span(&name, 0, domain * each, each);
        queues.place(&name, ids[(domain % sites) as usize], Instant::now());
    }
    (queues, ids)
}

fn schedule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedule");
    group.throughput(Throughput::Elements(u64::from(RECIPIENTS))).sample_size(10);
    for (domains, sites) in [(10, 1), (50, 50), (10_000, 5_000)] {
        group.bench_function(format!("take 1M of {domains} domains, {sites} sites"), |bencher| {
            bencher.iter_batched(
                || filled(domains, sites),
                |(mut queues, ids)| {
                    let mut entries = Vec::with_capacity(64);
                    for id in ids {
                        while queues.site_ready(id) > 0 {
                            entries.clear();
                            queues.take(id, postroad::outcome::SourceId(0), 64, &mut entries);
                            black_box(&entries);
                        }
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
