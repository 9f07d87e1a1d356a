//! `redirect-policy@0.1.0`.

use crate::guest::Guest;
use crate::worlds::plain_host;

wasmtime::component::bindgen!({
    path: "../../wit/redirect/0.1.0",
    world: "redirect-policy",
    imports: { default: trappable },
    exports: { default: async },
});

/// The state of an instance: none besides what every guest has.
pub(crate) struct State;

pub(crate) type Data = Guest<State>;

plain_host!(cordboard::redirect::host::Host, cordboard::redirect::host::Level, State);

impl cordboard::redirect::types::Host for Data {}
