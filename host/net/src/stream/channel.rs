//! Bytes over one socket, in the clear or under TLS, as a non-blocking `Read` and `Write`.
//!
//! Used by a connection's link alone. It neither frames nor queues: what the socket does not take is
//! refused with `WouldBlock`, and the caller keeps it.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use super::frames::Frames;
use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Connection, ServerConfig};

/// Plaintext that TLS may hold for a socket that takes no more; the link's own queue has its own bound.
const TLS_BUFFER: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) socket: TcpStream,
    tls: Option<Box<Connection>>,
    /// Octets that may still be read before it says `WouldBlock`: some readers do not return before a message is
    /// whole, however long it takes.
    pub(super) budget: usize,
    /// Octets that the socket has taken so far.
    pub(super) sent: u64,
    /// Of a WebSocket: how far its peer has come.
    pub(super) frames: Option<Frames>,
    /// The time of what is read.
    pub(super) now_ns: u64,
}

impl Channel {
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self { socket, tls: None, budget: usize::MAX, sent: 0, frames: None, now_ns: 0 }
    }

    pub(super) fn accepted(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self::with(socket, rustls::ServerConnection::new(config)?.into()))
    }

    pub(super) fn dialled(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        Ok(Self::with(socket, rustls::ClientConnection::new(config, name)?.into()))
    }

    fn with(socket: TcpStream, mut tls: Connection) -> Self {
        tls.set_buffer_limit(Some(TLS_BUFFER));
        Self { tls: Some(Box::new(tls)), ..Self::plain(socket) }
    }

    /// Whether TLS has still to be agreed on.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Goes on with the handshake as far as the socket allows; whether it is complete.
    ///
    /// # Errors
    /// The peer left, or the two cannot agree; an alert was sent then, as far as possible.
    pub(super) fn handshake(&mut self) -> io::Result<bool> {
        while self.is_handshaking() {
            match self.send_tls() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if !self.is_handshaking() {
                break;
            }
            match self.receive_tls() {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        match self.send_tls() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(true),
        }
    }

    /// The names by which the peer's verified certificate knows it; empty without one.
    pub(super) fn peer_names(&self) -> Vec<String> {
        self.tls
            .as_ref()
            .and_then(|tls| tls.peer_certificates()?.first().map(super::tls::names))
            .unwrap_or_default()
    }

    /// Says goodbye under TLS; the socket itself is closed when it is dropped.
    pub(super) fn goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.send_tls();
        }
    }

    pub(super) fn remote(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Reads records from the socket once; 0 at its end.
    fn receive_tls(&mut self) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let got = loop {
            match tls.read_tls(&mut self.socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Err(error) = tls.process_new_packets() {
            // The alert says why, if the peer still listens.
            let _ = self.send_tls();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(got)
    }

    fn send_tls(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Channel {
    /// 0 is the end, be it announced or not: SIP's messages say themselves where they end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = self.read_some(buffer)?;
        self.budget = self.budget.saturating_sub(n);
        if let Some(frames) = &mut self.frames {
            frames.push(self.now_ns, &buffer[..n]);
        }
        Ok(n)
    }
}

impl Channel {
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            loop {
                match self.socket.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return other,
                }
            }
        }
        loop {
            if let Some(tls) = &mut self.tls {
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                    other => return other,
                }
            }
            let got = self.receive_tls()?;
            // Answers of TLS itself (tickets, key updates) wait for the next write when the socket is full.
            match self.send_tls() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            if got == 0 {
                // Decrypted octets that came with the end were read above: the next look says so.
                let Some(tls) = &mut self.tls else { return Ok(0) };
                return match tls.reader().read(buffer) {
                    Ok(n) => Ok(n),
                    Err(_) => Ok(0),
                };
            }
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tls) = &mut self.tls {
            let mut taken = tls.writer().write(bytes)?;
            self.flush_or_wait()?;
            if taken == 0
                && !bytes.is_empty()
                && let Some(tls) = &mut self.tls
            {
                // Room may have come by what was just sent.
                taken = tls.writer().write(bytes)?;
                self.flush_or_wait()?;
                if taken == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
            }
            return Ok(taken);
        }
        loop {
            match self.socket.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.inspect(|n| self.sent += *n as u64),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_tls()
    }
}

impl Channel {
    fn flush_or_wait(&mut self) -> io::Result<()> {
        match self.send_tls() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }
}
