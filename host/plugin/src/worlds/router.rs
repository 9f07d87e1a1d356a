//! `call-router@0.1.0`.

use crate::guest::Guest;
use crate::worlds::plain_host;

wasmtime::component::bindgen!({
    path: "../../wit/router/0.1.0",
    world: "call-router",
    imports: { default: trappable },
    exports: { default: async },
});

/// The state of an instance: none besides what every guest has.
pub(crate) struct State;

pub(crate) type Data = Guest<State>;

plain_host!(cordboard::router::host::Host, cordboard::router::host::Level, State);

impl cordboard::router::types::Host for Data {}
