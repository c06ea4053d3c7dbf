//! Lists of `tag=value` as DKIM, DMARC, MTA-STS and TLS-RPT records have them (RFC 6376 §3.2).

/// The tags in order, names in lower case, without blanks around names and values.
///
/// # Errors
/// A piece without `=`, with no name, or a tag that comes twice.
pub(super) fn tags(text: &str) -> Result<Vec<(String, &str)>, String> {
    let mut tags: Vec<(String, &str)> = Vec::new();
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    for piece in text.split(';') {
        let piece = piece.trim_matches(blank);
        if piece.is_empty() {
            continue;
        }
        let (name, value) = piece.split_once('=').ok_or_else(|| format!("`{piece}` has no ="))?;
        let name = name.trim_matches(blank).to_ascii_lowercase();
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("`{piece}` has no tag name"));
        }
        if tags.iter().any(|(known, _)| *known == name) {
            return Err(format!("the tag {name}= comes twice"));
        }
        tags.push((name, value.trim_matches(blank)));
    }
    Ok(tags)
}

/// The value of a tag.
pub(super) fn tag<'a>(tags: &[(String, &'a str)], name: &str) -> Option<&'a str> {
    tags.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

/// Whether it begins with the tag `v` of exactly this value.
pub(super) fn is_version(text: &str, version: &str) -> bool {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let Some((name, rest)) = text.split_once('=') else { return false };
    let value = rest.split(';').next().unwrap_or_default();
    name.trim_matches(blank).eq_ignore_ascii_case("v") && value.trim_matches(blank) == version
}
