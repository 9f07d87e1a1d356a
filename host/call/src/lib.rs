//! The product: the stations of a call, in the order a call meets them.
//!
//! ```text
//! trunk  redirect  router  center  cti  interaction  ivr  queue  acd  agent  bridge
//! [--------- of a call ---------]  [- of a tenant -] call [- of a tenant -]  call
//! ```
//!
//! Two machines are made of the stations. A [`shard::Shard`] owns calls: their legs, their media,
//! the script that runs on each, and the ring timer. A [`domain::Domain`] owns tenants: the order
//! of events, the interactions, the queues, the reservations and the agents. They speak by the
//! messages of [`messages`] alone. No station calls another: what one returns is what the next is
//! given, along the hand-offs of [`handoff`].
//!
//! Called by the server's threads and by the simulation. Never reads a clock, a socket or a disk,
//! and never runs a plugin: questions go out and answers come in.

pub mod commands;
pub mod events;
pub mod facts;
pub mod handoff;
pub mod messages;
pub mod model;
pub mod policy;
pub mod script;
pub mod timeline;

// Of a call.
pub mod bridge;
pub mod center;
pub mod ivr;
pub mod redirect;
pub mod router;
pub mod shard;
pub mod trunk;

// Of a tenant.
pub mod acd;
pub mod agent;
pub mod cti;
pub mod domain;
pub mod interaction;
pub mod queue;

/// A name from the configuration: of a tenant, trunk, workgroup, agent, plugin, prompt.
pub type Name = std::sync::Arc<str>;
/// Names and values that travel with a call.
pub type Attributes = Vec<(String, String)>;
