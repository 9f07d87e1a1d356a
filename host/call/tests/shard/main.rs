//! The shard's behaviour at every step of a call, with real SIP endpoints around it.

#![allow(unreachable_pub, reason = "one test crate, whose modules share the world")]

#[cfg(feature = "seeded-bugs")]
mod bugs;
mod identity;
mod lapse;
mod offers;
mod random;
mod reasons;
mod routes;
mod sessions;
mod steps;
mod transfers;
mod trunks;
mod verbs;
mod watching;
mod world;
