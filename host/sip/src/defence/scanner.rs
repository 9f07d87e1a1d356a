//! Programs that look for victims, by the names that they give themselves.

use crate::wire::{Message, Name};

/// Names that scanners are known by. Only careless ones are caught; the others are by what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanners(Vec<String>);

impl Default for Scanners {
    fn default() -> Self {
        Self::new([
            "friendly-scanner",
            "friendly-request",
            "sipvicious",
            "sip-scan",
            "sipscan",
            "sundayddr",
            "iwar",
            "sipcli",
            "pplsip",
            "smap ",
            "siparmyknife",
            "vaxasip",
        ])
    }
}

impl Scanners {
    /// These names, in any case.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let names = names.into_iter().map(|name| name.as_ref().to_ascii_lowercase());
        Self(names.filter(|name| !name.is_empty()).collect())
    }

    /// Whether the request names itself so: at the beginning of its User-Agent, or in From's display name,
    /// where sipvicious leaves its own whatever User-Agent it was told to pretend. Responses are nobody's
    /// scan.
    #[must_use]
    pub fn wrote(&self, message: &Message) -> bool {
        if !message.is_request() {
            return false;
        }
        let agent = message.header(Name::UserAgent).unwrap_or("");
        let display = message.from().map_or("", |from| from.display);
        self.0.iter().any(|name| begins(agent, name) || begins(display, name))
    }
}

fn begins(text: &str, name: &str) -> bool {
    text.as_bytes().get(..name.len()).is_some_and(|head| head.eq_ignore_ascii_case(name.as_bytes()))
}
