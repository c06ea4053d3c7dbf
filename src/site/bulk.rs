//! Many domains at once: where the mail of each goes, with a bounded number of questions under way.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::{Resolver, Route};
use crate::address::Domain;

/// Look-ups under way; the resolver bounds its queries further.
const AT_ONCE: usize = 256;

/// The route of each of these domains; each is asked for once, and the resolver keeps the answers. Needs a
/// tokio runtime.
pub async fn routes(
    resolver: &Resolver,
    domains: impl IntoIterator<Item = Domain>,
) -> BTreeMap<Domain, Route> {
    let mut domains = domains.into_iter();
    let mut asking = JoinSet::new();
    let mut routes = BTreeMap::new();
    loop {
        while asking.len() < AT_ONCE
            && let Some(domain) = domains.next()
        {
            let resolver = resolver.clone();
            asking.spawn(async move {
                let route = resolver.route(&domain).await.route;
                (domain, route)
            });
        }
        match asking.join_next().await {
            Some(Ok((domain, route))) => {
                routes.insert(domain, route);
            }
            // A look-up that died leaves its domain out, as if nobody had asked.
            Some(Err(error)) => tracing::error!(%error, "a look-up died"),
            None => return routes,
        }
    }
}
