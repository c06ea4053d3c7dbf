//! A recipient list, opened: its format found, its columns known, its rows read one by one.
//!
//! CSV and NDJSON, plain, .gz or .zst, from a file or standard input (`stream`); the formats themselves
//! are in `csv` and `ndjson`. Knows neither duplicates nor suppression; a row it gives may be refused.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Address;
use crate::campaign::csv::CsvRecords;
use crate::campaign::ndjson::{NdjsonRecords, keys_of};
use crate::campaign::row::{Layout, NO_FIELD, Row};
use crate::campaign::segment::Columns;
use crate::campaign::stream::{Next, Stream};

/// How long opening waits at a time for the first octets; there is nothing else to do meanwhile.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListFormat {
    Csv,
    Ndjson,
}

/// Where a list is and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSource {
    /// `-` stands for standard input.
    pub file: PathBuf,
    /// `None`: by extension (`.csv`, `.ndjson`, `.jsonl`, `.json`), else by the first octet.
    pub format: Option<ListFormat>,
    /// Between the fields of a CSV file; ASCII.
    pub delimiter: u8,
    /// The column that holds the address, or the key of an object.
    pub address_column: String,
    /// Template variable and column in the file. Empty: every column of the file (of NDJSON, every key
    /// of the first object) under its own name, made an identifier.
    pub columns: Vec<(String, String)>,
}

impl ListSource {
    /// A comma-separated or NDJSON file with an `email` column, every column a variable.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            format: None,
            delimiter: b',',
            address_column: "email".into(),
            columns: Vec::new(),
        }
    }

    fn format_by_extension(&self) -> Option<ListFormat> {
        let extension = |path: &Path| path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        let mut path = self.file.clone();
        if matches!(extension(&path).as_deref(), Some("gz" | "zst")) {
            path.set_extension("");
        }
        match extension(&path).as_deref() {
            Some("csv" | "tsv") => Some(ListFormat::Csv),
            Some("ndjson" | "jsonl" | "json") => Some(ListFormat::Ndjson),
            _ => None,
        }
    }
}

/// Why a list cannot be read (a single bad row is none of these).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    #[error("cannot open the list {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read the list {} past row {row}: {source}", path.display())]
    Read { path: PathBuf, row: u64, source: io::Error },
    #[error("the list {} is empty: not even a header line", path.display())]
    Empty { path: PathBuf },
    #[error("the header of the list {} cannot be read: {what}", path.display())]
    Header { path: PathBuf, what: String },
    #[error("the list {} has no column {column:?}; it has {}", path.display(), found.join(", "))]
    NoColumn { path: PathBuf, column: String, found: Vec<String> },
    #[error("the list {} is UTF-16; save it as UTF-8", path.display())]
    Utf16 { path: PathBuf },
    #[error("a delimiter of the list must be one ASCII character, no quote and no line end")]
    Delimiter,
}

#[derive(Debug)]
enum Records {
    Csv(CsvRecords),
    Ndjson(NdjsonRecords),
}

impl Records {
    fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        match self {
            Self::Csv(csv) => csv.feed(input),
            Self::Ndjson(ndjson) => ndjson.feed(input),
        }
    }

    fn finish(&mut self) -> bool {
        match self {
            Self::Csv(csv) => csv.finish(),
            Self::Ndjson(ndjson) => ndjson.finish(),
        }
    }
}

/// What comes next of a list.
#[derive(Debug)]
pub enum Step<'a> {
    Row(Row<'a>),
    /// No row has come in the time given; ask again.
    Waiting,
    End,
}

/// [`Step`], the row apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advance {
    Row,
    Waiting,
    End,
}

/// A list being read, from its first row on.
#[derive(Debug)]
pub struct List {
    path: PathBuf,
    stream: Stream,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    records: Records,
    layout: Layout,
    columns: Columns,
    rows: u64,
    /// Octets of the list fed so far, with what has come of a row that is not whole yet.
    fed: u64,
    /// The same at the end of the last row given.
    position: u64,
}

impl List {
    /// Opens the list and reads its header. `input` is read in place of the file if given; without it,
    /// `-` is standard input.
    ///
    /// # Errors
    /// A list that cannot be opened or decompressed, has no header or lacks a column asked for.
    pub fn open(source: &ListSource, input: Option<Box<dyn Read + Send>>) -> Result<Self, ListError> {
        if !source.delimiter.is_ascii() || b"\"\r\n".contains(&source.delimiter) {
            return Err(ListError::Delimiter);
        }
        let path = source.file.clone();
        let input = match input {
            None if path.as_os_str() == "-" => Some(Box::new(io::stdin()) as Box<dyn Read + Send>),
            input => input,
        };
        let stream = Stream::open(&path, input)
            .map_err(|error| ListError::Open { path: path.clone(), source: error })?;
        let mut list = Self {
            path,
            stream,
            piece: Vec::new(),
            at: 0,
            ended: false,
            records: Records::Csv(CsvRecords::new(source.delimiter)),
            layout: Layout::default(),
            columns: Columns::default(),
            rows: 0,
            fed: 0,
            position: 0,
        };
        list.skip_byte_order_mark()?;
        let format = source.format.or_else(|| source.format_by_extension());
        match format.unwrap_or_else(|| list.format_by_content()) {
            ListFormat::Csv => list.read_csv_header(source)?,
            ListFormat::Ndjson => list.read_first_keys(source)?,
        }
        Ok(list)
    }

    /// Names of the fields each row will have.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Rows given so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Octets of the list, decompressed, that made the rows given so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Octets read of the file, and its length when it has one: how far a person will say it has come.
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.stream.read_octets(), self.stream.len)
    }

    /// The next row, waiting for it at most `wait`.
    ///
    /// # Errors
    /// The list cannot be read further.
    pub fn next(&mut self, wait: Duration) -> Result<Step<'_>, ListError> {
        Ok(match self.advance(wait)? {
            Advance::Row => Step::Row(self.row()),
            Advance::Waiting => Step::Waiting,
            Advance::End => Step::End,
        })
    }

    /// As [`Self::next`]; the row is then [`Self::row`].
    pub(crate) fn advance(&mut self, wait: Duration) -> Result<Advance, ListError> {
        loop {
            let (taken, is_row) = self.records.feed(&self.piece[self.at..]);
            self.at += taken;
            self.fed += taken as u64;
            // The end may have been seen when the list was opened, with its last row still to come.
            if is_row || (self.ended && self.records.finish()) {
                self.rows += 1;
                self.position = self.fed;
                return Ok(Advance::Row);
            }
            if self.ended {
                return Ok(Advance::End);
            }
            if !self.fill(wait)? {
                return Ok(Advance::Waiting);
            }
        }
    }

    /// Gives its rows the fields of these columns instead of its own; those it does not have are empty.
    /// [`Self::columns`] then has its other columns behind these, for a `where` to ask for.
    pub(crate) fn fit(&mut self, columns: &Columns) {
        let mut names = columns.names().to_vec();
        names.extend(self.columns.names().iter().filter(|name| columns.index(name).is_none()).cloned());
        let own = |name: &String| self.columns.index(name).map_or(NO_FIELD, |at| self.layout.columns[at]);
        self.layout.columns = names.iter().map(own).collect();
        self.layout.given = columns.len();
        self.columns = Columns::new(names);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last row given.
    pub(crate) fn row(&self) -> Row<'_> {
        let buffer = match &self.records {
            Records::Csv(csv) => &csv.row,
            Records::Ndjson(ndjson) => &ndjson.row,
        };
        Row { number: self.rows, list: 0, list_row: self.rows, buffer, layout: &self.layout }
    }

    /// Gets the next piece in place of the used one; false when none has come in time.
    fn fill(&mut self, wait: Duration) -> Result<bool, ListError> {
        debug_assert!(self.at == self.piece.len());
        let next = self.stream.next(wait).map_err(|source| ListError::Read {
            path: self.path.clone(),
            row: self.rows,
            source,
        })?;
        match next {
            Next::Piece(piece) => {
                self.stream.give_back(std::mem::replace(&mut self.piece, piece));
                self.at = 0;
            }
            Next::Nothing => return Ok(false),
            Next::End => self.ended = true,
        }
        Ok(true)
    }

    /// Appends the next piece to what is there, for looking ahead.
    fn look_further(&mut self) -> Result<(), ListError> {
        let seen = std::mem::take(&mut self.piece);
        let at = std::mem::replace(&mut self.at, 0);
        while !self.fill(PATIENCE)? {}
        let further = std::mem::replace(&mut self.piece, seen);
        if !self.ended {
            self.piece.extend_from_slice(&further);
        }
        self.at = at;
        Ok(())
    }

    fn skip_byte_order_mark(&mut self) -> Result<(), ListError> {
        while self.piece.len() < 3 && !self.ended {
            self.look_further()?;
        }
        if self.piece.starts_with(&[0xff, 0xfe]) || self.piece.starts_with(&[0xfe, 0xff]) {
            return Err(ListError::Utf16 { path: self.path.clone() });
        }
        if self.piece.starts_with("\u{feff}".as_bytes()) {
            self.at = 3;
            self.fed = 3;
            self.position = 3;
        }
        Ok(())
    }

    fn format_by_content(&self) -> ListFormat {
        let begins_object = self.piece[self.at..].trim_ascii_start().first() == Some(&b'{');
        if begins_object { ListFormat::Ndjson } else { ListFormat::Csv }
    }

    fn read_csv_header(&mut self, source: &ListSource) -> Result<(), ListError> {
        self.records = Records::Csv(CsvRecords::new(source.delimiter));
        loop {
            match self.next(PATIENCE)? {
                Step::Row(_) => break,
                Step::Waiting => {}
                Step::End => return Err(ListError::Empty { path: self.path.clone() }),
            }
        }
        let unreadable = |what: String| ListError::Header { path: self.path.clone(), what };
        let Records::Csv(csv) = &mut self.records else { return Err(unreadable("it is not CSV".into())) };
        if let Some(flaw) = csv.row.flaw.take() {
            return Err(unreadable(flaw.to_string()));
        }
        let names = (0..csv.row.len()).map(|at| csv.row.octets(at).unwrap_or_default());
        let names = names.map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned()));
        let names: Vec<String> =
            names.collect::<Result<_, _>>().map_err(|_| unreadable("it is not UTF-8".into()))?;
        self.rows = 0;
        let wanted = wanted_columns(source, &names);
        let find = |column: &String| {
            names.iter().position(|name| name == column).ok_or_else(|| ListError::NoColumn {
                path: self.path.clone(),
                column: column.clone(),
                found: names.clone(),
            })
        };
        let address = find(&source.address_column)?;
        let columns: Vec<usize> = match source.columns.is_empty() {
            // By place, so that of two columns with one name each is its own.
            true => (0..names.len()).collect(),
            false => wanted.iter().map(|(_, column)| find(column)).collect::<Result<_, _>>()?,
        };
        self.layout = Layout { width: names.len(), address, given: columns.len(), columns };
        self.columns = Columns::new(wanted.into_iter().map(|(variable, _)| variable).collect());
        Ok(())
    }

    /// Looks at the first object when all keys are wanted; it stays to be read.
    fn read_first_keys(&mut self, source: &ListSource) -> Result<(), ListError> {
        let keys = if source.columns.is_empty() { self.first_keys()? } else { Vec::new() };
        let wanted = wanted_columns(source, &keys);
        let mut keys: Vec<String> = Vec::new();
        let mut place = |key: &String| {
            keys.iter().position(|known| known == key).unwrap_or_else(|| {
                keys.push(key.clone());
                keys.len() - 1
            })
        };
        let address = place(&source.address_column);
        let columns: Vec<usize> = wanted.iter().map(|(_, key)| place(key)).collect();
        self.layout = Layout { width: keys.len(), address, given: columns.len(), columns };
        self.columns = Columns::new(wanted.into_iter().map(|(variable, _)| variable).collect());
        self.records = Records::Ndjson(NdjsonRecords::new(keys));
        Ok(())
    }

    fn first_keys(&mut self) -> Result<Vec<String>, ListError> {
        const FIRST_LINE_OCTETS_MAX: usize = 1 << 20;
        loop {
            let rest = &self.piece[self.at..];
            let blank = rest.len() - rest.trim_ascii_start().len();
            let line = memchr::memchr(b'\n', &rest[blank..]).map(|end| &rest[blank..blank + end]);
            let line = line.or_else(|| self.ended.then_some(&rest[blank..]));
            match line {
                Some([]) => return Ok(Vec::new()),
                Some(line) => {
                    return keys_of(line).map_err(|flaw| ListError::Header {
                        path: self.path.clone(),
                        what: format!("the columns are the keys of the first object, but {flaw}"),
                    });
                }
                None if rest.len() > FIRST_LINE_OCTETS_MAX => {
                    let what = "the first line is longer than 1 MiB".into();
                    return Err(ListError::Header { path: self.path.clone(), what });
                }
                None => self.look_further()?,
            }
        }
    }
}

/// Template variable and column in the file, in order.
fn wanted_columns(source: &ListSource, names: &[String]) -> Vec<(String, String)> {
    if !source.columns.is_empty() {
        return source.columns.clone();
    }
    let mut taken = HashSet::new();
    let mut variable = |at: usize, name: &str| {
        let plain = identifier(name).unwrap_or_else(|| format!("column_{}", at + 1));
        let mut variable = plain.clone();
        let mut copies = 1;
        while !taken.insert(variable.clone()) {
            copies += 1;
            variable = format!("{plain}_{copies}");
        }
        variable
    };
    names.iter().enumerate().map(|(at, name)| (variable(at, name), name.clone())).collect()
}

/// A column's name as a template can say it; `None` when it has no letter or digit.
fn identifier(name: &str) -> Option<String> {
    let lower = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut identifier: String = name.chars().map(lower).collect();
    if !identifier.contains(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    if identifier.starts_with(|c: char| c.is_ascii_digit()) {
        identifier.insert(0, '_');
    }
    Some(identifier)
}

/// The addresses a list would be mailed to but for suppression: the good rows, each address once.
///
/// Takes 17 to 35 octets of memory an address, for it is meant for rehearsals.
///
/// # Errors
/// As [`List::open`]; an item is an error when the list cannot be read further, and the last.
pub fn addresses(
    source: &ListSource,
    input: Option<Box<dyn Read + Send>>,
) -> Result<impl Iterator<Item = Result<Address, ListError>> + use<>, ListError> {
    let mut list = Some(List::open(source, input)?);
    let mut seen = HashSet::new();
    Ok(std::iter::from_fn(move || {
        loop {
            match list.as_mut()?.next(PATIENCE) {
                Ok(Step::Row(row)) => {
                    if let Ok((address, _)) = row.read()
                        && seen.insert(address.key())
                    {
                        return Some(Ok(address.to_owned()));
                    }
                }
                Ok(Step::Waiting) => {}
                Ok(Step::End) => return None,
                Err(error) => {
                    list = None;
                    return Some(Err(error));
                }
            }
        }
    }))
}
