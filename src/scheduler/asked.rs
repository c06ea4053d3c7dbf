//! What the queues say of themselves, to whoever asks. Looks, and changes nothing.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Scheduler;
use crate::pull::{AllQueues, DomainQueue, Question, QueuePlace};

impl Scheduler {
    /// Answers; whoever no longer wants to know is not waited for.
    pub(super) fn asked(&self, question: Question) {
        match question {
            Question::Domain(domain, answer) => drop(answer.send(self.domain_queue(&domain))),
            Question::All(answer) => drop(answer.send(self.all_queues())),
        }
    }

    fn domain_queue(&self, domain: &str) -> DomainQueue {
        let Some(waiting) = self.queues.domain_ready(domain) else {
            return DomainQueue { waiting: 0, place: QueuePlace::Nowhere };
        };
        let place = match self.queues.site_of_domain(domain) {
            Some(site) => QueuePlace::Site(site, self.queues.site_of(site).clone()),
            None => self.held_place(domain).unwrap_or(QueuePlace::LookedUp),
        };
        DomainQueue { waiting, place }
    }

    fn held_place(&self, domain: &str) -> Option<QueuePlace> {
        let Reverse((until, _)) = self.held.iter().find(|Reverse((_, held))| &**held == domain)?;
        let (failures, reason) = self.dns_failures.get(domain).cloned().unwrap_or((1, Arc::from("")));
        Some(QueuePlace::Held { until: *until, failures, reason })
    }

    fn all_queues(&self) -> AllQueues {
        let sites = self.queues.sites().map(|site| (site, self.queues.site_ready(site)));
        AllQueues {
            sites: sites.filter(|(_, ready)| *ready > 0).collect(),
            unrouted: self.queues.unrouted(),
            held: self.held.len(),
            held_until: self.held.peek().map(|Reverse((until, _))| *until),
            deferred: self.timers.len(),
            next_due: self.timers.next_due(),
        }
    }
}
