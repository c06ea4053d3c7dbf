//! `where`: an expression of minijinja over the columns of a list, compiled once and asked of each row.
//!
//! # What a field is to an expression
//! - A field that is empty or blank is `none`.
//! - One that is wholly a number (`-?(0|[1-9][0-9]*)(\.[0-9]+)?`, blanks around it passed over) is that
//!   number, so that 9 is less than 10; `007`, `+49`, `1e3`, `1,5` are texts.
//! - `true` and `false`, in any case, are what they say.
//! - Every other field is a text, as it stands. Texts are compared character by character, capitals before
//!   small letters; dates like 2026-01-31 come out right.
//! - A column that is compared with quoted texts only is a text always: `zip == "01234"` and
//!   `house == "12"` ask for just that.
//!
//! `address`, `email` and `domain` are those of the recipient (the domain in small letters) unless the
//! list has columns of these names.
//!
//! What is neither less nor greater must not look as if it were: where a column is ordered (`<`, `<=`, `>`,
//! `>=`) against a number, a row in which it is no number has no answer, and the same goes for a text and
//! for two columns. Such a row is refused with the reason, unless the expression does not come to that
//! comparison: to the question whether it is there at all the column says no, so that
//! `points and points > 100` passes over rows without points. In brackets, filters and arithmetic minijinja's
//! own order holds (none before numbers before texts).

use std::sync::{Arc, LazyLock};

use minijinja::value::{Object, Value, ValueKind};
use minijinja::{Environment, ErrorKind, Expression, UndefinedBehavior};

use crate::address::AddressRef;
use crate::campaign::operands::{Uses, uses};
use crate::campaign::row::Fields;
use crate::campaign::segment::Columns;

/// Octets of a field that are shown in a reason.
const SHOWN_OCTETS_MAX: usize = 40;

/// Holds nothing but minijinja's own filters and tests.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment
});

/// A compiled `where`.
pub(crate) struct Condition {
    expression: Expression<'static, 'static>,
    /// Those that the expression uses, and no others.
    names: Arc<[String]>,
    variables: Vec<Variable>,
    /// Variables that are ordered against each other.
    pairs: Vec<(usize, usize)>,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Condition").field("names", &self.names).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Variable {
    source: Source,
    is_text: bool,
    needs: Option<ValueKind>,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Column(usize),
    Address,
    Domain,
}

/// Why a `where` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConditionError {
    #[error("this is no expression: {0}")]
    Syntax(String),
    #[error("there is no column {}; the list has {}", .unknown.join(", "), .known.join(", "))]
    Unknown { unknown: Vec<String>, known: Vec<String> },
}

impl Condition {
    /// Sees that a text is an expression, without knowing any columns.
    ///
    /// # Errors
    /// What minijinja finds wrong.
    pub(crate) fn check(text: &str) -> Result<(), ConditionError> {
        compile(text).map(|_| ())
    }

    /// Compiles `text` for lists that have the columns `known`, of rows that have the fields `fields`, which
    /// hold all of them.
    ///
    /// # Errors
    /// No expression, or a variable that is no column.
    pub(crate) fn new(text: &str, known: &Columns, fields: &Columns) -> Result<Self, ConditionError> {
        let expression = compile(text)?;
        let mut names: Vec<String> = expression.undeclared_variables(false).into_iter().collect();
        let is_global = |name: &String| ENVIRONMENT.globals().any(|(global, _)| global == name);
        names.retain(|name| known.index(name).is_some() || !is_global(name));
        names.sort_unstable();
        let source = |name: &String| match name.as_str() {
            name if known.index(name).is_some() => fields.index(name).map(Source::Column),
            "address" | "email" => Some(Source::Address),
            "domain" => Some(Source::Domain),
            _ => None,
        };
        let unknown: Vec<String> = names.iter().filter(|name| source(name).is_none()).cloned().collect();
        if !unknown.is_empty() {
            return Err(ConditionError::Unknown { unknown, known: known.names().to_vec() });
        }
        let uses: Vec<Uses> = names.iter().map(|name| uses(text, name)).collect();
        let variables = names.iter().zip(&uses).filter_map(|(name, uses)| {
            let needs = match (uses.below_number, uses.below_text) {
                (true, _) => Some(ValueKind::Number),
                (false, true) => Some(ValueKind::String),
                (false, false) => None,
            };
            Some(Variable { source: source(name)?, is_text: uses.texts && !uses.values, needs })
        });
        let place = |name: &String| names.iter().position(|known| known == name);
        let pairs = uses.iter().enumerate().flat_map(|(at, uses)| {
            uses.below.iter().filter_map(place).filter(move |&other| other > at).map(move |other| (at, other))
        });
        let condition =
            Self { expression, pairs: pairs.collect(), variables: variables.collect(), names: names.into() };
        condition.probe()?;
        Ok(condition)
    }

    /// Filters, tests and functions are looked up when they are come to: finds those that do not exist now
    /// rather than in each row.
    fn probe(&self) -> Result<(), ConditionError> {
        for probe in ["", "1", "true", "text"] {
            let values = self.variables.iter().map(|_| value(probe, false)).collect();
            if let Err(error) = self.run(values)
                && matches!(
                    error.kind(),
                    ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction
                )
            {
                return Err(ConditionError::Syntax(told(&error)));
            }
        }
        Ok(())
    }

    /// Whether it is true of a row.
    ///
    /// # Errors
    /// Why it has no answer, to print beside the row.
    pub(crate) fn holds(&self, address: &AddressRef<'_>, fields: &Fields<'_>) -> Result<bool, String> {
        let written;
        let whole = match self.variables.iter().any(|variable| matches!(variable.source, Source::Address)) {
            true => {
                written = address.to_string();
                written.as_str()
            }
            false => "",
        };
        let text = |variable: &Variable| match variable.source {
            Source::Column(column) => fields.column(column),
            Source::Address => whole,
            Source::Domain => address.domain(),
        };
        let mut values: Vec<Value> =
            self.variables.iter().map(|variable| value(text(variable), variable.is_text)).collect();
        let unordered = self.hide_unordered(&mut values);
        match self.run(values) {
            Ok(value) => Ok(value.is_true()),
            Err(error) => Err(match unordered {
                Some(at) if error.kind() == ErrorKind::UndefinedError => {
                    let (name, text) = (&self.names[at], text(&self.variables[at]).trim());
                    if text.is_empty() {
                        format!("`{name}` is empty, neither less nor greater")
                    } else {
                        let shown = &text[..text.floor_char_boundary(SHOWN_OCTETS_MAX)];
                        format!(
                            "`{name}` is `{shown}`, neither less nor greater than what it is compared with"
                        )
                    }
                }
                _ => told(&error),
            }),
        }
    }

    /// Makes undefined what cannot be ordered; gives the first of them.
    fn hide_unordered(&self, values: &mut [Value]) -> Option<usize> {
        let mut first = None;
        for (at, variable) in self.variables.iter().enumerate() {
            if variable.needs.is_some_and(|kind| values[at].kind() != kind) {
                values[at] = Value::UNDEFINED;
                first = first.or(Some(at));
            }
        }
        for &(one, other) in &self.pairs {
            let (kind, other_kind) = (values[one].kind(), values[other].kind());
            if kind != other_kind || kind == ValueKind::None {
                let odd = if kind == ValueKind::Number { other } else { one };
                (values[one], values[other]) = (Value::UNDEFINED, Value::UNDEFINED);
                first = first.or(Some(odd));
            }
        }
        first
    }

    fn run(&self, values: Vec<Value>) -> Result<Value, minijinja::Error> {
        let row = RowValues { names: Arc::clone(&self.names), values };
        self.expression.eval(Value::from_object(row))
    }
}

fn compile(text: &str) -> Result<Expression<'static, 'static>, ConditionError> {
    ENVIRONMENT
        .compile_expression_owned(text.to_owned())
        .map_err(|error| ConditionError::Syntax(told(&error)))
}

/// minijinja's own words, without the name it gives to an expression.
fn told(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// What a field is to an expression.
fn value(field: &str, is_text: bool) -> Value {
    let inner = field.trim();
    if inner.is_empty() {
        return Value::from(());
    }
    if is_text {
        return Value::from(field);
    }
    if is_number(inner) {
        let whole = inner.parse::<i64>().map(Value::from).or_else(|_| inner.parse::<i128>().map(Value::from));
        if let Ok(number) = whole {
            return number;
        }
        if let Ok(number) = inner.parse::<f64>() {
            return Value::from(number);
        }
    }
    if inner.eq_ignore_ascii_case("true") {
        return Value::from(true);
    }
    if inner.eq_ignore_ascii_case("false") {
        return Value::from(false);
    }
    Value::from(field)
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?`
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    digits(whole) && (whole == "0" || !whole.starts_with('0')) && fraction.is_none_or(digits)
}

/// The variables of one row.
#[derive(Debug)]
struct RowValues {
    names: Arc<[String]>,
    values: Vec<Value>,
}

impl Object for RowValues {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let at = self.names.iter().position(|name| name == key)?;
        Some(self.values[at].clone())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::campaign::list::{List, ListFormat, ListSource, Step};

    /// What `text` says of the row of this object.
    fn holds(text: &str, row: &serde_json::Value) -> Result<bool, String> {
        let source = ListSource { format: Some(ListFormat::Ndjson), ..ListSource::new("-") };
        let mut list = List::open(&source, Some(Box::new(Cursor::new(row.to_string())))).unwrap();
        let columns = list.columns().clone();
        let condition = Condition::new(text, &columns, &columns).unwrap_or_else(|error| panic!("{error}"));
        let Step::Row(row) = list.next(Duration::from_secs(60)).unwrap() else { panic!("no row") };
        let (address, fields) = row.read().unwrap();
        condition.holds(&address, &fields)
    }

    #[test]
    fn a_row_without_an_answer_is_told_why() {
        let row = |points: &str| serde_json::json!({ "email": "a@one.test", "points": points, "other": "7" });
        for (text, points, reason) in [
            (
                "points > 3",
                "n/a",
                "`points` is `n/a`, neither less nor greater than what it is compared with",
            ),
            ("points > 3", " ", "`points` is empty, neither less nor greater"),
            ("other < points", "x", "`points` is `x`, neither"),
            ("points < other", "", "`points` is empty"),
            ("points < \"2026-01-01\"", "", "`points` is empty"),
            ("points + 1 > 3", "x", "invalid operation"),
        ] {
            let told = holds(text, &row(points)).unwrap_err();
            assert!(told.starts_with(reason), "{text} of {points:?}: {told}");
        }
        let long = holds("points > 3", &row(&"\u{e9}".repeat(100))).unwrap_err();
        assert!(long.len() < 150, "{long}");
    }

    #[test]
    fn names_of_the_engine_are_columns_where_the_list_has_them() {
        let row = serde_json::json!({ "email": "a@one.test", "range": "5", "domain": "mine", "dict": "" });
        assert_eq!(
            holds("range == 5 and domain == 'mine' and not dict and address == 'a@one.test'", &row),
            Ok(true)
        );
        let columns = Columns::new(vec!["email".into()]);
        let unknown = Condition::new("email and none_such.x", &columns, &columns).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no column none_such; the list has email");
        for text in [
            "",
            "email ==",
            "(email",
            "email = 'x'",
            "{{ email }}",
            "email; 1",
            "email is bigly",
            "shout(email)",
        ] {
            assert!(Condition::new(text, &columns, &columns).is_err(), "{text}");
        }
    }

    proptest! {
        /// Against Rust's own parser of numbers; what it takes beyond ours are texts and have no answer.
        #[test]
        fn numbers_compare_as_numbers(field in "-?[0-9]{1,3}(\\.[0-9]{1,3})?|[-+.0-9eE ]{0,6}|[a-z]{0,3}", bound in -200i32..200) {
            let row = serde_json::json!({ "email": "a@one.test", "n": field });
            let trimmed = field.trim();
            let digits = trimmed.trim_start_matches('-');
            let ours = !trimmed.contains(['e', 'E', '+'])
                && !trimmed.starts_with('.') && !digits.starts_with('.') && !trimmed.ends_with('.')
                && (digits == "0" || digits.starts_with("0.") || !digits.starts_with('0'))
                && trimmed.bytes().any(|b| b.is_ascii_digit());
            let expected = if ours { trimmed.parse::<f64>().ok() } else { None };
            let found = holds(&format!("n > {bound}"), &row);
            match expected {
                Some(number) => prop_assert_eq!(found, Ok(number > f64::from(bound))),
                None => prop_assert!(found.is_err(), "{:?}", found),
            }
        }

        #[test]
        fn whatever_a_field_holds_is_a_text_and_nothing_else(field in any::<String>()) {
            let row = serde_json::json!({ "email": "a@one.test", "name": field, "n": "1" });
            let is_there = !field.trim().is_empty();
            prop_assert_eq!(holds("name != 'Ann' and (name or not name) and n", &row), Ok(field != "Ann"));
            prop_assert_eq!(holds("name is not none", &row), Ok(is_there));
        }

        #[test]
        fn no_expression_panics(text in "[a-z0-9 <>=!()\\[\\]|.,'\"-]{0,30}") {
            let columns = Columns::new(vec!["a".into(), "b".into()]);
            let _ = Condition::new(&text, &columns, &columns);
        }
    }
}
