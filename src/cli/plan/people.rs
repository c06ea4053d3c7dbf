//! The people of a list, by domain and by how they will fare, and where their mail goes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

use crate::address::Domain;
use crate::campaign::draft::Draft;
use crate::campaign::manifest::Manifest;
use crate::config::Node;
use crate::engine;
use crate::site::Route;
use crate::site::bulk::Bulk;
use crate::suppression::Suppression;
use crate::world::{Outlook, World};

/// Domains asked for at once.
const AT_ONCE: usize = 256;

/// How many are deferred so often, and whether they are greylisted before.
type Loads = BTreeMap<(Option<u32>, bool), u64>;

/// Recipients of a domain by how they will fare.
#[derive(Default)]
pub(super) struct People {
    pub count: u64,
    pub loads: Loads,
    pub unreachable: u64,
    pub nowhere: u64,
}

/// The list, as a run would read it.
pub(super) fn draft(state: &Path, manifest: &Manifest, suppression: &Suppression) -> anyhow::Result<Draft> {
    Draft::read(state, manifest, suppression).context("the list cannot be planned for")
}

/// Everyone of the list by domain.
pub(super) fn people(draft: &Draft, world: Option<&World>) -> BTreeMap<Domain, People> {
    let mut all: BTreeMap<Domain, People> = BTreeMap::new();
    for segment in draft.spool.iter() {
        for span in segment.spans() {
            // Domains of a spool were parsed before they came into it.
            let Ok(domain) = Domain::parse(span.domain) else { continue };
            let people = all.entry(domain).or_default();
            people.count += u64::from(span.count);
            let Some(world) = world else { continue };
            for index in span.first..span.first + span.count {
                let outlook = segment.recipient(index).map(|recipient| world.outlook(&recipient.address));
                match outlook {
                    Ok(Outlook::Nowhere) => people.nowhere += 1,
                    Ok(Outlook::Unreachable) => people.unreachable += 1,
                    Ok(Outlook::Answered { deferrals, is_greylisted }) => {
                        *people.loads.entry((deferrals, is_greylisted)).or_default() += 1;
                    }
                    Err(_) => *people.loads.entry((Some(0), false)).or_default() += 1,
                }
            }
        }
        segment.drop_resident();
    }
    all
}

/// Where the mail of each domain goes, by the node's DNS. Blocks.
pub(super) fn routes<'a>(
    node: &Node,
    domains: impl Iterator<Item = &'a Domain>,
) -> anyhow::Result<BTreeMap<Domain, Route>> {
    let resolver = engine::resolver(node)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut routes = BTreeMap::new();
    let domains = domains.map(|domain| (domain.clone(), domain.clone()));
    let settled = |domain: Domain, route: Option<Route>| {
        routes.extend(route.map(|route| (domain, route)));
    };
    runtime.block_on(Bulk { at_once: AT_ONCE, until: None }.routes(&resolver, domains, settled));
    // Nothing is left to wait for: a look-up that hangs must not keep the program.
    runtime.shutdown_background();
    Ok(routes)
}
