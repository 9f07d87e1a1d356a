//! The endpoint's machines, against each other and against raw text, in virtual time.

mod harness;

mod basic;
mod extensions;
mod outgoing;
mod random;
mod screening;
mod session;
mod streams;
