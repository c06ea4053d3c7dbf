//! Records of a CSV list (RFC 4180) out of octets that come in pieces.
//!
//! Any of CR, LF, CRLF ends a record outside quotes, empty lines are none, a quote within an unquoted
//! field is a character: what the csv crate does, to which a property holds it. It is not that crate
//! because its records have no bound: an open quote at the top of a list would take the whole list into
//! memory.

use crate::campaign::row::{RowBuffer, RowError};

/// Where in a record the octets so far have led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeRecord,
    BeforeField,
    Plain,
    Quoted,
    /// After a quote within quotes: the end of the field, or the first half of a doubled quote.
    AfterQuote,
}

/// Splits octets into records.
#[derive(Debug)]
pub(crate) struct CsvRecords {
    delimiter: u8,
    place: Place,
    pub row: RowBuffer,
}

impl CsvRecords {
    pub(crate) fn new(delimiter: u8) -> Self {
        Self { delimiter, place: Place::BeforeRecord, row: RowBuffer::default() }
    }

    /// Takes octets up to the end of a record. Returns how many, and whether `row` now is a record.
    pub(crate) fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            match self.place {
                Place::BeforeRecord => match rest[0] {
                    b'\r' | b'\n' => at += 1,
                    _ => {
                        self.row.clear();
                        self.place = Place::BeforeField;
                    }
                },
                Place::BeforeField if rest[0] == b'"' => {
                    self.place = Place::Quoted;
                    at += 1;
                }
                Place::BeforeField => self.place = Place::Plain,
                Place::Plain => {
                    let Some(end) = memchr::memchr3(self.delimiter, b'\n', b'\r', rest) else {
                        self.row.extend(rest);
                        return (input.len(), false);
                    };
                    self.row.extend(&rest[..end]);
                    at += end + 1;
                    if self.end_field(rest[end]) {
                        return (at, true);
                    }
                }
                Place::Quoted => {
                    let Some(end) = memchr::memchr(b'"', rest) else {
                        self.row.extend(rest);
                        return (input.len(), false);
                    };
                    self.row.extend(&rest[..end]);
                    self.place = Place::AfterQuote;
                    at += end + 1;
                }
                Place::AfterQuote if rest[0] == b'"' => {
                    self.row.extend(b"\"");
                    self.place = Place::Quoted;
                    at += 1;
                }
                // The delimiter, the record's end, or text after the quotes, which is taken as it is.
                Place::AfterQuote => self.place = Place::Plain,
            }
        }
        (at, false)
    }

    /// The input has ended. Returns whether `row` is a last record, one without a line end.
    pub(crate) fn finish(&mut self) -> bool {
        let place = std::mem::replace(&mut self.place, Place::BeforeRecord);
        if place == Place::BeforeRecord {
            return false;
        }
        self.row.end_field();
        if place == Place::Quoted && self.row.flaw.is_none() {
            self.row.flaw = Some(RowError::QuoteOpen);
        }
        true
    }

    fn end_field(&mut self, by: u8) -> bool {
        self.row.end_field();
        let ends_record = by != self.delimiter;
        self.place = if ends_record { Place::BeforeRecord } else { Place::BeforeField };
        ends_record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(input: &[u8], piece: usize) -> Vec<Vec<Vec<u8>>> {
        let mut csv = CsvRecords::new(b',');
        let mut records = Vec::new();
        let fields = |csv: &CsvRecords| {
            (0..csv.row.len()).map(|field| csv.row.octets(field).unwrap().to_vec()).collect()
        };
        for mut piece in input.chunks(piece) {
            while !piece.is_empty() {
                let (taken, is_record) = csv.feed(piece);
                piece = &piece[taken..];
                if is_record {
                    records.push(fields(&csv));
                }
            }
        }
        if csv.finish() {
            records.push(fields(&csv));
        }
        records
    }

    #[test]
    fn the_examples_of_rfc_4180_read_as_it_says() {
        // RFC 4180 §2, rules 1 to 7.
        for (input, expected) in [
            ("aaa,bbb,ccc\r\nzzz,yyy,xxx\r\n", vec![vec!["aaa", "bbb", "ccc"], vec!["zzz", "yyy", "xxx"]]),
            ("aaa,bbb,ccc\r\nzzz,yyy,xxx", vec![vec!["aaa", "bbb", "ccc"], vec!["zzz", "yyy", "xxx"]]),
            ("\"aaa\",\"b\r\nbb\",\"ccc\"\r\nzzz", vec![vec!["aaa", "b\r\nbb", "ccc"], vec!["zzz"]]),
            ("\"aaa\",\"b\"\"bb\",\"ccc\"", vec![vec!["aaa", "b\"bb", "ccc"]]),
        ] {
            let expected: Vec<Vec<Vec<u8>>> = expected
                .iter()
                .map(|record| record.iter().map(|field| field.as_bytes().to_vec()).collect())
                .collect();
            assert_eq!(records(input.as_bytes(), 1), expected);
            assert_eq!(records(input.as_bytes(), 1000), expected);
        }
    }

    #[test]
    fn a_quote_left_open_does_not_take_the_list_into_memory() {
        let mut csv = CsvRecords::new(b',');
        csv.feed(b"ann@example.test,\"");
        for _ in 0..100 {
            assert_eq!(csv.feed(&[b'x'; 100_000]), (100_000, false));
        }
        assert_eq!(csv.feed(b"\"\nbob@example.test,b\n"), (2, true));
        assert!(matches!(csv.row.flaw, Some(RowError::TooLong)));
        assert_eq!(csv.row.octets(0), Some(&b"ann@example.test"[..]));
        assert_eq!(csv.feed(b"bob@example.test,b\n"), (19, true));
        assert!(csv.row.flaw.is_none());
    }

    proptest! {
        #[test]
        fn any_octets_in_any_pieces_read_as_the_csv_crate_reads_them(
            input in prop::collection::vec(prop::sample::select(&b"a,\"\r\n\0\xff"[..]), 0..60),
            piece in 1usize..20,
        ) {
            let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&input[..]);
            let expected: Vec<Vec<Vec<u8>>> = reader
                .byte_records()
                .map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect())
                .collect();
            prop_assert_eq!(records(&input, piece), expected);
        }
    }
}
