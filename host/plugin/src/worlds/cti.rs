//! `cti-adapter@0.1.0`.

use std::sync::Arc;

use crate::adapters::Http;
use crate::guest::Guest;
use crate::worlds::plain_host;

wasmtime::component::bindgen!({
    path: "../../wit/cti/0.1.0",
    world: "cti-adapter",
    imports: { "cordboard:cti/http": async | trappable, default: trappable },
    exports: { default: async },
});

/// The state of an instance.
pub(crate) struct State {
    /// What really sends; none while a component is only described.
    pub(crate) http: Option<Arc<dyn Http>>,
    /// Requests that it may still make.
    pub(crate) requests_left: u32,
}

pub(crate) type Data = Guest<State>;

plain_host!(cordboard::cti::host::Host, cordboard::cti::host::Level, State);

impl cordboard::cti::types::Host for Data {}
