//! Many domains at once: where the mail of each goes, with a bounded number of questions under way.

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Resolver, Route};
use crate::address::Domain;

/// How a bulk may go about it.
#[derive(Debug, Clone, Copy)]
pub struct Bulk {
    /// Domains asked for at once, at least 1; the resolver bounds its queries further.
    pub at_once: usize,
    /// `None`: as long as it takes.
    pub until: Option<Instant>,
}

impl Bulk {
    /// Asks for the route of each domain and gives it to `settled`, with what came along, in the order of the
    /// answers; `None` where the time was over before. Needs a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future gives up what is under way.
    pub async fn routes<T: Send + 'static>(
        self,
        resolver: &Resolver,
        domains: impl IntoIterator<Item = (Domain, T)>,
        mut settled: impl FnMut(T, Option<Route>),
    ) {
        let mut domains = domains.into_iter();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < self.at_once.max(1)
                && let Some((domain, with)) = domains.next()
            {
                if self.until.is_some_and(|until| Instant::now() >= until) {
                    settled(with, None);
                    continue;
                }
                let (resolver, until) = (resolver.clone(), self.until);
                asking.spawn(async move {
                    let asked = async { resolver.route(&domain).await.route };
                    let route = match until {
                        Some(until) => timeout_at(until, asked).await.ok(),
                        None => Some(asked.await),
                    };
                    (with, route)
                });
            }
            match asking.join_next().await {
                Some(Ok((with, route))) => settled(with, route),
                // A look-up that died leaves its domain out, as if nobody had asked.
                Some(Err(error)) => tracing::error!(%error, "a look-up died"),
                None => return,
            }
        }
    }
}
