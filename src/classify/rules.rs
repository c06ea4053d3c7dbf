//! A checked set of reply rules: the shipped ones, and a user's over them.
//!
//! What is asked first: a later file before an earlier, users' files before the shipped one; within a file
//! rules with a provider before rules for any; then their order in the file. The first that fits counts.
//! A user's rule with the name of a shipped one takes it out of the set.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::matcher::Matcher;
use super::pattern::Pattern;
use super::{By, Class, Measure, RecipientAction, RuleId, Threshold, Verdict, grammar, lint, registry};
use crate::config::Fault;
use crate::outcome::{Scope, Stage};
use crate::reply::{EnhancedCode, Reply, Severity};

const SHIPPED: &str = include_str!("../../data/replies.toml");
/// How the shipped file is named to people.
const SHIPPED_FILE: &str = "data/replies.toml";
/// Rules in a set: what a [`RuleId`] can count.
const RULES_MAX: usize = u16::MAX as usize;

/// Where in a file something stands; counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    pub line: usize,
    /// In characters.
    pub column: usize,
}

impl Place {
    pub(super) fn fault(&self, what: impl Into<String>, advice: impl Into<String>) -> Fault {
        Fault {
            file: self.file.to_path_buf(),
            line: self.line,
            column: self.column,
            what: what.into(),
            advice: advice.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Reply codes from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CodeRange {
    pub first: u16,
    pub last: u16,
}

/// Details of a subject from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EnhancedRange {
    pub class: u8,
    pub subject: u16,
    pub first: u16,
    pub last: u16,
}

impl EnhancedRange {
    /// Written with `*`.
    pub fn is_whole(self) -> bool {
        (self.first, self.last) == (0, 999)
    }

    fn fits(self, code: EnhancedCode) -> bool {
        (self.class, self.subject) == (code.class, code.subject)
            && (self.first..=self.last).contains(&code.detail)
    }

    fn covers(self, narrower: Self) -> bool {
        (self.class, self.subject) == (narrower.class, narrower.subject)
            && self.first <= narrower.first
            && narrower.last <= self.last
    }
}

/// Which reply codes and enhanced codes a rule is for; an empty list means any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Codes {
    pub replies: Vec<CodeRange>,
    pub enhanced: Vec<EnhancedRange>,
}

impl Codes {
    pub fn fit(&self, reply: &Reply) -> bool {
        let code = reply.code();
        let is_code = self.replies.is_empty()
            || self.replies.iter().any(|range| (range.first..=range.last).contains(&code));
        let is_enhanced = self.enhanced.is_empty()
            || reply.enhanced().is_some_and(|code| self.enhanced.iter().any(|range| range.fits(code)));
        is_code && is_enhanced
    }

    /// Whether every reply that fits `narrower` fits this; says no where it is not sure.
    pub fn cover(&self, narrower: &Self) -> bool {
        let replies = narrower.replies.iter().all(|narrow| {
            self.replies.iter().any(|range| range.first <= narrow.first && narrow.last <= range.last)
        });
        let enhanced =
            narrower.enhanced.iter().all(|narrow| self.enhanced.iter().any(|range| range.covers(*narrow)));
        (self.replies.is_empty() || (replies && !narrower.replies.is_empty()))
            && (self.enhanced.is_empty() || (enhanced && !narrower.enhanced.is_empty()))
    }
}

/// A whole reply that a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub stage: Stage,
    pub reply: Reply,
    pub place: Place,
}

/// One rule: when it fits, and what it says then.
#[derive(Debug, Clone)]
pub struct Rule {
    pub name: Box<str>,
    pub place: Place,
    /// Empty: any.
    pub providers: Box<[Box<str>]>,
    pub(super) provider_place: Place,
    /// Empty: any.
    pub stages: Box<[Stage]>,
    pub(super) codes: Codes,
    /// Any of them; empty: whatever the text.
    pub(super) texts: Box<[Pattern]>,
    pub class: Class,
    pub scope: Scope,
    /// What becomes of the recipient where stage and severity let it.
    pub recipient: RecipientAction,
    /// The rule says so itself, it is not the class's.
    pub(super) insists: bool,
    pub measure: Option<Measure>,
    pub threshold: Option<Threshold>,
    pub alert: bool,
    pub samples: Box<[Sample]>,
}

impl Rule {
    pub fn is_shipped(&self) -> bool {
        &*self.place.file == Path::new(SHIPPED_FILE)
    }
}

/// A set of rules, ready to be asked. Share it in an `Arc`.
#[derive(Debug)]
pub struct Rules {
    /// In the order of their precedence.
    rules: Vec<Rule>,
    matcher: Matcher,
}

impl Rules {
    /// The rules that come with this program.
    pub fn shipped() -> Self {
        Self::new(shipped()).expect("the shipped data/replies.toml is read by a test")
    }

    /// The users' files over the shipped rules, a later file over an earlier. Providers are not checked
    /// here, see [`Rules::unknown_providers`].
    ///
    /// # Errors
    /// Every mistake found in the files.
    pub fn load(files: &[PathBuf]) -> Result<Self, Vec<Fault>> {
        let mut texts = Vec::new();
        let mut faults = Vec::new();
        for file in files {
            match std::fs::read_to_string(file) {
                Ok(text) => texts.push((file.as_path(), text)),
                Err(error) => faults.push(Fault {
                    file: file.clone(),
                    line: 1,
                    column: 1,
                    what: format!("the file cannot be read: {error}"),
                    advice: "name a file of reply rules".to_owned(),
                }),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let texts: Vec<(&Path, &str)> = texts.iter().map(|(file, text)| (*file, text.as_str())).collect();
        Self::read(&texts)
    }

    /// As [`Rules::load`], from names (for messages only) and contents.
    ///
    /// # Errors
    /// Every mistake found.
    pub fn read(files: &[(&Path, &str)]) -> Result<Self, Vec<Fault>> {
        let (mut users, mut faults) = (Vec::new(), Vec::new());
        for (file, text) in files {
            let (rules, wrong) = grammar::parse(file, text);
            faults.extend(wrong);
            users.push(rules);
        }
        faults.extend(lint::names(users.iter().flatten()));
        let mut shipped = shipped();
        if users.iter().flatten().next().is_some() {
            let named: HashSet<&str> = users.iter().flatten().map(|rule| &*rule.name).collect();
            shipped.retain(|rule| !named.contains(&*rule.name));
        }
        let rules: Vec<Rule> = users.into_iter().rev().flat_map(in_order).chain(in_order(shipped)).collect();
        match Self::new(rules) {
            Ok(rules) => {
                faults.extend(lint::check(&rules, |rule| !rule.is_shipped()));
                if faults.is_empty() { Ok(rules) } else { Err(faults) }
            }
            Err(fault) => {
                faults.push(fault);
                Err(faults)
            }
        }
    }

    /// The rules of one file, without the shipped ones; what could take the place of data/replies.toml.
    ///
    /// # Errors
    /// Every mistake found.
    pub fn alone(file: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let (rules, mut faults) = grammar::parse(file, text);
        faults.extend(lint::names(rules.iter()));
        let rules = match Self::new(in_order(rules)) {
            Ok(rules) => rules,
            Err(fault) => return Err([faults, vec![fault]].concat()),
        };
        faults.extend(rules.faults());
        if faults.is_empty() { Ok(rules) } else { Err(faults) }
    }

    /// What is wrong with the set as a whole: samples that land elsewhere, rules that are never reached.
    pub fn faults(&self) -> Vec<Fault> {
        lint::check(self, |_| true)
    }

    fn new(rules: Vec<Rule>) -> Result<Self, Fault> {
        let too_many = |what: String| {
            let place = rules.first().map(|rule| rule.place.clone());
            let file: Arc<Path> = Path::new(SHIPPED_FILE).into();
            place.unwrap_or(Place { file, line: 1, column: 1 }).fault(what, "use fewer or shorter rules")
        };
        if rules.len() > RULES_MAX {
            return Err(too_many(format!("there are more than {RULES_MAX} rules")));
        }
        let matcher = Matcher::new(&rules).map_err(|error| too_many(error.to_string()))?;
        Ok(Self { rules, matcher })
    }

    /// What a reply means. `provider` is the site's; a 2yz to the end of the content is an acceptance,
    /// another where none belongs is a matter of protocol.
    pub fn classify(&self, provider: Option<&str>, stage: Stage, reply: &Reply) -> Verdict {
        let is_refusal = matches!(reply.severity(), Severity::Transient | Severity::Permanent);
        if !is_refusal {
            let is_accepted = reply.is_success() && stage == Stage::Content;
            let class = if is_accepted { Class::Accepted } else { Class::Protocol };
            return by_class(class, By::Code, stage, reply);
        }
        if let Some(number) = self.matcher.first(&self.rules, provider, stage, reply) {
            return self.by_rule(number, stage, reply);
        }
        // A host that nobody knows may be a large provider's all the same: its words tell.
        let by_text = || self.matcher.first_by_text(&self.rules, stage, reply);
        if let Some(number) = provider.is_none().then(by_text).flatten() {
            return believed_less(self.by_rule(number, stage, reply), reply);
        }
        let registered = reply.enhanced().and_then(|code| registry::class_of(stage, code));
        // A 421 closes the session whatever for, unless its enhanced code says more than "not now".
        let says_more = |class: &Class| {
            !reply.is_closing() || !matches!(class, Class::SystemTrouble | Class::Policy | Class::Protocol)
        };
        match registered.filter(says_more) {
            Some(class) => by_class(class, By::Registry, stage, reply),
            None => by_class(registry::class_of_code(stage, reply), By::Code, stage, reply),
        }
    }

    fn by_rule(&self, number: u16, stage: Stage, reply: &Reply) -> Verdict {
        let rule = &self.rules[usize::from(number)];
        Verdict {
            class: rule.class,
            scope: rule.scope,
            recipient: bounded(rule.recipient, rule.insists, stage, reply),
            measure: rule.measure,
            threshold: rule.threshold,
            alert: rule.alert,
            by: By::Rule(RuleId(number)),
        }
    }

    /// # Panics
    /// On a number of another set.
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[usize::from(id.0)]
    }

    /// All rules in the order in which they are asked.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// A fault for each provider of a rule that nobody knows: the rule could never fit.
    pub fn unknown_providers(&self, known: &[&str]) -> Vec<Fault> {
        let providers =
            self.rules.iter().flat_map(|rule| rule.providers.iter().map(move |name| (rule, name)));
        let unknown = providers.filter(|(_, name)| !known.contains(&&***name));
        unknown
            .map(|(rule, name)| {
                let what = format!("the provider `{name}` is not known");
                rule.provider_place.fault(what, crate::config::fault::suggestion(name, known))
            })
            .collect()
    }
}

fn shipped() -> Vec<Rule> {
    let (rules, faults) = grammar::parse(Path::new(SHIPPED_FILE), SHIPPED);
    debug_assert!(faults.is_empty(), "{}", faults[0]);
    in_order(rules)
}

/// Rules of one file by precedence: those with a provider first.
fn in_order(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by_key(|rule| rule.providers.is_empty());
    rules
}

/// What a class says where no rule does.
fn by_class(class: Class, by: By, stage: Stage, reply: &Reply) -> Verdict {
    let defaults = class.defaults();
    // Trouble that a server calls permanent, without a rule that knows better: it refuses this message
    // (RFC 3463 §3.4: 5.3.x), and would again.
    let is_final = class == Class::SystemTrouble
        && reply.severity() == Severity::Permanent
        && !registry::is_before_rcpt(stage);
    let (scope, recipient) = match is_final {
        true => (Scope::Message, RecipientAction::Bounce),
        false if class.is_unclassified() => (registry::scope_of_stage(stage), defaults.recipient),
        false => (defaults.scope, defaults.recipient),
    };
    // At MAIL a 5yz is about us, whatever it says, and the path goes more slowly; before that no session
    // comes about, which makes it wait anyway.
    let is_about_us = class == Class::UnclassifiedPermanent && stage == Stage::Mail;
    let (scope, measure) = match is_about_us {
        true => (Scope::Path, Some(Measure::Slow(0.5))),
        false => (scope, defaults.measure),
    };
    Verdict {
        class,
        scope,
        recipient: bounded(recipient, false, stage, reply),
        measure,
        threshold: None,
        alert: defaults.alert,
        by,
    }
}

/// A verdict of another provider's rule. What one company's filter thinks must not stop the mail to all
/// others, and words that mean a dead mailbox at one place do not prove it at another.
fn believed_less(verdict: Verdict, reply: &Reply) -> Verdict {
    let is_campaign_paused = verdict.measure == Some(Measure::PauseCampaign);
    let recipient = match verdict.recipient {
        RecipientAction::Suppress if !says_dead(reply) => RecipientAction::Bounce,
        recipient => recipient,
    };
    Verdict {
        recipient,
        measure: verdict.measure.filter(|_| !is_campaign_paused),
        threshold: verdict.threshold.filter(|_| !is_campaign_paused),
        ..verdict
    }
}

/// Whether the enhanced code says that the recipient's address is no good.
fn says_dead(reply: &Reply) -> bool {
    let is_dead =
        |code: EnhancedCode| code.class == 5 && (code.subject == 1 || (code.subject, code.detail) == (2, 1));
    reply.enhanced().is_some_and(is_dead) && !says_sender(reply)
}

/// Whether the enhanced code is about the sender's address (RFC 3463 §3.2).
fn says_sender(reply: &Reply) -> bool {
    reply.enhanced().is_some_and(|code| code.subject == 1 && matches!(code.detail, 7 | 8))
}

/// What may become of the recipient at this stage with this reply.
///
/// Before RCPT nothing was said about the recipient: it is tried again. A 4yz gives nobody up for good,
/// and at all only where a rule insists. After RCPT a message was refused; that the mailbox is dead is
/// believed there only if the enhanced code (5.1.x, 5.2.1) or a rule says so.
fn bounded(action: RecipientAction, insists: bool, stage: Stage, reply: &Reply) -> RecipientAction {
    use RecipientAction::{Bounce, Retry, Suppress};
    if !matches!(action, Bounce | Suppress) {
        return action;
    }
    let is_permanent = reply.severity() == Severity::Permanent;
    let is_dead = says_dead(reply);
    match action {
        _ if registry::is_before_rcpt(stage) => Retry,
        Bounce if is_permanent || insists => Bounce,
        Suppress if says_sender(reply) => {
            if is_permanent {
                Bounce
            } else {
                Retry
            }
        }
        Suppress if is_permanent && (stage == Stage::Rcpt || is_dead || insists) => Suppress,
        Suppress if is_permanent => Bounce,
        _ => Retry,
    }
}

#[cfg(test)]
mod tests;
