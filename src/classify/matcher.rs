//! The first rule that fits, whatever their number.
//!
//! Every pattern's longest literal fragment goes into one automaton, which runs over a reply once and
//! names the few rules that could fit; those are looked at from the first on. Rules without a text are
//! found by enhanced code or reply code. A rule's place in the set is its precedence.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::pattern::Folded;
use super::rules::{CodeRange, Rule};
use crate::outcome::Stage;
use crate::reply::{EnhancedCode, Reply};

/// Stands for all details of a subject; a detail has three digits at most.
const ANY_DETAIL: u16 = u16::MAX;

/// A rule, as small as the search wants it.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    rule: u16,
    /// Which of its texts.
    text: u16,
}

/// Finds rules of one set.
#[derive(Debug)]
pub(super) struct Matcher {
    fragments: AhoCorasick,
    /// By fragment, in the order of the rules.
    candidates: Vec<Vec<Candidate>>,
    /// Rules without a text, in their order, by enhanced code; by reply code those with none.
    by_enhanced: HashMap<EnhancedCode, Vec<u16>>,
    by_code: HashMap<u16, Vec<u16>>,
    providers: HashMap<Box<str>, u16>,
    conditions: Vec<Conditions>,
}

/// What is cheap to compare.
#[derive(Debug)]
struct Conditions {
    /// Empty: any.
    providers: Box<[u16]>,
    /// A bit a stage.
    stages: u16,
}

/// What is asked of every rule.
struct Question<'a> {
    provider: Option<u16>,
    /// It may be any provider.
    is_anyone: bool,
    stage: Stage,
    reply: &'a Reply,
}

impl Matcher {
    /// For at most 65,535 rules, in the order of their precedence.
    ///
    /// # Errors
    /// The fragments together are larger than an automaton can be.
    pub fn new(rules: &[Rule]) -> Result<Self, aho_corasick::BuildError> {
        let mut providers: HashMap<Box<str>, u16> = HashMap::new();
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        let mut candidates: Vec<Vec<Candidate>> = Vec::new();
        let mut fragments: Vec<&[u8]> = Vec::new();
        let mut by_enhanced: HashMap<EnhancedCode, Vec<u16>> = HashMap::new();
        let mut by_code: HashMap<u16, Vec<u16>> = HashMap::new();
        let mut conditions = Vec::with_capacity(rules.len());
        for (rule, number) in rules.iter().zip(0u16..) {
            let ids = rule.providers.iter().map(|name| {
                let next = providers.len() as u16;
                *providers.entry(name.clone()).or_insert(next)
            });
            let stages = rule.stages.iter().fold(0, |bits, stage| bits | bit(*stage));
            conditions.push(Conditions {
                providers: ids.collect(),
                stages: if stages == 0 { u16::MAX } else { stages },
            });
            for (pattern, text) in rule.texts.iter().zip(0u16..) {
                let place = *places.entry(pattern.fragment()).or_insert_with(|| {
                    fragments.push(pattern.fragment());
                    candidates.push(Vec::new());
                    candidates.len() - 1
                });
                candidates[place].push(Candidate { rule: number, text });
            }
            if rule.texts.is_empty() {
                for range in &rule.codes.enhanced {
                    let details =
                        if range.is_whole() { ANY_DETAIL..=ANY_DETAIL } else { range.first..=range.last };
                    for detail in details {
                        let code = EnhancedCode::new(range.class, range.subject, detail);
                        by_enhanced.entry(code).or_default().push(number);
                    }
                }
                if rule.codes.enhanced.is_empty() {
                    for CodeRange { first, last } in &rule.codes.replies {
                        (*first..=*last).for_each(|code| by_code.entry(code).or_default().push(number));
                    }
                }
            }
        }
        // A table by state and octet is several megabytes for hundreds of rules, and slow to make; looking
        // ahead for rare octets costs more than it saves in a text of a line or two.
        let fragments = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .prefilter(false)
            .build(&fragments)?;
        Ok(Self { fragments, candidates, by_enhanced, by_code, providers, conditions })
    }

    /// The first of `rules`, those this was made of, that fits a refusal.
    pub fn first(&self, rules: &[Rule], provider: Option<&str>, stage: Stage, reply: &Reply) -> Option<u16> {
        let provider = provider.and_then(|name| self.providers.get(name).copied());
        self.first_to(rules, &Question { provider, is_anyone: false, stage, reply })
    }

    /// The first that fits by its text, whichever provider it is of.
    pub fn first_by_text(&self, rules: &[Rule], stage: Stage, reply: &Reply) -> Option<u16> {
        self.first_to(rules, &Question { provider: None, is_anyone: true, stage, reply })
    }

    fn first_to(&self, rules: &[Rule], question: &Question<'_>) -> Option<u16> {
        let reply = question.reply;
        let mut first = self.first_without_text(rules, question);
        let folded = Folded::new(reply);
        // A fragment that comes again says nothing new, and in a long reply many do.
        let mut seen = vec![0u64; self.candidates.len().div_ceil(64)];
        for found in self.fragments.find_overlapping_iter(folded.octets()) {
            let (word, bit) = (found.pattern().as_usize() / 64, 1 << (found.pattern().as_usize() % 64));
            if seen[word] & bit != 0 {
                continue;
            }
            seen[word] |= bit;
            for candidate in &self.candidates[found.pattern()] {
                if first.is_some_and(|first| first <= candidate.rule) {
                    break;
                }
                let rule = &rules[usize::from(candidate.rule)];
                if self.is_for(candidate.rule, rule, question)
                    && rule.texts[usize::from(candidate.text)].fits(folded.octets())
                {
                    first = Some(candidate.rule);
                    break;
                }
            }
        }
        first
    }

    fn first_without_text(&self, rules: &[Rule], question: &Question<'_>) -> Option<u16> {
        let enhanced = question.reply.enhanced();
        let whole = enhanced.map(|code| EnhancedCode { detail: ANY_DETAIL, ..code });
        let lists = [
            enhanced.and_then(|code| self.by_enhanced.get(&code)),
            whole.and_then(|code| self.by_enhanced.get(&code)),
            self.by_code.get(&question.reply.code()),
        ];
        let firsts = lists.into_iter().flatten().filter_map(|list| {
            list.iter().find(|number| self.is_for(**number, &rules[usize::from(**number)], question))
        });
        firsts.min().copied()
    }

    /// Everything but the text.
    fn is_for(&self, number: u16, rule: &Rule, question: &Question<'_>) -> bool {
        let conditions = &self.conditions[usize::from(number)];
        let is_provider = conditions.providers.is_empty()
            || question.provider.is_some_and(|provider| conditions.providers.contains(&provider))
            || question.is_anyone && !rule.texts.is_empty();
        is_provider && conditions.stages & bit(question.stage) != 0 && rule.codes.fit(question.reply)
    }
}

fn bit(stage: Stage) -> u16 {
    1 << stage as u16
}
