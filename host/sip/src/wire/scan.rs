//! One pass over received bytes: where the start line, each header and the body lie.
//!
//! Called by `Message::parse` alone. Looks at no header's meaning except Content-Length, which
//! frames the body. Positions are 16 bits wide, so a message's head ends below 64 KiB.

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use super::message::{Fault, WireError};
use super::name::{LONGEST, LOWER, Name};
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

/// The header lines, in order, and where each name stands first.
pub(super) struct Fields {
    list: SmallVec<[Field; 24]>,
    /// One more than the first line of a name, none, or [`FAR`].
    first: [u8; Name::COUNT],
    /// A bit for each name that stands there more than once.
    again: u128,
}

/// The first line of a name is so far down that it has to be searched.
const FAR: u8 = u8::MAX;
const _: () = assert!(Name::COUNT <= u128::BITS as usize);

impl Fields {
    fn new() -> Self {
        Self { list: SmallVec::new(), first: [0; Name::COUNT], again: 0 }
    }

    #[inline]
    fn push(&mut self, field: Field) {
        let first = &mut self.first[field.name as usize];
        if *first == 0 {
            *first = u8::try_from(self.list.len() + 1).unwrap_or(FAR);
        } else {
            self.again |= 1 << field.name as u32;
        }
        self.list.push(field);
    }

    pub(super) fn all(&self) -> &[Field] {
        &self.list
    }

    /// The lines from the first one on that has this name.
    #[inline]
    pub(super) fn since_first(&self, name: Name) -> &[Field] {
        match self.first[name as usize] {
            0 => &[],
            FAR => &self.list[usize::from(FAR) - 1..],
            n => &self.list[usize::from(n) - 1..],
        }
    }

    #[inline]
    pub(super) fn first(&self, name: Name) -> Option<&Field> {
        let mut lines = self.since_first(name).iter();
        if self.first[name as usize] == FAR { lines.find(|f| f.name == name) } else { lines.next() }
    }

    pub(super) fn is_repeated(&self, name: Name) -> bool {
        self.again & 1 << name as u32 != 0
    }
}

/// What the pass found.
pub(super) struct Scan {
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

impl Scan {
    /// What is known before the pass.
    pub(super) fn new() -> Self {
        Self {
            start: Start::Response { status: 0, reason: (0, 0) },
            fields: Fields::new(),
            head_end: 0,
            body: (0, 0),
            oddities: None,
            fault: None,
        }
    }

    /// Runs the pass over what [`begin`] has let in: the head as text, with folds, stray control characters and
    /// broken UTF-8 replaced octet by octet when there were any, so that positions are the same in both.
    /// Fills in place: it is larger than what it costs to fill.
    pub(super) fn run(&mut self, bytes: &Bytes, skip: usize) -> Result<ByteString, WireError> {
        let begun = quick(bytes, skip, self).map(|()| ByteString::try_from(bytes.slice(..self.head_end)));
        match begun {
            Ok(Ok(head)) => Ok(head),
            Err(Stop::Refused(error)) => Err(error),
            Ok(Err(_)) | Err(Stop::Mend) => {
                let text = mend(bytes, skip);
                self.fields = Fields::new();
                match quick(&text, skip, self) {
                    Ok(()) => Ok(String::from_utf8_lossy(&text[..self.head_end]).into_owned().into()),
                    Err(Stop::Refused(error)) => Err(error),
                    Err(Stop::Mend) => {
                        Err(WireError::new(Fault::NotSip, "the header lines have no structure"))
                    }
                }
            }
        }
    }
}

/// Where the start line begins.
pub(super) fn begin(bytes: &[u8]) -> Result<usize, WireError> {
    // 7.5: CRLF before the start line is skipped; nothing else is a keep-alive (RFC 5626 3.5.1).
    let skip = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    if skip == bytes.len() {
        return Err(WireError::new(Fault::KeepAlive, "nothing but line ends: a keep-alive"));
    }
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::new(Fault::TooLarge, "more than 65535 bytes"));
    }
    Ok(skip)
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn quick(text: &[u8], skip: usize, found: &mut Scan) -> Result<(), Stop> {
    let (line_end, mut at, _) = line(text, skip).ok_or(Stop::Mend)?;
    let (start, mut oddities) = start_line(text, skip, line_end).map_err(Stop::Refused)?;
    let fields = &mut found.fields;
    let mut content_length = None;
    let mut fault = None;
    let head_end = loop {
        match text.get(at) {
            Some(b) if *b > b' ' => {}
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
        let Some((end, next, closed)) = line(text, at) else { return Err(Stop::Mend) };
        if !closed {
            fault = Some((Fault::Truncated, "the last header line has no end"));
        }
        match field(text, at, end) {
            Some(_) if fields.list.len() == MAX_HEADER_LINES => {
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
    found.start = start;
    found.head_end = head_end;
    found.body = (body_start, body_end);
    found.oddities = oddities;
    found.fault = fault;
    Ok(())
}

/// End of the line at `from` without its line end, start of the next, and whether it was ended. `None` when
/// the text has to be mended first.
#[inline]
fn line(text: &[u8], from: usize) -> Option<(usize, usize, bool)> {
    let Some(n) = memchr::memchr2(b'\r', b'\n', &text[from..]) else {
        return Some((text.len(), text.len(), false));
    };
    match text[from + n..] {
        [b'\r', b'\n', ..] => Some((from + n, from + n + 2, true)),
        [b'\n', ..] => Some((from + n, from + n + 1, true)),
        // A carriage return alone ends no line (it must not hide a header from anybody).
        _ => None,
    }
}

fn field(text: &[u8], from: usize, end: usize) -> Option<Field> {
    let (name, name_len, colon) = match known_name(text, from) {
        Some((name, len)) if from + len < end => (name, len, len),
        _ => any_name(&text[from..end])?,
    };
    let (start, stop) = match text.get(from + colon + 1..end)? {
        // One blank before the value and none behind it, as nearly everybody writes it.
        [b' ', first, .., last] if *first > b' ' && *last > b' ' => (from + colon + 2, end),
        value => {
            let start = value.iter().position(|b| !is_blank(*b)).unwrap_or(value.len());
            let stop = value.iter().rposition(|b| !is_blank(*b)).map_or(start, |n| n + 1);
            (end - value.len() + start, end - value.len() + stop)
        }
    };
    let at = |n: usize| n as u16;
    let name_end = at(from + name_len);
    Some(Field { name, name_start: at(from), name_end, start: at(start), end: at(stop) })
}

/// The name that a line begins with and its length, when it is short and its colon stands right behind it.
/// The line holds no carriage return, see [`super::name::Key`].
#[inline]
fn known_name(text: &[u8], from: usize) -> Option<(Name, usize)> {
    let (words, _) = text[from..].first_chunk::<LONGEST>()?.as_chunks::<8>();
    let [a, b, c] = [words[0], words[1], words[2]].map(u64::from_le_bytes);
    let (key, len) = match colon(a) {
        Some(len) => ([lower(a, len), 0, 0], len),
        None => match colon(b) {
            Some(len) => ([a | LOWER, lower(b, len), 0], 8 + len),
            None => {
                let len = colon(c)?;
                ([a | LOWER, b | LOWER, lower(c, len)], 16 + len)
            }
        },
    };
    let (name, len) = (Name::of_key(key), len as usize);
    let whole = || len > 0 && text[from..from + len].iter().all(|b| is_token_byte(*b));
    (name != Name::Other || whole()).then_some((name, len))
}

/// Where the first colon is among eight bytes.
#[inline]
fn colon(word: u64) -> Option<u32> {
    const COLONS: u64 = u64::from_ne_bytes([b':'; 8]);
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // The lowest bit of the high ones that is set marks the first byte without a difference.
    let other = word ^ COLONS;
    let found = other.wrapping_sub(ONES) & !other & (ONES << 7);
    (found != 0).then(|| found.trailing_zeros() / 8)
}

/// The first bytes of a word in lower case, zeros behind them.
#[inline]
fn lower(word: u64, len: u32) -> u64 {
    (word | LOWER) & !(u64::MAX << (8 * len))
}

/// A name, its length, and where its colon is.
fn any_name(line: &[u8]) -> Option<(Name, usize, usize)> {
    let len = line.iter().position(|b| !is_token_byte(*b))?;
    let colon = len + line[len..].iter().position(|b| !is_blank(*b))?;
    (len > 0 && line[colon] == b':').then(|| (Name::recognise(&line[..len]), len, colon))
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
    // Nearly every version is seven bytes long.
    let last = match trimmed.checked_sub(8) {
        Some(last) if line[last..].starts_with(b" SIP/2.0") => Some(last),
        _ => memchr::memrchr(b' ', &line[..trimmed]),
    };
    let last = match last {
        Some(last) if last > method => last,
        _ => return Err(not_sip("a request line without a URI or without a version")),
    };
    let (version, uri) = (&line[last + 1..trimmed], &line[method + 1..last]);
    if version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
        return Err(not_sip("a request of another protocol"));
    }
    // 7.1: one blank between the elements, none at the end.
    let odd = (trimmed != line.len() || uri.is_empty() || memchr::memchr2(b' ', b'\t', uri).is_some())
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

/// What the Content-Length of a whole head says, as [`Scan::run`] reads it; `None` when there is none.
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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn the_short_way_to_a_name_sees_what_the_long_one_does(
            known in 0..Name::ALL.len(),
            letters in "[A-Za-z-]{0,26}|[ -~\t]{0,30}",
            upper: bool,
            own: bool,
        ) {
            let name = if own { letters } else { Name::ALL[known].as_str().to_owned() };
            let name = if upper { name.to_uppercase() } else { name };
            let line = format!("{name}: a value that is long enough\r\n");
            if let Some((found, len)) = known_name(line.as_bytes(), 0) {
                proptest::prop_assert_eq!(any_name(line.as_bytes()), Some((found, len, len)));
            } else {
                proptest::prop_assert!(own, "a known name is found: {}", name);
            }
        }
    }
}
