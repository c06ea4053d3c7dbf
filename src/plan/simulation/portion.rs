//! One portion of time: what each path could send, cut down limit by limit to what all of them allow.

use std::collections::HashMap;

use super::Simulation;
use crate::plan::answer::Binds;
use crate::plan::bucket::{Bucket, least};
use crate::plan::sessions::wanted;
use crate::policy::warmup::Slot;

/// What a path is to send within the portion, and what keeps that from being more.
struct Want {
    site: usize,
    path: usize,
    source: usize,
    provider: usize,
    sessions: f64,
    amount: f64,
    /// Of the portion, until the site has no more work for it.
    busy: f64,
    /// `None`: nothing but the end of its work.
    binds: Option<(Binds, Option<usize>)>,
}

impl Want {
    /// No more than `most`, which is so for this reason.
    fn at_most(&mut self, most: f64, binds: Binds, source: Option<usize>) {
        if most < self.amount {
            (self.amount, self.binds) = (most.max(0.0), Some((binds, source)));
        }
    }
}

impl Simulation {
    /// Sends what can be sent within the next `seconds`; whether that is anything.
    pub(super) fn portion(&mut self, working: &[usize], seconds: f64) -> bool {
        let mut wants = self.wants(working);
        self.share_sessions(&mut wants);
        for want in &mut wants {
            self.by_path(want, seconds);
        }
        self.by_work(&mut wants);
        self.by_shared(&mut wants, seconds);
        let sent = self.send(&wants, seconds);
        self.pass(&wants, seconds);
        sent > 0.0
    }

    /// Every path at work; of a site whose sources are held, others too.
    fn wants(&mut self, working: &[usize]) -> Vec<Want> {
        let mut wants = Vec::new();
        for &site in working {
            let provider = self.question.sites[site].provider;
            loop {
                let held = self.sites[site].paths.iter().filter(|path| self.is_suspended(site, path.source));
                let held = held.count();
                let before = self.sites[site].paths.len();
                self.staff(site, held);
                if self.sites[site].paths.len() == before {
                    break;
                }
            }
            let ready = self.sites[site].ready.total();
            for (number, path) in self.sites[site].paths.iter().enumerate() {
                let sessions = wanted(path.sessions, ready, path.per_second);
                let (source, amount, busy) = (path.source, f64::INFINITY, 1.0);
                wants.push(Want {
                    site,
                    path: number,
                    source,
                    provider,
                    sessions,
                    amount,
                    busy,
                    binds: None,
                });
            }
        }
        wants
    }

    /// Whether the source can send nothing there now, and others take over.
    fn is_suspended(&self, site: usize, source: usize) -> bool {
        let provider = self.question.sites[site].provider;
        let is_spent = |slot: &Slot| self.room(*slot) <= 0.0 && self.question.warmup.overflows(*slot);
        self.rests(site, source) || self.slots(provider, source).iter().any(is_spent)
    }

    fn slots(&self, provider: usize, source: usize) -> &[Slot] {
        self.question.providers[provider].warmup.get(source).map_or(&[], Vec::as_slice)
    }

    /// What a warm-up account has left now.
    fn room(&self, slot: Slot) -> f64 {
        let Some(cap) = self.question.warmup.cap(slot, self.clock()) else { return f64::INFINITY };
        let room = cap.cap.saturating_sub(cap.spent) as f64;
        let owed = self.owed.get(&slot).copied().unwrap_or(0.0);
        // What rounding leaves of the last message is none.
        if room - owed < 1e-6 { 0.0 } else { room - owed }
    }

    /// Where there are fewer sessions than all paths want, each gets the same part of what it wants.
    fn share_sessions(&self, wants: &mut [Want]) {
        let share = |wants: &mut [Want], by: &dyn Fn(&Want) -> Option<(usize, f64)>, binds: Binds| {
            let mut sums: HashMap<usize, f64> = HashMap::new();
            for want in wants.iter() {
                if let Some((whose, _)) = by(want) {
                    *sums.entry(whose).or_default() += want.sessions;
                }
            }
            for want in wants.iter_mut() {
                if let Some((whose, most)) = by(want)
                    && sums[&whose] > most
                {
                    want.sessions *= most / sums[&whose];
                    want.binds = Some((binds, None));
                }
            }
        };
        let question = &self.question;
        let of_provider = |want: &Want| {
            let most = question.providers[want.provider].sessions?;
            Some((want.provider, f64::from(most)))
        };
        share(wants, &of_provider, Binds::ProviderSessions);
        share(
            wants,
            &|want| Some((want.source, question.sources[want.source].sessions)),
            Binds::NodeSessions,
        );
        share(wants, &|_| Some((0, question.sessions)), Binds::NodeSessions);
    }

    /// What the path's own limits allow.
    fn by_path(&self, want: &mut Want, seconds: f64) {
        let path = &self.sites[want.site].paths[want.path];
        let why = want.binds.take().map_or(Binds::Sessions, |(binds, _)| binds);
        want.at_most(want.sessions * path.session.per_second * seconds, why, None);
        want.at_most(least(&path.messages, seconds), Binds::Path, Some(want.source));
        want.at_most(least(&path.connections, seconds) * path.session.messages, Binds::Connections, None);
        if let Some(learned) = &path.learned {
            want.at_most(learned.available(seconds), Binds::Learned, Some(want.source));
        }
        if self.rests(want.site, want.source) {
            want.at_most(0.0, Binds::Rest, Some(want.source));
        }
        for slot in self.slots(want.provider, want.source) {
            want.at_most(self.room(*slot), Binds::WarmUp, Some(want.source));
        }
    }

    /// No more than is ready at the site, by the same part of what each could.
    fn by_work(&self, wants: &mut [Want]) {
        for of_site in wants.chunk_by_mut(|a, b| a.site == b.site) {
            let ready = self.sites[of_site[0].site].ready.total();
            let could: f64 = of_site.iter().map(|want| want.amount).sum();
            if could >= ready {
                for want in of_site {
                    (want.amount, want.binds) = (want.amount / could * ready, None);
                    want.busy = ready / could;
                }
            }
        }
    }

    /// What several share: caps, the provider's rates, accounts, the campaign, the machine.
    fn by_shared(&self, wants: &mut [Want], seconds: f64) {
        let mut caps: HashMap<Slot, (f64, f64)> = HashMap::new();
        for want in wants.iter() {
            for slot in self.slots(want.provider, want.source) {
                caps.entry(*slot).or_insert_with(|| (0.0, self.room(*slot))).0 += want.amount;
            }
        }
        for want in wants.iter_mut() {
            for slot in self.slots(want.provider, want.source) {
                let (sum, room) = caps[slot];
                if sum > room {
                    want.at_most(want.amount * room / sum, Binds::WarmUp, Some(want.source));
                }
            }
        }
        for (number, provider) in self.providers.iter().enumerate() {
            let is_limited = !provider.messages.is_empty() || !provider.connections.is_empty();
            if !is_limited && provider.learned.is_none() {
                continue;
            }
            let here = |want: &Want| want.provider == number;
            cut(wants, here, least(&provider.messages, seconds), Binds::Provider);
            if let Some(learned) = &provider.learned {
                cut(wants, here, learned.available(seconds), Binds::Learned);
            }
            let opened: f64 = wants.iter().filter(|want| here(want)).map(|want| self.opened(want)).sum();
            let most = least(&provider.connections, seconds);
            if opened > most {
                let sum: f64 = wants.iter().filter(|want| here(want)).map(|want| want.amount).sum();
                cut(wants, here, sum * most / opened, Binds::Connections);
            }
        }
        for (number, account) in self.accounts.iter().enumerate() {
            cut(wants, |want| want.source == number, least(account, seconds), Binds::Account);
        }
        cut(wants, |_| true, least(&self.campaign, seconds), Binds::Campaign);
        cut(wants, |_| true, self.machine.available(seconds), Binds::Machine);
    }

    /// Connections that what it sends takes.
    fn opened(&self, want: &Want) -> f64 {
        want.amount / self.sites[want.site].paths[want.path].session.messages
    }

    /// Spends what is sent; how much that is.
    fn send(&mut self, wants: &[Want], seconds: f64) -> f64 {
        let mut sent = 0.0;
        for of_site in wants.chunk_by(|a, b| a.site == b.site) {
            let site = of_site[0].site;
            let ready = self.sites[site].ready.total();
            let amount: f64 = of_site.iter().map(|want| want.amount).sum();
            self.note(of_site, ready, seconds);
            for want in of_site {
                self.charge(want);
            }
            if amount > 0.0 {
                let is_done = amount >= ready * (1.0 - 1e-9);
                let busy = if is_done { of_site[0].busy } else { 1.0 };
                self.attempt(site, amount, self.now + seconds * busy);
            }
            sent += amount;
        }
        sent
    }

    /// Who waits, and for what.
    fn note(&mut self, of_site: &[Want], ready: f64, seconds: f64) {
        let is_fresh = self.sites[of_site[0].site].ready.has_fresh();
        let held: Vec<_> = of_site.iter().filter_map(|want| want.binds).collect();
        let provider = &mut self.providers[of_site[0].provider];
        for binds in held.iter().filter(|_| is_fresh) {
            *provider.waited.entry(*binds).or_default() += ready * seconds / held.len() as f64;
        }
    }

    /// Counts what is sent against the accounts that warm up, in whole messages.
    fn charge(&mut self, want: &Want) {
        let clock = self.clock();
        let provider = &self.question.providers[want.provider];
        for slot in provider.warmup.get(want.source).into_iter().flatten() {
            let owed = self.owed.entry(*slot).or_default();
            *owed += want.amount;
            let whole = (*owed + 1e-6).floor();
            *owed = (*owed - whole).max(0.0);
            self.question.warmup.spend(*slot, whole as u64, clock);
        }
    }

    /// Time passes for every bucket.
    fn pass(&mut self, wants: &[Want], seconds: f64) {
        let mut by_provider = vec![(0.0, 0.0); self.providers.len()];
        let mut by_source = vec![0.0; self.accounts.len()];
        let mut all = 0.0;
        for want in wants {
            let opened = self.opened(want);
            let path = &mut self.sites[want.site].paths[want.path];
            each(&mut path.messages, seconds, want.amount);
            each(&mut path.connections, seconds, opened);
            by_provider[want.provider].0 += want.amount;
            by_provider[want.provider].1 += opened;
            by_source[want.source] += want.amount;
            all += want.amount;
        }
        for (provider, (amount, opened)) in self.providers.iter_mut().zip(by_provider) {
            each(&mut provider.messages, seconds, amount);
            each(&mut provider.connections, seconds, opened);
        }
        for (account, amount) in self.accounts.iter_mut().zip(by_source) {
            each(account, seconds, amount);
        }
        each(&mut self.campaign, seconds, all);
    }
}

fn each(buckets: &mut [Bucket], seconds: f64, taken: f64) {
    buckets.iter_mut().for_each(|bucket| bucket.pass(seconds, taken));
}

/// Those that share `most` get the same part of what they could send.
fn cut(wants: &mut [Want], whose: impl Fn(&Want) -> bool, most: f64, binds: Binds) {
    if most.is_infinite() {
        return;
    }
    let sum: f64 = wants.iter().filter(|want| whose(want)).map(|want| want.amount).sum();
    if sum > most {
        for want in wants.iter_mut().filter(|want| whose(want)) {
            let source = (binds == Binds::Account).then_some(want.source);
            want.at_most(want.amount * most / sum, binds, source);
        }
    }
}
