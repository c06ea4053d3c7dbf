//! Rows of an NDJSON list: one object a line, its values as fields.
//!
//! Strings are unescaped; numbers, true and false are taken as they are written (19.90 stays 19.90);
//! null and a missing key are empty; of a key given twice the last counts. Nested values are refused when
//! their key is asked for, and ignored otherwise, as every other key is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::campaign::row::{ROW_OCTETS_MAX, RowBuffer, RowError};

/// Octets of a line at most: every octet of a row of fields may be written as `\u00xx`.
const LINE_OCTETS_MAX: usize = 6 * ROW_OCTETS_MAX + ROW_OCTETS_MAX;

/// Splits octets into lines and reads the objects in them.
#[derive(Debug)]
pub(crate) struct NdjsonRecords {
    /// Keys wanted, in the order of the fields they become.
    keys: Vec<String>,
    line: Vec<u8>,
    line_too_long: bool,
    pub row: RowBuffer,
}

impl NdjsonRecords {
    pub(crate) fn new(keys: Vec<String>) -> Self {
        Self { keys, line: Vec::new(), line_too_long: false, row: RowBuffer::default() }
    }

    /// As [`crate::campaign::csv::CsvRecords::feed`].
    pub(crate) fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\n', &input[at..]) {
            let piece = &input[at..at + end];
            at += end + 1;
            let is_row = if self.line.is_empty() && !self.line_too_long {
                self.read(piece)
            } else {
                self.extend(piece);
                self.read_line()
            };
            if is_row {
                return (at, true);
            }
        }
        self.extend(&input[at..]);
        (input.len(), false)
    }

    pub(crate) fn finish(&mut self) -> bool {
        self.read_line()
    }

    fn extend(&mut self, piece: &[u8]) {
        self.line_too_long |= self.line.len() + piece.len() > LINE_OCTETS_MAX;
        if !self.line_too_long {
            self.line.extend_from_slice(piece);
        }
    }

    fn read_line(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.line);
        let is_row = self.line_too_long || self.read(&line);
        if std::mem::take(&mut self.line_too_long) {
            self.row.clear();
            self.row.flaw = Some(RowError::TooLong);
        }
        line.clear();
        self.line = line;
        is_row
    }

    /// Makes the row of a line; an empty line is none.
    fn read(&mut self, line: &[u8]) -> bool {
        if line.trim_ascii().is_empty() {
            return false;
        }
        self.row.clear();
        if let Err(flaw) = read_object(line, &self.keys, &mut self.row) {
            self.row.flaw = Some(flaw);
        }
        true
    }
}

/// The keys of an object in the order they are written.
pub(crate) fn keys_of(line: &[u8]) -> Result<Vec<String>, RowError> {
    let mut keys: Vec<String> = Vec::new();
    read_members(line, &mut |key, _| {
        if !keys.iter().any(|known| known == key) {
            keys.push(key.to_owned());
        }
    })?;
    Ok(keys)
}

fn read_object(line: &[u8], keys: &[String], row: &mut RowBuffer) -> Result<(), RowError> {
    let mut values: Vec<&str> = vec!["null"; keys.len()];
    read_members(line, &mut |key, value| {
        if let Some(at) = keys.iter().position(|wanted| wanted == key) {
            values[at] = value;
        }
    })?;
    let mut flaw = None;
    for (key, value) in keys.iter().zip(values) {
        match value.as_bytes().first() {
            // The quotes are all there is to take off when nothing is escaped.
            Some(b'"') if !value.contains('\\') => row.extend(&value.as_bytes()[1..value.len() - 1]),
            Some(b'"') => match serde_json::from_str::<String>(value) {
                Ok(text) => row.extend(text.as_bytes()),
                Err(error) => flaw = Some(RowError::Json(error.to_string())),
            },
            Some(b'{' | b'[') => flaw = Some(RowError::Nested(key.clone())),
            Some(b'n') | None => {}
            Some(_) => row.extend(value.as_bytes()),
        }
        row.end_field();
    }
    flaw.map_or(Ok(()), Err)
}

/// Gives `each` the keys and the values as they are written.
fn read_members<'l>(line: &'l [u8], each: &mut dyn FnMut(&str, &'l str)) -> Result<(), RowError> {
    let text = std::str::from_utf8(line).map_err(|_| RowError::NotUtf8)?;
    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(Members { each })
        .and_then(|()| json.end())
        .map_err(|error| RowError::Json(error.to_string()))
}

struct Members<'f, 'l> {
    each: &'f mut dyn FnMut(&str, &'l str),
}

impl<'l> Visitor<'l> for Members<'_, 'l> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'l>>(self, mut members: M) -> Result<(), M::Error> {
        while let Some(key) = members.next_key_seed(KeySeed)? {
            let value: &'l RawValue = members.next_value()?;
            (self.each)(&key, value.get());
        }
        Ok(())
    }
}

/// A key, borrowed unless it is written with escapes.
struct KeySeed;

impl<'l> serde::de::DeserializeSeed<'l> for KeySeed {
    type Value = Cow<'l, str>;

    fn deserialize<D: Deserializer<'l>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'l> Visitor<'l> for KeyVisitor {
    type Value = Cow<'l, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'l str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: &[u8], keys: &[&str]) -> Result<Vec<String>, RowError> {
        let mut records = NdjsonRecords::new(keys.iter().map(|&key| key.to_owned()).collect());
        let (_, is_row) = records.feed(line);
        assert!(is_row || records.finish());
        if let Some(flaw) = records.row.flaw.take() {
            return Err(flaw);
        }
        let field = |at| String::from_utf8(records.row.octets(at).unwrap().to_vec()).unwrap();
        Ok((0..records.row.len()).map(field).collect())
    }

    #[test]
    fn values_are_taken_as_written_and_strings_unescaped() {
        // RFC 8259 §7: \u00fc is ü, the pair \ud83d\ude00 is U+1F600.
        let line = br#" {"b":19.90,"a":"J\u00fcrg\n\ud83d\ude00","c":true,"d":null,"x":{"y":[1]},"e":12345678901234567890123} "#;
        let fields = row(line, &["a", "b", "c", "d", "e", "f"]).unwrap();
        assert_eq!(fields, ["J\u{fc}rg\n\u{1f600}", "19.90", "true", "", "12345678901234567890123", ""]);
    }

    #[test]
    fn of_a_key_given_twice_the_last_counts_and_escaped_keys_are_found() {
        assert_eq!(row(br#"{"a":1,"\u0061":2}"#, &["a"]).unwrap(), ["2"]);
    }

    #[test]
    fn what_is_no_flat_object_is_refused_with_a_reason() {
        assert!(matches!(row(br#"{"a":[1]}"#, &["a"]), Err(RowError::Nested(key)) if key == "a"));
        for line in
            [&br#"["a"]"#[..], b"7", b"{\"a\":1", b"{\"a\":1} x", b"{\"a\":\"\\ud800\"}", b"{\"a\":\"\n"]
        {
            assert!(matches!(row(line, &["a"]), Err(RowError::Json(_))), "{}", line.escape_ascii());
        }
        assert!(matches!(row(b"{\"a\":\"\xff\"}", &["a"]), Err(RowError::NotUtf8)));
    }

    #[test]
    fn an_endless_line_is_one_refused_row_and_little_memory() {
        let mut records = NdjsonRecords::new(vec!["a".into()]);
        for _ in 0..100 {
            records.feed(&[b'x'; 100_000]);
        }
        assert!(records.line.capacity() <= 2 * LINE_OCTETS_MAX);
        assert_eq!(records.feed(b"\n{\"a\":1}\n"), (1, true));
        assert!(matches!(records.row.flaw, Some(RowError::TooLong)));
        assert_eq!(records.feed(b"{\"a\":1}\n"), (8, true));
        assert!(records.row.flaw.is_none());
    }
}
