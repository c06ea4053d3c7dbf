//! What a rule's text is compared with, and how. Pure, and without regular expressions: nothing to escape,
//! nothing that backtracks.
//!
//! A reply is folded once: ASCII letters in lower case, blanks one at a time, and without its own codes,
//! which many servers put before every line of a multi-line reply and which stand in the middle once its
//! lines are joined (`550-5.7.26 one 550 5.7.26 two`). A pattern is folded the same way. In a pattern `*`
//! stands for anything or nothing, `#` for a whole run of digits; it may match anywhere in the text.

use std::ops::Range;

use crate::reply::{REPLY_TEXT_OCTETS_MAX, Reply};

/// Stands for `#` inside a segment; no reply's text holds control characters.
const DIGITS: u8 = 2;
/// Literal octets without which a pattern fits too much.
pub(super) const LITERAL_OCTETS_MIN: usize = 3;

/// The text of a reply, ready to be compared.
pub(super) struct Folded {
    octets: [u8; REPLY_TEXT_OCTETS_MAX],
    length: usize,
}

impl Folded {
    pub fn new(reply: &Reply) -> Self {
        let text = reply.text().as_bytes();
        let text = &text[..text.len().min(REPLY_TEXT_OCTETS_MAX)];
        let mut folded = Self { octets: [0; REPLY_TEXT_OCTETS_MAX], length: 0 };
        let codes = Codes::of(reply);
        let mut at = 0;
        let mut is_word_start = true;
        while let Some(&octet) = text.get(at) {
            if octet == b' ' {
                if !is_word_start {
                    folded.push(b' ');
                }
                is_word_start = true;
                at += 1;
                continue;
            }
            if is_word_start && octet.is_ascii_digit() {
                let repeated = codes.repeated(&text[at..]);
                if repeated > 0 {
                    at += repeated;
                    continue;
                }
            }
            folded.push(octet.to_ascii_lowercase());
            is_word_start = false;
            at += 1;
        }
        if folded.octets[..folded.length].last() == Some(&b' ') {
            folded.length -= 1;
        }
        folded
    }

    fn push(&mut self, octet: u8) {
        self.octets[self.length] = octet;
        self.length += 1;
    }

    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// A reply's own codes as they are written.
struct Codes {
    code: [u8; 3],
    enhanced: [u8; 9],
    enhanced_length: usize,
}

impl Codes {
    fn of(reply: &Reply) -> Self {
        let digit = |number: u16| b'0' + (number % 10) as u8;
        let code = reply.code();
        let mut codes = Self {
            code: [digit(code / 100), digit(code / 10), digit(code)],
            enhanced: [0; 9],
            enhanced_length: 0,
        };
        if let Some(enhanced) = reply.enhanced() {
            for (place, number) in
                [u16::from(enhanced.class), enhanced.subject, enhanced.detail].into_iter().enumerate()
            {
                if place > 0 {
                    codes.push(b'.');
                }
                // Three digits at most, as they were parsed.
                for power in [100, 10] {
                    if number >= power {
                        codes.push(digit(number / power));
                    }
                }
                codes.push(digit(number));
            }
        }
        codes
    }

    fn push(&mut self, octet: u8) {
        if let Some(place) = self.enhanced.get_mut(self.enhanced_length) {
            *place = octet;
            self.enhanced_length += 1;
        }
    }

    /// Octets of the codes that `text`, which begins a word, repeats: `550-`, `5.7.1 `, `550 5.7.1 `.
    fn repeated(&self, text: &[u8]) -> usize {
        let enhanced = &self.enhanced[..self.enhanced_length];
        let after_enhanced = |from: usize| -> usize {
            match text[from..].strip_prefix(enhanced) {
                Some(rest) if !enhanced.is_empty() && matches!(rest.first(), None | Some(b' ')) => {
                    from + enhanced.len()
                }
                _ => 0,
            }
        };
        match text.strip_prefix(&self.code) {
            Some([b'-', ..]) => after_enhanced(4).max(4),
            Some([b' ', ..]) => after_enhanced(4),
            _ => after_enhanced(0),
        }
    }
}

/// One text of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Found one after the other; between them lies anything. None is empty.
    segments: Box<[Box<[u8]>]>,
}

impl Pattern {
    /// # Errors
    /// Says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        if words.chars().any(char::is_control) {
            return Err(format!("the text {text:?} has a control character, and no reply has any"));
        }
        let octets: Vec<u8> = words
            .bytes()
            .map(|octet| if octet == b'#' { DIGITS } else { octet.to_ascii_lowercase() })
            .collect();
        let is_ambiguous = |pair: &[u8]| {
            let is_digit = |octet: u8| octet.is_ascii_digit() || octet == DIGITS;
            pair[0] == DIGITS && is_digit(pair[1])
        };
        if octets.windows(2).any(is_ambiguous) {
            return Err(format!("in the text {text:?} a digit follows `#`, which already takes all digits"));
        }
        let segments: Box<[Box<[u8]>]> = octets
            .split(|octet| *octet == b'*')
            .filter(|segment| !segment.is_empty())
            .map(Into::into)
            .collect();
        let pattern = Self { segments };
        if pattern.fragment().len() < LITERAL_OCTETS_MIN {
            return Err(format!(
                "the text {text:?} has no {LITERAL_OCTETS_MIN} characters in a row and fits too much"
            ));
        }
        Ok(pattern)
    }

    /// The longest run of literal octets: what a text must hold to fit.
    pub fn fragment(&self) -> &[u8] {
        let runs = self.segments.iter().flat_map(|segment| segment.split(|octet| *octet == DIGITS));
        runs.max_by_key(|run| run.len()).unwrap_or_default()
    }

    pub fn fits(&self, text: &[u8]) -> bool {
        let mut from = 0;
        self.segments.iter().all(|segment| match find(segment, &text[from..]) {
            Some(found) => {
                from += found.end;
                true
            }
            None => false,
        })
    }

    /// Whether every text that `narrower` fits, this one fits too. Says no where it is not sure.
    pub fn covers(&self, narrower: &Self) -> bool {
        // What lies between the segments is unknown: an octet that nothing fits.
        self.fits(&narrower.segments.join(&1))
    }
}

/// Where `segment` is first found in `text`.
fn find(segment: &[u8], text: &[u8]) -> Option<Range<usize>> {
    let literal = segment.split(|octet| *octet == DIGITS).next().unwrap_or_default();
    if literal.len() == segment.len() {
        return memchr::memmem::find(text, segment).map(|at| at..at + segment.len());
    }
    let mut from = 0;
    while from < text.len() {
        let at = from + memchr::memmem::find(&text[from..], literal)?;
        if let Some(length) = length_at(segment, &text[at..]) {
            return Some(at..at + length);
        }
        from = at + 1;
    }
    None
}

/// How much of `text`'s start `segment` takes; `None`: it does not fit there.
fn length_at(segment: &[u8], text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for &octet in segment {
        if octet == DIGITS {
            let digits =
                text[at..].iter().take_while(|octet| octet.is_ascii_digit() || **octet == DIGITS).count();
            if digits == 0 {
                return None;
            }
            at += digits;
        } else if text.get(at) == Some(&octet) {
            at += 1;
        } else {
            return None;
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(code: u16, text: &str) -> String {
        String::from_utf8(Folded::new(&Reply::new(code, text).unwrap()).octets().to_vec()).unwrap()
    }

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::parse(pattern).unwrap().fits(Folded::new(&Reply::new(550, text).unwrap()).octets())
    }

    #[test]
    fn the_codes_of_later_lines_are_no_part_of_the_text() {
        let text = "4.7.28 Gmail has detected\n4.7.28 an Unusual rate";
        assert_eq!(folded(421, text), "gmail has detected an unusual rate");
        let logged = "5.7.26 one 550-5.7.26 two 550 5.7.26 three 5.7.26";
        assert_eq!(folded(550, logged), "one two three");
        assert_eq!(folded(550, "one 550-two 550 three 5.7.1 4"), "one two 550 three 5.7.1 4");
        assert_eq!(folded(550, "5.7.1 a   b 5.7.10 15.7.1"), "a b 5.7.10 15.7.1");
        assert_eq!(folded(550, "5.123.456 x 5.123.456 y"), "x y");
        assert_eq!(folded(550, ""), "");
    }

    #[test]
    fn a_pattern_fits_anywhere_and_in_any_case() {
        assert!(fits("unusual RATE*your ip", "An unusual rate of mail from Your IP address"));
        assert!(!fits("your ip*unusual rate", "An unusual rate of mail from Your IP address"));
        assert!(fits("try again in # seconds", "Try again in 300 seconds, please"));
        assert!(!fits("try again in # seconds", "Try again in a few seconds"));
        assert!(fits("(#)*[tss#]", "blocked (12) [TSS0] [TSS04]"));
        assert!(fits("user  unknown", "user unknown"));
        assert!(fits("*abc*", "xabc"));
        assert!(fits("#abc", "x12abc"));
    }

    #[test]
    fn a_pattern_that_would_fit_too_much_is_refused() {
        for text in ["", "*", "ab", "ab*cd", "#", "12#", "a b #", "abc ##", "abc #1", "abc\u{1}"] {
            let parsed = Pattern::parse(text);
            assert_eq!(parsed.is_err(), text != "a b #", "{text:?}: {parsed:?}");
        }
    }

    #[test]
    fn a_wider_pattern_covers_a_narrower_one() {
        let covers =
            |wide: &str, narrow: &str| Pattern::parse(wide).unwrap().covers(&Pattern::parse(narrow).unwrap());
        assert!(covers("user unknown", "the user unknown here"));
        assert!(covers("user*unknown", "user is # unknown"));
        assert!(covers("user*unknown", "user*is*unknown"));
        assert!(covers("code #", "code #"));
        assert!(covers("code #", "code 12"));
        assert!(!covers("code 12", "code #"));
        assert!(!covers("user unknown", "user*unknown"));
    }

    proptest::proptest! {
        #[test]
        fn folding_and_fitting_take_anything(code in 200u16..600, text in "\\PC{0,600}", pattern in "[ -~]{0,20}") {
            let folded = Folded::new(&Reply::new(code, &text).unwrap());
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let contains = memchr::memmem::find(folded.octets(), pattern.fragment()).is_some();
                assert!(contains || !pattern.fits(folded.octets()));
                assert!(pattern.covers(&pattern));
            }
        }

        #[test]
        fn every_piece_of_a_text_fits_it(text in "[a-z .]{6,80}", from in 0usize..40, length in 3usize..20) {
            let reply = Reply::new(550, &text).unwrap();
            let folded = Folded::new(&reply);
            let octets = folded.octets();
            let piece = &octets[from.min(octets.len())..(from + length).min(octets.len())];
            if let Ok(pattern) = Pattern::parse(std::str::from_utf8(piece).unwrap()) {
                assert!(pattern.fits(octets));
            }
        }
    }
}
