//! One account of a warm-up: how its stages, days and periods pass. Pure arithmetic.

use serde::{Deserialize, Serialize};

use crate::config::policy::Period;
use crate::policy::Party;
use crate::policy::calendar::DAY;

/// An account as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub party: Party,
    pub provider: String,
    #[serde(flatten)]
    pub state: State,
}

/// Where an account stands. Days and hours count from 1970, in the rules' time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Sending days before `day`; from the number of caps on: warm.
    pub stage: u32,
    /// The newest day this account was looked at.
    pub day: u64,
    /// Messages on `day`.
    pub sent: u64,
    /// The newest sending day before `day`; means nothing at stage 0.
    pub last: u64,
    /// `day` does not count.
    pub held: bool,
    /// A stage was taken back on `day`.
    pub stepped: bool,
    /// The first hour of the period that `spent` is about.
    pub period: u64,
    /// In the ledger: with whole lots.
    pub spent: u64,
    /// Written ahead; `spent` ≤ `reserved`.
    #[serde(skip)]
    pub(super) reserved: u64,
    /// What the ledger is known to have of it; while it is written, what it will have. Both ≤ `reserved`.
    #[serde(skip)]
    pub(super) covered: u64,
    #[serde(skip)]
    pub(super) writing: u64,
}

/// What a schedule says about one provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub schedule: String,
    pub per: Period,
    /// Never empty.
    pub caps: Vec<u64>,
    /// In days.
    pub rewarm: u64,
    pub overflow: bool,
}

impl Plan {
    /// Hours of a period.
    pub(super) fn hours(&self) -> u64 {
        match self.per {
            Period::Hour => 1,
            Period::Day => DAY,
        }
    }
}

impl State {
    /// `None`: warm.
    pub(super) fn cap(&self, plan: &Plan) -> Option<u64> {
        plan.caps.get(self.stage as usize).copied()
    }

    /// The same as none.
    pub(super) fn is_blank(&self) -> bool {
        self.stage == 0 && self.sent == 0 && self.reserved == 0 && !self.held
    }

    /// As if all that was reserved were spent.
    pub(super) fn written(self) -> Self {
        let ahead = self.reserved - self.spent;
        Self { spent: self.reserved, sent: self.sent + ahead, reserved: 0, covered: 0, writing: 0, ..self }
    }

    /// Messages that may still start in this period.
    pub(super) fn room(&self, plan: &Plan) -> u64 {
        self.cap(plan).map_or(u64::MAX, |cap| cap.saturating_sub(self.spent))
    }

    /// Brings the account to `hour`. Says whether a sending day was counted or an old one forgotten.
    pub(super) fn roll(&mut self, plan: &Plan, hour: u64) -> bool {
        let day = hour / DAY;
        // A clock that was wrong by more than a day was wrong before: go on from the right one.
        if day + 1 < self.day {
            (self.day, self.last) = (day, self.last.min(day));
        }
        if self.period > hour + DAY {
            self.period = 0;
        }
        let period = hour - hour % plan.hours();
        if period > self.period {
            (self.period, self.spent) = (period, 0);
            (self.reserved, self.covered, self.writing) = (0, 0, 0);
        }
        if day <= self.day {
            return false;
        }
        let stage = self.stage;
        if self.sent > 0 {
            self.last = self.day;
            if !self.held {
                self.stage = self.stage.saturating_add(1).min(plan.caps.len() as u32);
            }
        }
        if day.saturating_sub(self.last) > plan.rewarm {
            self.stage = 0;
        }
        let was_sending = self.sent > 0;
        (self.day, self.sent, self.held, self.stepped) = (day, 0, false, false);
        was_sending || stage != self.stage
    }
}
