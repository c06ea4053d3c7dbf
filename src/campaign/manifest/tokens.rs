//! What a manifest says of links that carry a recipient's token: leaving the list, tracking.

use serde::{Deserialize, Serialize};

/// One-click unsubscription (RFC 8058): a URL of one's own, or a base that tokens are put behind; not both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    /// A template; https.
    pub url: Option<String>,
    /// https; a signed token follows. Templates have the whole as `unsubscribe_url`.
    pub base_url: Option<String>,
    /// An address, also a template. Without a subject and `{{ }}` it is given the token as the subject;
    /// templates have it as `unsubscribe_token`.
    pub mailto: Option<String>,
}

/// Links and a picture that tell who clicked and opened; nothing is rewritten without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracking {
    /// https; a signed token follows.
    pub base_url: String,
    /// Links of the HTML lead over it, but for the unsubscribe link and those marked `data-no-track`.
    #[serde(default)]
    pub clicks: bool,
    /// An invisible picture at the end of the HTML.
    #[serde(default)]
    pub opens: bool,
}
