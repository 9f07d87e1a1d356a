//! Calls end to end, with programs from elsewhere. Each test starts a centre of its own and ends by
//! asserting that everyone has hung up and nothing is left behind (`Centre::finish`).

mod baresip;
mod endings;
mod flow;
mod identity;
mod kamailio;
mod load;
mod malformed;
mod misbehaviour;
mod peers;
mod redirect;
mod restart;
mod rfc3665;
mod scanner;
mod seeing;
mod soak;
mod storm;
mod swap;
mod timers;
mod transfers;
mod transports;
mod trunks;
mod watching;
mod webhook;
