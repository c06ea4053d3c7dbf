//! Whatever a list holds, as CSV and as NDJSON: rows or reasons, never a panic, and no address that could
//! end a command.
#![no_main]

use std::io::Cursor;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use postroad::campaign::list::{List, ListFormat, ListSource, Step};

fuzz_target!(|octets: &[u8]| {
    for (format, head) in [(ListFormat::Csv, &b"email,name\n"[..]), (ListFormat::Ndjson, &b"{\"email\":\"a@b.test\"}\n"[..])] {
        let source = ListSource { format: Some(format), ..ListSource::new("-") };
        let input = [head, octets].concat();
        let Ok(mut list) = List::open(&source, Some(Box::new(Cursor::new(input)))) else { continue };
        loop {
            match list.next(Duration::from_secs(5)) {
                Ok(Step::Row(row)) => {
                    if let Ok((address, _)) = row.read() {
                        assert!(!address.to_string().contains(['\r', '\n', '\0']));
                    }
                }
                Ok(Step::Waiting) => {}
                Ok(Step::End) | Err(_) => break,
            }
        }
    }
});
