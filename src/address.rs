//! Addresses and domains, parsed once and trusted from then on.
//!
//! `Domain` is an A-label domain in lower case; `AddressRef` borrows from the row it was read in
//! (the import makes half a million a second), `Address` owns. Neither can hold CR, LF, NUL or any
//! other octet that would end a command (RFC 5321 §4.1.2, RFC 6531 §3.3). Knows nothing else.

use std::borrow::Cow;
use std::fmt;

/// Octets of a local part at most (RFC 5321 §4.5.3.1.1).
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// Octets of a domain at most, as written without the trailing dot (RFC 1035 §2.3.4).
pub const DOMAIN_OCTETS_MAX: usize = 253;

/// Why a text is not an address that mail can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    #[error("the address is empty")]
    Empty,
    #[error("no @ between local part and domain")]
    NoAt,
    #[error("the local part (before @) is empty")]
    LocalPartEmpty,
    #[error("the local part (before @) is longer than 64 octets")]
    LocalPartTooLong,
    #[error("the local part (before @) has a character that must be quoted or is not allowed")]
    LocalPartCharacter,
    #[error("the domain (after @) is empty")]
    DomainEmpty,
    #[error("the domain (after @) is longer than 253 octets")]
    DomainTooLong,
    #[error("the domain (after @) has a label that is empty, too long or has a bad character")]
    DomainLabel,
    #[error("the domain (after @) is a single label or a number, no public mail domain")]
    DomainNotQualified,
    #[error("address literals like user@[192.0.2.1] are not mailed")]
    DomainLiteral,
}

/// A mail domain: lower-case A-labels, two or more, no trailing dot, at most 253 octets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Box<str>);

impl Domain {
    /// Parses a domain name, turning U-labels into A-labels (UTS 46, non-transitional).
    ///
    /// # Errors
    /// An empty, over-long or malformed name; a single label; an all-numeric last label.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Ok(Self(domain_normal(text)?.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `name` is `domain` or below it; both in the same case, without a dot at the end.
pub fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A parsed address that borrows from the text it was read in where it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRef<'a> {
    local: Cow<'a, str>,
    domain: Cow<'a, str>,
}

impl<'a> AddressRef<'a> {
    /// Parses `local@domain`, without display name or angle brackets; blanks around it are dropped.
    ///
    /// A quoted local part keeps its quotes unless its content needs none (RFC 5321 §4.1.2);
    /// non-ASCII local parts are taken as they are (RFC 6531 §3.3) and then need SMTPUTF8.
    ///
    /// # Errors
    /// What is wrong, as a reason to print beside the row.
    pub fn parse(text: &'a str) -> Result<Self, AddressError> {
        let text = text.trim_matches([' ', '\t']);
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let at = memchr::memrchr(b'@', text.as_bytes()).ok_or(AddressError::NoAt)?;
        let local = local_normal(&text[..at])?;
        let domain = domain_normal(&text[at + 1..])?;
        Ok(Self { local, domain })
    }

    /// Takes back what `parse` produced and a segment kept, checking only what keeps the wire safe.
    ///
    /// # Errors
    /// When either part is empty or holds an octet that could end a command.
    pub fn from_stored(local: &'a str, domain: &'a str) -> Result<Self, AddressError> {
        let safe = |text: &str| text.bytes().all(|b| b >= b' ' && b != 0x7f);
        if local.is_empty() || !safe(local) {
            return Err(AddressError::LocalPartCharacter);
        }
        if domain.is_empty() || !domain.bytes().all(is_domain_octet) {
            return Err(AddressError::DomainLabel);
        }
        Ok(Self { local: Cow::Borrowed(local), domain: Cow::Borrowed(domain) })
    }

    pub fn local(&self) -> &str {
        &self.local
    }

    /// Lower-case A-labels.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether the peer must offer SMTPUTF8 (RFC 6531 §3.4).
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }

    pub fn to_owned(&self) -> Address {
        Address { local: self.local.as_ref().into(), domain: Domain(self.domain.as_ref().into()) }
    }

    /// 128 bits that stand for the address in duplicate and suppression sets.
    ///
    /// The local part counts without regard to ASCII case: no large provider tells `Ann@` from
    /// `ann@`, and one person must not get two copies.
    pub fn key(&self) -> u128 {
        address_key(&self.local, &self.domain)
    }
}

impl fmt::Display for AddressRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// An address that owns its text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    local: Box<str>,
    domain: Domain,
}

impl Address {
    /// See [`AddressRef::parse`].
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        AddressRef::parse(text).map(|address| address.to_owned())
    }

    pub fn local(&self) -> &str {
        &self.local
    }

    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    pub fn as_ref(&self) -> AddressRef<'_> {
        AddressRef { local: Cow::Borrowed(&self.local), domain: Cow::Borrowed(&self.domain.0) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// See [`AddressRef::key`]; for parts that were parsed before.
pub fn address_key(local: &str, domain: &str) -> u128 {
    let mut buffer = [0u8; LOCAL_PART_OCTETS_MAX * 2 + DOMAIN_OCTETS_MAX + 3];
    let (local, domain) = (local.as_bytes(), domain.as_bytes());
    let end = local.len() + 1 + domain.len();
    let Some(space) = buffer.get_mut(..end) else {
        return xxhash_rust::xxh3::xxh3_128(&[local, b"@", domain].concat());
    };
    space[..local.len()].copy_from_slice(local);
    space[..local.len()].make_ascii_lowercase();
    space[local.len()] = b'@';
    space[local.len() + 1..].copy_from_slice(domain);
    xxhash_rust::xxh3::xxh3_128(space)
}

fn local_normal(local: &str) -> Result<Cow<'_, str>, AddressError> {
    if local.is_empty() {
        return Err(AddressError::LocalPartEmpty);
    }
    if let Some(inner) = local.strip_prefix('"') {
        return unquoted(inner.strip_suffix('"').ok_or(AddressError::LocalPartCharacter)?);
    }
    if local.len() > LOCAL_PART_OCTETS_MAX {
        return Err(AddressError::LocalPartTooLong);
    }
    if is_dot_string(local) { Ok(Cow::Borrowed(local)) } else { Err(AddressError::LocalPartCharacter) }
}

/// A quoted local part, with the quotes only if the content needs them.
fn unquoted(inner: &str) -> Result<Cow<'_, str>, AddressError> {
    let mut content = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '\\' => characters.next().ok_or(AddressError::LocalPartCharacter)?,
            '"' => return Err(AddressError::LocalPartCharacter),
            other => other,
        };
        if character.is_control() {
            return Err(AddressError::LocalPartCharacter);
        }
        content.push(character);
    }
    if content.is_empty() {
        return Err(AddressError::LocalPartEmpty);
    }
    if !is_dot_string(&content) {
        content = format!("\"{}\"", content.replace('\\', "\\\\").replace('"', "\\\""));
    }
    if content.len() > LOCAL_PART_OCTETS_MAX {
        return Err(AddressError::LocalPartTooLong);
    }
    Ok(Cow::Owned(content))
}

/// Dot-string of RFC 5321 §4.1.2 with the UTF-8 atoms of RFC 6531 §3.3.
fn is_dot_string(text: &str) -> bool {
    let mut dot_before = true;
    for byte in text.bytes() {
        if byte == b'.' {
            if dot_before {
                return false;
            }
            dot_before = true;
        } else {
            if !ATEXT[byte as usize] {
                return false;
            }
            dot_before = false;
        }
    }
    // C1 controls, and separators that a peer might take for a line end, are two octets or more.
    !dot_before && (text.is_ascii() || !text.chars().any(|c| c.is_control() || c.is_whitespace()))
}

const ATEXT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || byte >= 0x80;
        byte += 1;
    }
    let specials = b"!#$%&'*+-/=?^_`{|}~";
    let mut i = 0;
    while i < specials.len() {
        table[specials[i] as usize] = true;
        i += 1;
    }
    table
};

fn is_domain_octet(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.' || byte == b'_'
}

fn domain_normal(text: &str) -> Result<Cow<'_, str>, AddressError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(AddressError::DomainEmpty);
    }
    if text.starts_with('[') {
        return Err(AddressError::DomainLiteral);
    }
    let plain = text.bytes().all(is_domain_octet) && !text.contains("xn--");
    let name = if plain {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(
            idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::STD3)
                .map_err(|_| AddressError::DomainLabel)?
                .into_owned(),
        )
    };
    check_labels(&name)?;
    Ok(name)
}

fn check_labels(name: &str) -> Result<(), AddressError> {
    if name.len() > DOMAIN_OCTETS_MAX {
        return Err(AddressError::DomainTooLong);
    }
    let mut labels = 0;
    let mut last = "";
    for label in name.split('.') {
        let bytes = label.as_bytes();
        if bytes.is_empty() || bytes.len() > 63 || bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-' {
            return Err(AddressError::DomainLabel);
        }
        labels += 1;
        last = label;
    }
    if labels < 2 || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::DomainNotQualified);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_domain_holds_itself_and_what_is_below() {
        for name in ["sender.test", "news.sender.test", "a.b.sender.test"] {
            assert!(is_within(name, "sender.test"), "{name}");
        }
        for name in ["xsender.test", "test", "sender.test.other", ""] {
            assert!(!is_within(name, "sender.test"), "{name}");
        }
    }

    #[test]
    fn domains_become_lower_case_a_labels() {
        // RFC 5891 and the IDNA test names of RFC 3492 §7.1 style.
        for (written, expected) in [
            ("ann@Example.TEST", "ann@example.test"),
            ("ann@bücher.example", "ann@xn--bcher-kva.example"),
            ("ann@example.test.", "ann@example.test"),
            ("  ann@example.test ", "ann@example.test"),
            ("\"ann\"@example.test", "ann@example.test"),
            ("\"ann b\"@example.test", "\"ann b\"@example.test"),
            ("\"a@b\"@example.test", "\"a@b\"@example.test"),
            ("jörg@example.test", "jörg@example.test"),
        ] {
            assert_eq!(Address::parse(written).unwrap().to_string(), expected, "{written}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        use AddressError::*;
        let long_local = format!("{}@example.test", "a".repeat(65));
        let long_domain = format!("a@{}test", "abcdefg.".repeat(32));
        for (written, expected) in [
            ("", Empty),
            ("ann", NoAt),
            ("@example.test", LocalPartEmpty),
            (&long_local, LocalPartTooLong),
            ("ann bell@example.test", LocalPartCharacter),
            ("ann..bell@example.test", LocalPartCharacter),
            (".ann@example.test", LocalPartCharacter),
            ("ann\r\nRCPT TO:<x@example.test>@example.test", LocalPartCharacter),
            ("\"ann\r\n\"@example.test", LocalPartCharacter),
            ("a\u{85}b@example.test", LocalPartCharacter),
            ("<ann@example.test>", LocalPartCharacter),
            ("ann@", DomainEmpty),
            (&long_domain, DomainTooLong),
            ("ann@exa mple.test", DomainLabel),
            ("ann@example..test", DomainLabel),
            ("ann@-example.test", DomainLabel),
            ("ann@example.test\r\nDATA", DomainLabel),
            ("ann@localhost", DomainNotQualified),
            ("ann@192.0.2.1", DomainNotQualified),
            ("ann@[192.0.2.1]", DomainLiteral),
        ] {
            assert_eq!(Address::parse(written), Err(expected), "{written:?}");
        }
    }

    #[test]
    fn one_person_has_one_key() {
        let key = |text: &str| Address::parse(text).unwrap().as_ref().key();
        assert_eq!(key("Ann@Example.test"), key("ann@example.TEST"));
        assert_eq!(key("\"ann\"@example.test"), key("ann@example.test"));
        assert_ne!(key("ann@example.test"), key("anne@example.test"));
    }

    proptest! {
        #[test]
        fn no_text_parses_into_something_that_ends_a_command(text in "\\PC{0,20}[\r\n\0 <>@]{0,3}\\PC{0,20}@[a-z\r\n .<>]{1,20}") {
            if let Ok(address) = Address::parse(&text) {
                let written = address.to_string();
                prop_assert!(!written.contains(['\r', '\n', '\0']));
                let again = Address::parse(&written).unwrap();
                prop_assert_eq!(again, address);
            }
        }
    }
}
