//! Two ways to try a centre without people.
//!
//! [`world`] runs a whole centre in virtual time from a seed: the real shard and the real domain,
//! a lossy network, phones, scripts and a media plane that are models, and a [`judge`] who watches
//! what must hold. [`phone`] is a softphone on real sockets, for the demo.
//!
//! Nothing depends on this crate but tests and the demo.

pub mod flow;
pub mod judge;
pub mod media;
pub mod phone;
pub mod phones;
pub mod scripts;
pub mod world;
