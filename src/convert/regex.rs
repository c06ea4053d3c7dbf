//! A regular expression taken apart into plain sequences of what a reply's text may hold.
//!
//! Alternatives are multiplied out within [`SEQUENCES_MAX`]. What cannot be said without matching more
//! than the expression does is refused; where one of several alternatives is like that, it alone is left
//! out. Syntax is `regex-syntax`'s: Rust's, which the simple part of Perl's shares; look-around and
//! back-references are refused by it.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Sequences of one expression.
pub(super) const SEQUENCES_MAX: usize = 128;
/// Steps of one sequence: longer than any pattern that a person writes.
const STEPS_MAX: usize = 512;
/// Octets of an expression.
const OCTETS_MAX: usize = 4096;
/// Members of a class that are tried one by one.
const MEMBERS_MAX: usize = 12;

/// What stands at one place of a text. Letters are the same in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Octet(u8),
    /// One blank or more.
    Blank,
    /// One digit.
    Digit,
    /// One digit or more.
    Digits,
    /// One octet of any kind.
    Any,
    /// Anything, or nothing.
    Gap,
    /// Anything, but not nothing.
    Some,
    /// One octet or more that are no blanks.
    Word,
    Start,
    End,
    /// Between a letter or digit and something else.
    Boundary,
}

/// An expression as sequences, any of which is to be found.
#[derive(Debug)]
pub(super) struct Sequences {
    pub all: Vec<Vec<Step>>,
    /// Something was left out: together they match less than the expression.
    pub narrowed: bool,
}

/// # Errors
/// Why the expression cannot be taken apart.
pub(super) fn sequences(text: &str) -> Result<Sequences, String> {
    if text.len() > OCTETS_MAX {
        return Err(format!("the expression is longer than {OCTETS_MAX} octets"));
    }
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).nest_limit(64).build();
    let hir = parser.parse(text).map_err(|error| {
        let message = error.to_string();
        let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("the expression cannot be read: {reason}")
    })?;
    let mut narrowed = false;
    let all = expand(&hir, &mut narrowed)?;
    Ok(Sequences { all, narrowed })
}

fn expand(hir: &Hir, narrowed: &mut bool) -> Result<Vec<Vec<Step>>, String> {
    match hir.kind() {
        HirKind::Empty => Ok(vec![Vec::new()]),
        HirKind::Literal(literal) => {
            let steps: Vec<Step> = literal.0.iter().map(|octet| step_of(*octet)).collect();
            if steps.len() > STEPS_MAX { Err(too_long()) } else { Ok(vec![steps]) }
        }
        HirKind::Class(class) => members(class),
        HirKind::Look(look) => Ok(vec![vec![match look {
            Look::Start | Look::StartLF | Look::StartCRLF => Step::Start,
            Look::End | Look::EndLF | Look::EndCRLF => Step::End,
            Look::WordAscii | Look::WordUnicode => Step::Boundary,
            _ => return Err("it looks around in a way that has no equivalent".to_owned()),
        }]]),
        HirKind::Capture(capture) => expand(&capture.sub, narrowed),
        HirKind::Concat(parts) => {
            let mut all = vec![Vec::new()];
            for part in parts {
                all = joined(&all, &expand(part, narrowed)?)?;
            }
            Ok(all)
        }
        HirKind::Alternation(parts) => {
            let mut all: Vec<Vec<Step>> = Vec::new();
            let mut refused = None;
            for part in parts {
                match expand(part, narrowed) {
                    Ok(more) => all.extend(more),
                    Err(why) => refused = Some(why),
                }
                if all.len() > SEQUENCES_MAX {
                    return Err(too_many());
                }
            }
            match refused {
                Some(why) if all.is_empty() => Err(why),
                refused => {
                    *narrowed |= refused.is_some();
                    Ok(all)
                }
            }
        }
        HirKind::Repetition(repetition) => {
            repeated(&repetition.sub, repetition.min, repetition.max, narrowed)
        }
    }
}

fn repeated(sub: &Hir, min: u32, max: Option<u32>, narrowed: &mut bool) -> Result<Vec<Vec<Step>>, String> {
    let nothing = (min == 0).then(Vec::new);
    let some = match (octets_of(sub).map(|set| Set::of(&set)), max) {
        (Some(Set::Any), None) if min == 0 => return Ok(vec![vec![Step::Gap]]),
        (Some(Set::Any), None) if min == 1 => Ok(vec![vec![Step::Some]]),
        (Some(Set::Blanks), _) if min <= 1 => Ok(vec![vec![Step::Blank]]),
        (Some(Set::Digits), None) if min <= 1 => Ok(vec![vec![Step::Digits]]),
        (Some(Set::NoBlanks), None) if min == 1 => Ok(vec![vec![Step::Word]]),
        _ => several(sub, min, max, narrowed),
    };
    match (nothing, some) {
        (None, some) => some,
        (Some(nothing), Ok(some)) => Ok([vec![nothing], some].concat()),
        (Some(nothing), Err(_)) => {
            *narrowed = true;
            Ok(vec![nothing])
        }
    }
}

/// From `min`, at least once, up to `max` times; where there is no end to it, a few times.
fn several(sub: &Hir, min: u32, max: Option<u32>, narrowed: &mut bool) -> Result<Vec<Vec<Step>>, String> {
    const TIMES_MAX: u32 = 8;
    let min = min.max(1);
    if min > TIMES_MAX {
        return Err(format!("it repeats a part {min} times"));
    }
    let once = expand(sub, narrowed)?;
    let last = max.unwrap_or(min).min(TIMES_MAX);
    *narrowed |= max != Some(last);
    let mut all = Vec::new();
    let mut times = vec![Vec::new()];
    for count in 1..=last {
        times = joined(&times, &once)?;
        if count >= min {
            all.extend(times.iter().cloned());
        }
    }
    if all.len() > SEQUENCES_MAX { Err(too_many()) } else { Ok(all) }
}

fn joined(first: &[Vec<Step>], second: &[Vec<Step>]) -> Result<Vec<Vec<Step>>, String> {
    if first.len() * second.len() > SEQUENCES_MAX {
        return Err(too_many());
    }
    let mut all = Vec::with_capacity(first.len() * second.len());
    for head in first {
        for tail in second {
            if head.len() + tail.len() > STEPS_MAX {
                return Err(too_long());
            }
            all.push([head.as_slice(), tail].concat());
        }
    }
    Ok(all)
}

fn too_many() -> String {
    format!("it stands for more than {SEQUENCES_MAX} different texts; write the ones you mean as `text`")
}

fn too_long() -> String {
    format!("it stands for a text of more than {STEPS_MAX} octets")
}

fn step_of(octet: u8) -> Step {
    if matches!(octet, b' ' | b'\t') { Step::Blank } else { Step::Octet(octet) }
}

/// What kind of octets a class is of.
enum Set {
    Any,
    Blanks,
    Digits,
    NoBlanks,
    Other,
}

/// Octets of a class, or of a literal of one; a flag an octet.
fn octets_of(hir: &Hir) -> Option<[bool; 256]> {
    let mut set = [false; 256];
    match hir.kind() {
        HirKind::Class(class) => return Some(octets(class)),
        HirKind::Literal(literal) if literal.0.len() == 1 => set[usize::from(literal.0[0])] = true,
        HirKind::Capture(capture) => return octets_of(&capture.sub),
        _ => return None,
    }
    Some(set)
}

fn octets(class: &Class) -> [bool; 256] {
    let mut set = [false; 256];
    match class {
        Class::Bytes(class) => {
            for range in class.ranges() {
                set[usize::from(range.start())..=usize::from(range.end())].fill(true);
            }
        }
        Class::Unicode(class) => {
            for range in class.ranges().iter().filter(|range| range.start().is_ascii()) {
                let end = (range.end() as u32).min(127);
                set[range.start() as usize..=end as usize].fill(true);
            }
        }
    }
    set
}

impl Set {
    fn of(set: &[bool; 256]) -> Self {
        let is_blank = |octet: u8| matches!(octet, b' ' | b'\t');
        let is_space = |octet: u8| octet.is_ascii_whitespace() || octet == 0x0b;
        let has = |octet: u8| set[usize::from(octet)];
        // Control characters never stand in a reply's text.
        let mut printed = (0x20..=0xffu8).filter(|octet| *octet != 0x7f);
        if printed.clone().all(has) {
            Self::Any
        } else if has(b' ') && (0..=255).all(|octet| !has(octet) || is_space(octet)) {
            Self::Blanks
        } else if (0..=255).all(|octet: u8| has(octet) == octet.is_ascii_digit()) {
            Self::Digits
        } else if printed.all(|octet| has(octet) != is_blank(octet)) {
            Self::NoBlanks
        } else {
            Self::Other
        }
    }
}

fn members(class: &Class) -> Result<Vec<Vec<Step>>, String> {
    let set = octets(class);
    match Set::of(&set) {
        Set::Any => return Ok(vec![vec![Step::Any]]),
        Set::Blanks => return Ok(vec![vec![Step::Blank]]),
        Set::Digits => return Ok(vec![vec![Step::Digit]]),
        Set::NoBlanks | Set::Other => {}
    }
    let mut steps: Vec<Step> = Vec::new();
    for octet in (0..=255u8).filter(|octet| set[usize::from(*octet)]) {
        let step = step_of(octet.to_ascii_lowercase());
        if !steps.contains(&step) {
            steps.push(step);
        }
        if steps.len() > MEMBERS_MAX {
            return Err("it has a class of many characters, and `*` would match more".to_owned());
        }
    }
    if steps.is_empty() {
        return Err("it can never match".to_owned());
    }
    Ok(steps.into_iter().map(|step| vec![step]).collect())
}

/// A group that groups nothing: of literals alone, not repeated. In a text that has parentheses they were
/// meant, and the expression matches the text without them.
pub(super) fn has_idle_group(text: &str) -> bool {
    let octets = text.as_bytes();
    let mut open: Option<usize> = None;
    let mut at = 0;
    let mut is_plain = false;
    while let Some(&octet) = octets.get(at) {
        match octet {
            b'\\' => at += 1,
            b'(' => (open, is_plain) = (Some(at), octets.get(at + 1) != Some(&b'?')),
            b'|' | b'*' | b'+' | b'?' | b'[' | b'{' => is_plain = false,
            b')' => {
                let is_repeated = matches!(octets.get(at + 1), Some(b'?' | b'*' | b'+' | b'{'));
                if open.take().is_some() && is_plain && !is_repeated {
                    return true;
                }
            }
            _ => {}
        }
        at += 1;
    }
    false
}
