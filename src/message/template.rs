//! Templates: minijinja, and the ones so simple that a message need not run it.
//!
//! A template of literal text and `{{ column }}`, with filters from a short list, becomes a list of
//! literals and slots; whatever else, down to a `-` for blanks, is left to minijinja. The scanner gives up
//! early rather than guess, and each template it took is rendered both ways with probing values before it
//! is trusted. Templates are read from memory only. Knows nothing of MIME.

use std::sync::Arc;

use minijinja::value::{Object, Rest, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::slots::{self, Filter, Form, Slot, Source, Values};
use super::{ContentError, Merge, RenderError};
use crate::address::AddressRef;
use crate::envelope::RecipientId;

/// One compiled template.
#[derive(Debug)]
pub(super) struct Template {
    pub name: String,
    /// `None`: minijinja renders it.
    pub segments: Option<Vec<Segment>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(String),
    Slot(usize),
}

/// All templates of a campaign and what they ask of a recipient.
pub(super) struct Templates {
    environment: Environment<'static>,
    /// Variable names and where their values come from; columns first.
    variables: Arc<[(String, Source)]>,
    /// For each variable: whether minijinja needs it.
    used: Vec<bool>,
    slots: Vec<Slot>,
    fast: bool,
    strict: bool,
}

impl Templates {
    /// `fast` off leaves everything to minijinja: the other half of the comparison in tests.
    pub fn new(columns: &[String], strict: bool, fast: bool) -> Self {
        let mut environment = Environment::new();
        environment.set_keep_trailing_newline(true);
        environment.set_auto_escape_callback(|name| match name {
            "html" => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        environment.set_undefined_behavior(if strict {
            UndefinedBehavior::Strict
        } else {
            UndefinedBehavior::Lenient
        });
        environment.add_filter("default", default);
        environment.add_filter("d", default);
        environment.add_filter("urlencode", |text: String| slots::url_encode(&text));
        let mut variables: Vec<(String, Source)> =
            columns.iter().enumerate().map(|(i, name)| (name.clone(), Source::Column(i))).collect();
        for name in ["address", "email"] {
            if !columns.iter().any(|column| column == name) {
                variables.push((name.to_owned(), Source::Address));
            }
        }
        let used = vec![false; variables.len()];
        Self { environment, variables: variables.into(), used, slots: Vec::new(), fast, strict }
    }

    /// Compiles `source` under `name`, which errors then give; values take the given form.
    /// A body's template that does not end with a line end is given one.
    ///
    /// # Errors
    /// Syntax, and with `strict` a variable that is no column, with the line.
    pub fn add(&mut self, name: &str, source: &str, form: Form) -> Result<Template, ContentError> {
        let mut source = slots::lines_normal(source).into_owned();
        if form != Form::Header && !source.ends_with('\n') {
            source.push('\n');
        }
        self.environment
            .add_template_owned(name.to_owned(), source.clone())
            .map_err(|error| content_error(name, &error))?;
        let mut template = Template { name: name.to_owned(), segments: None };
        if self.fast {
            let before = self.slots.len();
            template.segments = self.scan(&source, form);
            if template.segments.is_some() && !self.agrees(&template) {
                self.slots.truncate(before);
                template.segments = None;
            }
        }
        if template.segments.is_none() {
            self.leave_to_engine(name)?;
        }
        Ok(template)
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Runs minijinja; what it gives is appended to `out`, with LF or CRLF as the template has them.
    pub fn run(
        &self,
        template: &Template,
        merge: &Merge<'_>,
        address: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        self.run_engine(&template.name, merge, address, out).map_err(|error| RenderError::Template {
            template: error.name().unwrap_or(&template.name).to_owned(),
            line: error.line().unwrap_or(1),
            reason: reason(&error),
        })
    }

    fn run_engine(
        &self,
        name: &str,
        merge: &Merge<'_>,
        address: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), minijinja::Error> {
        let values = self.variables.iter().zip(&self.used).map(|((_, source), used)| match used {
            true => Value::from(slots::lines_normal(slots::raw(*source, merge, address)).as_ref()),
            false => Value::UNDEFINED,
        });
        let row = Row { variables: Arc::clone(&self.variables), values: values.collect() };
        self.environment.get_template(name)?.render_captured_to(Value::from_object(row), out)?;
        Ok(())
    }

    /// Marks the variables it needs, and finds unknown ones now rather than at the first recipient.
    fn leave_to_engine(&mut self, name: &str) -> Result<(), ContentError> {
        let template = self.environment.get_template(name).map_err(|error| content_error(name, &error))?;
        let named = template.undeclared_variables(false);
        for (variable, used) in self.variables.iter().zip(&mut self.used) {
            *used |= named.contains(&variable.0);
        }
        if self.strict {
            // Only unknown names count here: a filter may rightly refuse the probe's values.
            let mut out = Vec::new();
            match with_probe("7", self.variables.len(), |merge, address| {
                self.run_engine(name, merge, address, &mut out)
            }) {
                Err(error) if error.kind() == ErrorKind::UndefinedError => {
                    let mut unknown: Vec<&str> = named
                        .iter()
                        .map(String::as_str)
                        .filter(|named| !self.variables.iter().any(|(known, _)| known == named))
                        .collect();
                    unknown.sort_unstable();
                    if unknown.is_empty() {
                        return Err(content_error(name, &error));
                    }
                    let columns: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
                    return Err(ContentError::Template {
                        template: name.to_owned(),
                        line: error.line().unwrap_or(1),
                        reason: format!(
                            "unknown variable {}; the list has: {}",
                            unknown.join(", "),
                            columns.join(", ")
                        ),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether both ways give the same for values that touch escaping, filters and empty cells.
    fn agrees(&mut self, template: &Template) -> bool {
        let used = std::mem::replace(&mut self.used, vec![true; self.variables.len()]);
        let agrees = ["", "a<b>&\"'/c d", " \u{e9}\u{df}-x\ty ", "12"].iter().all(|probe| {
            with_probe(probe, self.variables.len(), |merge, address| {
                let mut engine = Vec::new();
                if self.run_engine(&template.name, merge, address, &mut engine).is_err() {
                    return false;
                }
                let mut values = Values::default();
                values.fill(&self.slots, merge);
                let mut ours = Vec::new();
                template.write(&values, &mut ours);
                String::from_utf8_lossy(&ours).replace("\r\n", "\n") == String::from_utf8_lossy(&engine)
            })
        });
        self.used = used;
        agrees
    }

    /// Literals and slots, or `None` where minijinja is needed.
    fn scan(&mut self, source: &str, form: Form) -> Option<Vec<Segment>> {
        let mut segments = Vec::new();
        let mut rest = source;
        loop {
            let open = rest
                .match_indices('{')
                .find(|(at, _)| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')));
            let Some((at, _)) = open else { break };
            if at > 0 {
                segments.push(Segment::Literal(rest[..at].to_owned()));
            }
            let expression = rest[at..].strip_prefix("{{")?;
            let (slot, after) = self.expression(expression, form)?;
            let index = self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
                self.slots.push(slot);
                self.slots.len() - 1
            });
            segments.push(Segment::Slot(index));
            rest = after;
        }
        if !rest.is_empty() {
            segments.push(Segment::Literal(rest.to_owned()));
        }
        Some(segments)
    }

    /// `name | filter | default("text") }}`; gives what follows.
    fn expression<'s>(&self, text: &'s str, mut form: Form) -> Option<(Slot, &'s str)> {
        let (name, mut rest) = word(text)?;
        if matches!(
            name,
            "true" | "false" | "none" | "True" | "False" | "None" | "not" | "loop" | "self" | "super"
        ) {
            return None;
        }
        let source = self.variables.iter().find(|(known, _)| known == name)?.1;
        let mut filters = Vec::new();
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\n']);
            if let Some(after) = rest.strip_prefix("}}") {
                return Some((Slot { source, filters, form }, after));
            }
            let (filter, after) = word(rest.strip_prefix('|')?)?;
            rest = after;
            filters.push(match filter {
                "upper" => Filter::Upper,
                "lower" => Filter::Lower,
                "title" => Filter::Title,
                "trim" => Filter::Trim,
                "urlencode" => Filter::UrlEncode,
                "default" | "d" => {
                    let (text, after) = argument(rest)?;
                    rest = after;
                    Filter::Default(text.to_owned())
                }
                "safe" => {
                    let rest = rest.trim_start_matches([' ', '\t', '\n']);
                    let after = rest.strip_prefix("}}")?;
                    form = if form == Form::Html { Form::Text } else { form };
                    return Some((Slot { source, filters, form }, after));
                }
                _ => return None,
            });
        }
    }
}

impl Template {
    /// Appends literals and values; only for a template with segments.
    pub fn write(&self, values: &Values, out: &mut Vec<u8>) {
        for segment in self.segments.as_deref().unwrap_or_default() {
            match segment {
                Segment::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Slot(slot) => out.extend_from_slice(values.get(*slot).0),
            }
        }
    }
}

/// An identifier after blanks, and what follows.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', '\n']);
    let end = text.bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).unwrap_or(text.len());
    (end > 0 && !text.as_bytes()[0].is_ascii_digit()).then(|| text.split_at(end))
}

/// `("text")` without escapes, and what follows.
fn argument(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('(')?;
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inner, after) = text[1..].split_once(quote)?;
    (!inner.contains(['\\', '\n'])).then_some(())?;
    Some((inner, after.strip_prefix(')')?))
}

/// As minijinja's, but an empty cell is a missing one: a list has no other way to say so.
fn default(value: &Value, arguments: Rest<Value>) -> Value {
    let lax = arguments.get(1).is_some_and(Value::is_true);
    if value.is_undefined() || value.as_str() == Some("") || (lax && !value.is_true()) {
        arguments.first().cloned().unwrap_or_else(|| Value::from(""))
    } else {
        value.clone()
    }
}

/// A recipient's variables as minijinja looks them up.
#[derive(Debug)]
struct Row {
    variables: Arc<[(String, Source)]>,
    values: Vec<Value>,
}

impl Object for Row {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        let index = self.variables.iter().position(|(known, _)| known == name)?;
        Some(self.values[index].clone())
    }
}

/// Calls with a recipient whose every field is `probe`.
fn with_probe<T>(probe: &str, fields: usize, mut call: impl FnMut(&Merge<'_>, &str) -> T) -> T {
    let address = AddressRef::parse("probe@probe.test").expect("a plain address");
    let fields = vec![probe; fields];
    let merge = Merge { recipient: RecipientId::new(0, 0), address: &address, fields: &fields };
    call(&merge, "probe@probe.test")
}

fn content_error(name: &str, error: &minijinja::Error) -> ContentError {
    ContentError::Template {
        template: error.name().unwrap_or(name).to_owned(),
        line: error.line().unwrap_or(1),
        reason: reason(error),
    }
}

fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
