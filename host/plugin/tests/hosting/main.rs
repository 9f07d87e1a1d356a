//! The plugin host with real components: those of `plugins/` and `tests/plugins/`, built for
//! wasm32-wasip2. They are looked for in `CORDBOARD_PLUGINS_DIR`, or else beside the host's own
//! build; without them the tests fail and say how to build them.

mod adapters;
mod harness;
mod policies;
mod registry;
mod routers;
mod scripts;
mod vetting;
