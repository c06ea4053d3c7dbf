//! What only a whole set of rules can show: samples that land elsewhere, rules that are never reached,
//! names used twice.

use std::collections::HashMap;

use super::By;
use super::rules::{Rule, Rules};
use crate::config::Fault;
use crate::outcome::Stage;

/// A fault for each name used more than once among `rules`.
pub(super) fn names<'a>(rules: impl Iterator<Item = &'a Rule>) -> Vec<Fault> {
    let mut first: HashMap<&str, &Rule> = HashMap::new();
    let mut faults = Vec::new();
    for rule in rules {
        if let Some(other) = first.get(&*rule.name) {
            let what = format!("the name `{}` is used twice: {} has it too", rule.name, other.place);
            faults.push(rule.place.fault(what, "give one of them another name"));
        } else {
            first.insert(&rule.name, rule);
        }
    }
    faults
}

/// The faults of those rules of a set that `is_checked` picks.
pub(super) fn check(rules: &Rules, is_checked: impl Fn(&Rule) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (place, rule) in rules.rules().enumerate() {
        if !is_checked(rule) {
            continue;
        }
        // A file laid over another may well take all that a rule below could: that is what it is for.
        let mut earlier = rules.rules().take(place).filter(|earlier| earlier.place.file == rule.place.file);
        let cover = earlier.find(|earlier| covers(earlier, rule));
        match cover {
            Some(earlier) => faults.push(unreached(rule, earlier)),
            None => faults.extend(stray_samples(rules, rule)),
        }
    }
    faults
}

fn unreached(rule: &Rule, earlier: &Rule) -> Fault {
    let what = if covers(rule, earlier) {
        format!("the rule `{}` has the same conditions as `{}` ({})", rule.name, earlier.name, earlier.place)
    } else {
        format!(
            "the rule `{}` is never reached: `{}` ({}) comes first and takes all that it could",
            rule.name, earlier.name, earlier.place
        )
    };
    rule.place.fault(what, "move it before the other, make the other narrower, or delete one")
}

/// Every sample lands on its own rule, or on one of a file laid over it.
fn stray_samples(rules: &Rules, rule: &Rule) -> Vec<Fault> {
    let provider = rule.providers.first().map(|name| &**name);
    let mut faults = Vec::new();
    for sample in &rule.samples {
        let landed = match rules.classify(provider, sample.stage, &sample.reply).by {
            By::Rule(id) => Some(rules.rule(id)),
            _ => None,
        };
        match landed {
            Some(other) if other.name == rule.name || other.place.file != rule.place.file => {}
            Some(other) => {
                let what = format!(
                    "this sample of `{}` lands on the rule `{}` ({})",
                    rule.name, other.name, other.place
                );
                let advice = "make that rule narrower, or move this one before it";
                faults.push(sample.place.fault(what, advice));
            }
            None => {
                let what = format!("this sample of `{}` lands on no rule", rule.name);
                let advice = "compare it with the rule's stage, code, enhanced code and text";
                faults.push(sample.place.fault(what, advice));
            }
        }
    }
    faults
}

/// Whether every reply that fits `narrower` fits `wider`. Says no where it is not sure.
fn covers(wider: &Rule, narrower: &Rule) -> bool {
    let within = |wide: &[Stage], narrow: &[Stage]| {
        wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|stage| wide.contains(stage)))
    };
    let providers = wider.providers.is_empty()
        || (!narrower.providers.is_empty()
            && narrower.providers.iter().all(|name| wider.providers.contains(name)));
    providers
        && within(&wider.stages, &narrower.stages)
        && wider.codes.cover(&narrower.codes)
        && (wider.texts.is_empty()
            || (!narrower.texts.is_empty()
                && narrower.texts.iter().all(|narrow| wider.texts.iter().any(|wide| wide.covers(narrow)))))
}
