//! The reservation: who may take a call, in which order, and the tokens that hold agents.
//!
//! Called by the domain when a place and an agent may meet. Choosing is pure; the table of
//! reservations changes by compare-and-swap on the token alone. Never rings a phone.

pub(crate) mod choose;
pub(crate) mod reservations;
