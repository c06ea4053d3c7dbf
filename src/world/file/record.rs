//! A DNS record in the file, beside those that follow from providers and hosts.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, TXT};
use hickory_proto::rr::{Name, RData};
use serde::Deserialize;
use toml::Spanned;

/// A TXT character string holds no more octets (RFC 1035 §3.3.14).
const TXT_OCTETS_MAX: usize = 255;

/// Records of one name and type, or how queries for the name fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordFile {
    /// For PTR also the address itself.
    pub name: Spanned<String>,
    #[serde(rename = "type")]
    pub kind: Option<RecordKind>,
    #[serde(default)]
    pub value: Values,
    /// Instead of type and value.
    pub fault: Option<NameFault>,
}

/// The types that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordKind {
    A,
    Aaaa,
    /// `10 mx.example.test`; `0 .` is the null MX (RFC 7505).
    Mx,
    Txt,
    Ptr,
    Cname,
}

/// What every query for a name comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameFault {
    Servfail,
    /// Queries are never answered.
    Silent,
}

/// One value or a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Values {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Values {
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(values) => values,
        }
    }
}

impl RecordKind {
    /// A record's data.
    ///
    /// # Errors
    /// Why `value` is none of this type.
    pub(in crate::world) fn data(self, value: &str) -> Result<RData, String> {
        let wrong = |what: &str| format!("{value:?} is no {what}");
        Ok(match self {
            Self::A => RData::A(A(value.parse().map_err(|_| wrong("IPv4 address"))?)),
            Self::Aaaa => RData::AAAA(AAAA(value.parse().map_err(|_| wrong("IPv6 address"))?)),
            Self::Mx => {
                let (preference, host) = value.split_once(' ').ok_or_else(|| wrong("`preference host`"))?;
                let preference = preference.parse().map_err(|_| wrong("`preference host`"))?;
                RData::MX(MX::new(preference, absolute(host.trim())?))
            }
            Self::Txt => RData::TXT(TXT::from_bytes(value.as_bytes().chunks(TXT_OCTETS_MAX).collect())),
            Self::Ptr => RData::PTR(PTR(absolute(value)?)),
            Self::Cname => RData::CNAME(CNAME(absolute(value)?)),
        })
    }

    /// The name that holds the record of `name`: an address stands for its place below `arpa`.
    pub(in crate::world) fn owner(self, name: &str) -> String {
        match (self, name.parse::<IpAddr>()) {
            (Self::Ptr, Ok(address)) => normal(&Name::from(address).to_ascii()),
            _ => normal(name),
        }
    }
}

impl RecordFile {
    pub(super) fn check(&self) -> Result<(), String> {
        let values = self.value.as_slice();
        let name = self.name.get_ref();
        absolute(&self.kind.map_or_else(|| normal(name), |kind| kind.owner(name)))?;
        match (self.kind, self.fault) {
            (Some(kind), None) if values.is_empty() => Err(format!("a record of type {kind:?} has a value")),
            (Some(kind), None) => values.iter().try_for_each(|value| kind.data(value).map(drop)),
            (None, Some(_)) if values.is_empty() => Ok(()),
            _ => Err("a record has either a type and a value, or a fault".to_owned()),
        }
    }
}

/// In lower case without the trailing dot.
pub(in crate::world) fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn absolute(name: &str) -> Result<Name, String> {
    let mut absolute = Name::from_ascii(name).map_err(|_| format!("{name:?} is no domain name"))?;
    absolute.set_fqdn(true);
    Ok(absolute)
}
