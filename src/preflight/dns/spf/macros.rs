//! Domain names with macros in SPF records (RFC 7208 §7): parsed, and expanded. Pure.

use std::net::IpAddr;

/// Octets of a name at most; labels are dropped from the left until it fits (§7.3).
const NAME_OCTETS_MAX: usize = 253;

/// A `domain-spec`, its syntax checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DomainSpec(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Macro(Macro),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Macro {
    /// In lower case.
    letter: char,
    /// Labels that are kept, from the right.
    keep: Option<usize>,
    reverse: bool,
    delimiters: String,
    escape: bool,
}

/// What macros stand for.
pub(super) struct Values<'a> {
    pub address: IpAddr,
    pub local: &'a str,
    pub sender_domain: &'a str,
    /// Whose record is being looked at.
    pub domain: &'a str,
    pub ehlo: &'a str,
    /// The confirmed name of the address; `None`: "unknown".
    pub validated: Option<&'a str>,
}

impl DomainSpec {
    /// # Errors
    /// A macro that is none, or a name that does not end like one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = parts(text)?;
        match parts.last() {
            None => Err("a domain name is missing".to_owned()),
            Some(Part::Macro(_)) => Ok(Self(parts)),
            Some(Part::Text(end)) if ends_in_top_label(end) => Ok(Self(parts)),
            Some(Part::Text(_)) => Err("its domain name does not end in a top-level label".to_owned()),
        }
    }

    /// Checks a text that may have macros and need not be a name.
    ///
    /// # Errors
    /// A macro that is none.
    pub fn check_macros(text: &str) -> Result<(), String> {
        parts(text).map(drop)
    }

    /// Whether the confirmed name of the address is needed.
    pub fn needs_validated(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Macro(Macro { letter: 'p', .. })))
    }

    /// The name, if it is the same for every message and source.
    pub fn fixed(&self) -> Option<String> {
        match self.0.as_slice() {
            [Part::Text(name)] => Some(name.trim_end_matches('.').to_owned()),
            _ => None,
        }
    }

    pub fn expand(&self, values: &Values<'_>) -> String {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Macro(value) => name.push_str(&value.expand(values)),
            }
        }
        let mut name = name.trim_end_matches('.');
        while name.len() > NAME_OCTETS_MAX {
            name = name.split_once('.').map_or("", |(_, rest)| rest);
        }
        name.to_owned()
    }
}

impl Macro {
    fn expand(&self, values: &Values<'_>) -> String {
        let value = match self.letter {
            's' => format!("{}@{}", values.local, values.sender_domain),
            'l' => values.local.to_owned(),
            'o' => values.sender_domain.to_owned(),
            'd' => values.domain.to_owned(),
            'i' => dotted(values.address),
            'p' => values.validated.unwrap_or("unknown").to_owned(),
            'v' => if values.address.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            _ => values.ehlo.to_owned(),
        };
        let mut pieces: Vec<&str> = value.split(|c| self.delimiters.contains(c)).collect();
        if self.reverse {
            pieces.reverse();
        }
        let dropped = self.keep.map_or(0, |keep| pieces.len().saturating_sub(keep));
        let value = pieces[dropped..].join(".");
        if self.escape { escaped(&value) } else { value }
    }
}

/// IPv6 as its 32 nibbles with dots between (§7.3).
fn dotted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
fn escaped(text: &str) -> String {
    let escape = |octet: u8| match octet {
        b'-' | b'.' | b'_' | b'~' => char::from(octet).to_string(),
        _ if octet.is_ascii_alphanumeric() => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next != '%' {
            if !('\u{21}'..='\u{7e}').contains(&next) {
                return Err("it has a character that is not visible ASCII".to_owned());
            }
            plain.push(next);
            rest = &rest[1..];
            continue;
        }
        match rest.as_bytes().get(1) {
            Some(b'%') => plain.push('%'),
            Some(b'_') => plain.push(' '),
            Some(b'-') => plain.push_str("%20"),
            Some(b'{') => {
                let end = rest.find('}').ok_or("a macro has no end")?;
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Macro(parse_macro(&rest[2..end])?));
                rest = &rest[end + 1..];
                continue;
            }
            _ => return Err("a % begins no macro".to_owned()),
        }
        rest = &rest[2..];
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// What stands between `%{` and `}`.
fn parse_macro(text: &str) -> Result<Macro, String> {
    let wrong = || format!("%{{{text}}} is no macro");
    let first = text.chars().next().ok_or_else(wrong)?;
    let letter = first.to_ascii_lowercase();
    if !"slodipvh".contains(letter) {
        return Err(wrong());
    }
    let rest = &text[1..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let keep = match &rest[..digits] {
        "" => None,
        number => Some(number.parse().ok().filter(|keep| *keep > 0).ok_or_else(wrong)?),
    };
    let rest = &rest[digits..];
    let reverse = rest.starts_with(['r', 'R']);
    let delimiters = &rest[usize::from(reverse)..];
    if !delimiters.chars().all(|c| ".-+,/_=".contains(c)) {
        return Err(wrong());
    }
    let delimiters = if delimiters.is_empty() { "." } else { delimiters }.to_owned();
    Ok(Macro { letter, keep, reverse, delimiters, escape: first.is_ascii_uppercase() })
}

/// `.example` or `.example.` at the end (§7.1: `"." toplabel [ "." ]`).
fn ends_in_top_label(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let Some((_, label)) = text.rsplit_once('.') else { return false };
    let allowed = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let edge = label.starts_with('-') || label.ends_with('-');
    !label.is_empty() && allowed && !edge && !label.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the examples in RFC 7208 §7.4.
    fn expand(text: &str, address: &str) -> String {
        let values = Values {
            address: address.parse().unwrap(),
            local: "strong-bad",
            sender_domain: "email.example.com",
            domain: "email.example.com",
            ehlo: "mx.example.org",
            validated: None,
        };
        let parts = parts(text).unwrap();
        DomainSpec(parts).expand(&values)
    }

    #[test]
    fn the_examples_of_the_rfc_expand_as_it_says() {
        for (text, expected) in [
            ("%{s}", "strong-bad@email.example.com"),
            ("%{o}", "email.example.com"),
            ("%{d}", "email.example.com"),
            ("%{d4}", "email.example.com"),
            ("%{d3}", "email.example.com"),
            ("%{d2}", "example.com"),
            ("%{d1}", "com"),
            ("%{dr}", "com.example.email"),
            ("%{d2r}", "example.email"),
            ("%{l}", "strong-bad"),
            ("%{l-}", "strong.bad"),
            ("%{lr}", "strong-bad"),
            ("%{lr-}", "bad.strong"),
            ("%{l1r-}", "strong"),
            ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
            ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
            ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
            ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        ] {
            assert_eq!(expand(text, "192.0.2.3"), expected, "{text}");
        }
        let expected = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com";
        assert_eq!(expand("%{ir}.%{v}._spf.%{d2}", "2001:db8::cb01"), expected);
    }

    #[test]
    fn capital_letters_escape_and_long_names_lose_their_first_labels() {
        assert_eq!(expand("%{S}", "192.0.2.3"), "strong-bad%40email.example.com");
        let long = format!("{}.example.com", ["a".repeat(60).as_str(); 5].join("."));
        let name = expand(&long, "192.0.2.3");
        assert!(name.len() <= NAME_OCTETS_MAX && name.ends_with("a.example.com"), "{name}");
    }

    #[test]
    fn what_is_no_macro_or_no_name_is_refused() {
        for text in [
            "%{z}.a.com",
            "%{d0}.a.com",
            "%{d",
            "%x.a.com",
            "a.com%",
            "%{c}.a.com",
            "a b.com",
            "",
            "com",
            "a.1",
            "a.-b",
            "%{d}com.",
        ] {
            assert!(DomainSpec::parse(text).is_err(), "{text}");
        }
        for text in ["a.com", "a.com.", "%{d}", "a.%{d}", "%{i}._spf.a.com", "%%.a.com"] {
            assert!(DomainSpec::parse(text).is_ok(), "{text}");
        }
    }
}
