//! The shard's behaviour at every step of a call, with real SIP endpoints around it.

mod offers;
mod routes;
mod sessions;
mod steps;
mod verbs;
mod world;
