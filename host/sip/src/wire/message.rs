//! A SIP message: the bytes as they came and an index over them.
//!
//! Made by the transport's edge for every datagram, read by everything else. Parsing finds the
//! lines and frames the body and looks at no header's value; [`Message::check`] then says whether
//! the few headers that every message needs are good (RFC 3261 8.1.1, 16.3). A clone copies one
//! pointer.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::address::{NameAddr, Via};
use super::method::Method;
use super::multipart::Part;
use super::name::Name;
use super::scan::{self, Scan, Start};
use super::text::{List, number, trim};
use super::uri::Uri;

/// What is wrong with bytes that are not a whole SIP message, or with a message that cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Only line ends (RFC 5626 3.5.1): not an error, nothing to answer.
    KeepAlive,
    /// No SIP start line.
    NotSip,
    /// It ends too early (RFC 3261 18.3).
    Truncated,
    /// Larger than this stack reads.
    TooLarge,
    /// Content-Length is unusable.
    Framing,
    /// A header that every message must have is missing, doubled or unreadable.
    Header,
    /// A version other than SIP/2.0.
    Version,
    /// The Request-URI is not one.
    RequestUri,
}

/// Why a message is refused, and how to answer it.
#[derive(Debug, Clone)]
pub struct WireError {
    /// What is wrong.
    pub fault: Fault,
    /// The status to answer; `None` when nothing may be answered (responses, ACK, not SIP, no Via).
    pub status: Option<u16>,
    /// The sentence for a log, and for the reason phrase of the answer.
    pub reason: String,
    /// What was read of the message, for [`super::Builder::response`]; there whenever `status` is.
    pub message: Option<Message>,
}

impl WireError {
    pub(super) fn new(fault: Fault, reason: &str) -> Self {
        Self { fault, status: None, reason: reason.to_owned(), message: None }
    }

    /// The error for a message that was read: it can be answered when it is a request other than
    /// ACK and its Via says where to. What else a response copies (8.2.6.2) may be missing: the
    /// sender matches by branch, and a person who looks at the wire sees the reason (torture
    /// test 3.3.1).
    fn of(message: &Message, fault: Fault, status: u16, reason: &str) -> Self {
        let answerable =
            message.is_request() && message.method() != Method::Ack && message.top_via().is_some();
        Self {
            fault,
            status: answerable.then_some(status),
            reason: reason.to_owned(),
            message: Some(message.clone()),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the sender's message is not usable: {}", self.reason)
    }
}

impl std::error::Error for WireError {}

/// One received or built message.
#[derive(Clone)]
pub struct Message(Arc<Inner>);

struct Inner {
    bytes: Bytes,
    /// What positions in the head mean.
    head: ByteString,
    scan: Scan,
}

/// Headers that stand once in a message; the first [`NEEDED`] of them stand in every message (8.1.1).
const SINGLE: [Name; 6] =
    [Name::CallId, Name::CSeq, Name::From, Name::To, Name::MaxForwards, Name::ContentType];
const NEEDED: usize = 4;

impl Message {
    /// Indexes a datagram. Header values may hold anything: folds read as blanks, broken UTF-8 as
    /// question marks (the bytes themselves stay as they came, and a response echoes them).
    ///
    /// # Errors
    /// Only when the message cannot be framed: no SIP start line, no end of the headers, an
    /// unusable Content-Length, a body cut short (18.3), more than 64 KiB.
    pub fn parse(bytes: Bytes) -> Result<Self, WireError> {
        let skip = scan::begin(&bytes)?;
        let mut inner = Inner { bytes, head: ByteString::new(), scan: Scan::new() };
        inner.head = inner.scan.run(&inner.bytes, skip)?;
        let message = Self(Arc::new(inner));
        match message.0.scan.fault {
            None => Ok(message),
            Some((fault, reason)) => {
                let status = if fault == Fault::TooLarge { 513 } else { 400 };
                Err(WireError::of(&message, fault, status, reason))
            }
        }
    }

    /// Whether the message can be served at all: the version, the Request-URI, the headers that
    /// every message has (8.1.1) once each and readable, CSeq's method the request's, and a top
    /// Via. What single headers mean beyond that is for whoever uses them.
    ///
    /// # Errors
    /// Says what is wrong and what to answer; without a status drop the message.
    pub fn check(&self) -> Result<(), WireError> {
        let bad = |fault, status, reason: &str| Err(WireError::of(self, fault, status, reason));
        if let Start::Request { uri, version, .. } = self.0.scan.start {
            // 21.5.6, torture test 3.1.2.16
            if !self.span(version).eq_ignore_ascii_case("SIP/2.0") {
                return bad(Fault::Version, 505, "only SIP/2.0 is spoken here");
            }
            if let Some(reason) = self.0.scan.oddities {
                return bad(Fault::RequestUri, 400, reason);
            }
            match Uri::parse(self.span(uri)) {
                Err(error) => return bad(Fault::RequestUri, 400, &format!("the Request-URI is {error}")),
                // 19.1.1: headers may not stand in a Request-URI.
                Ok(uri) if !uri.headers.is_empty() => {
                    return bad(Fault::RequestUri, 400, "the Request-URI has headers");
                }
                Ok(_) => {}
            }
        } else if let Some(reason) = self.0.scan.oddities {
            return bad(Fault::Header, 400, reason);
        }
        let fields = &self.0.scan.fields;
        for (i, name) in SINGLE.into_iter().enumerate() {
            let problem = match fields.first(name) {
                None if i < NEEDED => "is missing",
                None => continue,
                Some(_) if fields.is_repeated(name) => "stands there more than once",
                Some(field) if field.start == field.end => "is empty",
                Some(_) => continue,
            };
            return bad(Fault::Header, 400, &format!("{} {problem}", name.as_str()));
        }
        for (name, address) in [("From", self.from()), ("To", self.to())] {
            // A URI of a scheme that we do not know is a URI all the same.
            if address.is_none_or(|a| a.parsed_uri().is_err()) {
                return bad(Fault::Header, 400, &format!("{name} is not an address"));
            }
        }
        // Every one must be readable (torture test 3.1.2.1), and the first must be there.
        if self.top_via().is_none() || self.headers(Name::Via).any(|v| Via::parse(v).is_none()) {
            return bad(Fault::Header, 400, "no readable Via");
        }
        match self.cseq() {
            None => return bad(Fault::Header, 400, "CSeq is not a number below 2^31 and a method"),
            Some((_, method)) if self.is_request() && method != self.method() => {
                // A method of the future may have rules that we do not know (torture test 3.1.2.18).
                let status = if self.method().known().is_some() { 400 } else { 501 };
                return bad(Fault::Header, status, "CSeq names another method than the request line");
            }
            Some(_) => {}
        }
        if self.header(Name::MaxForwards).is_some() && self.max_forwards().is_none() {
            return bad(Fault::Header, 400, "Max-Forwards is not a number below 256");
        }
        Ok(())
    }

    /// Whether it is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.0.scan.start, Start::Request { .. })
    }

    /// The request's method; for a response the method of its CSeq.
    #[must_use]
    pub fn method(&self) -> Method<'_> {
        match self.0.scan.start {
            Start::Request { method, .. } => Method::recognise(self.span(method)),
            Start::Response { .. } => self.cseq().map_or(Method::Other(""), |(_, method)| method),
        }
    }

    /// The Request-URI as it stands; empty for a response.
    #[must_use]
    pub fn request_uri(&self) -> &str {
        match self.0.scan.start {
            Start::Request { uri, .. } => self.span(uri),
            Start::Response { .. } => "",
        }
    }

    /// The status of a response, 100 to 699; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.0.scan.start {
            Start::Request { .. } => 0,
            Start::Response { status, .. } => status,
        }
    }

    /// The reason phrase of a response, which may be empty.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self.0.scan.start {
            Start::Request { .. } => "",
            Start::Response { reason, .. } => self.span(reason),
        }
    }

    /// The value of the first line with this name, whole (commas and all).
    #[must_use]
    pub fn header(&self, name: Name) -> Option<&str> {
        self.0.scan.fields.first(name).map(|f| self.span((f.start, f.end)))
    }

    /// Every value of a header over all its lines; those that may be lists (7.3.1) are split.
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &str> {
        self.lines(name).flat_map(move |line| {
            let (list, single) =
                if name.is_list() { (Some(List::new(line)), None) } else { (None, Some(line)) };
            list.into_iter().flatten().chain(single)
        })
    }

    /// The value of every line with this name, unsplit.
    pub fn lines(&self, name: Name) -> impl Iterator<Item = &str> {
        let fields = self.0.scan.fields.since_first(name).iter();
        fields.filter(move |f| f.name == name).map(|f| self.span((f.start, f.end)))
    }

    /// The value of the first line whose name, known or not, is `name` in any case (long form).
    #[must_use]
    pub fn other(&self, name: &str) -> Option<&str> {
        match Name::recognise(name.as_bytes()) {
            Name::Other => self
                .0
                .scan
                .fields
                .since_first(Name::Other)
                .iter()
                .find(|f| {
                    f.name == Name::Other && self.span((f.name_start, f.name_end)).eq_ignore_ascii_case(name)
                })
                .map(|f| self.span((f.start, f.end))),
            known => self.header(known),
        }
    }

    /// Every header line in order: the name (long form if it is known) and the value.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.scan.fields.all().iter().map(|f| {
            let name =
                if f.name == Name::Other { self.span((f.name_start, f.name_end)) } else { f.name.as_str() };
            (name, self.span((f.start, f.end)))
        })
    }

    /// The raw value bytes of every line with this name, folds and all: what a copy must echo.
    pub(super) fn raw_lines(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.0
            .scan
            .fields
            .since_first(name)
            .iter()
            .filter(move |f| f.name == name)
            .map(|f| &self.0.bytes[usize::from(f.start)..usize::from(f.end)])
    }

    /// Call-ID; empty if there is none.
    #[must_use]
    pub fn call_id(&self) -> &str {
        self.header(Name::CallId).unwrap_or("")
    }

    /// CSeq's number (below 2^31, 8.1.1.5) and method.
    #[must_use]
    pub fn cseq(&self) -> Option<(u32, Method<'_>)> {
        let text = self.header(Name::CSeq)?;
        let blank = text.bytes().position(|b| matches!(b, b' ' | b'\t'))?;
        let method = trim(&text[blank..]);
        let value = number(&text[..blank]).filter(|n| *n < 1 << 31)?;
        (!method.is_empty()).then(|| (value, Method::recognise(method)))
    }

    /// The first Via, if it is readable.
    #[must_use]
    pub fn top_via(&self) -> Option<Via<'_>> {
        let line = self.header(Name::Via)?;
        // An empty line has no value: then the next one's first is the top.
        if line.is_empty() { self.headers(Name::Via).next().and_then(Via::parse) } else { Via::first(line) }
    }

    /// From.
    #[must_use]
    pub fn from(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(Name::From)?)
    }

    /// To.
    #[must_use]
    pub fn to(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(Name::To)?)
    }

    /// The first contact; `None` for the `*` of a REGISTER too.
    #[must_use]
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        self.contacts().next()
    }

    /// Every readable contact.
    pub fn contacts(&self) -> impl Iterator<Item = NameAddr<'_>> {
        self.headers(Name::Contact).filter(|c| *c != "*").filter_map(NameAddr::parse)
    }

    /// The body, as long as Content-Length says, or to the end of the datagram (18.3).
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0.bytes[self.0.scan.body.0..self.0.scan.body.1]
    }

    /// The media type without its parameters, as it is written.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header(Name::ContentType).map(|t| trim(t.split(';').next().unwrap_or("")))
    }

    /// The whole body with what its headers say; `None` when there is none.
    #[must_use]
    pub fn whole_body(&self) -> Option<Part<'_>> {
        let encoded = || self.headers(Name::ContentEncoding).any(|e| !e.eq_ignore_ascii_case("identity"));
        (!self.body().is_empty()).then(|| {
            let disposition = self.header(Name::ContentDisposition);
            Part::new(self.header(Name::ContentType), disposition, encoded(), self.body())
        })
    }

    /// The session description: the body, or a part of it (RFC 5621).
    #[must_use]
    pub fn sdp(&self) -> Option<&[u8]> {
        self.whole_body()?.sdp(0)
    }

    /// Whether there is a session description.
    #[must_use]
    pub fn has_sdp(&self) -> bool {
        self.sdp().is_some()
    }

    /// The media type of what the sender insists on (RFC 3261 20.11, RFC 5621 4) and that is none of `known`:
    /// to be answered with 415. Where the session's description is among the parts, parts that say nothing of how
    /// they are to be handled are taken for optional, although the default is the contrary: the call would be lost
    /// for what nobody needs.
    #[must_use]
    pub fn not_understood(&self, known: &[&str]) -> Option<&str> {
        self.whole_body()?.not_understood(known, 0, self.has_sdp())
    }

    /// Expires in seconds; the largest number for anything beyond it, `None` if it is no number.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.header(Name::Expires).and_then(number)
    }

    /// Max-Forwards, if it is a number below 256 (20.22).
    #[must_use]
    pub fn max_forwards(&self) -> Option<u8> {
        self.header(Name::MaxForwards).and_then(number).and_then(|n| u8::try_from(n).ok())
    }

    /// The message as it came.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The text between two positions of the head, with mended octets.
    #[inline]
    fn span(&self, (start, end): (u16, u16)) -> &str {
        // Positions lie beside ASCII characters.
        self.0.head.get(usize::from(start)..usize::from(end)).unwrap_or("")
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0.bytes[..self.0.scan.head_end]))?;
        write!(f, " ({} bytes of body)", self.body().len())
    }
}
