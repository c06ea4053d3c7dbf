//! What a `where` compares its variables with, read off its tokens.
//!
//! A field is a text; whether `42` in it is a number or a house number depends on what it is compared with.
//! Looks at a comparison only where a variable stands beside the operator as it is; what stands in brackets,
//! filters or arithmetic is left to minijinja, which has compiled the expression before. Knows no values.

/// How a variable is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// With quoted texts.
    pub texts: bool,
    /// With numbers, `true`, `false` or other variables.
    pub values: bool,
    /// Ordered (`<`, `<=`, `>`, `>=`) against a number.
    pub below_number: bool,
    /// The same against a quoted text.
    pub below_text: bool,
    /// The same against these variables.
    pub below: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Number,
    Text,
    Sign(&'a str),
}

/// How `expression` compares `variable`.
pub(crate) fn uses(expression: &str, variable: &str) -> Uses {
    let tokens = tokens(expression);
    let mut uses = Uses::default();
    for at in 0..tokens.len() {
        match tokens[at] {
            Token::Sign("==" | "!=") => compared(&tokens, at, variable, false, &mut uses),
            Token::Sign("<" | "<=" | ">" | ">=") => compared(&tokens, at, variable, true, &mut uses),
            Token::Name("in") => among(&tokens, at, variable, &mut uses),
            _ => {}
        }
    }
    uses
}

/// Notes what is on the other side of the operator at `at`.
fn compared(tokens: &[Token<'_>], at: usize, variable: &str, orders: bool, uses: &mut Uses) {
    let (Some(left), Some(right)) = (before(tokens, at), after(tokens, at)) else { return };
    for (this, other) in [(left, right), (right, left)] {
        if this != Token::Name(variable) {
            continue;
        }
        match other {
            Token::Text => {
                uses.texts = true;
                uses.below_text |= orders;
            }
            Token::Number => {
                uses.values = true;
                uses.below_number |= orders;
            }
            Token::Name("none" | "None") => {}
            Token::Name("true" | "True" | "false" | "False") => uses.values = true,
            Token::Name(other) => {
                uses.values = true;
                if orders && other != variable {
                    uses.below.push(other.to_owned());
                }
            }
            Token::Sign(_) => {}
        }
    }
}

/// `variable in [...]`, `variable not in (...)`: what the brackets hold.
fn among(tokens: &[Token<'_>], at: usize, variable: &str, uses: &mut Uses) {
    let operator = if at > 0 && tokens[at - 1] == Token::Name("not") { at - 1 } else { at };
    if before(tokens, operator) != Some(Token::Name(variable)) {
        return;
    }
    let Some(Token::Sign("[" | "(")) = tokens.get(at + 1) else { return };
    let held = tokens[at + 2..].iter().take_while(|token| !matches!(token, Token::Sign("]" | ")")));
    for token in held {
        match token {
            Token::Text => uses.texts = true,
            Token::Sign(",") => {}
            _ => uses.values = true,
        }
    }
}

/// The operand before the operator at `at`, if it is a single token.
fn before<'a>(tokens: &[Token<'a>], at: usize) -> Option<Token<'a>> {
    let operand = tokens.get(at.checked_sub(1)?)?;
    let outside = at.checked_sub(2).map(|at| tokens[at]);
    (is_operand(*operand) && outside.is_none_or(|token| is_apart(token, &["(", "[", ",", ":"])))
        .then_some(*operand)
}

fn after<'a>(tokens: &[Token<'a>], at: usize) -> Option<Token<'a>> {
    let operand = tokens.get(at + 1)?;
    let outside = tokens.get(at + 2);
    (is_operand(*operand) && outside.is_none_or(|&token| is_apart(token, &[")", "]", ",", ":"])))
        .then_some(*operand)
}

fn is_operand(token: Token<'_>) -> bool {
    !matches!(token, Token::Sign(_) | Token::Name("and" | "or" | "not" | "in" | "is" | "if" | "else"))
}

/// Whether a token cannot belong to the operand beside it.
fn is_apart(token: Token<'_>, signs: &[&str]) -> bool {
    match token {
        Token::Name(word) => ["and", "or", "not", "if", "else"].contains(&word),
        Token::Sign(sign) => signs.contains(&sign),
        Token::Number | Token::Text => false,
    }
}

fn tokens(expression: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '"' | '\'' => (Token::Text, text_length(rest, first)),
            '-' if begins_number(&rest[1..]) && tokens.last().is_none_or(|&last| !ends_operand(last)) => {
                (Token::Number, 1 + number_length(&rest[1..]))
            }
            '0'..='9' => (Token::Number, number_length(rest)),
            first if first == '_' || first.is_alphabetic() => {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                (Token::Name(&rest[..length]), length)
            }
            first => {
                let two = rest.get(..2).filter(|two| ["==", "!=", "<=", ">=", "//", "**"].contains(two));
                let length = two.map_or(first.len_utf8(), str::len);
                (Token::Sign(&rest[..length]), length)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

fn begins_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a minus after it takes away instead of making a number negative.
fn ends_operand(token: Token<'_>) -> bool {
    match token {
        Token::Sign(sign) => matches!(sign, ")" | "]"),
        token => is_operand(token),
    }
}

fn number_length(text: &str) -> usize {
    text.find(|c: char| c != '.' && c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// Octets of a quoted text, quotes and all.
fn text_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_known_by_what_stands_beside_it() {
        let texts = Uses { texts: true, ..Uses::default() };
        let number = Uses { values: true, below_number: true, ..Uses::default() };
        for (expression, uses_of_x) in [
            ("x == \"a\"", texts.clone()),
            ("'a, x > 1' != x", texts.clone()),
            ("not (x == \"a\\\" or x > 1\")", texts.clone()),
            ("x in [\"a\", 'b']", texts.clone()),
            ("y and x not in (\"a\", 'b') or y", texts.clone()),
            ("x > 100 and y", number.clone()),
            ("-5 <= x", number.clone()),
            ("[x < -0.5]", number.clone()),
            ("x == 1 or x in [2]", Uses { values: true, ..Uses::default() }),
            ("x == true", Uses { values: true, ..Uses::default() }),
            ("x >= \"2026-01-01\"", Uses { below_text: true, ..texts.clone() }),
            ("y < x", Uses { values: true, below: vec!["y".into()], ..Uses::default() }),
            // Not as it is: minijinja decides.
            ("x|length > 3", Uses::default()),
            ("x + 1 > 3", Uses::default()),
            ("3 - x > 3", Uses::default()),
            ("3 < x.y or 3 < x|int or 3 < x[0] or f(x) > 2", Uses::default()),
            ("x == none or x is none or x", Uses::default()),
            ("y == \"x\" and \"x > 3\" == y", Uses::default()),
        ] {
            assert_eq!(uses(expression, "x"), uses_of_x, "{expression}");
        }
    }
}
