//! Bodies in parts (RFC 2046 5.1, RFC 5621): where the session description is, and what a sender insists
//! that we understand.
//!
//! Called through [`Message::sdp`](super::Message::sdp) and its neighbours, for the few messages whose body
//! is no plain SDP. Borrows everything; bounded in parts and depth; never decodes.

use super::Name;
use super::text::{Params, is_token_byte, split_outside, trim, unquoted};

/// More parts than this, over all levels, are not looked at.
const MAX_PARTS: usize = 32;
/// Deeper nesting is not looked into.
const MAX_DEPTH: usize = 4;

/// A body or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// The media type without its parameters, as it is written; `text/plain` if nothing is.
    pub content_type: &'a str,
    /// The parameters of the media type.
    pub params: Params<'a>,
    /// What it is for: `session`, `render` ...; `None` if nothing is said (RFC 3261 20.11).
    pub disposition: Option<&'a str>,
    /// Whether it may be ignored by whoever does not understand it (`handling=optional`).
    pub optional: bool,
    /// Whether its sender insists on it (`handling=required`), and does not only say nothing.
    pub insisted: bool,
    /// It has a Content-Encoding, or a transfer encoding other than the bytes themselves.
    pub encoded: bool,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// A part from the values of its headers.
    pub(super) fn new(
        content_type: Option<&'a str>,
        disposition: Option<&'a str>,
        encoded: bool,
        bytes: &'a [u8],
    ) -> Self {
        let (kind, params) = split_outside(content_type.unwrap_or(""), b';');
        let kind = trim(kind);
        let (purpose, handling) = split_outside(disposition.unwrap_or(""), b';');
        let handling = Params::new(handling.unwrap_or("")).get("handling");
        Self {
            content_type: if kind.is_empty() { "text/plain" } else { kind },
            params: Params::new(params.unwrap_or("")),
            disposition: Some(trim(purpose)).filter(|p| !p.is_empty()),
            optional: handling.is_some_and(|h| h.eq_ignore_ascii_case("optional")),
            insisted: handling.is_some_and(|h| h.eq_ignore_ascii_case("required")),
            encoded,
            bytes,
        }
    }

    fn is(&self, kind: &str) -> bool {
        self.content_type.eq_ignore_ascii_case(kind)
    }

    /// Without a disposition a session description is for the session (RFC 3261 20.11).
    fn is_for_session(&self) -> bool {
        self.disposition.is_none_or(|d| d.eq_ignore_ascii_case("session"))
    }

    fn multipart(&self) -> Option<&'a str> {
        let (kind, subtype) = self.content_type.split_once('/')?;
        kind.eq_ignore_ascii_case("multipart").then_some(subtype)
    }

    /// The parts of a multipart body; nothing for another, or without a boundary.
    pub fn parts(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        let boundary = self.multipart().and_then(|_| self.params.get("boundary")).unwrap_or("");
        let boundary = if boundary.len() > 70 { "" } else { boundary };
        let mut rest = if boundary.is_empty() || self.encoded {
            None
        } else {
            delimiter(self.bytes, boundary).map(|(_, behind, last)| (behind, last))
        };
        let mut left = MAX_PARTS;
        std::iter::from_fn(move || {
            let (text, last) = rest?;
            left = left.checked_sub(1)?;
            if last {
                return None;
            }
            // The end of the body closes a part too: what a sender forgot does no harm.
            let end = delimiter(text, boundary);
            rest = end.map(|(_, behind, last)| (behind, last));
            Some(part(end.map_or(text, |(before, _, _)| before)))
        })
    }

    /// The session description in it: itself, or a part for the session (RFC 5621 8.2). Of alternatives the
    /// last that can be used counts (RFC 2046 5.1.4), of a mixture the first.
    pub(super) fn sdp(&self, depth: usize) -> Option<&'a [u8]> {
        if self.is("application/sdp") {
            return (self.is_for_session() && !self.encoded && !self.bytes.is_empty()).then_some(self.bytes);
        }
        let subtype = self.multipart().filter(|_| depth < MAX_DEPTH)?;
        let mut found = self.parts().filter_map(|part| part.sdp(depth + 1));
        if subtype.eq_ignore_ascii_case("alternative") { found.last() } else { found.next() }
    }

    /// The media type of the first part that must be understood (RFC 3261 20.11: unless it says that it is
    /// optional) and is none of `known`, or is encoded, or for something else than the session. Of
    /// alternatives one has to be understood. A multipart body without any part cannot be read at all. With
    /// `lenient` a part has to say that it is required: carriers add ISUP and locations and say nothing.
    pub(super) fn not_understood(&self, known: &[&str], depth: usize, lenient: bool) -> Option<&'a str> {
        if self.optional || lenient && depth > 0 && !self.insisted {
            return None;
        }
        if known.iter().any(|kind| self.is(kind)) && self.is_for_session() && !self.encoded {
            return None;
        }
        let Some(subtype) = self.multipart().filter(|_| depth < MAX_DEPTH) else {
            return Some(self.content_type);
        };
        let mut judged = self.parts().map(|part| part.not_understood(known, depth + 1, lenient)).peekable();
        if judged.peek().is_none() {
            return Some(self.content_type);
        }
        if subtype.eq_ignore_ascii_case("alternative") {
            let mut first = None;
            for one in judged {
                first = first.or(Some(one?));
            }
            return first;
        }
        judged.find_map(|one| one)
    }
}

/// What is before the next delimiter line, what is behind it, and whether it is the last one.
fn delimiter<'a>(text: &'a [u8], boundary: &str) -> Option<(&'a [u8], &'a [u8], bool)> {
    let mut at = 0;
    loop {
        let line = &text[at..];
        let end = memchr::memchr(b'\n', line);
        let here = line[..end.unwrap_or(line.len())].strip_prefix(b"--");
        if let Some(rest) = here.and_then(|l| l.strip_prefix(boundary.as_bytes())) {
            let (rest, last) = rest.strip_prefix(b"--").map_or((rest, false), |rest| (rest, true));
            // Only blanks may follow, or the boundary is the beginning of a longer one.
            if rest.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r')) {
                // The line end before it is the delimiter's (RFC 2046 5.1.1).
                let before = &text[..at];
                let before = before.strip_suffix(b"\n").unwrap_or(before);
                let before = before.strip_suffix(b"\r").unwrap_or(before);
                return Some((before, &line[end.map_or(line.len(), |n| n + 1)..], last));
            }
        }
        at += end? + 1;
    }
}

/// Header lines, an empty line, bytes.
fn part(text: &[u8]) -> Part<'_> {
    let (mut kind, mut disposition, mut encoded) = (None, None, false);
    let mut rest = text;
    loop {
        match rest {
            [] => break,
            [b'\n', behind @ ..] | [b'\r', b'\n', behind @ ..] => {
                rest = behind;
                break;
            }
            _ => {}
        }
        let end = logical_line(rest);
        let (line, behind) = rest.split_at(end);
        rest = behind;
        let name_len = line.iter().position(|b| !is_token_byte(*b)).unwrap_or(line.len());
        let value =
            std::str::from_utf8(&line[name_len..]).ok().and_then(|v| trim(v).strip_prefix(':')).map(trim);
        let Some(value) = value else { continue };
        match Name::recognise(&line[..name_len]) {
            Name::ContentType => kind = kind.or(Some(value)),
            Name::ContentDisposition => disposition = disposition.or(Some(value)),
            Name::ContentEncoding => encoded |= !value.eq_ignore_ascii_case("identity"),
            Name::Other if line[..name_len].eq_ignore_ascii_case(b"Content-Transfer-Encoding") => {
                let plain = ["7bit", "8bit", "binary"];
                encoded |= !plain.iter().any(|p| p.eq_ignore_ascii_case(unquoted(value)));
            }
            _ => {}
        }
    }
    Part::new(kind, disposition, encoded, rest)
}

/// Where the header line that `text` begins with ends, its folds included.
fn logical_line(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(n) = memchr::memchr(b'\n', &text[at..]) {
        at += n + 1;
        if !matches!(text.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
    text.len()
}
