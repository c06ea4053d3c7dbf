//! Templates: minijinja, and the ones so simple that a message need not run it.
//!
//! Partials and layouts are put in first ([`flatten`]). A template of literal text and `{{ column }}`, with
//! filters from a short list, becomes a list of literals and slots; whatever else is left to minijinja. Each
//! template the scanner took is rendered both ways with probing values before it is trusted. Files are read
//! from the campaign's folder only. Knows nothing of MIME.

use std::collections::HashMap;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, Rest, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};

use super::expression::{self, Names};
use super::filters::{self, Arguments, Format, Region};
use super::flatten::{self, Flat};
use super::folder::Folder;
use super::pieces::{Kind, Piece, Source as Whole};
use super::slots::{self, Beside, Form, Slot, Source, Values};
use super::tokens::Tokens;
use super::{ContentError, Merge, RenderError, Scratch};
use crate::address::AddressRef;
use crate::envelope::RecipientId;
use crate::token::Kind as TokenKind;

/// One compiled template.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// What errors call it: its file, or what it makes.
    pub name: String,
    /// In the engine.
    key: String,
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
    folder: Option<Folder>,
    region: Region,
    /// Of each template in the engine, where its tags were written.
    wholes: HashMap<String, Whole>,
    /// Variable names and where their values come from; columns first.
    variables: Arc<[(String, Source)]>,
    /// For each variable: whether minijinja needs it.
    used: Vec<bool>,
    slots: Vec<Slot>,
    /// `None`: there is no key to make any.
    tokens: Option<Tokens>,
    fast: bool,
    strict: bool,
}

impl Templates {
    pub fn new(columns: &[String], strict: bool, folder: Option<&Folder>, region: &Region) -> Self {
        let mut variables: Vec<(String, Source)> =
            columns.iter().enumerate().map(|(i, name)| (name.clone(), Source::Column(i))).collect();
        for name in ["address", "email"] {
            if !columns.iter().any(|column| column == name) {
                variables.push((name.to_owned(), Source::Address));
            }
        }
        Self {
            environment: environment(strict, folder, region),
            folder: folder.cloned(),
            region: region.clone(),
            wholes: HashMap::new(),
            used: vec![false; variables.len()],
            variables: variables.into(),
            slots: Vec::new(),
            tokens: None,
            fast: true,
            strict,
        }
    }

    /// Gives templates what makes tokens.
    pub fn with_tokens(self, tokens: Tokens) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    pub fn makes_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Declares the variable `name`: `before` and a token of its recipient. Gives its place among what is
    /// made. A column of that name stays what it is.
    pub fn declare(&mut self, name: &str, before: &str, kind: TokenKind) -> Option<usize> {
        let made = self.tokens.as_mut()?.add(before, kind);
        let is_known = self.variables.iter().any(|(known, _)| known == name);
        if !is_known {
            self.variables =
                self.variables.iter().cloned().chain([(name.to_owned(), Source::Made(made))]).collect();
            self.used.push(false);
        }
        Some(made)
    }

    /// A name that no column's begins with.
    pub fn unused_name(&self, name: &str) -> String {
        let mut name = name.to_owned();
        while self.variables.iter().any(|(known, _)| known.starts_with(&name)) {
            name.push('_');
        }
        name
    }

    /// Notes which tokens a message needs: those that templates ask for, and `others`.
    pub fn note_tokens(&mut self, others: &[usize]) {
        let Some(tokens) = &mut self.tokens else { return };
        let asked = self.variables.iter().zip(&self.used).filter(|(_, used)| **used);
        let sources = self.slots.iter().map(|slot| slot.source).chain(asked.map(|((_, source), _)| *source));
        let made =
            sources.filter_map(|source| if let Source::Made(made) = source { Some(made) } else { None });
        tokens.need(made.chain(others.iter().copied()));
    }

    /// Makes the recipient's tokens and fills in every slot.
    ///
    /// # Errors
    /// As [`Values::fill`].
    pub fn fill(&self, merge: &Merge<'_>, values: &mut Values) -> Result<(), RenderError> {
        if let Some(tokens) = &self.tokens {
            tokens.write(merge.recipient, &mut values.made);
        }
        values.fill(&self.slots, merge)
    }

    /// Leaves everything to minijinja: the other half of the comparison in tests.
    #[cfg(test)]
    pub fn slow(self) -> Self {
        Self { fast: false, ..self }
    }

    /// Whether no template needs minijinja.
    #[cfg(test)]
    pub fn are_simple(&self) -> bool {
        self.used.iter().all(|used| !used)
    }

    /// Puts in what the text `source`, called `name`, pulls in.
    ///
    /// # Errors
    /// A file that is not there, or not in the folder.
    pub fn flatten(&self, name: &str, source: &str) -> Result<Flat, ContentError> {
        flatten::flatten(self.folder.as_ref(), name, source)
    }

    /// Compiles a header or another short text; values stay as they are.
    ///
    /// # Errors
    /// As [`Templates::add`].
    pub fn value(&mut self, name: &str, source: &str) -> Result<Template, ContentError> {
        let flat = self.flatten(name, source)?;
        self.add(name, name, &flat, Form::Header)
    }

    /// Compiles a template under `key`, called `name` in errors; values take the given form.
    /// A body's template that does not end with a line end is given one.
    ///
    /// # Errors
    /// Syntax, and with `strict` a variable that is no column, with the line.
    pub fn add(&mut self, key: &str, name: &str, flat: &Flat, form: Form) -> Result<Template, ContentError> {
        let template = self.compile(key, name, flat, form)?;
        for segment in template.segments.iter().flatten() {
            if let Segment::Slot(slot) = segment {
                self.slots[*slot].is_needed = true;
            }
        }
        Ok(template)
    }

    /// Compiles a link of the HTML, which not every message shows: a value that it refuses is no mistake
    /// yet ([`Values::refused`]).
    ///
    /// # Errors
    /// As [`Templates::add`].
    pub fn add_link(&mut self, key: &str, name: &str, flat: &Flat) -> Result<Template, ContentError> {
        self.compile(key, name, flat, Form::Html)
    }

    fn compile(&mut self, key: &str, name: &str, flat: &Flat, form: Form) -> Result<Template, ContentError> {
        let mut pieces = flat.pieces.clone();
        // What ends in a block tag is given its line end when it is known what the block says.
        let ended = match pieces.last() {
            Some(Piece::Text(text)) => text.ends_with('\n'),
            Some(Piece::Tag(tag)) => tag.kind == Kind::Block,
            None => false,
        };
        if form != Form::Header && !ended {
            super::pieces::push_text(&mut pieces, "\n");
        }
        let mut template = Template { name: name.to_owned(), key: key.to_owned(), segments: None };
        let whole = Whole::of(&pieces);
        let text = whole.text.clone();
        self.wholes.insert(key.to_owned(), whole);
        self.environment
            .add_template_owned(key.to_owned(), text)
            .map_err(|error| self.content_error(&template, &error))?;
        if self.fast && flat.unresolved.is_none() {
            let before = self.slots.len();
            template.segments = self.scan(&pieces, form);
            if template.segments.is_none() || !self.agrees(&template) {
                self.slots.truncate(before);
                template.segments = None;
            }
        }
        if template.segments.is_none() {
            self.leave_to_engine(&template)?;
        }
        Ok(template)
    }

    /// What a short text says to this recipient, in `scratch.text`; line ends are LF.
    pub fn text(
        &self,
        template: &Template,
        merge: &Merge<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), RenderError> {
        scratch.text.clear();
        match template.segments {
            Some(_) => template.write(&scratch.values, &mut scratch.text),
            None => self.run(template, merge, scratch.values.beside(), &mut scratch.text)?,
        }
        Ok(())
    }

    /// Runs minijinja; what it gives is appended to `out`, with LF or CRLF as the template has them.
    pub fn run(
        &self,
        template: &Template,
        merge: &Merge<'_>,
        beside: Beside<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), RenderError> {
        self.run_engine(&template.key, merge, beside, out).map_err(|error| {
            let (template, line, reason) = self.told(template, &error);
            RenderError::Template { template, line, reason }
        })
    }

    fn run_engine(
        &self,
        key: &str,
        merge: &Merge<'_>,
        beside: Beside<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), minijinja::Error> {
        let values = self.variables.iter().zip(&self.used).map(|((_, source), used)| match used {
            true => Value::from(slots::lines_normal(slots::raw(*source, merge, beside)).as_ref()),
            false => Value::UNDEFINED,
        });
        let row = Row { variables: Arc::clone(&self.variables), values: values.collect() };
        self.environment.get_template(key)?.render_captured_to(Value::from_object(row), out)?;
        Ok(())
    }

    /// Marks the variables it needs, and finds unknown ones now rather than at the first recipient.
    fn leave_to_engine(&mut self, template: &Template) -> Result<(), ContentError> {
        let compiled = self
            .environment
            .get_template(&template.key)
            .map_err(|error| self.content_error(template, &error))?;
        let named = compiled.undeclared_variables(false);
        // Files that are loaded while it runs may name any.
        let loads = ["{% import", "{% from", "{% include", "{% extends"];
        let whole = &self.wholes[&template.key].text;
        let all = loads.iter().any(|tag| whole.contains(tag))
            || whole.contains("{%import")
            || whole.contains("{%from");
        for (variable, used) in self.variables.iter().zip(&mut self.used) {
            *used |= all || named.contains(&variable.0);
        }
        // Only unknown names and files count here: a filter may rightly refuse the probe's values.
        let mut out = Vec::new();
        let probed = with_probe("7", self.variables.len(), |merge, beside| {
            self.run_engine(&template.key, merge, beside, &mut out)
        });
        let Err(error) = probed else { return Ok(()) };
        match innermost(&error).kind() {
            ErrorKind::TemplateNotFound => Err(self.content_error(template, &error)),
            ErrorKind::UndefinedError if self.strict => {
                let mut unknown: Vec<&str> = named
                    .iter()
                    .map(String::as_str)
                    .filter(|named| !self.variables.iter().any(|(known, _)| known == named))
                    .collect();
                unknown.sort_unstable();
                if unknown.is_empty() {
                    return Err(self.content_error(template, &error));
                }
                let listed = self.variables.iter().filter(|(_, source)| !matches!(source, Source::Made(_)));
                let columns: Vec<&str> = listed.map(|(name, _)| name.as_str()).collect();
                let (template, line, _) = self.told(template, &error);
                let reason =
                    format!("unknown variable {}; the list has: {}", unknown.join(", "), columns.join(", "));
                Err(ContentError::Template { template, line, reason })
            }
            _ => Ok(()),
        }
    }

    /// Whether both ways give the same for values that touch escaping, filters and empty cells.
    fn agrees(&mut self, template: &Template) -> bool {
        let used = std::mem::replace(&mut self.used, vec![true; self.variables.len()]);
        let probes = ["", "a<b>&\"'/c d", " \u{e9}\u{df}-x\ty ", "12", "-1234567.895", "2026-03-09 18:00"];
        let agrees = probes.iter().all(|probe| {
            with_probe(probe, self.variables.len(), |merge, beside| {
                let mut engine = Vec::new();
                let theirs = self.run_engine(&template.key, merge, beside, &mut engine);
                let (mut values, mut refused) = (Values::default(), Vec::new());
                values.made = beside.made.to_vec();
                let filled = values.fill_but(&self.slots, merge, |slot, _| {
                    refused.push(Segment::Slot(slot));
                    Ok(())
                });
                let segments = template.segments.as_deref().unwrap_or_default();
                if filled.is_err() || refused.iter().any(|slot| segments.contains(slot)) {
                    return theirs.is_err();
                }
                let mut ours = Vec::new();
                template.write(&values, &mut ours);
                theirs.is_ok()
                    && String::from_utf8_lossy(&ours).replace("\r\n", "\n")
                        == String::from_utf8_lossy(&engine)
            })
        });
        self.used = used;
        agrees
    }

    /// Literals and slots, or `None` where minijinja is needed.
    fn scan(&mut self, pieces: &[Piece], form: Form) -> Option<Vec<Segment>> {
        let names = Names { variables: &self.variables, region: &self.region, lenient: !self.strict };
        let mut segments = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let tag = match piece {
                Piece::Text(text) => {
                    segments.push(Segment::Literal(text.clone()));
                    continue;
                }
                Piece::Tag(tag) if tag.kind == Kind::Output => tag,
                Piece::Tag(_) => return None,
            };
            let (source, filters, form) = expression::scan(tag.inside(), form, &names)?;
            let slot = Slot { source, filters, form, is_needed: false, origin: tag.origin.clone() };
            let index = self.slots.iter().position(|known| known.is_same(&slot)).unwrap_or_else(|| {
                self.slots.push(slot);
                self.slots.len() - 1
            });
            segments.push(Segment::Slot(index));
        }
        Some(segments)
    }

    /// File, line and reason of an error, as a person knows them.
    fn told(&self, template: &Template, error: &minijinja::Error) -> (String, usize, String) {
        let error = innermost(error);
        let name = error.name().unwrap_or(&template.key);
        let line = error.line().unwrap_or(1);
        let reason = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        let at = error.range().map(|range| range.start);
        match self.wholes.get(name) {
            Some(whole) => match whole.origin(line, at) {
                Some(origin) => (origin.file.to_string(), origin.line, reason),
                None => (template.name.clone(), line, reason),
            },
            None => (file_of(name).to_owned(), line, reason),
        }
    }

    fn content_error(&self, template: &Template, error: &minijinja::Error) -> ContentError {
        let (template, line, reason) = self.told(template, error);
        ContentError::Template { template, line, reason }
    }
}

/// The key of the HTML part; files it loads are `html/…`, and escaped like it.
pub(super) const HTML: &str = "html";
const OTHER: &str = "text";

fn file_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, file)| file)
}

fn environment(strict: bool, folder: Option<&Folder>, region: &Region) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_debug(true);
    environment.set_keep_trailing_newline(true);
    let is_html = |key: &str| key.split('/').next() == Some(HTML);
    environment
        .set_auto_escape_callback(move |key| if is_html(key) { AutoEscape::Html } else { AutoEscape::None });
    environment.set_undefined_behavior(if strict {
        UndefinedBehavior::Strict
    } else {
        UndefinedBehavior::Lenient
    });
    environment.set_path_join_callback(move |name, parent| {
        format!("{}/{name}", if is_html(parent) { HTML } else { OTHER }).into()
    });
    if let Some(folder) = folder.cloned() {
        environment.set_loader(move |key| match folder.template(file_of(key)) {
            Ok(text) => Ok(Some(slots::lines_normal(&text).into_owned())),
            Err(super::folder::FolderError::Missing(_)) => Ok(None),
            Err(error) => Err(minijinja::Error::new(ErrorKind::TemplateNotFound, error.to_string())),
        });
    }
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("urlencode", |text: String| slots::url_encode(&text));
    environment.add_filter("title", |text: String| slots::title(&text));
    for name in filters::NAMES {
        let region = region.clone();
        environment.add_filter(name, move |value: &Value, arguments: Rest<Value>| {
            format(name, value, &arguments, &region, !strict)
        });
    }
    environment
}

/// A filter of [`filters`] as minijinja calls it.
fn format(
    name: &str,
    value: &Value,
    given: &[Value],
    region: &Region,
    lenient: bool,
) -> Result<String, minijinja::Error> {
    let refuse = |reason: String| minijinja::Error::new(ErrorKind::InvalidOperation, reason);
    if value.is_undefined() && !lenient {
        return Err(ErrorKind::UndefinedError.into());
    }
    let mut arguments = Arguments::default();
    for value in given {
        if value.is_kwargs() {
            let named = Kwargs::try_from(value.clone())?;
            for key in named.args() {
                let value: Value = named.get(key)?;
                arguments.named.push((key.to_owned(), value.to_string()));
            }
        } else {
            arguments.plain.push(value.to_string());
        }
    }
    let format = Format::new(name, &arguments, region, lenient).map_err(refuse)?;
    format.apply(&value.to_string()).map_err(refuse)
}

/// The error that caused the others.
fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let mut found = error;
    while let Some(cause) = std::error::Error::source(found).and_then(|cause| cause.downcast_ref()) {
        found = cause;
    }
    found
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

/// Calls with a recipient whose every field and token is `probe`.
fn with_probe<T>(probe: &str, fields: usize, mut call: impl FnMut(&Merge<'_>, Beside<'_>) -> T) -> T {
    let address = AddressRef::parse("probe@probe.test").expect("a plain address");
    let made = vec![probe.to_owned(); fields];
    let fields = vec![probe; fields];
    let merge = Merge { recipient: RecipientId::new(0, 0), address: &address, fields: &fields };
    call(&merge, Beside { address: "probe@probe.test", made: &made })
}
