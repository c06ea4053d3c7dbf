//! An SPF record taken apart (RFC 7208 §4.5, §4.6, §5, §6, §12). Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::macros::DomainSpec;

/// What a mechanism that matches means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

/// Leading bits that count, of IPv4 and of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits {
    pub v4: u8,
    pub v6: u8,
}

/// What a source is compared with; no domain means the one whose record this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mechanism {
    All,
    Include(DomainSpec),
    A(Option<DomainSpec>, Bits),
    Mx(Option<DomainSpec>, Bits),
    Ptr(Option<DomainSpec>),
    Ip4(Ipv4Addr, u8),
    Ip6(Ipv6Addr, u8),
    Exists(DomainSpec),
}

impl Mechanism {
    /// Whether it counts against the limit of look-ups (§4.6.4).
    pub fn asks(&self) -> bool {
        !matches!(self, Self::All | Self::Ip4(..) | Self::Ip6(..))
    }
}

/// A domain's SPF record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub directives: Vec<(Qualifier, Mechanism)>,
    pub redirect: Option<DomainSpec>,
}

/// Whether a TXT record is an SPF record at all (§4.5).
pub(super) fn is_spf(text: &str) -> bool {
    let head = text.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("v=spf1"));
    head && (text.len() == 6 || text.as_bytes()[6] == b' ')
}

impl Record {
    /// Parses what [`is_spf`] says yes to.
    ///
    /// # Errors
    /// The first term that is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_ascii() {
            return Err("it has a character that is not ASCII".to_owned());
        }
        let mut record = Self::default();
        let mut explained = false;
        for term in text[6..].split(' ').filter(|term| !term.is_empty()) {
            let wrong = |why: &str| format!("`{term}`: {why}");
            if let Some((name, value)) = modifier(term) {
                match name.to_ascii_lowercase().as_str() {
                    "redirect" if record.redirect.is_some() => return Err(wrong("redirect= comes twice")),
                    "redirect" => {
                        record.redirect = Some(DomainSpec::parse(value).map_err(|why| wrong(&why))?)
                    }
                    "exp" if explained => return Err(wrong("exp= comes twice")),
                    "exp" => {
                        DomainSpec::parse(value).map_err(|why| wrong(&why))?;
                        explained = true;
                    }
                    _ => DomainSpec::check_macros(value).map_err(|why| wrong(&why))?,
                }
            } else {
                record.directives.push(directive(term).map_err(|why| wrong(&why))?);
            }
        }
        Ok(record)
    }
}

/// `name=value`, where the name is one of a modifier's (§12).
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let begins = name.bytes().next()?.is_ascii_alphabetic();
    let goes_on = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (begins && goes_on).then_some((name, value))
}

fn directive(term: &str) -> Result<(Qualifier, Mechanism), String> {
    let (qualifier, mechanism) = match term.as_bytes()[0] {
        b'+' => (Qualifier::Pass, &term[1..]),
        b'-' => (Qualifier::Fail, &term[1..]),
        b'~' => (Qualifier::SoftFail, &term[1..]),
        b'?' => (Qualifier::Neutral, &term[1..]),
        _ => (Qualifier::Pass, term),
    };
    let end = mechanism.find([':', '/']).unwrap_or(mechanism.len());
    let (name, rest) = mechanism.split_at(end);
    let name = name.to_ascii_lowercase();
    Ok((qualifier, self::mechanism(&name, rest)?))
}

/// `rest` is empty or begins with `:` or `/`.
fn mechanism(name: &str, rest: &str) -> Result<Mechanism, String> {
    let value = rest.strip_prefix(':');
    let needed = || value.filter(|value| !value.is_empty()).ok_or("it names nothing".to_owned());
    let domain = |value: &str| DomainSpec::parse(value);
    Ok(match name {
        "all" if rest.is_empty() => Mechanism::All,
        "all" => return Err("nothing may follow `all`".to_owned()),
        "include" => Mechanism::Include(domain(needed()?)?),
        "exists" => Mechanism::Exists(domain(needed()?)?),
        "ptr" if rest.is_empty() => Mechanism::Ptr(None),
        "ptr" => Mechanism::Ptr(Some(domain(needed()?)?)),
        "a" | "mx" => {
            let (rest, bits) = dual_bits(rest)?;
            let domain = match rest.strip_prefix(':') {
                None if rest.is_empty() => None,
                Some(value) => Some(domain(value)?),
                None => return Err("its prefix length is wrong".to_owned()),
            };
            if name == "a" { Mechanism::A(domain, bits) } else { Mechanism::Mx(domain, bits) }
        }
        "ip4" => {
            let (address, bits) = network(needed()?, 32)?;
            let address = address.parse().map_err(|_| format!("`{address}` is no IPv4 address"))?;
            Mechanism::Ip4(address, bits)
        }
        "ip6" => {
            let (address, bits) = network(needed()?, 128)?;
            let address = address.parse().map_err(|_| format!("`{address}` is no IPv6 address"))?;
            Mechanism::Ip6(address, bits)
        }
        _ => return Err("there is no such mechanism".to_owned()),
    })
}

/// Splits `/24`, `//64` or `/24//64` off the end.
fn dual_bits(text: &str) -> Result<(&str, Bits), String> {
    let mut bits = Bits { v4: 32, v6: 128 };
    let mut rest = text;
    if let Some((before, number)) = rest.rsplit_once("//")
        && is_number(number)
    {
        (rest, bits.v6) = (before, bits_of(number, 128)?);
    }
    if let Some((before, number)) = rest.rsplit_once('/')
        && is_number(number)
    {
        (rest, bits.v4) = (before, bits_of(number, 32)?);
    }
    Ok((rest, bits))
}

fn network(text: &str, most: u8) -> Result<(&str, u8), String> {
    match text.split_once('/') {
        Some((address, number)) => Ok((address, bits_of(number, most)?)),
        None => Ok((text, most)),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn bits_of(text: &str, most: u8) -> Result<u8, String> {
    let plain = is_number(text) && (text == "0" || !text.starts_with('0'));
    let bits = plain.then(|| text.parse().ok()).flatten().filter(|bits| *bits <= most);
    bits.ok_or_else(|| format!("`/{text}` is no prefix length up to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_alone_or_before_a_blank_makes_a_record() {
        for text in ["v=spf1", "v=spf1 -all", "V=SPF1 a"] {
            assert!(is_spf(text), "{text}");
        }
        for text in ["v=spf10 -all", "v=spf1-all", " v=spf1", "spf2.0/pra", "v=spf"] {
            assert!(!is_spf(text), "{text}");
        }
    }

    #[test]
    fn prefix_lengths_are_read_for_both_families() {
        let parse = |text: &str| Record::parse(text).unwrap().directives[0].1.clone();
        let spec = |text: &str| Some(DomainSpec::parse(text).unwrap());
        assert_eq!(parse("v=spf1 a/24//64"), Mechanism::A(None, Bits { v4: 24, v6: 64 }));
        assert_eq!(parse("v=spf1 a//64"), Mechanism::A(None, Bits { v4: 32, v6: 64 }));
        let expected = Mechanism::Mx(spec("mx.example.com"), Bits { v4: 30, v6: 128 });
        assert_eq!(parse("v=spf1 mx:mx.example.com/30"), expected);
        let expected = Mechanism::Ip6("2001:db8::".parse().unwrap(), 32);
        assert_eq!(parse("v=spf1 ip6:2001:db8::/32"), expected);
    }

    #[test]
    fn a_term_that_is_wrong_makes_the_record_wrong() {
        for text in [
            "v=spf1 ip4:1.2.3.4.5 -all",
            "v=spf1 ip4:192.0.2.1/33",
            "v=spf1 ip4:192.0.2.1/024",
            "v=spf1 ip6:192.0.2.1",
            "v=spf1 all:example.com",
            "v=spf1 include -all",
            "v=spf1 include: -all",
            "v=spf1 a:example/24",
            "v=spf1 mx/x",
            "v=spf1 exist:example.com",
            "v=spf1 redirect=a.example redirect=b.example",
            "v=spf1 exp=a.example exp=b.example",
            "v=spf1 ipv4:192.0.2.1",
            "v=spf1 a:example.com:8080",
            "v=spf1 ip4=192.0.2.1 -all a:%{x}.example.com",
            "v=spf1 \u{e9} -all",
        ] {
            assert!(Record::parse(text).is_err(), "{text}");
        }
        // An unknown modifier says nothing (§6).
        assert!(Record::parse("v=spf1 moo=%{i} -all").is_ok());
    }
}
