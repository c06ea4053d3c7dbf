//! Whatever stands in a journal file: an error or lines, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut rest = octets;
    while let Ok(Some((_, _, length))) = postroad::journal::decode(rest) {
        rest = &rest[length..];
    }
});
