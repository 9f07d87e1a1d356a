//! Messages over connections: bytes of TCP and TLS in, whole messages and keep-alives out; what a
//! WebSocket frame holds; STUN binding requests on a SIP port.
//!
//! Called by the owner of the sockets for whatever it has read. Holds at most one unfinished message
//! a connection, never opens or closes anything, and looks at no header but Content-Length.

mod frame;
pub mod stun;

pub use frame::{Framer, Lost, PING, PONG, Piece, Why, websocket};
