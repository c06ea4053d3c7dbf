//! The record that publishes a key, as a line of a zone file.

/// Octets of one string of a TXT record at most (RFC 1035 §3.3); verifiers put the strings together as they
/// are (RFC 6376 §3.6.2.2).
const STRING_MAX: usize = 255;

/// `name. IN TXT ( "…" "…" )` for a value of ASCII without quotes and backslashes, as records of keys are.
pub fn zone_line(name: &str, value: &str) -> String {
    debug_assert!(value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\'));
    let strings: Vec<String> = value
        .as_bytes()
        .chunks(STRING_MAX)
        .map(|part| format!("\"{}\"", String::from_utf8_lossy(part)))
        .collect();
    match strings.as_slice() {
        [one] => format!("{name}. IN TXT {one}"),
        several => format!("{name}. IN TXT ( {} )", several.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_stands_in_strings_of_255_octets_at_most() {
        assert_eq!(
            zone_line("s._domainkey.a.test", "v=DKIM1; p=x"),
            "s._domainkey.a.test. IN TXT \"v=DKIM1; p=x\""
        );
        let value = "0123456789".repeat(60);
        let line = zone_line("a.test", &value);
        let strings: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        assert_eq!(strings.iter().map(|string| string.len()).collect::<Vec<_>>(), [255, 255, 90]);
        assert_eq!(strings.concat(), value);
        assert!(line.starts_with("a.test. IN TXT ( \"") && line.ends_with("\" )"), "{line}");
    }
}
