//! Where one message of a byte stream ends and the next begins (RFC 3261 18.3, RFC 5626 3.5.1 and 4.4.1).

use std::fmt;
use std::hash::BuildHasher as _;
use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use cordboard_base::Now;
use cordboard_base::map::HashState;

use crate::wire::{
    Builder, Fault, MAX_MESSAGE, Message, Method, WireError, check_start_line, content_length, is_token_byte,
};

/// What keeps a connection open: sent by the side that opened it (RFC 5626 4.4.1).
pub const PING: &[u8] = b"\r\n\r\n";
/// What answers [`PING`].
pub const PONG: &[u8] = b"\r\n";

/// What came over a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// One whole message, for [`Message::parse`].
    Message(Bytes),
    /// The other side asks whether the connection lives: send [`PONG`].
    Ping,
    /// The answer to our [`PING`].
    Pong,
}

/// Why nobody can say where the next message begins. Whoever it is, the connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The first line is none of SIP: another protocol, or a port scan.
    NotSip,
    /// The header lines do not end within the limit.
    HeadTooLarge,
    /// Content-Length asks for more than the limit.
    MessageTooLarge,
    /// No Content-Length, which a stream must have (RFC 3261 20.14).
    NoContentLength,
    /// Content-Length is no number, or stands there twice with different numbers.
    BadContentLength,
}

impl Why {
    /// A word for a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSip => "not-sip",
            Self::HeadTooLarge => "head-too-large",
            Self::MessageTooLarge => "message-too-large",
            Self::NoContentLength => "no-content-length",
            Self::BadContentLength => "bad-content-length",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::NotSip => "no SIP start line",
            Self::HeadTooLarge => "header lines beyond the limit",
            Self::MessageTooLarge => "message beyond the limit",
            Self::NoContentLength => "no Content-Length, which a stream must have",
            Self::BadContentLength => "unusable Content-Length",
        }
    }
}

/// The framing of a stream is lost, by the other side's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What is wrong.
    pub why: Why,
    /// What was read of the message, as far as its headers go.
    pub head: Bytes,
}

impl Lost {
    /// The last thing to send before closing: 400, or 513 where a limit is the reason. `None` when
    /// nothing may be answered: what is not SIP, responses, ACK, no Via.
    #[must_use]
    pub fn answer(&self, source: SocketAddr) -> Option<Vec<u8>> {
        let message = match Message::parse(self.head.clone()) {
            Ok(message) => message,
            Err(WireError { message, .. }) => message?,
        };
        if !message.is_request() || message.method() == Method::Ack || message.top_via().is_none() {
            return None;
        }
        let status = match self.why {
            Why::HeadTooLarge | Why::MessageTooLarge => 513,
            Why::NotSip | Why::NoContentLength | Why::BadContentLength => 400,
        };
        // 8.2.6.2 wants a tag; it names nothing, since no dialog comes of it.
        let tag = format!("{:x}", HashState::default().hash_one(&self.head[..]));
        let answer = Builder::response_to(&message, Some(source), status, self.why.sentence()).to_tag(&tag);
        Some(answer.header("Connection", "close").finish())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the other side's stream has lost its framing ({}): close it", self.why.sentence())
    }
}

impl std::error::Error for Lost {}

/// One direction of one connection. Push what was read, then take pieces until there is none.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    /// The limit of a whole message, in bytes.
    max_message: usize,
    /// We opened the connection, so a lone CRLF is the answer to our ping and not half of theirs.
    opened: bool,
    at: At,
    /// When the first byte of the message that is not complete yet was pushed.
    begun_ns: Option<u64>,
    pushed_ns: u64,
}

/// How much of the message at the buffer's beginning is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing, or only line ends.
    Between,
    /// The start line is not complete; no line end before this position.
    StartLine(usize),
    /// The start line is good; no end of the head before this position.
    Head(usize),
    /// The head ends in `head`, the message in `end`.
    Body { end: usize },
    /// The framing is lost.
    Nowhere,
}

impl Framer {
    /// For a connection that the other side opened. Messages are at most `max_message` bytes long, and
    /// never longer than [`MAX_MESSAGE`].
    #[must_use]
    pub fn accepted(max_message: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            max_message: max_message.min(MAX_MESSAGE),
            opened: false,
            at: At::Between,
            begun_ns: None,
            pushed_ns: 0,
        }
    }

    /// For a connection that we opened, where a lone CRLF answers our ping.
    #[must_use]
    pub fn opened(max_message: usize) -> Self {
        Self { opened: true, ..Self::accepted(max_message) }
    }

    /// Takes what was read at `now`. It is copied; the buffer holds at most one unfinished message when
    /// [`Framer::next_piece`] was called to its end before. After a loss nothing is kept.
    pub fn push(&mut self, now: Now, bytes: &[u8]) {
        if self.at != At::Nowhere {
            self.pushed_ns = now.mono_ns;
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// When the first byte of an unfinished message came, on the monotonic clock; `None` between
    /// messages. One that is not complete some seconds later is a sender who only wants the connection.
    #[must_use]
    pub fn unfinished_since_ns(&self) -> Option<u64> {
        self.begun_ns
    }

    /// How many bytes wait for their message to become whole.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole piece; `None` until more is pushed.
    ///
    /// # Errors
    /// Once, when the framing is lost; from then on there is nothing more.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, Lost> {
        loop {
            self.at = match self.at {
                At::Nowhere => return Ok(None),
                At::Between => match self.between() {
                    Between::Piece(piece) => return Ok(Some(piece)),
                    Between::Wait => return Ok(None),
                    Between::Message => {
                        self.begun_ns = Some(self.pushed_ns);
                        At::StartLine(0)
                    }
                },
                At::StartLine(from) => {
                    // A first byte that no start line has needs no second look: TLS on a TCP port.
                    if from == 0 && !is_token_byte(self.buffer[0]) {
                        return Err(self.lose(Why::NotSip));
                    }
                    let Some(n) = memchr::memchr(b'\n', &self.buffer[from..]) else {
                        return self.wait(At::StartLine(self.buffer.len()));
                    };
                    // Too long is too long, whether its end came with it or was still on its way.
                    if from + n >= self.max_message {
                        return Err(self.lose(Why::HeadTooLarge));
                    }
                    let line = &self.buffer[..from + n];
                    if !check_start_line(line.strip_suffix(b"\r").unwrap_or(line)) {
                        return Err(self.lose(Why::NotSip));
                    }
                    At::Head(from + n)
                }
                At::Head(from) => match head_end(&self.buffer, from) {
                    Err(from) => return self.wait(At::Head(from)),
                    Ok(end) if end > self.max_message => return Err(self.lose(Why::HeadTooLarge)),
                    Ok(end) => match content_length(&self.buffer[..end]) {
                        Ok(Some(length)) if length as usize > self.max_message - end => {
                            self.buffer.truncate(end);
                            return Err(self.lose(Why::MessageTooLarge));
                        }
                        Ok(Some(length)) => At::Body { end: end + length as usize },
                        wrong => {
                            self.buffer.truncate(end);
                            return Err(self.lose(match wrong {
                                Ok(_) => Why::NoContentLength,
                                Err(_) => Why::BadContentLength,
                            }));
                        }
                    },
                },
                At::Body { end } if self.buffer.len() < end => return Ok(None),
                At::Body { end } => {
                    let message = self.buffer.split_to(end).freeze();
                    self.at = At::Between;
                    self.begun_ns = None;
                    return Ok(Some(Piece::Message(message)));
                }
            };
        }
    }

    /// Line ends between messages (RFC 3261 7.5, RFC 5626 4.4.1).
    fn between(&mut self) -> Between {
        loop {
            match &self.buffer[..] {
                [] => return Between::Wait,
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.buffer.advance(PING.len());
                    return Between::Piece(Piece::Ping);
                }
                // Half a ping, perhaps: the rest is on its way.
                [b'\r'] | [b'\r', b'\n', b'\r'] => return Between::Wait,
                [b'\r', b'\n'] if !self.opened => return Between::Wait,
                [b'\r', b'\n', ..] => {
                    self.buffer.advance(PONG.len());
                    return Between::Piece(Piece::Pong);
                }
                [b'\r' | b'\n', ..] => self.buffer.advance(1),
                _ => return Between::Message,
            }
        }
    }

    fn wait(&mut self, at: At) -> Result<Option<Piece>, Lost> {
        if self.buffer.len() > self.max_message {
            return Err(self.lose(Why::HeadTooLarge));
        }
        self.at = at;
        Ok(None)
    }

    fn lose(&mut self, why: Why) -> Lost {
        self.at = At::Nowhere;
        self.begun_ns = None;
        self.buffer.truncate(self.max_message);
        Lost { why, head: self.buffer.split().freeze() }
    }
}

enum Between {
    Piece(Piece),
    Wait,
    Message,
}

/// Behind the empty line that ends the head, or the position from where to look on. The lines end where
/// `Message::parse` sees them end: at LF, with or without CR.
fn head_end(buffer: &[u8], mut from: usize) -> Result<usize, usize> {
    while let Some(n) = memchr::memchr(b'\n', &buffer[from..]) {
        let at = from + n;
        match &buffer[at + 1..] {
            [b'\n', ..] => return Ok(at + 2),
            [b'\r', b'\n', ..] => return Ok(at + 3),
            [] | [b'\r'] => return Err(at),
            _ => from = at + 1,
        }
    }
    Err(buffer.len())
}

/// What one WebSocket message holds, text or binary (RFC 7118 5): the WebSocket frames it, so there is
/// one SIP message in it, with or without Content-Length, or a keep-alive (RFC 7118 6).
///
/// # Errors
/// When it is neither; the connection's framing is not harmed, and nothing needs to be closed.
pub fn websocket(bytes: Bytes) -> Result<Piece, Fault> {
    match &bytes[..] {
        PING => Ok(Piece::Ping),
        PONG => Ok(Piece::Pong),
        _ if bytes.len() > MAX_MESSAGE => Err(Fault::TooLarge),
        _ => {
            let line = bytes.split(|b| *b == b'\n').next().unwrap_or(&[]);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if check_start_line(line) { Ok(Piece::Message(bytes)) } else { Err(Fault::NotSip) }
        }
    }
}
