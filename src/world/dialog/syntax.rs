//! How replies are laid out in lines and paths are found in commands (RFC 5321 §4.2.1, §4.1.2).

/// Writes `code-line` for all lines but the last, `code line` for that; codes already there are kept.
pub(super) fn format_reply(text: &str, multiline: bool, out: &mut String) {
    let code = text.get(..3).unwrap_or("451");
    let mut lines = text.split('\n').map(|line| {
        let line = line.strip_prefix(code).unwrap_or(line);
        line.strip_prefix(['-', ' ']).unwrap_or(line)
    });
    let mut current = lines.next().unwrap_or("");
    let repeated = (multiline && !text.contains('\n')).then_some(current);
    for next in repeated.into_iter().chain(lines) {
        out.extend([code, "-", current, "\r\n"]);
        current = next;
    }
    out.extend([code, " ", current, "\r\n"]);
}

/// The path and the parameters behind `FROM:` or `TO:`.
pub(super) fn path<'l>(rest: &'l str, keyword: &str) -> Option<(&'l str, &'l str)> {
    let head = rest.get(..keyword.len())?;
    let inner = rest[keyword.len()..].trim_start().strip_prefix('<')?;
    let mut quoted = false;
    let mut escaped = false;
    let end = inner.bytes().position(|octet| {
        let ends = octet == b'>' && !quoted;
        quoted ^= octet == b'"' && !escaped;
        escaped = octet == b'\\' && quoted && !escaped;
        ends
    })?;
    head.eq_ignore_ascii_case(keyword).then(|| (&inner[..end], inner[end + 1..].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_hold_a_quoted_bracket() {
        assert_eq!(path("TO:<\"a>b\"@x.test> NOTIFY=NEVER", "TO:"), Some(("\"a>b\"@x.test", "NOTIFY=NEVER")));
        assert_eq!(path("from:<>", "FROM:"), Some(("", "")));
        assert_eq!(path("TO:a@x.test", "TO:"), None);
    }

    #[test]
    fn every_line_of_a_reply_has_its_code() {
        let formatted = |text, multiline| {
            let mut out = String::new();
            format_reply(text, multiline, &mut out);
            out
        };
        assert_eq!(formatted("250 a\nb\nc", false), "250-a\r\n250-b\r\n250 c\r\n");
        assert_eq!(formatted("550-5.1.1 a\n550 5.1.1 b", false), "550-5.1.1 a\r\n550 5.1.1 b\r\n");
        assert_eq!(formatted("354 go", true), "354-go\r\n354 go\r\n");
        assert_eq!(formatted("354 go", false), "354 go\r\n");
    }
}
