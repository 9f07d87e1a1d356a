//! The SIP stack without its sockets: messages, offers and answers, digest, redirection,
//! transactions, dialogs, and an endpoint that puts them together.
//!
//! Called by the shards, which own the sockets and the clock. Time and randomness are arguments.
//! Never waits, never opens anything, never panics on what a peer sends.

#![forbid(unsafe_code)]

pub mod capture;
pub mod defence;
pub mod dialog;
pub mod digest;
pub mod endpoint;
pub mod redirect;
pub mod resolve;
pub mod sdp;
pub mod stream;
pub mod transaction;
pub mod transport;
pub mod wire;
