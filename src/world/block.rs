//! Which sources are refused, where and when: the file's blocks in real time.
//!
//! Pure over the world's age. A source can be let in again; nothing is remembered of having blocked it.

use std::net::IpAddr;
use std::time::Duration;

use super::file::{BlockFile, Sources, Stage};

/// A block as the servers ask it.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    sources: Sources,
    stage: Stage,
    /// As the file has it; `None`: the style's.
    pub reply: Option<String>,
    from: Duration,
    until: Option<Duration>,
    after: u32,
}

impl Block {
    pub fn new(file: &BlockFile, time_factor: f64) -> Self {
        Self {
            sources: file.source.clone(),
            stage: file.stage,
            reply: file.reply.clone(),
            from: file.from.unwrap_or_default().0.div_f64(time_factor),
            until: file.until.map(|until| until.0.div_f64(time_factor)),
            after: file.after,
        }
    }

    /// Whether the source is refused at the stage, the world being so old; `transaction`: the number
    /// of its MAIL, the one to come before the first.
    pub fn strikes(&self, source: IpAddr, stage: Stage, age: Duration, transaction: u32) -> bool {
        self.stage == stage
            && self.sources.contains(source)
            && age >= self.from
            && self.until.is_none_or(|until| age < until)
            && transaction >= self.after
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Span;
    use super::*;

    #[test]
    fn a_block_holds_in_its_time_from_its_transaction_on_for_its_sources() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let file = BlockFile {
            source: Sources::These(vec![[127, 30, 0, 1].into()]),
            stage: Stage::Mail,
            reply: None,
            from: Some(Span(minutes(60))),
            until: Some(Span(minutes(120))),
            after: 5,
        };
        // An hour of the world is a minute.
        let block = Block::new(&file, 60.0);
        let strikes = |age, transaction| block.strikes([127, 30, 0, 1].into(), Stage::Mail, age, transaction);
        assert!(!strikes(minutes(1) - Duration::from_millis(1), 5));
        assert!(strikes(minutes(1), 5) && strikes(minutes(1), 6));
        assert!(!strikes(minutes(1), 4));
        assert!(!strikes(minutes(2), 5));
        assert!(!block.strikes([127, 30, 0, 2].into(), Stage::Mail, minutes(1), 5));
        assert!(!block.strikes([127, 30, 0, 1].into(), Stage::Rcpt, minutes(1), 5));
    }
}
