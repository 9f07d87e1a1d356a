//! One pass over received bytes: where the start line, each header and the body lie.
//!
//! Called by `Message::parse` alone. Looks at no header's meaning except Content-Length, which
//! frames the body. Positions are 16 bits wide, so a message's head ends below 64 KiB.

use bytes::Bytes;
use smallvec::SmallVec;

use super::message::{Fault, WireError};
use super::name::Name;
use super::text::{is_token_byte, number};

/// The largest message that is looked at: what a UDP datagram can hold.
pub const MAX_MESSAGE: usize = 65_535;
/// The most header lines that are looked at.
pub const MAX_HEADER_LINES: usize = 512;

/// One header line: positions in the message's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) name_start: u16,
    pub(super) name_end: u16,
    pub(super) start: u16,
    pub(super) end: u16,
}

/// The start line.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Request { method: (u16, u16), uri: (u16, u16), version: (u16, u16) },
    Response { status: u16, reason: (u16, u16) },
}

pub(super) type Fields = SmallVec<[Field; 24]>;

/// What the pass found.
pub(super) struct Scan {
    /// The head with folds, stray control characters and broken UTF-8 replaced octet by octet, when
    /// there were any; positions are the same in both.
    pub(super) mended: Option<Box<[u8]>>,
    pub(super) start: Start,
    pub(super) fields: Fields,
    /// Where the header lines end, before the empty line.
    pub(super) head_end: usize,
    pub(super) body: (usize, usize),
    /// A line that is no header was skipped, or the start line holds stray blanks.
    pub(super) oddities: Option<&'static str>,
    pub(super) fault: Option<(Fault, &'static str)>,
}

/// Why the quick pass cannot go on.
enum Stop {
    /// There is a fold or a stray control character: mend the text first.
    Mend,
    Refused(WireError),
}

pub(super) fn scan(bytes: &Bytes) -> Result<Scan, WireError> {
    // 7.5: CRLF before the start line is skipped; nothing else is a keep-alive (RFC 5626 3.5.1).
    let skip = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    if skip == bytes.len() {
        return Err(WireError::new(Fault::KeepAlive, "nothing but line ends: a keep-alive"));
    }
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::new(Fault::TooLarge, "more than 65535 bytes"));
    }
    match quick(bytes, skip) {
        Ok(scan) if is_utf8(&bytes[..scan.head_end]) => Ok(scan),
        Err(Stop::Refused(error)) => Err(error),
        Ok(_) | Err(Stop::Mend) => {
            let text = mend(bytes, skip);
            match quick(&text, skip) {
                Ok(scan) => Ok(Scan { mended: Some(text), ..scan }),
                Err(Stop::Refused(error)) => Err(error),
                Err(Stop::Mend) => Err(WireError::new(Fault::NotSip, "the header lines have no structure")),
            }
        }
    }
}

fn is_utf8(head: &[u8]) -> bool {
    head.is_ascii() || std::str::from_utf8(head).is_ok()
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn quick(text: &[u8], skip: usize) -> Result<Scan, Stop> {
    let (line_end, mut at, _) = line(text, skip)?;
    let (start, mut oddities) = start_line(text, skip, line_end).map_err(Stop::Refused)?;
    let mut fields = Fields::new();
    let mut content_length = None;
    let mut fault = None;
    let head_end = loop {
        match text.get(at) {
            None => {
                fault =
                    Some((Fault::Truncated, "the message ends before the empty line that ends its headers"));
                break text.len();
            }
            Some(b'\r') if text.get(at + 1) == Some(&b'\n') => break at,
            Some(b'\n') => break at,
            Some(b) if is_blank(*b) => return Err(Stop::Mend),
            Some(_) => {}
        }
        let (end, next, closed) = line(text, at)?;
        if !closed {
            fault = Some((Fault::Truncated, "the last header line has no end"));
        }
        match field(text, at, end) {
            Some(_) if fields.len() == MAX_HEADER_LINES => {
                fault = Some((Fault::TooLarge, "more than 512 header lines"));
                break at;
            }
            Some(field) => {
                if field.name == Name::ContentLength {
                    let value = &text[usize::from(field.start)..usize::from(field.end)];
                    let length = std::str::from_utf8(value).ok().and_then(number);
                    match (length, content_length) {
                        (None, _) => {
                            fault = Some((Fault::Framing, "Content-Length is not a number of bytes"))
                        }
                        (Some(a), Some(b)) if a != b => {
                            fault = Some((Fault::Framing, "two Content-Lengths that differ"));
                        }
                        _ => {}
                    }
                    content_length = content_length.or(length);
                }
                fields.push(field);
            }
            None => oddities = oddities.or(Some("a line among the headers is not a header")),
        }
        at = next;
    };
    let body_start = match &text[head_end..] {
        [b'\r', b'\n', ..] => head_end + 2,
        [b'\n', ..] => head_end + 1,
        _ => text.len(),
    };
    // 18.3: what follows the body is dropped, a body that ends too early is an error.
    let mut body_end = text.len();
    if let Some(length) = content_length {
        let length = length as usize;
        if length > text.len() - body_start {
            fault = fault.or(Some((Fault::Truncated, "the body is shorter than Content-Length says")));
        } else {
            body_end = body_start + length;
        }
    }
    Ok(Scan { mended: None, start, fields, head_end, body: (body_start, body_end), oddities, fault })
}

/// End of the line at `from` without its line end, start of the next, and whether it was ended.
fn line(text: &[u8], from: usize) -> Result<(usize, usize, bool), Stop> {
    match memchr::memchr2(b'\r', b'\n', &text[from..]) {
        None => Ok((text.len(), text.len(), false)),
        Some(n) if text[from + n] == b'\n' => Ok((from + n, from + n + 1, true)),
        Some(n) if text.get(from + n + 1) == Some(&b'\n') => Ok((from + n, from + n + 2, true)),
        // A carriage return alone ends no line (it must not hide a header from anybody).
        Some(_) => Err(Stop::Mend),
    }
}

fn field(text: &[u8], from: usize, end: usize) -> Option<Field> {
    let line = &text[from..end];
    let name_len = line.iter().position(|b| !is_token_byte(*b))?;
    let blanks = line[name_len..].iter().position(|b| !is_blank(*b))?;
    if name_len == 0 || line[name_len + blanks] != b':' {
        return None;
    }
    let mut start = name_len + blanks + 1;
    while start < line.len() && is_blank(line[start]) {
        start += 1;
    }
    let mut stop = line.len();
    while stop > start && is_blank(line[stop - 1]) {
        stop -= 1;
    }
    let at = |n: usize| (from + n) as u16;
    let name = Name::recognise(&line[..name_len]);
    Some(Field { name, name_start: at(0), name_end: at(name_len), start: at(start), end: at(stop) })
}

/// 7.1 and 7.2. Anything that has a method or a status is taken; what is wrong with it besides is
/// for `Message::check`.
fn start_line(text: &[u8], from: usize, end: usize) -> Result<(Start, Option<&'static str>), WireError> {
    let line = &text[from..end];
    let not_sip = |reason| WireError::new(Fault::NotSip, reason);
    let at = |n: usize| (from + n) as u16;
    if line.len() > 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        let space = memchr::memchr(b' ', line).ok_or_else(|| not_sip("a status line without a status"))?;
        if &line[4..space] != b"2.0" {
            return Err(not_sip("a response of a SIP version other than 2.0"));
        }
        let rest = &line[space + 1..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits != 3 || !matches!(rest[0], b'1'..=b'6') || rest.get(3).is_some_and(|b| *b != b' ') {
            return Err(not_sip("a status that is not 100 to 699"));
        }
        let status = rest[..3].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
        let reason = (space + 5).min(line.len());
        return Ok((Start::Response { status, reason: (at(reason), at(line.len())) }, None));
    }
    let method = line.iter().take_while(|b| is_token_byte(**b)).count();
    if method == 0 || line.get(method) != Some(&b' ') {
        return Err(not_sip("neither a request line nor a status line"));
    }
    let trimmed = line.iter().rposition(|b| !is_blank(*b)).map_or(0, |n| n + 1);
    let last = match memchr::memrchr(b' ', &line[..trimmed]) {
        Some(last) if last > method => last,
        _ => return Err(not_sip("a request line without a URI or without a version")),
    };
    let (version, uri) = (&line[last + 1..trimmed], &line[method + 1..last]);
    if version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
        return Err(not_sip("a request of another protocol"));
    }
    // 7.1: one blank between the elements, none at the end.
    let odd = (trimmed != line.len() || uri.is_empty() || uri.iter().any(|b| is_blank(*b)))
        .then_some("blanks in the request line where none may be");
    let start = Start::Request {
        method: (at(0), at(method)),
        uri: (at(method + 1), at(last)),
        version: (at(last + 1), at(trimmed)),
    };
    Ok((start, odd))
}

/// Whether `line`, without its line end, begins a message: a request line or a status line.
pub(crate) fn check_start_line(line: &[u8]) -> bool {
    line.len() <= MAX_MESSAGE && start_line(line, 0, line.len()).is_ok()
}

/// What the Content-Length of a whole head says, as [`scan`] reads it; `None` when there is none.
///
/// # Errors
/// When it is no number, or two lines differ.
pub(crate) fn content_length(head: &[u8]) -> Result<Option<u32>, Fault> {
    let mut found = None;
    let mut at = logical_line(head, 0);
    while at < head.len() {
        let next = logical_line(head, at);
        if matches!(head[at], b'c' | b'C' | b'l' | b'L')
            && let Some(value) = content_length_value(&head[at..next])
        {
            let length = std::str::from_utf8(value).ok().and_then(number).ok_or(Fault::Framing)?;
            if found.is_some_and(|other| other != length) {
                return Err(Fault::Framing);
            }
            found = Some(length);
        }
        at = next;
    }
    Ok(found)
}

/// Where the line after the one at `from` begins; a line that begins with a blank goes on (7.3.1).
fn logical_line(text: &[u8], mut from: usize) -> usize {
    while let Some(n) = memchr::memchr(b'\n', &text[from..]) {
        from += n + 1;
        if !text.get(from).is_some_and(|b| is_blank(*b)) {
            return from;
        }
    }
    text.len()
}

/// The value, when the line is a Content-Length; its folds read as blanks.
fn content_length_value(line: &[u8]) -> Option<&[u8]> {
    let blank = |b: &u8| is_blank(*b) || matches!(b, b'\r' | b'\n');
    let name_len = line.iter().position(|b| !is_token_byte(*b))?;
    let colon = name_len + line[name_len..].iter().position(|b| !blank(b))?;
    let known = line[colon] == b':' && Name::recognise(&line[..name_len]) == Name::ContentLength;
    known.then(|| &line[colon + 1..])
}

/// A copy of the head in which folds (7.3.1) and stray carriage returns are blanks and bytes that
/// are no UTF-8 are question marks, with every position kept. The body is copied as it is.
fn mend(bytes: &[u8], skip: usize) -> Box<[u8]> {
    let mut text: Box<[u8]> = bytes.into();
    let mut at = skip;
    let end = loop {
        let Some(n) = memchr::memchr2(b'\r', b'\n', &text[at..]) else { break text.len() };
        let here = at + n;
        let next = match (text[here], text.get(here + 1)) {
            (b'\n', _) => here + 1,
            (_, Some(b'\n')) => here + 2,
            _ => {
                text[here] = b' ';
                at = here + 1;
                continue;
            }
        };
        match text.get(next) {
            None => break text.len(),
            Some(b'\n') => break here,
            Some(b'\r') if text.get(next + 1) == Some(&b'\n') => break here,
            Some(b) if is_blank(*b) => text[here..=next].fill(b' '),
            Some(_) => {}
        }
        at = next;
    };
    let mut from = 0;
    while let Err(error) = std::str::from_utf8(&text[from..end]) {
        let bad = from + error.valid_up_to();
        let len = error.error_len().unwrap_or(end - bad);
        text[bad..bad + len].fill(b'?');
        from = bad + len;
    }
    text
}
