//! A peer's expression over a whole reply, `421 4.7.28 text`, as conditions of our rules.
//!
//! Ours look at the reply code, the enhanced code and the text apart, so codes that stand first in an
//! expression become conditions of their own. The text is compared without them, in any case, with one
//! blank for several. Nothing is widened, but that a text which had to follow its code at once is
//! looked for anywhere in the reply: that is said.

use super::regex::{self, Step};

/// What an expression is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// `421 4.7.28 text`.
    Reply,
    /// `4.7.28 (explanation) smtp;421 4.7.28 text`: status and diagnosis of a report.
    Diagnosis,
}

/// Conditions of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conditions {
    /// `421`, `45z`, `5yz`; empty: any.
    pub codes: Vec<String>,
    /// `4.7.28`, `4.7.*`, `5.7.60-69`; empty: any.
    pub enhanced: Vec<String>,
    /// As rules write it; empty: whatever the text.
    pub texts: Vec<String>,
}

/// An expression, converted.
#[derive(Debug)]
pub(super) struct Converted {
    /// Any of which is to fit; never empty.
    pub all: Vec<Conditions>,
    /// What is different from the expression.
    pub notes: Vec<&'static str>,
}

const NARROWED: &str = "it matches less than the expression: only what can be said without `.`, `+` or \
                        classes matching more";
const ANYWHERE: &str = "the text may stand anywhere in the reply, not only right behind the code";
const IDLE_GROUP: &str = "its parentheses only group: if they stand in the reply, write them in `text`";
const BOTTOMLESS: &str = "a literal backslash stands in no reply: `\\\\[` is a backslash and a class; if \
                          `\\[` is meant, it never matched";
const LITERAL_MIN: usize = 3;

/// # Errors
/// Why it cannot be said in our words.
pub(super) fn of_regex(text: &str, line: Line) -> Result<Converted, String> {
    let sequences = regex::sequences(text)?;
    let mut notes = Vec::new();
    let mut narrowed = sequences.narrowed;
    let mut all: Vec<Conditions> = Vec::new();
    let mut refused = None;
    for sequence in &sequences.all {
        match of_sequence(sequence, line, &mut notes, &mut narrowed) {
            Ok(more) => more.into_iter().for_each(|one| add(&mut all, one)),
            Err(why) => refused = Some(why),
        }
    }
    match refused {
        Some(why) if all.is_empty() => return Err(why),
        refused => narrowed |= refused.is_some(),
    }
    if all.is_empty() {
        return Err("it can never match".to_owned());
    }
    if narrowed {
        notes.push(NARROWED);
    }
    if regex::has_idle_group(text) {
        notes.push(IDLE_GROUP);
    }
    notes.sort_unstable();
    notes.dedup();
    Ok(Converted { all: merged(all), notes })
}

/// With texts of equal codes in one.
fn add(all: &mut Vec<Conditions>, one: Conditions) {
    let same = all.iter_mut().find(|other| other.codes == one.codes && other.enhanced == one.enhanced);
    match same {
        // No text is any text.
        Some(other) if other.texts.is_empty() || one.texts.is_empty() => other.texts.clear(),
        Some(other) => {
            for text in one.texts {
                if !other.texts.iter().any(|known| known.eq_ignore_ascii_case(&text)) {
                    other.texts.push(text);
                }
            }
        }
        None => all.push(one),
    }
}

/// Rules that differ in one list of codes only are one.
fn merged(all: Vec<Conditions>) -> Vec<Conditions> {
    let mut merged: Vec<Conditions> = Vec::new();
    for one in all {
        let alike = merged.iter_mut().find(|other| {
            other.texts == one.texts
                && (other.codes == one.codes || other.enhanced == one.enhanced)
                && other.codes.is_empty() == one.codes.is_empty()
                && other.enhanced.is_empty() == one.enhanced.is_empty()
        });
        let Some(other) = alike else {
            merged.push(one);
            continue;
        };
        for (known, more) in [(&mut other.codes, one.codes), (&mut other.enhanced, one.enhanced)] {
            for code in more {
                if !known.contains(&code) {
                    known.push(code);
                }
            }
        }
    }
    merged
}

fn of_sequence(
    steps: &[Step],
    line: Line,
    notes: &mut Vec<&'static str>,
    narrowed: &mut bool,
) -> Result<Vec<Conditions>, String> {
    if steps.contains(&Step::Octet(b'\\')) {
        return Err(BOTTOMLESS.to_owned());
    }
    let is_anchored = steps.first() == Some(&Step::Start);
    let mut rest = &steps[usize::from(is_anchored)..];
    while let Some(after) = rest.strip_prefix(&[Step::Gap]) {
        rest = after;
    }
    let is_anchored = is_anchored && steps.get(1) != Some(&Step::Gap);
    while let Some(before) = rest.strip_suffix(&[Step::End]) {
        match before.last() {
            Some(Step::Gap) => rest = before,
            _ => return Err("`$` has no equivalent: a text is looked for anywhere in a reply".to_owned()),
        }
    }
    if rest.iter().any(|step| matches!(step, Step::Start | Step::End)) {
        return Err("it can never match: `^` or `$` stands inside it".to_owned());
    }
    let codes = Codes::read(rest, is_anchored);
    if is_anchored && codes.reply.is_none() {
        if codes.enhanced.is_none() {
            let why =
                "it never matches or cannot be said: a reply begins with its code, which this leaves out";
            return Err(why.to_owned());
        }
        if line == Line::Reply {
            let why = "it never matches: a reply begins with its reply code, not with the enhanced one";
            return Err(why.to_owned());
        }
    }
    let texts = texts(codes.rest, narrowed)?;
    if codes.is_followed_at_once && texts.iter().any(Option::is_some) {
        notes.push(ANYWHERE);
    }
    let of_text = |text: Option<String>| Conditions {
        codes: codes.reply.iter().cloned().collect(),
        enhanced: codes.enhanced.iter().cloned().collect(),
        texts: text.into_iter().collect(),
    };
    let all: Vec<Conditions> = texts.into_iter().map(of_text).collect();
    let is_empty = |one: &Conditions| one.codes.is_empty() && one.enhanced.is_empty() && one.texts.is_empty();
    if all.iter().any(is_empty) {
        return Err("it matches every reply, and no rule is for that".to_owned());
    }
    Ok(all)
}

/// The codes that a sequence begins with.
struct Codes<'a> {
    reply: Option<String>,
    enhanced: Option<String>,
    rest: &'a [Step],
    /// The rest has to come right behind them.
    is_followed_at_once: bool,
}

impl<'a> Codes<'a> {
    fn read(steps: &'a [Step], is_anchored: bool) -> Self {
        let mut codes = Self { reply: None, enhanced: None, rest: steps, is_followed_at_once: false };
        if let Some((code, rest)) = reply_code(steps, is_anchored) {
            codes.reply = Some(code);
            codes.skip_to(rest);
        }
        if let Some((code, rest)) = enhanced_code(codes.rest) {
            codes.enhanced = Some(code);
            codes.skip_to(rest);
        }
        codes
    }

    /// Goes on behind the one blank between a code and what follows it, however that is said.
    fn skip_to(&mut self, mut rest: &'a [Step]) {
        self.is_followed_at_once = true;
        if let [Step::Boundary, after @ ..] = rest {
            rest = after;
        }
        match rest {
            // The blank is the least that there is between them.
            [Step::Gap | Step::Some, after @ ..] => (self.is_followed_at_once, rest) = (false, after),
            [Step::Blank | Step::Any | Step::Octet(b'-'), after @ ..] => rest = after,
            _ => {}
        }
        while let [Step::Blank, after @ ..] = rest
            && self.is_followed_at_once
        {
            rest = after;
        }
        match rest {
            [Step::Gap, after @ ..] if self.is_followed_at_once => {
                (self.is_followed_at_once, rest) = (false, after);
            }
            [Step::Some, ..] => self.is_followed_at_once = false,
            _ => {}
        }
        self.rest = rest;
    }
}

/// `421`, `4yz`, `45z`, and what follows.
fn reply_code(steps: &[Step], is_anchored: bool) -> Option<(String, &[Step])> {
    let length = steps.iter().take_while(|step| is_digit(**step)).count();
    let (digits, rest) = steps.split_at(length);
    // Only at the start of the line are fewer digits the beginning of a code.
    let is_code = length == 3 || (is_anchored && (1..3).contains(&length) && ends_code(rest));
    if !is_code || !matches!(digits[0], Step::Octet(b'4' | b'5')) || !ends_code(rest) {
        return None;
    }
    let figure = |place: usize| match digits.get(place) {
        Some(Step::Octet(octet)) => Some(char::from(*octet)),
        _ => None,
    };
    match (figure(0)?, figure(1), figure(2)) {
        (first, Some(second), Some(third)) => Some((format!("{first}{second}{third}"), rest)),
        (first, Some(second), None) => Some((format!("{first}{second}z"), rest)),
        (first, None, None) => Some((format!("{first}yz"), rest)),
        (_, None, Some(_)) => None,
    }
}

fn is_digit(step: Step) -> bool {
    match step {
        Step::Octet(octet) => octet.is_ascii_digit(),
        Step::Digit => true,
        _ => false,
    }
}

/// Whether a code may end before `rest`.
fn ends_code(rest: &[Step]) -> bool {
    !matches!(rest.first(), Some(Step::Octet(octet)) if *octet != b'-')
        && !matches!(rest.first(), Some(Step::Digits | Step::Word))
}

/// `4.7.28`, `4.7.*`, `5.7.60-69`, and what follows.
fn enhanced_code(steps: &[Step]) -> Option<(String, &[Step])> {
    let (class, rest) = match steps {
        [Step::Octet(class @ (b'4' | b'5')), Step::Octet(b'.') | Step::Any, rest @ ..] => {
            (char::from(*class), rest)
        }
        _ => return None,
    };
    let length = rest.iter().take_while(|step| is_digit(**step)).count();
    let subject: Option<String> = rest[..length]
        .iter()
        .map(|step| match step {
            Step::Octet(octet) => Some(char::from(*octet)),
            _ => None,
        })
        .collect();
    let subject = subject.filter(|subject| (1..=3).contains(&subject.len()))?;
    let rest = match &rest[length..] {
        [Step::Octet(b'.') | Step::Any, rest @ ..] => rest,
        _ => return None,
    };
    if let [Step::Digits, rest @ ..] = rest {
        return ends_code(rest).then(|| (format!("{class}.{subject}.*"), rest));
    }
    let length = rest.iter().take_while(|step| is_digit(**step)).count();
    let (detail, rest) = rest.split_at(length);
    if !(1..=3).contains(&length) || !ends_code(rest) || rest.first() == Some(&Step::Octet(b'-')) {
        return None;
    }
    let figures = |of_any: char| -> String {
        let figure = |step: &Step| match step {
            Step::Octet(octet) => char::from(*octet),
            _ => of_any,
        };
        detail.iter().map(figure).collect()
    };
    // Any digits are a range only where they come last.
    let fixed = detail.iter().take_while(|step| matches!(step, Step::Octet(_))).count();
    if detail[fixed..].iter().any(|step| matches!(step, Step::Octet(_))) {
        return None;
    }
    let (first, last) = (figures('0'), figures('9'));
    let detail = if first == last {
        first
    } else {
        format!("{}-{last}", first.trim_start_matches('0').parse().unwrap_or(0u16))
    };
    Some((format!("{class}.{subject}.{detail}"), rest))
}

/// What rules write for `steps`; `None`: any text does. Several where one step stands for several.
fn texts(steps: &[Step], narrowed: &mut bool) -> Result<Vec<Option<String>>, String> {
    let mut all: Vec<Text> = vec![Text::default()];
    for (place, step) in steps.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| steps[place]);
        let pieces = pieces(*step, before, steps.get(place + 1).copied(), narrowed)?;
        if all.len() * pieces.len() > regex::SEQUENCES_MAX {
            return Err("it stands for too many different texts".to_owned());
        }
        all = all.iter().flat_map(|text| pieces.iter().map(|piece| text.with(piece))).collect();
    }
    let mut written = Vec::new();
    let mut refused = None;
    for text in &all {
        match text.written() {
            Ok(text) => written.push(text),
            Err(why) => refused = Some(why),
        }
    }
    match refused {
        Some(why) if written.is_empty() => Err(why),
        refused => {
            *narrowed |= refused.is_some();
            Ok(written)
        }
    }
}

/// A piece of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Octet(u8),
    Blank,
    /// `#`
    Digits,
    /// `*`
    Gap,
}

fn is_word(step: Step) -> Option<bool> {
    match step {
        Step::Octet(octet) => Some(octet.is_ascii_alphanumeric() || octet == b'_'),
        Step::Digit | Step::Digits => Some(true),
        Step::Blank => Some(false),
        _ => None,
    }
}

/// Pieces, any list of which says no more than `step` between its neighbours.
fn pieces(
    step: Step,
    before: Option<Step>,
    after: Option<Step>,
    narrowed: &mut bool,
) -> Result<Vec<Vec<Piece>>, String> {
    let is_open = |side: Option<Step>| matches!(side, None | Some(Step::Gap));
    let is_blank = |side: Option<Step>| side == Some(Step::Blank);
    let is_number = |side: Option<Step>| side.is_some_and(|step| is_digit(step) || step == Step::Digits);
    Ok(match step {
        Step::Octet(b'*' | b'#') => {
            return Err("`*` and `#` stand for something else in a `text`".to_owned());
        }
        Step::Octet(octet) if octet.is_ascii_control() => {
            return Err("no reply has a control character".to_owned());
        }
        Step::Octet(octet) => vec![vec![Piece::Octet(octet)]],
        Step::Blank => vec![vec![Piece::Blank]],
        Step::Digits => vec![vec![Piece::Digits]],
        // One digit at an end is the first or last of a run.
        Step::Digit if is_open(before) || is_open(after) => vec![vec![Piece::Digits]],
        Step::Digit => (b'0'..=b'9').map(|digit| vec![Piece::Octet(digit)]).collect(),
        Step::Gap => vec![vec![Piece::Gap]],
        Step::Any => {
            *narrowed = true;
            let octets = if is_number(before) || is_number(after) { &b"."[..] } else { b".-'" };
            let mut all: Vec<Vec<Piece>> = octets.iter().map(|octet| vec![Piece::Octet(*octet)]).collect();
            // A blank beside a blank is the same blank.
            if octets.len() > 1 && !is_blank(before) && !is_blank(after) {
                all.push(vec![Piece::Blank]);
            }
            all
        }
        // No text begins or ends in a blank, and none has two: there is something between them.
        Step::Some => match (is_blank(before) || before.is_none(), is_blank(after) || after.is_none()) {
            (true, true) => vec![vec![Piece::Gap]],
            (true, _) => {
                *narrowed = true;
                vec![vec![Piece::Gap, Piece::Blank]]
            }
            (false, true) => {
                *narrowed = true;
                vec![vec![Piece::Blank, Piece::Gap]]
            }
            (false, false) => {
                *narrowed = true;
                vec![vec![Piece::Gap, Piece::Blank], vec![Piece::Blank, Piece::Gap]]
            }
        },
        Step::Word if before.is_none() && is_blank(after) || is_blank(before) && after.is_none() => {
            vec![vec![Piece::Gap]]
        }
        Step::Word => return Err("it has a word of any characters, and `*` would match more".to_owned()),
        Step::Boundary => {
            let sides = (before.and_then(is_word), after.and_then(is_word));
            match sides {
                (Some(before), Some(after)) if before != after => vec![Vec::new()],
                (Some(_), Some(_)) => return Err("it can never match: `\\b` stands inside a word".to_owned()),
                (None, Some(true)) if is_open(before) => {
                    *narrowed = true;
                    b" (".iter().map(|octet| vec![Piece::Gap, blank_or(*octet)]).collect()
                }
                (Some(true), None) if is_open(after) => {
                    *narrowed = true;
                    b" .,)".iter().map(|octet| vec![blank_or(*octet), Piece::Gap]).collect()
                }
                _ => return Err("`\\b` has no equivalent here".to_owned()),
            }
        }
        Step::Start | Step::End => return Err("`^` and `$` have no equivalent in a text".to_owned()),
    })
}

fn blank_or(octet: u8) -> Piece {
    if octet == b' ' { Piece::Blank } else { Piece::Octet(octet) }
}

#[derive(Debug, Clone, Default)]
struct Text {
    pieces: Vec<Piece>,
}

impl Text {
    fn with(&self, pieces: &[Piece]) -> Self {
        let mut text = self.clone();
        for piece in pieces {
            // Two gaps are one, and so are two blanks.
            if !(matches!(piece, Piece::Gap | Piece::Blank) && text.pieces.last() == Some(piece)) {
                text.pieces.push(*piece);
            }
        }
        text
    }

    /// As a rule has it; `None`: it says nothing.
    fn written(&self) -> Result<Option<String>, String> {
        let mut octets = Vec::new();
        // The blank at an end of a pattern counts only beside a `*`.
        if self.pieces.first() == Some(&Piece::Blank) {
            octets.push(b'*');
        }
        if self.pieces.iter().all(|piece| *piece == Piece::Gap) {
            return Ok(None);
        }
        let first = self.pieces.iter().take_while(|piece| **piece == Piece::Gap).count();
        let mut pieces = &self.pieces[first..];
        if pieces.first() == Some(&Piece::Blank) && first > 0 {
            octets.push(b'*');
        }
        while let [rest @ .., Piece::Gap] = pieces {
            pieces = rest;
        }
        octets.extend(pieces.iter().map(|piece| match piece {
            Piece::Octet(octet) => *octet,
            Piece::Blank => b' ',
            Piece::Digits => b'#',
            Piece::Gap => b'*',
        }));
        if pieces.last() == Some(&Piece::Blank) {
            octets.push(b'*');
        }
        let is_sharp = |pair: &[u8]| pair[0] == b'#' && (pair[1].is_ascii_digit() || pair[1] == b'#');
        if octets.windows(2).any(is_sharp) {
            return Err("digits after any number of digits cannot be told apart".to_owned());
        }
        let longest = octets.split(|octet| matches!(octet, b'*' | b'#')).map(<[u8]>::len).max();
        if longest.unwrap_or(0) < LITERAL_MIN {
            return Err(format!(
                "it has no {LITERAL_MIN} characters in a row and would fit too much; narrow it by a code or a word"
            ));
        }
        String::from_utf8(octets).map(Some).map_err(|_| "it is no UTF-8 text".to_owned())
    }
}
