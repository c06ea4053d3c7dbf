//! Whatever stands in another mailer's files: no panic, and what is written passes our own checks.
#![no_main]

use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use postroad::classify::Rules;
use postroad::convert::{Converted, kumomta, powermta};
use postroad::shaping::Tables;

fn check(converted: &Converted) {
    let read = Rules::read(&[(Path::new("replies.toml"), &converted.replies)]);
    assert!(read.is_ok(), "{read:?}\n{}", converted.replies);
    let mut tables = Tables::shipped();
    tables.lay(Tables::read(Path::new("shaping.toml"), &converted.shaping, None).expect("limits that read"));
    assert_eq!(tables.check(None), Ok(()), "{}", converted.shaping);
    converted.settings.parse::<toml::Table>().expect("settings that read");
}

fuzz_target!(|text: &str| {
    let file = Path::new("fuzzed");
    if let Ok(converted) = kumomta(&[(file, text)], &[]) {
        check(&converted);
    }
    if let Ok(converted) = kumomta(&[], &[(file, text)]) {
        check(&converted);
    }
    let mut open = |_: &Path| Err(io::ErrorKind::NotFound.into());
    check(&powermta(file, text, &mut open));
});
