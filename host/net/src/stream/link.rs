//! One connection's way from bytes to SIP messages and back: framing over TCP and TLS (RFC 3261 18.3),
//! frames over WebSocket (RFC 7118).
//!
//! Used by [`Connections`](super::Connections), which knows when and why; a link knows only how. What the
//! other side does not take waits here, up to a bound.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cordboard_base::Now;
use cordboard_sip::stream::{Framer, PING, PONG, Piece};
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response, ServerHandshake};
use tungstenite::http::{HeaderValue, StatusCode, header};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, Utf8Bytes, WebSocket};

use super::channel::Channel;
use super::frames::Frames;
use super::types::Closed;

/// Messages given to the kernel with one system call at most.
const SLICES: usize = 16;

/// What came over a link.
#[derive(Debug)]
pub(super) enum Got {
    /// A whole SIP message.
    Message(Bytes),
    /// A keep-alive of either kind; it is answered already.
    Alive,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    way: Way,
    /// What waits for the socket, the first `sent` octets of the first one excepted.
    waiting: VecDeque<Vec<u8>>,
    sent: usize,
    waiting_bytes: usize,
    max_waiting: usize,
}

#[derive(Debug)]
enum Way {
    Stream {
        channel: Channel,
        framer: Framer,
    },
    /// A WebSocket whose TLS, if any, has still to be agreed on.
    Fresh {
        channel: Channel,
        door: Door,
    },
    Upgrade(MidHandshake<ServerHandshake<Channel, Door>>),
    Web(Box<WebSocket<Channel>>),
    /// Only while one way is made of another, and after a failure.
    Spent,
}

impl Link {
    pub(super) fn stream(channel: Channel, dialled: bool, max_message: usize, max_waiting: usize) -> Self {
        let framer = if dialled { Framer::opened(max_message) } else { Framer::accepted(max_message) };
        Self::new(Way::Stream { channel, framer }, max_waiting)
    }

    pub(super) fn web(channel: Channel, door: Door, max_waiting: usize) -> Self {
        Self::new(Way::Fresh { channel, door }, max_waiting)
    }

    fn new(way: Way, max_waiting: usize) -> Self {
        Self { way, waiting: VecDeque::new(), sent: 0, waiting_bytes: 0, max_waiting }
    }

    pub(super) fn channel(&mut self) -> Option<&mut Channel> {
        match &mut self.way {
            Way::Stream { channel, .. } | Way::Fresh { channel, .. } => Some(channel),
            Way::Upgrade(mid) => Some(mid.get_mut().get_mut()),
            Way::Web(web) => Some(web.get_mut()),
            Way::Spent => None,
        }
    }

    /// Goes on with TLS and the upgrade; whether messages can flow.
    pub(super) fn settle(&mut self) -> Result<bool, Closed> {
        match &mut self.way {
            Way::Stream { channel, .. } | Way::Fresh { channel, .. } => match channel.handshake() {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Closed::Tls(error.to_string()));
                }
                // A scan, or a check whether the port is open.
                Err(_) => return Err(Closed::ByPeer),
            },
            _ => {}
        }
        self.way = match std::mem::replace(&mut self.way, Way::Spent) {
            Way::Fresh { channel, door } => {
                let config = door.config(self.max_waiting);
                Way::Upgrade(ServerHandshake::start(channel, door, Some(config)))
            }
            other => other,
        };
        if matches!(self.way, Way::Upgrade(_))
            && let Way::Upgrade(mid) = std::mem::replace(&mut self.way, Way::Spent)
        {
            match mid.handshake() {
                Ok(mut web) => {
                    web.get_mut().frames = Some(Frames::default());
                    self.way = Way::Web(Box::new(web));
                }
                Err(HandshakeError::Interrupted(mid)) => {
                    self.way = Way::Upgrade(mid);
                    return Ok(false);
                }
                Err(HandshakeError::Failure(error)) => return Err(Closed::Upgrade(error.to_string())),
            }
        }
        Ok(true)
    }

    /// When the first octet of a message came whose last has not come yet.
    pub(super) fn unfinished_since_ns(&self) -> Option<u64> {
        match &self.way {
            Way::Stream { framer, .. } => framer.unfinished_since_ns(),
            Way::Web(web) => web.get_ref().frames.as_ref()?.unfinished_since_ns(),
            _ => None,
        }
    }

    /// Reads, at most `most` octets; whether there may be more.
    pub(super) fn read(
        &mut self,
        now: Now,
        remote: SocketAddr,
        buffer: &mut [u8],
        most: usize,
        mut each: impl FnMut(Got),
    ) -> Result<bool, Closed> {
        let mut left = most;
        if let Way::Web(web) = &mut self.way {
            let channel = web.get_mut();
            (channel.budget, channel.now_ns) = (most, now.mono_ns);
        }
        while left > 0 {
            let mut pong = false;
            match &mut self.way {
                Way::Stream { channel, framer } => {
                    let n = match channel.read(buffer) {
                        Ok(0) => return Err(Closed::ByPeer),
                        Ok(n) => n,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                        Err(error) => return Err(lost(&error)),
                    };
                    left = left.saturating_sub(n);
                    framer.push(now, &buffer[..n]);
                    loop {
                        match framer.next_piece() {
                            Ok(None) => break,
                            Ok(Some(Piece::Message(bytes))) => each(Got::Message(bytes)),
                            Ok(Some(Piece::Ping)) => {
                                each(Got::Alive);
                                pong = true;
                            }
                            Ok(Some(Piece::Pong)) => each(Got::Alive),
                            Err(error) => {
                                if let Some(answer) = error.answer(remote) {
                                    let _ = channel.write(&answer);
                                }
                                return Err(Closed::Framing(error.why));
                            }
                        }
                    }
                }
                Way::Web(web) => match web.read() {
                    Ok(Message::Text(text)) => {
                        left = left.saturating_sub(text.len().max(64));
                        web_message(text.into(), &mut pong, &mut each);
                    }
                    Ok(Message::Binary(bytes)) => {
                        left = left.saturating_sub(bytes.len().max(64));
                        web_message(bytes, &mut pong, &mut each);
                    }
                    Ok(_) => {
                        left = left.saturating_sub(64);
                        each(Got::Alive);
                    }
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(web.get_ref().budget == 0);
                    }
                    Err(error) => return Err(web_lost(&error)),
                },
                _ => return Ok(false),
            }
            if pong {
                self.send(PONG.to_vec())?;
            }
        }
        Ok(true)
    }

    /// Octets that the socket has taken so far.
    pub(super) fn sent(&mut self) -> u64 {
        self.channel().map_or(0, |channel| channel.sent)
    }

    /// Takes a message; [`Self::flush`] sends it.
    pub(super) fn send(&mut self, bytes: Vec<u8>) -> Result<(), Closed> {
        self.waiting_bytes += bytes.len();
        if self.waiting_bytes > self.max_waiting {
            return Err(Closed::Behind);
        }
        self.waiting.push_back(bytes);
        Ok(())
    }

    /// Asks whether the other side is there: CRLF (RFC 5626 4.4.1), or a WebSocket ping.
    pub(super) fn ping(&mut self) -> Result<(), Closed> {
        match &mut self.way {
            Way::Web(web) => match web.write(Message::Ping(Bytes::new())) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(web_lost(&error)),
                Ok(()) => Ok(()),
            },
            _ => self.send(PING.to_vec()),
        }
    }

    /// Sends what waits, as far as the socket takes it; whether nothing waits any more.
    pub(super) fn flush(&mut self) -> Result<bool, Closed> {
        if let Way::Web(_) = self.way {
            return self.flush_web();
        }
        let Way::Stream { channel, .. } = &mut self.way else { return Ok(self.waiting.is_empty()) };
        while !self.waiting.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(&self.waiting) {
                *slice = IoSlice::new(if count == 0 { &bytes[self.sent..] } else { bytes });
                count += 1;
            }
            match channel.write_vectored(&slices[..count]) {
                Ok(0) => return Err(Closed::ByPeer),
                Ok(mut n) => {
                    self.waiting_bytes -= n;
                    n += self.sent;
                    while self.waiting.front().is_some_and(|first| first.len() <= n) {
                        n -= self.waiting.pop_front().map_or(0, |first| first.len());
                    }
                    self.sent = n;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(lost(&error)),
            }
        }
        match channel.flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(lost(&error)),
        }
    }

    fn flush_web(&mut self) -> Result<bool, Closed> {
        let Way::Web(web) = &mut self.way else { return Ok(true) };
        while let Some(bytes) = self.waiting.pop_front() {
            self.waiting_bytes -= bytes.len();
            // SIP is UTF-8 unless a body says otherwise, and RFC 7118 5 allows both kinds of frame.
            let bytes = Bytes::from(bytes);
            let message =
                Utf8Bytes::try_from(bytes.clone()).map_or_else(|_| Message::Binary(bytes), Message::Text);
            match web.write(message) {
                Ok(()) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(Error::WriteBufferFull(_)) => return Err(Closed::Behind),
                Err(error) => return Err(web_lost(&error)),
            }
        }
        match web.flush() {
            Ok(()) => Ok(true),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(web_lost(&error)),
        }
    }

    /// Says goodbye in the connection's own way, as far as the socket takes it at once.
    pub(super) fn goodbye(&mut self) {
        let _ = self.flush();
        if let Way::Web(web) = &mut self.way {
            let _ = web.close(None);
        }
        if let Some(channel) = self.channel() {
            channel.goodbye();
        }
    }
}

/// One frame is one message (RFC 7118 5.1); line ends alone are keep-alives there too (RFC 7118 6).
fn web_message(bytes: Bytes, pong: &mut bool, each: &mut impl FnMut(Got)) {
    if bytes.iter().all(|b| matches!(b, b'\r' | b'\n')) {
        *pong |= *bytes == *PING;
        each(Got::Alive);
    } else {
        each(Got::Message(bytes));
    }
}

fn lost(error: &io::Error) -> Closed {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, TimedOut};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset => Closed::ByPeer,
        // The kernel's own probes, or TCP_USER_TIMEOUT.
        TimedOut => Closed::Vanished,
        InvalidData => Closed::Tls(error.to_string()),
        _ => Closed::Socket(error.to_string()),
    }
}

fn web_lost(error: &Error) -> Closed {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Closed::ByPeer,
        Error::Io(error) => lost(error),
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => Closed::ByPeer,
        Error::Capacity(_) => Closed::Framing(cordboard_sip::stream::Why::MessageTooLarge),
        other => Closed::Web(other.to_string()),
    }
}

/// Who may come in by WebSocket.
#[derive(Debug, Clone)]
pub(super) struct Door {
    /// Values of Origin that are let in; empty: all, and clients without one.
    pub(super) origins: Arc<[String]>,
    pub(super) max_message: usize,
}

impl Door {
    fn config(&self, max_waiting: usize) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(max_waiting)
            .max_message_size(Some(self.max_message))
            .max_frame_size(Some(self.max_message))
    }
}

impl Callback for Door {
    #[allow(clippy::result_large_err, reason = "the trait wants it so")]
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let refuse = |status: StatusCode, why: &str| {
            let mut response = ErrorResponse::new(Some(why.to_owned()));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(why.len()));
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Err(response)
        };
        if !self.origins.is_empty() {
            let origin = request.headers().get(header::ORIGIN).and_then(|v| v.to_str().ok()).unwrap_or("");
            if !self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
                return refuse(StatusCode::FORBIDDEN, "this Origin may not connect here\n");
            }
        }
        // RFC 7118 4.1: "The client MUST include the value "sip" in the list".
        let offers_sip = request
            .headers()
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case("sip"));
        if !offers_sip {
            return refuse(StatusCode::BAD_REQUEST, "the WebSocket subprotocol `sip` is needed (RFC 7118)\n");
        }
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("sip"));
        Ok(response)
    }
}
