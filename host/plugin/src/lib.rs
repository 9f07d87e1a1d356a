//! Plugins: WebAssembly components behind the contract in `wit/`, and everything that keeps them in
//! their place.
//!
//! ```text
//! bytes ── vet ── compile, cache ── link ── describe ── registry ──┬── routers     a call's route
//!          │                                            │          ├── scripts     a call's treatment
//!          └─ Problem: what is missing, in words         └─ swap,   ├── policies    a queue's order
//!                                                       quarantine ├── redirects   nodes' weights
//!                                                                  └── adapters    events out
//! ```
//!
//! Called by the server's threads alone. The core (`cordboard-call`) never runs a plugin: it asks, and
//! the shell answers with what comes from here, or with the named [`Fault`], whereupon the core takes
//! its default. Nothing here knows sockets: HTTP is handed to the server's client after its check.

mod adapters;
mod cache;
mod describe;
mod digest;
mod engine;
mod guest;
mod limits;
mod manifest;
mod meter;
mod policies;
mod question;
mod redirects;
mod registry;
mod routers;
mod script;
mod scripts;
mod sizing;
mod stats;
mod ticker;
mod url;
mod vet;
mod wasi;
mod world;
mod worlds;

pub use adapters::{Adapters, CloudEvent, Http, HttpAnswer, HttpError, HttpRequest, HttpResponse, Verdict};
pub use cordboard_call::policy::Fault;
pub use digest::Digest;
pub use engine::{Engine, EngineConfig, EngineError};
pub use guest::{Level, LogLine, Logs};
pub use limits::Limits;
pub use manifest::{BadManifest, Grants, Manifest, Setting};
pub use policies::WasmPolicies;
pub use redirects::{Node, Plan, Redirects};
pub use registry::{Description, Install, Listed, PluginEvent, Refused, Registry, Version};
pub use routers::Routers;
pub use script::{Fetch, Hours, LocalTime, Prompts, VerbSink};
pub use scripts::Scripts;
pub use sizing::{Machine, Sizing};
pub use stats::{Snapshot, Stats};
pub use url::Url;
pub use vet::{Problem, Vetted, Vetter};
pub use world::{NoSuchWorld, World};
