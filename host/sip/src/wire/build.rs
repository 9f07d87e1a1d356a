//! Writing a message in one pass over one buffer.
//!
//! Called by the transaction and dialog layers, and by stateless answers. A value can never start
//! a new line: CR, LF and NUL become blanks, so nothing that a plugin or a peer supplies can
//! smuggle a header in. Content-Length is written by `finish` and by nobody else.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use super::address::Via;
use super::message::Message;
use super::method::{Method, reason_phrase};
use super::name::Name;
use super::text::{find_outside, is_token};
use super::uri::host_address;

/// A message being written.
#[derive(Debug, Clone)]
pub struct Builder {
    out: Vec<u8>,
    /// Where a To tag goes, when the request had none.
    tag_at: Option<usize>,
    body: Option<Vec<u8>>,
}

impl Builder {
    /// A request line.
    #[must_use]
    pub fn request<'m>(method: impl Into<Method<'m>>, uri: &str) -> Self {
        let method = method.into();
        let mut builder = Self::empty();
        builder.value(method.as_str());
        builder.out.push(b' ');
        builder.value(uri);
        builder.out.extend_from_slice(b" SIP/2.0\r\n");
        builder
    }

    /// A response to `request`: Via, From, To, Call-ID and CSeq copied (8.2.6.2), Timestamp for a 100
    /// (8.2.6.1), Record-Route when the response may make a dialog (12.1.1). With `reason` empty the
    /// usual phrase is written. Add the tag with [`Builder::to_tag`].
    #[must_use]
    pub fn response(request: &Message, status: u16, reason: &str) -> Self {
        Self::response_to(request, None, status, reason)
    }

    /// Like [`Builder::response`], and the top Via says where the request came from: `received`
    /// when sent-by is another host or a name (18.2.1), `received` and `rport` when the sender asks
    /// for it (RFC 3581 4).
    #[must_use]
    pub fn response_to(request: &Message, source: Option<SocketAddr>, status: u16, reason: &str) -> Self {
        let mut b = Self::empty();
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        b.out.extend_from_slice(b"SIP/2.0 ");
        b.number(u32::from(status));
        b.out.push(b' ');
        b.value(reason);
        b.end_line();
        let mut top = source.and_then(|source| Some((source, request.top_via()?)));
        for line in request.raw_lines(Name::Via) {
            b.known(Name::Via);
            // A line without a value is skipped, as `top_via` skips it.
            match top.take_if(|_| !line.iter().all(is_between_values)) {
                Some((source, via)) => b.via_from(line, &via, source),
                None => b.raw(line),
            }
            b.end_line();
        }
        let method = request.method();
        if (101..300).contains(&status)
            && matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
        {
            b.copy_in_place(request, Name::RecordRoute);
        }
        b.copy_in_place(request, Name::From);
        b.copy_in_place(request, Name::CallId);
        b.copy_in_place(request, Name::CSeq);
        if status == 100 {
            b.copy_in_place(request, Name::Timestamp);
        }
        b.copy_in_place(request, Name::To);
        if request.to().is_some_and(|to| to.tag().is_none()) {
            b.tag_at = Some(b.out.len() - 2);
        }
        b
    }

    /// Adds the To tag, unless the request had one (8.2.6.2) or one was added. Does nothing for a request.
    #[must_use]
    pub fn to_tag(mut self, tag: &str) -> Self {
        if let Some(at) = self.tag_at.take().filter(|_| is_token(tag)) {
            // Before the line end after To, which is the last line unless headers were added.
            self.out.splice(at..at, b";tag=".iter().copied().chain(tag.bytes()));
        }
        self
    }

    /// Adds a header. A name that is no token, and Content-Length, are left out; CR, LF and NUL in
    /// the value become blanks.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: &str) -> Self {
        if self.name(name.as_ref()) {
            self.value(value);
            self.end_line();
        }
        self
    }

    /// Adds a header whose value is formatted into the buffer: `b.format(Name::CSeq, format_args!("{n} BYE"))`.
    #[must_use]
    pub fn format(mut self, name: impl AsRef<str>, value: impl fmt::Display) -> Self {
        if self.name(name.as_ref()) {
            let _ = write!(self.out_text(), "{value}");
            self.end_line();
        }
        self
    }

    /// Adds a header when there is a value.
    #[must_use]
    pub fn maybe(self, name: impl AsRef<str>, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// Copies every line of one header from another message, octet by octet.
    #[must_use]
    pub fn copy(mut self, from: &Message, name: Name) -> Self {
        self.copy_in_place(from, name);
        self
    }

    /// Sets the body and its Content-Type; the last one set counts.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Self {
        if self.body.is_none() {
            self = self.header(Name::ContentType, content_type);
        }
        self.body = Some(body.to_vec());
        self
    }

    /// The whole message, with Content-Length.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let body = self.body.take().unwrap_or_default();
        self.out.extend_from_slice(b"Content-Length: ");
        self.number(body.len() as u32);
        self.out.extend_from_slice(b"\r\n\r\n");
        self.out.extend_from_slice(&body);
        self.out
    }

    fn empty() -> Self {
        Self { out: Vec::with_capacity(768), tag_at: None, body: None }
    }

    /// Appends the value of a request's top Via line as its response shows it.
    pub(crate) fn append_via(out: &mut Vec<u8>, line: &[u8], via: &Via<'_>, source: SocketAddr) {
        let mut builder = Self { out: std::mem::take(out), tag_at: None, body: None };
        builder.via_from(line, via, source);
        *out = builder.out;
    }

    fn name(&mut self, name: &str) -> bool {
        if !is_token(name) || Name::recognise(name.as_bytes()) == Name::ContentLength {
            return false;
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        true
    }

    fn known(&mut self, name: Name) {
        self.out.extend_from_slice(name.as_str().as_bytes());
        self.out.extend_from_slice(b": ");
    }

    /// Decimal digits, without the cost of a formatter.
    fn number(&mut self, mut number: u32) {
        let mut digits = [0; 10];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                for (i, octet) in v4.octets().into_iter().enumerate() {
                    if i > 0 {
                        self.out.push(b'.');
                    }
                    self.number(u32::from(octet));
                }
            }
            IpAddr::V6(v6) => {
                let _ = write!(self.out_text(), "{v6}");
            }
        }
    }

    fn value(&mut self, value: &str) {
        push_clean(&mut self.out, value.as_bytes());
    }

    /// A value of a parsed message, octet by octet, whatever its encoding; folds become blanks. A NUL
    /// is echoed: it may be part of a valid quoted pair (torture test 3.1.1.2).
    fn raw(&mut self, value: &[u8]) {
        let at = self.out.len();
        self.out.extend_from_slice(value);
        let mut from = at;
        while let Some(n) = memchr::memchr2(b'\r', b'\n', &self.out[from..]) {
            self.out[from + n] = b' ';
            from += n + 1;
        }
    }

    fn end_line(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    fn copy_in_place(&mut self, from: &Message, name: Name) {
        for line in from.raw_lines(name) {
            self.known(name);
            self.raw(line);
            self.end_line();
        }
    }

    /// The first value of `line`, changed to say where it came from, and the rest of the line.
    fn via_from(&mut self, line: &[u8], via: &Via<'_>, source: SocketAddr) {
        let same_host = host_address(via.host).is_some_and(|h| h == source.ip())
            && !via.host.eq_ignore_ascii_case("localhost");
        if same_host && via.rport.is_none() && via.received.is_none() {
            return self.raw(line);
        }
        self.out.extend_from_slice(b"SIP/2.0/");
        self.value(via.transport);
        self.out.push(b' ');
        let v6 = via.host.contains(':');
        self.out.extend_from_slice(if v6 { b"[" } else { b"" });
        self.value(via.host);
        self.out.extend_from_slice(if v6 { b"]" } else { b"" });
        if let Some(port) = via.port {
            self.out.push(b':');
            self.number(u32::from(port));
        }
        // A `received` or a filled `rport` of the sender's own making is not ours to echo.
        for (name, value) in via.params.iter() {
            if name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport") {
                continue;
            }
            self.out.push(b';');
            self.value(name);
            if let Some(value) = value {
                let plain = is_token(value) || host_address(value).is_some();
                self.out.extend_from_slice(if plain { b"=" } else { b"=\"" });
                self.value(value);
                self.out.extend_from_slice(if plain { b"" } else { b"\"" });
            }
        }
        self.out.extend_from_slice(b";received=");
        self.address(source.ip());
        if via.rport.is_some() {
            self.out.extend_from_slice(b";rport=");
            self.number(u32::from(source.port()));
        }
        // The others are copied octet by octet (8.2.6.2). Empty values before the first are left out, or it
        // would stand there twice.
        let begin = line.iter().position(|b| !is_between_values(b)).unwrap_or(0);
        if let Some(comma) = find_outside(&line[begin..], b',') {
            self.raw(&line[begin + comma..]);
        }
    }

    fn out_text(&mut self) -> Clean<'_> {
        Clean(&mut self.out)
    }
}

/// Commas and blanks, folds too.
fn is_between_values(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',')
}

/// Formats into the buffer; what would end a line becomes a blank.
struct Clean<'a>(&'a mut Vec<u8>);

impl fmt::Write for Clean<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_clean(self.0, text.as_bytes());
        Ok(())
    }
}

fn push_clean(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while let Some(n) = memchr::memchr3(b'\r', b'\n', 0, bytes) {
        out.extend_from_slice(&bytes[..n]);
        out.push(b' ');
        bytes = &bytes[n + 1..];
    }
    out.extend_from_slice(bytes);
}
