//! Connections against the standard library's sockets, rustls and tungstenite as the other side.

mod bench;
mod plain;
mod tls;
mod web;
